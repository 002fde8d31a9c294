"""Whether a front end answers the widgets of this process."""

from __future__ import annotations

import os
import sys
from typing import Any


def answered() -> bool:
    """Return whether a front end may answer widgets. The clients that run notebooks unattended, nbclient and what is
    made with it, say that nobody can be asked for input. Voila also runs cells so, before its page opens.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    kernel = getattr(shell, "kernel", None)
    if kernel is None or os.environ.get("SERVER_SOFTWARE", "").startswith("voila/"):
        return True
    return bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin", True))


def serves_late() -> bool:
    """Return whether the scripts of widgets that are made between cells reach the browser. marimo serves only those
    that are made while a cell runs.
    """
    marimo = sys.modules.get("marimo")
    return marimo is None or not marimo.running_in_notebook()


def bare(state: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a widget's state that says what it is, which is all that a run without a front end keeps."""
    return {name: value for name, value in state.items() if name.startswith(("_model", "_view"))}

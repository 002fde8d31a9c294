"""Work in several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def together(*works: Callable[[], Any]) -> None:
    """Do all of the works at once, each in a thread of its own, to their end."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

"""A server extension of `clipviz demo`: it runs the board before the browser opens, so that no key press is needed.

JupyterLab connects to the kernel of a notebook that is already running and asks it for its widgets, as after a
reload of the page. The widgets on screen are therefore live. Only the cell that `clipviz demo` wrote is run,
unchanged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

POLLS = 0.5  # seconds between two questions whether the board shows everything


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "clipviz.first_run"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Run the notebook that the server was started on, then open the browser if requested."""
    server.web_app.settings["page_config_hook"] = without_news
    if server.file_to_run:
        opening, server.open_browser = server.open_browser, False
        server.io_loop.add_callback(first_run, server, Path(server.file_to_run), opening)


def without_news(_: Any, page_config: dict[str, Any]) -> dict[str, Any]:
    """Turn off the pop-up that asks about news, which would cover the board."""
    disabled = [*page_config.get("disabledExtensions", []), "@jupyterlab/apputils-extension:announcements"]
    return page_config | {"disabledExtensions": disabled}


async def first_run(server: Any, notebook: Path, opening: bool) -> None:
    """Run the board's cell. Whatever happens, the notebook is opened, where the cell can be run by hand; the log says
    when images and texts are on screen.
    """
    shown = None
    try:
        shown = await run(server, notebook)
    except Exception as error:  # the kernel may not start, or the notebook may be unreadable
        server.log.warning(f"clipviz: the board was not run ({error}); run its cell in the notebook")
    if opening:
        server.launch_browser()
    if shown is not None:
        await shown


async def run(server: Any, notebook: Path) -> Awaitable[None] | None:
    """Run the cell that holds the notebook's recipe in a session of the server, and save its output in the notebook.

    Returns what waits until the board shows its images and texts, if the cell was run.
    """
    document = nbformat.reads(notebook.read_text(encoding="utf-8"), as_version=4)
    code = document.metadata.get("clipviz")
    own = [
        (i, cell) for i, cell in enumerate(document.cells) if cell.cell_type == "code" and cell.source == code
    ]
    if not own:
        return None
    notary = server.contents_manager.notary
    trusted = notary.check_signature(document) or not any(cell.get("outputs") for cell in document.cells)
    started = time.monotonic()
    server.log.info("clipviz: preparing the board; please open the notebook when it is ready")
    path = notebook.resolve().relative_to(Path(server.root_dir).resolve()).as_posix()
    kernel = document.metadata.get("kernelspec", {}).get("name")
    made = await server.session_manager.create_session(path, notebook.name, "notebook", kernel)
    client = Telling(document, server.log, server.kernel_manager.get_kernel(made["kernel"]["id"]))
    channels = await client.async_start_new_kernel_client()
    channels.allow_stdin = True  # the page that opens next will answer; see panels/core/fronts.py
    try:
        for number, cell in own:
            await client.async_execute_cell(cell, number)
    except BaseException:
        channels.stop_channels()
        raise
    await asyncio.to_thread(nbformat.write, document, str(notebook))
    if trusted:
        notary.sign(document)
    if any(output.output_type == "error" for _, cell in own for output in cell.outputs):
        channels.stop_channels()
        server.log.info("clipviz: the cell failed; the notebook shows the error")
        return None
    return painted(server.log, channels, started)


async def painted(log: Any, channels: Any, started: float) -> None:
    """Say when the board shows the images and texts of its first view, and meanwhile what it waits for.

    The kernel is asked in between and is never kept, so that the board answers clicks.
    """
    told = ""
    try:
        while (doing := await asked(channels)) is not None:
            if doing and doing.partition(":")[0] != told:
                told = doing.partition(":")[0]
                log.info(f"clipviz: the board is on screen; {doing}")
            await asyncio.sleep(POLLS)
    finally:
        channels.stop_channels()
    log.info(f"clipviz: the board is ready ({time.monotonic() - started:.0f} s)")


async def asked(channels: Any) -> str | None:
    """Return what the board waits for, or None once it shows everything, or if the kernel no longer knows it."""
    wanted = {"shown": "session.wait(0)", "doing": "dashboard.board.doing"}
    sent = channels.execute("", silent=True, store_history=False, user_expressions=wanted)
    while True:
        reply = await channels.get_shell_msg(timeout=None)
        if reply["parent_header"].get("msg_id") == sent:
            break
    found = reply["content"].get("user_expressions") or {}
    if found.get("shown", {}).get("ename") != "TimeoutError":
        return None
    return str(found["doing"].get("data", {}).get("text/plain", "")).strip("'\"")


class Telling(NotebookClient):
    """Runs cells in an existing kernel and forwards what they print, such as progress, to the server's log."""

    def __init__(self, document: nbformat.NotebookNode, log: Any, manager: Any) -> None:
        super().__init__(document, km=manager, timeout=None, allow_errors=True, store_widget_state=False)
        self.server_log = log

    def output(self, outs: list[Any], message: dict[str, Any], display_id: Any, cell_index: int) -> Any:
        if message["msg_type"] == "stream":
            for line in message["content"]["text"].splitlines():
                if line.strip():
                    self.server_log.info(f"clipviz: {line.strip()}")
        return super().output(outs, message, display_id, cell_index)

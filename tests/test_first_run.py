"""`clipviz demo` says that the board is ready once it shows the first view, and never keeps the kernel meanwhile."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

BUSY = {"status": "error", "ename": "TimeoutError", "evalue": "the panels were still busy after 0 s"}
SHOWN = {"status": "ok", "data": {"text/plain": "None"}}


def ended(coroutine):
    """Run a coroutine in a thread of its own: this one's loop may belong to a browser of other tests."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, coroutine).result()


class Log(list):
    def info(self, words):
        self.append(words)


class Channels:
    """A kernel that answers what it is asked with the given states, after a reply to somebody else."""

    def __init__(self, *states):
        self.states, self.sent, self.stopped = list(states), [], False

    def execute(self, code, **options):
        self.sent.append((code, options))
        shown, doing = self.states.pop(0)
        told = {"shown": shown, "doing": {"status": "ok", "data": {"text/plain": repr(doing)}}}
        reply = {"parent_header": {"msg_id": len(self.sent)}, "content": {"user_expressions": told}}
        self.replies = [{"parent_header": {"msg_id": "another"}, "content": {}}, reply]
        return len(self.sent)

    async def get_shell_msg(self, timeout):
        return self.replies.pop(0)

    def stop_channels(self):
        self.stopped = True


@pytest.fixture
def first_run(monkeypatch):
    """The module, which is imported here because nbclient takes seconds, and its questions without pauses."""
    pytest.importorskip("nbclient")
    from clipviz import first_run

    monkeypatch.setattr(first_run, "POLLS", 0.0)
    return first_run


def test_ready_is_said_once_the_first_view_is_on_screen(first_run):
    doing = "Encoding the texts: 64 of 3,436", "Encoding the texts: 96 of 3,436"
    channels, log = Channels((BUSY, ""), (BUSY, doing[0]), (BUSY, doing[1]), (SHOWN, "")), Log()
    ended(first_run.painted(log, channels, 0.0))
    assert log[0] == f"clipviz: the board is on screen; {doing[0]}"
    assert log[1].startswith("clipviz: the board is ready (")
    assert len(log) == 2
    assert len(channels.sent) == 4
    assert channels.stopped


def test_the_kernel_is_asked_in_passing(first_run):
    channels = Channels((SHOWN, ""))
    ended(first_run.painted(Log(), channels, 0.0))
    code, options = channels.sent[0]
    assert code == ""
    assert options["silent"]
    assert options["user_expressions"]["shown"] == "session.wait(0)"


def test_another_error_ends_the_waiting(first_run):
    channels, log = Channels(({"status": "error", "ename": "NameError"}, "")), Log()
    ended(first_run.painted(log, channels, 0.0))
    assert channels.stopped
    assert len(log) == 1

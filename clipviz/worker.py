"""One thread that owns the model: the newest request wins, and background work runs when no request waits.

Callbacks of widgets only record a request and wake the worker, so twenty rapid clicks cost only the first and the
last.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator

# Stop busy workers before the interpreter exits: torch aborts if its thread is torn down during a call.
_LIVING: weakref.WeakSet[Worker] = weakref.WeakSet()

RESTS = 30.0  # seconds without a job after which the thread ends

Stale = Callable[[], bool]
Job = Callable[[Stale], None]


class Overtaken(Exception):
    """Ends a job whose result is no longer needed; the worker treats this as the normal end of the job."""


class Worker:
    """Runs `Job`s in one daemon thread.

    request(job): replaces any request that has not started; a running job can ask stale() between its stages and
    stop early. background(steps): an iterator advanced one step at a time while no request waits. The thread ends
    after RESTS seconds without a request, and the next job starts another one. A session that is dropped without
    being closed therefore keeps no thread.
    """

    def __init__(self, on_error: Callable[[BaseException], None] | None = None) -> None:
        self._wake = threading.Condition()
        self._slot: Job | None = None
        self._background: deque[Iterator[object]] = deque()
        self._running: Job | Iterator[object] | None = None
        self._closed = False
        self._newest = 0
        self._number: int | None = None  # the number of the running request
        self._errors: list[BaseException] = []
        self._on_error = on_error
        self._thread: threading.Thread | None = None
        _LIVING.add(self)

    def request(self, job: Job) -> None:
        """Schedule `job`; a request that has not started is dropped."""
        with self._wake:
            if self._closed:
                return
            self._slot = job
            self._newest += 1
            self._work()

    def background(self, steps: Iterator[object]) -> None:
        """Advance `steps` to its end, yielding to requests between steps."""
        with self._wake:
            if self._closed:
                return
            self._background.append(steps)
            self._work()

    def _work(self) -> None:
        """Wake the thread, or start one. The caller holds the lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="clipviz-worker", daemon=True)
            self._thread.start()
        self._wake.notify_all()

    def overtaken(self) -> bool:
        """Return whether a newer request has come since the running job began. Call it in the worker's own thread."""
        if threading.current_thread() is not self._thread:
            return False
        return self._closed or (self._number is not None and self._number != self._newest)

    def awaited(self) -> bool:
        """Return whether a request waits for the current background step to end. Call it in the worker's own thread."""
        if threading.current_thread() is not self._thread:
            return False
        return self._number is None and self._slot is not None

    @property
    def here(self) -> bool:
        """Whether this is the worker's own thread."""
        return threading.current_thread() is self._thread

    @property
    def answering(self) -> bool:
        """Whether the worker's own thread is running a request rather than background work."""
        return self.here and self._number is not None

    def wait(self, timeout: float | None = None, background: bool = False) -> None:
        """Block until no request waits or runs (and, if asked, no background work), then raise a job's error if
        there was one.

        Raises TimeoutError after `timeout` seconds.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a job cannot wait for the worker that runs it")
        with self._wake:
            if not self._wake.wait_for(lambda: self._idle(background), timeout):
                raise TimeoutError(f"the worker was still busy after {timeout} s")
            errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    def close(self, timeout: float = 5.0) -> None:
        """Stop after the running step; jobs that wait are not started."""
        with self._wake:
            self._closed = True
            self._slot = None
            self._background.clear()
            self._newest += 1
            self._wake.notify_all()
            thread = self._thread
        if thread is not None and threading.current_thread() is not thread:
            thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the worker accepts jobs, or still runs one that began before it was closed."""
        thread = self._thread
        return not self._closed or (thread is not None and thread.is_alive())

    def _idle(self, background: bool) -> bool:
        requested = self._slot is not None or callable(self._running)
        return self._closed or not (
            requested or (background and (self._background or self._running is not None))
        )

    def _asked(self) -> bool:
        return self._closed or self._slot is not None or bool(self._background)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._running = None
                self._wake.notify_all()
                asked = self._wake.wait_for(self._asked, RESTS)
                if self._closed or not asked:
                    self._thread = None
                    return
                job, self._slot, number = self._slot, None, self._newest
                steps = self._background[0] if job is None else None
                self._running = steps if job is None else job
            try:
                if job is not None:
                    self._start(job, number)
                elif steps is not None:
                    self._advance(steps)
            except BaseException as error:  # the thread must outlive any job
                self.note(error)
            del job, steps

    def _start(self, job: Job, number: int) -> None:
        self._number = number
        try:
            job(lambda: self._newest != number)
        except Overtaken:
            pass
        finally:
            self._number = None

    def _advance(self, steps: Iterator[object]) -> None:
        try:
            next(steps)
        except BaseException as error:
            with self._wake:
                if steps in self._background:
                    self._background.remove(steps)
            if not isinstance(error, StopIteration | Overtaken):
                raise

    def note(self, error: BaseException) -> None:
        """Store an error for the next caller of `wait`."""
        with self._wake:
            self._errors.append(error)
        if self._on_error is not None:
            self._on_error(error)


@atexit.register
def _close_all() -> None:
    for worker in list(_LIVING):
        worker.close()

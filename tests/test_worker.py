"""The worker: latest wins, background work yields, errors surface, closing leaves no thread."""

import threading
import time

import pytest

from clipviz import worker as module
from clipviz.worker import Worker


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.close()
    assert not worker.alive


def test_a_request_runs(worker):
    ran = []
    worker.request(lambda stale: ran.append(stale()))
    worker.wait(5)
    assert ran == [False]


def test_only_the_first_and_the_last_of_a_burst_run(worker):
    started, ran = threading.Event(), []

    def slow(stale):
        started.set()
        time.sleep(0.05)
        ran.append("first")

    worker.request(slow)
    started.wait(5)
    for number in range(20):
        worker.request(lambda stale, number=number: ran.append(number))
    worker.wait(5)
    assert ran == ["first", 19]


def test_a_running_job_learns_that_it_is_stale(worker):
    seen = []
    started, go = threading.Event(), threading.Event()

    def staged(stale):
        seen.append(stale())
        started.set()
        go.wait(5)
        seen.append(stale())

    worker.request(staged)
    started.wait(5)
    worker.request(lambda stale: None)
    go.set()
    worker.wait(5)
    assert seen == [False, True]


def test_background_work_yields_to_requests(worker):
    order = []
    gate = threading.Event()

    def steps():
        gate.wait(5)
        for number in range(3):
            order.append(number)
            yield

    worker.background(steps())
    worker.request(lambda stale: order.append("request"))
    gate.set()
    worker.wait(5, background=True)
    assert order in ([0, "request", 1, 2], ["request", 0, 1, 2])


def test_an_error_is_raised_by_wait_and_the_worker_goes_on(worker):
    def broken(stale):
        raise ValueError("expected")

    worker.request(broken)
    with pytest.raises(ValueError, match="expected"):
        worker.wait(5)
    ran = []
    worker.request(lambda stale: ran.append(1))
    worker.wait(5)
    assert ran == [1]


def test_wait_gives_up_after_its_timeout(worker):
    gate = threading.Event()
    worker.request(lambda stale: gate.wait(5) and None)
    with pytest.raises(TimeoutError, match=r"0\.05"):
        worker.wait(0.05)
    gate.set()


def test_nothing_starts_after_close(worker):
    worker.close()
    ran = []
    worker.request(lambda stale: ran.append(1))
    worker.wait(1)
    assert not ran


def test_the_thread_ends_when_nothing_is_asked_and_begins_again_with_the_next_job(worker, monkeypatch):
    monkeypatch.setattr(module, "RESTS", 0.01, raising=False)
    for number in range(3):
        ran = []
        worker.request(lambda stale, ran=ran: ran.append(threading.current_thread()))
        worker.wait(5)
        ran[0].join(5)
        assert not ran[0].is_alive(), number
        assert worker.alive
    done = []
    worker.background(iter([done.append(1)]))
    worker.wait(5, background=True)
    assert done == [1]

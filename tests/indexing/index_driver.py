"""Forks, kills and joins real processes around index builds; run by the tests in a process of its own.

    python index_driver.py WORK POINTS SEED [ranks]      points: attempts, each killed once or twice and resumed
Prints one JSON line. One import of torch serves every child, which is forked before any thread runs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from index_tools import bytes_of, folder_of, tiny_model

from clipviz.data.images import open_images
from clipviz.indexing import Index

REFUSED = re.compile("another process|new or empty|disjoint|same image set|run the same")
OPTIONS = {"shard": 5, "batch": 2, "thumbnail": 16, "progress": False, "workers": 0}


def child(work: Callable[[], object]) -> int:
    """Fork; the child does `work` and leaves with 0, or with 1 after an error."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def succeed(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"a build failed with status {status}")


def before_each_call(react: Callable[[], None]) -> None:
    """From now on, `react` comes before each sync, replacement, removal or cut of a file in this process."""

    def heard(real: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            react()
            return real(*args, **kwargs)

        return wrapper

    for name in ("fsync", "replace", "unlink", "truncate", "mkdir"):
        setattr(os, name, heard(getattr(os, name)))


def n_calls(note: Path, work: Callable[[], object]) -> int:
    """Do `work` in a child; how many such calls it makes."""

    def run() -> None:
        calls: list[None] = []
        before_each_call(lambda: calls.append(None))
        work()
        note.write_text(str(len(calls)))

    succeed(child(run))
    return int(note.read_text())


def dying_at(call: int, work: Callable[[], object]) -> Callable[[], object]:
    """`work` in a process that kills itself at its n-th such call."""

    def run() -> None:
        left = [call]

        def count() -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        before_each_call(count)
        work()

    return run


def crash(work: Path, points: int, seed: int) -> dict[str, object]:
    """Kill builds, appends and merges, or run two at once; compare the bytes.

    Each is killed at one of the calls that change files, and half of them again at a random moment.
    """
    rng = random.Random(seed)
    model = tiny_model()
    images, more = folder_of(work / "images", 17, broken=(3,)), folder_of(work / "more", 8, start=50)
    base, grown, other, merged = (work / name for name in ("base", "grown", "other", "merged"))
    calls, note = {}, work / "n_calls"
    started = time.monotonic()
    calls["build"] = n_calls(note, lambda: Index.build(model, images, base, **OPTIONS))
    duration = time.monotonic() - started
    shutil.copytree(base, grown)
    calls["append"] = n_calls(note, lambda: Index.open(grown).append(model, more, progress=False, workers=0))
    succeed(child(lambda: Index.build(model, more, other, **OPTIONS)))
    calls["merge"] = n_calls(note, lambda: Index.merge([base, other], merged))
    expected = {"build": bytes_of(base), "append": bytes_of(grown), "merge": bytes_of(merged)}
    killed, twice = dict.fromkeys(expected, 0), dict.fromkeys(expected, 0)
    for point in range(points):
        out, kind = work / f"point{point}", ("build", "append", "build", "merge")[point % 4]
        if kind == "append":
            shutil.copytree(base, out)
        task = {
            "build": lambda out=out: Index.build(model, images, out, **OPTIONS),
            "append": lambda out=out: Index.open(out).append(model, more, progress=False, workers=0),
            "merge": lambda out=out: Index.merge([base, other], out),
        }[kind]
        if point % 5 == 4:
            held = (
                work / f"held{point}" if rng.random() < 0.5 and kind != "merge" else None
            )  # a merge waits instead
            twice[kind] += two_at_once(rng, task, duration, calls[kind], held)
        else:
            assert died(child(dying_at(rng.randint(1, calls[kind]), task))), (point, kind)
            killed[kind] += 1
            if rng.random() < 0.5:
                kill_after(rng.random() * (duration / 4 if kind == "merge" else duration), task)
        if (out / "manifest.json").exists():
            assert Index.verify(out) == [], (point, kind, "a kill is no damage")
        if kind == "append":
            assert len(Index.open(out)) in (16, 24), "readers see the index of before or of after"
        if not (
            kind != "build" and out.exists() and bytes_of(out) == expected[kind]
        ):  # done before it was killed
            succeed(child(task))
        assert Index.verify(out) == [], (point, kind)
        assert bytes_of(out) == expected[kind], (point, kind, set(bytes_of(out)) ^ set(expected[kind]))
        assert not list(work.glob(".*")), "something is left beside the index"
        shutil.rmtree(out)
    return {"points": points, "killed": killed, "twice": twice, "build_seconds": round(duration, 2)}


def two_at_once(
    rng: random.Random, task: Callable[[], object], duration: float, n_calls: int, held: Path | None
) -> bool:
    """Two processes at the same work: each does it or says why not; was one refused?

    held: where the first says that it stands at one of its calls, to go on when the second has ended; None: the second
    begins a moment after it.
    """

    def tried() -> None:
        try:
            task()
        except (ValueError, OSError) as error:
            if not REFUSED.search(str(error)):
                raise
            os._exit(3)

    def tried_and_held(call: int) -> None:
        left = [call]

        def count() -> None:
            left[0] -= 1
            if left[0] == 0:
                held.touch()
                wait_for(lambda: not held.exists())

        before_each_call(count)
        tried()

    if held is None:
        pids = [child(tried)]
        time.sleep(rng.random() * duration / 4)
        pids.append(child(tried))
        ended = [exit_of(pid) for pid in pids]
    else:
        call = rng.randint(1, n_calls)
        first = child(lambda: tried_and_held(call))
        wait_for(held.exists)
        second = exit_of(child(tried))
        held.unlink()
        ended = [exit_of(first), second]
    assert set(ended) <= {0, 3}, ended
    assert 0 in ended, ended
    return 3 in ended


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.01)


def exit_of(pid: int) -> int:
    """Wait for a child; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_after(seconds: float, task: Callable[[], object]) -> None:
    """Begin the task in a child and kill it, if it has not ended by then."""
    pid = child(task)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def died(pid: int) -> bool:
    """Wait for a child; was it killed?"""
    return exit_of(pid) == -signal.SIGKILL


def ranks(work: Path) -> dict[str, object]:
    """Two gloo ranks against one process; then a rank is lost and the run is started again."""
    model = tiny_model()
    images = folder_of(work / "images", 33)
    succeed(child(lambda: Index.build(model, images, work / "alone", **OPTIONS)))
    expected = bytes_of(work / "alone")
    for pid in pair(model, images, work / "two", work / "store1"):
        succeed(pid)
    equal = bytes_of(work / "two") == expected
    pids = pair(model, images, work / "lost", work / "store2", lose=1)
    os.waitpid(pids[1], 0)
    told = exit_of(pids[0])
    unfinished = not (work / "lost" / "manifest.json").exists()
    left = len(list((work / "lost" / "staging").glob("*.npz")))
    for pid in pair(model, images, work / "lost", work / "store3"):
        succeed(pid)
    return {
        "equal": equal,
        "unfinished": unfinished,
        "told": told,
        "said": (work / "lost.said").read_text(),
        "staged": left,
        "resumed": bytes_of(work / "lost") == expected,
    }


def pair(model: object, images: Path, out: Path, store: Path, lose: int | None = None) -> list[int]:
    """Two ranks of one run; the rank `lose` kills itself after its first shard."""

    def work(rank: int) -> Callable[[], object]:
        def progress(done: int, _: int) -> None:
            if rank == lose and done > 5:
                time.sleep(0.3)  # the shard before is on its way to the disk
                os.kill(os.getpid(), signal.SIGKILL)

        def run() -> None:
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{store}", rank=rank, world_size=2
            )
            saying(out, lambda: Index.build(model, images, out, **{**OPTIONS, "progress": progress}))
            torch.distributed.destroy_process_group()

        return run

    return [child(work(rank)) for rank in (0, 1)]


def saying(out: Path, task: Callable[[], object]) -> None:
    """Do the task; where it says what went wrong, as an OSError, leave with 3 and its words beside the index."""
    try:
        task()
    except OSError as error:
        out.with_name(f"{out.name}.said").write_text(f"{type(error).__name__}: {error}")
        os._exit(3)


def killed_loaders(work: Path) -> dict[str, object]:
    """A build whose decoding processes are killed: what it says, and whether it goes on afterwards."""
    model, images = tiny_model(), folder_of(work / "images", 60)
    options = {**OPTIONS, "workers": 2, "batch": 1}
    out = work / "index"

    def progress(done: int, _: int) -> None:
        if done == 12:
            for one in children_of(os.getpid()):
                os.kill(one, signal.SIGKILL)

    told = exit_of(
        child(
            lambda: saying(out, lambda: Index.build(model, images, out, **{**options, "progress": progress}))
        )
    )
    succeed(child(lambda: Index.build(model, images, out, **options)))
    return {"told": told, "said": out.with_name("index.said").read_text(), "rows": len(Index.open(out))}


def orphans(work: Path) -> dict[str, list[int]]:
    """End builds with workers by each signal; how many of their processes were seen, and how many stay."""
    model, images = tiny_model(), open_images(folder_of(work / "images", 60))
    images.captions = ["long" * 100_000] * len(images)  # more than a pipe holds: workers wait to write
    counts: dict[str, list[int]] = {}
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        out, ready = work / number.name, work / f"{number.name}.ready"

        def progress(done: int, _: int, ready: Path = ready) -> None:
            ready.touch()
            time.sleep(60)

        options = {**OPTIONS, "workers": 2, "batch": 1, "progress": progress}
        pid = child(lambda out=out, options=options: Index.build(model, images, out, **options))
        seen: list[int] = []
        until = time.monotonic() + 60
        while time.monotonic() < until and not (ready.exists() and len(seen) >= 2):
            seen = children_of(pid)
            time.sleep(0.05)
        os.kill(pid, number)
        os.waitpid(pid, 0)
        until = time.monotonic() + 20
        while time.monotonic() < until and any(alive(one) for one in seen):
            time.sleep(0.1)
        counts[number.name] = [len(seen), sum(alive(one) for one in seen)]
        for one in filter(alive, seen):
            os.kill(one, signal.SIGKILL)
    return counts


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores, and so would the builds
    folder, points, seed, *also = sys.argv[1:]
    limit = max(280, 3 * int(points))
    faulthandler.dump_traceback_later(limit, exit=True)  # says where it waits, before the test gives up
    answer = {"crash": crash(Path(folder, "crash"), int(points), int(seed))}
    if also == ["ranks"]:
        answer["ranks"] = ranks(Path(folder, "ranks"))
        answer["orphans"] = orphans(Path(folder, "orphans"))
        answer["loaders"] = killed_loaders(Path(folder, "loaders"))
    print(json.dumps(answer))

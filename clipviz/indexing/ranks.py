"""The processes of one run. Statistics are exchanged through files, so ranks send only short messages, always by
gloo.

No tensor is reduced over the network: each rank writes its shards, including statistics, to the shared disk, and
the first rank folds them in the order of the images. A run on many GPUs therefore equals a run on one GPU to the
last bit, and a restart can use the shards of a lost rank.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch

T = TypeVar("T")
_PATIENCE = timedelta(days=7)  # the first rank may have to wait long for a slow one


@dataclass(frozen=True)
class Ranks:
    """The rank of this process in the run; group: a gloo group, None for a single process."""

    rank: int = 0
    world: int = 1
    group: Any = None

    @classmethod
    def current(cls) -> Ranks:
        """Return the ranks of the initialised process group, or one rank."""
        dist = torch.distributed
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return cls()
        group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        return cls(dist.get_rank(), dist.get_world_size(), group)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, make: Callable[[], T]) -> T:
        """Return on every rank what `make` returns on the first; ValueError and OSError are passed on too."""
        if self.group is None:
            return make()
        answer: list[Any] = [None, None]
        if self.first:
            try:
                answer[0] = make()
            except (ValueError, OSError) as error:
                answer[1] = error
        with _together():
            torch.distributed.broadcast_object_list(answer, src=0, group=self.group)
        if answer[1] is not None:
            raise answer[1]
        found: T = answer[0]
        return found

    def wait(self) -> None:
        """Wait until every rank has reached this point."""
        if self.group is not None:
            with _together():
                torch.distributed.barrier(group=self.group)


@contextmanager
def _together() -> Iterator[None]:
    """Raise ConnectionError if another rank has ended in any way."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            "another process of this run ended before its work was done (it was stopped, failed, or its memory ran "
            "out); run the same command again: it continues where it stopped"
        ) from error


def leave() -> None:
    """Leave the process group, which a lost rank has already left."""
    with suppress(RuntimeError):
        torch.distributed.destroy_process_group()


def join_torchrun() -> bool:
    """Join the process group that torchrun set up in the environment; return False if there is none."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or torch.distributed.is_initialized():
        return False
    torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
    return True


def local_device(device: str | None) -> str | None:
    """Return this rank's GPU if several processes share a machine and no device was requested."""
    if device is None and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return device

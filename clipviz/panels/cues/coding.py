"""The source of a desk's cues, computed between clicks: layers' neurons are read evenly, then coded in parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from clipviz.session import CODED, Board
from clipviz.waits import Work

if TYPE_CHECKING:
    from clipviz.session.answers import Reading, Source

Key = tuple[tuple[tuple[int, int], ...], int | None]
"""(layer, images read) of every layer, and the number of texts per code."""


class Coding:
    """The newest source, and the one in progress. n_images: images read for each layer (None: all)."""

    def __init__(self, board: Board) -> None:
        self.key: Key | None = None
        self.source: Source | None = None
        self._board = board
        self._made: tuple[Key, Iterator[Source | None]] | None = None
        self.work = Work("Coding the neurons in texts", 0)

    @property
    def n_read(self) -> int:
        """The number of images on which the source is based."""
        return min(count for _, count in self.key[0]) if self.key else 0

    def fits(self, layers: Sequence[int], m: int | None) -> bool:
        """Return whether there is a source for these layers and codes."""
        return (
            self.key is not None and [layer for layer, _ in self.key[0]] == list(layers) and self.key[1] == m
        )

    def complete(self, layers: Sequence[int], n_images: int | None) -> bool:
        """Return whether every layer has been read."""
        return all(one.complete(n_images) for one in self._readings(layers))

    def unread(self, layers: Sequence[int], n_images: int | None) -> Reading | None:
        """Return the layer to read next: the one with the fewest images read."""
        left = [one for one in self._readings(layers) if not one.complete(n_images)]
        return min(left, key=lambda one: one.n_read) if left else None

    def step(self, layers: Sequence[int], m: int | None, n_images: int | None) -> bool:
        """Code some more neurons if all layers have been read evenly; return False if there is nothing to code."""
        known = [one.latest for one in self._readings(layers) if one.latest is not None]
        alike = len({len(one.ids) for one in known}) == 1 or self.complete(layers, n_images)
        key = tuple((one.stats.layer, one.stats.count) for one in known), m
        if len(known) < len(layers) or not alike or self.key == key:
            return False
        if self._made is None or self._made[0] != key:
            self._made = key, self._board.cue_steps(known, m)
            self.work = Work("Coding the neurons in texts", sum(one.n_neurons for one in known))
        self.work.resume()
        source = next(self._made[1])
        self.work.reached(self.work.n_all if source else min(self.work.n_done + CODED, self.work.n_all - 1))
        if source is not None:
            self.key, self.source, self._made = key, source, None
            self._board.refresh()
        return True

    def _readings(self, layers: Sequence[int]) -> list[Reading]:
        return [self._board.neuron_reading(layer) for layer in layers]

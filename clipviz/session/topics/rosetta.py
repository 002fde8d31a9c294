"""Units that a session's model shares with other models: a dictionary, embedded or mined on its images (thesis 4.3)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

import torch
from tqdm import tqdm

from clipviz.analysis.rosetta import dictionaries
from clipviz.analysis.rosetta.mining import control_passes, n_passes
from clipviz.analysis.rosetta.networks import CLIP
from clipviz.data import dictionary as saved
from clipviz.loading import load_partner
from clipviz.session import checks
from clipviz.session.shared_units import SharedUnits, open_shared
from clipviz.session.state import State

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from clipviz.models.dictionaries import Dictionary

FEWEST = 16
"""The least number of images on which units of two models are compared."""


class MiningOptions(TypedDict, total=False):
    k: int
    at_least: int | None
    above: float | Literal["chance"]
    same: float
    n_examples: int
    batch: int
    memory: int


class Mined(NamedTuple):
    """The dictionary that a session mined last: the number mined so far, its folder, the partners by name."""

    number: int
    folder: Path
    partners: dict[str, Any]


class RosettaTopic:
    """Questions about units shared with other models."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._mined: Mined | None = None

    def __repr__(self) -> str:
        bundle, mined = self._state.model.bundle, self._mined
        if mined is not None:
            return f"units shared with {', '.join(mined.partners)}, mined in {str(mined.folder)!r}"
        shipped = bundle is not None and bundle.dictionary is not None
        return "units shared with other models: " + (
            "shipped" if shipped else "session.rosetta.mine finds them"
        )

    @property
    def partners(self) -> dict[str, Any]:
        """The partners of the last mined dictionary, by name; empty if nothing was mined."""
        return dict(self._mined.partners) if self._mined else {}

    def units(
        self,
        folder: str | Path | None = None,
        partners: Mapping[str, Any] | None = None,
        pivot: str = CLIP,
    ) -> SharedUnits:
        """Open the dictionary of units that the model shares with others.

        Args:
            folder: Folder of a dictionary that was mined; default the one mined last here, or else the
                embedded one.
            partners: Model name -> network, for models that are not embedded.
            pivot: The model whose units are the rows of the embedded dictionary, "clip" or "generator" (Eq.
                4.4).

        Returns:
            The dictionary, on the images of this session.

        Raises:
            ValueError: There is no dictionary for this model.
        """
        if folder and not isinstance(folder, str | os.PathLike):
            raise ValueError(
                f"expected the folder of a dictionary, got {folder!r:.80}; pass the folder given to "
                "session.rosetta.mine"
            )
        if partners is not None and not isinstance(partners, Mapping):
            raise ValueError(
                f"expected partners as a mapping from names to networks, got {partners!r:.80}; "
                "networks that clipviz.load_partner knows are found automatically; pass others as "
                "{name: network}"
            )
        number, own = 0, self._mined
        if own is not None and not folder and pivot == CLIP:
            number, folder, partners = own.number, own.folder, {**own.partners, **(partners or {})}
        names = tuple(sorted((name, id(partner)) for name, partner in (partners or {}).items()))
        state = self._state
        key = ("rosetta", str(folder or ""), names, pivot, number, tuple(state.dictionaries))
        return state.keep(
            key, lambda: open_shared(state, folder, partners, pivot, state.painted.get, state.dictionaries)
        )

    def mine(
        self,
        folder: str | Path,
        partners: Sequence[Any] = ("cnn",),
        n_images: int = 256,
        control: bool = True,
        features: Sequence[str] = (),
        **options: Unpack[MiningOptions],
    ) -> SharedUnits:
        """Find the units that the model shares with partners on the session's images (Eq. 4.3, 4.4).

        The generator's units are matched with these partners from then on (see generator.readers).

        Args:
            folder: Where the dictionary is saved.
            partners: Names that clipviz.load_partner knows, or models with .maps.
            n_images: Number of images to draw; a quarter of them is held out for the correlations that are shown.
            control: Also count the rows of an untrained copy of the model on the same images, which adds about two
                thirds of the time; SharedUnits.n_untrained and the panel show that number beside the rows found.
            features: Names of dictionaries of directions in use (see neurons.use), whose features are units
                beside the neurons, so that a row may begin with one.
            **options: at_least (partners that a row needs, default all), above (what a correlation must exceed
                that on shuffled images by), k (neighbours, 5) and others of analysis.rosetta.mining.mine.

        Returns:
            The dictionary, which the Rosetta panel then shows.

        Raises:
            ValueError: There are too few images, or no unit is shared beyond chance.
        """
        state, loaded = self._state, self._loaded(partners)
        among = {name: checks.in_use(name, state.dictionaries) for name in checks.names("features", features)}
        heldout, mined = self._drawn(n_images)
        names = ", ".join(one.name for one in loaded)
        with tqdm(total=n_passes(len(loaded)), desc=f"Matching units with {names}", unit="pass") as bar:
            concepts = dictionaries.mined(
                state.model,
                loaded,
                state.images.subset(mined),
                state.images.subset(heldout),
                list(state.texts),
                features=among,
                progress=lambda n_done: bar.update(n_done - bar.n),
                **options,
            )
        if not len(concepts):
            raise ValueError(
                f"expected units that {names} shares beyond chance, found none on {len(mined)} images; try more "
                "images, another partner, at_least=1 with several, or a lower above="
            )
        concepts = replace(concepts, examples=torch.tensor(mined)[torch.as_tensor(concepts.examples)])
        shown = sorted({int(i) for i in concepts.examples.flatten().tolist()})
        about = dictionaries.about(state.model, loaded, state.images, among)
        about |= {"n_images": len(mined), "n_heldout": len(heldout)}
        if control:
            about["n_untrained"] = self._untrained(loaded, mined, among, options)
        path = saved.save(concepts, folder, about, {i: state.images[i] for i in shown})
        number = self._mined.number + 1 if self._mined else 1
        self._mined = Mined(number, path, {one.name: one for one in loaded})
        state.forget(lambda key: key[0] == "rosetta")  # together with the partners of earlier dictionaries
        state.refresh()
        return self.units()

    def _loaded(self, partners: Sequence[Any]) -> list[Any]:
        """Return partners as models with .maps; names are loaded."""
        wrong = next((one for one in partners if not (isinstance(one, str) or hasattr(one, "maps"))), None)
        if isinstance(partners, str) or wrong is not None:
            raise ValueError(
                "expected partners as a list of names or of models with .maps, got "
                f'{wrong or partners!r:.80}; for example ["cnn"]'
            )
        device = self._state.model.device
        return [load_partner(one, device=device) if isinstance(one, str) else one for one in partners]

    def _drawn(self, n_images: int) -> tuple[list[int], list[int]]:
        """Return held-out images and images on which units are compared, drawn from those that can be read."""
        collection = self._state.collection
        readable = [i for i, ready in enumerate(collection.ready) if ready]
        if len(readable) < FEWEST:
            later = "open more images" if collection.complete else "wait until more images have been read"
            raise ValueError(
                f"expected at least {FEWEST} images to compare units on, got {len(readable)}; {later}"
            )
        shuffled = torch.randperm(len(readable), generator=torch.Generator().manual_seed(0)).tolist()
        drawn = [readable[i] for i in shuffled[: max(FEWEST, n_images)]]
        n_heldout = len(drawn) // 4
        return sorted(drawn[:n_heldout]), sorted(drawn[n_heldout:])

    def _untrained(
        self,
        partners: Sequence[Any],
        images: Sequence[int],
        features: Mapping[str, Dictionary],
        options: MiningOptions,
    ) -> int:
        """Return the rows that an untrained copy of the session's model has on the same images."""
        what, state = "Matching units of an untrained copy of the model", self._state
        with tqdm(total=control_passes(len(partners)), desc=what, unit="pass") as bar:
            return dictionaries.untrained_rows(
                state.model,
                partners,
                state.images.subset(images),
                features=features,
                progress=lambda n_done: bar.update(n_done - bar.n),
                **options,
            )

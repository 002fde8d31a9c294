"""What is asked of units shared with other models, and pictures that follow them (thesis, chapter 4)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipviz.analysis.rosetta import shared_units
from clipviz.session import generation, mining
from clipviz.session.state import SessionState
from clipviz.session.workbench import Workbench

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from clipviz.analysis.generation.concepts import GeneratorConcept
    from clipviz.analysis.generation.guides import Guides
    from clipviz.analysis.generation.searching import Edited, SearchProgress
    from clipviz.analysis.rosetta.shared_units import SharedUnits
    from clipviz.lens.invert import Schedule
    from clipviz.session.mining import MiningOptions


class SharedUnitQuestions(SessionState):
    """The methods of a session about shared units."""

    def rosetta(
        self,
        folder: str | Path | None = None,
        partners: Mapping[str, Any] | None = None,
        pivot: str = "clip",
    ) -> SharedUnits:
        """The dictionary of units that the model shares with others: mined here, a shipped one, or that of a folder.

        partners: model name -> network, for models that are not shipped. pivot: whose units are the rows of the shipped
        one, "clip" or "generator" (Eq. 4.4). Raises ValueError when there is no dictionary for this model.
        """
        if folder and not isinstance(folder, str | os.PathLike):
            raise ValueError(
                f"expected the folder of a dictionary, got {folder!r:.80}; session.mine names it"
            )
        if partners is not None and not isinstance(partners, Mapping):
            raise ValueError(
                f"expected partners as a mapping from names to networks, got {partners!r:.80}; networks that "
                "clipviz.load_partner knows are found by themselves, another one is given as {name: network}"
            )
        number, own = 0, self._mined
        if own is not None and not folder and pivot == shared_units.CLIP:
            number, folder, partners = own.number, own.folder, {**own.partners, **(partners or {})}
        names = tuple(sorted((name, id(partner)) for name, partner in (partners or {}).items()))
        key = ("rosetta", str(folder or ""), names, pivot, number)
        painted = self.workbench.painted
        return self.keep(
            key, lambda: shared_units.open_shared(self._session, folder, partners, pivot, painted.get)
        )

    def mine(
        self,
        folder: str | Path,
        partners: Sequence[Any] = ("cnn",),
        n_images: int = 256,
        control: bool = True,
        **options: Unpack[MiningOptions],
    ) -> SharedUnits:
        """Look for the units that the model shares with partners on the session's images (Eq. 4.3, 4.4).

        folder: where the dictionary is saved. partners: names that clipviz.load_partner knows, or models. n_images:
        how many images are drawn; a quarter of them is held out for the correlations that are shown. control: count
        also the rows that an untrained copy of the model has on the same images, which takes about two thirds of the
        time again; SharedUnits.n_untrained and the panel show them beside the rows found. options: at_least
        (partners that a row needs, default all), above (what a correlation must exceed that on shuffled images by),
        k (neighbours, 5) and others of analysis.rosetta.mining.mine. The Rosetta panel shows what was found, and the
        generator's units are matched with these partners from then on (see `readers`).
        Raises ValueError for too few images, or where no unit is shared beyond chance.
        """
        self._mined = mining.mine(self._session, folder, partners, n_images, control, options)
        self._works.forget(lambda key: key[0] == "rosetta")  # with the partners of earlier dictionaries
        self.refresh()
        return self.rosetta()

    @property
    def generator(self) -> Any:
        """The generator that edits and inversions use: the one set here, else that of the model's bundle."""
        return generation.generator_of(self._session)

    @generator.setter
    def generator(self, generator: Any) -> None:
        self._generator = generator
        self._workbench = None  # the picture in hand was another generator's
        self.refresh()

    @property
    def readers(self) -> dict[str, Any]:
        """The models that the generator's units are matched with (Eq. 4.3), by name: those set here, else the partners
        of the dictionary mined last, else the bundle's, else this session's own model.

        Set them as names that clipviz.load_partner knows, as models with .maps(images), or by name in a dict; None goes
        back to the others.
        """
        return generation.readers_of(self._session)

    @readers.setter
    def readers(self, readers: Mapping[str, Any] | Sequence[Any] | None) -> None:
        self._readers = generation.checked_readers(self._session, readers)
        self.refresh()

    @property
    def guides(self) -> Guides:
        """The generator's units that the readers share, with their pairs: what edits and inversions are guided by.

        Set it to what clipviz.analysis.generation.guides.find_guides returns for other latents, or another threshold.
        """
        return generation.guides(self._session)

    @guides.setter
    def guides(self, guides: Guides) -> None:
        generation.give_guides(self._session, guides)
        self.refresh()

    def generator_concepts(self) -> list[GeneratorConcept]:
        """The generator's units that other models share (Eq. 4.3), those that light up together as one named concept.

        Each has .name, the text whose heatmap is most like its maps, .similarity, .units and .readers.
        """
        return generation.concepts(self._session)

    @property
    def workbench(self) -> Workbench:
        """The picture that the generator is painting, as the Generate desk shows it: begin, follow, said, keep."""
        if self._workbench is None:
            self._workbench = Workbench(self._session)
        return self._workbench

    def edit(
        self,
        latents: Any,
        change: str = "none",
        concepts: Sequence[int] | None = None,
        right: float = 0.0,
        down: float = 0.0,
        factor: float = 1.0,
        schedule: Schedule | None = None,
        progress: SearchProgress | None = None,
        objective: str = "distance",
        literal: bool = False,
    ) -> Edited:
        """Change the maps of shared units and search for the latents that follow (thesis 4.4, Fig. 4.7, 4.8).

        latents: from `generator.sample`. change: "none", "zoom" (factor), "shift" (right, down, as shares of the
        sides), "copy", "remove" or "amplify" (factor). concepts: indices into `generator_concepts()`, default all; the
        others are asked to stay. schedule, progress: as in clipviz.lens.invert.invert; default the thesis's 500 steps,
        where the Generate desk takes 40 to follow a hand (clipviz.session.workbench.LIVE). literal: ask for the maps as
        thesis 4.4 does (zeros come in at a border, halves are copied, minima removed). objective: "product" is that of
        Eq. 4.5 and 4.6 as the thesis writes it, which has no optimum at the maps asked for (clipviz.lens.invert).
        Returns .latents, .images [image, 3, rows, cols], .source, and .distance [image] of the maps from those asked.
        """
        how: dict[str, Any] = {"right": right, "down": down, "factor": factor, "schedule": schedule}
        how |= {"progress": progress, "objective": objective, "literal": literal}
        return generation.edit(self._session, latents, change, concepts, **how)

    def invert(
        self,
        image: int | None = None,
        label: str | int | None = None,
        pixels: bool = True,
        seed: int = 0,
        alpha: float = 0.1,
        beta: float = 1.0,
        schedule: Schedule | None = None,
        progress: SearchProgress | None = None,
        objective: str | None = None,
    ) -> Edited:
        """Latents whose picture is like an image, guided by shared units (Eq. 4.7), or by these alone (Eq. 4.5).

        image: default the selected one. label: class of a class-conditional generator, default the one that the model
        names; another one translates the image into that class (Fig. 4.5). pixels=False compares maps alone, by their
        correlation, for images from outside the generator's world (Fig. 4.4). seed: of the random starts, of which the
        one whose maps are most alike is taken, by maps alone after short searches from the best three. schedule:
        default the thesis's 500 steps; the Generate desk takes 120 (clipviz.session.workbench.INVERSION). objective:
        how maps are compared, by default their distance, by maps alone their correlation; "product" is that of Eq. 4.5
        and 4.6 as the thesis writes it (clipviz.lens.invert).
        """
        i = self._image(image)
        return generation.invert(
            self._session, i, label, pixels, seed, alpha, beta, objective, schedule, progress
        )

    def visualise(
        self,
        concept: int,
        n_starts: int = 6,
        seed: int = 0,
        schedule: Schedule | None = None,
        progress: SearchProgress | None = None,
    ) -> Edited:
        """Several pictures that share the map of a concept's first unit, from random starts (thesis 4.4, Fig. 4.1)."""
        return generation.visualise(self._session, concept, n_starts, seed, schedule, progress)

"""The generator of a session: pictures edited, inverted and generated through shared units (thesis 4.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clipviz.analysis.generation import editing, inversion
from clipviz.analysis.generation.concepts import GeneratorConcept
from clipviz.models.threads import spare_core
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.session.topics.ablation import AblationTopic
from clipviz.session.topics.guided import Guided
from clipviz.session.topics.images import ImageTopic
from clipviz.session.topics.rosetta import RosettaTopic
from clipviz.session.topics.workbench import Workbench
from clipviz.values.tables import Listing, Lookup

if TYPE_CHECKING:
    from clipviz.analysis.generation.guides import Guides
    from clipviz.analysis.generation.searching import Edited, SearchProgress
    from clipviz.lens.invert import Schedule, SearchOptions

N_TRIED = 6
"""Number of latents from which each start of a single concept's pictures is chosen."""


class GeneratorTopic:
    """Questions for a generator, whose latents are searched for pictures with requested maps."""

    def __init__(
        self, state: State, images: ImageTopic, ablation: AblationTopic, rosetta: RosettaTopic
    ) -> None:
        self._state, self._images, self._ablation = state, images, ablation
        self._guided = Guided(state, images, rosetta)
        self._workbench: Workbench | None = None

    def __repr__(self) -> str:
        try:
            return f"generator {self.model.name!r}"
        except ValueError as error:
            return str(error)

    @property
    def model(self) -> Any:
        """The generator used by edits and inversions: the one set here, else that of the model's bundle."""
        return self._guided.generator

    @model.setter
    def model(self, generator: Any) -> None:
        self._guided.generator = generator
        self._workbench = None  # the current picture belonged to another generator
        self._state.painted = {}
        self._state.refresh()

    @property
    def readers(self) -> dict[str, Any]:
        """The models that the generator's units are matched with (Eq. 4.3), by name: those set here, else the
        partners of the last mined dictionary, else the bundle's, else this session's own model.

        Set them as names that clipviz.load_partner knows, as models with .maps(images), or by name in a dict;
        None restores the default.
        """
        return self._guided.readers

    @readers.setter
    def readers(self, readers: Mapping[str, Any] | Sequence[Any] | None) -> None:
        self._guided.readers = readers
        self._state.refresh()

    @property
    def guides(self) -> Guides:
        """The generator's units that the readers share, with their pairs, which guide edits and inversions.

        Set it to what clipviz.analysis.generation.guides.find_guides returns for other latents, or another threshold.
        """
        return self._guided.guides

    @guides.setter
    def guides(self, guides: Guides) -> None:
        self._guided.guides = guides
        self._state.refresh()

    def concepts(self) -> Listing[GeneratorConcept]:
        """Return the generator's units that other models share (Eq. 4.3), where units that are active together form
        one named concept.

        Each has .name, the text whose heatmap correlates most with its maps, .similarity, .units and .readers.
        """
        found = self._guided.concepts()
        return Listing(found, "Units of the generator that other models share", GeneratorConcept._fields)

    def weights(self) -> Lookup[str, str]:
        """Return the weights on which the concepts' names depend: those of the generator, its readers and the model."""
        return Lookup(self._guided.weights(), "Weights on which the names depend", ("model",), ("weights",))

    @property
    def workbench(self) -> Workbench:
        """The picture that the generator is painting, as the Generate desk shows it: begin, follow, said, keep."""
        if self._workbench is None:
            self._workbench = Workbench(self._state, self._guided, self._images, self._ablation)
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

        Args:
            latents: Latents from `model.sample`.
            change: "none", "zoom" (factor), "shift" (right, down), "copy", "remove" or "amplify" (factor).
            concepts: Indices into `concepts()`, default all; the others should stay.
            right: Shift to the right, as a share of the width.
            down: Shift downwards, as a share of the height.
            factor: Factor of a zoom or an amplification.
            schedule: Number of steps and learning rate of the search; default the thesis's 500 steps. The Generate
                desk uses 40 to follow a drag (clipviz.session.topics.workbench.LIVE).
            progress: Called with every step; the search ends early if it returns False.
            objective: "distance" compares maps by their distance; "product" is that of Eq. 4.5 and 4.6 as the
                thesis writes it, which has no optimum at the requested maps (clipviz.lens.invert).
            literal: Request the maps as in thesis 4.4 (zeros at a border, halves copied, maps removed by their
                minima).

        Returns:
            .latents, .images and .source [image, 3, rows, cols], and .distance [image] of the maps from the
            requested ones.

        Raises:
            ValueError: The change or a concept does not exist.
        """
        guided, units = self._guided, self._guided.units_of(concepts)
        with spare_core():  # like the desk's search, so that both give the same result
            return editing.edit(
                guided.generator,
                latents,
                guided.guides,
                change,
                units=units,
                right=right,
                down=down,
                factor=factor,
                schedule=schedule,
                progress=progress,
                objective=objective,
                literal=literal,
            )

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
        """Find latents whose picture resembles an image, guided by shared units (Eq. 4.7), or by these alone
        (Eq. 4.5).

        Args:
            image: Index of an image; default the selected one.
            label: Class of a class-conditional generator; default the one that the model names. Another one
                translates the image into that class (Fig. 4.5).
            pixels: False compares maps alone, by their correlation, for images from outside the generator's
                world (Fig. 4.4).
            seed: Seed of the random starts. The start with the most similar maps is used; by maps alone it is
                chosen by short searches from the best three.
            alpha: Weight of the latents' regularisation in Eq. 4.7.
            beta: Weight of the maps in Eq. 4.7.
            schedule: Number of steps and learning rate of the search; default the thesis's 500 steps. The Generate
                desk uses 120 (clipviz.session.topics.workbench.INVERSION).
            progress: Called with every step; the search ends early if it returns False.
            objective: How maps are compared: by default by their distance, and by maps alone by their
                correlation; "product" is that of Eq. 4.5 and 4.6 as the thesis writes it (clipviz.lens.invert).

        Returns:
            .latents, .images and .source [image, 3, rows, cols], and .distance [image] of the maps.

        Raises:
            ValueError: A label is given for a generator without classes.
        """
        how: SearchOptions = {"alpha": alpha, "beta": beta, "schedule": schedule}
        if objective is not None:
            how["objective"] = objective
        return self._guided.invert(image, label, pixels, seed, progress, **how)

    def visualise(
        self,
        concept: int,
        n_starts: int = 6,
        seed: int = 0,
        schedule: Schedule | None = None,
        progress: SearchProgress | None = None,
    ) -> Edited:
        """Return several pictures that share the map of a concept's first unit, from random starts (thesis 4.4,
        Fig. 4.1).

        Args:
            concept: Index into `concepts()`.
            n_starts: Pictures to make.
            seed: Seed of the random starts.
            schedule: Number of steps and learning rate of the search; default the thesis's 500 steps.
            progress: Called with every step; the search ends early if it returns False.

        Returns:
            The pictures and their latents.
        """
        guided, generator = self._guided, self.model
        units = guided.units_of([concept])
        assert units is not None
        found, n = guided.guides, checks.count("n_starts", n_starts)
        starts = inversion.lively(generator, generator.sample(N_TRIED * n, seed=seed), found, units[0], n)
        return inversion.visualise(generator, starts, found, units[0], schedule=schedule, progress=progress)

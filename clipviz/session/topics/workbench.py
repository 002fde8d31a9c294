"""One picture in progress: start from a latent, a class or an image, and drag its shared units (thesis 4.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from clipviz.analysis.generation import editing, searching
from clipviz.lens import invert, verdicts
from clipviz.lens.invert import Schedule
from clipviz.models.generator import as_image
from clipviz.models.threads import spare_core, with_spare_core
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.session.topics.ablation import AblationTopic
from clipviz.session.topics.guided import Guided
from clipviz.session.topics.images import ImageTopic
from clipviz.values import numbers_of, with_numbers

if TYPE_CHECKING:
    from clipviz.lens.invert import Step

LIVE = Schedule(n_steps=40, rate=0.1, ramp_up=0.0, ramp_down=0.5)
"""The desk's searches, short enough to follow a drag; the thesis's have 500 steps and are not interactive."""
INVERSION = Schedule(n_steps=120, rate=0.1)
COMPARED = ("colours", "backgrounds")
"""The tasks that a picture is classified on, besides the generator's own classes."""
EVERY = -1
"""The concept that stands for all concepts together."""
MOST = 100_000
"""Number of steps of a search with a moving goal."""
NOTHING = "nothing here"
"""The kind of a picture without an object, by its true scene or a locator; no class represents this."""
OF_OBJECTS = ("kind", "colour")
"""Questions about an object, which have no answer without one."""
SIDE = 32
"""Rows and columns of a concept's map."""


class Goal(NamedTuple):
    """Where the user has dragged the maps of `base`, those of one concept or of all (EVERY), and the zoom."""

    base: Any
    concept: int
    right: float = 0.0
    down: float = 0.0
    factor: float = 1.0

    def same(self, other: Goal) -> bool:
        """Return whether both request the same; latents may be tensors, which == compares elementwise."""
        return self.base is other.base and self[1:] == other[1:]


class Asked(NamedTuple):
    """The last requested edit: its name, the latents at its start, and its numbers."""

    change: str
    base: Any
    concept: int
    right: float = 0.0
    down: float = 0.0
    factor: float = 1.0


class Frame(NamedTuple):
    """The state of a search: its steps so far, those since the goal moved last and their total, the picture and the
    maps' distance.
    """

    number: int
    step: int
    of: int
    picture: Image.Image
    distance: float


@dataclass(frozen=True)
class Said:
    """The model's answers about a picture: for each question the best class and its probability.

    If the picture shows no object, the answer is NOTHING, without a probability.
    """

    question: str
    answer: str
    probability: float | None

    def __str__(self) -> str:
        return self.answer if self.probability is None else f"{self.answer} {self.probability:.0%}"


@dataclass(frozen=True)
class Following(Schedule):
    """The schedule LIVE, counted from the step at which the goal moved last, the newest of `moved`."""

    n_steps: int = MOST
    rate: float = LIVE.rate
    moved: list[int] = field(default_factory=lambda: [0])

    def at(self, step: int) -> float:
        """Return the learning rate of one step."""
        return LIVE.at(min(step - self.moved[-1], LIVE.n_steps - 1))


class Workbench:
    """The picture that a session's generator is painting.

    latents: the current latent, None before the first. first: latents at the start. distance: that of the maps
    from the last requested ones (see lens.invert.map_distance). kept: stored latents. painted: latents of the
    pictures added to the session's images, by their index there.
    """

    def __init__(
        self, state: State, guided: Guided, images: ImageTopic, ablation: AblationTopic, seed: int = 0
    ) -> None:
        self._state, self._guided, self._images, self._ablation = state, guided, images, ablation
        self.seed = seed
        self.kept: list[Any] = []
        self.latents: Any = None
        self.first: Any = None
        self.distance = 0.0
        self._asked: Callable[[], float] = float
        self._edit: Asked | None = None
        # a generator, latents, and their maps
        self._held: tuple[Any, Any, invert.Maps] = (None, None, {})
        self._before: list[Said] | None = None

    @property
    def asked(self) -> float:
        """The distance of the maps from the last requested ones if nothing had been changed."""
        return self._asked()

    @property
    def generator(self) -> Any:
        """The generator that paints. Raises ValueError if there is none."""
        return self._guided.generator

    @property
    def painted(self) -> dict[int, Any]:
        return self._state.painted

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the generator's classes; () for a generator without classes."""
        return tuple(getattr(self.generator, "classes", ()))

    @property
    def label(self) -> str:
        """The class that is painted, "" for a generator without classes."""
        label = getattr(self.latents, "label", None)
        return "" if label is None else self.classes[int(label)]

    # -- beginning -----------------------------------------------------------------------------------------------

    def random(self, label: str | int | None = None) -> None:
        """Start from the next random latent, of a given class or of any."""
        self.seed += 1
        options = {} if label is None else {"label": label}
        self.begin(self.generator.sample(1, seed=self.seed, **options))

    def begin(self, latents: Any) -> None:
        """Start from given latents."""
        self.first = self.latents = latents
        self._asked, self.distance, self._edit = float, 0.0, None
        self._before = None

    def from_image(
        self, image: int | None = None, progress: Callable[[Frame], bool | None] | None = None
    ) -> None:
        """Start from an image of the session, which is inverted unless it was painted here.

        The search ends early if progress(frame) returns False. Raises ValueError if no image is selected.
        """
        if image in self.painted:
            return self.begin(self.painted[image])

        def watch(step: Step) -> bool | None:
            return None if progress is None else progress(_frame(step, step.number, step.of))

        found = self._guided.invert(image, schedule=INVERSION, progress=watch)
        return self.begin(found.latents)

    # -- changing ------------------------------------------------------------------------------------------------

    def change(
        self, change: str, concept: int = EVERY, factor: float = 1.0, schedule: Schedule | None = None
    ) -> Iterator[Frame]:
        """Run the search of session.generator.edit and yield its frames; stop iterating to keep the current state.

        change, factor: as there. concept: one, or EVERY. schedule: default LIVE.
        """
        base, chosen = self.latents, None if concept == EVERY else [concept]
        how = {"factor": factor, "schedule": schedule or LIVE}
        self._edit = Asked(change, base, concept, factor=factor)
        for step in self._guided.edit_steps(base, change, chosen, **how):
            self.latents = with_numbers(base, step.latents)
            self.distance = float(step.objectives.mean())
            if step.number == 0:
                self._asked = partial(float, self.distance)
            yield _frame(step, step.number, step.of)

    def follow(self, goal: Goal | Callable[[], Goal]) -> Iterator[Frame]:
        """Search latents for what a drag requests and yield the frames; stop iterating to keep the current state.

        goal: the goal, or a function that returns the current goal. A moving goal is followed without a restart,
        and the search ends LIVE.n_steps after its last move. Its concept must not change.
        """
        now = goal() if callable(goal) else goal
        chosen, others = self._compared(now.concept)
        targets: dict[str, Tensor] = {}
        self._aim(now, targets, chosen, others)
        schedule = Following()
        steps = invert.search(
            searching.generate_from(self.generator, now.base),
            numbers_of(self.latents),
            target_maps=targets,
            pairs=[*chosen, *others],
            alpha=editing.PRIOR,
            still=editing.THERE,
            schedule=schedule,
        )
        for step in with_spare_core(steps):
            since = step.number - schedule.moved[-1]
            self.latents = with_numbers(now.base, step.latents)
            self.distance = float(step.objectives.mean())
            yield _frame(step, since, LIVE.n_steps)
            asked = goal() if callable(goal) else goal
            if not asked.same(now):
                now = asked
                self._aim(now, targets, chosen, others)
                schedule.moved.append(step.number + 1)
            elif since >= LIVE.n_steps:
                return

    def _compared(self, concept: int) -> tuple[tuple[invert.UnitPairs, ...], tuple[invert.UnitPairs, ...]]:
        """Return the units that a goal changes, and those that should stay."""
        guides, units = self._guided.guides, self.units(concept)
        if units is None:
            return guides.own, ()
        chosen = guides.of(units)
        return chosen, guides.without(chosen)

    @torch.no_grad()
    @spare_core()
    def _aim(self, goal: Goal, targets: dict[str, Tensor], chosen: Any, others: Any) -> None:
        """Write the maps that a goal requests into `targets`, which a running search reads.

        Only the last of many goals is measured, on demand.
        """
        self._edit = Asked("zoom", *goal)
        maps = self._recorded(goal.base)
        wanted = editing.asked_maps(maps, chosen, "zoom", goal.right, goal.down, goal.factor)
        self._asked = lru_cache(lambda: float(invert.map_distance(maps, wanted, [*chosen, *others]).mean()))
        targets.update(wanted)

    def _recorded(self, latents: Any) -> invert.Maps:
        """Return the generator's maps of latents; many changes of the picture shown last reuse them."""
        generator, known, maps = self._held
        if generator is not self.generator or known is not latents:
            maps = self.generator.maps(latents)
            self._held = self.generator, latents, maps
        return maps

    # -- what is to be seen --------------------------------------------------------------------------------------

    def units(self, concept: int) -> list[tuple[str, int]] | None:
        """Return (layer, unit) of one concept, None for EVERY. Raises ValueError for an unknown concept."""
        return self._guided.units_of(None if concept == EVERY else [concept])

    @torch.no_grad()
    def picture(self, latents: Any = None) -> Image.Image:
        """Return the picture of latents, by default the current ones."""
        return as_image(self.generator.images(self.latents if latents is None else latents)[0])

    @torch.no_grad()
    def maps(self) -> np.ndarray:
        """Return every concept's map on the picture, [concept, rows, cols], in deviations from its mean over
        pictures.

        Each is the mean over a concept's units, SIDE x SIDE.
        """
        recorded = self._recorded(self.latents)
        by_unit: dict[tuple[str, int], Tensor] = {}
        for group in self._guided.guides.own:
            scale = torch.where(group.std_a > 0, group.std_a, torch.inf)[:, None, None]
            found = recorded[group.layer_a][0, group.units_a].to(group.mean_a)
            found = F.interpolate(((found - group.mean_a[:, None, None]) / scale)[None], SIDE, mode="area")[0]
            by_unit |= {
                (group.layer_a, unit): one for unit, one in zip(group.units_a.tolist(), found, strict=True)
            }
        concepts = self._guided.concepts()
        return (
            torch.stack([torch.stack([by_unit[unit] for unit in one.units]).mean(0) for one in concepts])
            .cpu()
            .numpy()
        )

    def before(self) -> list[Said]:
        """Return the model's answers about the initial picture."""
        if self._before is None:
            self._before = self._said_of(self.first)
        return self._before

    def now(self) -> list[Said]:
        """Return the model's answers about the current picture."""
        return self.before() if self.latents is self.first else self._said_of(self.latents)

    def _said_of(self, latents: Any) -> list[Said]:
        found = self.said(self.picture(latents))
        if not self.empty(latents):
            return found
        return [
            Said(one.question, NOTHING if one.question == "kind" else "–", None)
            if one.question in OF_OBJECTS
            else one
            for one in found
        ]

    def empty(self, latents: Any = None) -> bool:
        """Return whether the picture of latents, by default the current ones, shows no object: by the true scene if
        the generator knows it, else by the locator of the model's bundle; False if there is neither.
        """
        latents = self.latents if latents is None else latents
        if hasattr(self.generator, "true_scenes"):
            return int(self.generator.true_scenes(latents).count[0]) == 0
        located = self._located(latents)
        return located is not None and int(located.count[0]) == 0

    def scene(self, latents: Any = None) -> dict[str, str] | None:
        """Return the latents' true scene in words, by default the current ones'; None if it is unknown."""
        described = getattr(self.generator, "described", None)
        return None if described is None else described(self.latents if latents is None else latents)

    def verdict(self) -> verdicts.Verdict | None:
        """Return whether the last edit did what was requested; None if nothing was.

        An edit of everything is judged by the true scene, or by the bundle's locator, as far as these can; that of one
        concept, which may be any part of a picture, by the maps.
        """
        edit = self._edit
        if edit is None or not self.asked:
            return None
        reached, numbers = 1 - self.distance / self.asked, (edit.right, edit.down, edit.factor)
        if edit.concept == EVERY:
            if hasattr(self.generator, "judged"):
                parts = self.generator.judged(edit.base, self.latents, edit.change, *numbers)
                if parts is not None:
                    return verdicts.of_parts(parts, edit.change, verdicts.TRUTH, reached)
            before, after = self._located(edit.base), self._located(self.latents)
            seen = before and verdicts.by_locator(before, after, edit.change, *numbers)
            if seen:
                return verdicts.of_parts(seen, edit.change, verdicts.LOCATOR, reached)
        return verdicts.by_maps(reached)

    @torch.no_grad()
    def _located(self, latents: Any) -> Any:
        """Return the locator's result for the picture of latents; None without a locator."""
        bundle = self._state.model.bundle
        if bundle is None or bundle.locate is None:
            return None
        return bundle.locate(self.generator.images(latents).clamp(0, 1))

    def said(self, picture: Image.Image) -> list[Said]:
        """Return the model's answers about a picture: class, colour, place, as far as there are names for them."""
        model, ablation = self._state.model, self._ablation
        embedding = model.trace(picture, tokens=False).embedding
        unit = embedding[0] / embedding[0].norm()
        asked: list[tuple[str, tuple[str, ...], Tensor]] = []
        if self.classes:
            asked.append(("kind", self.classes, self._guided.class_directions(self.classes)))
        for name, task in ablation.tasks().items():
            if name in COMPARED:
                directions = ablation.classifier(task)
                if directions is not None:
                    asked.append((name.removesuffix("s"), task.classes, directions))
        found = []
        for question, answers, directions in asked:
            shares = model.probabilities(directions.to(unit) @ unit)
            best = int(shares.argmax())
            found.append(Said(question, answers[best], float(shares[best])))
        return found

    # -- keeping -------------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Store the current picture."""
        self.kept.append(self.latents)

    def back_to(self, place: int) -> None:
        """Continue from a stored picture."""
        self.begin(self.kept[checks.within("a kept picture", place, len(self.kept))])

    def add_to_session(self) -> int:
        """Add the picture to the session's images; return its index there."""
        image = self._images.add(self.picture(), f"generated {self.label}".strip(), drawn=True)
        self.painted[image] = self.latents
        return image


def _frame(step: Step, since: int, of: int) -> Frame:
    return Frame(step.number, since, of, as_image(step.images[0]), float(step.objectives.mean()))

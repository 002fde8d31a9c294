"""One picture in the making: begin from a latent, a class or an image, and drag its shared units (thesis 4.4)."""

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
"""The desk's searches: short enough to follow a hand; the thesis's 500 steps are for one that nobody watches."""
INVERSION = Schedule(n_steps=120, rate=0.1)
COMPARED = ("colours", "backgrounds")
"""Tasks of the images that a picture is asked about, besides the generator's own classes."""
EVERY = -1
"""The concept that stands for all of them."""
MOST = 100_000
"""Steps of a search whose goal keeps moving."""
NOTHING = "nothing here"
"""The kind of a picture without an object, by its true scene or a locator: no class of a model stands for that."""
OF_OBJECTS = ("kind", "colour")
"""What is asked about an object, and has no answer where there is none."""
SIDE = 32
"""Rows and columns of a concept's map."""


class Goal(NamedTuple):
    """Where a hand has dragged the maps of `base`, those of one concept or of all (EVERY), and how it zoomed them."""

    base: Any
    concept: int
    right: float = 0.0
    down: float = 0.0
    factor: float = 1.0

    def same(self, other: Goal) -> bool:
        """Whether both ask for the same; latents may be tensors, which == compares number by number."""
        return self.base is other.base and self[1:] == other[1:]


class Asked(NamedTuple):
    """An edit as it was asked last: its name, the latents that it began with, and its numbers."""

    change: str
    base: Any
    concept: int
    right: float = 0.0
    down: float = 0.0
    factor: float = 1.0


class Frame(NamedTuple):
    """Where a search is: its steps so far, those since the goal moved last and how many these will be, the picture
    and the maps' distance."""

    number: int
    step: int
    of: int
    picture: Image.Image
    distance: float


@dataclass(frozen=True)
class Said:
    """What the session's model says of a picture: for each question its best class and that class's probability.

    Where the picture shows no object there is none to name: NOTHING, without a probability.
    """

    question: str
    answer: str
    probability: float | None

    def __str__(self) -> str:
        return self.answer if self.probability is None else f"{self.answer} {self.probability:.0%}"


@dataclass(frozen=True)
class Following(Schedule):
    """LIVE, counted from the step at which the goal moved last, the newest of `moved`."""

    n_steps: int = MOST
    rate: float = LIVE.rate
    moved: list[int] = field(default_factory=lambda: [0])

    def at(self, step: int) -> float:
        """The learning rate of one step."""
        return LIVE.at(min(step - self.moved[-1], LIVE.n_steps - 1))


class Workbench:
    """The picture that a session's generator is painting.

    latents: what is painted now (one latent), None before the first. first: latents when it began. distance: of the
    maps from those asked last (see lens.invert.map_distance). kept: latents put aside. painted: latents of the pictures
    put among the session's images, by their index there.
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
        self._held: tuple[Any, Any, invert.Maps] = (
            None,
            None,
            {},
        )  # a generator, latents, and its maps of them
        self._before: list[Said] | None = None

    @property
    def asked(self) -> float:
        """How far the maps would be from those asked last had nothing been changed."""
        return self._asked()

    @property
    def generator(self) -> Any:
        """The generator that paints; ValueError where there is none."""
        return self._guided.generator

    @property
    def painted(self) -> dict[int, Any]:
        return self._state.painted

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the generator's classes; () for one that has none."""
        return tuple(getattr(self.generator, "classes", ()))

    @property
    def label(self) -> str:
        """The class that is painted, "" for a generator without classes."""
        label = getattr(self.latents, "label", None)
        return "" if label is None else self.classes[int(label)]

    # -- beginning -----------------------------------------------------------------------------------------------

    def random(self, label: str | int | None = None) -> None:
        """Begin from the next random latent, of a class or of any."""
        self.seed += 1
        options = {} if label is None else {"label": label}
        self.begin(self.generator.sample(1, seed=self.seed, **options))

    def begin(self, latents: Any) -> None:
        """Begin from given latents."""
        self.first = self.latents = latents
        self._asked, self.distance, self._edit = float, 0.0, None
        self._before = None

    def from_image(
        self, image: int | None = None, progress: Callable[[Frame], bool | None] | None = None
    ) -> None:
        """Begin from an image of the session: inverted, unless it was painted here.

        The search ends early when progress(frame) returns False. Raises ValueError where no image is selected.
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
        """The search of session.generator.edit, one frame at a time; stop iterating to leave it there.

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
        """Search the latents for what a hand asks, one frame at a time; stop iterating to leave them there.

        goal: what is asked, or a function that says what is asked by now: a goal that moves is followed without
        beginning anew, and the search ends LIVE.n_steps after it moved last. Its concept must stay.
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
        """The units that a goal changes, and those that it asks to stay."""
        guides, units = self._guided.guides, self.units(concept)
        if units is None:
            return guides.own, ()
        chosen = guides.of(units)
        return chosen, guides.without(chosen)

    @torch.no_grad()
    @spare_core()
    def _aim(self, goal: Goal, targets: dict[str, Tensor], chosen: Any, others: Any) -> None:
        """Write the maps that a goal asks for into `targets`, which a running search reads.

        Only the last of many goals is measured, when somebody asks.
        """
        self._edit = Asked("zoom", *goal)
        maps = self._recorded(goal.base)
        wanted = editing.asked_maps(maps, chosen, "zoom", goal.right, goal.down, goal.factor)
        self._asked = lru_cache(lambda: float(invert.map_distance(maps, wanted, [*chosen, *others]).mean()))
        targets.update(wanted)

    def _recorded(self, latents: Any) -> invert.Maps:
        """The generator's maps of latents; a hand asks for many changes of the picture that was shown last."""
        generator, known, maps = self._held
        if generator is not self.generator or known is not latents:
            maps = self.generator.maps(latents)
            self._held = self.generator, latents, maps
        return maps

    # -- what is to be seen --------------------------------------------------------------------------------------

    def units(self, concept: int) -> list[tuple[str, int]] | None:
        """(layer, unit) of one concept, None for EVERY; ValueError for one that is not there."""
        return self._guided.units_of(None if concept == EVERY else [concept])

    @torch.no_grad()
    def picture(self, latents: Any = None) -> Image.Image:
        """The picture of latents; default that of now."""
        return as_image(self.generator.images(self.latents if latents is None else latents)[0])

    @torch.no_grad()
    def maps(self) -> np.ndarray:
        """Every concept's map on the picture, [concept, rows, cols], in deviations from its mean over pictures.

        The mean over a concept's units, SIDE x SIDE.
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
        """What the model says of the picture as it began."""
        if self._before is None:
            self._before = self._said_of(self.first)
        return self._before

    def now(self) -> list[Said]:
        """What the model says of the picture as it is."""
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
        """Whether the picture of latents, default that of now, shows no object: by the true scene where the generator
        knows it, else by the locator of the model's bundle; False where neither is there."""
        latents = self.latents if latents is None else latents
        if hasattr(self.generator, "true_scenes"):
            return int(self.generator.true_scenes(latents).count[0]) == 0
        located = self._located(latents)
        return located is not None and int(located.count[0]) == 0

    def scene(self, latents: Any = None) -> dict[str, str] | None:
        """The true scene of latents in words, default that of now; None where the generator does not know it."""
        described = getattr(self.generator, "described", None)
        return None if described is None else described(self.latents if latents is None else latents)

    def verdict(self) -> verdicts.Verdict | None:
        """Whether the edit that was asked last did what was asked; None where nothing was.

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
        """What the bundle's locator sees on the picture of latents; None without one."""
        bundle = self._state.model.bundle
        if bundle is None or bundle.locate is None:
            return None
        return bundle.locate(self.generator.images(latents).clamp(0, 1))

    def said(self, picture: Image.Image) -> list[Said]:
        """What the session's model says of a picture: class, colour, place, as far as there are names for them."""
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
        """Put the picture aside."""
        self.kept.append(self.latents)

    def back_to(self, place: int) -> None:
        """Go on from a picture that was put aside."""
        self.begin(self.kept[checks.within("a kept picture", place, len(self.kept))])

    def add_to_session(self) -> int:
        """Put the picture among the session's images; returns its index there."""
        image = self._images.add(self.picture(), f"generated {self.label}".strip(), drawn=True)
        self.painted[image] = self.latents
        return image


def _frame(step: Step, since: int, of: int) -> Frame:
    return Frame(step.number, since, of, as_image(step.images[0]), float(step.objectives.mean()))

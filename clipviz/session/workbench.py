"""One picture in the making: begin from a latent, a class or an image, and drag its shared units (thesis 4.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipviz.analysis import generation
from clipviz.lens.invert import Schedule
from clipviz.session import ablation, checks
from clipviz.session import generation as shared

if TYPE_CHECKING:
    from clipviz.lens.invert import Step
    from clipviz.session.core import Session

LIVE = Schedule(n_steps=48, rate=0.1, ramp_up=0.0, ramp_down=0.4)
"""Short enough to follow a hand; the thesis's 500 steps are for a search that nobody watches."""
INVERSION = Schedule(n_steps=120, rate=0.1)
COMPARED = ("colours", "backgrounds")
"""Tasks of the images that a picture is asked about, besides the generator's own classes."""
EVERY = -1
"""The concept that stands for all of them."""


class Goal(NamedTuple):
    """What the maps should become: a change of those of `base`, of one concept or of all (EVERY)."""

    base: Any
    concept: int
    change: str
    right: float = 0.0
    down: float = 0.0
    factor: float = 1.0


class Frame(NamedTuple):
    """Where a search is: its step, how many there are, the picture [3, rows, cols] and the maps' distance."""

    step: int
    of: int
    picture: Tensor
    distance: float


@dataclass(frozen=True)
class Said:
    """What the session's model says of a picture: for each question its best class and that class's probability."""

    question: str
    answer: str
    probability: float


class Workbench:
    """The picture that a session's generator is painting.

    latents: what is painted now (one latent). first: latents when it began. asked: distance of the maps before the last
    change, distance: after it (see lens.invert.map_distance). kept: latents put aside.
    """

    def __init__(self, session: Session, seed: int = 0) -> None:
        self.session = session
        self.seed = seed
        self.kept: list[Any] = []
        self.latents: Any = None
        self.first: Any = None
        self.asked = self.distance = 0.0

    @property
    def generator(self) -> Any:
        return shared.generator_of(self.session)

    def random(self, label: str | int | None = None) -> None:
        """Begin from the next random latent, of a class or of any."""
        self.seed += 1
        options = {} if label is None else {"label": label}
        self.begin(self.generator.sample(1, seed=self.seed, **options))

    def begin(self, latents: Any) -> None:
        """Begin from given latents."""
        self.first = self.latents = latents
        self.asked = self.distance = 0.0

    def from_image(self, image: int, progress: Callable[[Frame], bool | None] | None = None) -> None:
        """Begin from the inversion of an image of the session; it ends early when progress(frame) returns False."""

        def watch(step: Step) -> bool | None:
            return None if progress is None else progress(frame_of(step))

        self.begin(self.session.invert(image, schedule=INVERSION, progress=watch).latents)

    def follow(self, goal: Goal) -> Iterator[Frame]:
        """Search the latents for a goal from where they are, a frame at a time; stop iterating to leave it there."""
        units = self.units(goal.concept)
        steps = generation.edit_steps(
            self.generator,
            goal.base,
            shared.guides(self.session),
            goal.change,
            units=units,
            right=goal.right,
            down=goal.down,
            factor=goal.factor,
            start=self.latents,
            schedule=LIVE,
        )
        for step in steps:
            distance = float(step.objectives.mean())
            if step.number == 0:
                self.asked = distance
            self.latents, self.distance = generation.with_numbers(goal.base, step.latents), distance
            yield frame_of(step)

    # -- what is to be seen --------------------------------------------------------------------------------------

    def units(self, concept: int) -> list[tuple[str, int]] | None:
        """(layer, unit) of one concept, None for EVERY; ValueError for one that is not there."""
        return None if concept == EVERY else shared.units_of(self.session, [concept])

    @torch.no_grad()
    def picture(self, latents: Any = None) -> Tensor:
        """The picture of latents, [3, rows, cols] in 0..1; default that of now."""
        return self.generator.images(self.latents if latents is None else latents)[0].clamp(0, 1)

    def maps(self) -> np.ndarray:
        """Every concept's map on the picture, [concept, rows, cols] in deviations from its mean, at one size."""
        side = self.generator.side // 2
        recorded = self.generator.maps(self.latents)
        parts = []
        for group in shared.guides(self.session).own:
            scale = torch.where(group.std_a > 0, group.std_a, torch.inf)[:, None, None]
            found = recorded[group.layer_a][0, group.units_a].to(group.mean_a)
            found = (found - group.mean_a[:, None, None]) / scale
            parts.append(torch.nn.functional.interpolate(found[None], side, mode="area")[0])
        return torch.cat(parts).cpu().numpy()

    def said(self, picture: Tensor) -> list[Said]:
        """What the session's model says of a picture, beside the answers that it could have given."""
        session = self.session
        embedding = session.model.trace(as_image(picture), tokens=False).embedding
        unit = embedding[0] / embedding[0].norm()
        asked: list[tuple[str, tuple[str, ...], Tensor]] = []
        classes = tuple(getattr(self.generator, "classes", ()))
        if classes:
            asked.append(("kind", classes, shared.class_directions(session, classes)))
        for name, task in session.tasks().items():
            if name in COMPARED:
                directions = ablation.directions(session, task)
                if directions is not None:
                    asked.append((name.removesuffix("s"), task.classes, directions))
        found = []
        for question, answers, directions in asked:
            shares = session.model.probabilities(directions.to(unit) @ unit)
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
        label = getattr(self.latents, "label", None)
        name = "generated" if label is None else f"generated {self.generator.classes[int(label)]}"
        return self.session.add_image(as_image(self.picture()), name, drawn=True)


def frame_of(step: Step) -> Frame:
    """One step of a search of one picture."""
    return Frame(step.number, step.of, step.images[0], float(step.objectives.mean()))


def as_image(picture: Tensor) -> Image.Image:
    """[3, rows, cols] in 0..1 as a picture."""
    return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())

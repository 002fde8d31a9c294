"""What every kind of question has in common, and questions that are answered by choosing one of their options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from clipviz.panels.core import pictures
from clipviz.panels.quiz.sent import Kind, QuizArrays, QuizAsked, QuizOption, QuizTold

if TYPE_CHECKING:
    from clipviz.figures import lessons
    from clipviz.session import Session

Answer = tuple[int, ...]
"""An answer: as many whole numbers as its question has parts; () for none."""


class Asked(ABC):
    """A question of any kind: how it is asked, in the browser and on paper, and how its answers are judged.

    words: the question. pictures: the images shown with it. because: the explanation shown after the answer. unit: the
    unit in question, such as "head L4·H6". truth: the truth in the world, "" if unknown. `code_part`, `rule`, `before`
    and `on_paper` are shown before the answer and do not depend on what is right.
    """

    kind: ClassVar[Kind]
    _named: ClassVar[str] = "an option"
    words: str
    pictures: tuple[int, ...]
    because: str
    unit: str
    truth: str

    @property
    @abstractmethod
    def parts(self) -> tuple[int, ...]:
        """The number of values that each whole number of an answer can have, counted from 0."""

    @property
    @abstractmethod
    def best(self) -> Answer:
        """The answer nearest to what was measured."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """The probability that a guess is right."""

    @property
    @abstractmethod
    def rule(self) -> str:
        """A sentence that says what counts as right."""

    @property
    @abstractmethod
    def code_part(self) -> object:
        """What identifies the question in the code of its quiz."""

    @abstractmethod
    def is_right(self, answer: int | Sequence[int]) -> bool:
        """Return whether an answer counts as right; () and (-1,), which stand for no answer, do not."""

    @abstractmethod
    def verdict(self, answer: Answer) -> str:
        """Return a sentence about an answer."""

    @abstractmethod
    def before(self, session: Session) -> tuple[QuizAsked, QuizArrays]:
        """Return what the browser is sent with the question."""

    @abstractmethod
    def after(self, answer: Answer, session: Session) -> tuple[QuizTold, QuizArrays]:
        """Return what the browser is sent with the answer."""

    @abstractmethod
    def on_paper(self, picture: Callable[[int], np.ndarray]) -> lessons.Asked:
        """Return the question for a printed page. picture: returns the pixels of an image."""

    @property
    def shown(self) -> tuple[int, ...]:
        """The images of the question's sheet of thumbnails, those of `pictures` first."""
        return self.pictures

    @property
    def guess(self) -> str:
        """A sentence that says how often a guess is right."""
        return f"A guess is right with a probability of {self.chance:.1%}."

    @property
    def told(self) -> str:
        """What is said of the measurement after the answer."""
        return self.because

    @property
    def key(self) -> str:
        """The answer on paper."""
        return self.told

    def read(self, given: int | Sequence[int]) -> Answer:
        """Return a possible answer as a tuple. Raises ValueError for an answer that cannot be given."""
        answer = (given,) if isinstance(given, int) else tuple(given)
        if len(answer) != len(self.parts):
            numbers = f"{len(self.parts)} whole number{'s' * (len(self.parts) > 1)}"
            raise ValueError(f"expected {numbers} for an answer, got {len(answer)}: {_short(answer)}")
        for value, n in zip(answer, self.parts, strict=True):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < n:
                raise ValueError(f"expected {self._named} within 0..{n - 1}, got {_short(value)}")
        return answer

    def tally(self, answers: Sequence[Answer]) -> list[int]:
        """Count the answers of a class: how many gave each value."""
        return [sum(answer == (value,) for answer in answers) for value in range(self.parts[0])]


@dataclass(frozen=True)
class Option:
    """One option of a question: words, pictures (indices of images), or a map [rows, cols] over a picture."""

    words: str = ""
    pictures: tuple[int, ...] = ()
    heatmap: np.ndarray | None = None


@dataclass(frozen=True)
class Question(Asked):
    """A question, the pictures shown with it, its options, the index of the right one, and what was measured.

    because: the explanation shown after the answer. unit: the unit in question, such as "head L4·H6". truth: the
    truth in the world, "" if unknown. An answer is the index of an option.
    """

    words: str
    pictures: tuple[int, ...]
    options: tuple[Option, ...]
    right: int
    because: str
    unit: str = ""
    truth: str = ""

    kind: ClassVar[Kind] = "choice"

    def __post_init__(self) -> None:
        n_options = len(self.options)
        if n_options < 2 or not 0 <= self.right < n_options:
            raise ValueError(
                f"expected a right option among wrong ones, got {n_options} options and right={self.right}; count "
                "options from 0"
            )

    @property
    def parts(self) -> tuple[int, ...]:
        return (len(self.options),)

    @property
    def best(self) -> Answer:
        return (self.right,)

    @property
    def chance(self) -> float:
        return 1 / len(self.options)

    @property
    def rule(self) -> str:
        return self.guess

    @property
    def code_part(self) -> object:
        return self.words, self.pictures, [(o.words, o.pictures, _shape(o)) for o in self.options]

    @property
    def shown(self) -> tuple[int, ...]:
        return (*self.pictures, *(image for option in self.options for image in option.pictures))

    @property
    def key(self) -> str:
        return f"{_letter(self.right)}. {self.because}"

    def is_right(self, answer: int | Sequence[int]) -> bool:
        return answer == self.right if isinstance(answer, int) else tuple(answer) == self.best

    def verdict(self, answer: Answer) -> str:
        return "Right." if self.is_right(answer) else f"Not this one: the answer is {_letter(self.right)}."

    def before(self, session: Session) -> tuple[QuizAsked, QuizArrays]:
        options: list[QuizOption] = []
        place = len(self.pictures)
        for option in self.options:
            options.append({"words": option.words, "tiles": [*range(place, place + len(option.pictures))]})
            place += len(option.pictures)
        maps = self._maps
        if not maps:
            return {"options": options, "map": []}, {}
        return {"options": options, "map": list(maps[0].shape)}, {
            "maps": np.stack(maps).astype(np.float32),
            "picture": pictures.picture(session.images, self.pictures[0]),
        }

    def after(self, answer: Answer, session: Session) -> tuple[QuizTold, QuizArrays]:
        mask = session.maps.truth(self.pictures[0]) if self._maps else None
        return ({}, {}) if mask is None else ({"mask": list(mask.shape)}, {"outline": mask.astype(np.uint8)})

    def on_paper(self, picture: Callable[[int], np.ndarray]) -> lessons.Asked:
        from clipviz.figures import lessons

        choices = [lessons.Choice(o.words, [*map(picture, o.pictures)], o.heatmap) for o in self.options]
        return lessons.Asked(self.words, [*map(picture, self.pictures)], choices)

    @property
    def _maps(self) -> list[np.ndarray]:
        return [option.heatmap for option in self.options if option.heatmap is not None]


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 80 else said[:77] + "..."


def _letter(option: int) -> str:
    return chr(65 + option)


def _shape(option: Option) -> tuple[int, ...]:
    return () if option.heatmap is None else option.heatmap.shape

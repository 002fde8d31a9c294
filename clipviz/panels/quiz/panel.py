"""A quiz in the browser: predict, commit, and then read what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import traitlets

from clipviz.panels.core import pictures
from clipviz.panels.core.base import ASKED, FIXED, PASSING, Arrays, Panel, View
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style
from clipviz.session import Session
from clipviz.values import Selection
from clipviz.worker import Stale

TILE = 96
"""Side of a picture in the sheet, in pixels."""

COLUMNS = 6

if TYPE_CHECKING:

    class Choice(Protocol):
        """An option: see clipviz.lessons.Option."""

        @property
        def words(self) -> str: ...
        @property
        def pictures(self) -> Sequence[int]: ...
        @property
        def heatmap(self) -> np.ndarray | None: ...

    class Asked(Protocol):
        """A question: see clipviz.lessons.Question."""

        @property
        def words(self) -> str: ...
        @property
        def pictures(self) -> Sequence[int]: ...
        @property
        def options(self) -> Sequence[Choice]: ...
        @property
        def right(self) -> int: ...
        @property
        def because(self) -> str: ...
        @property
        def truth(self) -> str: ...
        @property
        def on_scale(self) -> bool: ...
        @property
        def chance(self) -> float: ...
        def is_right(self, option: int) -> bool: ...

    class Answered(Protocol):
        """Questions and the answers given to them: see clipviz.lessons.Quiz."""

        given: list[int]

        @property
        def questions(self) -> Sequence[Asked]: ...
        @property
        def answers_code(self) -> str: ...
        def answer(self, question: int, option: int) -> str: ...
        def score(self) -> object: ...


class Quiz(Panel):
    """A quiz as a panel; `clipviz.Quiz(...)` as the last line of a cell shows it.

    A question can be answered once, and then the next one is shown. The right option is sent to the browser only
    with the answer. size: "lecture" has text large enough for a projector.
    """

    name = "quiz"
    cost = 0
    _esm = script("quiz")
    _css = style("quiz")

    at = traitlets.Int(0, min=0, help="the question shown, from 0").tag(**ASKED, **PASSING)
    size = traitlets.Enum(("normal", "lecture"), "normal").tag(**FIXED, **PASSING)

    def __init__(self, session: Session, quiz: Answered, **options: Any) -> None:
        self.quiz = quiz
        super().__init__(session, **options)

    @traitlets.validate("at")
    def _within(self, proposal: Any) -> int:
        return int(min(proposal["value"], self.n_given, len(self.quiz.questions) - 1))

    @property
    def n_given(self) -> int:
        """The number of questions answered, which is also the index of the first unanswered one."""
        return next((at for at, given in enumerate(self.quiz.given) if given < 0), len(self.quiz.given))

    def looks_at(self, selection: Selection) -> Any:
        return tuple(self.quiz.given)

    def compute(self, selection: Selection, stale: Stale) -> tuple[View, Arrays]:
        questions, given = self.quiz.questions, self.quiz.given
        at, asked = self.at, questions[self.at]
        shown = [*asked.pictures, *(image for option in asked.options for image in option.pictures)]
        sprite, columns = self.board.images.sprite(shown, TILE, columns=COLUMNS) if shown else (b"", 1)
        view: View = {
            "at": at,
            "states": [_state(one, answer) for one, answer in zip(questions, given, strict=True)],
            "words": asked.words,
            "tiles": list(range(len(asked.pictures))),
            "names": [pictures.title(self.board.images, image) for image in shown],
            "columns": columns,
            "options": _options(asked),
            "on_scale": asked.on_scale,
            "map": [],
            "chance": asked.chance,
            "score": str(self.quiz.score()) if self.n_given else "",
            "code": self.quiz.answers_code if self.n_given else "",
            "size": self.size,
        }
        arrays: Arrays = {"sprite": sprite}
        maps = [option.heatmap for option in asked.options if option.heatmap is not None]
        if maps:
            view["map"] = list(maps[0].shape)
            arrays["maps"] = np.stack(maps).astype(np.float32)
            arrays["picture"] = pictures.picture(self.session.images, asked.pictures[0])
        if given[at] >= 0:
            view["answer"] = _answer(asked, given[at])
            mask = self.session.maps.truth(asked.pictures[0]) if maps else None
            if mask is not None:
                view["mask"] = list(mask.shape)
                arrays["outline"] = mask.astype(np.uint8)
        return view, arrays

    def act(self, request: Request) -> None:
        """Carry out "commit": the answer to a question."""
        if request.action == "commit":
            self.quiz.answer(request.number("question"), request.number("option"))
        else:
            super().act(request)


def _state(asked: Asked, given: int) -> str:
    return "open" if given < 0 else "right" if asked.is_right(given) else "wrong"


def _options(asked: Asked) -> list[dict[str, Any]]:
    found, place = [], len(asked.pictures)
    for option in asked.options:
        found.append({"words": option.words, "tiles": list(range(place, place + len(option.pictures)))})
        place += len(option.pictures)
    return found


def _answer(asked: Asked, given: int) -> dict[str, Any]:
    return {
        "chosen": given,
        "fits": asked.is_right(given),
        "best": asked.right,
        "right": [at for at in range(len(asked.options)) if asked.is_right(at)],
        "because": asked.because,
        "truth": asked.truth,
    }

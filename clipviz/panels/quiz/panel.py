"""A quiz in the browser: predict, commit, and then read what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import traitlets

from clipviz.panels.core import pictures
from clipviz.panels.core.base import Panel
from clipviz.panels.core.options import asked, fixed
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.stored import Answer, Kept, Stored
from clipviz.panels.quiz.sent import QuizAnswer, QuizArrays, QuizOption, QuizView
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
        def measured(self) -> str: ...
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
    with the answer.
    """

    name = "quiz"
    cost = 0
    _esm = script("quiz")
    _css = style("quiz")

    at: int = asked(default=0, low=0, help="The question shown, from 0.", lasting=False)
    size: Literal["normal", "lecture"] = fixed(
        default="normal",
        help='The size of the text; "lecture" is large enough for a projector.',
        lasting=False,
    )

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

    def compute(self, selection: Selection, stale: Stale) -> tuple[QuizView, QuizArrays]:
        return self._asked(self.at)

    def stored(self, kept: Kept) -> list[Stored]:
        """A saved page has all questions, to be read and chosen from; what is right is in it where it was told."""

        def everything(_: Selection) -> Answer:
            found = [self._asked(at) for at in range(len(self.quiz.questions))]
            arrays = {
                f"{name} {at}": array for at, (_, own) in enumerate(found) for name, array in own.items()
            }
            return Answer({"saved": [view for view, _ in found]}, arrays)

        return [Stored((), everything)]

    def _asked(self, at: int) -> tuple[QuizView, QuizArrays]:
        questions, given = self.quiz.questions, self.quiz.given
        question = questions[at]
        shown = [*question.pictures, *(image for option in question.options for image in option.pictures)]
        sprite, columns = self.board.images.sprite(shown, TILE, columns=COLUMNS) if shown else (b"", 1)
        view: QuizView = {
            "at": at,
            "states": [_state(one, answer) for one, answer in zip(questions, given, strict=True)],
            "words": question.words,
            "tiles": list(range(len(question.pictures))),
            "names": [pictures.title(self.board.images, image) for image in shown],
            "columns": columns,
            "options": _options(question),
            "on_scale": question.on_scale,
            "map": [],
            "chance": question.chance,
            "score": str(self.quiz.score()) if self.n_given else "",
            "code": self.quiz.answers_code if self.n_given else "",
            "size": self.size,
        }
        arrays: QuizArrays = {"sprite": sprite}
        maps = [option.heatmap for option in question.options if option.heatmap is not None]
        if maps:
            view["map"] = list(maps[0].shape)
            arrays["maps"] = np.stack(maps).astype(np.float32)
            arrays["picture"] = pictures.picture(self.session.images, question.pictures[0])
        if given[at] >= 0:
            view["answer"] = _answer(question, given[at])
            mask = self.session.maps.truth(question.pictures[0]) if maps else None
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


def _state(asked: Asked, given: int) -> Literal["open", "right", "wrong"]:
    return "open" if given < 0 else "right" if asked.is_right(given) else "wrong"


def _options(asked: Asked) -> list[QuizOption]:
    found: list[QuizOption] = []
    place = len(asked.pictures)
    for option in asked.options:
        found.append({"words": option.words, "tiles": list(range(place, place + len(option.pictures)))})
        place += len(option.pictures)
    return found


def _answer(asked: Asked, given: int) -> QuizAnswer:
    return {
        "chosen": given,
        "fits": asked.is_right(given),
        "best": asked.right,
        "measured": asked.measured or asked.options[asked.right].words,
        "right": [at for at in range(len(asked.options)) if asked.is_right(at)],
        "because": asked.because,
        "truth": asked.truth,
    }

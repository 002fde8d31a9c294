"""A quiz in the browser: predict, commit, and then read what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

import traitlets

from clipviz.panels.core import pictures
from clipviz.panels.core.base import Panel
from clipviz.panels.core.options import asked, fixed
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.stored import Answer, Kept, Stored
from clipviz.panels.quiz.sent import Kind, QuizArrays, QuizAsked, QuizTold, QuizView
from clipviz.session import Session
from clipviz.values import Selection
from clipviz.worker import Stale

TILE = 96
"""Side of a picture in the sheet, in pixels."""

COLUMNS = 6

MOST_PARTS = 200
"""The most whole numbers that an answer may consist of."""

if TYPE_CHECKING:

    class Asked(Protocol):
        """A question of any kind: see clipviz.lessons.Asked."""

        kind: ClassVar[Kind]

        @property
        def words(self) -> str: ...
        @property
        def pictures(self) -> Sequence[int]: ...
        @property
        def shown(self) -> Sequence[int]: ...
        @property
        def best(self) -> Sequence[int]: ...
        @property
        def rule(self) -> str: ...
        @property
        def guess(self) -> str: ...
        @property
        def told(self) -> str: ...
        @property
        def truth(self) -> str: ...
        def is_right(self, answer: Sequence[int]) -> bool: ...
        def verdict(self, answer: tuple[int, ...]) -> str: ...
        def before(self, session: Session) -> tuple[QuizAsked, QuizArrays]: ...
        def after(self, answer: tuple[int, ...], session: Session) -> tuple[QuizTold, QuizArrays]: ...

    class Answered(Protocol):
        """Questions and the answers given to them: see clipviz.lessons.Quiz."""

        @property
        def questions(self) -> Sequence[Asked]: ...
        @property
        def given(self) -> Sequence[tuple[int, ...]]: ...
        @property
        def answers_code(self) -> str: ...
        @property
        def shared(self) -> bool: ...
        def answer(self, question: int, answer: Sequence[int]) -> str: ...
        def score(self) -> object: ...


class Quiz(Panel):
    """A quiz as a panel; `clipviz.Quiz(...)` as the last line of a cell shows it.

    A question can be answered once, and then the next one is shown. What is right is sent to the browser only with the
    answer.
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
        return next((at for at, given in enumerate(self.quiz.given) if not given), len(self.quiz.given))

    def looks_at(self, selection: Selection) -> Any:
        return tuple(self.quiz.given), self.quiz.shared

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
        shown = question.shown
        sprite, columns = self.board.images.sprite(shown, TILE, columns=COLUMNS) if shown else (b"", 1)
        own, drawn = question.before(self.session)
        view: QuizView = {
            "at": at,
            "states": [_state(one, answer) for one, answer in zip(questions, given, strict=True)],
            "words": question.words,
            "kind": question.kind,
            "rule": question.rule,
            "tiles": list(range(len(question.pictures))),
            "names": [pictures.title(self.board.images, image) for image in shown],
            "columns": columns,
            "score": str(self.quiz.score()) if self.n_given else "",
            "code": self.quiz.answers_code if self.n_given else "",
            "shared": self.quiz.shared,
            "size": self.size,
        }
        view |= cast(QuizView, own)
        arrays: QuizArrays = {"sprite": sprite, **drawn}
        if given[at]:
            told, drawn = question.after(given[at], self.session)
            view["answer"] = {
                "chosen": list(given[at]),
                "fits": question.is_right(given[at]),
                "best": list(question.best),
                "verdict": question.verdict(given[at]),
                "guess": question.guess,
                "because": question.told,
                "truth": question.truth,
                **told,
            }
            arrays |= drawn
        return view, arrays

    def act(self, request: Request) -> None:
        """Carry out "commit": the answer to a question."""
        if request.action == "commit":
            self.quiz.answer(request.number("question"), request.numbers("answer", MOST_PARTS))
        else:
            super().act(request)


def _state(asked: Asked, given: Sequence[int]) -> Literal["open", "right", "wrong"]:
    return "open" if not given else "right" if asked.is_right(given) else "wrong"

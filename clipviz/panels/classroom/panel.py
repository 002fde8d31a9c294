"""The board of a class: how far it is, what it answered, and, once revealed, what is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import traitlets

from clipviz.panels.classroom.sent import (
    ClassroomArrays,
    ClassroomProgress,
    ClassroomScore,
    ClassroomTruth,
    ClassroomView,
)
from clipviz.panels.core import pictures
from clipviz.panels.core.base import Panel
from clipviz.panels.core.options import asked, fixed, local
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.stored import Answer, Kept, Stored
from clipviz.panels.quiz.panel import COLUMNS, TILE
from clipviz.session import Session
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from clipviz.panels.quiz.panel import Asked as QuizAsked

    class Asked(QuizAsked, Protocol):
        """A question of any kind, as the answers of a class need it: see clipviz.lessons.Asked."""

        @property
        def key(self) -> str: ...
        @property
        def parts(self) -> Sequence[int]: ...
        def tally(self, answers: Sequence[tuple[int, ...]]) -> list[int]: ...

    class Quiz(Protocol):
        @property
        def questions(self) -> Sequence[Asked]: ...

    class Attendance(Protocol):
        @property
        def answers(self) -> Sequence[Sequence[tuple[int, ...]]]: ...
        @property
        def n_unread(self) -> int: ...
        @property
        def trouble(self) -> str: ...

    class Estimate(Protocol):
        @property
        def n(self) -> int: ...
        @property
        def value(self) -> float: ...
        @property
        def low(self) -> float: ...
        @property
        def high(self) -> float: ...

    class Score(Protocol):
        @property
        def right(self) -> Estimate: ...
        @property
        def chance(self) -> float: ...

    class Attended(Protocol):
        """The answers of a class: see clipviz.lessons.Classroom."""

        @property
        def quiz(self) -> Quiz: ...
        @property
        def now(self) -> Attendance: ...
        def look(self) -> bool: ...
        def score(self, questions: Sequence[int]) -> Score: ...


WRONG_RIGHT = ("wrong", "right")


class Classroom(Panel):
    """The answers of a class as a panel; `quiz.classroom(folder)` makes it.

    The browser asks for the folder to be read again every two seconds while the page is visible. What is right is sent
    to it once `reveal` has been called, or the button pressed, and not before.
    """

    name = "classroom"
    cost = 0
    _esm = script("classroom")
    _css = style("classroom")

    at: int = asked(default=0, low=0, help="The question shown, from 0.", lasting=False)
    looks: int = local(
        default=0, low=0, help="How often the browser has asked for the folder.", lasting=False
    )
    size: Literal["normal", "lecture"] = fixed(
        default="normal",
        help='The size of the text; "lecture" is large enough for a projector.',
        lasting=False,
    )

    def __init__(self, session: Session, attended: Attended, **options: Any) -> None:
        self.attended, self.revealed = attended, frozenset[int]()
        super().__init__(session, **options)

    def prepare(self) -> None:
        self.observe(lambda _: self.look(), names="looks")

    @traitlets.validate("at")
    def _within(self, proposal: Any) -> int:
        return int(min(proposal["value"], len(self.attended.quiz.questions) - 1))

    def look(self) -> None:
        """Read the folder again, and show what has changed."""
        if self.attended.look():
            self.board.refresh()

    def reveal(self, question: int) -> None:
        """Show what is right, for a question counted from 0. Raises ValueError for one that there is not."""
        self.revealed |= {self._a_question(question)}
        self.board.refresh()

    def hide(self, question: int) -> None:
        """Close a revealed question; committed answers stay. Raises ValueError for a question that there is not."""
        self.revealed -= {self._a_question(question)}
        self.board.refresh()

    def _a_question(self, question: int) -> int:
        n = len(self.attended.quiz.questions)
        if not 0 <= question < n:
            raise ValueError(f"expected a question within 0..{n - 1}, got {question}")
        return question

    def act(self, request: Request) -> None:
        """Carry out "reveal": show what is right for a question; or "hide": take it back."""
        if request.action == "reveal":
            self.reveal(request.number("question"))
        elif request.action == "hide":
            self.hide(request.number("question"))
        else:
            super().act(request)

    def looks_at(self, selection: Selection) -> Any:
        return self.attended.now, self.revealed

    def compute(self, selection: Selection, stale: Stale) -> tuple[ClassroomView, ClassroomArrays]:
        return self._shown(self.at)

    def stored(self, kept: Kept) -> list[Stored]:
        """A saved page has all questions as they were; what is right is in it where it was revealed."""

        def everything(_: Selection) -> Answer:
            found = [self._shown(at) for at in range(len(self.attended.quiz.questions))]
            arrays = {
                f"{name} {at}": array for at, (_, own) in enumerate(found) for name, array in own.items()
            }
            return Answer({"saved": [view for view, _ in found]}, arrays)

        return [Stored((), everything)]

    def _shown(self, at: int) -> tuple[ClassroomView, ClassroomArrays]:
        now, question = self.attended.now, self.attended.quiz.questions[at]
        given = [answers[at] for answers in now.answers]
        is_known, is_open = at in self.revealed, len(question.parts) == 1
        shown = question.shown
        sprite, columns = self.board.images.sprite(shown, TILE, columns=COLUMNS) if shown else (b"", 1)
        own, drawn = question.before(self.session)
        counts = question.tally(given) if is_open or is_known else []
        view: ClassroomView = {
            "students": sum(any(answers) for answers in now.answers),
            "joined": len(now.answers),
            "unread": now.n_unread,
            "trouble": now.trouble,
            "progress": self._progress(),
            "score": _score(self.attended.score(sorted(self.revealed))),
            "at": at,
            "words": question.words,
            "kind": question.kind,
            "tiles": list(range(len(question.pictures))),
            "names": [pictures.title(self.board.images, image) for image in shown],
            "columns": columns,
            "counts": counts,
            "labels": [] if is_open else _labels(len(counts)),
            "size": self.size,
        }
        view |= cast(ClassroomView, own)
        arrays: ClassroomArrays = {"sprite": sprite, **drawn}
        if is_known:
            told, drawn = question.after(tuple(question.best), self.session)
            right = [question.is_right((value,)) for value in range(len(counts))] if is_open else []
            if len(counts) == len(WRONG_RIGHT) and not is_open:
                right = [False, True]
            truth: ClassroomTruth = {
                "right": right,
                "told": question.key,
                "truth": question.truth,
                "score": _score(self.attended.score([at])),
                **told,
            }
            view["revealed"] = truth
            arrays |= drawn
        return view, arrays

    def _progress(self) -> list[ClassroomProgress]:
        everyone = self.attended.now.answers
        return [
            {"n": sum(bool(answers[at]) for answers in everyone), "revealed": at in self.revealed}
            for at in range(len(self.attended.quiz.questions))
        ]


def _labels(n: int) -> list[str]:
    """Return what the counts of an answer of several parts are of: wrong and right, or how many parts are right."""
    return [*WRONG_RIGHT] if n == len(WRONG_RIGHT) else [str(k) for k in range(n)]


def _score(score: Score) -> ClassroomScore | None:
    right = score.right
    if not right.n:
        return None
    return {
        "right": right.value,
        "low": right.low,
        "high": right.high,
        "chance": score.chance,
        "said": str(score),
    }

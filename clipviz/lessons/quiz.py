"""A quiz: questions about a session's model and images that are answered before the answers are shown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import accumulate, chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clipviz.lessons import scoring
from clipviz.lessons.drawn import KINDS, LEAST_IMAGES
from clipviz.lessons.numbers import Number
from clipviz.lessons.questions import Answer, Asked, Option, Question
from clipviz.lessons.scoring import Score, score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipviz.panels.classroom.panel import Classroom as ClassroomPanel
    from clipviz.panels.quiz.panel import Quiz as QuizPanel
    from clipviz.session import Session


class Quiz:
    """`n` questions of one kind about a session's model and images; as the last line of a cell it is shown as a panel.

    kind: "head" asks which of four texts describes what a head writes, shown by pictures on which it writes most;
    "gallery" gives the text of a head and asks which of two galleries is that head's, and which another head's; "map"
    asks which of two maps over a picture is that of a text; "neuron" asks which of four texts describes the neuron
    whose strongest twelve pictures are shown. The same session, kind and seed give the same quiz. `Quiz.of` makes one
    of questions of your own.

    Args:
        session: the session that questions are about; its selection does not change.
        kind: "head", "gallery", "map" or "neuron".
        n: how many questions.
        seed: selects the questions.

    Raises:
        ValueError: for an unknown kind, or if the session has too few images or heads.
    """

    _panel: QuizPanel | None = None
    _seat: Path | None = None  # the file of this student in a folder that a class shares

    def __init__(self, session: Session, kind: str = "head", n: int = 12, seed: int = 0) -> None:
        if kind not in KINDS:
            raise ValueError(f"expected a kind among {', '.join(KINDS)}, got {kind!r}; choose one of them")
        if n < 1:
            raise ValueError(f"expected at least one question, got n={n}; 12 take about ten minutes")
        n_images = len(session.images)
        if n_images < LEAST_IMAGES:
            raise ValueError(
                f"expected at least {LEAST_IMAGES} images, got {n_images}; open the session with more of them"
            )
        session.wait(None, background=True)  # the questions use all images
        questions = tuple(islice(KINDS[kind](session, seed), n))
        if len(questions) < n:
            raise ValueError(
                f"expected {n} questions, but this session has {len(questions)} of the kind {kind!r}; "
                "ask for fewer, or open the session with more images or texts"
            )
        self._begin(session, kind, questions)

    @classmethod
    def of(cls, session: Session, questions: Sequence[Asked], kind: str = "own") -> Quiz:
        """Make a quiz from your own questions, of one kind or of several; `kind` is the beginning of its code.

        Raises ValueError for no questions.
        """
        if not questions:
            raise ValueError("expected at least one question, got none; see clipviz.lessons.Question")
        quiz = cls.__new__(cls)
        quiz._begin(session, kind, tuple(questions))
        return quiz

    def _begin(self, session: Session, kind: str, questions: tuple[Asked, ...]) -> None:
        self.session, self.kind, self.questions = session, kind, questions
        self.given: list[Answer] = [()] * len(questions)

    def __repr__(self) -> str:
        n_given = sum(map(bool, self.given))
        return (
            f"Quiz {self.code}: {len(self.questions)} questions of the kind {self.kind!r}, {n_given} answered"
        )

    def _repr_mimebundle_(self, **choices: Any) -> Any:
        return self.show()._repr_mimebundle_(**choices)

    def show(self, size: Literal["normal", "lecture"] | None = None) -> QuizPanel:
        """Show the quiz as a panel: a question, its options, and the answer after it has been committed.

        size: "lecture" has large text for a projector; by default the size does not change and is "normal" at
        first.

        What is right is sent to the browser only after the answer. It is not hidden in the kernel, where
        `quiz.questions[0].best` shows it.
        """
        from clipviz.panels.quiz.panel import Quiz as QuizPanel

        if self._panel is None or self._panel.comm is None:
            self._panel = QuizPanel(self.session, self)
        if size is not None:
            self._panel.size = size
        return self._panel

    @property
    def code(self) -> str:
        """Identifies the quiz: equal questions give an equal code. It does not depend on the right answers."""
        told = [question.code_part for question in self.questions]
        return f"{self.kind}-{hashlib.sha256(repr(told).encode()).hexdigest()[:6]}"

    def answer(self, question: int, answer: int | Sequence[int]) -> str:
        """Commit the answer to a question, counted from 0, and return the truth.

        answer: the index of an option, the position of a slider, or what else the kind of question takes: see `Place`
            and `Piles`.

        Raises ValueError for an unknown question or answer, for a question that has been answered before, and if the
        answer was committed but could not be handed in (see `share`).
        """
        if not 0 <= question < len(self.questions):
            raise ValueError(f"expected a question within 0..{len(self.questions) - 1}, got {question}")
        asked = self.questions[question]
        read = asked.read(answer)
        if self.given[question]:
            raise ValueError(
                f"question {question} was answered with {self.given[question]}; an answer cannot be changed"
            )
        self.given[question] = read
        if self._panel is not None:
            self._panel.board.refresh()
        self._hand_in()
        return f"{'Right' if asked.is_right(read) else 'Wrong'}. {asked.told}"

    def share(self, folder: str | Path, name: str = "") -> Path:
        """Hand in every committed answer from now on, for the teacher's `classroom`; returns the path of the file.

        The answers so far are written as a code into a file of this student's in a folder that the whole class can
        write, now and after every answer. Nothing in it says who wrote it.

        Args:
            folder: the folder, which exists.
            name: a name that no one else in the class uses. It selects the student's file but is not written there:
                after a restart of the kernel the same name finds the answers again. Without a name the file's name is
                random, and another Quiz counts as another student.

        Returns:
            The path of the student's file.

        Raises:
            ValueError: if there is no such folder, or it cannot be written.
        """
        from clipviz.lessons import classroom

        seat = classroom.seat(folder, self.code, name)
        if not any(self.given):
            with suppress(ValueError):  # there is no such file yet, or it holds something else
                self.given = self.answers(classroom.handed_in(seat))
        classroom.hand_in(seat, self.answers_code)
        self._seat = seat
        if self._panel is not None:
            self._panel.board.refresh()
        return seat

    @property
    def shared(self) -> bool:
        """Whether every committed answer is handed in to a class; the panel says so."""
        return self._seat is not None

    def _hand_in(self) -> None:
        from clipviz.lessons import classroom

        if self._seat is not None:
            classroom.hand_in(self._seat, self.answers_code)

    def classroom(
        self, folder: str | Path, size: Literal["normal", "lecture"] | None = None
    ) -> ClassroomPanel:
        """Show what a class has handed in to a folder by `share`, as a panel.

        For each question it shows how many have answered, and what. What is right is shown, and sent to the browser,
        once it is revealed there. The folder is read again every two seconds while the page is visible.

        Args:
            folder: the folder that the class shares.
            size: "lecture" has large text for a projector.

        Returns:
            The panel.

        Raises:
            ValueError: if there is no such folder.
        """
        from clipviz.lessons.classroom import Classroom
        from clipviz.panels.classroom.panel import Classroom as ClassroomPanel

        options = {} if size is None else {"size": size}
        return ClassroomPanel(self.session, Classroom(folder, self), **options)

    def score(self, *codes: str) -> Score:
        """Return the score of the answers given here, or of the pooled answers in some codes."""
        everyone = [self.marks(code) for code in codes] or [self._marked(self._answered())]
        chances = [question.chance for question in self.questions]
        found = [pair for marks in everyone for pair in zip(marks, chances, strict=False)]
        return score([right for right, _ in found], [chance for _, chance in found])

    def marks(self, code: str) -> list[bool]:
        """Return for each question whether the answer in a code is right; a skipped question is not.

        Raises ValueError for a code that `answers` cannot read.
        """
        return self._marked(self.answers(code))

    def _marked(self, answers: Sequence[Answer]) -> list[bool]:
        return [q.is_right(answer) for answer, q in zip(answers, self.questions, strict=False)]

    def counts(self, *codes: str) -> list[list[int]]:
        """Count for every question how many of the given codes gave each answer.

        The counts are those of each option or of each position of a slider. Of boxes drawn on a picture they are how
        many are wrong and how many are right, and of piles how many have 0, 1, 2, … pictures in their pile.
        """
        everyone = [self.answers(code) for code in codes]
        return [
            question.tally([answers[at] for answers in everyone])
            for at, question in enumerate(self.questions)
        ]

    def answers(self, code: str) -> list[Answer]:
        """Read the answers from a code: for each question as many whole numbers as it has parts, () if it was skipped.

        Raises ValueError for a code that is mistyped, belongs to another quiz, or holds what cannot be an answer.
        """
        numbers, sizes = scoring.decode(code, self.code), [len(q.parts) for q in self.questions]
        if len(numbers) != sum(sizes):
            raise ValueError(
                f"expected {sum(sizes)} numbers in a code of the quiz {self.code}, got {len(numbers)}; copy the code "
                "again"
            )
        ends = list(accumulate(sizes, initial=0))
        given = [tuple(numbers[start:end]) for start, end in pairwise(ends)]
        return [
            () if scoring.SKIPPED in answer else question.read(answer)
            for question, answer in zip(self.questions, given, strict=True)
        ]

    def _answered(self) -> list[Answer]:
        """Return the answers up to the last one given; skipped questions before it count as wrong."""
        last = max((at for at, answer in enumerate(self.given) if answer), default=-1)
        return self.given[: last + 1]

    @property
    def answers_code(self) -> str:
        """The answers so far as a code to paste, for the `score` of a class."""
        skipped = [(scoring.SKIPPED,) * len(question.parts) for question in self.questions]
        given = [answer or none for answer, none in zip(self.given, skipped, strict=True)]
        return scoring.encode([*chain.from_iterable(given)], self.code)

    def sheet(self, answers: bool = False) -> Sequence[Figure]:
        """Return the quiz on paper, one figure per page; answers: with a last page that gives them."""
        from clipviz.figures import lessons

        picture = cache(self.session.images.picture)
        asked = [question.on_paper(picture) for question in self.questions]
        return lessons.sheet(asked, f"Quiz {self.code}", self.key if answers else [])

    @property
    def key(self) -> list[str]:
        """The answers on paper: for each question what is right, and what was measured."""
        return [question.key for question in self.questions]

    def save_sheet(self, path: str | Path, answers: bool = False) -> Path:
        """Write the paper version as one PDF; returns its path."""
        from matplotlib.backends.backend_pdf import PdfPages

        path = Path(path)
        with PdfPages(path) as pdf:
            for page in self.sheet(answers):
                pdf.savefig(page)
        return path

    def save_assignment(self, folder: str | Path, setup: str) -> Path:
        """Write an assignment that nbgrader and otter-grader can mark; returns the path of its notebook.

        The folder then has quiz.ipynb, in which a student answers the quiz, pastes the code and hands it in, and
        tests/q1.py and so on. Every question gives one point. What is right stands in none of these files, since the
        marks are computed when the notebook is run.

        Args:
            folder: the folder, which is created if it does not exist.
            setup: code that defines this quiz as `quiz`. Students can read it.

        Raises:
            ValueError: for a setup that does not name `quiz`, and for a folder that has tests of other questions.
            ImportError: if nbformat is not installed, which comes with JupyterLab.
        """
        from clipviz.lessons import assignments

        return assignments.save(folder, setup, self.code, len(self.questions))


def predict(
    session: Session,
    words: str,
    choices: Sequence[str] | None = None,
    *,
    measured: str | float,
    because: str = "",
    scale: tuple[float, float, float] | None = None,
    form: str = "{:g}",
    slack: int = 1,
    pictures: Sequence[int] = (),
    truth: str = "",
) -> Quiz:
    """Ask one question that is answered before its answer is shown; use it as the last line of a lesson's cell.

    Args:
        session: the session that the question is about.
        words: the question.
        choices: the options to choose from; or
        scale: the lowest and the highest value of a slider, and its step.
        measured: the right answer: one of the choices, or a number.
        because: the explanation shown after the answer.
        form: the format of a number, as for str.format: "{:.0%}" for a share.
        slack: the number of steps of the slider by which a right answer may differ from the measured one.
        pictures: images to show with the question, by their indices.
        truth: the truth in the world, if it is known.

    Returns:
        A Quiz of one question.

    Raises:
        ValueError: if neither or both of choices and scale are given, or the measured answer is none of the choices,
            or the slider has no right or no wrong position.
    """
    if (choices is None) == (scale is None):
        raise ValueError("expected either choices or a scale, got both or neither; leave one of them out")
    if scale is not None:
        slider = (*scale, float(measured), slack * scale[2])
        number = Number(words, *slider, because, form, tuple(pictures), truth=truth)
        return Quiz.of(session, [number], "lesson")
    found = list(choices or ())
    if measured not in found:
        raise ValueError(f"expected what was measured to be one of {', '.join(found)}, got {measured!r}")
    options = tuple(map(Option, found))
    question = Question(words, tuple(pictures), options, found.index(str(measured)), because, truth=truth)
    return Quiz.of(session, [question], "lesson")

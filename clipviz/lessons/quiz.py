"""A quiz: questions about a session's model and images that are answered before the answers are shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clipviz.lessons import scoring
from clipviz.lessons.drawn import KINDS, LEAST_IMAGES
from clipviz.lessons.questions import Option, Question
from clipviz.lessons.scoring import Score, score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    def of(cls, session: Session, questions: Sequence[Question], kind: str = "own") -> Quiz:
        """Make a quiz from your own questions; `kind` is the beginning of its code.

        Raises ValueError for no questions, and for one without a wrong option or whose right answer is not among its
        options.
        """
        if not questions:
            raise ValueError("expected at least one question, got none; see clipviz.lessons.Question")
        for question in questions:
            n_options = len(question.options)
            if not (question.chance < 1 and 0 <= question.right < n_options):
                raise ValueError(
                    f"expected a right option among wrong ones, got {n_options} options, right={question.right} and "
                    f"slack={question.slack}; count options from 0"
                )
        quiz = cls.__new__(cls)
        quiz._begin(session, kind, tuple(questions))
        return quiz

    def _begin(self, session: Session, kind: str, questions: tuple[Question, ...]) -> None:
        self.session, self.kind, self.questions = session, kind, questions
        self.given: list[int] = [scoring.SKIPPED] * len(questions)

    def __repr__(self) -> str:
        n_given = sum(answer != scoring.SKIPPED for answer in self.given)
        return (
            f"Quiz {self.code}: {len(self.questions)} questions of the kind {self.kind!r}, {n_given} answered"
        )

    def _repr_mimebundle_(self, **choices: Any) -> Any:
        return self.show()._repr_mimebundle_(**choices)

    def show(self, size: Literal["normal", "lecture"] | None = None) -> QuizPanel:
        """Show the quiz as a panel: a question, its options, and the answer after it has been committed.

        size: "lecture" has large text for a projector; by default the size does not change and is "normal" at
        first.

        The right option is sent to the browser only after the answer. It is not hidden in the kernel, where
        `quiz.questions[0].right` shows it.
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
        told = [
            (q.words, q.pictures, [(o.words, o.pictures, _shape(o)) for o in q.options])
            for q in self.questions
        ]
        return f"{self.kind}-{hashlib.sha256(repr(told).encode()).hexdigest()[:6]}"

    def answer(self, question: int, option: int) -> str:
        """Commit the answer to a question (both counted from 0), and return the truth.

        Raises ValueError for an unknown question or option, and for a question that has been answered before.
        """
        if not 0 <= question < len(self.questions):
            raise ValueError(f"expected a question within 0..{len(self.questions) - 1}, got {question}")
        asked = self.questions[question]
        if not 0 <= option < len(asked.options):
            raise ValueError(f"expected an option within 0..{len(asked.options) - 1}, got {option}")
        if self.given[question] != scoring.SKIPPED:
            raise ValueError(
                f"question {question} was answered with {self.given[question]}; an answer cannot be changed"
            )
        self.given[question] = option
        if self._panel is not None:
            self._panel.board.refresh()
        return f"{'Right' if asked.is_right(option) else 'Wrong'}. {asked.because}"

    def score(self, *codes: str) -> Score:
        """Return the score of the answers given here, or of the pooled answers in some codes."""
        everyone = [scoring.decode(code, self.code) for code in codes] or [self._answered()]
        found = [
            (question.is_right(answer), question.chance)
            for answers in everyone
            for answer, question in zip(answers, self.questions, strict=False)
        ]
        return score([right for right, _ in found], [chance for _, chance in found])

    def counts(self, *codes: str) -> list[list[int]]:
        """Count for every question how many of the given codes chose each option."""
        everyone = [scoring.decode(code, self.code) for code in codes]
        return [
            [sum(answers[at] == option for answers in everyone) for option in range(len(question.options))]
            for at, question in enumerate(self.questions)
        ]

    def _answered(self) -> list[int]:
        """Return the answers up to the last one given; skipped questions before it count as wrong."""
        last = max((at for at, answer in enumerate(self.given) if answer != scoring.SKIPPED), default=-1)
        return self.given[: last + 1]

    @property
    def answers_code(self) -> str:
        """The answers so far as a code to paste, for the `score` of a class."""
        return scoring.encode(self.given, self.code)

    def sheet(self, answers: bool = False) -> Sequence[Figure]:
        """Return the quiz on paper, one figure per page; answers: with a last page that gives them."""
        from clipviz.figures import lessons

        pictures = {i: self.session.images.picture(i) for q in self.questions for i in _shown(q)}
        asked = [
            lessons.Asked(
                q.words,
                [pictures[i] for i in q.pictures],
                [lessons.Choice(o.words, [pictures[i] for i in o.pictures], o.heatmap) for o in q.options],
                (q.options[0].words, q.options[-1].words) if q.on_scale else None,
            )
            for q in self.questions
        ]
        return lessons.sheet(asked, f"Quiz {self.code}", self.key if answers else [])

    @property
    def key(self) -> list[str]:
        """The answers on paper: for each question the letter of the right option, and what was measured."""
        return [q.because if q.on_scale else f"{chr(65 + q.right)}. {q.because}" for q in self.questions]

    def save_sheet(self, path: str | Path, answers: bool = False) -> Path:
        """Write the paper version as one PDF; returns its path."""
        from matplotlib.backends.backend_pdf import PdfPages

        path = Path(path)
        with PdfPages(path) as pdf:
            for page in self.sheet(answers):
                pdf.savefig(page)
        return path


def _shown(question: Question) -> Iterator[int]:
    yield from question.pictures
    for option in question.options:
        yield from option.pictures


def _shape(option: Option) -> tuple[int, ...]:
    return () if option.heatmap is None else option.heatmap.shape


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
        measured: the right answer: one of the choices, or a number, which is rounded to the nearest step of the slider.
        because: the explanation shown after the answer.
        form: the format of a number, as for str.format: "{:.0%}" for a share.
        slack: the number of steps of the slider by which a right answer may differ from the measured one.
        pictures: images to show with the question, by their indices.
        truth: the truth in the world, if it is known.

    Returns:
        A Quiz of one question.

    Raises:
        ValueError: if neither or both of choices and scale are given, or the measured answer is none of the choices.
    """
    if (choices is None) == (scale is None):
        raise ValueError("expected either choices or a scale, got both or neither; leave one of them out")
    if scale is not None:
        return Quiz.of(
            session,
            [_on_scale(words, scale, float(measured), because, form, slack, pictures, truth)],
            "lesson",
        )
    found = list(choices or ())
    if measured not in found:
        raise ValueError(f"expected what was measured to be one of {', '.join(found)}, got {measured!r}")
    options = tuple(map(Option, found))
    question = Question(words, tuple(pictures), options, found.index(str(measured)), because, truth=truth)
    return Quiz.of(session, [question], "lesson")


def _on_scale(
    words: str,
    scale: tuple[float, float, float],
    measured: float,
    because: str,
    form: str,
    slack: int,
    pictures: Sequence[int],
    truth: str,
) -> Question:
    low, high, step = scale
    n_steps = round((high - low) / step) + 1 if step > 0 else 0
    if not 2 <= n_steps <= scoring.MOST_OPTIONS:
        raise ValueError(
            f"expected a slider of 2 to {scoring.MOST_OPTIONS} steps from low to high, got {scale}; the third "
            "number is the step"
        )
    if not low - step / 2 <= measured <= high + step / 2:
        raise ValueError(
            f"expected a slider that holds what was measured, got {low:g} to {high:g} for {measured:g}; widen it"
        )
    options = tuple(Option(form.format(low + i * step)) for i in range(n_steps))
    right = min(n_steps - 1, max(0, round((measured - low) / step)))
    said = f"Measured: {form.format(measured)}. {because}".strip()
    exact = form.format(measured)
    return Question(
        words, tuple(pictures), options, right, said, truth=truth, on_scale=True, slack=slack, measured=exact
    )

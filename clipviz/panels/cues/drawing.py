"""Pictures that test a pair's words, drawn one method at a time, and their results."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clipviz.panels.core import pictures
from clipviz.panels.cues.sent import AttemptShown, CuesArrays, CuesView, LookShown
from clipviz.session import SHOWN, Board
from clipviz.waits import Work

if TYPE_CHECKING:
    from clipviz.session.answers import Attack, Estimate
    from clipviz.session.topics.cues import CueTopic

TILE, COLUMNS = 96, 12
NO_STUDIO = (
    "Pictures need a writer and a text-to-image model, and this model brings neither. In Python, set "
    "session.cues.studio to clipviz.models.bundle.Studio.of(describe, draw), with a language model and a text-to-image "
    "pipeline (clipviz.models.captioners)."
)
_NUMBERS = itertools.count()  # numbers drawings, to identify what is remembered about them


class Drawing:
    """The pictures of one pair of classes. subject: identifies them; steps(left_out): yields (method, its words, its
    attack) one after the other.

    attempts: method -> (words, attack), as they come; left_out: method -> why it has no pictures; look: the
    picture shown enlarged, None for the one that fools the classifier most.
    """

    def __init__(
        self,
        board: Board,
        pair: tuple[str, str],
        subject: Any,
        steps: Callable[[dict[str, str]], Iterator[tuple[str, list[str], Any]]],
    ) -> None:
        self.board, self.session = board, board.session
        self.pair, self.subject = pair, subject
        self.attempts: dict[str, tuple[list[str], Any]] = {}
        self.left_out: dict[str, str] = {}
        self.finished = False
        self.look: tuple[str, int] | None = None
        self.work = Work("Drawing pictures, one method at a time", len(SHOWN))
        self._number = next(_NUMBERS)
        self._steps = steps(self.left_out)

    def step(self) -> bool:
        """Draw the next method's pictures; return False when all are drawn."""
        if self.finished:
            return False
        self.work.resume()
        method, words, attack = next(self._steps, (None, [], None))
        if method is None:
            self.finished = True
        else:
            self.attempts = {**self.attempts, method: (words, attack)}
        self.work.reached(self.work.n_all if self.finished else len(self.attempts) + len(self.left_out))
        return True

    def picture(self, method: str, place: int) -> tuple[str, Image.Image, float]:
        """Return sentence, picture and margin. Raises ValueError for an unknown picture."""
        attempt = self.attempts.get(method)
        if attempt is None or not 0 <= place < len(attempt[1].images):
            raise ValueError(f"expected one of the pictures on show, got {method!r}, number {place}")
        attack = attempt[1]
        return attack.sentences[place], attack.images[place], attack.margins[place]

    def shown(self) -> tuple[CuesView, CuesArrays]:
        """Return the attempts and their pictures in one sheet; when all are drawn, also one enlarged picture."""
        rows: list[AttemptShown] = []
        drawn: list[Image.Image] = []
        for method, (words, attack) in self.attempts.items():
            rows.append(
                {
                    "method": method,
                    "words": words[:8],
                    "fooled": attack.n_fooled,
                    "interval": (attack.share.low, attack.share.high),
                    "mean": float(np.mean(attack.margins)),
                    "sentences": list(attack.sentences),
                    "margins": list(attack.margins),
                    "first": len(drawn),
                }
            )
            drawn += attack.images
        view: CuesView = {"attempts": rows, "drawing": not self.finished, "columns": COLUMNS}
        view["left_out"] = [{"method": name, "reason": reason} for name, reason in self.left_out.items()]
        target = self.session.cues.class_text(self.pair[1])
        view |= {"n_tiles": len(drawn), "verdict": self._verdict(target) if self.finished else ""}
        if not rows:
            return view, {}
        key = ("cue pictures", self._number, len(rows))
        sheet = self.board.remember(key, lambda: pictures.sheet(drawn, TILE, COLUMNS))
        arrays: CuesArrays = {"sprite": sheet}
        view["look"] = self._closely(arrays) if self.finished else None
        return view, arrays

    def _verdict(self, target: str) -> str:
        return verdict({name: attack for name, (_, attack) in self.attempts.items()}, target)

    def _closely(self, arrays: CuesArrays) -> LookShown:
        """Return one picture closely; its tokens that write towards either class are added to the arrays."""
        name = "second order" if "second order" in self.attempts else next(iter(self.attempts))
        best = name, int(np.argmax(self.attempts[name][1].margins))
        method, place = self.look or best
        sentence, picture, margin = self.picture(method, place)
        heatmap = self.board.remember(
            ("cue map", self._number, method, place),
            lambda: self.session.cues.map(picture, self.pair),
        )
        arrays["picture"], arrays["map"] = pictures.encoded(picture, 92), heatmap
        grid = list(heatmap.shape)
        return {"method": method, "place": place, "sentence": sentence, "margin": margin, "grid": grid}


def why_none(drawn: str, cues: CueTopic, ready: bool) -> str:
    """Return why there are no pictures of a class, or "" if there are or will be some."""
    if cues.studio is None:
        return NO_STUDIO
    if not cues.can_draw(drawn):
        return f"“{drawn}” cannot be drawn. Choose a class from the list to see pictures."
    return "" if ready else "Pictures are drawn once all images have been read."


def verdict(attacks: Mapping[str, Attack], target: str) -> str:
    """Summarise the pictures' results in a cautious sentence; target: the prompt of the wrong class.

    Methods without pictures are omitted; without pictures from neurons' words there is nothing to compare.
    """
    names = {
        "second order": "these words",
        "similar words": "words chosen without neurons",
        "no words": "the class alone",
    }
    shares = [
        f"{attacks[method].share.value:.0%} with {name}"
        for method, name in names.items()
        if method in attacks
    ]
    said = f"Taken for {target}: {', '.join(shares)}."
    ours = attacks.get("second order")
    against = [
        f"{_change(ours.more_than(attacks[method]))} {names[method]}"
        for method in ("no words", "similar words")
        if ours is not None and method in attacks
    ]
    return f"{said} {'; '.join(against)}.".replace(". no", ". No") if against else said


def _change(found: Estimate) -> str:
    """Return a difference of shares with its interval, and what it is compared with."""
    ends = f"({100 * found.low:+.0f} to {100 * found.high:+.0f} points)".replace("-", "−")
    if not found.differs:
        return f"no difference {ends} from"
    return f"{abs(100 * found.value):.0f} points {'more' if found.value > 0 else 'fewer'} {ends} than with"

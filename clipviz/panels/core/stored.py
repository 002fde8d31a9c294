"""The data that a saved page holds beside the view: the panels' answers for other images, texts and heads.

A panel names the parts of its view and what each depends on (`Panel.stored`). Every part is computed for every
kept combination, and equal values and arrays are stored once. The page's script reassembles them.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypedDict

import numpy as np

from clipviz import waits
from clipviz.panels.core.sent import Arrays, View
from clipviz.session import Session, checks
from clipviz.values import Head, Progress, Selection

MOST_TEXTS = 60
SAYING = ("message", "waits", "work")  # fields of a view that may contain a progress message
UNFINISHED = "This was not complete when the page was saved."
FEW = 64  # arrays with at most this many numbers are stored unchanged
STEPS = 32767  # the largest int16, to which the largest magnitude in each row of a map is scaled


class Answer(NamedTuple):
    """A part of a view with its arrays, and other data that the browser reads (the bytes of a picture, by trait)."""

    view: View
    arrays: Arrays = {}  # noqa: RUF012
    traits: dict[str, bytes] = {}  # noqa: RUF012


class Stored(NamedTuple):
    """A stored part. of: the fields of the selection that it depends on; make: the part for a selection."""

    of: tuple[str, ...]
    make: Callable[[Selection], Answer]


class Answering(Protocol):
    """An object that may have answers: a panel."""

    name: str

    def stored(self, kept: Kept) -> list[Stored] | None: ...


ProgressOf = Callable[[str, int], Progress]
"""Returns a progress callback for work with a number of steps, as Board.progress does."""


class Choices(TypedDict, total=False):
    """The choices in a saved page beside the selection.

    images, texts: a list or a number: the session's example texts, and the images nearest to each text in turn
    (default 1); heads: "selected" (default), "all", or (layer, head) pairs.
    """

    images: int | Sequence[int]
    texts: int | Sequence[str]
    heads: Literal["selected", "all"] | Sequence[Head]


@dataclasses.dataclass(frozen=True)
class Kept:
    """The questions that a page can answer: every text with every image through every head."""

    images: tuple[int, ...]
    texts: tuple[str, ...]
    heads: tuple[tuple[int | None, int | None], ...]

    @classmethod
    def of(
        cls,
        session: Session,
        images: int | Sequence[int] = 1,
        texts: int | Sequence[str] = 1,
        heads: Literal["selected", "all"] | Sequence[Head] = "selected",
    ) -> Kept:
        """Return the selection and the further Choices. Raises ValueError for unknown ones."""
        s = session.selection
        said = _texts(session, texts)
        chosen = _images(session, images, said)
        if isinstance(heads, str):
            if heads not in ("selected", "all"):
                raise ValueError(f'expected heads "selected", "all" or (layer, head) pairs, got {heads!r}')
            named = itertools.product(range(session.model.n_layers), range(session.model.n_heads))
            pairs = [] if heads == "selected" else list(named)
        else:
            pairs = [
                (
                    checks.within("layer", layer, session.model.n_layers),
                    checks.within("head", head, session.model.n_heads),
                )
                for layer, head in heads
            ]
        return cls(chosen, said, tuple(dict.fromkeys([(s.layer, s.head), *pairs])))

    def selections(self, of: Sequence[str], start: Selection) -> Iterable[Selection]:
        """Yield `start` with every combination of the kept fields."""
        head = {"layer", "head"} & set(of)
        for image, text, (layer, at) in itertools.product(
            self.images if "image" in of else (start.image,),
            self.texts if "text" in of else (start.text,),
            self.heads if head else ((start.layer, start.head),),
        ):
            yield start.replace(image=image, text=text, layer=layer, head=at)

    def told(self, session: Session) -> str:
        """Return a sentence on what the page answers."""
        every = len(self.heads) >= session.model.n_layers * session.model.n_heads
        heads = f"all {len(self.heads)} heads" if every else _counted(len(self.heads), "head")
        return f"{_counted(len(self.images), 'image')}, {_counted(len(self.texts), 'text')} and {heads}"


class Store:
    """Answers, with equal values and equal arrays stored once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.arrays: list[dict[str, Any]] = []
        self._content = bytearray()
        self._known: dict[Any, int] = {}

    def add(
        self, panel: Answering, kept: Kept, start: Selection, progress_of: ProgressOf
    ) -> list[dict[str, Any]] | None:
        """Add the parts of a panel, each with its answers by key; None for a panel that shows a single view."""
        parts = panel.stored(kept)
        if parts is None:
            return None
        asked = [(part, list(kept.selections(part.of, start))) for part in parts]
        progress = progress_of(f"Answers of the panel {panel.name!r}", sum(len(found) for _, found in asked))
        n_done, stored = itertools.count(1), []
        for part, selections in asked:
            answers = {}
            for s in selections:
                answers[key(part.of, s)] = self._kept(part.make(s))
                progress(next(n_done))
            stored.append({"of": part.of, "answers": answers})
        return stored

    def _kept(self, answer: Answer) -> list[dict[str, int]]:
        return [
            {name: self._value(value) for name, value in at_rest(answer.view).items()},
            {name: self._array(array) for name, array in answer.arrays.items()},
            {name: self._array(content) for name, content in answer.traits.items()},
        ]

    def _value(self, value: Any) -> int:
        said = json.dumps(value, allow_nan=False)
        return self._once(("value", said), self.values, lambda: value)

    def _array(self, array: object) -> int:
        content = array if isinstance(array, bytes) else np.ascontiguousarray(array)
        digest = hashlib.blake2b(content if isinstance(content, bytes) else content.tobytes()).digest()
        shape = None if isinstance(content, bytes) else (content.dtype.name, content.shape)
        return self._once((digest, shape), self.arrays, lambda: self._packed(content))

    def _once(self, known: Any, among: list[Any], make: Callable[[], Any]) -> int:
        if known not in self._known:
            self._known[known] = len(among)
            among.append(make())
        return self._known[known]

    def _packed(self, content: np.ndarray | bytes) -> dict[str, Any]:
        """Return the position of an array; large numeric ones are int16 with one scale per row (error at most 2e-5
        of the largest).
        """
        if isinstance(content, bytes):
            return {"dtype": "uint8", **self._placed(content)}
        if content.dtype != np.float32 or content.size <= FEW:
            return {"dtype": content.dtype.name, **self._placed(content.tobytes())}
        rows = content.reshape(-1, content.shape[-1])
        scale = np.maximum(np.abs(rows).max(1), 1e-30).astype(np.float32) / STEPS
        steps = np.rint(rows / scale[:, None]).astype(np.int16)
        return {
            "dtype": "int16",
            **self._placed(steps.tobytes()),
            "scale": self._placed(scale.tobytes())["offset"],
            "row": rows.shape[1],
        }

    def _placed(self, content: bytes) -> dict[str, int]:
        self._content += bytes(-len(self._content) % 8)
        place = {"offset": len(self._content), "size": len(content)}
        self._content += content
        return place

    def packed(self, panels: Sequence[dict[str, Any]], about: dict[str, Any]) -> tuple[str, str]:
        """Return everything except the arrays as JSON, and the arrays, both compressed and in base64."""
        said = {**about, "panels": panels, "values": self.values, "arrays": self.arrays}
        return tuple(  # type: ignore[return-value]
            base64.b64encode(gzip.compress(content, mtime=0)).decode()
            for content in (json.dumps(said, allow_nan=False).encode(), bytes(self._content))
        )


def at_rest(value: Any) -> Any:
    """Return a value of a view with UNFINISHED for every progress message, which would never change in a page."""
    if isinstance(value, dict):
        return {name: _at_rest(name, inner) for name, inner in value.items()}
    return [at_rest(inner) for inner in value] if isinstance(value, list) else value


def _at_rest(name: str, value: Any) -> Any:
    if name not in SAYING or not isinstance(value, str):
        return at_rest(value)
    return UNFINISHED if value.endswith("…") or waits.is_line(value) else value


def key(of: Sequence[str], selection: Selection) -> str:
    """Return the key of an answer; the page's script computes the same."""
    values = (getattr(selection, field) for field in of)
    return "\x01".join("" if value is None else str(value) for value in values)


def _texts(session: Session, texts: int | Sequence[str]) -> tuple[str, ...]:
    own = session.selection.text
    if isinstance(texts, str):
        raise ValueError(
            f"expected a number of texts or a list of them, got the text {texts!r}; put it in a list"
        )
    if isinstance(texts, int):
        n = checks.count("texts", texts)
        return tuple(itertools.islice(dict.fromkeys([own, *session.texts.examples, *session.texts]), n))
    given = tuple(dict.fromkeys([own, *texts]))
    for text in texts:
        session.texts.direction(text)
    if len(given) > MOST_TEXTS:
        raise ValueError(f"expected at most {MOST_TEXTS} texts, got {len(given)}; save several pages")
    return given


def _images(session: Session, images: int | Sequence[int], texts: Sequence[str]) -> tuple[int, ...]:
    own = () if session.selection.image is None else (session.selection.image,)
    n_images = len(session.images)
    if not isinstance(images, int):
        given = [checks.within("an image", i, n_images) for i in images]
        return tuple(dict.fromkeys([*own, *given]))
    n = checks.count("images", images)
    nearest = [[i for i, _ in session.images.search(text, n)] for text in texts if text]
    in_turn = (i for rank in itertools.zip_longest(*nearest) for i in rank if i is not None)
    return tuple(itertools.islice(dict.fromkeys([*own, *in_turn, *range(n_images)]), n))


def _counted(n: int, one: str) -> str:
    return f"{n} {one}" if n == 1 else f"{n} {one}s"

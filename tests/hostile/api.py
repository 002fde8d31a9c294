"""Hostile callers: wrong values to every public call, random browser messages, storms of actions, scripts in texts.

Clean is a right answer, or a ValueError or TypeError that says what was expected and what came. A panel's callback
never raises: what it cannot do it shows in the panel.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from html.parser import HTMLParser
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import clipviz
from clipviz import panels
from clipviz.data.images import open_images
from clipviz.data.texts import class_texts, open_texts
from clipviz.lens import segment, sparse, textspan
from clipviz.panels.core import standalone
from clipviz.values.tables import Table

from .tally import Tally

ALLOWED = (ValueError, TypeError)
TEXTS = [
    "a red circle",
    "a dog",
    "in the sea",
    "two apples",
    "<b>a letter</b>",
    "in the forest",
    "a car",
    "$x$",
]
WORDS = [
    "",
    " ",
    "a dog",
    "<script>alert(1)</script>",
    "$\\frac{",
    "\x00",
    "é" * 400,
    "🐦",
    "a\nb",
    "../..",
    "'\"`",
    "a \ud83d dog",
]
NUMBERS: list[Any] = [-(10**30), -9, -1, 0, 1, 2, 5, 6, 7, 8, 11, 99, 10**6, 10**30, 0.5, 1.0, -0.0]
NUMBERS += [math.nan, math.inf, -math.inf, True, False, None, np.int64(3), np.float32(1.5), np.array(2)]
ODD: list[Any] = [*NUMBERS, *WORDS, [], [1], [[1, 2]], {}, {"a": 1}, (), (1, 2), b"x", object(), {1, 2}, 1j]
FIELDS = (
    "image",
    "images",
    "layer",
    "head",
    "token",
    "neuron",
    "text",
    "text_b",
    "concept",
    "ablation",
    "nothing",
)
PANELS = [name for name in panels.__all__ if name != "Dashboard"]


@cache
def model() -> Any:
    return clipviz.load("demo", device="cpu")


@contextmanager
def opened() -> Iterator[Any]:
    """A session over a few of the demo's images."""
    images = clipviz.demo.images().subset(range(12))
    session = clipviz.Session(model(), images, TEXTS, background=False)
    session.select(text="a dog", image=3)
    try:
        yield session
    finally:
        session.close()


def value(rng: random.Random, depth: int = 0) -> Any:
    """Something that a careless caller, or a forged message, could send."""
    kind = rng.random()
    if depth < 2 and kind < 0.1:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if depth < 2 and kind < 0.2:
        return {
            rng.choice(("heads", "layers", "mlps", "tokens", "how", "x")): value(rng, depth + 1)
            for _ in range(2)
        }
    return rng.randrange(12) if kind < 0.4 else rng.choice(ODD)


def plain(rng: random.Random, depth: int = 0) -> Any:
    """The same of what JSON can carry: what a browser sends."""
    while True:
        made = value(rng, depth)
        if isinstance(made, list | dict):
            return _json(made)
        if made is None or isinstance(made, str | bool | int | float):
            return made


def _json(made: Any) -> Any:
    if isinstance(made, list):
        return [_json(part) for part in made]
    if isinstance(made, dict):
        return {str(key): _json(part) for key, part in made.items()}
    return made if made is None or isinstance(made, str | bool | int | float) else str(made)


def selections(attempts: int, seed: int) -> Tally:
    """Selection, Ablation, their dicts and Session.select: only what is there can be selected."""
    rng, tally = random.Random(seed), Tally("selections")
    with opened() as session:

        def select(**changes: Any) -> None:
            session.select(**changes)
            chosen, limits = session.selection, {"image": 12, "layer": 6, "head": 8}
            for name, limit in limits.items():
                number = getattr(chosen, name)
                assert number is None or (type(number) is int and 0 <= number < limit), (name, number)
            assert all(type(i) is int and 0 <= i < 12 for i in chosen.images), chosen.images

        panel = panels.Heatmap(session)

        def view(**changes: Any) -> None:
            before, options = (
                session.view,
                {name: value(rng) for name in ("scope", "show", rng.choice(WORDS))},
            )
            try:
                session.view = clipviz.View(session.selection.replace(**changes), {"heatmap": options})
            except ALLOWED:
                assert session.view == before, "it raised and changed the view"
                raise
            finally:
                later = panels.Heatmap(session)  # whatever is remembered, a panel can be opened
                later.close()
            panel.take({})

        for _ in range(attempts):
            changes = {
                rng.choice(FIELDS): LONG if rng.random() < 0.05 else value(rng)
                for _ in range(rng.randrange(1, 3))
            }
            calls: list[tuple[str, Callable[[], Any]]] = [
                (f"select({changes})", lambda changes=changes: select(**changes)),
                (f"view({changes})", lambda changes=changes: view(**changes)),
                (f"Selection({changes})", lambda changes=changes: clipviz.Selection(**changes)),
                (f"from_dict({changes})", lambda changes=changes: clipviz.Selection.from_dict(changes)),
            ]
            parts = {rng.choice(("heads", "layers", "mlps", "tokens", "how")): value(rng) for _ in range(2)}
            calls.append((f"Ablation({parts})", lambda parts=parts: clipviz.Ablation(**parts)))
            token = "".join(rng.choice("abcXYZ0189-_=.{}") for _ in range(rng.randrange(60)))
            calls.append((f"from_token({token})", lambda token=token: clipviz.Selection.from_token(token)))
            what, call = rng.choice(calls)
            tally.attempt(what, call, ALLOWED)
    return tally


ASKED = {
    "ablation.presets": 3, "ablation.n_labelled": 1, "open": 3, "neurons.histogram": 3, "heads.find": 1,
    "images.percentiles": 3, "heads.spans": 1, "cues.attack": 1, "cues.map": 2, "cues.check_pair": 1,
    "ablation.project_heads": 2, "texts.nearest": 2, "maps.agreement": 2, "heads.set_role": 3,
    "neurons.map": 4, "neurons.find": 3, "neurons.effects": 2, "images.top": 4, "ablation.shortcut_heads": 3,
    "cues.can_draw": 1, "heads.textspan": 5, "heads.label": 2, "images.neighbours": 4, "images.atlas": 2,
    "heads.effects": 2, "maps.tokens": 2, "maps.compare": 2, "maps.joint": 3, "images.search": 2,
    "images.trace": 1, "images.pixels": 1, "images.picture": 1, "maps.attention": 1, "maps.truth": 1,
    "ablation.run": 2, "ablation.typed": 1, "images.where": 2, "texts.direction": 1,
    "neurons.direction": 2, "cues.find": 1, "cues.drawable": 2, "cues.class_text": 1, "images.add": 1,
    "heads.variance": 1, "rosetta.units": 1, "neurons.describe": 2, "neurons.concepts": 2,
}  # fmt: skip


def questions(attempts: int, seed: int) -> Tally:
    """Every method of a session, with anything for its arguments: numbers, or an error that clipviz itself words.

    What raises leaves the selection and the view as they were, and no answer has a number that is none.
    """
    rng, tally = random.Random(seed), Tally("questions")
    with opened() as session:

        def ask(name: str, given: list[Any]) -> None:
            before = session.view
            try:
                answer = attrgetter(name)(session)(*given)
            except ALLOWED as error:
                if session.view != before or not worded(error):
                    raise AssertionError(f"{type(error).__name__} after {session.view}: {error}") from error
                raise
            assert finite(answer), "a number that is none"

        for _ in range(attempts):
            name = rng.choice(list(ASKED))
            given = [
                rng.choice(("a dog", 1, 2, LONG, value(rng), value(rng)))
                for _ in range(rng.randint(1, ASKED[name]))
            ]
            tally.attempt(f"{name}{tuple(given)}", partial(ask, name, given), ALLOWED)
    return tally


LONG = range(10**9)
"""What would fill the memory if it were read before it is checked."""


def worded(error: BaseException) -> bool:
    """Whether clipviz raised an error, not Python or a library on the way; or an argument was left out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    ours = trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("clipviz.")
    checked = type(error).__name__ == "TypeCheckError"  # of the shapes' checks, which the tests alone have
    return ours or checked or "required positional argument" in str(error)


def finite(answer: Any, depth: int = 0) -> bool:
    """Whether an answer, whatever it is made of, has no NaN."""
    if isinstance(answer, torch.Tensor):
        return not answer.is_floating_point() or not bool(answer.isnan().any())
    if isinstance(answer, np.ndarray):
        return answer.dtype.kind != "f" or not bool(np.isnan(answer).any())
    if isinstance(answer, float):
        return not math.isnan(answer)
    if isinstance(answer, list | tuple) and depth < 4:
        return all(finite(part, depth + 1) for part in answer)
    if isinstance(answer, dict) and depth < 4:
        return all(finite(part, depth + 1) for part in answer.values())
    if dataclasses.is_dataclass(answer) and isinstance(answer, Table) and depth < 4:
        return all(finite(part, depth + 1) for part in vars(answer).values())
    return True


def lenses(attempts: int, seed: int) -> Tally:
    """textspan, sparse_code, score, match and Index.open with tensors of any shape, kind and number."""
    rng, tally = random.Random(seed), Tally("lenses")

    def tensor() -> Any:
        shape = [rng.choice((0, 1, 2, 3, 5)) for _ in range(rng.randrange(4))]
        made = torch.randn(shape, generator=torch.Generator().manual_seed(rng.randrange(99)))
        made = made * rng.choice((1, 1, 0, math.nan, math.inf, 1e30, 1e-30))
        return rng.choice(
            (
                made,
                made,
                made,
                made.double(),
                made.half(),
                made.long() if made.isfinite().all() else made,
                made.numpy(),
            )
        )

    calls: dict[str, Callable[..., Any]] = {
        "textspan": lambda: textspan.textspan(tensor(), tensor(), value(rng)),
        "sparse_code": lambda: sparse.sparse_code(tensor(), tensor(), value(rng)),
        "score": lambda: segment.score(tensor(), tensor()),
        "match": lambda: clipviz.match(value(rng), value(rng), value(rng), value(rng)),
        "open": lambda: clipviz.Index.open(rng.choice(WORDS[:-1]) or value(rng)),
    }
    for _ in range(attempts):
        name = rng.choice(list(calls))
        tally.attempt(name, calls[name], (*ALLOWED, OSError))
    return tally


def messages(attempts: int, seed: int) -> Tally:
    """What a browser could send to every panel: nothing is raised inside the callback, and the session goes on."""
    rng, tally = random.Random(seed), Tally("messages")
    actions = [
        "hello",
        "undo",
        "redo",
        "open",
        "draw",
        "look",
        "name",
        "upload",
        "describe",
        "fly",
        "",
        None,
        3,
    ]
    with opened() as session:
        made = [getattr(panels, name)(session) for name in PANELS]
        session.wait(300, background=True)
        for number in range(attempts):
            panel = rng.choice(made)
            request = {"seq": rng.choice((number + 1, number + 1, plain(rng)))}
            for name in ("changes", "options", "action", "value", "name", "image", "text"):
                if rng.random() < 0.4:
                    request[name] = rng.choice(actions) if name == "action" else plain(rng)
            if rng.random() < 0.5:
                request["changes"] = {rng.choice(FIELDS): plain(rng) for _ in range(2)}

            def send(panel: Any = panel, request: Any = request) -> None:
                try:
                    panel.set_state({"request": request})
                    session.wait(60)
                except ALLOWED as error:  # shown, never raised
                    raise AssertionError(f"raised {type(error).__name__}: {error}") from error
                seq = request["seq"]
                if type(seq) is int and seq >= 0:  # what is numbered is answered
                    assert seq in (panel.view.get("ack"), panel.error.get("seq")), "no answer"
                for sent in (panel.view, panel.error):  # and the answer can be sent
                    json.dumps(sent, allow_nan=False, ensure_ascii=False).encode()

            tally.attempt(f"{panel.name} {request}", send, ())
        session.select(image=5, layer=2, head=4)
        tally.attempt("the session goes on", lambda: session.wait(60), ())
    return tally


def collections(attempts: int, seed: int) -> Tally:
    """Sessions over a few odd pictures, many of them the same, and a few texts: every panel's numbers are numbers."""
    rng, tally = random.Random(seed), Tally("collections")
    flat = [
        Image.new("RGB", (rng.randint(1, 90), rng.randint(1, 90)), shade)
        for shade in ("black", "white", "#c81e1e")
    ]
    pictures = [*flat, *(clipviz.demo.images()[i] for i in range(3))]
    quick = ("Heads", "Heatmap", "TextSpan", "ImageGallery", "Query", "Receipts", "Atlas", "Ablate", "Words")

    def show(chosen: list[Image.Image], texts: list[str], names: list[str]) -> None:
        session = clipviz.Session(model(), chosen, texts, background=False)
        try:
            session.select(text=rng.choice(texts), layer=rng.randrange(6), head=rng.randrange(8))
            for name in names:
                panel = getattr(panels, name)(session)
                shown = panel.data()
                assert finite(list(shown.values())), name
                json.dumps(panel.view, allow_nan=False)
                panel.close()
            session.wait(60, background=True)
        finally:
            session.close()

    for number in range(attempts):
        chosen = [rng.choice(pictures[: rng.choice((1, 3, 6))]) for _ in range(rng.randint(1, 9))]
        texts = rng.sample(TEXTS, rng.randint(2, len(TEXTS)))
        names = rng.sample(quick, 3)
        tally.attempt(
            f"{number}: {len(chosen)} pictures, {len(texts)} texts, {names}",
            partial(show, chosen, texts, names),
            (),
        )
    return tally


DOORS: dict[str, Callable[[Any, Any], Any]] = {
    "open_texts": lambda session, given: len(open_texts(given)),
    "open_images": lambda session, given: len(open_images(given)),
    "class_texts": lambda session, given: class_texts(given),
    "encode_texts": lambda session, given: session.model.encode_texts(given),
    "encode_images": lambda session, given: session.model.encode_images(given),
    "trace": lambda session, given: session.model.trace(given),
    "second_order": lambda session, given: session.model.second_order(session.images[0], given),
    "head_basis": lambda session, given: session.model.head_basis(given),
    "neuron_basis": lambda session, given: session.model.neuron_basis(given),
    "load_partner": lambda session, given: clipviz.load_partner(given),
    "load_generator": lambda session, given: clipviz.load_generator(given),
    "wrap": lambda session, given: clipviz.wrap(given),
    "Index.open": lambda session, given: clipviz.Index.open(given),
    "Index.build": lambda session, given: clipviz.Index.build(session.model, session.images, given),
    "images=": lambda session, given: clipviz.Session(session.model, given).close(),
    "texts=": lambda session, given: clipviz.Session(session.model, session.images, given).close(),
    "layers=": lambda session, given: clipviz.Session(
        session.model, session.images, TEXTS, layers=given
    ).close(),
    "index=": lambda session, given: clipviz.Session(
        session.model, session.images, TEXTS, index=given
    ).close(),
    "View": lambda session, given: clipviz.View(panels=given),
    "Dashboard": lambda session, given: clipviz.Dashboard(given),
    "save_html": lambda session, given: standalone.page_path(given),
    "mine": lambda session, given: session.rosetta.mine("nowhere", given),
}


def doors(attempts: int, seed: int) -> Tally:
    """Everything that opens something of a caller's, given anything: it is opened, or clipviz says why not."""
    rng, tally = random.Random(seed), Tally("doors")
    with opened() as session, tempfile.TemporaryDirectory() as folder:
        before = os.getcwd()
        os.chdir(folder)

        def open_it(name: str, given: Any) -> None:
            try:
                DOORS[name](session, given)
            except (*ALLOWED, OSError) as error:
                if not worded(error):
                    raise AssertionError(f"{type(error).__name__}: {error}") from error
                raise

        try:
            for _ in range(attempts):
                name = rng.choice(list(DOORS))
                given = LONG if rng.random() < 0.1 else value(rng)
                given = "nowhere" if given == "../.." else given  # the machine's own files are no pictures
                tally.attempt(f"{name}({given!r:.80})", partial(open_it, name, given), (*ALLOWED, OSError))
        finally:
            os.chdir(before)
    return tally


def storms(attempts: int, seed: int) -> Tally:
    """Selections, undo, redo and requests faster than they are answered: the last one is what all panels show."""
    rng, tally = random.Random(seed), Tally("storms")
    with opened() as session:
        board = [
            panels.Heads(session),
            panels.Heatmap(session),
            panels.TextSpan(session),
            panels.Query(session),
        ]
        for _ in range(attempts):

            def storm() -> None:
                for _ in range(10):
                    changes = {
                        "image": rng.randrange(12),
                        "layer": rng.randrange(6),
                        "head": rng.randrange(8),
                    }
                    rng.choice((session.undo, session.redo, lambda c=changes: session.select(**c)))()
                session.wait(60)
                now = session.selection.to_dict()
                for panel in board:  # the texts of a head are the same for every image: nothing is sent again
                    fields = ("layer", "head") if panel.name == "textspan" else ("image", "layer", "head")
                    shown = {name: panel.view["selection"][name] for name in fields}
                    assert shown == {name: now[name] for name in fields}, (panel.name, shown, now)

            tally.attempt("storm", storm, ())
    return tally


class Tags(HTMLParser):
    """Counts scripts and handlers of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "iframe", "object") or any(name.startswith("on") for name, _ in attrs):
            self.found.append(tag)


def pages(attempts: int, seed: int) -> Tally:
    """Saved pages whose texts and names are scripts: no tag more than a page of harmless texts has."""
    rng, tally = random.Random(seed), Tally("pages")
    pieces = [
        "</script>",
        "<script>",
        "<!--",
        "-->",
        "<img src=x onerror=x()>",
        "]]>",
        "\u2028",
        "&lt;",
        "'",
        '"',
        "a",
    ]

    def tags(panel: Any, text: str) -> list[str]:
        panel.session.select(text=text)
        panel.session.wait(60)
        with tempfile.TemporaryDirectory() as folder:
            page = Tags()
            page.feed(panel.save_html(Path(folder) / "page.html").read_text("utf8"))
        return page.found

    with opened() as session:
        quick, slow = panels.Query(session), panels.Heatmap(session)  # whose page keeps every method's map
        harmless = {panel: tags(panel, "a dog") for panel in (quick, slow)}
        for number in range(attempts):
            text = "".join(itertools.starmap(rng.choice, [(pieces,)] * rng.randint(1, 6)))

            def save(text: str = text, panel: Any = quick if number % 5 else slow) -> None:
                assert tags(panel, text) == harmless[panel]

            tally.attempt(f"page of {text!r}", save)
    return tally


CAMPAIGNS = {
    "selections": selections, "questions": questions, "lenses": lenses, "messages": messages, "storms": storms,
    "saved pages": pages, "collections": collections, "doors": doors,
}  # fmt: skip

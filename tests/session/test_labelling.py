"""Heads are labelled behind everything else: a click does not wait for the head that is being labelled."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from few_texts import COMMON

import clipviz
from clipviz.analysis.collection import image_codes
from clipviz.analysis.heads import labels
from clipviz.lens import textspan
from clipviz.session import Board


def test_labelling_gives_way_to_clicks_and_goes_on_where_it_was(model, monkeypatch):
    """A click after every few draws: each is answered before the next draws, none of which is made twice."""
    images = clipviz.demo.images().subset(range(12))
    session = clipviz.Session(model, images, COMMON, layers=[4, 5], background=False)
    session.wait(60)
    real, made, answered = textspan.null_in_parts, [], []

    def clicked(*args, **options):
        for part in real(*args, **options):
            assert len(answered) == len(made), "a click waited for more than the draws at work"
            made.append(len(part[0]))
            session._state.worker.request(lambda stale: answered.append(len(made)))
            yield part

    monkeypatch.setattr(textspan, "null_in_parts", clicked)
    Board.of(session).label_heads()
    session.wait(120, background=True)
    assert session.heads.labelled
    assert made == [textspan.DRAWS_AT_ONCE] * (
        len(session.heads.kept) * labels.N_DRAWS // textspan.DRAWS_AT_ONCE
    )
    assert answered == [*range(1, len(made) + 1)]
    monkeypatch.undo()
    known = session.heads.label(4, 2)
    session.heads._labels.known().clear()
    assert session.heads.label(4, 2) == known
    session.close()


def test_a_label_asked_for_is_never_interrupted(model):
    session = clipviz.Session(model, clipviz.demo.images().subset(range(12)), COMMON, background=False)
    session.wait(60)
    for head in range(4):
        session.select(layer=4, head=head)  # a request waits or runs meanwhile
        assert session.heads.label(4, head).texts
    session.close()


def test_steps_of_reading_are_as_long_as_a_click_may_wait(model, monkeypatch):
    images, real, sizes = clipviz.demo.images().subset(range(60)), type(model).trace, []
    clock = [0.0]
    monkeypatch.setattr(image_codes, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def timed(self, pictures, *options):
        sizes.append(len(pictures))
        clock[0] += len(pictures) * (0.01 if len(sizes) < 4 else 0.05)
        return real(self, pictures, *options)

    monkeypatch.setattr(type(model), "trace", timed)
    codes = image_codes.ImageCodes(model, len(images))
    assert list(codes.read(model, images, batch=24))[-1] == 60
    assert sizes == [4, 8, 16, 24, 8]  # twice as many, at most `batch`; then half a second's, or what is left


def test_a_click_ends_a_step_of_reading_between_two_layers(model):
    """The step is begun again; in the end every image was read once, however often somebody clicked."""
    images = clipviz.demo.images().subset(range(6))
    codes, asked = image_codes.ImageCodes(model, len(images)), []

    def clicked():
        asked.append(len(asked))
        return len(asked) % 3 == 0  # in the third layer

    found = list(codes.read(model, images, batch=3, awaited=clicked))
    gave_way = [0] * image_codes.PATIENCE
    assert found == [*gave_way, 3, *(3 for _ in gave_way), 6]
    assert len(asked) == 2 * 3 * image_codes.PATIENCE
    assert codes.complete
    torch.testing.assert_close(codes.embedding, torch.stack([model.trace(i).embedding[0] for i in images]))
    assert not any(module._forward_pre_hooks for module in model.visual.modules())

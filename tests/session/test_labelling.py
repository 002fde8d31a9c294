"""Heads are labelled behind everything else: a click does not wait for the head that is being labelled."""

from __future__ import annotations

import time

from few_texts import COMMON

import clipviz
from clipviz.analysis import labels
from clipviz.lens import textspan


def test_labelling_gives_way_to_clicks_and_goes_on_where_it_was(model, monkeypatch):
    """A click after every few draws: each is answered before the next draws, none of which is made twice."""
    session = clipviz.Session(model, clipviz.demo.images().subset(range(12)), COMMON, background=False)
    session.wait(60)
    real, made, answered = textspan.null_in_parts, [], []

    def clicked(*args, **options):
        for part in real(*args, **options):
            assert len(answered) == len(made), "a click waited for more than the draws at work"
            made.append(len(part[0]))
            session.worker.request(lambda stale: answered.append(len(made)))
            yield part

    monkeypatch.setattr(textspan, "null_in_parts", clicked)
    session.label_heads()
    session.wait(120, background=True)
    assert session.labelled
    assert made == [textspan.DRAWS_AT_ONCE] * (len(session.heads) * labels.N_DRAWS // textspan.DRAWS_AT_ONCE)
    assert answered == [*range(1, len(made) + 1)]
    monkeypatch.undo()
    known = session.label(4, 2)
    session.known_labels().clear()
    assert session.label(4, 2) == known
    session.close()


def test_a_label_asked_for_is_never_interrupted(model):
    session = clipviz.Session(model, clipviz.demo.images().subset(range(12)), COMMON, background=False)
    session.wait(60)
    for head in range(4):
        session.select(layer=4, head=head)  # a request waits or runs meanwhile
        assert session.label(4, head).texts
    session.close()


def test_slow_steps_of_reading_hold_fewer_images(model, monkeypatch):
    images, real, sizes = clipviz.demo.images().subset(range(24)), model.trace, []

    def slow(pictures, **options):
        sizes.append(len(pictures))
        time.sleep(0.05 * len(pictures))
        return real(pictures, **options)

    monkeypatch.setattr(model, "trace", slow)
    codes = clipviz.analysis.image_codes.ImageCodes(model, len(images))
    assert list(codes.read(model, images, batch=16))[-1] == 24
    assert sizes[0] == 16
    assert max(sizes[1:]) <= 10  # 0.5 s at 0.05 s each
    assert sum(sizes) == 24

"""Heads are labelled behind everything else: a click does not wait for the head that is being labelled."""

from __future__ import annotations

import threading
import time

from few_texts import COMMON

import clipviz
from clipviz.analysis import labels


def test_labelling_gives_way_to_a_click_and_goes_on(model, monkeypatch):
    session = clipviz.Session(model, clipviz.demo.images().subset(range(12)), COMMON, background=False)
    session.wait(60)
    real, started, given_up = labels.label_head, threading.Event(), []

    def slow(*args, between, **options):
        started.set()
        try:
            for _ in range(1_000 if not given_up else 1):  # ten seconds, but for the click
                between()
                time.sleep(0.01)
        except BaseException as error:
            given_up.append(error)
            raise
        return real(*args, between=between, **options)

    monkeypatch.setattr(labels, "label_head", slow)
    session.label_heads()
    assert started.wait(30)
    session.select(layer=4, head=2)
    session.wait(5)
    assert len(given_up) == 1
    assert not session.labelled
    session.wait(120, background=True)
    assert session.labelled
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

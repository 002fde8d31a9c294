"""Passes of several threads through one model do not hear each other."""

from __future__ import annotations

import threading

import torch

from clipviz.models.forward_lock import lock_of
from clipviz.models.hooks import activation_maps


def test_two_threads_trace_at_once(model):
    generator = torch.Generator().manual_seed(0)
    few, more = (torch.randn(n, 3, *model.image_size, generator=generator) for n in (2, 3))
    expected = model.trace(few)
    norms = model.second_order(more, 3).norms()
    stop, errors = threading.Event(), []

    def other():
        try:
            while not stop.is_set():
                assert torch.allclose(model.second_order(more, 3).norms(), norms, atol=1e-5)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        for _ in range(12):
            found = model.trace(few)
            assert torch.allclose(found.codes, expected.codes, atol=1e-5)
            assert found.attention.shape == expected.attention.shape
    finally:
        stop.set()
        thread.join()
    assert not errors


def test_a_pass_waits_for_whoever_has_hooks_on_the_model(model):
    pixels = torch.zeros(1, 3, *model.image_size)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (model.encode_images(pixels), done.set()))
    with activation_maps(model.visual, "transformer.resblocks.0.mlp.gelu", grid=model.weights.grid) as maps:
        thread.start()
        assert not done.wait(0.3)
        assert not maps
        model.encode_images(pixels)  # the holder itself goes on
        assert len(maps) == 1
    assert done.wait(20)
    thread.join()
    assert lock_of(model.visual) is lock_of(model.visual)

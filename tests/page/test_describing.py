"""What the page says of the demo's collection is what Python says: TextSpan of every head, its null, ablations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from clipviz.values import Ablation
from tests.page.node import answer

HEAD = (5, 3)
SOME = list(range(0, 60, 2))
TEXT = "a photo of the sea"


@pytest.fixture(scope="module")
def asked(demo):
    """The first task, and what is removed: nothing, heads, a layer, heads for 0, everything but heads."""
    task = next(iter(demo.ablation.tasks().values()))
    heads = frozenset({(5, 0), (5, 1), (4, 2)})
    every = demo.ablation.everything_else()
    removed = [
        Ablation(),
        Ablation(heads),
        Ablation(heads, frozenset({3})),
        Ablation(heads, how="zero"),
        every,
    ]
    return task, removed


@pytest.fixture(scope="module")
def page(demo, demo_site, asked):
    task, removed = asked
    return answer(
        "describe.mjs",
        site=str(demo_site),
        text=TEXT,
        some={"head": HEAD, "images": SOME},
        ablations=[one.to_dict() for one in removed],
        classes=demo.ablation.classifier(task).tolist(),
        labels=list(task.labels),
        groups=list(task.groups),
    )


def test_every_head_has_the_same_texts(demo, page):
    heads = itertools.product(range(demo.model.n_layers), range(demo.model.n_heads))
    for (layer, head), found in zip(heads, page["spans"], strict=True):
        wanted = demo.heads.textspan(layer, head, n_draws=0)
        assert found["order"] == wanted.order.tolist(), (layer, head)
        assert np.allclose(found["gains"], wanted.gains, rtol=0, atol=1e-5)
        assert found["usedUp"] == wanted.n_used_up


def test_a_chosen_set_is_described_alone(demo, page):
    wanted = demo.heads.textspan(*HEAD, 4, images=SOME, n_draws=0)
    assert page["some"]["order"] == wanted.order.tolist()
    assert np.allclose(page["some"]["gains"], wanted.gains, rtol=0, atol=1e-5)


def test_one_image_alone_varies_along_nothing(demo, page):
    assert page["alone"]["rank"] == 1
    assert page["alone"]["width"] == demo.model.weights.d_embed
    assert not page["alone"]["varies"]


def test_the_null_is_drawn_from_the_same_rotations(demo, page):
    found, wanted = np.array(page["null"]), demo.heads.textspan(*HEAD, n_draws=200).null_gains
    error = np.sqrt(found.var(0) / len(found) + wanted.var(0) / len(wanted))
    assert (np.abs(found.mean(0) - wanted.mean(0)) < 4 * error).all()
    assert abs(found[:, 0].std() / wanted[:, 0].std() - 1) < 0.3


def test_heads_vary_as_much_along_a_text(demo, page):
    found = np.array(page["along"]).reshape(demo.model.n_layers, -1)
    listed = demo.heads.find(TEXT)
    assert listed
    for one in listed:
        assert abs(found[one.layer, one.head] - one.share) < 1e-5


def test_accuracies_after_ablations_are_the_same(demo, page, asked):
    task, removed = asked
    for ablation, found in zip(removed, page["accuracies"], strict=True):
        wanted = demo.ablation.run(ablation, task).after
        assert found["n"] == wanted.n_images
        assert found["top1"] == pytest.approx(wanted.top1, abs=1e-6)
        for name, (share, n) in wanted.groups.items():
            assert found["groups"][name] == [pytest.approx(share, abs=1e-6), n]
    assert len({found["top1"] for found in page["accuracies"]}) > 1

"""Numbers that are not there, memory that runs out, sessions that are dropped or closed at a bad moment."""

from __future__ import annotations

import gc
import itertools
import json
import sys
import threading
import tracemalloc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from few_texts import COMMON
from PIL import Image

import clipviz
from clipviz import Ablation
from clipviz.session import cells

pytestmark = pytest.mark.usefixtures("few_rotations")

TEXTS = [*COMMON, "a car", "a star"]


def opened(model, n=6, **options):
    return clipviz.Session(model, clipviz.demo.images().subset(range(n)), TEXTS, **options)


@pytest.fixture(scope="module")
def session(model):
    session = opened(model, background=False)
    yield session
    session.close()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.heads.textspan(4, 9), r"head within 0\.\.7 \(counted from 0\), got 9"),
        (lambda s: s.heads.textspan(5, -1), r"head within 0\.\.7 \(counted from 0\), got -1"),
        (lambda s: s.heads.textspan(-1, 0), r"layer within 0\.\.5"),
        (lambda s: s.heads.textspan(4, 1.5), r"head within 0\.\.7.*got 1\.5"),
        (lambda s: s.heads.textspan(4, 1, images=[-1, -2]), r"images within 0\.\.5, got \[-1, -2\]"),
        (lambda s: s.heads.textspan(4, 1, images=[0, 1, 9999]), r"images within 0\.\.5, got \[9999\]"),
        (lambda s: s.heads.textspan(4, 1, n_texts=0), "n_texts to be a whole number of at least 1, got 0"),
        (lambda s: s.heads.spans([6]), r"images within 0\.\.5, got \[6\]"),
        (lambda s: s.heads.label(6, 0), r"layer within 0\.\.5"),
        (lambda s: s.maps.joint(2, 8), r"head within 0\.\.7"),
        (lambda s: s.images.atlas(2, -1), r"head within 0\.\.7"),
        (lambda s: s.images.neighbours(0, 2), "a layer and a head, or neither"),
        (lambda s: s.images.neighbours(0, 2, 8), r"head within 0\.\.7"),
        (lambda s: s.images.neighbours(0, k=-1), "k to be a whole number of at least 1"),
        (lambda s: s.images.neighbours(0, by="luck"), "one of cosine, product, got 'luck'"),
        (lambda s: s.images.search("a dog", k=True), "k to be a whole number"),
        (lambda s: s.images.trace(-1), r"image within 0\.\.5"),
        (lambda s: s.heads.effects("a dog", 6), r"image within 0\.\.5"),
        (lambda s: s.neurons.describe(3, [10_000]), r"neurons within 0\.\.\d+, got \[10000\]"),
        (lambda s: s.neurons.layer(5), "later"),
        (lambda s: s.select(layer=float("nan")), "layer to be a non-negative integer, got nan"),
        (lambda s: s.select(image=float("inf")), "image to be a non-negative integer"),
        (lambda s: s.select(ablation=Ablation(layers=frozenset({6}))), r"ablated layers within 0\.\.5"),
        (lambda s: s.select(ablation=Ablation(mlps=frozenset({7}))), r"ablated MLPs within 0\.\.6"),
        (lambda s: s.select(ablation=Ablation(tokens=frozenset({145}))), r"ablated tokens within 0\.\.144"),
        (lambda s: s.ablation.run(Ablation(heads=frozenset({(9, 0)}))), "6 layers x 8 heads"),
        (lambda s: s.ablation.run(task="cheese"), "a task of these images .*got 'cheese'"),
        (lambda s: Ablation(heads=frozenset({(1.5, 0)})), r"a layer to be a non-negative integer, got 1\.5"),
        (lambda s: s.ablation.presets(task="shapes"), r"a task of these images \(objects, .*got 'shapes'"),
        (lambda s: s.ablation.n_labelled("shapes"), r"a task of these images \(objects, .*got 'shapes'"),
        (lambda s: s.ablation.run(task=["objects"]), r"a task of these images .*got \['objects'\]"),
        (lambda s: s.ablation.presets(shortcut="ab"), "shortcut as two texts, .*got 'ab'"),
        (lambda s: s.cues.find(pair="ab"), "pair as two texts, .*got 'ab'"),
        (lambda s: s.cues.find(pair=("dog",)), r"pair as two texts, .*got \('dog',\)"),
        (lambda s: s.cues.attack(pair="ab"), "pair as two texts, .*got 'ab'"),
        (lambda s: s.cues.drawable(["grass"], "ab"), "pair as two texts, .*got 'ab'"),
        (lambda s: s.cues.map(s.images[0], "ab"), "pair as two texts, .*got 'ab'"),
        (lambda s: s.rosetta.units(partners=["cnn"]), r"partners as a mapping .*got \['cnn'\]"),
        (lambda s: s.open(head=()), r"head as a layer and a head, .*got \(\)"),
        (lambda s: s.open(head=torch.tensor([4, 2]), neuron=17), "neuron as a layer and a neuron, .*got 17"),
        (lambda s: s.open(head=(4, 2), neuron=(3, 10**9)), r"neuron within 0\.\.\d+ .*got 1000000000"),
        (lambda s: s.open(head=(9, 2), neuron=(3, 1)), r"layer within 0\.\.5"),
        (lambda s: s.heads.textspan(5, 3, n_draws=-1), "n_draws to be a whole number of at least 0, got -1"),
        (lambda s: s.heads.textspan(5, 3, n_draws=10**9), "n_draws to be at most 10,000, got 1,000,000,000"),
        (lambda s: s.heads.effects(["a dog"]), r"text to be a string, got list \['a dog'\]"),
        (lambda s: s.heads.effects("a dog", text_b=["a"]), r"text_b to be a string, got list \['a'\]"),
        (lambda s: s.maps.tokens({"a": 1}), "text to be a string, got dict"),
        (lambda s: s.maps.compare(["a dog"]), "text to be a string, got list"),
        (lambda s: s.images.percentiles(["a dog"]), "text to be a string, got list"),
        (lambda s: s.heads.find(["a dog"]), "text to be a string, got list"),
        (lambda s: s.neurons.histogram(3, n_bins=10**9), "n_bins to be at most 1,000, got 1,000,000,000"),
        (lambda s: s.select(images=range(3 * 10**7)), r"images within 0\.\.5, got \[6, 7, 8, 9, 10\]"),
        (lambda s: s.select(images=[0] * 7), "each of the 6 images at most once"),
        (lambda s: s.select(images=3), "images as a list of whole numbers, got 3"),
    ],
)
def test_what_is_not_there_is_a_clear_error(session, ask, message):
    before = session.selection
    with pytest.raises(ValueError, match=message):
        ask(session)
    assert session.selection is before


@pytest.mark.parametrize("layers", [[5, 5], [1.5], [6], [-1], []])
def test_impossible_layers_are_refused(model, layers):
    with pytest.raises(ValueError, match=r"layers? .*|layer and none twice"):
        opened(model, layers=layers)


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.select(images=range(3 * 10**7)),
        lambda s: s.heads.textspan(4, 1, images=range(3 * 10**7)),
        lambda s: s.neurons.histogram(3, n_bins=10**8),
        lambda s: clipviz.Selection(images=itertools.repeat(0)),
        lambda s: Ablation(tokens=itertools.count()),
    ],
)
def test_what_is_too_much_is_refused_before_it_fills_the_memory(session, ask):
    session.neurons.layer(n_images=2)  # read before the memory is measured
    tracemalloc.start()
    with pytest.raises(ValueError, match="expected"):
        ask(session)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 200e6


def test_a_task_is_asked_for_by_its_name(session):
    name = next(iter(session.ablation.tasks()))
    assert (
        session.ablation.n_labelled(name) == session.ablation.n_labelled(session.ablation.tasks()[name]) > 0
    )
    assert session.ablation.presets(task=name) == session.ablation.presets(
        task=session.ablation.tasks()[name]
    )


def test_a_head_and_a_neuron_are_opened_together_in_one_step(session):
    before = len(session.history)
    session.open(head=torch.tensor([4, 2]), neuron=(3, 17))
    assert (session.selection.layer, session.selection.head, session.selection.neuron) == (3, 2, 17)
    assert len(session.history) == before + 1
    session.undo()


@pytest.mark.parametrize(
    "ask",
    [
        lambda s, text: s.select(text=text),
        lambda s, text: s.heads.effects(text),
        lambda s, text: s.texts.direction(text),
        lambda s, text: s.heads.set_role(4, 2, text),
        lambda s, text: s.images.add(s.images[0], text),
        lambda s, text: clipviz.Session(s.model, s.images, ["a dog", text]),
    ],
)
def test_half_of_a_character_is_refused_where_a_text_comes_in(session, ask):
    with pytest.raises(ValueError, match="got half of a surrogate pair at position 2"):
        ask(session, "a \ud83d dog")


def test_images_that_are_all_the_same_have_no_texts_and_no_nan(model, tmp_path):
    same = [Image.new("RGB", (64, 64), (200, 30, 30))] * 10  # read in batches of several sizes
    session = clipviz.Session(model, same, TEXTS, background=False)
    assert session.heads.variance().sum() == 0
    assert session.heads.label(4, 2).name == clipviz.session.NO_ROLE
    with pytest.raises(ValueError, match="effects vary over the images, got a constant one"):
        session.heads.textspan(4, 2)
    for plane in ((), (4, 2)):
        with pytest.raises(ValueError, match=r"(embeddings differ|effects vary)"):
            session.images.atlas(*plane)
    board = clipviz.Dashboard(session)
    for name in ("atlas", "words"):
        board.desks.show(name)
        board.save_html(tmp_path / f"{name}.html")
    assert "writes the same on all of these images" in board.textspan.view["message"]
    assert "does not distinguish these images" in board.desks.built["atlas"].view["message"]
    board.close()


def test_numbers_become_plain_ints_at_the_door(session):
    session.select(image=np.argmax([0, 3, 1]), layer=np.int64(4), head=2.0, images=np.array([1, 2]))
    text = json.dumps(session.selection.to_dict())
    assert type(session.selection.image) is int
    assert '"images": [1, 2]' in text
    assert session.heads.textspan(np.int64(4), np.uint8(2), n_texts=2).texts
    assert session.images.neighbours(np.int32(1), np.int64(4), np.int64(2), k=np.int64(3))
    ablation = Ablation(heads=frozenset({(np.int64(1), np.int64(2))}))
    assert json.dumps(ablation.to_dict())
    session.undo()


def test_running_out_of_memory_halves_the_batch_says_so_and_goes_on(model, monkeypatch, caplog):
    real = type(model).trace

    def trace(self, images, *args, **options):
        if isinstance(images, list) and len(images) > 5:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, images, *args, **options)

    monkeypatch.setattr(type(model), "trace", trace)
    monkeypatch.setattr(clipviz.analysis.collection.image_codes, "STEP", 1e9)  # however slow this machine is
    session = opened(model, 24, background=False)
    assert session.images.codes.n_ready == 24
    assert session.images.progress == (24, 24)
    notes = session.receipts()["notes"]
    assert notes[-1] == "memory ran out with 8 images per forward pass; continued with 4"
    assert "continued with 4" in caplog.text
    session.close()


def test_an_image_too_large_alone_is_counted_and_other_errors_are_raised(model, monkeypatch):
    monkeypatch.setattr(type(model), "trace", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    made = clipviz.analysis.collection.image_codes.ImageCodes(model, 2)
    assert list(made.read(model, clipviz.demo.images())) == []
    assert made.complete
    assert set(made.broken.values()) == {"too large for the remaining memory"}
    broken = RuntimeError("shape mismatch")
    monkeypatch.setattr(type(model), "trace", lambda *_, **__: (_ for _ in ()).throw(broken))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(clipviz.analysis.collection.image_codes.ImageCodes(model, 2).read(model, clipviz.demo.images()))


def test_closing_during_a_lens_is_safe(model):
    session = opened(model, background=False)
    begun, go, found = threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        go.wait(5)
        return 7

    thread = threading.Thread(target=lambda: found.append(session._state.remember("slow", slow)))
    thread.start()
    begun.wait(5)
    session.close()
    go.set()
    thread.join(5)
    assert found == [7]
    assert not session._state.worker.alive


def test_a_session_that_is_dropped_frees_its_memory_and_its_thread(model):
    before = threading.active_count()
    session = opened(model, 3)
    session.wait(60, background=True)
    gone, codes, worker = weakref.ref(session), weakref.ref(session.images.codes), session._state.worker
    session = opened(model, 3, background=False)  # the cell is run again
    gc.collect()
    assert gone() is None
    assert codes() is None
    assert not worker.alive
    session.close()
    assert threading.active_count() == before


def test_sessions_forgotten_with_their_panels_keep_no_thread(model, monkeypatch):
    monkeypatch.setattr(clipviz.worker, "RESTS", 0.01, raising=False)
    before, made = set(threading.enumerate()), []
    for _ in range(10):
        made.append(clipviz.panels.Query(opened(model, 3, background=False)))
        made[-1].session.wait(60, background=True)
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(2)
    assert not any(thread.is_alive() for thread in left)
    for panel in made:
        panel.session.select(image=1)  # one that is used again goes on
        assert panel.data()["selection"]["image"] == 1
        panel.session.close()


def test_a_cell_run_again_closes_its_session_even_when_a_panel_holds_it(model, monkeypatch):
    shell = SimpleNamespace(get_parent=lambda: {"metadata": {"cellId": "a1"}}, execution_count=1)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    first, beside = opened(model, 2), opened(model, 2)
    assert first._state.worker.alive
    shell.execution_count = 2
    again = opened(model, 2)
    assert not first._state.worker.alive
    assert not beside._state.worker.alive
    assert again._state.worker.alive
    shell.get_parent = lambda: {"metadata": {"cellId": "b2"}}
    other = opened(model, 2)
    assert again._state.worker.alive
    for made in (again, other):
        made.close()
    cells._MADE.clear()


def test_a_long_computation_that_is_overtaken_ends_quietly(model):
    session = opened(model, background=False)
    begun, order = threading.Event(), []

    def long(stale):
        begun.set()
        while True:
            session._state.checkpoint()
            if stale():
                order.append("still here")

    session._state.worker.request(long)
    begun.wait(5)
    assert not session._state.worker.overtaken()  # not in the worker's own thread
    session._state.worker.request(lambda stale: order.append("next"))
    session.wait(5)
    assert order[-1] == "next"
    session.close()

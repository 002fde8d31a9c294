"""Chapter 2 reproduced on a few images: every section, numbers against plain ones, resuming, folders, broken images."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import clipviz
from clipviz import reproduce
from clipviz.analysis.collection import classifiers
from clipviz.analysis.collection.tasks import labelled_tasks
from clipviz.data.images import open_images
from clipviz.figures import chapter2 as figures
from clipviz.figures import style
from clipviz.lens import baselines, headset, segment, spurious
from clipviz.models.attribution import record
from clipviz.reproduce import contents, evaluation
from clipviz.reproduce.chapter2 import chapter as chapter2
from clipviz.reproduce.chapter2 import pictures as chapter2_pictures
from clipviz.reproduce.chapter2 import segmenting
from clipviz.reproduce.report import Steps

LIMIT = 60
FIGURES = (
    "terms",
    "layers",
    "textspan-objects",
    "textspan-colours",
    "textspan-backgrounds",
    "roles",
    "top-images",
    "neighbours",
    "neighbours-more",
    "token-maps",
    "token-maps-two",
    "spurious-names",
    "spurious-examples",
    "segmentation",
    "segmentation-of-two",
    "segmentation-examples",
    "joint",
    "joint-more",
)


ONE_OF_EACH = ("terms", "roles", "top-images", "segmentation-examples")
"""The figures that are also drawn as PDF and PNG: bars, a table, pictures, maps over pictures."""


@pytest.fixture(scope="module", autouse=True)
def few():
    """Few masks, few birds, and few pictures that these are learnt from."""
    tasks = evaluation.world_tasks

    def fewer(images):
        return {
            name: dataclasses.replace(task, examples=tuple(chosen[:8] for chosen in task.examples))
            for name, task in tasks(images).items()
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "world_tasks", fewer)
        patch.setattr(evaluation, "DEMO_MASKS", 4)
        patch.setattr(evaluation, "DEMO_BIRDS", 32)
        yield


@pytest.fixture(scope="module")
def ran(model, few, every_format, tmp_path_factory):
    """The report's folder and path, and by name what was made first on the way."""
    folder, seen = tmp_path_factory.mktemp("chapter2"), {}

    def noted(name, make):
        def noting(*given):
            found = make(*given)
            seen.setdefault(name, found)
            return found

        return noting

    def save(figure, path):
        formats = ("svg", "pdf", "png") if path.name in ONE_OF_EACH else ("svg",)
        return every_format(figure, path, formats)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", save)
        for name in ("_evaluation", "trace_terms"):
            patch.setattr(chapter2, name, noted(name, getattr(chapter2, name)))
        return folder, reproduce.run("chapter2", model, folder, limit=LIMIT, quiet=True).path, seen


@pytest.fixture(scope="module")
def made(ran):
    return ran[:2]


@pytest.fixture(scope="module")
def measured(ran):
    """What the report measured: its evaluation, the terms of the images, and which could be read."""
    return ran[2]["_evaluation"], *ran[2]["trace_terms"][:2]


def table(text, title):
    """The first table of a section, as rows of cells."""
    section = text.split(f"## {title}")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_report_has_every_table_and_figure(made):
    folder, path = made
    text = path.read_text()
    blocks = json.loads((folder / "blocks" / "chapter2.json").read_bytes())["blocks"]
    assert contents.missing(contents.where_shown(blocks), "chapter2") == []
    assert not [block for block in blocks if block["kind"] == "needs"]
    for name in FIGURES:
        assert f"figures/{name}.svg" in text
        assert (folder / "figures" / f"{name}.svg").stat().st_size > 1000
    for name in ONE_OF_EACH:
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert f"an even sample of {LIMIT} of" in text
    methods = [*segmenting.METHODS, segmenting.TOKENS, segmenting.TOKENS_POOL, segmenting.TRACED]
    assert [row[0] for row in table(text, "Segmentation")[2:]] == [*methods, "method", "---", *methods]
    assert "Above the token decomposition: in pixel accuracy" in text


def test_an_interrupted_run_goes_on_from_its_steps(made, model, monkeypatch, undrawn):
    folder, path = made
    before = path.read_text().rsplit("Made in", 1)[0]
    (folder / "steps" / "birds-000000.npz").unlink()
    traced = []
    real = evaluation._trace_chunk
    monkeypatch.setattr(evaluation, "_trace_chunk", lambda *a: (traced.append(len(a[2])), real(*a))[1])
    again = reproduce.run("chapter2", model, folder, limit=LIMIT, quiet=True)
    assert traced == [32]  # the birds alone
    assert again.path.read_text().rsplit("Made in", 1)[0] == before


def test_neighbours_in_another_way_are_refused_before_any_work(model, tmp_path):
    with pytest.raises(ValueError, match="expected neighbours by cosine or product, got 'dot'; choose"):
        reproduce.run("chapter2", model, tmp_path, neighbours="dot")
    assert not list(tmp_path.iterdir())


def test_accuracy_after_an_ablation_is_recomputed_from_the_traces(model, measured):
    found, terms, kept = measured
    ablation = chapter2.Ablation(
        mlps=frozenset(range(model.n_layers + 1)), layers=frozenset(range(model.n_layers - 4))
    )
    top1 = chapter2.Measured(found, terms, kept).top1(ablation)
    heads, mlps, whole = [], [], []
    for image in found.images:
        trace = model.trace([image])
        heads.append(trace.head_effects()[0].double())
        mlps.append(trace.mlp_effects()[0].double())
        whole.append(trace.embedding[0].double())
    early = torch.stack([h[:-4].sum((0, 1)) for h in heads]) + torch.stack([m.sum(0) for m in mlps])
    after = torch.stack(whole) - early + early.mean(0)
    for task in found.tasks:
        labels = torch.tensor(task.labels)
        right = (after @ task.directions.double().T).argmax(1) == labels
        assert top1[task.name] == pytest.approx(float(right[labels >= 0].double().mean()), abs=1e-6)


def test_neighbour_agreement_is_counted_over_effects(measured):
    found, terms, kept = measured
    late = chapter2_pictures_late(terms)
    rows = chapter2_pictures.neighbour_agreement(found, late, kept)
    name, whole, head, cosine, inner = next(row for row in rows if row[0] == "backgrounds")
    task = next(task for task in found.tasks if task.name == name)
    known = [i for i in kept if task.labels[i] >= 0]
    labels = np.array([task.labels[i] for i in known])
    part = late.select([kept.index(i) for i in known])
    effects = headset.summed_effects(part.codes, part.basis, [head]).double().numpy()
    unit = effects / np.linalg.norm(effects, axis=1, keepdims=True)
    embedding = part.embedding.double().numpy()
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    for vectors, value in ((unit, cosine), (effects, inner), (embedding, whole)):
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -np.inf)
        near = np.argsort(-scores, axis=1)[:, : chapter2_pictures.N_NEAR]
        assert value == pytest.approx(float((labels[near] == labels[:, None]).mean()), abs=0.01)


def chapter2_pictures_late(terms):
    class Late:
        n_layers = len(terms.codes.layers)

    return chapter2.late_terms(Late, terms)


@pytest.mark.parametrize(("n_heads", "n_bands"), [(8, 1), (12, 2), (25, 4)])
def test_the_texts_of_many_heads_do_not_lie_on_each_other(n_heads, n_bands):
    heads = [(layer, head) for layer in range(20, 24) for head in range(n_heads)]
    figure = figures.head_roles(
        dict.fromkeys(heads, "no clear role"),
        dict.fromkeys(heads, 0.0),
        {head: ["A wide photograph of a mountain", "A mountain"] for head in heads},
    )
    assert len(figure.axes) == n_bands
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    shown = [
        text
        for axes in figure.axes
        for text in (*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels())
        if text.get_text()
    ]
    assert sum(text.get_text().startswith("head ") for text in shown) == n_heads
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in shown]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_our_segmentation_is_the_token_decomposition(model, measured):
    found = measured[0]
    two = found.masks.subset([0, 2])
    pool = model.encode_texts(["a duck", "on the water"])
    maps, masks, pictures, texts = segmenting.all_methods(model, found, two, quiet=True, pool=pool)
    assert len(masks) == len(pictures) == len(texts) == 2
    classes = classifiers.from_prompts(model, list(found.class_prompts.values()))
    own = classes[list(found.class_prompts).index(texts[1])]
    picture, mask = two[1]
    everything = segmenting.all_methods(model, found, two, quiet=True, pool=pool, summed="all")[0]
    late = range(model.n_layers - 4, model.n_layers)
    for name, background in ((segmenting.TOKENS, classes), (segmenting.TOKENS_POOL, pool)):
        direction = (own - background.mean(0))[None]
        for summed, layers in ((maps, late), (everything, range(model.n_layers))):
            expected = model.trace([picture]).token_scores(direction, layers)[0, 0, :, :, 1:].sum((0, 1))
            assert summed[name][1].ravel() == pytest.approx(expected.numpy(), abs=1e-5)
    pixels = model.prepare([picture])
    direction = (own - pool.mean(0))[None]
    effects = model.trace(pixels).token_scores(direction, late)[0].sum(2)
    traced = baselines.traced_back(effects, record(model, pixels, own[None]).attention, late)
    assert maps[segmenting.TRACED][1].ravel() == pytest.approx(traced[0].numpy(), abs=1e-5)
    with pytest.raises(ValueError, match="summed to be one of late, all, got 'x'"):
        segmenting.layers_of(12, "x")
    assert masks[1].shape == (96, 96)
    assert bool((masks[1].numpy() == mask).all())
    assert 0 < segment.score(maps[segmenting.TOKENS], masks).miou < 1


def test_maps_are_kept_as_they_are_made(model, measured, tmp_path, monkeypatch):
    """Another chapter, and an interrupted run, takes them from the steps; other texts or pictures make new ones."""
    found, steps = measured[0], Steps(tmp_path, {})
    two = found.masks.subset([0, 1])
    monkeypatch.setattr(segmenting, "CHUNK", 1)
    kept = segmenting.all_methods(model, found, two, quiet=True, steps=steps)
    (first, *_) = sorted(tmp_path.glob("maps-*.npz"))
    assert len(list(tmp_path.glob("maps-*.npz"))) == len(two) == 2
    first.unlink()
    passes = []
    record = segmenting.record
    monkeypatch.setattr(segmenting, "record", lambda *given: passes.append(1) or record(*given))
    again = segmenting.all_methods(model, found, two, quiet=True, steps=Steps(tmp_path, {"other": 1}))
    assert len(passes) == 1  # the chunk that was lost
    for name, maps in kept[0].items():
        assert len(maps) == len(again[0][name]) == 2
        assert all(torch.equal(one, other) for one, other in zip(maps, again[0][name], strict=True)), name
    segmenting.all_methods(model, found, found.masks.subset([1]), quiet=True, steps=steps)
    segmenting.all_methods(model, found, two, quiet=True, summed="all", steps=steps)
    assert len(passes) == 1 + 1 + 2


def test_pictures_of_two_are_asked_for_each_with_its_own_mask(measured):
    found = measured[0]
    assert len(found.pairs) == 4
    for place in (0, 2):
        (one, first), (other, second) = found.pairs[place], found.pairs[place + 1]
        assert np.array_equal(np.asarray(one), np.asarray(other))
        assert first.any()
        assert second.any()
        assert not (first & second).any()
        assert len({*found.pairs.labels[place : place + 2]}) == 2
        assert {*found.pairs.labels[place : place + 2]} <= set(found.class_prompts)


def test_shortcut_heads_look_at_no_label(measured):
    found, terms, _ = measured
    late = chapter2_pictures_late(terms)
    heads = spurious.shortcut_heads(late, found.shortcut, found.birds[1].classifiers["names"], 5)
    assert len(heads) == 5
    assert {layer for layer, _ in heads} <= {2, 3, 4, 5}


def test_a_folder_of_classes_is_measured_and_broken_images_are_counted(model, tmp_path, undrawn):
    rng = np.random.default_rng(0)
    for name in ("red circle", "blue square"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(4):
            noise = rng.integers(0, 256, (50, 60, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "data" / name / f"{k}.png")
    (tmp_path / "data" / "red circle" / "broken.png").write_bytes(b"not a picture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "open_texts", lambda name: clipviz.demo.texts())
        path = reproduce.run(
            "chapter2", model, tmp_path / "out", data=str(tmp_path / "data"), quiet=True
        ).path
    text = path.read_text()
    assert "8 of 8 images, 1 skipped as unreadable" in text
    assert "Needs `--segmentation FOLDER`, images/ and masks/" in text
    assert "Needs `--waterbirds FOLDER`, the Waterbirds data" in text


def test_a_table_names_the_classes_as_it_does_for_a_session(model, tmp_path):
    """A flat folder with a CSV: the classes and labels that a session reads; pictures without a label are left out."""
    rng, lines = np.random.default_rng(0), ["filename,label"]
    for i, label in enumerate(["dog", "cat", "", "cat", "dog", "cat"]):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{label}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "open_texts", lambda name: clipviz.demo.texts())
        found = evaluation.folder_evaluation(model, str(tmp_path))
    task = found.tasks[0]
    assert task.classes == ("cat", "dog")
    assert [found.images.names[i] for i in range(len(found.images))] == [f"{i}.png" for i in (0, 1, 3, 4, 5)]
    assert task.labels == (1, 0, 0, 1, 0)
    asked = labelled_tasks(open_images(str(tmp_path)))["classes"]
    assert asked.classes == task.classes
    assert tuple(label for label in asked.labels if label >= 0) == task.labels


def test_waterbirds_are_also_learnt_from_their_training_part(model, tmp_path):
    rng = np.random.default_rng(0)
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for i in range(14):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / f"{i:02d}.png")
        lines.append(f"{i},{i:02d}.png,{i % 2},{0 if i < 6 else 2},{i // 2 % 2},x")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    (tmp_path / "02.png").write_bytes(b"not a picture")
    images, found = evaluation._waterbirds(model, str(tmp_path), None)
    assert len(images) == len(found.labels) == 8
    assert found.note == "learnt from 5 pictures of the data set's biased training part"
    pictures = [[Image.open(tmp_path / f"{i:02d}.png") for i in rows] for rows in ((0, 4), (1, 3, 5))]
    for direction, shown in zip(found.classifiers["examples"], pictures, strict=True):
        mean = torch.nn.functional.normalize(model.encode_images(shown).double(), dim=1).mean(0)
        torch.testing.assert_close(direction.double().cpu(), (mean / mean.norm()).cpu(), atol=1e-5, rtol=0)
    (tmp_path / "metadata.csv").write_text("\n".join([lines[0], *lines[7:]]))
    _, alone = evaluation._waterbirds(model, str(tmp_path), None)
    assert list(alone.classifiers) == ["names"]
    assert alone.note.startswith(
        "which need the data set's training part: expected images of the train split"
    )


def test_what_cannot_be_measured_is_said(model, tmp_path):
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "flat" / "a.png")
    with pytest.raises(ValueError, match="a subfolder for each class, got 0 classes"):
        reproduce.run("chapter2", model, tmp_path / "out", data=str(tmp_path / "flat"), quiet=True)
    for name in ("a", "b"):
        (tmp_path / "few" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "few" / name / "1.png")
    with pytest.raises(ValueError, match="expected more than 5 images that can be read, got 2"):
        reproduce.run("chapter2", model, tmp_path / "out", data=str(tmp_path / "few"), quiet=True)
    with pytest.raises(ValueError, match="expected a chapter among"):
        reproduce.run("chapter9", model, tmp_path / "out")

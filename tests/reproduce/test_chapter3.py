"""The chapter's report on the demo world at tiny sizes: complete, resumable, honest about what is not measured."""

from __future__ import annotations

import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import clipviz
from clipviz.analysis.cues.attacks import attack_pair
from clipviz.analysis.neurons import sums as neuron_sums
from clipviz.lens.neuron_stats import rank_one
from clipviz.models.second import basis_bytes
from clipviz.reproduce import contents, published, run
from clipviz.reproduce.chapter3 import attacks, layers, neuron_texts
from clipviz.reproduce.chapter3 import chapter as chapter3
from clipviz.reproduce.chapter3.attack_tasks import CIFAR10, DEMO, TRAFFIC_SIGNS, pairs_of
from clipviz.reproduce.report import Report, Steps

pytestmark = pytest.mark.usefixtures("short_codes")


@pytest.mark.slow
def test_the_report_is_complete_and_goes_on_where_it_stopped(model, tmp_path, monkeypatch, request):
    monkeypatch.setattr(chapter3, "CODE_SIZES", (2, 4))
    monkeypatch.setattr(chapter3, "QUICK_COMPARED", (8, 3))
    monkeypatch.setattr(attacks, "PAIRS", (("duck", "penguin"),))
    monkeypatch.setattr(layers, "usable_layers", lambda model: [2, 3, 4])
    monkeypatch.setattr(attacks, "indirect_directions", lambda m, r, known, *rest: known.line.directions)
    monkeypatch.setattr("clipviz.reproduce.evaluation.DEMO_MASKS", 3)
    path = run("chapter3", model, tmp_path, limit=24, quick=True, quiet=True).path
    text = path.read_text()
    assert path.name == "chapter3.md"
    blocks = json.loads((tmp_path / "blocks" / "chapter3.json").read_bytes())["blocks"]
    assert contents.missing(contents.where_shown(blocks), "chapter3") == []
    assert not [block for block in blocks if block["kind"] == "needs"]
    for name in re.findall(r"\(figures/([\w-]+)\.svg\)", text):
        assert (tmp_path / "figures" / f"{name}.svg").stat().st_size > 500
    assert "thesis, ImageNet" not in text
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "steps").iterdir()}
    request.getfixturevalue("undrawn")  # the figures are there already
    again = run("chapter3", model, tmp_path, limit=24, quick=True, quiet=True).path
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "steps").iterdir()} == before
    assert _unsigned(again.read_text()) == _unsigned(text)


def _unsigned(text):
    return re.sub(r"Made in \d+ s", "", text)


def test_the_reference_images_are_others(study):
    assert study.evaluation.birds is None  # which chapter 2 alone measures
    assert not set(study.reference.names) & set(study.evaluation.images.names)
    few = clipviz.demo.images().subset(range(10))
    assert len(chapter3.others(few, 8, 5)) == 5  # too few are left: all of them serve


def test_layer_statistics_are_those_of_the_images_at_once(model, study):
    known = study.layer(3)
    second = model.second_order(list(study.reference), 3)
    assert known.norms.float().numpy() == pytest.approx(second.norms().numpy(), rel=2e-3, abs=1e-6)
    norms = second.norms()
    assert known.thresholds.numpy() == pytest.approx(
        torch.quantile(norms, 0.98, dim=0).numpy(), rel=5e-3, abs=1e-6
    )
    squares = norms.square()
    share = (squares * (norms > known.thresholds)).sum(0) / squares.sum(0)
    assert known.concentration() == pytest.approx(float(share.mean()), rel=0.05)
    again = rank_one(known.stats, model.neuron_basis(3))
    assert torch.equal(again.directions, known.line.directions)


def test_layers_read_together_are_those_read_alone(model, study, tmp_path):
    """One pass serves a group; what is there already is not read again."""
    alone = [study.layer(layer) for layer in (2, 3)]
    steps = Steps(tmp_path, {})
    layers.layer_statistics(model, study.reference, [3], steps, True)
    together = layers.layer_statistics(model, study.reference, [2, 3], steps, True)
    assert steps.done == ["neurons-statistics-3", "neurons-statistics-2"]
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.thresholds, other.thresholds)
        assert torch.equal(one.line.directions, other.line.directions)
        assert torch.equal(one.stats.top_images, other.stats.top_images)
    found = layers.layer_embeddings(model, study.evaluation.images, together, steps, True)
    for one, left in zip(alone, found, strict=True):
        (single,) = layers.layer_embeddings(model, study.evaluation.images, [one], study.steps, True)
        for name, values in single.items():
            assert np.array_equal(left[name], values), name


def test_a_pass_that_was_interrupted_goes_on_where_it_stopped(model, study, tmp_path, monkeypatch):
    known = study.of_layers([2, 3])
    whole = layers.layer_embeddings(model, study.evaluation.images, known, Steps(tmp_path / "a", {}), True)
    n_images = len(study.evaluation.images)
    monkeypatch.setattr(layers, "PART", n_images // 3)
    steps, read, plain = Steps(tmp_path / "b", {}), [], layers._after_conditions

    def cut(model, images, rows, *rest):
        if len(read) == 2 and not steps.resumed:
            raise KeyboardInterrupt
        read.append(rows)
        return plain(model, images, rows, *rest)

    monkeypatch.setattr(layers, "_after_conditions", cut)
    with pytest.raises(KeyboardInterrupt):
        layers.layer_embeddings(model, study.evaluation.images, known, steps, True)
    assert steps.done == [f"neurons-images-{n}-from-{at}" for at in (0, n_images // 3) for n in (2, 3)]
    found = layers.layer_embeddings(model, study.evaluation.images, known, steps, True)
    assert [rows.start for rows in read] == list(range(0, n_images, n_images // 3))
    for one, other in zip(whole, found, strict=True):
        assert list(other) == list(one)
        for name, values in one.items():
            assert np.allclose(other[name], values, atol=1e-6), name
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "neurons-images-2.npz",
        "neurons-images-3.npz",
    ]


def test_groups_hold_what_fits(study, monkeypatch):
    assert study.groups == [study.layers]
    model = study.model
    size = basis_bytes(model.weights, 0)
    assert (
        size
        == sum(
            part.numel()
            for part in (
                model.neuron_basis(0).value_codes,
                model.neuron_basis(0).writers,
                model.neuron_basis(0).gram,
            )
        )
        * 4
    )
    monkeypatch.setattr(neuron_sums, "TOGETHER_BYTES", 0)
    assert neuron_sums.read_together(model, [0, 1, 2], 40, 16) == [[0], [1], [2]]
    one_batch = 4 * model.weights.n_neurons * model.weights.n_tokens * 32
    monkeypatch.setattr(neuron_sums, "TOGETHER_BYTES", 3 * one_batch)
    one_pass = neuron_sums.read_together(model, range(4), 32, 1)
    assert neuron_sums.basis_costs(model.weights, 0) < neuron_sums.pass_costs(model.weights, 32)
    assert neuron_sums.read_together(model, range(4), 33, 1) == one_pass  # a basis is cheaper than a pass
    monkeypatch.setattr(neuron_sums, "pass_costs", lambda *_: 0)
    assert len(neuron_sums.read_together(model, range(4), 33, 1)) > len(one_pass)
    assert neuron_sums.read_together(model, range(4), 32, 1) == one_pass  # one batch, one basis


def test_conditions_are_the_explicit_replacements(model, study):
    """w/o all: every phi becomes its mean over the reference; w/o large and small part them at the threshold."""
    known = study.layer(4)
    found = layers.layer_embeddings(model, study.evaluation.images, [known], study.steps, True)[0]
    reference = model.second_order(list(study.reference), 4).effects().double()
    second = model.second_order(list(study.evaluation.images), 4)
    effects, mean = second.effects().double(), reference.mean(0)
    unit = torch.nn.functional.normalize(second.embedding, dim=1).double()
    large = second.norms() > known.thresholds
    gaps = effects - mean
    assert torch.allclose(torch.from_numpy(found["w/o all neurons"]).double(), unit - gaps.sum(1), atol=2e-5)
    for name, chosen in (("w/o small norm", ~large), ("w/o large norm", large)):
        expected = unit - (gaps * chosen[..., None]).sum(1)
        assert torch.allclose(torch.from_numpy(found[name]).double(), expected, atol=2e-5)
    with_codes = layers.layer_embeddings(
        model, study.evaluation.images, [known], study.steps, True, codes=True
    )[0]
    rebuilt = with_codes["left"] + with_codes["coefficients"] @ known.line.directions.numpy()
    assert rebuilt == pytest.approx(with_codes["reconstruction from PC 1"], abs=1e-5)


def test_components_of_indirect_effects_point_where_most_images_do():
    generator = torch.Generator().manual_seed(0)
    along = torch.tensor([3.0, 1.0, 2.0, -0.5])
    direction = torch.nn.functional.normalize(torch.randn(6, generator=generator), dim=0)
    effects = along[:, None] * direction + 0.01 * torch.randn(4, 6, generator=generator)
    found = layers.signed_components(torch.stack([effects, -effects]))
    assert torch.allclose(found[0], direction, atol=0.02)
    assert torch.allclose(found[1], -direction, atol=0.02)


def test_first_order_effects_of_a_layer_are_ablated_together(model, study, tmp_path):
    """From every neuron's first-order effect formed (Eq. 3.1): its mean in its place."""
    report = Report(tmp_path, "first")
    chapter3.first_order_section(report, study, 3)
    second = model.second_order(list(study.evaluation.images), 3)
    unit = torch.nn.functional.normalize(second.embedding, dim=1)
    first = second.first_order()
    after = study.accuracy(unit - (first - first.mean(0)).sum(1), range(len(unit)))
    before = study.accuracy(unit, range(len(unit)))
    said = "; ".join(f"{task} {top1:.3f} of {before[task]:.3f}" for task, top1 in after.items())
    assert f"mean-ablated together they leave {said}." in report.write("first").read_text()


def test_component_shares_by_hand():
    line = np.array([[1.0, 0], [-1, 0], [2, 0], [-2, 0]])
    square = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert layers.component_share(line[:, None], top=1.0) == pytest.approx(1.0)
    assert layers.component_share(square[:, None], top=1.0) == pytest.approx(0.5)
    uneven = np.concatenate([3 * line, square[2:]])
    assert layers.component_share(uneven[:, None], n_top=4) == pytest.approx(1.0)
    assert layers.component_share(uneven[:, None], n_top=100) < 0.99


def test_changes_are_shares_of_the_variance():
    before = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert chapter3._change(before, np.zeros((2, 2))) == pytest.approx(1.0)
    assert chapter3._change(before, before) == 0


def test_texts_that_name_what_is_shown_are_counted(study):
    forms = [("cat",), ("dog",)]
    labels = [0, 1, -1, 0]
    task = SimpleNamespace(name="pets", labels=labels)
    toy = SimpleNamespace(evaluation=SimpleNamespace(tasks=[task]))
    found = [["a cat"], ["two dogs"], ["a cat"], ["a tree"]]
    assert neuron_texts.named(toy, "pets", forms, range(4), found) == (2 / 3, 1 / 3, 3)


def test_the_verdict_says_who_wins():
    row = dict.fromkeys(attacks.METHODS, (0.1, 0.0))
    won = attacks.verdict({"a → b": {**row, "second order": (0.3, 0.1)}}, 3)
    assert "on 1 of 1 tasks (a → b)" in won
    assert "within the deviations" not in won
    narrow = attacks.verdict({"a → b": {**row, "second order": (0.12, 0.1)}}, 3)
    assert "within the deviations on a → b." in narrow
    lost = attacks.verdict({"a → b": {**row, "similar words": (0.6, 0.1)}}, 3)
    assert "on 0 of 1 tasks." in lost
    assert "do better on average" in lost


def test_other_models_need_images_and_leave_the_attack_out(model, study, tmp_path):
    other = clipviz.wrap(model.network, tokenizer=model.tokenizer, preprocess=model.preprocess, name="mine")
    with pytest.raises(ValueError, match="pass data=FOLDER"):
        chapter3.run(other, tmp_path)
    report = Report(tmp_path, "none")
    elsewhere = layers.Study(other, study.evaluation, study.reference, Steps(tmp_path, {}), True)
    attacks.attack_section(report, elsewhere, 1)
    text = report.write("none").read_text()
    assert "Needs `--describe, --draw`" in text
    chapter3._unseen(report, elsewhere)
    assert "Figure B.3: needs `--shifted`" in report.write("none").read_text()


def test_a_writer_and_a_painter_measure_the_attacks_of_any_model(model, study, tmp_path, monkeypatch):
    other = clipviz.wrap(model.network, tokenizer=model.tokenizer, preprocess=model.preprocess, name="mine")
    monkeypatch.setattr(attacks, "indirect_directions", lambda m, r, known, *rest: known.line.directions)
    drawn = []

    def draw(sentence, seed):
        drawn.append((sentence, seed))
        return study.evaluation.images[seed % 5]

    def describe(words, name, avoid):
        return [f"a {name} and {word}" for word in words]

    sources, plain = [], attacks.attack_source
    monkeypatch.setattr(attacks, "attack_source", lambda *a: sources.append(plain(*a)) or sources[-1])
    own = chapter3.studio_of(describe, draw)
    elsewhere = layers.Study(
        other,
        study.evaluation,
        study.reference,
        study.steps,
        True,
        kept=study.kept,
        studio=own,
        pairs="ship/truck",
    )
    report = Report(tmp_path, "own")
    attacks.attack_section(report, elsewhere, 1, quick=True)
    text = report.write("own").read_text()
    assert "ship → truck" in text
    assert "describe" in text
    assert "No picture is removed by hand" in text
    assert "Needs" not in text
    assert ("a ship", 0) in drawn
    (source,) = sources
    found = attack_pair(other, source, ("ship", "truck"), 0, n_sentences=3, n_images=2, studio=own)
    for method, (words, attack) in found.items():
        expected = {"a ship"} if method == "no words" else {f"a ship and {word}" for word in words}
        assert set(attack.sentences) <= expected
        share = f"{100 * attack.success:.1f}% (±0.0)"
        assert share in next(line for line in text.splitlines() if line.startswith("| ship → truck | "))
    n_drawn = len(drawn)
    monkeypatch.setattr(attacks, "attack_source", lambda *_: source)
    attacks.attack_section(Report(tmp_path, "again"), elsewhere, 1, quick=True)
    assert len(drawn) == n_drawn  # the step is found again
    unnamed = dataclasses.replace(elsewhere, pairs=None)
    report = Report(tmp_path, "unnamed")
    attacks.attack_section(report, unnamed, 1, quick=True)
    assert "Needs `--pairs`" in report.write("unnamed").read_text()
    with pytest.raises(ValueError, match="describe and draw together"):
        chapter3.studio_of(describe, None)


def test_a_writer_without_a_fair_sentence_is_stated(model, study, tmp_path, monkeypatch):
    """Of the methods that have words none can be drawn; the class alone can, and stays in the table."""
    other = clipviz.wrap(model.network, tokenizer=model.tokenizer, preprocess=model.preprocess, name="mine")
    monkeypatch.setattr(attacks, "indirect_directions", lambda m, r, known, *rest: known.line.directions)

    def describe(words, name, avoid):
        return [f"a {name} that is a {avoid}"]

    def draw(sentence, seed):
        return study.evaluation.images[seed % 5]

    elsewhere = dataclasses.replace(
        study, model=other, studio=chapter3.studio_of(describe, draw), pairs="ship/truck"
    )
    report = Report(tmp_path, "unfair")
    attacks.attack_section(report, elsewhere, 2, quick=True)
    text = report.write("unfair").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| ship → truck | "))
    assert row.count("–") == 4
    assert "%" in row.split("|")[2]
    for method in attacks.METHODS[1:]:
        assert f"**ship → truck, {method}**: no sentence to draw (expected sentences that name 'ship'" in text
    assert "Figure 3.6: there is no picture for it, since none fools the classifier." in text
    assert "Needs" not in text


def test_indirect_effects_of_a_sample_are_those_of_its_neurons(model, study):
    known = study.layer(4)
    few = layers.indirect_directions(model, study.reference, known, study.steps, 1, True, None, 5)
    chosen = layers.spaced(model.neuron_basis(4).n_neurons, 5)
    assert few.shape == (5, model.weights.d_embed)
    mean = layers.mean_of(model, study.reference, 4, study.steps, True)
    for row, neuron in enumerate(chosen):
        image = int(known.stats.top_images[neuron, 0])
        effect = layers.indirect_effects(model, study.reference[image], 4, mean, [neuron])[0, 0]
        assert abs(float(torch.nn.functional.cosine_similarity(effect, few[row], dim=0))) == pytest.approx(
            1, abs=1e-4
        )


def test_pairs_are_a_tasks_or_ones_own():
    assert pairs_of("cifar10", ())[1] == ("dog", "deer")
    assert pairs_of("traffic", ()) == (("stop sign", "yield sign"), ("stop sign", "crossroad"))
    assert pairs_of(None, [*CIFAR10.classes, "whale"]) == CIFAR10.pairs
    assert pairs_of(None, ["Stop_Sign", "yield sign", "crossroad", "ahead"])[0] == ("stop sign", "yield sign")
    assert pairs_of(None, ["cat", "dog"]) == ()
    assert pairs_of("cat / dog, ship/truck", ()) == (("cat", "dog"), ("ship", "truck"))
    assert pairs_of([("a", "b")], ()) == (("a", "b"),)
    for task in (CIFAR10, TRAFFIC_SIGNS, DEMO):
        assert {name for pair in task.pairs for name in pair} <= set(task.classes)
    assert set(published.TABLE_3_3) == {f"{one} → {other}" for one, other in CIFAR10.pairs}
    for wrong in ("cat", "cat/cat", "a/b/c", ""):
        with pytest.raises(ValueError, match="expected pairs as cifar10, traffic or"):
            pairs_of(wrong, ())


def test_images_in_another_style_are_judged_by_the_evaluations_texts(model, study, tmp_path):
    images = study.evaluation.images
    known = study.evaluation.class_prompts
    chosen = [i for i, name in enumerate(images.attributes["class"]) if name in known][:8]
    names = [images.attributes["class"][i] for i in chosen]
    for i, name in zip(chosen, names, strict=True):
        (tmp_path / "style" / name).mkdir(parents=True, exist_ok=True)
        images[i].save(tmp_path / "style" / name / f"{i}.png")
    shifted = dataclasses.replace(study, shifted=str(tmp_path / "style"))
    found, (task,) = chapter3.shifted_views(shifted, 100)
    assert list(task.classes) == sorted(set(names))
    assert task.prompts == tuple(tuple(known[name]) for name in task.classes)
    assert [task.classes[label] for label in task.labels] == [name.split("/")[0] for name in found.names]
    report = Report(tmp_path, "shifted")
    chapter3._unseen(report, shifted)
    text = report.write("shifted").read_text()
    assert f"On {len(chosen)} pictures of style" in text
    assert "Figure B.3: classes, style, late layers" in text


def test_every_layer_is_read_however_large_its_covariances(study):
    giant = SimpleNamespace(n_layers=24, weights=SimpleNamespace(n_layers=24, n_heads=16, n_neurons=4096))
    assert layers.usable_layers(giant) == list(range(23))  # ViT-L/14: 2 GB of covariances in layer 0
    assert study.layer(0).stats.scatter is None
    with pytest.raises(ValueError, match="taken without them; take them with scatter=True"):
        rank_one(study.layer(0).stats, study.model.neuron_basis(0), over="all")

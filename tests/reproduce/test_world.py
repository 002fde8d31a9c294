"""The demo world's report card: its measures against slow references, its sections, its options."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import clipviz
from clipviz import reproduce
from clipviz.analysis.heads import labels
from clipviz.analysis.neurons.sums import read_layers
from clipviz.data.texts import Texts
from clipviz.demo.model import evaluate
from clipviz.demo.world import bird_examples, join, render, spurious
from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.scene import OBJECT
from clipviz.figures import world as figures
from clipviz.lens import ablate, intervals
from clipviz.lens.neuron_stats import rank_one
from clipviz.lens.roles import Role
from clipviz.reproduce.chapter2.chapter import Measured, late_terms
from clipviz.reproduce.report import Steps
from clipviz.reproduce.world import bounds, held_out, stage
from clipviz.reproduce.world import chapter as world
from clipviz.reproduce.world import measures as world_measures
from clipviz.reproduce.world.held_out import HeldOutSizes
from clipviz.reproduce.world.measures import N_DRAWS
from clipviz.values import N_LATE
from tools.demo import cards

LIMIT = 80
SIZES = replace(HeldOutSizes.within(LIMIT), scenes=24, masks=3, neurons=12, large=12)


@pytest.fixture(scope="module", autouse=True)
def small():
    """Fewer scenes, masks and pictures than the command allows, for the limit of these tests."""
    within = HeldOutSizes.within
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "PAIRS", stage.PAIRS[:1])
        patch.setattr(stage, "N_REPEATS", 1)
        patch.setattr(HeldOutSizes, "within", lambda limit: SIZES if limit == LIMIT else within(limit))
        yield


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """The report's folder and text, and by name what was made on the way."""
    folder, seen = tmp_path_factory.mktemp("world"), {}

    def noted(name, make):
        return lambda *given, **options: seen.setdefault(name, make(*given, **options))

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((world, "held_out"), (world, "trace_terms"), (world_measures, "head_table")):
            patch.setattr(module, name, noted(name, getattr(module, name)))
        path = reproduce.run("world", model, folder, limit=LIMIT, quiet=True).path
    return folder, path.read_text(), seen


@pytest.fixture(scope="module")
def written(run):
    return run[:2]


@pytest.fixture(scope="module")
def measured(run):
    """The held-out scenes as an evaluation and as they are, their terms, and which could be read."""
    seen = run[2]
    return *seen["held_out"], *seen["trace_terms"][:2]


def test_the_world_is_a_chapter_of_the_command():
    assert "world" in reproduce.CHAPTERS


def test_the_report_has_every_section_and_figure(written):
    folder, text = written
    titles = re.findall(r"^## (.+?)(?: \(.*)?$", text, re.MULTILINE)
    assert titles == [
        "The main numbers",
        "In short",
        "What it tells apart",
        "Where it is computed",
        "What the late heads are about",
        "Segmentation",
        "Token maps against raw attention of the best layers",
        "Spurious background",
        "Neurons by their second-order effects",
        "The embedded generator",
        "The thesis's findings on this world",
        "What bounds these numbers",
    ]
    shown = re.findall(r"!\[.*?\]\((figures/.+?\.svg)\)", text)
    assert len(shown) == len(set(shown)) >= 9
    for name in shown:
        assert (folder / name).stat().st_size > 1000


def test_the_report_has_a_row_for_every_family_head_and_layer(written, model):
    _, text = written
    for family in (*evaluate.FAMILY_TESTS, "object, single, own colour", "glyph, large, plain"):
        assert f"\n| {family} | " in text
    for head in range(model.n_heads):
        assert f"\n| L{model.n_layers - 1}.H{head} | " in text
    assert text.count("(null ") == 4 * model.n_heads
    assert f"\n| MLP {model.n_layers - 1} | " in text
    assert f"\n| attention 0-{model.n_layers - 1} | " in text


def test_a_second_run_takes_its_steps_from_the_first(written, model, monkeypatch, undrawn):
    folder, text = written

    def fail(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr(evaluate, "report", fail)
    monkeypatch.setattr(world_measures, "neuron_layers", fail)
    again = reproduce.run("world", model, folder, limit=LIMIT, quiet=True).path.read_text()
    assert again.split("\nMade in")[0] == text.split("\nMade in")[0]


def test_options_of_other_chapters_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="expected no images of the user's own for the demo world, got data"):
        reproduce.run("world", model, tmp_path, data="photos", quiet=True)
    with pytest.raises(ValueError, match="at least 40 held-out scenes, got 3"):
        reproduce.run("world", model, tmp_path, limit=3, quiet=True)


def test_sizes_shrink_together_and_never_grow():
    assert HeldOutSizes.within(None) == HeldOutSizes.within(50_000) == HeldOutSizes()
    assert N_DRAWS == 200  # fewer in these tests alone
    small = HeldOutSizes.within(1000)
    assert small.seeds == evaluate.HELD_OUT_SEEDS
    assert small.scenes == 200
    assert small.traced == 100
    assert small.birds == 10
    assert HeldOutSizes.within(100).seeds == evaluate.HELD_OUT_SEEDS[:2]


def test_the_encoder_agrees_with_the_trainers_own(model):
    images = render(12, 3).images
    ours, theirs = held_out.encoder_of(model), evaluate.encoder_of(model.network)
    torch.testing.assert_close(ours.images(images), theirs.images(images), rtol=1e-4, atol=1e-5)
    texts = ["a duck", "two red apples on a striped background"]
    torch.testing.assert_close(ours.texts(texts), theirs.texts(texts), rtol=1e-4, atol=1e-5)


def test_family_tasks_label_what_the_table_says(measured):
    evaluation, scenes, _, _ = measured
    tasks = {task.name: task for task in evaluation.tasks}
    assert list(tasks) == list(held_out.FAMILIES)
    counts = scenes.attribute("count")
    for index, label in enumerate(tasks["count"].labels):
        if label >= 0 and counts[index] > 1:
            assert label == counts[index] - 2
    assert sum(label >= 0 for label in tasks["count"].labels) > 0
    for index, label in enumerate(tasks["object"].labels):
        if label >= 0:
            assert words.OBJECT_NAMES[label] == scenes.words("class")[index]
    assert len(tasks["count"].directions) == words.MAX_COUNT - 1


def test_masks_are_those_of_lone_kinds_of_objects(measured):
    evaluation, scenes, _, _ = measured
    assert len(evaluation.masks) == SIZES.masks * SIZES.n_seeds
    for (picture, mask), name, label in zip(
        evaluation.masks, evaluation.masks.names, evaluation.masks.labels, strict=True
    ):
        index = int(name.split()[1])
        assert np.array_equal(np.asarray(picture), scenes.images[index])
        assert np.array_equal(mask, scenes.masks[index] > 0)
        assert scenes.scenes[index].subject.kind == OBJECT
        assert label == scenes.words("class")[index]


def test_birds_are_in_equal_groups(measured):
    groups = measured[0].birds[1]
    assert {groups.groups.count(name) for name in set(groups.groups)} == {2 * SIZES.birds}
    for label, group in zip(groups.labels, groups.groups, strict=True):
        assert group.startswith(("waterbird", "landbird")[label])


def test_ablating_everything_leaves_every_image_alike(model, measured):
    evaluation, _, terms, kept = measured
    accuracy = Measured(evaluation, terms, kept)
    found = world_measures.ablations(model, accuracy)
    encoded = model.encode_images(list(evaluation.images)).cpu()
    unchanged = {
        task.name: float(
            ((encoded[rows] @ task.directions.T).argmax(1) == torch.tensor([task.labels[i] for i in rows]))
            .float()
            .mean()
        )
        for task in evaluation.tasks
        if (rows := [i for i, label in enumerate(task.labels) if label >= 0])
    }
    assert found["nothing"] == pytest.approx(unchanged, abs=1e-6)
    assert len(found) == 1 + (1 + model.n_layers) + 1 + model.n_layers + (model.n_layers - 1)
    everything = clipviz.Ablation(
        layers=frozenset(range(model.n_layers)), mlps=frozenset(range(model.n_layers + 1))
    )
    embedding = ablate.embedding_after(terms, everything, ablate.means_of(terms))
    torch.testing.assert_close(embedding, embedding[:1].expand_as(embedding), rtol=1e-3, atol=1e-4)


def between_share_literally(effects, labels):
    """Variance between and within groups summed sample by sample, in float64."""
    rows = [i for i, label in enumerate(labels) if label >= 0]
    data = effects[rows].astype(np.float64)
    named = [labels[i] for i in rows]
    mean, total, between = data.mean(0), np.zeros(data.shape[1]), np.zeros(data.shape[1])
    for i, name in enumerate(named):
        centre = data[[k for k, other in enumerate(named) if other == name]].mean(0)
        total += ((data[i] - mean) ** 2).sum(-1)
        between += ((centre - mean) ** 2).sum(-1)
    n, k = len(rows), len(set(named))
    return 1 - (1 - between / total) * (n - 1) / (n - k)


def test_between_share_equals_the_literal_sums():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 40).tolist()
    effects = (
        rng.normal(size=(40, 3, 5)) + np.array(labels)[:, None, None] * np.array([0, 1, 3])[None, :, None]
    )
    found = world_measures.between_share(torch.tensor(effects), labels)
    np.testing.assert_allclose(found.numpy(), between_share_literally(effects, labels), rtol=1e-9)
    assert found[2] > found[1] > found[0]


def test_between_share_of_meaningless_groups_is_zero_on_average():
    generator = torch.Generator().manual_seed(0)
    effects = torch.randn(120, 200, 4, generator=generator)
    labels = torch.randint(0, 30, (120,), generator=generator).tolist()
    assert float(world_measures.between_share(effects, labels).mean()) == pytest.approx(0, abs=0.01)
    assert world_measures.between_share(effects[:5], [0, 1, 2, 3, 4]).eq(0).all()


def test_between_share_of_groups_that_explain_everything_is_one():
    effects = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 2.0]], [[0.0, 2.0]]])
    assert float(world_measures.between_share(effects, [0, 0, 1, 1])[0]) == pytest.approx(1)


@pytest.fixture(scope="module")
def table(run):
    return run[2]["head_table"]


def test_the_head_table_counts_heads_and_their_null(model, table):
    assert len(table.heads) == 4 * model.n_heads
    assert table.null_counts.shape == (labels.N_DRAWS, len(table.heads))
    assert table.n_heads(1) == len(table.heads) == int(table.null_heads(1).min())
    assert [table.n_heads(k) for k in range(1, 6)] == sorted(
        (table.n_heads(k) for k in range(1, 6)), reverse=True
    )
    expected = float((table.null_counts >= 3).double().sum(1).mean())
    assert table.ratio() == pytest.approx(table.n_heads() / expected)
    for row in range(len(table.heads)):
        name, share = table.supervised(row)
        assert share == max(float(values[row]) for values in table.shares.values())
        assert name in world_measures.SUPERVISED


def test_supervision_is_the_attribute_table_where_it_applies():
    scenes = render(60, 5)
    found = world_measures.supervision(scenes)
    kinds = scenes.words("kind")
    for name, kind in (("object", "object"), ("shape", "shape"), ("letter or number", "glyph")):
        assert [label >= 0 for label in found[name]] == [other == kind for other in kinds]
    assert found["background"] == scenes.attribute("background").tolist()


def test_background_heads_of_a_made_up_bird_model_are_found(model, run, measured, table, monkeypatch):
    """Of the birds that the report has traced."""
    evaluation, _, terms, _ = measured
    monkeypatch.setattr(world_measures, "N_DRAWS", 20)  # of random heads
    late = table.heads
    clear = Role("background", 4, 5, 0, 0.04, 20, True)
    none = Role("colour", 2, 5, 10, 0.5, 20, False)
    marked = world_measures.HeadTable(
        late,
        {head: clear if head in late[:3] else none for head in late},
        table.texts,
        table.null_counts,
        table.shares,
        table.by_seed,
    )
    steps = Steps(run[0] / "steps", {**model.identity(), **vars(SIZES), "seeds": SIZES.seeds})
    found = world_measures.background_ablation(model, evaluation, terms, marked, steps, quiet=True)
    assert steps.resumed
    assert not steps.done
    assert list(found) == [
        (classes, heads) for classes in ("names", "examples") for heads in ("TextSpan label", "text query")
    ]
    sizes = SIZES
    birds = join([spurious(sizes.birds, seed) for seed in sizes.seeds])
    examples = join([bird_examples(sizes.birds, seed) for seed in sizes.seeds])
    encoder = held_out.encoder_of(model)
    seen, truth = encoder.images(examples.images), torch.as_tensor(examples.groups >= 2)
    learnt = torch.stack([seen[~truth].mean(0), seen[truth].mean(0)])
    directions = {
        "names": evaluation.birds[1].classifiers["names"].cpu(),
        "examples": learnt / learnt.norm(dim=1, keepdim=True),
    }
    for (classes, heads), removal in found.items():
        assert len(removal.ablation.heads) == 3
        assert heads == "text query" or removal.ablation.heads == frozenset(late[:3])
        plain = (encoder.images(birds.images) @ directions[classes].T).argmax(1).numpy()
        right = plain == (birds.groups >= 2)
        worst = min(right[birds.groups == group].mean() for group in range(4))
        assert removal.before.worst_accuracy == pytest.approx(worst)
        by_layer = Counter(layer for layer, _ in removal.ablation.heads).values()
        n_sets = math.prod(math.comb(8 - n, n) for n in by_layer)  # of as many others in the same layers
        assert len(removal.random) == min(20, n_sets)


def test_token_map_scores_are_higher_for_maps_of_the_truth(model, measured, monkeypatch):
    evaluation = measured[0]
    less = world_measures.backgrounds(model, evaluation)
    found = world_measures.token_map_scores(model, evaluation, less)
    assert tuple(found) == world_measures.MAPS
    assert list(found["token maps"]) == list(range(1, model.n_layers + 1))
    masks = [torch.as_tensor(mask) for _, mask in evaluation.masks]
    monkeypatch.setattr(
        world_measures.segment,
        "token_maps",
        lambda trace, *_: torch.stack(masks[: len(trace.embedding)]).float(),
    )
    perfect = world_measures.token_map_scores(model, evaluation, less)["token maps"][1]
    assert perfect.miou == pytest.approx(1, abs=0.02)
    assert perfect.map > found["token maps"][1].map
    assert perfect.foreground_ap.value > 0.95 > found["token maps"][1].foreground_ap.value
    assert perfect.foreground_ap.n == len(masks)


def test_pair_scores_point_at_the_named_object(model, measured, monkeypatch):
    scenes, evaluation = render(250, 11), measured[0]
    less = world_measures.backgrounds(model, evaluation)
    found = world_measures.pair_scores(model, scenes, evaluation, less, 4)
    pairs = [
        i
        for i in range(len(scenes))
        if scenes.words("kind")[i] == scenes.words("second kind")[i] == "object"
        and scenes.words("treatment")[i] == "none"
    ]
    assert found["raw attention"]["pointing"].n == len(pairs) >= 5
    assert found["raw attention"]["pointing"].value == pytest.approx(0.5)
    assert 0 < found["token maps"]["foreground AP"].value < 1
    asked = []

    def truth(trace, directions, *_):
        """Masks of the thing asked for, twice the first of every pair and then twice the second, in batches of 16."""
        label, rows = 1 + len(asked) // 2 % 2, pairs[16 * (len(asked) // 4) :][: len(directions)]
        asked.append(label)
        return torch.stack([torch.from_numpy(scenes.masks[i] == label).float() for i in rows])

    monkeypatch.setattr(world_measures.segment, "token_maps", truth)
    perfect = world_measures.pair_scores(model, scenes, evaluation, less, 4)["token maps"]
    assert perfect["pointing"].value == 1
    assert perfect["foreground AP"].value == pytest.approx(1, abs=0.02)


def test_pointing_by_hand():
    mask = torch.tensor([[1, 1, 0], [0, 2, 2]], dtype=torch.uint8)
    heatmap = torch.tensor([[0.9, 0.5, 0.1], [0.0, 0.8, 0.2]])
    hit, precision = world_measures._pointing(heatmap, mask, 1)
    assert hit
    assert precision == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert not world_measures._pointing(heatmap, mask, 2)[0]


def test_texts_name_neurons_without_what_all_texts_share(model):
    named = world_measures.naming_pool(model, Texts(["a duck", "something red"], None, "two"))
    texts = list(named)
    assert texts[:2] == ["a duck", "something red"]
    assert len(texts) == len(set(texts)) > 300
    encoded = model.encode_texts(texts).double()
    expected = torch.nn.functional.normalize(encoded - encoded.mean(0), dim=1)
    torch.testing.assert_close(torch.stack(list(named.values())).double(), expected, atol=1e-5, rtol=0)


def test_neuron_layers_equal_explicit_effects(model, measured, monkeypatch):
    monkeypatch.setattr(world_measures, "N_DRAWS", 50)  # of 200 rotated directions each
    evaluation = measured[0]
    images = evaluation.images.subset(range(24))
    pool = dict(
        zip(["a duck", "something red"], model.encode_texts(["a duck", "something red"]).cpu(), strict=True)
    )
    found = world_measures.neuron_layers(model, images, pool, quiet=True)
    assert [layer.layer for layer in found] == list(range(model.n_layers - 1))
    second = model.second_order([images[i] for i in range(24)], 3)
    effects = second.effects(shared=False).double().transpose(0, 1)
    strength = effects.square().sum((1, 2))
    strongest = strength.topk(200).indices
    norms = effects[strongest].norm(dim=2)
    top = norms.topk(2, dim=1)
    squared = top.values.square().sum(1) / norms.square().sum(1)
    assert found[3].squared_share == pytest.approx(float(squared.mean()), rel=1e-4)
    centred = effects[strongest] - effects[strongest].mean(1, keepdim=True)
    chosen = centred.gather(1, top.indices[..., None].expand(-1, -1, centred.shape[2]))
    singular = torch.linalg.svdvals(chosen)
    share = singular[:, 0].square() / singular.square().sum(1)
    assert found[3].first_component == pytest.approx(float(share.mean()), rel=1e-4)
    neuron, text, cosine = found[3].examples[0]
    assert text in pool
    assert -1 <= cosine <= 1
    assert neuron in strongest.tolist()
    assert all(layer.n_above_null < 60 for layer in found)  # two texts say little of 200 neurons
    lines = torch.linalg.svd(chosen, full_matrices=False).Vh[:, 0].float()
    own = {f"{sign}{i}": sign * line for i, line in enumerate(lines) for sign in (1, -1)}
    assert world_measures.neuron_layers(model, images, own, quiet=True)[3].n_above_null == 200


def test_the_rotations_of_neurons_are_uniform(model, measured, monkeypatch):
    """A direction that is turned at random is as often on the side of where it was as on the other."""
    monkeypatch.setattr(world_measures, "N_DRAWS", 1000)
    monkeypatch.setattr(world_measures, "N_STRONGEST", 1)
    monkeypatch.setattr(world_measures, "COSINE", 0.0)
    layer, images = model.n_layers - 2, measured[0].images.subset(range(8))
    (sums,) = read_layers(model, images, [layer], 2, shared=False, norms=False)
    own = rank_one(sums.stats, model.neuron_basis(layer)).directions[sums.stats.total.argmax()].cpu()
    found = world_measures.neuron_layers(model, images, {"its own": own}, quiet=True)[layer]
    assert found.examples[0][2] == pytest.approx(1, abs=1e-4)
    assert abs(found.n_named_null - 0.5) < 4 * (0.25 / 1000) ** 0.5


def test_the_summary_names_what_it_measures(written):
    _, text = written
    summary = text.split("## In short")[1].split("## ")[0]
    for phrase in (
        "of 175",
        "never seen",
        "count, 2 to 6",
        "token maps",
        "under random rotations",
        "other heads of the same layers ablated",
        "worst group",
        "cosine > 0.5",
        "true of the picture",
        "true of another picture",
    ):
        assert phrase in summary
    assert f"token maps of the last {N_LATE} layers" in summary
    rows = [line.strip("| ").split(" | ") for line in summary.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 20
    for (
        what,
        measured,
        interval,
        n,
    ) in rows:  # none without its number, its 95% interval and what it was counted on
        low, high = map(float, interval.split("–"))
        assert low <= float(measured) <= high, what
        count, unit = re.fullmatch(r"([\d,]+) (scenes|heads|draws|birds in it|neurons|images)", n).groups()
        assert int(count.replace(",", "")) > 0, what
        assert unit != "draws" or int(count) == world_measures.N_DRAWS, what
    random = [what for what, *_ in rows if "other heads of the same layers" in what]
    assert random
    assert all(n == f"{world_measures.N_DRAWS} draws" for what, *_, n in rows if what in random)


def test_the_late_layers_are_those_that_the_card_says(model, measured):
    terms = measured[2]
    late = late_terms(model, terms)
    assert late.codes.layers == tuple(range(model.n_layers - N_LATE, model.n_layers))


def test_seeds_are_pooled_by_their_scenes():
    parts = [
        {
            "colour": {"accuracy": 0.5, "chance": 0.25, "n": 4},
            "style": {"accuracy": float("nan"), "chance": 0.5, "n": 0},
        },
        {
            "colour": {"accuracy": 1.0, "chance": 0.25, "n": 12},
            "style": {"accuracy": float("nan"), "chance": 0.5, "n": 0},
        },
    ]
    found = world_measures.pooled(parts)
    assert found["colour"].accuracy == intervals.share(14, 16)
    assert found["style"].accuracy.n == 0


def test_joined_scenes_are_those_of_each_seed():
    parts = [render(5, 1), render(4, 2)]
    both = join(parts)
    assert len(both) == 9
    assert np.array_equal(both.images[5:], parts[1].images)
    assert both.words("class")[:5] == parts[0].words("class")
    assert both.scenes[5:] == parts[1].scenes


def test_grid_prints_every_number_and_frames_the_marked():
    rows = {"first": {"a": 0.25, "b": 1.0}, "second": {"a": 0.5, "b": -0.001}}
    figure = figures.grid(rows, marked={"second": "a"})
    axis = figure.axes[0]
    assert sorted(text.get_text() for text in axis.texts) == [".00", ".25", ".50", "1.00"]
    assert len(axis.patches) == 1


def test_neurons_whose_texts_fit_are_counted_by_hand():
    """Three images and four texts; each neuron has two images and two texts."""
    known = np.array([[1, 0, 0, 1], [1, 0, 1, 0], [0, 0, 1, 1]], bool)
    texts = np.array([[0, 1], [1, 2], [1, 1], [3, 1]])
    images = np.array([[0, 1], [0, 1], [1, 2], [1, 1]])
    shares = [1.0, 0.5, 0.0, 0.0]
    assert world_measures.n_fitting(texts, images, known) == sum(
        share >= world_measures.FITS for share in shares
    )
    assert world_measures.n_fitting(texts, images, None) == 0


def test_neurons_whose_images_share_a_rare_text_are_counted_by_hand():
    """Sixteen images: text 0 is true of two of them, text 1 of three, text 2 of all."""
    known = np.zeros((16, 3), bool)
    known[:2, 0], known[:3, 1], known[:, 2] = True, True, True
    images = np.array([[0, 1], [1, 2], [2, 3], [14, 15]])
    assert world_measures.RARE == 2 / 16
    assert world_measures.n_nameable(images, known) == 2  # half of the second neuron's images have text 0
    assert world_measures.n_nameable(images, np.ones((16, 3), bool)) == 0
    assert world_measures.n_nameable(images, None) == 0


def test_a_finding_appears_where_its_interval_lies_above_the_other():
    low, high = intervals.share(20, 100), intervals.share(60, 100)
    between = intervals.share(64, 100)

    def appears(found, against):
        return stage.Finding("what", "where", found, "things", against).appears

    assert appears(high, low) == "yes"
    assert appears(low, high) == "no"
    assert appears(between, high) == stage.MEET
    assert stage.Finding("what", "where", high, "things", said="as it is").appears == "as it is"


def test_every_finding_of_the_stage_has_its_numbers(run, model):
    _, text, seen = run
    rows = cards.tables(text)[stage.SECTION][0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0] == [
        "finding",
        "thesis",
        "measured",
        "95%",
        "n",
        "compared with",
        "that",
        "95%",
        "appears",
    ]
    found = {row[0]: row for row in cells[2:]}
    assert len(found) == 1 + 4 + 4 + 2 + (model.n_layers - 1) + 3 + 1
    table = seen["head_table"]
    clear = [role.clear for role in table.roles.values()]
    assert found["late heads have a label of their own"][2] == f"{np.mean(clear):.2f}"
    short = {
        row.split("|")[1].strip(): row.split("|")[2].strip() for row in text.splitlines() if row[:2] == "| "
    }
    assert (
        found["the nearest text of the pool is true"][2] == short["nearest of all texts: true of the picture"]
    )
    assert {row[8] for row in cells[2:]} <= {"yes", "no", stage.MEET, found[next(iter(found))][8]}


def test_every_bound_stands_beside_the_number_that_it_bounds(run, model):
    """Numbers that stand in two tables of the card are the same."""
    _, text, seen = run
    rows = cards.tables(text)[bounds.SECTION][0].splitlines()[2:]
    cells = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in rows}
    n_layers = model.n_layers - 1
    assert len(cells) == 4 + 1 + 2 * n_layers + 1
    stages = cards.tables(text)[stage.SECTION][0].splitlines()[2:]
    found = {row.split("|")[1].strip(): row.split("|")[3].strip() for row in stages}
    heads = next(cells[what] for what in cells if what.startswith("late heads"))
    table = seen["head_table"]
    assert heads[4] == found["late heads have a label of their own"]
    assert heads[0] == f"{np.mean([table.supervised(row)[1] >= 0.5 for row in range(len(table.heads))]):.2f}"
    best = max(
        (one for what, one in cells.items() if what.startswith("neurons of layer")),
        key=lambda one: float(one[4]),
    )
    fitting = next(found[what] for what in found if what.startswith("neurons have texts"))
    assert best[4] == fitting
    fooling = next(found[what] for what in found if what.startswith("words of second-order effects"))
    assert cells[list(cells)[-1]][4] == fooling
    for layer in range(n_layers):
        whole = cells[f"objects named with MLP {layer} at its mean, by all paths"]
        assert whole[3] == "without its second-order effects alone"


def test_what_a_layer_does_for_objects_is_counted_image_by_image(run, model):
    """Second-order effects of one layer at their means over other scenes, the classes by their names."""
    folder, _, seen = run
    evaluation, _ = seen["held_out"]
    steps = Steps(folder / "own", {"of": "this test"})
    study = stage.study_of(model, evaluation, SIZES, steps, True)
    (task,) = study.evaluation.tasks
    assert all(label >= 0 for label in task.labels)
    assert not set(study.evaluation.images.names) & set(study.reference.names)
    right = stage.named_right(study, 1)
    units = model.encode_images(list(study.evaluation.images))
    wanted = torch.tensor(task.labels)
    assert right["baseline"].tolist() == ((units @ task.directions.T).argmax(1) == wanted).tolist()
    second = model.second_order(list(study.evaluation.images), 1)
    means = model.second_order(list(study.reference), 1).effects().double().mean(0).sum(0)
    left = second.embedding.double() - second.effects().double().sum(1) + means
    expected = (left @ task.directions.double().T).argmax(1) == wanted
    assert right[stage.WITHOUT].tolist() == expected.tolist()


def test_an_mlp_at_its_mean_is_that_of_the_network_with_the_mean_in_its_place(run, model):
    """The classes that are left when a hook puts the mean output of the MLP over the other scenes in its place."""
    folder, _, seen = run
    evaluation, _ = seen["held_out"]
    study = stage.study_of(model, evaluation, SIZES, Steps(folder / "own", {"of": "this test"}), True)
    (task,) = study.evaluation.tasks
    n = len(task.labels)
    kept = {1: np.arange(n) % 2 == 0}
    (found,) = bounds.path_bounds(study, kept)
    assert found.that == intervals.share(int(kept[1].sum()), n)
    noted = []
    mlp = model.network.visual.transformer.resblocks[1].mlp
    with torch.no_grad():
        handle = mlp.register_forward_hook(lambda _, __, out: noted.append(out))
        model.encode_images(list(study.sample))
        handle.remove()
        mean = torch.cat(noted).mean(0, keepdim=True)
        handle = mlp.register_forward_hook(lambda _, __, out: mean.expand_as(out))
        left = model.encode_images(list(study.evaluation.images))
        handle.remove()
    right = (left @ task.directions.T).argmax(1) == torch.tensor(task.labels)
    assert found.found == intervals.share(int(right.sum()), n)

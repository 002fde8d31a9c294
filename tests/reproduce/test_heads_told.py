"""What chapter 2's report tells of heads, number by number and picture by picture, against literal recomputations."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, jaccard_score

import clipviz
from clipviz.analysis.collection import classifiers
from clipviz.data.texts import Texts
from clipviz.demo.tasks import world_tasks
from clipviz.figures import style
from clipviz.lens import ablate, roles
from clipviz.lens.decompose import effects_from_codes
from clipviz.lens.spurious import ShortcutRemoval
from clipviz.lens.textspan import describe_heads
from clipviz.lens.zeroshot import Accuracy
from clipviz.reproduce import evaluation
from clipviz.reproduce.chapter2 import chapter as chapter2
from clipviz.reproduce.chapter2 import pictures as chapter2_pictures
from clipviz.reproduce.chapter2 import segmenting, spurious
from clipviz.reproduce.chapter3 import neuron_segmenting
from clipviz.reproduce.report import Report
from clipviz.values import Ablation

POOL = Texts(
    [
        "a dog",
        "a red car",
        "in the forest",
        "in the sea",
        "two apples",
        "something blue",
        "a letter",
        "at night",
    ],
    None,
    "few",
)


@pytest.fixture(scope="module")
def few_traced(model):
    """An evaluation of 40 pictures, what the chapter measures them by, and their effects in float64."""
    images = clipviz.demo.images().subset(range(0, 800, 20))
    world = world_tasks(images)
    tasks = [classifiers.by_name(model, world[name]) for name in ("objects", "backgrounds")]
    found, trace = (
        evaluation.Evaluation("few", images, tasks, pools={"descriptions": POOL}),
        model.trace(list(images)),
    )
    measured = chapter2.Measured(found, ablate.terms_of(trace, tokens=[0]), range(len(images)))
    heads, mlps, whole = (
        part.double() for part in (trace.head_effects(), trace.mlp_effects(), trace.embedding)
    )
    basis = torch.eye(trace.embedding.shape[1])
    own_token = sum(  # what the class token writes through every head, one coordinate after another
        trace.token_scores(part)[..., 0].double().sum((2, 3)).T @ part.double() for part in basis.split(16)
    )

    def top1(removed):
        """Accuracy by task with some terms replaced by their means over the images."""
        after = whole - removed + removed.mean(0)
        right = {}
        for task in tasks:
            classes, labels = task.directions.double(), task.labels
            hits = [
                int((classes @ row).argmax()) == label
                for row, label in zip(after, labels, strict=True)
                if label >= 0
            ]
            right[task.name] = sum(hits) / len(hits)
        return right

    return found, measured, (heads, mlps, own_token), top1


@pytest.fixture
def late(model, few_traced):
    return chapter2.late_terms(model, few_traced[1].terms)


def tables(report):
    return [block for block in report.blocks if block["kind"] == "table"]


def test_attention_layers_go_one_after_the_other_beginning_with_the_first(model, few_traced, tmp_path, drawn):
    """Figure 2.2: its points and its table, each from the effects of the layers that are said to be ablated."""
    _, measured, (heads, mlps, _), top1 = few_traced
    report = Report(tmp_path, "layers")
    chapter2.layers_section(report, model, measured)
    expected = [top1(heads[:, :count].sum((1, 2))) for count in range(model.n_layers + 1)]
    (curves,) = drawn["accumulated_ablation"][0]
    assert {task: dict(enumerate(row[task] for row in expected)) for task in curves} == {
        task: pytest.approx(curve) for task, curve in curves.items()
    }
    (table,) = [block for block in report.blocks if block["kind"] == "table"]
    said = [[str(count), *(f"{value:.3f}" for value in row.values())] for count, row in enumerate(expected)]
    assert table["rows"] == said
    assert len({tuple(row[1:]) for row in said}) > 3
    late = top1(heads[:, :-4].sum((1, 2)) + mlps.sum(1))
    text = next(block["text"] for block in report.blocks if "leaves" in block.get("text", ""))
    assert all(f"**{task} {value:.3f}** of {expected[0][task]:.3f}" in text for task, value in late.items())


def test_terms_are_those_that_the_columns_name(model, few_traced, tmp_path, drawn):
    """Tables 2.1 and A.1: nothing, the class token, the input term and all MLPs, both."""
    found, measured, (_, mlps, own_token), top1 = few_traced
    report = Report(tmp_path, "terms")
    chapter2.terms_section(report, model, found, measured)
    nothing = torch.zeros_like(own_token)
    columns = [top1(removed) for removed in (nothing, own_token, mlps.sum(1), mlps.sum(1) + own_token)]
    (table,) = [block for block in report.blocks if block["kind"] == "table"]
    assert table["head"] == ["task", "images", "nothing", "class token", "MLPs", "both"]
    for row, task in zip(table["rows"], found.tasks, strict=True):
        n_images = sum(label >= 0 for label in task.labels)
        assert row == [task.name, str(n_images), *(f"{column[task.name]:.3f}" for column in columns)]


def test_maps_of_two_say_which_object_is_meant(model, few_traced):
    """Figure A.2b: what each token writes rather along one text than the other, and on which object that lies."""
    pairs, found = evaluation._demo_pairs(clipviz.demo.images(), 4), few_traced[0]
    names = list(found.tasks[0].classes)
    prompts = [own[0] for own in found.tasks[0].prompts]
    directions = model.encode_texts(prompts)
    rows = chapter2_pictures._of_two(model, pairs, prompts, names, directions)
    on_own = 0
    for place, (_, maps) in enumerate(rows):
        for side, (text, shown) in enumerate(maps):
            first, second = (
                np.asarray(Image.fromarray(pairs[2 * place + one][1]).resize(shown.shape[::-1])).astype(bool)
                for one in (side, 1 - side)
            )
            assert text.split(" − ")[0] == pairs.labels[2 * place + side]
            on_own += shown[first].mean() > shown[second].mean()
    assert on_own >= 0.75 * 2 * len(rows)
    (picture, maps), *_ = rows
    assert picture.shape == (*model.image_size, 3)
    (text, there), (back, again) = maps
    assert text == " − ".join(reversed(back.split(" − ")))
    assert there == pytest.approx(-again, abs=1e-6)
    first, second = (directions[names.index(label)] for label in text.split(" − "))
    trace = model.trace([pairs[0][0]])
    scores = trace.token_scores((first - second)[None])[0, 0].sum((0, 1))[1:]
    assert there.ravel() == pytest.approx(scores.cpu().numpy(), abs=1e-5)


def test_accuracies_by_texts_are_those_of_the_projected_heads(
    model, few_traced, late, tmp_path, drawn, monkeypatch
):
    """Figures 2.3 and A.1: late heads on their first m texts of each pool, around their means; the rest its mean."""
    found, measured, (heads, *_), _ = few_traced
    monkeypatch.setattr(chapter2, "roles_section", lambda *given: given[4])
    found = SimpleNamespace(**{**vars(found), "pools": {"descriptions": POOL}})
    pools = {"descriptions": POOL, "fewer": POOL[:6]}
    texts_of, _ = chapter2.textspan_section(
        report := Report(tmp_path, "texts"), model, found, measured, late, pools
    )
    whole = measured.terms.embedding.double().mean(0)
    some = heads[:, 2:].flatten(1, 2)
    some = some - some.mean(0)
    shown = {caption: by_pool for by_pool, _, caption in drawn["textspan_accuracy"]}
    for place, task in enumerate(found.tasks):
        (by_pool,) = [by for caption, by in shown.items() if caption.endswith(task.name)]
        assert list(by_pool) == ["descriptions", "fewer", "random vectors"]
        for name, pool in pools.items():
            directions = model.encode_texts(list(pool))
            chosen = describe_heads(late.codes, late.basis, directions, len(pool)).directions.double()
            for m, value in by_pool[name].items():
                parts = sum(
                    (some[:, h] @ chosen[h, k])[:, None] * chosen[h, k] for h in range(32) for k in range(m)
                )
                named = [int((task.directions.double() @ row).argmax()) for row in whole + parts]
                hits = [n == label for n, label in zip(named, task.labels, strict=True) if label >= 0]
                assert value == pytest.approx(sum(hits) / len(hits))
        table = tables(report)[place]
        for row, (name, curve) in zip(table["rows"], by_pool.items(), strict=True):
            sizes = [int(head.removeprefix("m = ")) for head in table["head"][2:]]
            n_texts = str(len(pools[name])) if name in pools else "–"
            assert row == [name, n_texts, *(f"{curve[m]:.3f}" if m in curve else "–" for m in sizes)]
    assert len(texts_of) == 32
    order = describe_heads(late.codes, late.basis, model.encode_texts(list(POOL)), len(POOL)).order
    assert texts_of[5, 7] == [POOL[i] for i in order[-1].tolist()]


def test_pictures_of_a_head_are_those_on_which_it_writes_most(model, few_traced, late, tmp_path, drawn):
    """Figures 2.4 and A.5: under each head's text the images of its largest inner products, the best first."""
    found, _, (heads, *_), _ = few_traced
    report, about = Report(tmp_path, "pictures"), {}
    for place, head in enumerate([(2, 3), (5, 1), (4, 6), (3, 0)]):
        role = SimpleNamespace(
            label=f"role {place}",
            family=f"family {place}",
            clear=True,
            p_value=0.01,
            n_texts=3,
            first=(place,),
        )
        about[head] = role
    texts_of = {head: [*POOL][::-1] for head in about}
    kept = range(len(found.images))
    chapter2_pictures.retrieval_section(report, model, found, late, kept, about, texts_of)
    rows, *_ = drawn["gallery"][0]
    names = {f"L{layer}.H{head}": (layer, head) for layer, head in about}
    assert sorted(label for label, _ in rows) == sorted(
        f"{n}: {POOL[about[head].first[0]]}" for n, head in names.items()
    )
    drawn_at_random = [given[0] for given in drawn["gallery"][3:]]
    galleries = [(label.split(": ")[0], label.split(": ")[1], pictures, 4) for label, pictures in rows]
    captions = [block["caption"] for block in report.blocks if "Figure A.5" in block.get("caption", "")]
    for caption, gallery in zip(captions, drawn_at_random, strict=True):
        (name,) = [name for name in names if f"which {name}, one of" in caption]
        assert [text for text, _ in gallery] == [*POOL][::-1]
        galleries += [(name, text, pictures, 3) for text, pictures in gallery]
    assert len(captions) == 3
    for name, text, pictures, n in galleries:
        layer, head = names[name]
        scores = heads[:, layer, head] @ model.encode_texts([text])[0].double()
        best = scores.argsort(descending=True)[:n].tolist()
        assert len(pictures) == n
        for picture, image in zip(pictures, best, strict=True):
            assert np.array_equal(picture, np.asarray(found.images.thumbnail(image, 96)))


@pytest.mark.parametrize("by", ["cosine", "product"])
def test_neighbours_are_by_cosine_or_literally_by_inner_product(model, few_traced, tmp_path, monkeypatch, by):
    """Figure 2.5 shows the images of largest <c(I), c(J)>, or of largest cosine, computed from explicit effects."""
    found, terms, kept = few_traced[0], few_traced[1].terms, range(40)
    head, shown = (5, 1), []
    monkeypatch.setattr(chapter2_pictures, "_varied", lambda *_: [head])
    monkeypatch.setattr(
        chapter2_pictures.figures, "gallery", lambda rows, *queries: shown.append((rows, *queries))
    )
    monkeypatch.setattr(style, "save", lambda *_, **__: [])
    roles = {head: SimpleNamespace(label="a role", first=(0,))}
    late, report = chapter2.late_terms(model, terms), Report(tmp_path, "neighbours")
    chapter2_pictures.retrieval_section(report, model, found, late, kept, roles, {head: ["a dog"]}, by)
    codes = terms.codes
    effects = effects_from_codes(codes.codes, codes.mean, codes.std, terms.basis).double()[:, 5, 1]
    effects = effects if by == "product" else torch.nn.functional.normalize(effects, dim=1)
    unit = torch.nn.functional.normalize(terms.codes.embedding, dim=-1)
    query = int((unit @ unit.mean(0)).argmin())
    scores = effects @ effects[query]
    scores[query] = -torch.inf
    expected = [chapter2_pictures._pixels(found, kept[i]) for i in scores.topk(4).indices.tolist()]
    rows, _ = shown[1]
    assert rows[1][0].endswith("a role")
    for one, other in zip(rows[1][1], expected, strict=True):
        assert np.array_equal(one, other)
    said = "by inner product, as in the thesis" if by == "product" else "single heads (by cosine)"
    assert said in report.write("neighbours").read_text()


def test_joint_maps_stand_beside_the_texts_they_write(model, few_traced, late, tmp_path, drawn):
    """Figures 2.6 and A.3: the head's most and least similar texts on the picture, and which tokens write them."""
    found, _, (heads, *_), _ = few_traced
    found = SimpleNamespace(**{**vars(found), "pools": {"descriptions": POOL}})
    role = SimpleNamespace(label="a role", family=None, clear=False, p_value=1.0, n_texts=1)
    about = dict.fromkeys([(5, 1), (4, 6), (3, 0), (2, 2)], role)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chapter2_pictures, "_varied", lambda found, n: list(found)[:n])
        patch.setattr(
            chapter2_pictures.textspan,
            "describe_heads",
            lambda c, b, d, n: describe_heads(c, b, d, len(POOL)),
        )
        chapter2_pictures.joint_section(Report(tmp_path, "joint"), model, found, late, range(40), about)
    shown = [one for (examples,) in drawn["joint_examples"] for one in examples]
    assert [one["head"] for one in shown] == [f"L{layer}.H{head} (a role)" for layer, head in about]
    background = model.encode_texts(list(POOL)).double().mean(0)
    for one, (layer, head) in zip(shown, about, strict=True):
        (image,) = [
            i
            for i in range(40)
            if np.array_equal(model.shown(model.prepare([found.images[i]]))[0], one["image"])
        ]
        directions = {text: model.encode_texts([text])[0].double() - background for text in POOL}
        scores = {
            text: float(heads[image, layer, head] @ direction) for text, direction in directions.items()
        }
        assert one["positive_text"] == max(scores, key=scores.get)
        assert one["negative_text"] == min(scores, key=scores.get)
        trace = model.trace([found.images[image]])
        for end in ("positive", "negative"):
            direction = directions[one[f"{end}_text"]].float()[None]
            tokens = trace.token_scores(direction, [layer])[0, 0, 0, head, 1:]
            assert one[f"{end}_map"].ravel() == pytest.approx(tokens.numpy(), abs=1e-5)


def test_the_spurious_table_says_before_random_and_after(tmp_path, few_traced, drawn):
    """Tables 2.3, A.7-A.10: of each way the worst group and all images; the median draw; the best of five."""

    def accuracy(top1, *groups):
        return Accuracy(top1, 200, 2, {name: (value, 50) for name, value in zip("abcd", groups, strict=True)})

    before, after = accuracy(0.71, 0.9, 0.5, 0.6, 0.84), accuracy(0.83, 0.86, 0.74, 0.8, 0.92)
    random = [accuracy(0.7, 0.9, worst, 0.9, 0.9) for worst in (0.44, 0.52, 0.4, 0.56, 0.5, 0.58, 0.8)]
    removal = ShortcutRemoval(Ablation(heads={(5, 1), (4, 2)}), before, after, tuple(random))
    report = Report(tmp_path, "birds")
    spurious.add_table(report, {spurious.Way("names", "text query"): removal})
    (table,) = tables(report)
    (row,) = table["rows"]
    said = dict(zip(table["head"], row, strict=True))
    for column, value in (
        ("worst group (95%)", 0.5),
        ("ablated (95%)", 0.74),
        ("other heads of the same layers: median (95% of draws)", 0.52),
    ):
        assert said[column].startswith(f"{value:.3f}"), said
    assert said["best of 5 draws"] == "0.560"
    assert said["p"] == "0.250"  # (1 + 1) / (1 + 7)
    assert (said["all"], said["all, ablated"]) == ("0.710", "0.830")
    assert said["which"] == "L4.H2, L5.H1"
    groups, worst = spurious.shown_groups(removal)
    assert worst == (0.5, 0.52, 0.74)
    assert groups == {
        "a": (0.9, 0.9, 0.86),
        "b": (0.5, 0.52, 0.74),
        "c": (0.6, 0.9, 0.8),
        "d": (0.84, 0.9, 0.92),
    }


def test_scores_of_maps_stand_under_their_names(tmp_path, drawn, monkeypatch):
    """Tables 2.4 and 3.4: pixel accuracy, mean IoU and average precision, from the confusion of all pixels."""
    draw = torch.Generator().manual_seed(0)
    maps = {
        name: list(torch.rand(3, 6, 6, generator=draw)) for name in (*segmenting.METHODS, segmenting.TOKENS)
    }
    masks = [torch.rand(6, 6, generator=draw) > 0.6 for _ in range(3)]

    def expected(found, cut=None):
        scaled = [(one - one.min()) / (one.max() - one.min()) for one in found]
        hits = [one > (one.mean() if cut is None else cut) for one in scaled]
        said, truth = (torch.cat([one.flatten() for one in some]).numpy() for some in (hits, masks))
        precision = [
            average_precision_score(
                torch.stack([~mask, mask]).flatten().numpy(), torch.stack([1 - one, one]).flatten().numpy()
            )
            for one, mask in zip(scaled, masks, strict=True)
        ]
        values = (said == truth).mean(), jaccard_score(truth, said, average=None).mean(), np.mean(precision)
        return [f"{value:.3f}" for value in values]

    segmenting._scores(report := Report(tmp_path, "maps"), maps, masks, {})
    (table,) = tables(report)
    assert table["head"] == ["method", "pixel accuracy", "mIoU", "mAP"]
    assert table["rows"] == [[name, *expected(found)] for name, found in maps.items()]
    own = {name: list(torch.rand(3, 6, 6, generator=draw)) for name in ("neurons", "neurons, signed")}
    left_out = (segmenting.TOKENS_POOL, segmenting.TRACED)  # of chapter 2 alone
    pictures = [np.zeros((6, 6, 3), np.uint8)] * 3
    monkeypatch.setattr(
        neuron_segmenting,
        "all_methods",
        lambda *_: ({**maps, **dict.fromkeys(left_out, maps[segmenting.TOKENS])}, masks, pictures, ["a"] * 3),
    )
    monkeypatch.setattr(neuron_segmenting, "neuron_maps", lambda study: (own, masks))
    monkeypatch.setattr(neuron_segmenting, "encoded_pool", lambda *_: None)
    few = evaluation.Evaluation("few", None, [], {"descriptions": POOL}, masks=object())
    study = SimpleNamespace(
        evaluation=few, late=[3, 4], quiet=True, steps=None, model=SimpleNamespace(name="x", pretrained="")
    )
    neuron_segmenting.segmentation_section(report := Report(tmp_path, "neurons"), study)
    (table,) = tables(report)
    rows = [[name, *expected(found)] for name, found in maps.items()]
    assert table["rows"] == [*rows, *([name, *expected(found, 0.5)] for name, found in own.items())]


def test_each_head_stands_beside_its_own_role_and_texts(model, late, tmp_path, drawn, monkeypatch):
    """Tables 2.2, A.3-A.6: the role and first texts that its label has, and those of the thesis's search."""
    heads = [(layer, head) for layer in range(2, 6) for head in range(8)]

    def label_heads(asked, covariance, span, directions, pool):
        assert asked == heads
        assert torch.allclose(directions, model.encode_texts(list(POOL)))
        return {
            head: roles.Role(
                f"family {place}",
                *(1 + place % 5, 5, 3, place / 32, 200, place % 2 == 0),
                first=(place % 8, (place + 3) % 8, (place + 5) % 8),
            )
            for place, head in enumerate(asked)
        }

    monkeypatch.setattr(chapter2.labels, "label_heads", label_heads)
    by_search = {head: [POOL[(place + k) % 8] for k in range(6)] for place, head in enumerate(heads)}
    chapter2.roles_section(report := Report(tmp_path, "roles"), model, POOL, late, by_search)
    (table,) = tables(report)
    for place, ((layer, head), row) in enumerate(zip(heads, table["rows"], strict=True)):
        texts = [POOL[i % 8] for i in (place, place + 3, place + 5)]
        role = f"family {place}" if place % 2 == 0 else "no clear role"
        assert row[:4] == [f"L{layer}.H{head}", role, f"{1 + place % 5}/5", f"{place / 32:.3f}"]
        assert row[4:] == ["; ".join(texts), "; ".join(by_search[layer, head][:5])]
    named, sure, texts = drawn["head_roles"][0]
    for place, head in enumerate(heads):
        assert named[head] == (f"family {place}" if place % 2 == 0 else "no clear role")
        assert sure[head] == pytest.approx(1 - place / 32)
        assert texts[head][0] == POOL[place % 8]
    assert any("16 of 32 heads have a clear role" in block.get("text", "") for block in report.blocks)

"""What inversions are judged by: the perceptual distance, pairs shared by all, foreign pictures and their masks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_dictionary import tiny, tiny_pair
from torch import nn

import clipviz
from clipviz.analysis.generation import inversion
from clipviz.analysis.generation.guides import Guides, each_once, find_guides
from clipviz.demo.generator import scenes
from clipviz.lens import intervals
from clipviz.lens.invert import UnitPairs
from clipviz.models.zoo import Partner
from clipviz.reproduce.chapter4 import comparing, inverting
from clipviz.reproduce.report import Report


def test_the_perceptual_distance_equals_a_loop_over_positions():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3, 2), nn.ReLU())
    distance = comparing.Perceptual(Partner("tiny", network, lambda images: images, ("1", "3")))
    one, other = torch.rand(2, 2, 3, 9, 9).unbind(0)
    wanted = torch.zeros(2)
    for layers in (network[:2], network):
        a, b = layers(one), layers(other)
        for i in range(2):
            parts = [
                (
                    a[i, :, y, x] / a[i, :, y, x].norm().clamp_min(1e-6)
                    - b[i, :, y, x] / b[i, :, y, x].norm().clamp_min(1e-6)
                )
                .square()
                .sum()
                for y in range(a.shape[2])
                for x in range(a.shape[3])
            ]
            wanted[i] += torch.stack(parts).mean() / 2
    torch.testing.assert_close(distance(one, other), wanted)
    assert distance(one, one).abs().max() == 0
    (slope,) = torch.autograd.grad(distance(one.requires_grad_(), other).sum(), [one])
    assert slope.abs().max() > 0


def _pairs(layer_a, layer_b, units):
    index, numbers = torch.tensor(units), torch.arange(len(units)) + 1.0
    return UnitPairs(layer_a, layer_b, index, index, numbers, numbers, numbers, numbers)


def test_r_over_all_keeps_units_that_every_reader_shares():
    pairs = {
        "one": (_pairs("low", "one/a", [0, 2, 3]), _pairs("high", "one/a", [1])),
        "two": (_pairs("low", "two/b", [3, 5]), _pairs("low", "two/c", [2])),
    }
    found = inverting.shared_by_all(
        Guides(pairs, tuple(each_once([g for one in pairs.values() for g in one])))
    )
    assert {(g.layer_a, u) for g in found.own for u in g.units_a.tolist()} == {("low", 2), ("low", 3)}
    assert found.pairs["one"][0].mean_a.tolist() == [2, 3]
    assert [g.layer_b for g in found.pairs["two"]] == ["two/b", "two/c"]
    few = inverting.thinned(Guides({"one": (_pairs("low", "one/a", list(range(10))),)}, ()), 5)
    assert few.pairs["one"][0].units_a.tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("kind", inverting.FOREIGN)
def test_foreign_pictures_show_one_known_object(kind):
    latents, images, alpha = inverting.foreign(kind, 3)
    assert images.shape == (3, 3, scenes.SIDE, scenes.SIDE)
    assert (scenes.true_scenes(latents.z, latents.label).count == 1).all()
    assert (alpha.mean((1, 2)) > 0.01).all()
    plain, _ = inverting.painted(latents)
    assert (images - plain).abs().mean() > 0.01
    if kind == "unseen style":
        assert set(latents.label.tolist()) <= set(scenes.kinds_in(scenes.UNSEEN))
    else:
        assert torch.equal(images[:, 0], images[:, 2])
    with pytest.raises(ValueError, match="expected a kind among unseen style"):
        inverting.foreign("sketches", 1)


def test_overlap_and_centres_of_the_teachers_pictures():
    latents = inverting.plain(6, 5)
    images, alpha = inverting.painted(latents)
    assert comparing.overlap(images, alpha).min() > 0.5
    assert comparing.overlap(images, alpha.roll(1, 0)).mean() < comparing.overlap(images, alpha).mean()
    block = torch.zeros(1, 8, 8)
    block[0, 2:4, 4:8] = 1
    assert comparing.centroids(block).tolist() == [[0.75, 0.375]]


@pytest.fixture(scope="module")
def generator():
    return clipviz.load_generator("demo")


@pytest.fixture(scope="module")
def guides(generator):
    """Two units of the generator for each of two readers, with means and deviations of their own; all light up."""
    latents, draw, pairs = generator.sample(6, seed=1), torch.Generator().manual_seed(4), {}

    def lively(maps):
        return maps.std((2, 3)).amin(0).topk(2).indices

    for (name, reader), layer in zip(
        tiny_pair().items(), (generator.layers[1], generator.layers[-1]), strict=True
    ):
        units = lively(generator.maps(latents)[layer]), lively(reader.maps(generator.images(latents))["3"])
        numbers = torch.rand(4, 2, generator=draw) + 0.5
        pairs[name] = (UnitPairs(layer, f"{name}/3", *units, *numbers),)
    return Guides(pairs, tuple(each_once([group for groups in pairs.values() for group in groups])))


@pytest.fixture
def searched(monkeypatch):
    """Every step of every inversion that is asked for, search after search."""
    searches, plain = [], inversion.invert

    def noted(*given, **how):
        searches.append([])
        return plain(*given, **{**how, "progress": searches[-1].append})

    monkeypatch.setattr(inverting.inversion, "invert", noted)
    return searches


def literal_maps(generator, step, label, readers, guides, pictures):
    """For each image and pair: the generator's map and the reader's, normalised and at one size, float64."""
    drawn = generator.maps(inverting.Latents(step.latents, label))
    for image in range(len(step.latents)):
        found = []
        for name, reader in readers.items():
            asked = reader.maps(pictures)
            for group in guides.pairs[name]:
                for k in range(len(group.units_a)):
                    own = drawn[group.layer_a][image, group.units_a[k]].double()
                    other = asked[group.layer_b.removeprefix(f"{name}/")][image, group.units_b[k]].double()
                    own = (own - group.mean_a[k].double()) / group.std_a[k].double()
                    other = (other - group.mean_b[k].double()) / group.std_b[k].double()
                    size = tuple(map(max, own.shape, other.shape))
                    found.append(
                        [
                            nn.functional.interpolate(
                                m[None, None], size, mode="bilinear", align_corners=False
                            )[0, 0]
                            for m in (own, other)
                        ]
                    )
        yield found


def test_inversions_minimise_what_the_table_says_and_show_what_was_found(generator, guides, searched):
    """Table 4.1, Figures 4.6 and C.13: perceptual loss + 0.01 mean z^2, and with guides + 0.1 distance of maps."""
    readers, loss = tiny_pair(), comparing.Perceptual(tiny("judge", 2))
    found = inverting.inversions(generator, loss, readers, guides, inverting.TargetSizes(targets=2, steps=2))
    assert found["ways"] == ["perceptual loss", "+ one pairs", "+ two pairs"]
    start, targets = inverting.held_out_targets(generator, 2)
    for place, (names, steps) in enumerate(zip(([], ["one"], ["two"]), searched, strict=True)):
        for step in steps:
            perceived = loss(step.images, targets)
            own = {name: readers[name] for name in names}
            pairs = literal_maps(generator, step, start.label, own, guides, targets)
            for image, maps in enumerate(pairs):
                expected = float(perceived[image]) + 0.01 * float(
                    step.latents[image].double().square().mean()
                )
                apart = [float((own - other).square().mean()) for own, other in maps]
                assert len(apart) == 2 * len(names)
                expected += 0.1 * sum(apart) / len(apart) if apart else 0
                assert float(step.losses[image]) == pytest.approx(expected, rel=1e-4)
        assert float(steps[-1].latents.abs().max()) > 0.1  # a step of the search changes the latents
        last = steps[-1].images.clamp(0, 1)
        assert np.array_equal(found[f"images{place}"], comparing.as_bytes(last))
        assert found[f"images{place}"].std() > 10
        expected = [comparing.psnr(last, targets), comparing.ssim(last, targets), loss(last, targets)]
        assert found[f"scores{place}"] == pytest.approx(torch.stack(expected).numpy(), rel=1e-4)
    assert np.array_equal(found["targets"], comparing.as_bytes(targets))


def test_pairs_alone_search_for_the_maps_of_the_picture_in_the_class_asked_for(generator, guides, searched):
    """Figures 4.4, 4.5, C.1, C.2: one minus the correlation of maps + 0.1 mean z^2; the pictures are those found."""
    readers, labels = tiny_pair(), [3, 7]
    pictures = inverting.painted(generator.sample(2, seed=1))[0].flip(3)
    found = inverting.by_pairs_alone(generator, readers, guides, pictures, labels, 2)
    (steps,) = searched
    for step in steps:
        pairs = literal_maps(generator, step, torch.tensor(labels), readers, guides, pictures)
        for image, maps in enumerate(pairs):
            unlike = [1 - np.corrcoef(own.flatten(), other.flatten())[0, 1] for own, other in maps]
            assert len(unlike) == 4
            assert float(step.objectives[image]) == pytest.approx(sum(unlike) / 4, abs=1e-4)
            size = 0.1 * float(step.latents[image].square().mean())
            assert float(step.losses[image]) == pytest.approx(sum(unlike) / 4 + size, abs=1e-4)
    last = inverting.Latents(steps[-1].latents, torch.tensor(labels))
    torch.testing.assert_close(found, generator.images(last).clamp(0, 1))
    assert found.std() > 0.05


def test_what_is_said_of_translations_is_counted_on_the_pictures_that_are_shown(generator, monkeypatch):
    """Classes by the CLIP that names, overlaps of the objects found; another class is asked of the same pictures."""
    asked = []

    def by_pairs(generator, readers, guides, images, labels, steps):
        asked.append((images, labels))
        return images.roll(1, 0)  # "found" is the next target, so that each number can be told

    named = SimpleNamespace(
        units=lambda images: images, of=lambda images: SimpleNamespace(kind=kinds(images))
    )

    def kinds(images):
        return (images.flatten(1).mean(1) * 1e4).long().numpy() % len(scenes.KINDS)

    monkeypatch.setattr(inverting, "by_pairs_alone", by_pairs)
    monkeypatch.setattr(inverting, "by_the_loss_alone", lambda *given: given[2])
    sizes = inverting.TargetSizes(foreign=(4, 3, 3), crossed=4, steps=1)
    found = inverting.translated(generator, {}, None, named, None, sizes)
    for place, kind in enumerate(inverting.FOREIGN):
        latents, images, alpha = inverting.foreign(kind, sizes.foreign[place])
        assert asked[place][1] == kinds(images).tolist()
        assert np.array_equal(found[f"foreign{place}"], comparing.as_bytes(images))
        assert np.array_equal(found[f"images{place}"], comparing.as_bytes(images.roll(1, 0)))
        right = kinds(images.roll(1, 0)) == latents.label.numpy()
        assert found[f"right{place}"].tolist() == right.tolist()
        assert found[f"named{place}"].tolist() == (kinds(images) == latents.label.numpy()).tolist()
        for name, pictures, where in (
            ("overlap", images.roll(1, 0), alpha),
            ("without", images, alpha),
            ("others", images.roll(1, 0), alpha.roll(1, 0)),
        ):
            assert found[f"{name}{place}"].tolist() == comparing.overlap(pictures, where).tolist()
    images, labels = asked[-1]
    plain = inverting.plain(4, inverting.SEED + 2)
    assert torch.equal(images, inverting.painted(plain)[0])
    assert all(one != other for one, other in zip(labels, plain.label.tolist(), strict=True))
    assert len({*labels}) > 1
    assert np.array_equal(found["crossed"], comparing.as_bytes(images))
    assert np.array_equal(found["crossed images"], comparing.as_bytes(images.roll(1, 0)))
    assert found["crossed right"].tolist() == (kinds(images.roll(1, 0)) == np.array(labels)).tolist()


def test_figures_of_inversions_have_each_target_beside_what_was_found(tmp_path, monkeypatch, undrawn):
    """The first rows are the chapter's figure (4.6; 4.4 and 4.5), the others the appendix's (C.13; C.1 and C.2)."""
    shown = []
    monkeypatch.setattr(
        inverting.figures, "image_rows", lambda rows, heads, width: shown.append((heads, rows))
    )
    monkeypatch.setattr(inverting, "N_SHOWN", 2)
    monkeypatch.setattr(inverting, "N_TRANSLATED", 2)
    report, draw = Report(tmp_path, "inversions"), np.random.default_rng(0)

    def pictures():
        return draw.integers(0, 256, (3, 4, 4, 3), np.uint8)

    ways = ["perceptual loss", "+ one pairs", "+ R over all"]
    found = {"ways": ways, "targets": pictures()}
    found |= {f"images{place}": pictures() for place in range(3)}
    found |= {f"scores{place}": draw.random((3, 3)) for place in range(3)}
    inverting.report_table(report, found, "judge", inverting.TargetSizes(), "pictures")
    columns = [found["targets"], found["images0"], found["images2"]]
    crossed = {"crossed": pictures(), "crossed images": pictures()}
    for place in range(3):
        crossed |= {f"foreign{place}": pictures(), f"images{place}": pictures()}
        crossed[f"right{place}"] = np.array([True, False, True])
        crossed[f"named{place}"] = np.array([True, True, True])
        crossed |= {f"{name}{place}": draw.random(3) for name in ("overlap", "without", "true", "others")}
    crossed |= {"crossed right": np.array([True, True, False]), "crossed miss": np.array([0.1, 0.2, 0.3])}
    crossed["crossed others"] = np.array([0.3, 0.3, 0.3])
    inverting._report_translated(report, crossed)
    for place in range(3):
        columns += [crossed[f"foreign{place}"], crossed[f"images{place}"]]
    columns += [crossed["crossed"], crossed["crossed images"]]
    captions = [block["caption"] for block in report.blocks if block["kind"] == "figure"]
    assert [caption.split(":")[0] for caption in captions] == [
        "Figure 4.6",
        "Figure C.13",
        "Figures 4.4, 4.5",
        "Figures C.1, C.2",
    ]
    assert shown[0][0] == shown[1][0] == ["target", ways[0], ways[2]]
    for own, (first, more) in ((columns[:3], shown[:2]), (columns[3:], shown[2:])):
        assert (len(first[1]), len(more[1])) == (2, 1)
        for row, cells in enumerate([*first[1], *more[1]]):
            assert len(cells) == len(own) == len(first[0])
            for (picture, _), column in zip(cells, own, strict=True):
                assert np.array_equal(picture, column[row])
    tables = [block for block in report.blocks if block["kind"] == "table"]
    scores = [
        [way, *(intervals.mean(row).in_full for row in found[f"scores{p}"])] for p, way in enumerate(ways)
    ]
    assert tables[0]["rows"] == scores
    assert [row[0] for row in tables[2]["rows"]] == [*inverting.FOREIGN]
    for place, row in enumerate(tables[2]["rows"]):
        means = [crossed[f"{name}{place}"].mean() for name in ("overlap", "without", "true", "others")]
        said = [f"{mean:.3f}".lstrip("0")[:3] for mean in means]
        assert all(word in cell for word, cell in zip(said, [row[3], row[4], row[6], row[7]], strict=True))
        assert (row[1][:5], row[2][:5]) == (
            "0.667",
            "1.000",
        )  # of three: right after the search, on the picture


def test_the_loss_alone_has_the_budget_that_pairs_have(monkeypatch):
    """As many random latents looked at, as many trials and steps of the search: counted, and by hand."""
    generator = clipviz.load_generator("demo")
    network = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.ReLU())
    partner = Partner("tiny", network.requires_grad_(False), lambda images: images, ("1",))
    guides = find_guides(generator, {"tiny": partner}, generator.sample(12, seed=1), above=0.0, most=4)
    latents = generator.sample(2, seed=5)
    images, labels = generator.images(latents).detach(), latents.label.tolist()
    counted = {}
    for name, way in (
        ("pairs", lambda: inverting.by_pairs_alone(generator, {"tiny": partner}, guides, images, labels, 4)),
        (
            "loss",
            lambda: inverting.by_the_loss_alone(generator, comparing.Perceptual(partner), images, labels, 4),
        ),
    ):
        passes = []
        hook = generator.module.register_forward_hook(lambda _, __, out, seen=passes: seen.append(len(out)))
        pictures = way()
        hook.remove()
        assert pictures.shape == images.shape
        counted[name] = passes
    assert counted["loss"] == counted["pairs"]
    assert (
        len(counted["loss"]) == inverting.N_STARTS + inverting.N_SEARCHED * (inverting.TRIAL.n_steps + 1) + 5
    )


def test_the_loss_alone_goes_on_from_the_best_of_its_starts(monkeypatch):
    """Where one of the random latents paints the picture itself, it is found."""
    generator = clipviz.load_generator("demo")
    drawn = generator.sample(inverting.N_STARTS, seed=0)
    images = generator.images(drawn[2:3]).detach()
    network = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.ReLU())
    loss = comparing.Perceptual(Partner("tiny", network.requires_grad_(False), lambda one: one, ("1",)))
    found = inverting.by_the_loss_alone(generator, loss, images, drawn.label[2:3].tolist(), 1)
    far = inverting.by_the_loss_alone(generator, loss, images.flip(3), drawn.label[2:3].tolist(), 1)
    assert float(loss(found, images)) < 0.5 * float(loss(far, images))

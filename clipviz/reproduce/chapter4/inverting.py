"""Rosetta-guided inversion with the embedded generator, judged by the truth (thesis 4.4: Table 4.1, Figures
4.4-4.6).

Targets are the teacher's pictures of latents that were not used for matching, so their content is known. The loss
network and the guides are different models, and every way starts at the prior's mean with the target's class.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipviz.analysis.generation import inversion
from clipviz.analysis.generation.guides import Guides, each_once, find_guides
from clipviz.analysis.generation.inversion import N_SEARCHED, N_STARTS, TRIAL, starts_for
from clipviz.analysis.generation.searching import generate_from
from clipviz.demo.generator import scenes
from clipviz.demo.generator.locator import locate
from clipviz.demo.generator.measure import Names
from clipviz.figures import chapter4 as figures
from clipviz.figures import style
from clipviz.lens import intervals
from clipviz.lens.intervals import Estimate
from clipviz.lens.invert import Schedule, Step, UnitPairs, search
from clipviz.models.clip import ClipModel
from clipviz.models.zoo import Partner, clip_partner
from clipviz.reproduce.chapter4.comparing import Perceptual, as_bytes, centroids, overlap, psnr, ssim
from clipviz.reproduce.report import Report, Result, Steps
from clipviz.values import Latents, numbers_of, with_numbers

SEED = 3_000_017
ALPHA, BETA = 0.01, 0.1
"""Weights of Eq. 4.7 beside the perceptual loss; the thesis's, 0.1 and 1, keep the latent at the prior's mean."""
PAIRS = 60
CHUNK = 10
FEW = 256
"""With fewer images for mining, inversions and edits are also few and short."""
N_MEAN = 256
"""Number of latents whose mean approximates the prior's mean."""
N_SHOWN, N_TRANSLATED, N_MORE = 4, 2, 6
"""Rows of pictures in the chapter, of pictures from outside, and of further ones in the style of the appendix."""
FOREIGN = ("unseen style", "black and white", "outlines")


@dataclass(frozen=True)
class TargetSizes:
    """The numbers of: targets of the table, pictures for each of FOREIGN, pictures whose class is changed, edited
    samples, latents for matching, and steps of an inversion.
    """

    targets: int = 100
    foreign: tuple[int, ...] = (100, 36, 36)
    crossed: int = 60
    edited: int = 200
    matched: int = 256
    steps: int = 60

    @classmethod
    def within(cls, n_mined: int) -> TargetSizes:
        """Return the usual sizes, or those of a small version if fewer than FEW images are used for mining."""
        return cls() if n_mined >= FEW else cls(5, (3, 3, 3), 3, 5, 24, 3)


# -- measures ------------------------------------------------------------------------------------------------------


# -- Table 4.1 -----------------------------------------------------------------------------------------------------


def thinned(guides: Guides, most: int = PAIRS) -> Guides:
    """Return every second, third, ... pair with each reader, so that about this many remain."""
    kept = {}
    for name, groups in guides.pairs.items():
        every = -(-sum(len(group.units_a) for group in groups) // most)
        kept[name] = tuple(
            group.rows(range(0, len(group.units_a), every)) for group in groups if len(group.units_a)
        )
    return _guides_of(kept)


def shared_by_all(guides: Guides) -> Guides:
    """Return the pairs whose unit of the generator has a best buddy in every reader: R(G, D1..Dm) of Eq. 4.4."""
    units = [
        {(group.layer_a, unit) for group in groups for unit in group.units_a.tolist()}
        for groups in guides.pairs.values()
    ]
    everywhere = set.intersection(*units)
    kept = {}
    for name, groups in guides.pairs.items():
        rows = [
            (group, [i for i, u in enumerate(group.units_a.tolist()) if (group.layer_a, u) in everywhere])
            for group in groups
        ]
        kept[name] = tuple(group.rows(chosen) for group, chosen in rows if chosen)
    return thinned(_guides_of(kept))


def _guides_of(pairs: Mapping[str, tuple[UnitPairs, ...]]) -> Guides:
    return Guides(pairs, tuple(each_once([one for groups in pairs.values() for one in groups])))


def painted(latents: Latents, atlas: str | None = None) -> tuple[Tensor, Tensor]:
    """Return the teacher's pictures of latents at the generator's size, and the pixels that the objects cover."""
    truth = scenes.true_scenes(latents.z, latents.label)
    both = [scenes.paint(truth, index, atlas) for index in range(len(latents))]
    images = torch.from_numpy(np.stack([picture for picture, _ in both])).permute(0, 3, 1, 2) / 255
    alpha = torch.from_numpy(np.stack([layers.sum(0) for _, layers in both]))[:, None]
    return F.interpolate(images, scenes.SIDE, mode="area"), F.interpolate(alpha, scenes.SIDE, mode="area")[
        :, 0
    ]


def inversions(
    generator: Any,
    loss: Perceptual,
    readers: Mapping[str, Partner],
    guides: Guides | None,
    sizes: TargetSizes,
    ways: Sequence[str] | None = None,
) -> Result:
    """Return Table 4.1: each way's scores [3 measures, image] and pictures. ways: some of the names in `ways_of`."""
    start, targets = held_out_targets(generator, sizes.targets)
    known = ways_of(readers, guides)
    result: Result = {"ways": list(ways or known), "targets": as_bytes(targets)}
    for place, way in enumerate(result["ways"]):
        pictures = _inverted(generator, loss, known[way][0], known[way][1], start, targets, sizes.steps)
        with torch.no_grad():
            scores = torch.stack([psnr(pictures, targets), ssim(pictures, targets), loss(pictures, targets)])
        result |= {f"images{place}": as_bytes(pictures), f"scores{place}": scores.numpy()}
    return result


def held_out_targets(generator: Any, n: int) -> tuple[Any, Tensor]:
    """Return starts at the prior's mean, and n pictures to invert: the teacher's for latents that were not used for
    matching, or the generator's own if there is no teacher.
    """
    latents = generator.sample(n, seed=SEED)
    if hasattr(generator, "true_scenes"):
        return latents.moved(torch.zeros_like(latents.z)), painted(latents)[0]
    numbers = numbers_of(generator.sample(N_MEAN, seed=SEED + 1))
    start = with_numbers(latents, numbers.mean(0, keepdim=True).expand_as(numbers_of(latents)).contiguous())
    return start, generator.images(latents).detach()


def ways_of(
    readers: Mapping[str, Partner], guides: Guides | None
) -> dict[str, tuple[Mapping[str, Partner], Guides | None]]:
    """Return the rows of Table 4.1: which readers guide, and with which pairs."""
    ways: dict[str, tuple[Mapping[str, Partner], Guides | None]] = {"perceptual loss": ({}, None)}
    if guides is None:
        return ways
    sharing = [name for name in readers if guides.pairs.get(name)]
    ways |= {f"+ {name} pairs": ({name: readers[name]}, thinned(guides)) for name in sharing}
    common = shared_by_all(guides)
    if common.n_units:
        ways["+ R over all"] = (readers, common)
    return ways


def _inverted(
    generator: Any,
    loss: Perceptual,
    readers: Mapping[str, Partner],
    guides: Guides | None,
    start: Latents,
    targets: Tensor,
    steps: int,
) -> Tensor:
    parts = []
    for first in range(0, len(start), CHUNK):
        some = slice(first, first + CHUNK)
        found = inversion.invert(
            generator,
            start[some],
            images=targets[some],
            readers=readers,
            guides=guides,
            target=targets[some],
            alpha=ALPHA,
            beta=BETA,
            reconstruction=loss.towards(targets[some]),
            schedule=Schedule(steps, 0.1),
        )
        parts.append(found.images.clamp(0, 1))
    return torch.cat(parts)


# -- pictures from outside, and of another class ---------------------------------------------------------------------


def foreign(kind: str, n: int) -> tuple[Latents, Tensor, Tensor]:
    """Return n latents with one clear object each, pictures of them in a style that the generator never paints, and
    their masks.

    kind: one of FOREIGN. Raises ValueError for another.
    """
    if kind not in FOREIGN:
        raise ValueError(f"expected a kind among {', '.join(FOREIGN)}, got {kind!r}")
    unseen = kind == "unseen style"
    latents = plain(n, SEED + 4, scenes.kinds_in(scenes.UNSEEN)) if unseen else plain(n, SEED + 1)
    images, alpha = painted(latents, scenes.UNSEEN if unseen else None)
    light = (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    if kind == "black and white":
        images = light.expand(-1, 3, -1, -1)
    elif kind == "outlines":
        padded = F.pad(light, (1, 1, 1, 1), mode="replicate")
        across, down = (
            padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2],
            padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1],
        )
        ink = (3 * (across.square() + down.square()).sqrt()).clamp(0, 1)
        images = (1 - ink).expand(-1, 3, -1, -1)
    return latents, images.contiguous(), alpha


def plain(n: int, seed: int, labels: Sequence[int] | None = None) -> Latents:
    """Return n latents of the prior with one clearly visible object, of some kinds or of all."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(4 * n + 50, scenes.N_LATENT, generator=generator)
    among = torch.tensor(labels if labels is not None else range(len(scenes.KINDS)))
    label = among[torch.randint(len(among), (len(z),), generator=generator)]
    opacity = scenes.true_scenes(z, label).opacity
    rows = np.flatnonzero((opacity[:, 0] > 0.9) & (opacity[:, 1] < 0.1))[:n]
    return Latents(z[rows], label[rows])


def by_pairs_alone(
    generator: Any,
    readers: Mapping[str, Partner],
    guides: Guides,
    images: Tensor,
    labels: Sequence[int] | None,
    steps: int,
) -> Tensor:
    """Return pictures of given classes whose maps resemble those of other pictures (Eq. 4.5), found by inversion.

    labels: None for a generator without classes.
    """
    parts = []
    for first in range(0, len(images), CHUNK):
        some = slice(first, first + CHUNK)
        asked = None if labels is None else labels[some]
        start = starts_for(generator, dict(readers), guides, images[some], asked, seed=0)
        found = inversion.invert(
            generator,
            start,
            images=images[some],
            readers=readers,
            guides=guides,
            schedule=Schedule(steps, 0.1),
        )
        parts.append(found.images.clamp(0, 1))
    return torch.cat(parts)


def by_the_loss_alone(
    generator: Any, loss: Perceptual, images: Tensor, labels: Sequence[int], steps: int
) -> Tensor:
    """Return pictures of given classes that resemble others by the perceptual loss, with the same budget as
    by_pairs_alone.

    Of the same N_STARTS random latents, the N_SEARCHED with the nearest pictures are searched briefly, and the
    search continues from the best of these.
    """
    drawn, parts = generator.sample(N_STARTS, seed=0), []
    for first in range(0, len(images), CHUNK):
        some = slice(first, first + CHUNK)
        targets, n = images[some], len(images[some])
        latents = Latents(torch.zeros(n, drawn.z.shape[1]), torch.tensor(list(labels[some])))
        distance = loss.towards(targets)
        with torch.no_grad():
            every = [z.expand(n, -1).contiguous() for z in drawn.z.split(1)]
            scores = torch.stack([distance(generator.images(latents.moved(z)), targets) for z in every])
        rows, image = scores.topk(N_SEARCHED, 0, largest=False).indices, torch.arange(n)
        starts = [torch.stack(every)[row, image] for row in rows]
        how: dict[str, Any] = {"target_images": targets, "reconstruction": distance, "alpha": ALPHA}
        ends = [_last(generator, latents, start, TRIAL, how) for start in starts]
        best = torch.stack([step.losses for step in ends]).argmin(0)
        start = torch.stack([step.latents for step in ends])[best, image]
        parts.append(_last(generator, latents, start, Schedule(steps, 0.1), how).images.clamp(0, 1))
    return torch.cat(parts)


def _last(generator: Any, latents: Latents, start: Tensor, schedule: Schedule, how: dict[str, Any]) -> Step:
    """Return the last step of a search by the loss."""
    *_, step = search(generate_from(generator, latents), start, schedule=schedule, **how)
    return step


def translated(
    generator: Any,
    readers: Mapping[str, Partner],
    guides: Guides,
    names: Names,
    loss: Perceptual,
    sizes: TargetSizes,
) -> Result:
    """Figures 4.4 and 4.5: for each foreign kind, and for another class, the pictures and their evaluation."""
    result: Result = {}
    for place, kind in enumerate(FOREIGN):
        latents, images, alpha = foreign(kind, sizes.foreign[place])
        label = names.of(names.units(images)).kind  # as in session.generator.invert
        pictures = by_pairs_alone(generator, readers, guides, images, label.tolist(), sizes.steps)
        without = by_the_loss_alone(generator, loss, images, label.tolist(), sizes.steps)
        result |= {
            f"foreign{place}": as_bytes(images),
            f"images{place}": as_bytes(pictures),
            f"named{place}": label == latents.label.numpy(),
            f"right{place}": names.of(names.units(pictures)).kind == latents.label.numpy(),
            f"overlap{place}": overlap(pictures, alpha),
            f"without{place}": overlap(without, alpha),
            f"true{place}": overlap(generator.images(latents).detach(), alpha),
            f"others{place}": overlap(pictures, alpha.roll(1, 0)),
        }
    latents = plain(sizes.crossed, SEED + 2)
    images, alpha = painted(latents)
    draw = torch.Generator().manual_seed(SEED + 3)
    turn = torch.randint(1, len(scenes.KINDS), (len(latents),), generator=draw)
    other = (latents.label + turn) % len(scenes.KINDS)
    pictures = by_pairs_alone(generator, readers, guides, images, other.tolist(), sizes.steps)
    before, after = centroids(alpha), locate(pictures).centroid
    return result | {
        "crossed": as_bytes(images),
        "crossed images": as_bytes(pictures),
        "crossed right": names.of(names.units(pictures)).kind == other.numpy(),
        "crossed miss": (after - before).norm(dim=1).nan_to_num(1.0).numpy(),
        "crossed others": (after - before.roll(1, 0)).norm(dim=1).nan_to_num(1.0).numpy(),
    }


# -- the report ------------------------------------------------------------------------------------------------------


def inversion_section(
    report: Report,
    model: ClipModel,
    steps: Steps,
    generator: Any,
    partners: Mapping[str, Partner],
    names: Callable[[], Names],
    sizes: TargetSizes,
) -> None:
    """Table 4.1 and Figures 4.4-4.6. partners: the first judges the pictures, the model and the others guide them.

    names: the CLIP that names the results, computed on demand.
    """
    (judge, loss_network), *others = partners.items()
    loss = Perceptual(loss_network)
    readers = {"clip": clip_partner(model, "clip"), **dict(others)}

    @functools.cache
    def guides() -> Guides:
        sample = generator.sample(sizes.matched, seed=7)
        return find_guides(generator, readers, sample, above=0.3, most=10 * PAIRS)

    found = steps.get("table 4.1", lambda: inversions(generator, loss, readers, guides(), sizes))
    targets = "held-out pictures of the teacher are inverted from the prior's mean with their class"
    report_table(report, found, judge, sizes, targets)
    crossed = steps.get(
        "translated", lambda: translated(generator, readers, thinned(guides()), names(), loss, sizes)
    )
    _report_translated(report, crossed)


def gains(found: Result) -> dict[str, list[Estimate]]:
    """Return each way's paired differences from the first, for every measure."""
    first = found["scores0"]
    return {
        way: [intervals.mean(row) for row in found[f"scores{place}"] - first]
        for place, way in enumerate(found["ways"])
        if place
    }


def report_table(report: Report, found: Result, judge: str, sizes: TargetSizes, targets: str) -> None:
    """Table 4.1 and Figure 4.6. targets: a description of what was inverted and from which start."""
    n = len(found["targets"])
    report.section(
        "Inversion guided by Rosetta neurons (Table 4.1, Figures 4.6, C.13)",
        f"{n} {targets}. The objective is a perceptual loss in the maps of {judge}, which guides "
        f"nothing, plus alpha = {ALPHA} times the mean square of the latent, plus beta = {BETA} "
        f"times the distance of normalised maps over at most {PAIRS} pairs per model (Eq. 4.7), "
        f"{sizes.steps} steps. Differences are paired, with 95% intervals.",
    )
    rows = [
        [way, *(intervals.mean(row).in_full for row in found[f"scores{place}"])]
        for place, way in enumerate(found["ways"])
    ]
    report.table(["", "PSNR, dB", "SSIM", f"perceptual distance ({judge})"], rows)
    if len(rows) == 1:
        return
    report.table(
        ["minus the first row", "PSNR, dB", "SSIM", "perceptual distance"],
        [[way, *(one.in_full for one in row)] for way, row in gains(found).items()],
    )
    last = len(found["ways"]) - 1
    pictures = [
        [(found["targets"][i], ""), *((found[f"images{c}"][i], "") for c in (0, last))]
        for i in range(min(N_SHOWN + N_MORE, n))
    ]
    heads = ["target", found["ways"][0], found["ways"][last]]
    said = "inversions with and without guidance"
    in_two(report, "inversion", pictures, N_SHOWN, heads, ("4.6", "C.13"), said, 3.6)


def _report_translated(report: Report, found: Result) -> None:
    report.section(
        "Out of distribution, and across classes (Figures 4.4, 4.5, C.1, C.2)",
        "Pictures in a style that the generator never paints are inverted by pairs alone (Eq. 4.5, "
        f"by the correlation of maps, since scales and levels differ). Of {N_STARTS} random latents "
        f"the {N_SEARCHED} with the most similar maps are searched briefly, and the best of them "
        "further, with the class that CLIP names. The class counts as right if CLIP names the true "
        "kind on the resulting picture; the table also shows how often CLIP names it on the "
        "original picture. The overlap is the intersection over union of the object found (locator) "
        "and the true one. It is compared with that of the perceptual loss without pairs (with as "
        "many starts, trials and steps; their difference is paired), with that of the true scene's "
        "own latent, painted in the generator's style, and with that of the true object of another "
        "picture.",
    )
    rows = []
    for place, kind in enumerate(FOREIGN):
        guided, without, true, others = (
            found[f"{what}{place}"] for what in ("overlap", "without", "true", "others")
        )
        cells = [
            *(intervals.share_of(found[f"{what}{place}"]) for what in ("right", "named")),
            *(intervals.mean(values, 0.0, 1.0) for values in (guided, without)),
            intervals.mean(guided - without),
            *(intervals.mean(values, 0.0, 1.0) for values in (true, others)),
        ]
        rows.append([kind, *(cell.in_full for cell in cells)])
    report.table(
        [
            "pictures",
            "class right",
            "on the picture itself",
            "overlap",
            "perceptual loss",
            "difference",
            "true latent",
            "another's object",
        ],
        rows,
    )
    near = (intervals.share_of(found[f"crossed {which}"] < 0.12) for which in ("miss", "others"))
    asked = intervals.share_of(found["crossed right"]).in_full
    report.text("Here the class is changed to another while the maps of the picture are requested:")
    report.table(
        ["named as asked", "centre within 12% of the side", "of another picture's"],
        [[asked, *(e.in_full for e in near)]],
    )
    columns = [*((f"foreign{p}", f"images{p}") for p in range(len(FOREIGN))), ("crossed", "crossed images")]
    n = min(N_TRANSLATED + N_MORE, len(found["foreign0"]), len(found["crossed"]))
    pictures = [[(found[name][i], "") for pair in columns for name in pair] for i in range(n)]
    heads = [word for kind in (*FOREIGN, "another class") for word in (kind, "found")]
    numbers = ("4.4, 4.5", "C.1, C.2")
    said = "found by Rosetta neurons alone"
    in_two(report, "translated", pictures, N_TRANSLATED, heads, numbers, said, style.PAGE)


def in_two(
    report: Report,
    name: str,
    rows: Sequence[Sequence[tuple[np.ndarray, str]]],
    n_first: int,
    heads: Sequence[str],
    numbers: tuple[str, str],
    caption: str,
    width: float,
) -> None:
    """Show the first rows of pictures as the chapter's figure, and the others as the appendix's."""
    for end, number, some in (("", numbers[0], rows[:n_first]), ("-more", numbers[1], rows[n_first:])):
        if some:
            said = f"Figure{'s' if ',' in number else ''} {number}: {caption}"
            report.figure(f"{name}{end}", figures.image_rows(some, heads, width=width), said)

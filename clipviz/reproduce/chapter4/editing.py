"""Edits with the embedded generator, judged by the truth (thesis 4.4, Figures 4.7, 4.8): objects moved, enlarged,
copied.

Each edit stands beside the unedited source and beside overwriting the same units in the forward pass without a
search. The judges are the true scene of the resulting latent, if there is one, and a small locator on the
pictures.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipviz.analysis.generation import editing
from clipviz.analysis.generation.guides import Guides
from clipviz.demo.generator import judging
from clipviz.demo.generator.locator import Located, locate
from clipviz.demo.generator.measure import Names
from clipviz.demo.generator.scenes import TrueScenes
from clipviz.lens.intervals import Estimate, share_of
from clipviz.lens.invert import Schedule
from clipviz.reproduce.chapter4.comparing import as_bytes, psnr
from clipviz.reproduce.chapter4.concept_pages import single_units_section
from clipviz.reproduce.chapter4.inverting import N_MORE, N_SHOWN, in_two
from clipviz.reproduce.report import Report, Result, Steps
from clipviz.values import Latents

SEED = 2_000_003
QUARTER, ZOOM = 0.25, 1.5
SEARCH = Schedule(n_steps=40, rate=0.1)
"""Number of steps: with 40 steps 39 of 48 shifts and zooms succeed by the true scene, with 80 steps 40 of 48."""
CHUNK = 8
WAYS = ("edited", "units overwritten", "unedited source")


class Case(NamedTuple):
    """Pictures after one way of editing: the locator's result, CLIP's names, and the true scenes if known."""

    pictures: Tensor
    seen: Located
    kind: np.ndarray
    ground: np.ndarray
    truth: TrueScenes | None

    @property
    def scene(self) -> TrueScenes:
        """The true scenes, for pictures that have them."""
        assert self.truth is not None
        return self.truth


class EditRow(NamedTuple):
    """One row of the table: the edit, the criterion, the judge, and a share for each of WAYS (None if unknown)."""

    edit: str
    counted: str
    judge: str
    shares: tuple[Estimate | None, ...]


class Identity(NamedTuple):
    """The result when nothing is requested, compared with the source: PSNR in dB with `editing.edit`, which then
    skips the search, and the share of pictures that stay at SAME dB or more if the search runs from the source.
    """

    passed: float
    searched: Estimate


EDITS = ("shift", "zoom", "copy", "remove")
PARTS, PLACED = ("number", "place", "size", "ground"), ("place", "size")
"""What an edit is judged by, and which of it only where an object stays."""
SAME = 40.0
"""At this many dB or more a picture counts as the same."""
ALL = {
    "shift": "all of it: place, size, ground, one object",
    "zoom": "all of it: size, place, ground, one object",
    "copy": "all of it: two objects in place, size, ground",
    "remove": "all of it: less than a tenth of an object's opacity, ground",
}
TARGETS = {
    "moved by 0.6 to 1.4 of what was asked": 0.8,
    "area times 1.3 to 3": 0.8,
    "two objects": 0.6,
    "the class's probability below half": 0.8,
    "kind kept": 0.8,
    "ground kept": 0.8,
    **dict.fromkeys(ALL.values(), 0.6),
}
"""The criterion, and the targeted share."""


def measure_edits(
    generator: Any,
    guides: Guides,
    names: Names,
    scale: float,
    n: int = 200,
    schedule: Schedule = SEARCH,
    which: Sequence[str] = EDITS,
) -> tuple[Identity, list[EditRow]]:
    """Return the result when nothing is requested, and every row of the table, over n random samples with one object
    each.

    names: the CLIP that judges, scale: its logit scale. which: some of EDITS.
    """
    latents = one_object(generator, n)
    identity = unchanged(generator, guides, latents, schedule)
    rows: list[EditRow] = []
    for edit in which:
        way = _towards_room(generator, latents) if edit == "shift" else None
        found = searched(generator, guides, latents, edit, schedule, way)
        rows += edit_rows(generator, guides, names, scale, latents, edit, found, way)
    return identity, rows


def unchanged(generator: Any, guides: Guides, latents: Latents, schedule: Schedule) -> Identity:
    """Return the result for pictures when nothing is requested."""
    source, passed = [], []
    kept: list[Tensor] = []
    for part in _parts(latents):
        images = generator.images(part).detach()
        source.append(images)
        passed.append(psnr(editing.edit(generator, part, guides, "none").images, images))
        again = editing.edit(generator, part, guides, "none", start=part, schedule=schedule)
        kept.append(psnr(again.images, images))
    return Identity(float(torch.cat(passed).mean()), share_of((torch.cat(kept) >= SAME).numpy()))


def edit_rows(
    generator: Any,
    guides: Guides,
    names: Names,
    scale: float,
    latents: Latents,
    edit: str,
    found: Latents,
    way: np.ndarray | None = None,
) -> list[EditRow]:
    """Return the rows of one edit. found: the latents found by its search; way: the sign of each image's shift."""
    source = _case(generator, names, _painted(generator, latents), latents)
    after = _case(generator, names, _painted(generator, found), found)
    written = _case(generator, names, _written(generator, guides, latents, edit, way), None)
    cases = after, written
    if edit == "shift":
        assert way is not None
        rows = _shift_rows(source, cases, way)
    elif edit == "zoom":
        rows = _zoom_rows(source, cases)
    elif edit == "copy":
        rows = _copy_rows(source, cases)
    else:
        rows = _remove_rows(names, scale, latents, source, cases)
    whole = [
        share_of(judging.everything(_judged(source.scene, scene, edit, way)))
        for scene in (after.scene, source.scene)
    ]
    joint = EditRow(edit, ALL[edit], "true scene", (whole[0], None, whole[1]))
    return [*rows, *_kept_rows(edit, latents, source, cases), joint]


def part_shares(
    generator: Any, latents: Latents, edit: str, found: Latents, way: np.ndarray | None = None
) -> dict[str, Estimate]:
    """Return the parts of the row "all of it": the share of edits in which each part is right by the true scene."""
    scenes = generator.true_scenes(latents), generator.true_scenes(found)
    return {part: share_of(right) for part, right in _judged(*scenes, edit, way).items()}


def _judged(before: TrueScenes, after: TrueScenes, edit: str, way: np.ndarray | None) -> judging.Parts:
    right = 0.0 if way is None else way * QUARTER
    return judging.judged(before, after, edit, right, 0.0, ZOOM if edit == "zoom" else 1.0)


def _towards_room(generator: Any, latents: Latents) -> np.ndarray:
    """Return the sign of a shift towards the side where there is room."""
    return np.where(generator.true_scenes(latents).centre[:, 0, 0] < 0.5, 1.0, -1.0)


def one_object(generator: Any, n: int) -> Latents:
    """Return latents of the prior whose true scene has one clearly visible object."""
    drawn = generator.sample(3 * n + 50, seed=SEED)
    scenes = generator.true_scenes(drawn)
    plain = (scenes.opacity[:, 0] > 0.9) & (scenes.opacity[:, 1] < 0.1)
    found: Latents = drawn.take(np.flatnonzero(plain)[:n].tolist())
    return found


def searched(
    generator: Any,
    guides: Guides,
    latents: Latents,
    change: str,
    schedule: Schedule,
    way: np.ndarray | None = None,
) -> Latents:
    """Return the latents that the search of an edit finds; way: sign of each image's shift."""
    z = torch.zeros_like(latents.z)
    for rows, right in _groups(len(latents), way):
        part, factor = latents.take(rows.tolist()), ZOOM if change == "zoom" else 1.0
        found = editing.edit(generator, part, guides, change, factor=factor, schedule=schedule, right=right)
        z[rows] = found.latents.z
    return latents.moved(z)


def _written(generator: Any, guides: Guides, latents: Latents, change: str, way: np.ndarray | None) -> Tensor:
    """Return the pictures when the units are overwritten instead."""
    pictures = torch.zeros(len(latents), 3, generator.side, generator.side)
    for rows, right in _groups(len(latents), way):
        part, factor = latents.take(rows.tolist()), ZOOM if change == "zoom" else 1.0
        pictures[rows] = editing.edit_units_directly(
            generator, part, guides, change, factor=factor, right=right
        )
    return pictures.clamp(0, 1)


def _groups(n: int, way: np.ndarray | None) -> list[tuple[np.ndarray, float]]:
    """Yield rows that are edited together, and how far they move to the right."""
    signs = [(np.arange(n), 0.0)]
    if way is not None:
        signs = [(np.flatnonzero(way == sign), sign * QUARTER) for sign in (1, -1)]
    return [
        (rows, right)
        for group, right in signs
        for rows in np.array_split(group, max(1, -(-len(group) // CHUNK)))
        if len(rows)
    ]


def _parts(latents: Latents) -> list[Latents]:
    return [latents[first : first + CHUNK] for first in range(0, len(latents), CHUNK)]


def _painted(generator: Any, latents: Latents) -> Tensor:
    return torch.cat([generator.images(part).detach() for part in _parts(latents)])


def _case(generator: Any, names: Names, pictures: Tensor, latents: Latents | None) -> Case:
    said = names.of(names.units(pictures))
    truth = None if latents is None else generator.true_scenes(latents)
    return Case(pictures, locate(pictures), said.kind, said.ground, truth)


def _both(
    edit: str, counted: str, source: Case, cases: tuple[Case, Case], right: Callable[[Case, str], np.ndarray]
) -> list[EditRow]:
    """Return a row by the true scene and one by the locator; right(case, judge): whether the edit succeeded."""
    edited, written = cases
    by_truth = (share_of(right(edited, "truth")), None, share_of(right(source, "truth")))
    by_picture = tuple(share_of(right(case, "picture")) for case in (edited, written, source))
    return [EditRow(edit, counted, "true scene", by_truth), EditRow(edit, counted, "locator", by_picture)]


def _shift_rows(source: Case, cases: tuple[Case, Case], way: np.ndarray) -> list[EditRow]:
    def right(case: Case, judge: str) -> np.ndarray:
        if judge == "truth":
            moved = case.scene.centre[:, 0, 0] - source.scene.centre[:, 0, 0]
        else:
            moved = (case.seen.centroid[:, 0] - source.seen.centroid[:, 0]).numpy()
        share = np.nan_to_num(moved * way / QUARTER, nan=-1.0)
        found: np.ndarray = (share > 0.6) & (share < 1.4)
        return found

    return _both("shift", "moved by 0.6 to 1.4 of what was asked", source, cases, right)


def _zoom_rows(source: Case, cases: tuple[Case, Case]) -> list[EditRow]:
    def right(case: Case, judge: str) -> np.ndarray:
        if judge == "truth":
            ratio = np.square(case.scene.size / source.scene.size)
        else:
            ratio = (case.seen.area / source.seen.area.clamp_min(1e-6)).numpy()
        found: np.ndarray = (ratio > 1.3) & (ratio < 3)
        return found

    return _both("zoom", "area times 1.3 to 3", source, cases, right)


def _copy_rows(source: Case, cases: tuple[Case, Case]) -> list[EditRow]:
    def right(case: Case, judge: str) -> np.ndarray:
        found: np.ndarray = (case.scene.count if judge == "truth" else case.seen.count.numpy()) == 2
        return found

    return _both("copy", "two objects", source, cases, right)


def _remove_rows(
    names: Names, scale: float, latents: Latents, source: Case, cases: tuple[Case, Case]
) -> list[EditRow]:
    """Return rows on whether the class's probability among the kinds falls below half of its previous value."""
    label = latents.label.cpu()

    def probability(case: Case) -> np.ndarray:
        shares = names.kind_probabilities(names.units(case.pictures), scale)
        return shares.gather(1, label[:, None])[:, 0].numpy()

    before = probability(source)
    shares = tuple(share_of(probability(case) < 0.5 * before) for case in (*cases, source))
    return [EditRow("remove", "the class's probability below half", "CLIP", shares)]


def _kept_rows(edit: str, latents: Latents, source: Case, cases: tuple[Case, Case]) -> list[EditRow]:
    """Return rows on whether CLIP still names the kind, if an object remains, and the background."""
    label, ground = latents.label.cpu().numpy(), source.scene.ground
    grounds = tuple(share_of(case.ground == ground) for case in (*cases, source))
    rows = [EditRow(edit, "ground kept", "CLIP", grounds)]
    if edit != "remove":
        kinds = tuple(share_of(case.kind == label) for case in (*cases, source))
        rows = [EditRow(edit, "kind kept", "CLIP", kinds), *rows]
    return rows


def editing_section(
    report: Report,
    steps: Steps,
    generator: Any,
    guides: Guides,
    names: Callable[[], Names],
    scale: float,
    n: int,
) -> None:
    """Figures 4.7, 4.8, C.3 and C.12 as numbers and pictures: n samples of the prior, edited and judged.

    names, scale: as in `measure_edits`; the names are computed on demand.
    """

    latents, schedule = one_object(generator, n), search_for(n)

    def made(edit: str) -> Result:
        way = _towards_room(generator, latents) if edit == "shift" else None
        found = searched(generator, guides, latents, edit, schedule, way)
        rows = edit_rows(generator, guides, names(), scale, latents, edit, found, way)
        parts = part_shares(generator, latents, edit, found, way)
        return {
            "rows": [_plain(row) for row in rows],
            "parts": {part: asdict(share) for part, share in parts.items()},
        }

    measured = {edit: steps.get(f"edits, {edit}", functools.partial(made, edit)) for edit in EDITS}
    rows = [row for found in measured.values() for row in found["rows"]]
    identity = steps.get(
        "edits, nothing asked", lambda: _plain_identity(generator, guides, latents, schedule)
    )
    kept = Estimate(**identity["searched"])
    report.section(
        "Editing (Figures 4.7, C.3)",
        f"The maps of {guides.n_units} shared units of {n} samples with one object are moved by a "
        f"quarter of a side, enlarged by {ZOOM:g}, copied or removed, and latents are searched that "
        "follow. The judges are the true scene of the resulting latent, a locator trained on true "
        'outlines, and CLIP. "All of it" requires that in the true scene every object is within '
        f"{judging.NEAR:.0%} of the side of its target, its area within a factor of "
        f"{judging.ALIKE:g} of the requested area, the background unchanged, and the number of "
        "objects as requested, with less than a tenth of the opacity of any other. Shares are given "
        "with 95% intervals.",
    )
    shown = [
        [row["edit"], row["counted"], row["judge"], TARGETS[row["counted"]], *map(_in_full, row["shares"])]
        for row in rows
    ]
    report.table(["edit", "counted", "judge", "aim", *WAYS], shown)
    report.text(
        'The table lists the parts of "all of it", by the true scene; for a removal, place and size '
        "are not judged:"
    )
    report.table(
        ["edit", *PARTS],
        [
            [
                edit,
                *(
                    None if edit == "remove" and part in PLACED else _in_full(found["parts"][part])
                    for part in PARTS
                ),
            ]
            for edit, found in measured.items()
        ],
    )
    report.text(
        "If nothing is requested, no search is run. A search from the source leaves it almost as it is:"
    )
    report.table(
        ["nothing requested", "PSNR to the source, dB", f"pictures at {SAME:.0f} dB or more"],
        [["no search", identity["passed"], None], ["search from the source", None, kept.in_full]],
    )
    latents = latents[: N_SHOWN + N_MORE]
    found = steps.get("edited pictures, more", lambda: _pictures(generator, guides, latents, n))
    columns = ["generated", *EDITS]
    pictures = [[(found[name][i], "") for name in columns] for i in range(len(latents))]
    in_two(report, "edits", pictures, N_SHOWN, columns, ("4.7", "C.3"), "edits by shared units", 5.2)
    single_units_section(report, steps, generator, guides, search_for(n))


def search_for(n: int, whole: int = 100) -> Schedule:
    """Return the settings of the search for n samples, a short one if fewer than `whole` are requested."""
    return SEARCH if n >= whole else Schedule(5, 0.1)


def _pictures(generator: Any, guides: Guides, latents: Latents, n: int) -> Result:
    schedule = search_for(n)
    how: dict[str, editing.EditOptions] = {"shift": {"right": QUARTER}, "zoom": {"factor": ZOOM}}
    made = {"generated": as_bytes(generator.images(latents))}
    for edit in EDITS:
        options: editing.EditOptions = {"schedule": schedule, **how.get(edit, {})}
        found = editing.edit(generator, latents, guides, edit, **options)
        made[edit] = as_bytes(found.images)
    return made


def _plain(row: EditRow) -> dict[str, Any]:
    return {**row._asdict(), "shares": [None if one is None else asdict(one) for one in row.shares]}


def _plain_identity(generator: Any, guides: Guides, latents: Latents, schedule: Schedule) -> Result:
    found = unchanged(generator, guides, latents, schedule)
    return {"passed": found.passed, "searched": asdict(found.searched)}


def _in_full(share: dict[str, Any] | None) -> str | None:
    return None if share is None else Estimate(**share).in_full

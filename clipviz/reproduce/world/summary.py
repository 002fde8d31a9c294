"""The demo world's report card in one table: every row with its 95% interval and sample size."""

from __future__ import annotations

from collections import Counter

from clipviz.analysis.heads.labels import AT_LEAST, LEVEL, N_FIRST
from clipviz.demo.model import evaluate
from clipviz.lens.intervals import Estimate, mean, share, spread
from clipviz.lens.spurious import ShortcutRemoval
from clipviz.reproduce.chapter2 import spurious
from clipviz.reproduce.chapter2.spurious import Way
from clipviz.reproduce.report import Report
from clipviz.reproduce.world import measures
from clipviz.reproduce.world.held_out import HeldOutSizes
from clipviz.reproduce.world.measures import N_DRAWS, FamilyScore, HeadTable, MapScore, NeuronLayer
from clipviz.values import N_LATE

MAIN = "The main numbers"


def summary_section(
    report: Report,
    families: dict[str, dict[str, FamilyScore]],
    nearest: dict[str, Estimate],
    table: HeadTable,
    birds: dict[Way, ShortcutRemoval],
    depths: dict[str, dict[int, MapScore]],
    pairs: dict[str, dict[str, Estimate]],
    neurons: list[NeuronLayer],
    sizes: HeldOutSizes,
) -> None:
    """The main numbers, and the whole card in one table."""
    report.section(MAIN, "These are the most important rows of the card, with 95% intervals.")
    report.table(["held-out scenes", "measured (95%)", "n"], main_rows(families, nearest, table, birds))
    report.section(
        "In short",
        f"{sizes.n_seeds} seeds are pooled. Intervals are 95%: Wilson's for shares, Student's for "
        f"means, and the range of 95% of {N_DRAWS} draws where other heads or rotations are drawn.",
    )
    report.table(
        ["held-out scenes of the demo world", "measured", "95%", "n"],
        [
            *recognition_rows(families),
            *text_rows(nearest),
            *map_rows(depths, pairs),
            *head_rows(table),
            *bird_rows(birds),
            *neuron_rows(neurons),
        ],
    )
    clear = sorted({role.label for role in table.roles.values() if role.clear})
    report.text(
        f"Properties with a clear head: {', '.join(clear) or 'none'}. Late heads by the property that explains the "
        f"most of their variance: {_tally(table)}. Heads with a property over the seeds: {min(table.by_seed)} to "
        f"{max(table.by_seed)}."
    )


def main_rows(
    families: dict[str, dict[str, FamilyScore]],
    nearest: dict[str, Estimate],
    table: HeadTable,
    birds: dict[Way, ShortcutRemoval],
) -> list[list[str]]:
    """Return the rows of the main numbers, which the documentation shows."""
    rows = [
        [what, f"{value} ({interval})", n]
        for what, value, interval, n in (
            *recognition_rows(families),
            *text_rows(nearest),
            *head_rows(table),
        )
    ]
    for classes, best in spurious.best_of(birds).items():
        before, after = spurious.worst_of(best.before), spurious.worst_of(best.after)
        other, n_heads = spurious.random_worst(best), len(best.ablation.heads)
        rows.append(
            [
                f"worst group of painted birds and places, classes by {classes}: as it is; without {n_heads} "
                "background heads; without as many others of the same layers",
                "; ".join(f"{one.value:.2f} ({one.interval})" for one in (before, after, other)),
                f"{before.n:,} and {after.n:,} birds; {other.n:,} draws",
            ]
        )
    return rows


def row(what: str, found: Estimate, unit: str) -> list[str]:
    """Return one line of the summary."""
    return [what, f"{found.value:.2f}", found.interval, f"{found.n:,} {unit}"]


def recognition_rows(families: dict[str, dict[str, FamilyScore]]) -> list[list[str]]:
    """Return rows on what the model distinguishes: objects by style, properties, counts, large shapes and glyphs."""
    seen, unseen = families["held out"], families["unseen views"]
    lone = "object, single, own colour"
    wanted = [
        (f"lone object in its own colours, of {round(1 / seen['object'].chance)}", seen[lone]),
        ("the same in a drawing style never seen", unseen[lone]),
        *((name, seen[name]) for name in ("colour", "background", "treatment")),
        ("count, 2 to 6", seen["count"]),
        ("large plain shape", seen["shape, large, plain"]),
        ("large plain letter or digit", seen["glyph, large, plain"]),
    ]
    return [row(what, score.accuracy, "scenes") for what, score in wanted]


def text_rows(nearest: dict[str, Estimate]) -> list[list[str]]:
    """Return rows on how often the texts nearest to a picture are true of it, and of another picture."""
    n = evaluate.N_NEAREST
    wanted = [
        ("nearest of all texts: true of the picture", "first", "scenes"),
        ("the same text: true of another picture", "first, of another picture", "scenes"),
        (f"{n} nearest texts: share that is true of the picture", "five", "scenes"),
        ("the same texts: share that is true of another picture", "five, of another picture", "scenes"),
        (f"scenes of one class: named among the {n} nearest texts", "class", "scenes"),
        ("those without a treatment: the same", "class, untreated", "scenes"),
        (
            "scenes of one class: the nearest text with a class names it",
            "class, of texts with a class",
            "scenes",
        ),
    ]
    return [row(what, nearest[key], unit) for what, key, unit in wanted]


def map_rows(
    depths: dict[str, dict[int, MapScore]], pairs: dict[str, dict[str, Estimate]]
) -> list[list[str]]:
    """Return rows on token maps and raw attention: for the object of a scene, and for the named one of two."""
    ours = depths[measures.TOKENS][min(N_LATE, max(depths[measures.TOKENS]))].foreground_ap
    raw = max((score.foreground_ap for score in depths[measures.RAW].values()), key=lambda ap: ap.value)
    late = f"of the last {N_LATE} layers"
    rows = [
        row(f"token maps {late}: AP of the foreground", ours, "scenes"),
        row("raw attention of the best layers: AP of the foreground", raw, "scenes"),
    ]
    for name in (measures.TOKENS, measures.RAW):
        of_two = f"{name} {late}, the named one of two objects"
        rows.append(row(f"{of_two}: points at it", pairs[name]["pointing"], "scenes"))
        rows.append(row(f"{of_two}: AP", pairs[name]["foreground AP"], "scenes"))
    return rows


def head_rows(table: HeadTable) -> list[list[str]]:
    """Return rows on late heads with a property in their first texts, and on the same under random rotations."""
    n_heads = len(table.heads)
    found = share(table.n_heads(), n_heads)
    what = f"late heads with one property in {AT_LEAST} or more of their first {N_FIRST} texts, share"
    rotated = spread([count / n_heads for count in table.null_heads().tolist()])
    labelled = share(sum(role.clear for role in table.roles.values()), n_heads)
    return [
        row(what, found, "heads"),
        row("the same under random rotations", rotated, "draws"),
        row(
            f"late heads with a label: at most {LEVEL:.0%} of rotations have as many of any property",
            labelled,
            "heads",
        ),
    ]


def bird_rows(birds: dict[Way, ShortcutRemoval]) -> list[list[str]]:
    """Return rows on the worst group before and after ablating the background heads, and under as many other heads
    of their layers.
    """
    rows = []
    for classes in dict.fromkeys(way.classes for way in birds):
        found = {way.heads: shortcut for way, shortcut in birds.items() if way.classes == classes}
        group = f"worst group of painted birds and places, classes by {classes}"
        before = spurious.worst_of(next(iter(found.values())).before)
        rows.append(row(f"{group}: unchanged model", before, "birds in it"))
        for heads, shortcut in found.items():
            n_heads = len(shortcut.ablation.heads)
            after, random = spurious.worst_of(shortcut.after), spurious.random_worst(shortcut)
            rows.append(row(f"{group}: {n_heads} background heads ({heads}) ablated", after, "birds in it"))
            rows.append(row(f"{group}: {n_heads} other heads of the same layers ablated", random, "draws"))
    return rows


def neuron_rows(neurons: list[NeuronLayer]) -> list[list[str]]:
    """Return rows on second-order effects of the strongest neurons of all layers with later attention."""
    n_neurons = sum(layer.n_neurons for layer in neurons)
    components = mean([value for layer in neurons for value in layer.components], 0.0, 1.0)
    named = share(sum(layer.n_named for layer in neurons), n_neurons)
    above = share(sum(layer.n_above_null for layer in neurons), n_neurons)
    closer = f"with a text closer than {measures.ABOVE:.0%} of rotated directions have one"
    return [
        row(
            "second-order effects: share of the first component on the top 10% images", components, "neurons"
        ),
        row(f"neurons with a text at cosine > {measures.COSINE}", named, "neurons"),
        row(f"neurons {closer}", above, "neurons"),
    ]


def _tally(table: HeadTable) -> str:
    """Return 'colour 16, background 9, ...': how many heads vary most with each property."""
    counts = Counter(table.supervised(row)[0] for row in range(len(table.heads)))
    return ", ".join(f"{name} {n_heads}" for name, n_heads in counts.most_common())

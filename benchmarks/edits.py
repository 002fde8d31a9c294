"""Edits through the embedded generator beside their aims, on a few samples; `clipviz reproduce chapter4` takes 200."""

from __future__ import annotations

from typing import Any

import clipviz
from benchmarks._timing import row
from clipviz.demo.generator.measure import Names
from clipviz.reproduce.chapter4.editing import TARGETS, WAYS, measure_edits
from clipviz.reproduce.world.held_out import encoder_of


def run(n: int = 16) -> list[dict[str, Any]]:
    """Return the share of edits that do as asked, beside its aim; what could have done it without a search is named."""
    model = clipviz.load("demo")
    session = clipviz.Session(model)
    names = Names(encoder_of(model))
    identity, rows = measure_edits(
        session.generator.model, session.generator.guides, names, model.logit_scale, n
    )
    session.close()
    kept = identity.searched
    found = [
        row("edits: nothing asked, PSNR to the source, dB", identity.passed, 40, at_least=True),
        row(
            f"edits: nothing asked but searched, share at 40 dB or more (n = {kept.n})",
            kept.value,
            1,
            at_least=True,
        ),
    ]
    for one in rows:
        beside = ", ".join(
            f"{way} {share.value:.2f}" for way, share in zip(WAYS[1:], one.shares[1:], strict=True) if share
        )
        edited = one.shares[0]
        what = f"edits: {one.edit}, {one.counted} ({one.judge}; n = {edited.n}: {edited.interval}; {beside})"
        found.append(row(what, edited.value, TARGETS[one.counted], at_least=True))
    return found

"""The report card's section on the embedded generator.

The model names the objects in the generator's pictures, and a locator finds their places. The same is done for the
teacher's pictures of the same latents. The teacher is the world's own renderer.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from clipviz.demo.generator.demo_generator import open_demo_generator
from clipviz.demo.generator.measure import SEED, Quality, quality
from clipviz.demo.model.evaluate import Encoder
from clipviz.lens.intervals import Estimate
from clipviz.reproduce.report import Report, Steps


def measured(encoder: Encoder, steps: Steps, n: int) -> Quality:
    """Return the generator's quality as judged by the encoder; a finished measurement is read from its step."""
    found = steps.get("world-generator", partial(_as_values, encoder, n))
    named = {
        what: {who: Estimate(**share) for who, share in by_who.items()}
        for what, by_who in found["named"].items()
    }
    return Quality(named, found["frechet"], found["coverage"], found["n"])


def _as_values(encoder: Encoder, n: int) -> dict[str, Any]:
    return asdict(quality(open_demo_generator(), encoder, n))


def generator_section(report: Report, found: Quality) -> None:
    """Add measurements of the embedded generator's pictures, and of the teacher's pictures of the same latents."""
    report.section(
        "The embedded generator",
        f"{found.n} samples of its prior (seed {SEED}), judged by this model's zero-shot names and by the locator, "
        "beside what the teacher paints for the same latents. Shares with 95% Wilson intervals.",
    )
    report.table(
        ["read as the latent asks", "generator", "teacher"],
        [
            [what, by_who["generator"].in_full, by_who["teacher"].in_full]
            for what, by_who in found.named.items()
        ],
    )
    report.table(
        ["Fréchet distance in this model's embedding", "distance"],
        [[what, value] for what, value in found.frechet.items()],
    )
    report.table(
        ["coverage", "generator", "teacher"],
        [[what, by_who["generator"], by_who["teacher"]] for what, by_who in found.coverage.items()],
    )

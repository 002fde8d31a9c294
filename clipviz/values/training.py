"""A record of a training run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingLog:
    """What was measured during a dictionary's training run: every few steps, on the tokens of those steps.

    steps: steps taken; explained: share of the variance that is explained, 0..1; dead: share of features that
    have not been active for a while; tokens: number of tokens seen in total. seconds: duration of all steps.
    `clipviz.figures.dictionaries.training(log)` draws it.
    """

    steps: tuple[int, ...] = ()
    explained: tuple[float, ...] = ()
    dead: tuple[float, ...] = ()
    tokens: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        if not self.steps:
            return "This dictionary was not trained in this session."
        return (
            f"{self.steps[-1]:,} steps on {self.tokens:,} tokens in {self.seconds:,.0f} s: {self.explained[-1]:.1%} of "
            f"the variance explained, {self.dead[-1]:.1%} of the features dead."
        )

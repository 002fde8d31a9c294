"""A pair of classes, one to draw and one that the classifier should predict: names, prompts, direction, studio."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from clipviz.data.texts import with_article
from clipviz.models.bundle import Studio
from clipviz.models.clip import ClipModel


def studio_of(model: ClipModel) -> Studio | None:
    """Return the studio of the model's bundle, if there is one."""
    return model.bundle.studio if model.bundle else None


def check_pair(drawn: str, mistaken: str) -> None:
    """Raise ValueError unless these are two different class names."""
    for name in (drawn, mistaken):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(
                f"expected two class names, got {drawn!r} and {mistaken!r}; type one word for each"
            )
    if drawn.strip().lower() == mistaken.strip().lower():
        raise ValueError(f"expected two different classes, got {drawn!r} twice")


def prompt(model: ClipModel, name: str) -> str:
    """Return the prompt of a class: "a horse", "grapes"."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"expected the name of a class, got {name!r}; type a word")
    studio = studio_of(model)
    return (studio.prompt if studio else with_article)(name.strip())


def target_direction(model: ClipModel, drawn: str, mistaken: str) -> tuple[Tensor, Tensor]:
    """Return the directions of both classes [2, d_embed], and v = M(mistaken) - M(drawn)."""
    check_pair(drawn, mistaken)
    encoded = model.encode_texts([prompt(model, drawn), prompt(model, mistaken)])
    return encoded, encoded[1] - encoded[0]


def drawable(studio: Studio | None, words: Sequence[str], pair: tuple[str, str]) -> list[bool]:
    """Return which words a studio can put into a picture of the pair's first class, excluding colours."""
    wrong = [word for word in words if not isinstance(word, str)]
    if wrong:
        raise ValueError(f"expected words as texts, got {wrong[:3]}; put each in quotes")
    return [studio is not None and studio.can_draw(word, set(pair)) for word in words]

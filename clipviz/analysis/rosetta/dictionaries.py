"""A CLIP's dictionary of shared units: mined, named in words, and stored with its origin (thesis 4.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from clipviz.analysis.rosetta.mining import Mining, count_rows, mine
from clipviz.analysis.rosetta.text_labels import hints
from clipviz.models.clip import ClipModel
from clipviz.models.dictionaries import Dictionary
from clipviz.models.feature_maps import digest, featured_partner
from clipviz.models.generator import as_image
from clipviz.models.untrained import untrained_copy
from clipviz.models.zoo import Partner, clip_partner
from clipviz.values import Concepts, Progress, unwatched

CLIP = "clip"
"""The name of the model in its dictionary."""


def mined(
    model: ClipModel,
    partners: Sequence[Partner],
    images: Any,
    heldout: Any,
    texts: Sequence[str],
    generator: Any = None,
    progress: Progress = unwatched,
    features: Mapping[str, Dictionary] = MappingProxyType({}),
    **options: Any,
) -> Concepts:
    """Mine the dictionary of a CLIP and its partners, and name concepts in words where the names hold on other
    images.

    images, heldout: pictures for mining and for validation; texts: candidates for names, none for no names;
    generator: one more partner, matched on as many of its own samples; options: those of Mining. The pivot is
    called "clip".
    """
    pivot, own = featured_partner(model, CLIP, features), {}
    if generator is not None:
        partners = [*partners, generator]
        own = {generator.name: _samples(generator, len(images), len(heldout))}
    how = Mining(**options)
    concepts = mine(pivot, partners, images, heldout=heldout, how=how, progress=progress, own=own)
    if not len(concepts) or not texts:
        return concepts
    return replace(
        concepts,
        hints=hints(
            model, torch.as_tensor(concepts.units)[:, 0], concepts.layers[0], images, heldout, texts, pivot
        ),
    )


def mined_from_generator(
    generator: Any,
    model: ClipModel,
    partners: Sequence[Partner],
    n_latents: int,
    n_heldout: int,
    texts: Sequence[str],
    **options: Any,
) -> tuple[Concepts, dict[int, Any]]:
    """Return R(G, D1 ... Dm) of Eq. 4.4 with a generator as pivot on its own samples, and the pictures of its
    examples.

    The CLIP, called "clip", and every partner must share a unit. Named by texts that fit where the generator's units
    are strongest (text_labels.names).
    """
    latents, others = _samples(generator, n_latents, n_heldout)
    company = [clip_partner(model, CLIP), *partners]
    concepts = mine(generator, company, latents, heldout=others, how=Mining(**options))
    named = name_generator(concepts, generator, model, n_latents, n_heldout, texts)
    examples = sorted({int(i) for i in torch.as_tensor(concepts.examples).flatten().tolist()})
    pictures = {i: as_image(generator.images(latents[i : i + 1])[0]) for i in examples}
    return replace(concepts, hints=named), pictures


def name_generator(
    concepts: Concepts, generator: Any, model: ClipModel, n_latents: int, n_heldout: int, texts: Sequence[str]
) -> tuple[tuple[str, float], ...]:
    """Return names of a generator's units, chosen on the samples used for mining and checked on others."""
    if not len(concepts):
        return ()
    units = torch.as_tensor(concepts.units)[:, 0]
    latents, others = _samples(generator, n_latents, n_heldout)
    return hints(model, units, concepts.layers[0], latents, others, list(texts), generator)


def untrained_rows(
    model: ClipModel,
    partners: Sequence[Partner],
    images: Any,
    generator: Any = None,
    n_heldout: int = 0,
    progress: Progress = unwatched,
    features: Mapping[str, Dictionary] = MappingProxyType({}),
    **options: Any,
) -> int:
    """Return how many rows `mined` finds on the same images with an untrained copy in place of the model.

    Local filters with random weights are active where trained ones are, so a dictionary has rows that do not
    depend on learning; this counts them. It takes about two thirds of the time of the dictionary itself.
    """
    own = {}
    if generator is not None:
        partners = [*partners, generator]
        own = {generator.name: _samples(generator, len(images), n_heldout)}
    untrained = untrained_copy(featured_partner(model, CLIP, features))
    return count_rows(untrained, partners, images, Mining(**options), progress, own)


def untrained_generator_rows(
    generator: Any,
    model: ClipModel,
    partners: Sequence[Partner],
    n_latents: int,
    n_heldout: int,
    **options: Any,
) -> int:
    """Return that count for `mined_from_generator`, with an untrained copy of the model among the partners."""
    latents, _ = _samples(generator, n_latents, n_heldout)
    company = [untrained_copy(clip_partner(model, CLIP)), *partners]
    return count_rows(generator, company, latents, Mining(**options))


def _samples(generator: Any, n: int, n_heldout: int) -> tuple[Any, Any]:
    """Return latents for matching, and others for validation."""
    return generator.sample(n, seed=7), generator.sample(n_heldout, seed=2024)


def about(
    model: ClipModel,
    partners: Sequence[Any],
    images: Any,
    features: Mapping[str, Dictionary] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the origin of a dictionary: fingerprints of the pivot, the collection and the dictionaries of
    directions whose features were matched, and how every model was trained.
    """
    losses = {"clip": "text-supervised", **{partner.name: partner.loss for partner in partners}}
    known: dict[str, Any] = {} if images is None else {"images": images.fingerprint}
    if features:
        known["features"] = {name: digest(one) for name, one in features.items()}
    return {"model": model.fingerprint, "losses": losses, **known}

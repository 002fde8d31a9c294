"""A generator in a session: its shared units as concepts, and pictures that follow them (thesis 4.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipviz.analysis.generation import concepts as named
from clipviz.analysis.generation import editing, inversion
from clipviz.analysis.generation import guides as stored
from clipviz.analysis.generation.concepts import GeneratorConcept
from clipviz.analysis.generation.guides import NoPairError, find_guides, pairs_with
from clipviz.data.texts import class_texts
from clipviz.lens import zeroshot
from clipviz.loading import load_partner
from clipviz.models.threads import spare_core, sparing
from clipviz.models.zoo import clip_partner
from clipviz.session import checks
from clipviz.values import numbers_of

if TYPE_CHECKING:
    from clipviz.analysis.generation.guides import Guides
    from clipviz.analysis.generation.searching import Edited, SearchProgress
    from clipviz.lens.invert import Schedule, SearchOptions, Step
    from clipviz.session.core import Session

N_SAMPLES = 96
"""Pictures that the generator's units are matched on."""
N_STARTS, N_SEARCHED = 64, 3
"""Latents that an inversion chooses its start from, and how many of these an inversion by maps alone searches from."""
N_TRIED = 6
"""Latents that each start of a single concept's pictures is chosen from."""
SEED = 7


def generator_of(session: Session) -> Any:
    """The generator in use: the one given, or that of the model's bundle. ValueError where there is none."""
    bundle = session.model.bundle
    if session._generator is None and bundle is not None and bundle.generator is not None:
        session._generator = bundle.generator(session.model.device)
    if session._generator is None:
        raise ValueError(
            f"model {session.model.name!r} brings no generator; set session.generator = clipviz.load_generator(...)"
        )
    return session._generator


def readers_of(session: Session) -> dict[str, Any]:
    """The models that look at pictures, which the generator's units are matched with: those given, else those that a
    dictionary was mined with, else the bundle's partners, else the session's own model."""
    if session._readers is not None:
        return session._readers
    if session._mined is not None:
        return dict(session._mined.partners)

    def make() -> dict[str, Any]:
        bundle = session.model.bundle
        known = bundle.partners if bundle is not None else {}
        if not known:
            return {"clip": clip_partner(session.model, "clip")}
        return {name: partner.load(session.model.device) for name, partner in known.items()}

    return session.keep("readers", make)


def checked_readers(session: Session, readers: Any) -> dict[str, Any] | None:
    """Readers as a session keeps them; names are loaded. ValueError for anything that does not look at pictures."""
    if readers is None:
        return None
    if isinstance(readers, str) or not isinstance(readers, Iterable):
        raise ValueError(
            f"expected readers as a list of names or models, or by name in a dict, got {readers!r}; "
            'session.readers = ["cnn"] is one'
        )
    named = readers if isinstance(readers, Mapping) else {_name(one): one for one in readers}
    found = {
        str(name): load_partner(one, device=session.model.device) if isinstance(one, str) else one
        for name, one in named.items()
    }
    blind = [name for name, one in found.items() if not callable(getattr(one, "maps", None))]
    if blind or not found:
        raise ValueError(
            f"expected models with .maps(images), got {', '.join(blind) or 'none'}; clipviz.load_partner makes them"
        )
    return found


def _name(one: Any) -> str:
    return one if isinstance(one, str) else str(getattr(one, "name", type(one).__name__))


def _units_key(session: Session, what: str) -> tuple[Any, ...]:
    """What is remembered of a generator's units rests on the generator and on who reads its pictures."""
    generator, readers = generator_of(session), readers_of(session)
    return what, id(generator), *((name, id(reader)) for name, reader in readers.items())


def guides(session: Session) -> Guides:
    """The generator's units that the readers share (Eq. 4.3): given, shipped, or found on N_SAMPLES of its own
    pictures."""
    generator = generator_of(session)

    def make() -> Guides:
        bundle = session.model.bundle
        shipped = bundle.guides if bundle is not None else None
        readers = readers_of(session)
        between = session.telling("Matching the generator's units with other models", len(readers))
        return guides_between(generator, readers, shipped, session.model.device, between)

    return session.keep(_units_key(session, "guides"), make)


def give_guides(session: Session, found: Guides) -> None:
    """Take guides instead of those that would be found; concepts are named anew. ValueError for other readers'."""
    readers = readers_of(session)
    unknown = sorted(set(found.pairs) - set(readers))
    if unknown:
        raise ValueError(
            f"expected guides with {', '.join(readers)}, got pairs with {', '.join(unknown)}; set session.readers to "
            "the models that they were found with"
        )
    keys = _units_key(session, "guides"), _units_key(session, "generator concepts")
    session._works.forget(lambda key: key in keys)
    session.keep(keys[0], lambda: found)


def guides_between(
    generator: Any,
    readers: dict[str, Any],
    shipped: Path | None,
    device: torch.device | str = "cpu",
    between: Callable[[int], None] = lambda n_done: None,
) -> Guides:
    """The units that a generator shares with readers: those in the file `shipped` where it rests on the same weights,
    else found now. between: as find_guides calls it. ValueError where no unit is shared."""
    if shipped is not None and _known_by_weights(generator, readers):
        kept = stored.open_guides(shipped, stored.identity(generator, readers), device)
        if kept is not None:
            return kept
    samples = generator.sample(N_SAMPLES, seed=SEED)
    try:
        return find_guides(generator, readers, samples, progress=between)
    except NoPairError as error:
        raise NoPairError(
            f"{error}; in a session, session.readers = [...] sets the models, and session.guides = "
            "clipviz.analysis.generation.guides.find_guides(generator, session.readers, latents, above=0.2) the units"
        ) from error


def _known_by_weights(generator: Any, readers: Mapping[str, Any]) -> bool:
    return all(hasattr(one, "module") for one in (generator, *readers.values()))


def concepts(session: Session) -> list[GeneratorConcept]:
    """The generator's shared units grouped and named: shipped, or found on N_SAMPLES of its own pictures."""
    generator = generator_of(session)

    def make() -> list[GeneratorConcept]:
        bundle = session.model.bundle
        shipped = bundle.generator_concepts if bundle is not None else None
        if shipped is not None and _known_by_weights(generator, readers_of(session)):
            kept = named.open_concepts(shipped, concepts_rest_on(session))
            if kept is not None:
                return kept
        latents = generator.sample(N_SAMPLES, seed=SEED)
        return named.generator_concepts(
            session.model,
            generator,
            guides(session),
            latents,
            list(session.texts),
            progress=session.telling("Naming the generator's concepts", len(latents)),
        )

    return session.keep(_units_key(session, "generator concepts"), make)


def concepts_rest_on(session: Session) -> dict[str, str]:
    """The weights that the names of concepts rest on: the generator's, its readers' and the model's."""
    known = stored.identity(generator_of(session), readers_of(session))
    return {**known, "model": session.model.fingerprint}


def units_of(session: Session, chosen: Sequence[int]) -> list[tuple[str, int]]:
    """(layer, unit) of all units of some concepts; ValueError for a concept that is not there."""
    known = concepts(session)
    return [unit for i in checks.several("concepts", chosen, len(known)) for unit in known[i].units]


def edit(
    session: Session,
    latents: Any,
    change: str,
    chosen: Sequence[int] | None,
    **how: Any,
) -> Edited:
    """See Session.edit."""
    units = None if chosen is None else units_of(session, chosen)
    with spare_core():  # as the desk's search, so that both find the same
        return editing.edit(generator_of(session), latents, guides(session), change, units=units, **how)


def edit_steps(
    session: Session, latents: Any, change: str, chosen: Sequence[int] | None, **how: Any
) -> Iterator[Step]:
    """The search of `edit`, one step at a time."""
    units = None if chosen is None else units_of(session, chosen)
    steps = editing.edit_steps(generator_of(session), latents, guides(session), change, units=units, **how)
    return sparing(steps)


def invert(
    session: Session,
    image: int,
    label: str | int | None,
    pixels: bool,
    seed: int,
    alpha: float,
    beta: float,
    objective: str | None,
    schedule: Schedule | None,
    progress: SearchProgress | None,
) -> Edited:
    """See Session.invert."""
    generator, readers, found = generator_of(session), readers_of(session), guides(session)
    picture = torch.from_numpy(np.ascontiguousarray(session.picture(image))).to(session.model.device)
    picture = picture.permute(2, 0, 1)[None].float() / 255
    classes = getattr(generator, "classes", ())
    if label is not None and not classes:
        raise ValueError(f"expected no label for a generator without classes, got {label!r}; leave label out")
    if label is None and classes:
        label = nearest_class(session, classes, image)
    labels = None if label is None else [label]
    between = session.telling("Choosing where the search begins", N_STARTS)
    start = starts_for(generator, readers, found, picture, labels, seed, 1 if pixels else N_SEARCHED, between)
    size = generator.images(start).shape[2:]
    target = F.interpolate(picture, size, mode="bilinear", antialias=True) if pixels else None
    how: SearchOptions = {"alpha": alpha, "beta": beta, "schedule": schedule}
    if objective is not None:
        how["objective"] = objective
    return inversion.invert(
        generator,
        start,
        images=picture,
        readers=readers,
        guides=found,
        target=target,
        progress=progress,
        **how,
    )


def starts_for(
    generator: Any,
    readers: dict[str, Any],
    found: Guides,
    pictures: Tensor,
    labels: Any,
    seed: int,
    n_tried: int = N_SEARCHED,
    between: Callable[[int], None] = lambda n_done: None,
) -> Any:
    """For each picture that one of N_STARTS random latents whose maps are most like the readers' maps of it.

    labels: a class for each picture, None for a generator without classes. n_tried: how many of the best are searched
    briefly before one is chosen; 1 for none. between: called with how many have been compared.
    """
    drawn = generator.sample(N_STARTS, seed=seed)
    latents = generator.sample(len(pictures), seed=seed)
    if labels is not None:
        index = [generator.label(label) for label in labels]
        latents = replace(latents, label=torch.tensor(index, device=latents.label.device))
    numbers = numbers_of(drawn)
    starts = [one.expand(len(pictures), *one.shape[1:]) for one in numbers.split(1)]
    pairs, asked = pairs_with(readers, found), inversion.read(readers, pictures)
    nearest = inversion.nearest_starts(generator, latents, starts, asked, pairs, n_tried, between)
    return nearest[0] if n_tried == 1 else inversion.tried_start(generator, nearest, asked, pairs)


def nearest_class(session: Session, classes: Sequence[str], image: int) -> str:
    """The generator's class whose prompts are nearest to an image (Eq. 2.1)."""
    embedding = session.trace(image).embedding
    return classes[int((embedding @ class_directions(session, tuple(classes)).T).argmax())]


def class_directions(session: Session, classes: tuple[str, ...]) -> Tensor:
    """Unit directions of classes from their prompts, [class, d_embed]."""

    def make() -> Tensor:
        prompts = class_texts(list(classes))
        flat = [text for texts in prompts for text in texts]
        return zeroshot.of_prompts(session.model.encode_texts(flat), [len(texts) for texts in prompts])

    return session.keep(("generator classes", classes), make)


def visualise(
    session: Session,
    concept: int,
    n_starts: int,
    seed: int,
    schedule: Schedule | None,
    progress: SearchProgress | None,
) -> Edited:
    """See Session.visualise."""
    generator = generator_of(session)
    unit = units_of(session, [concept])[0]
    found, n = guides(session), checks.count("n_starts", n_starts)
    starts = inversion.lively(generator, generator.sample(N_TRIED * n, seed=seed), found, unit, n)
    return inversion.visualise(generator, starts, found, unit, schedule=schedule, progress=progress)

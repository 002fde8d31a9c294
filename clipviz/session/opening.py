"""What a session opens from its arguments: index, images, codes, text pool, and where it begins."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipviz.analysis.collection.image_codes import ImageCodes, KeptCodes
from clipviz.analysis.collection.text_pool import WORTH_KEEPING
from clipviz.data.images import Images, open_images
from clipviz.data.store.store import differing
from clipviz.data.texts import Texts, open_texts
from clipviz.indexing import Index
from clipviz.values import Ablation, Head, Selection

if TYPE_CHECKING:
    from clipviz.models.bundle import TourStep
    from clipviz.models.clip import ClipModel
    from clipviz.session.core import Session
    from clipviz.session.state import SessionState

EXAMPLES = ("a person", "an animal", "a building", "the colour red", "text on a sign", "a landscape")


def open_index(index: Any) -> Index | None:
    """An open Index, one opened from its folder, or None."""
    return index if index is None or isinstance(index, Index) else Index.open(index)


def images_of(model: ClipModel, images: Any, index: Index | None) -> Images:
    """The images given, those of the index, or the bundle's. ValueError when there are none, or not as many."""
    if index is not None:
        opened = index.images() if images is None else open_images(images)
        if len(opened) != len(index):
            raise ValueError(
                f"expected the {len(index):,} images of the index, got {len(opened):,}; leave images out, the index "
                "knows them"
            )
        if images is not None:
            index.check_images(opened)
        return opened
    if images is None:
        if model.bundle is None or model.bundle.images is None:
            raise ValueError(
                f"model {model.name!r} needs images: a folder, paths, PIL images, arrays or a data set; "
                "for the embedded collection pass images=clipviz.demo.images()"
            )
        return model.bundle.images()
    return open_images(images)


def codes_of(
    model: ClipModel, images: Images, index: Index | None, layers: Sequence[int] | None
) -> ImageCodes:
    """Codes from the index, from the one in the bundle for its own images, or empty and still to be read."""
    if index is None and layers is None:
        index = bundled_index(model, images)
    if index is None:
        collection = ImageCodes(model, len(images), layers)
        KeptCodes(model, images, collection.layers).fill(collection)
        return collection
    if layers is not None and tuple(layers) != index.layers:
        raise ValueError(
            f"expected the index's layers {list(index.layers)}, got {list(layers)}; leave layers out"
        )
    return index.image_codes(model)


def reading(reference: weakref.ref[SessionState]) -> Iterator[int]:
    """Read a session's collection one batch at a time; panels are refreshed as it grows and when it is complete.

    The steps hold nothing of the session while they wait, so that one that is no longer used can go.
    """
    session = reference()
    assert session is not None
    kept = KeptCodes(session.model, session.images, session.collection.layers)
    steps = session.collection.read(session.model, session.images, awaited=session.worker.awaited)
    told, started = 0.0, time.monotonic()
    work = session.reading
    del session
    work.resume()
    for n_read in steps:
        session = reference()
        if session is None:
            return
        with session.lock:
            work.reached(n_read)
            session.progress = (n_read, len(session.images))
        if time.monotonic() - told > 1.0 or session.collection.complete:
            told = time.monotonic()
            if hasattr(session, "worker"):
                session.refresh()
        if session.collection.complete and time.monotonic() - started > WORTH_KEEPING:
            kept.keep(session.collection)
        del session
        yield n_read
        work.resume()
    work.reached(work.n_all)  # the last ones may all be broken


def bundled_index(model: ClipModel, images: Images) -> Index | None:
    """The index in the model's bundle, if this very model made it from these very images; else None."""
    bundle = model.bundle
    if bundle is None or bundle.index is None or bundle.images is None or images is not bundle.images():
        return None
    try:
        index = Index.open(bundle.index)
    except ValueError:
        return None
    same = not differing(index.identity, model.identity())
    return index if same and index.fingerprint == images.fingerprint and len(index) == len(images) else None


def text_pool(model: ClipModel, texts: Any) -> Texts:
    """The pool given; the bundle's, also by its name; or the general one."""
    bundle = model.bundle
    if bundle is not None and bundle.texts is not None and _named(texts, bundle.name):
        return bundle.texts()
    return open_texts("general" if texts is None else texts)


def _named(texts: Any, name: str) -> bool:
    """Whether no texts are given, or the bundle's by their name; an array of texts is no name."""
    return texts is None or (isinstance(texts, str) and texts == name)


def example_texts(session: Session) -> tuple[str, ...]:
    """A few texts worth trying first: the bundle's, without that of its first view where the images are others."""
    bundle = session.model.bundle
    known = bundle.examples if bundle else ()
    if bundle and bundle.first and not session.images.captions:
        known = tuple(text for text in known if text != bundle.first.text)
    return known or EXAMPLES


def begin(session: Session) -> None:
    """A board on your own images begins with a text: of the pool of a model that brings one, or of the examples,
    the one nearest to the image, and with the head that writes most towards it."""
    image = session.selection.image
    if session.selection.text or session.can_undo or image is None:
        return
    try:
        if session.model.bundle is not None and session.model.bundle.texts is not None:
            text = session.nearest_texts(image, 1)[0][0]
        else:
            embedding = session.trace(image).embedding[0]
            texts = session.example_texts()
            text = texts[int((session.model.encode_texts(list(texts)) @ embedding).argmax())]
        layer, head = strongest_head(session, text, image)
    except (ValueError, OSError):  # an image that cannot be read: the panels say so
        return
    session.select(text=text, layer=layer, head=head)


def first_selection(session: Session) -> Selection:
    """The bundle's first view, or the last layer's first head on the first image."""
    plain = Selection(image=0, layer=session.model.n_layers - 1, head=0)
    first = session.model.bundle.first if session.model.bundle else None
    if first is None or not session.images.captions:
        return plain
    image = first.image(session.images)
    try:
        layer, head = strongest_head(session, first.quality, image)
    except (ValueError, OSError):  # its file is gone and no thumbnail stands in: the panels say so
        return plain.replace(image=image, text=first.text)
    return Selection(image=image, layer=layer, head=head, text=first.text)


def strongest_head(session: Session, text: str, image: int) -> Head:
    """Of the heads kept for the collection, the one with the largest direct effect on a text in the whole model."""
    layers = session.collection.layers
    effects = session.head_scores(text, image, ablation=Ablation()).heads[list(layers)]
    place, head = np.unravel_index(int(effects.argmax()), effects.shape)
    return layers[int(place)], int(head)


def tour(session: Session) -> tuple[TourStep, ...]:
    """The bundle's tour, where the session shows images of its kind."""
    bundle = session.model.bundle
    return bundle.tour if bundle is not None and session.images.captions else ()


def tour_selection(session: Session, step: TourStep) -> Selection:
    """What a step of a tour selects; ValueError while the collection that it needs is being read."""
    selection = session.selection.replace(**step.select)
    if step.image is not None:
        selection = selection.replace(image=step.image(session.images))
    if step.quality and selection.image is not None:
        layer, head = strongest_head(session, step.quality, selection.image)
        selection = selection.replace(layer=layer, head=head)
    if not step.without_cue:
        return selection
    tasks = session.tasks()
    if step.without_cue not in tasks:
        raise ValueError(
            f"This step needs images with the classes of {step.without_cue!r}; these pose "
            f"{', '.join(tasks) or 'no task'}."
        )
    task = tasks[step.without_cue]
    cue = [preset for preset in session.presets(task=task) if preset.kind == "cue"]
    if not cue:
        read, n_images = session.collection.n_ready, len(session.images)
        raise ValueError(
            f"The collection is being read ({read:,} of {n_images:,} images). Press Next when it is complete."
        )
    return selection.replace(ablation=Ablation(heads=frozenset(cue[0].heads)))

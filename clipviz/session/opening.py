"""What a session opens from its arguments: index, images, codes, text pool, and where it begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipviz.analysis.image_codes import Collection
from clipviz.data.images import Images, demo, open_images
from clipviz.demo.index import demo_index
from clipviz.indexing import Index
from clipviz.values import Selection

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel
    from clipviz.session import Session

FIRST_TEXT, FIRST_QUALITY = "a flamingo", "something pink"


def open_index(index: Any) -> Index | None:
    """An open Index, one opened from its folder, or None."""
    return index if index is None or isinstance(index, Index) else Index.open(index)


def images_of(model: ClipModel, images: Any, index: Index | None) -> Images:
    """The images given, those of the index, or the demo's own. ValueError when there are none, or not as many."""
    if index is not None:
        opened = index.images() if images is None else open_images(images)
        if len(opened) != len(index):
            raise ValueError(
                f"expected the {len(index):,} images of the index, got {len(opened):,}; leave images out, the index "
                "knows them"
            )
        return opened
    if images is None:
        if model.name != "demo":
            raise ValueError(
                f"model {model.name!r} needs images: a folder, paths, PIL images, arrays or a data set; "
                "for the embedded collection pass images=clipviz.data.images.demo()"
            )
        return demo()
    return open_images(images)


def codes_of(
    model: ClipModel, images: Images, index: Index | None, layers: Sequence[int] | None
) -> Collection:
    """Codes from the index, from those shipped for the demo's own images, or empty and still to be read."""
    if index is None and layers is None and model.name == "demo" and images is demo():
        index = demo_index(model.identity())
    if index is None:
        return Collection(model, len(images), layers)
    if layers is not None and tuple(layers) != index.layers:
        raise ValueError(
            f"expected the index's layers {list(index.layers)}, got {list(layers)}; leave layers out"
        )
    return Collection.from_index(model, index)


def text_pool(model: ClipModel) -> str:
    """The pool a model is described with unless another is given."""
    return "demo" if model.name == "demo" else "general"


def first_selection(session: Session) -> Selection:
    """The last layer's first head on the first image; on the demo's scenes the head of a flamingo's colour."""
    layer, captions = session.model.n_layers - 1, session.images.captions
    plain = Selection(image=0, layer=layer, head=0)
    if session.model.name != "demo" or not captions:
        return plain
    scene = _scene(session.images)
    layers = session.collection.layers
    try:
        effects = session.head_scores(FIRST_QUALITY, scene).heads[list(layers)]
    except (ValueError, OSError):  # its file is gone and no thumbnail stands in: the panels say so
        return plain.replace(image=scene, text=FIRST_TEXT)
    place, head = np.unravel_index(int(effects.argmax()), effects.shape)
    return Selection(image=scene, layer=layers[int(place)], head=int(head), text=FIRST_TEXT)


def _scene(images: Images) -> int:
    """A large pink flamingo without a treatment of the whole picture, else the first image."""
    table = images.attributes or {}
    wanted = {"class": "flamingo", "size": "large", "treatment": "none", "second class": None}
    if not {*wanted, "colour"} <= set(table):
        return 0
    fits = (
        i
        for i in range(len(images))
        if table["colour"][i] in (None, "pink")
        and all(table[column][i] == value for column, value in wanted.items())
    )
    return next(fits, 0)

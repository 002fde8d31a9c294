"""Open the index, images and codes that a session's arguments name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clipviz.analysis.collection.image_codes import ImageCodes, KeptCodes
from clipviz.data.images import Images, open_images
from clipviz.data.store.store import differing
from clipviz.indexing import Index

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel


def open_index(index: Any) -> Index | None:
    """Return an open Index, open one from its folder, or return None."""
    return index if index is None or isinstance(index, Index) else Index.open(index)


def images_of(model: ClipModel, images: Any, index: Index | None) -> Images:
    """Return the given, the index's or the bundle's images. Raises ValueError for none or too few."""
    if index is not None:
        opened = index.images() if images is None else open_images(images)
        if len(opened) != len(index):
            raise ValueError(
                f"expected the {len(index):,} images of the index, got {len(opened):,}; omit images "
                "to use those of the index"
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
    """Return codes from the index, from the bundle's index for its own images, or empty codes to be read."""
    if index is None and layers is None:
        index = bundled_index(model, images)
    if index is None:
        collection = ImageCodes(model, len(images), layers)
        KeptCodes(model, images, collection.layers).fill(collection)
        return collection
    if layers is not None and tuple(layers) != index.layers:
        raise ValueError(f"expected the index's layers {list(index.layers)}, got {list(layers)}; omit layers")
    return index.image_codes(model)


def bundled_index(model: ClipModel, images: Images) -> Index | None:
    """Return the index in the model's bundle if this model computed it from these images, else None."""
    bundle = model.bundle
    if bundle is None or bundle.index is None or bundle.images is None or images is not bundle.images():
        return None
    try:
        index = Index.open(bundle.index)
    except ValueError:
        return None
    same = not differing(index.identity, model.identity())
    return index if same and index.fingerprint == images.fingerprint and len(index) == len(images) else None

"""One neuron's images for the Neurons desk: the gallery, and the neuron on the selected image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipviz.panels.core import pictures
from clipviz.panels.core.sent import as_sent
from clipviz.panels.neurons.sent import CurrentShown, EffectsShown, GalleryShown, NeuronsArrays
from clipviz.session import Board
from clipviz.values import Selection

if TYPE_CHECKING:
    from clipviz.session.answers import LayerNeurons, Reading

THUMBNAIL, PICTURE = 96, 240


def gallery(
    board: Board, reading: Reading, known: LayerNeurons, neuron: int, how: str, n_shown: int
) -> tuple[GalleryShown, NeuronsArrays]:
    """Return the neuron's images as a sprite with maps, all on the scale of the top images."""
    top = known.top(neuron)
    samples = top if how == "groups" else reading.samples(known, neuron, how, n_shown)
    grouping = known.groups(top) if how == "groups" else None
    strips = [len(images) for images in known.histogram(neuron).images[::-1]] if how == "intervals" else []
    sprite, columns = board.images.sprite(samples.ids, THUMBNAIL, columns=8)
    return {
        "how": how,
        "ids": samples.ids,
        "names": [pictures.title(board.images, i) for i in samples.ids],
        "norms": samples.norms.tolist(),
        "along": samples.along.tolist(),
        "columns": columns,
        "limit": top.limit,
        "groups": [as_sent(group) for group in grouping.groups] if grouping else [],
        "separation": grouping.separation if grouping else 0.0,
        "one_group": grouping.chance if grouping else 0.0,
        "strips": strips,
    }, {"sprite": sprite, "maps": samples.maps.astype(np.float32)}


def current(
    board: Board,
    reading: Reading,
    known: LayerNeurons,
    neuron: int,
    selection: Selection,
    indirect: bool,
) -> tuple[CurrentShown | None, NeuronsArrays]:
    """Return the neuron on the selected image, which may not have been read; indirect: with its indirect effect."""
    image = selection.image
    if image is None:
        return None, {}
    here = reading.on_image(known, image, neuron)
    norm = float(here.norms[0])
    return {
        "image": image,
        "name": pictures.title(board.images, image),
        "norm": norm,
        "along": float(here.along[0]),
        "rank": known.rank(neuron, norm),
        "effects": _effects(board, reading, neuron, selection) if indirect else None,
    }, {
        "picture": pictures.picture(board.session.images, image, PICTURE),
        "map": here.maps[0].astype(np.float32),
    }


def _effects(board: Board, reading: Reading, neuron: int, selection: Selection) -> EffectsShown:
    """Return magnitudes of the neuron's effects on the image and their parts in the text's cosine: first and second
    order, indirect.
    """
    session = board.session
    found = session.neurons.effects(neuron, selection.image, reading.place)
    text = session.texts.direction(selection.text, selection.text_b).cpu() if selection.text else None
    rows = {
        name: (float(effect.norm()), None if text is None else float(effect.cpu() @ text))
        for name, effect in (
            ("first order", found.first_order),
            ("second order", found.second_order),
            ("indirect", found.indirect),
        )
    }
    return {"rows": rows, "cosine": found.cosine, "n_images": found.n_images}

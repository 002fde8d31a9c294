"""The slower parts of the Heatmap: each is computed once for what it depends on, and shown when it is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from clipviz.panels.core.base import Computed
from clipviz.panels.core.sent import as_sent
from clipviz.panels.heatmap.sent import ContextShown, HeatmapArrays, HeatmapView, JointShown
from clipviz.session import FEW_IMAGES, Board
from clipviz.values import N_LATE, Selection
from clipviz.worker import Stale

Part = tuple[HeatmapView, HeatmapArrays]
NAMES = {
    "neurons": "neurons that write the text",
    "neuron": "neuron {neuron} of layer {layer}",
    "feature": "feature {neuron} of {dictionary}",
}


class Parts:
    """The newest version of each part by its name, with what it depends on."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, Part]] = {}

    def join(
        self,
        view: HeatmapView,
        arrays: HeatmapArrays,
        wanted: Mapping[str, tuple[Any, Callable[[], Part]]],
        stale: Stale,
    ) -> Computed:
        """Return the view with every requested part: name -> (what it depends on, how to compute it).

        Parts that have to be recomputed can wait; the view is shown without them.
        """
        fresh = [name for name, (key, _) in wanted.items() if self._known.get(name, (None,))[0] != key]
        for name in wanted.keys() - set(fresh):
            _add(view, arrays, self._known[name][1])

        def rest() -> Computed:
            for name in fresh:
                if stale():
                    return None
                key, make = wanted[name]
                self._known[name] = key, make()
                _add(view, arrays, self._known[name][1])
            return view, arrays

        return (view, arrays, rest) if fresh else (view, arrays)


def scope_in_words(scope: str, shown: Mapping[str, Any]) -> str:
    """Return the scope of a map in words: "all heads", "layer 5"."""
    layer, head = shown["layer"], shown["head"]
    return {
        "all": "all heads",
        "late": f"heads of the last {N_LATE} layers",
        "layer": f"layer {layer}",
        "head": f"L{layer}·H{head}",
    }[scope]


def wanted(
    board: Board, selection: Selection, show: str, needs: str, progress: Any, n_texts: int
) -> dict[str, tuple[Any, Callable[[], Part]]]:
    """Return the parts that a map needs: what each depends on, and how to compute it.

    needs: the kind of costlier map that `show` is; progress: changes as the collection is read; n_texts: number
    of texts of the selected head.
    """
    s, asked = selection, (selection.image, selection.text, selection.text_b)
    found: dict[str, tuple[Any, Callable[[], Part]]] = {}
    if needs == "shared" and s.text:
        found["shared"] = s.image, lambda: shared(board, s)
    if needs == "baselines" and s.text:
        found["baselines"] = asked, lambda: baselines(board, s, show)
    if needs == "neurons" and s.text:
        found["neurons"] = asked, lambda: neurons(board, s)
    if needs == "neuron" and s.neuron is not None:
        found["neuron"] = (s.image, s.layer, s.neuron, s.dictionary), lambda: neuron(board, s)
    found["context"] = (*asked, s.ablation, progress), lambda: context(board, s)
    found["joint"] = (s.image, s.layer, s.head, progress, n_texts), lambda: joint(board, s, n_texts)
    return found


def shared(board: Board, selection: Selection) -> Part:
    """Return token effects on the mean of all texts."""
    return {}, {"shared": _float(board.session.maps.shared(selection.image))}


def baselines(board: Board, selection: Selection, show: str) -> Part:
    """Return the maps of every baseline. Raises ValueError if the one shown does not apply."""
    if show not in board.session.maps.baselines:
        raise ValueError(
            f"{show} does not apply to the readout of {board.session.model.name!r}; choose one of "
            f"{', '.join(board.session.maps.baselines)}"
        )
    found = board.session.maps.compare(selection.text, selection.image, selection.text_b)
    return {}, as_sent({name: _float(values) for name, values in found.items()})


def neurons(board: Board, selection: Selection) -> Part:
    """Return where the neurons that write most along the text are active, using each layer's first images."""
    s = selection
    return {}, {"neurons": _float(board.session.neurons.map(s.text, s.image, s.text_b, n_images=FEW_IMAGES))}


def neuron(board: Board, selection: Selection) -> Part:
    """Return where the selected neuron, or feature, is active."""
    s = selection
    assert s.layer is not None
    assert s.neuron is not None
    unit = s.dictionary or s.layer, s.neuron
    return {}, {"neuron": _float(board.session.neurons.map(image=s.image, neurons=[unit]))}


def context(board: Board, selection: Selection) -> Part:
    """Return what the cosine is compared with: the image's nearest texts, the pool, the collection.

    "true": for each of the nearest texts whether it is true of the image, if the model's world knows.
    """
    s, bundle = selection, board.session.model.bundle
    nearest = board.session.texts.nearest(s.image, 5, s.ablation)
    about: ContextShown = {"nearest": nearest, "true": None, "far": None, "percentiles": None}
    if bundle is not None and bundle.truths is not None and s.image is not None:
        about["true"] = bundle.truths([text for text, _ in nearest], board.images, s.image)
    familiar = board.session.images.familiarity(s.image)
    about["far"] = None if familiar.known else as_sent(familiar)
    found = board.session.images.percentiles(s.text, s.image, s.text_b, s.ablation) if s.text else None
    about["percentiles"] = None if found is None else as_sent(found)
    return {"context": about}, {}


def joint(board: Board, selection: Selection, n_texts: int) -> Part:
    """Return the head's first n_texts that agree most and least with the image, with their maps (Fig. 2.6)."""
    layer, head = selection.layer, selection.head
    about: JointShown = {"message": "", "texts": [], "values": [], "n_texts": n_texts}
    if layer is None or head is None:
        about["message"] = "Select a head to see its texts for this image."
    elif layer not in board.collection.layers:
        about["message"] = f"Layer {layer} was not read for this collection."
    elif board.collection.n_ready < 2 or len(board.session.texts) < 2:
        about["message"] = "" if board.collection.complete else board.waiting
    elif not board.session.heads.varies(layer, head):
        about["message"] = f"L{layer}·H{head} writes the same on all of these images."
    if about["message"] or layer is None or head is None or board.collection.n_ready < 2:
        return {"joint": about}, {}
    found = board.session.maps.joint(layer, head, selection.image, n_texts=n_texts)
    about |= {"texts": list(found.texts), "values": [float(value) for value in found.coefficients]}
    return {"joint": about}, {"joint_maps": _float(found.maps)}


def _add(view: HeatmapView, arrays: HeatmapArrays, part: Part) -> None:
    view |= part[0]
    arrays |= part[1]


def _float(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)

"""A session in words: the code that reopens a view, and the origin of the view."""

from __future__ import annotations

from typing import Any

from clipviz.session.state import State
from clipviz.values import Selection, View
from clipviz.version import __version__


def code(state: State, view: View) -> str:
    """Return Python code that reopens a view of the session."""
    images = (
        f", images={_literal(state.images_source, 'my_images')}" if state.images_source is not None else ""
    )
    texts = f", texts={_literal(state.texts_source, 'my_texts')}" if state.texts_source is not None else ""
    if state.index is not None:
        images += f", index={str(state.index.path)!r}"
    model, selection = state.model, view.selection
    tag = f", pretrained={model.pretrained!r}" if model.pretrained else ""
    plain = Selection().to_dict()
    changed = {k: v for k, v in selection.to_dict().items() if v != plain[k] and k != "ablation"}
    fields = ", ".join(f"{k}={v!r}" for k, v in changed.items())
    if selection.ablation:
        fields += f", ablation=clipviz.Ablation.from_dict({selection.ablation.to_dict()!r})"
    chosen, panels = f"clipviz.Selection({fields})", view.panels
    reopened = (
        f"session.view = clipviz.View(\n    {chosen},\n    {dict(panels)!r},\n)"
        if panels
        else f"session.selection = {chosen}"
    )
    return (
        "import clipviz\n\n"
        f"session = clipviz.Session(clipviz.load({model.name!r}{tag}){images}{texts})\n"
        f"{reopened}\n"
        "clipviz.Dashboard(session)\n"
    )


def receipts(state: State) -> dict[str, Any]:
    """Return the receipts; see Session.receipts."""
    model, index = state.model, state.index
    return {
        "index": "" if index is None else f"{index.path.name}@{index.fingerprint[:6]}",
        "index_bytes": 0 if index is None else round(index.bytes_per_image),
        "stand_ins": state.images.stand_ins,
        "sum_check": model.sum_check,
        "readout": readout(state),
        "model": f"{model.name}@{model.fingerprint[:6]}",
        "images": f"{len(state.images)}@{state.images.fingerprint[:6]}",
        "texts": f"{state.texts.name}-{len(state.texts)}@{state.texts.fingerprint[:6]}",
        "device": str(model.device),
        "notes": [*state.collection.notes, *_replaced(state)],
    }


def _replaced(state: State) -> list[str]:
    """Return notes on files that have changed since the session was opened."""
    if state.index is not None and state.index.replaced:
        return ["the index was built again after it was opened"]
    image = state.selection.image
    if image is not None and state.images.changed([image]):
        return [f"the file of {state.images.names[image]!r} has been replaced since it was read"]
    return []


def provenance(state: State) -> str:
    """Return one line for print: model, images and texts with their hashes, and the version."""
    facts = receipts(state)
    return f"{facts['model']} · {facts['images']} images · {facts['texts']} · clipviz {__version__}"


def readout(state: State, image: int | None = None) -> str:
    """Describe how the embedding is computed from the tokens, with the share of its tail, if any, in an image's
    embedding.

    image: the selected one if None.
    """
    kind, n_moved = state.model.weights.readout.kind, len(state.model.registers)
    if n_moved:
        kind += f", {n_moved} register {'neuron' if n_moved == 1 else 'neurons'} moved to an added token"
    image = state.selection.image if image is None else image
    if image is None or not state.model.weights.readout.has_tail:
        return kind
    trace = state.trace(image)
    assert trace.tail is not None
    share = float((trace.tail[0] @ trace.embedding[0]) / trace.norm[0] ** 2)
    return f"{kind}, its MLP {share:.0%}"


def _literal(source: Any, placeholder: str) -> str:
    return repr(str(source)) if isinstance(source, str) or hasattr(source, "__fspath__") else placeholder

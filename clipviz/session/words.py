"""A session in words: the code that reopens a view, and what the view rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipviz.values import Selection
from clipviz.version import __version__

if TYPE_CHECKING:
    from clipviz.session.state import SessionState


def code(session: SessionState) -> str:
    """Python that reopens the session's view."""
    images = (
        f", images={_literal(session.images_source, 'my_images')}"
        if session.images_source is not None
        else ""
    )
    texts = (
        f", texts={_literal(session.texts_source, 'my_texts')}" if session.texts_source is not None else ""
    )
    if session.index is not None:
        images += f", index={str(session.index.path)!r}"
    model, selection = session.model, session.selection
    tag = f", pretrained={model.pretrained!r}" if model.pretrained else ""
    plain = Selection().to_dict()
    changed = {k: v for k, v in selection.to_dict().items() if v != plain[k] and k != "ablation"}
    fields = ", ".join(f"{k}={v!r}" for k, v in changed.items())
    if selection.ablation:
        fields += f", ablation=clipviz.Ablation.from_dict({selection.ablation.to_dict()!r})"
    chosen, panels = f"clipviz.Selection({fields})", session.view.panels
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


def receipts(session: SessionState) -> dict[str, Any]:
    """What a session's view rests on: the sum check, fingerprints, device, and what did not go as planned."""
    model, index = session.model, session.index
    return {
        "index": "" if index is None else f"{index.path.name}@{index.fingerprint[:6]}",
        "index_bytes": 0 if index is None else round(index.bytes_per_image),
        "stand_ins": session.images.stand_ins,
        "sum_check": model.sum_check,
        "readout": readout(session),
        "model": f"{model.name}@{model.fingerprint[:6]}",
        "images": f"{len(session.images)}@{session.images.fingerprint[:6]}",
        "texts": f"{session.texts.name}-{len(session.texts)}@{session.texts.fingerprint[:6]}",
        "device": str(model.device),
        "notes": [*session.collection.notes, *_replaced(session)],
    }


def _replaced(session: SessionState) -> list[str]:
    """What is no longer on disk as it was when the session was opened."""
    if session.index is not None and session.index.replaced:
        return ["the index was built again after it was opened"]
    image = session.selection.image
    if image is not None and session.images.changed([image]):
        return [f"the file of {session.images.names[image]!r} has been replaced since it was read"]
    return []


def provenance(session: SessionState) -> str:
    """One line for print: model, images and texts with their hashes, and the version."""
    facts = receipts(session)
    return f"{facts['model']} · {facts['images']} images · {facts['texts']} · clipviz {__version__}"


def readout(session: SessionState, image: int | None = None) -> str:
    """What makes the embedding of the tokens, and the share of its tail, if any, in an image's embedding.

    image: the selected one when None.
    """
    kind = session.model.weights.readout.kind
    image = session.selection.image if image is None else image
    if image is None or not session.model.weights.readout.has_tail:
        return kind
    trace = session.trace(image)
    assert trace.tail is not None
    share = float((trace.tail[0] @ trace.embedding[0]) / trace.norm[0] ** 2)
    return f"{kind}, its MLP {share:.0%}"


def _literal(source: Any, placeholder: str) -> str:
    return repr(str(source)) if isinstance(source, str) or hasattr(source, "__fspath__") else placeholder

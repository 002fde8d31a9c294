"""The contents of a published folder, which the page's engine reads: a session's model, texts and images."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from clipviz.models.tokens import tokens_of
from clipviz.page.export import export, memory_needed
from clipviz.page.packing import Folder
from clipviz.page.preprocessing import steps_of
from clipviz.session import Session
from clipviz.version import __version__

FORMAT = 1
Say = Callable[[str], None]


def carry(session: Session, folder: Folder, precision: str, say: Say = lambda _: None) -> dict[str, Any]:
    """Write the data that the page needs without Python; return the manifest. The whole collection has to be read
    first.

    The session's model computes in float32 on the CPU, see export.in_precision. Raises CannotExport if the model
    cannot be published.
    """
    model, collection = session.model, session.images.codes
    steps, tokens = steps_of(model), tokens_of(model)
    say("Exporting the network")
    made = export(model, texts=tokens.kind != "none")
    say("Writing its parts")
    stored = collection.stored
    contents = {
        "lens": folder.add_arrays(made.lens),
        "collection": folder.add_arrays(
            {
                name: getattr(stored, name).float().cpu().numpy()
                for name in ("codes", "mean", "std", "embedding")
            }
        ),
        "pool": folder.add_arrays({"pool": session.texts.pool().float().cpu().numpy()}),
        "texts": folder.add(json.dumps(list(session.texts), ensure_ascii=False).encode()),
        "pictures": folder.add(b"".join(_picture(steps.fitted(picture)) for picture in session.images)),
        "image tower": folder.add(made.image),
    }
    if made.text is not None:
        contents["text tower"] = folder.add(made.text)
    contents |= {name: folder.add(content) for name, content in tokens.files.items()}
    return {
        "format": FORMAT,
        "version": __version__,
        "model": {
            "name": model.name,
            "pretrained": model.pretrained,
            "fingerprint": model.fingerprint,
            "precision": precision,
            "logit_scale": model.logit_scale,
            "logit_bias": model.logit_bias,
            "link": model.link,
            "memory": memory_needed(model),
        },
        "facts": made.facts,
        "taps": list(made.taps),
        "steps": steps.to_dict(),
        "tokens": {"kind": tokens.kind, "facts": tokens.facts},
        "n_images": len(session.images),
        "contents": contents,
    }


def _picture(fitted: np.ndarray) -> bytes:
    """Return pixels as differences from their left neighbours, which compress better."""
    differences = fitted.copy()
    differences[:, 1:] = fitted[:, 1:] - fitted[:, :-1]
    return differences.tobytes()

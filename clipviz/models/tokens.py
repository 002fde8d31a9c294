"""A model's tokenizer exported to files that run elsewhere: CLIP's byte pairs in compact form, or a tokenizer.json."""

from __future__ import annotations

import html.entities
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from clipviz.models.byte_pairs import BytePairs, merged_ids
from clipviz.models.clip import ClipModel
from clipviz.models.hf import HfTokenizer

BYTES = 256


class Tokens(NamedTuple):
    """An exported tokenizer. kind: "byte pairs", "json" or "none" (ids cannot be computed elsewhere, see
    facts["why"]); facts: further settings; files: content by name.
    """

    kind: str
    facts: dict[str, Any]
    files: dict[str, bytes]


def tokens_of(model: ClipModel) -> Tokens:
    """Return a model's tokenizer for export, or "none" with the reason if its ids cannot be computed elsewhere."""
    given: Any = model.tokenizer
    if isinstance(given, BytePairs):
        return _byte_pairs(given, merged_ids())
    # what follows takes longer to import than a board takes to write
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    if isinstance(given, SimpleTokenizer):
        if given.clean_fn.__name__ != "_clean_lower" or given.reduction_fn is not None:
            return _none("its byte pairs clean or truncate texts differently from CLIP's")
        merges = sorted(given.bpe_ranks, key=given.bpe_ranks.__getitem__)
        return _byte_pairs(given, [(given.encoder[a], given.encoder[b]) for a, b in merges])
    if isinstance(given, HfTokenizer):
        return _from_json(given.tokenizer, given.context_length, "")
    if isinstance(given, HFTokenizer) and not given.tokenizer_mode:
        erased = given.tokenizer.sep_token_id if given.strip_sep_token else None
        return _from_json(given.tokenizer, given.context_length, given.clean_fn.__name__, erased)
    return _none(f"the tokenizer {type(given).__name__} is only available in Python")


def _none(why: str) -> Tokens:
    return Tokens("none", {"why": why}, {})


def _byte_pairs(given: Any, merges: Sequence[tuple[int, int]]) -> Tokens:
    """Return merges as pairs of ids: merge i of the vocabulary forms id 512 + i from two smaller ones."""
    ids = np.array(merges, np.uint16)
    facts = {"context": given.context_length, "start": given.sot_token_id, "end": given.eot_token_id}
    return Tokens("byte pairs", facts, {"merges": ids.tobytes(), "entities": _entities()})


def _entities() -> bytes:
    """Return HTML's names for characters, which are decoded when texts are cleaned."""
    return json.dumps(html.entities.html5, ensure_ascii=False).encode()


def _from_json(tokenizer: Any, context: int, clean: str, erased: int | None = None) -> Tokens:
    """Return a fast tokenizer of the package tokenizers, whose JSON tokenizers.js reads. erased: an id that becomes 0,
    as CLIPA's separator does.
    """
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return _none(f"the tokenizer {type(tokenizer).__name__} has no tokenizer.json")
    clean = clean.removeprefix("_clean_")
    if clean not in ("", "whitespace", "lower", "canonicalize"):
        return _none(f"texts are cleaned by {clean}, which is only available in Python")
    said = json.loads(fast.to_str())
    kind, splits = said["model"].get("type"), (said.get("pre_tokenizer") or {}).get("type")
    # Other rules for words split accented letters differently.
    if kind not in ("BPE", "Unigram") and (kind, splits) != ("WordPiece", "BertPreTokenizer"):
        return _none(
            f"its tokenizer is of the kind {kind}, not byte pairs, sentence pieces or BERT's word pieces"
        )
    said["truncation"] = said["padding"] = None
    config = {
        "model_max_length": context,
        "tokenizer_class": type(tokenizer).__name__.removesuffix("Fast"),
        **{
            f"{name}_token": getattr(tokenizer, f"{name}_token")
            for name in ("bos", "eos", "pad", "unk", "cls", "sep", "mask")
            if getattr(tokenizer, f"{name}_token", None)
        },
    }
    facts = {
        "context": context,
        "pad": tokenizer.pad_token_id,
        "clean": clean,
        "side": tokenizer.padding_side,
        "erased": erased,
    }
    files = {
        "tokenizer": json.dumps(said, ensure_ascii=False).encode(),
        "config": json.dumps(config, ensure_ascii=False).encode(),
        "entities": _entities(),
    }
    return Tokens("json", facts, files)

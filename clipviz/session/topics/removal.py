"""What remains of an image and of the collection after heads are removed, and what replaces removed terms."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from clipviz.analysis.heads import ablation as analysis
from clipviz.analysis.heads.ablation import Left, Part
from clipviz.lens import ablate
from clipviz.lens.ablate import Means, Terms
from clipviz.session.state import State
from clipviz.values import Ablation


@dataclass
class Read:
    """Data that are cached while the collection does not change: the images read, their terms and means, a task's
    part of them, and the embeddings after the newest ablation.
    """

    version: int
    rows: list[int]
    terms: Terms
    means: Means
    parts: dict[tuple[str, ...], Part] = field(default_factory=dict)
    after: tuple[Ablation, Tensor] | None = None


class Removal:
    """Images after an ablation, for every topic that accepts one."""

    def __init__(self, state: State) -> None:
        self._state = state

    def everything_else(self) -> Ablation:
        """Return the mean of everything that is not a kept head: the input term, every MLP, and layers that the
        collection does not keep.

        The MLP after an attention pool is included, so that only what the kept heads write directly remains.
        """
        model, kept = self._state.model, self._state.collection.layers
        unkept = frozenset(range(model.n_layers)) - frozenset(kept)
        return Ablation(mlps=frozenset(range(model.weights.n_mlp_terms)), layers=unkept)

    def in_codes(self, ablation: Ablation) -> Ablation:
        """Return the ablation in terms of the collection's codes: its kept heads, and mlps={0} for everything else.

        Raises ValueError if it names terms that the codes do not separate: single MLPs, tokens, layers that are
        not kept.
        """
        kept = set(self._state.collection.layers)
        if self.apart(ablation):
            raise ValueError(
                f"expected heads of layers {sorted(kept)} or all MLPs together, got {ablation.to_dict()}; single MLPs "
                "and the class token are removed on the Ablation desk (its options mlps and class_token), and with "
                "other layers by session.ablation.run"
            )
        unkept = sorted({layer for layer, _ in ablation.heads} - kept)
        if unkept:
            raise ValueError(
                f"layers {unkept} are not among the layers kept for this collection, {sorted(kept)}; open the session "
                "with layers=..."
            )
        mlps = frozenset({0} if self._whole(ablation) else ())
        return Ablation(heads=ablation.heads, layers=ablation.layers & kept, mlps=mlps, how=ablation.how)

    def _whole(self, ablation: Ablation) -> bool:
        """Return whether it removes everything that is not a kept head."""
        rest = self.everything_else()
        return ablation.mlps == rest.mlps and ablation.layers >= rest.layers

    def apart(self, ablation: Ablation) -> bool:
        """Return whether it names terms that codes do not separate: single MLPs, tokens, layers that are not kept."""
        if ablation.tokens or self._whole(ablation):
            return bool(ablation.tokens)
        return bool(ablation.mlps or ablation.layers - set(self._state.collection.layers))

    def left(self, image: int, ablation: Ablation) -> Left:
        """Return one image after an ablation: rep' of lens.ablate, and the resulting head effects."""
        chosen, collection = self.in_codes(ablation), self._state.collection
        means = self.means(chosen)
        codes = self._state.trace(image).to_codes(collection.layers)
        return analysis.left(analysis.terms_of_codes(codes, collection.basis), chosen, means)

    def embedding(self, image: int, ablation: Ablation) -> tuple[Tensor, Tensor]:
        """Return one image's embedding, [d_embed], and its length."""
        if ablation:
            left = self.left(image, ablation)
            return left.embedding, left.norm
        trace = self._state.trace(image)
        return trace.embedding[0], trace.norm[0]

    def cosine(self, image: int, direction: Tensor, ablation: Ablation) -> float:
        """Return the product of an image's unit embedding with a direction, [d_embed]."""
        embedding, norm = self.embedding(image, ablation)
        return float(embedding @ direction / norm)

    def embeddings(self, ablation: Ablation) -> Tensor:
        """Return embeddings [image, d_embed] of the collection; those of images not read yet are unchanged."""
        collection = self._state.collection
        if not ablation:
            return collection.embedding
        chosen, read = self.in_codes(ablation), self.read()
        means = self.means(chosen)
        if read is None:
            return collection.embedding
        if read.after is None or read.after[0] != chosen:
            found = collection.embedding.clone()
            progress = self._state.progress("Removing heads from the images", len(read.rows))
            after = analysis.embeddings_after(read.terms, chosen, means, progress)
            found[torch.tensor(read.rows, device=found.device)] = after.to(found)
            read.after = chosen, found
        return read.after[1]

    def means(self, ablation: Ablation) -> Means | None:
        """Return the means that replace removed terms; None for "zero". Raises ValueError before anything is read."""
        if ablation.how == "zero":
            return None
        read = self.read()
        if read is None:
            raise ValueError(
                "a head is replaced by its mean over the images, and none has been read yet; wait with session.wait(), "
                'or use how="zero"'
            )
        return read.means

    def read(self) -> Read | None:
        """Return terms and means of the images read so far, recomputed only when more have been read."""
        state, collection = self._state, self._state.collection
        newest: dict[str, Read] = state.keep("ablation terms", dict)  # one version at a time
        known = newest.get("kept")
        if known is not None and known.version == collection.version:
            return known
        with state.lock:
            version, rows = collection.version, collection.rows()
            if not len(rows):
                return None
            whole = len(rows) == len(collection)
            codes = collection.stored[slice(None) if whole else rows]
        terms = analysis.terms_of_codes(codes, collection.basis)
        known = Read(version, rows.tolist(), terms, ablate.means_of(terms))
        newest["kept"] = known
        return known

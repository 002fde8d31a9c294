"""The heads of a session: their direct effects, their texts, their labels and the roles that people give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.lens import textspan
from clipviz.models.threads import spare_core
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.session.topics.labels import Label, Labels
from clipviz.session.topics.removal import Removal
from clipviz.session.topics.spans import Spans
from clipviz.session.topics.tokens import Tokens, to_numpy
from clipviz.values import Ablation, Head
from clipviz.values.tables import Columns, Listing, Lookup, NamedArray, Table, named

FOUND = 0.95  # a head found by a text varies less along this share of the pool's texts
SHOWN_TEXTS = 10
MOST_DRAWS = 10_000
"""The largest number of random rotations of a head, each of which takes some kilobytes."""


@dataclass(frozen=True, eq=False, repr=False)
class HeadEffects(Table):
    """Direct effects on a text's cosine for one image: heads [layer, head], mlps [1 + layer], their sum.

    With a second text, they are effects on the difference of the two cosines. After an ablation, they are effects
    of the rest, with a head's mean (or 0) in place of a removed head; entry 0 of mlps replaces "everything else".
    """

    heads: np.ndarray
    mlps: np.ndarray
    cosine: float

    def to_xarray(self) -> Any:
        """Return the effects of the heads as an xarray.DataArray with the axes layer and head.

        Raises:
            ImportError: if xarray is not installed.
        """
        return named(self.heads, ("layer", "head"), "effect").to_xarray()

    def _columns(self) -> Columns:
        (n_layers, n_heads), n_mlps = self.heads.shape, len(self.mlps)
        others = ["input", *["mlp"] * n_layers, "tail"][:n_mlps]
        layers = [-1, *range(n_layers), n_layers][:n_mlps]
        return {
            "part": ["head"] * self.heads.size + others,
            "layer": [*np.repeat(np.arange(n_layers), n_heads).tolist(), *layers],
            "head": [*np.tile(np.arange(n_heads), n_layers).tolist(), *[-1] * n_mlps],
            "effect": np.concatenate([self.heads.ravel(), self.mlps]),
        }

    def _order(self, columns: Columns) -> Sequence[int]:
        return list(np.argsort(-np.abs(columns["effect"]), kind="stable").tolist())

    def _title(self) -> str:
        return f"Direct effects on a cosine of {self.cosine:.3f}, largest first"


@dataclass(frozen=True, eq=False, repr=False)
class Description(Table):
    """TextSpan of one head: texts and families chosen, the share of variance that each adds, and the null's.

    order: [n] indices into the pool; gains: [n]; null_gains: [draw, n], the same search when the head's data are
    randomly rotated inside its span; null_order: [draw, n]; n_used_up: number of texts of the pool that were not
    chosen and have a zero residual: duplicates, combinations of chosen texts, texts outside the head's span.
    """

    texts: tuple[str, ...]
    families: tuple[str | None, ...]
    order: np.ndarray
    gains: np.ndarray
    null_gains: np.ndarray
    null_order: np.ndarray
    n_used_up: int

    def _columns(self) -> Columns:
        columns: dict[str, Any] = {"text": self.texts, "family": self.families, "gain": self.gains}
        return columns | ({"null_gain": self.null_gains.mean(0)} if len(self.null_gains) else {})

    def _title(self) -> str:
        return f"{len(self.texts)} texts explain {self.gains.sum():.1%} of the variance"


class HeadFound(NamedTuple):
    """A head found by a search: the share of its variance along the text, after subtracting the mean text, and the
    share of the pool's texts along which it varies less.
    """

    layer: int
    head: int
    share: float
    above: float


class Summary(NamedTuple):
    """A summary of a head: its label with its p-value, the first texts of the label, and a person's own role."""

    label: str
    texts: tuple[str, ...]
    p_value: float
    role: str


class HeadTopic:
    """Questions about heads. Layers and heads are counted from 0, and a head is a pair such as (5, 3)."""

    def __init__(self, state: State, removal: Removal, tokens: Tokens, spans: Spans, labels: Labels) -> None:
        self._state, self._removal, self._tokens = state, removal, tokens
        self._spans, self._labels = spans, labels

    def __repr__(self) -> str:
        layers = ", ".join(map(str, self._state.collection.layers))
        return f"{len(self.kept)} heads of layers {layers}"

    @property
    def kept(self) -> Listing[Head]:
        """Every head kept for the collection, as (layer, head)."""
        return Listing(self._labels.heads, "Heads kept for the collection", ("layer", "head"))

    def effects(
        self, text: str, image: int | None = None, text_b: str = "", ablation: Ablation | None = None
    ) -> HeadEffects:
        """Return the direct effects of every head and MLP on the cosine of an image and a text (Eq. 2.4, 2.6).

        Args:
            text: A text, or class of thing, in a few words.
            image: Index of an image; default the selected one.
            text_b: A second text, for effects on the cosine with `text` minus the cosine with this one.
            ablation: What is removed; default the selection's. Ablation() stands for the whole model.

        Returns:
            Effects in units of the cosine: heads [layer, head], mlps [1 + layer], and the cosine that they add
            up to.
        """
        state = self._state
        i, chosen = state.an_image(image), state.an_ablation(ablation)
        text, text_b = checks.text("text", text), checks.text("text_b", text_b)
        key = ("heads", i, text, text_b, chosen, state.means_version(chosen))
        return state.remember(key, lambda: self._effects(text, i, text_b, chosen))

    def _effects(self, text: str, image: int, text_b: str, ablation: Ablation) -> HeadEffects:
        trace, direction = self._state.trace(image), self._state.contrast(text, text_b)
        maps = self._tokens.maps(text, image, text_b, ablation)
        mlps, norm = trace.mlp_effects()[0] @ direction, trace.norm[0]
        if ablation:
            left = self._removal.left(image, ablation)
            norm = left.norm
            if left.rest is not None:
                mlps[:] = 0
                mlps[0] = left.rest @ direction
        heads = maps.scores.sum(-1, dtype=np.float64).astype(maps.scores.dtype)
        return HeadEffects(heads, to_numpy(mlps / norm), maps.cosine)

    def strongest(self, text: str, image: int | None = None) -> Head:
        """Return the kept head with the largest direct effect on a text in the whole model.

        Args:
            text: A text, or class of thing, in a few words.
            image: Index of an image; default the selected one.

        Returns:
            (layer, head).
        """
        layers = self._state.collection.layers
        effects = self.effects(text, image, ablation=Ablation()).heads[list(layers)]
        place, head = np.unravel_index(int(effects.argmax()), effects.shape)
        return layers[int(place)], int(head)

    def variance(self, images: Sequence[int] = ()) -> NamedArray:
        """Return the share of each head in the heads' summed variance over the collection, [layer, head]."""
        variance = torch.diagonal(self._spans.every(images)[0], dim1=1, dim2=2).sum(-1)
        shares = variance / variance.sum().clamp_min(1e-30)
        shares = shares.reshape(len(self._state.collection.layers), -1)
        return named(to_numpy(shares), ("layer", "head"), "Share of the heads' variance")

    def spans(self, images: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Return the covariance of each head's effects in its own span, [head, rank, rank], and these spans."""
        return self._spans.every(images)

    def varies(self, layer: int, head: int, images: Sequence[int] = ()) -> bool:
        """Return whether a head's effects vary over the images, so that texts can explain them.

        Args:
            layer: Number of the layer, counted from 0.
            head: Number of the head within its layer, counted from 0.
            images: Indices of the images to compute over; default the whole collection.

        Returns:
            True if they vary.
        """
        return textspan.varies(self._spans.of(layer, head, images)[1][0])

    def textspan(
        self, layer: int, head: int, n_texts: int = SHOWN_TEXTS, images: Sequence[int] = (), n_draws: int = 20
    ) -> Description:
        """Return the texts that explain a head's variance over the images (Alg. 1), and its null.

        Args:
            layer: Number of the layer, counted from 0.
            head: Number of the head within its layer, counted from 0.
            n_texts: Texts to choose at most.
            images: Indices of the images to compute over; default the whole collection.
            n_draws: Random rotations of the null; 0 leaves the null out.

        Returns:
            The texts, with the share of the variance that each adds, and the shares under the null.

        Raises:
            ValueError: The head's effects are the same on all of the images.
        """
        state, at = self._state, self._state.a_head(layer, head)
        chosen, n_texts = state.some_images(images), checks.count("n_texts", n_texts)
        n_draws = checks.count("n_draws", n_draws, least=0, most=MOST_DRAWS)
        key = ("textspan", state.collection.version, *at, n_texts, chosen, n_draws)
        return state.remember(key, lambda: self._described(at, n_texts, chosen, n_draws))

    @spare_core()
    def _described(self, at: Head, n_texts: int, images: Sequence[int], n_draws: int) -> Description:
        (covariance, span), pool, texts = self._spans.of(*at, images), self._state.pool(), self._state.texts
        textspan.check_varies(span[0])
        n_texts = min(n_texts, len(texts), self._state.model.weights.d_code, covariance.shape[-1])
        basis = textspan.textspan_from_covariance(covariance, span, pool, n_texts)
        null_gains, null_order = np.zeros((0, n_texts)), np.zeros((0, n_texts), int)
        if n_draws:
            explained, order = textspan.null_explained(covariance, span, pool, n_texts, n_draws)
            null_gains = np.diff(to_numpy(explained[:, 0]), axis=1, prepend=0)
            null_order = to_numpy(order[:, 0])
        chosen = to_numpy(basis.order[0])
        return Description(
            tuple(texts[i] for i in chosen),
            tuple(texts.families[i] for i in chosen),
            chosen,
            to_numpy(basis.gains[0]),
            null_gains,
            null_order,
            int(basis.n_used_up[0]),
        )

    def label(self, layer: int, head: int, images: Sequence[int] = ()) -> Label:
        """Return a head's label, if random rotations of the head do not do as well; defined in
        clipviz.analysis.heads.labels.

        The reports' tables of heads show the same label.

        Args:
            layer: Number of the layer, counted from 0.
            head: Number of the head within its layer, counted from 0.
            images: Indices of the images to compute over; default the whole collection. Images that a user
                added count only if they are named here.

        Returns:
            The label, why it is (not) given, its p-value, and the first texts.
        """
        return self._labels.of(self._state.a_head(layer, head), self._state.some_images(images))

    @property
    def labelled(self) -> bool:
        """Whether every head has its label, so that summaries() is immediate."""
        return self._labels.complete

    def summaries(self) -> Lookup[Head, Summary]:
        """Return label, first texts and a person's own role of every kept head, by (layer, head)."""
        found: dict[Head, Summary] = {}
        roles, heads = self.roles(), self.kept
        progress = self._state.progress("Labelling the heads", len(heads))
        for place, at in enumerate(heads):
            progress(place)
            label = self.label(*at)
            found[at] = Summary(label.name, label.texts, label.p_value, roles.get(at, ""))
        progress(len(heads))
        return Lookup(found, "Heads and what they are about", ("layer", "head"))

    def find(self, text: str) -> Listing[HeadFound]:
        """Return the heads whose effects vary with a text, by the share of variance along it; none if no head stands
        out.

        A head is found if it varies more along the text than along 95% of the pool's texts (after subtracting the
        mean direction from all), whatever its label is.
        """
        key = ("find heads", self._state.collection.version, checks.text("text", text))
        return self._state.remember(key, lambda: self._found(text))

    def _found(self, text: str) -> Listing[HeadFound]:
        state, (covariance, span), pool = self._state, self._spans.every(), self._state.pool()
        mean = pool.mean(0)

        def pool_shares() -> Tensor:
            return textspan.variance_along(covariance, span, normalize(pool - mean, dim=-1))

        others = state.keep(("variance along pool", state.collection.version), pool_shares)
        direction = normalize(state.direction(text) - mean, dim=-1)
        shares = textspan.variance_along(covariance, span, direction[None])[:, 0]
        above = (others < shares[:, None]).double().mean(1)
        rows = zip(self.kept, shares.tolist(), above.tolist(), strict=True)
        found = [HeadFound(layer, head, share, rank) for (layer, head), share, rank in rows if rank >= FOUND]
        return Listing(
            sorted(found, key=lambda one: -one.share), f"Heads that vary with “{text}”", HeadFound._fields
        )

    def roles(self) -> Lookup[Head, str]:
        """Return the roles that people gave this model's heads, (layer, head) -> role, kept between sessions."""
        return Lookup(self._state.roles.all(), "Roles given by a person", ("layer", "head"), ("role",))

    def set_role(self, layer: int, head: int, role: str) -> None:
        """Give a head a role, which is shown beside its computed label.

        Args:
            layer: Number of the layer, counted from 0.
            head: Number of the head within its layer, counted from 0.
            role: The head's role in your words, such as "background"; "" removes it.

        Raises:
            ValueError: The head does not exist.
        """
        model = self._state.model
        at = checks.within("layer", layer, model.n_layers), checks.within("head", head, model.n_heads)
        self._state.roles.set(at, checks.text("role", role))
        self._state.refresh()

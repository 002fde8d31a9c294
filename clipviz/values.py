"""Frozen values shared by every room, and the glossary of axes.

Axis words, always in this order:
    image, layer, head, token, neuron, text, d_model, d_head, d_embed
Layers and heads are counted from 0; token 0 is the class token, where there is one; a layer counts its attention
and its MLP.
Symbols of the thesis: c_{i,l,h} (Eq. 2.6) is a token effect, c_head^{l,h} a head effect, M_text(t) a text
direction, phi_n^l (Eq. 3.3) a second-order effect.

Values of the lenses hold tensors; Codes and Concepts that were read from files hold NumPy arrays.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
    from typing_extensions import Unpack

    Rows = int | slice | Sequence[int] | Tensor | np.ndarray
else:
    Rows = object  # one image, a slice, indices or a mask [image]

Head = tuple[int, int]
Array = TypeVar("Array", "Tensor", "np.ndarray")

N_LATE = 4  # attention layers at the end that write most of the embedding (thesis Fig. 2.2)


def late_layers(n_layers: int, n_late: int = N_LATE) -> range:
    """The last layers of a tower of n_layers, all of them where it has no more."""
    return range(max(0, n_layers - n_late), n_layers)


def neuron_layers(n_layers: int) -> range:
    """MLP layers whose neurons write most through later heads: the last third of a tower but its last layer.

    8-10 of 12 (thesis 3.3), 16-22 of 24; three where a third has fewer, all there are where the tower is shorter.
    """
    n_late = max(3, n_layers // 3 - 1)
    return range(max(0, n_layers - 1 - n_late), max(0, n_layers - 1))


def whole(name: str, number: Any) -> int:
    """A whole number of at least 0 as a plain int; numpy's integers are taken. Raises ValueError for anything else."""
    try:
        found = -1 if isinstance(number, bool | str | bytes) else int(number)
        right = found >= 0 and bool(found == number)
    except (TypeError, ValueError, OverflowError):
        right = False
    if not right:
        raise ValueError(
            f"expected {name} to be a non-negative integer, got {number!r}; counting begins at 0"
        )
    return found


def wholes(name: str, numbers: Any) -> tuple[int, ...]:
    """Whole numbers of at least 0, in their order; ValueError for one that is not, or for no list of them."""
    if isinstance(numbers, str | bytes | Mapping) or not isinstance(numbers, Iterable):
        raise ValueError(
            f"expected {name} as a list of whole numbers, got {numbers!r}; put a single one in [ ]"
        )
    return tuple(whole(name, number) for number in numbers)


def _heads(heads: Any) -> frozenset[Head]:
    """Pairs of a layer and a head."""
    try:
        pairs = [(layer, head) for layer, head in heads]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected heads as (layer, head) pairs, got {heads!r}; write {{(5, 3)}} for one"
        ) from error
    return frozenset((whole("a layer", layer), whole("a head", head)) for layer, head in pairs)


@dataclass(frozen=True)
class Ablation:
    """Which direct effects are removed from the embedding, and how (thesis 2.3, App. A.2).

    heads: (layer, head) pairs; layers: attention layers removed whole; mlps: MLP terms, 0 = the input term,
    1 + layer = that layer's MLP; tokens: token indices removed from every attention layer (0 = the class token
    attending to itself). how: "mean" replaces an effect by its mean over the collection, "zero" removes it.
    """

    heads: frozenset[Head] = frozenset()
    layers: frozenset[int] = frozenset()
    mlps: frozenset[int] = frozenset()
    tokens: frozenset[int] = frozenset()
    how: Literal["mean", "zero"] = "mean"

    def without(self, n_heads: int, n_mlps: int = 0) -> str:
        """What is removed, as the panels say it: "without 2 heads"; "" for nothing.

        n_heads: heads of a layer; n_mlps: MLP terms of the model, so that some of them are not taken for all.
        """
        n = sum(layer not in self.layers for layer, _ in self.heads) + len(self.layers) * n_heads
        parts = [f"{n} {'head' if n == 1 else 'heads'}"] if n else []
        some = len(self.mlps) < n_mlps
        if self.mlps:
            parts.append(f"{len(self.mlps)} MLP{'s'[: len(self.mlps) - 1]}" if some else "the MLPs")
        if self.tokens:
            parts.append("the class token" if self.tokens == {0} else f"{len(self.tokens)} tokens")
        return f"without {', '.join(parts[:-1])}{' and ' if parts[1:] else ''}{parts[-1]}" if parts else ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", _heads(self.heads))
        for name in ("layers", "mlps", "tokens"):
            object.__setattr__(self, name, frozenset(wholes(name, getattr(self, name))))
        if self.how not in ("mean", "zero"):
            raise ValueError(f"expected how='mean' or 'zero', got {self.how!r}; choose one of the two")

    def __bool__(self) -> bool:
        return bool(self.heads or self.layers or self.mlps or self.tokens)

    def toggle(self, layer: int, head: int) -> Ablation:
        """The same ablation with one head switched."""
        return dataclasses.replace(self, heads=self.heads ^ {(layer, head)})

    def to_dict(self) -> dict[str, Any]:
        return {
            "heads": sorted(map(list, self.heads)),
            "layers": sorted(self.layers),
            "mlps": sorted(self.mlps),
            "tokens": sorted(self.tokens),
            "how": self.how,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Ablation:
        _check_fields("an ablation's", fields)
        rest = {k: fields.get(k, ()) for k in ("heads", "layers", "mlps", "tokens")}
        return cls(how=fields.get("how", "mean"), **rest)


def _check_fields(whose: str, fields: Any) -> None:
    if not isinstance(fields, dict):
        raise ValueError(
            f"expected {whose} fields as a dict, got {type(fields).__name__}; to_dict() writes them"
        )


class SelectionFields(TypedDict, total=False):
    """What Selection.replace and Session.select take, for the editor."""

    image: int | None
    images: Iterable[int]
    layer: int | None
    head: int | None
    token: int | None
    neuron: int | None
    text: str
    text_b: str
    concept: int | None
    ablation: Ablation


@dataclass(frozen=True)
class Selection:
    """What is selected, everywhere. The only state that panels share; replaced whole, never edited.

    image: index into the session's images; images: a chosen set (for "describe these"); layer, head, token: indices
    or None; neuron: a neuron of the MLP of `layer`, or None; text, text_b: the query and the text it is compared
    with ("" = none); concept: a Rosetta concept's index; ablation: the ablation set.
    """

    image: int | None = None
    images: tuple[int, ...] = ()
    layer: int | None = None
    head: int | None = None
    token: int | None = None
    neuron: int | None = None
    text: str = ""
    text_b: str = ""
    concept: int | None = None
    ablation: Ablation = Ablation()

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", wholes("images", self.images))
        for name in ("image", "layer", "head", "token", "neuron", "concept"):
            number = getattr(self, name)
            if number is not None:
                object.__setattr__(self, name, whole(name, number))
        for name in ("text", "text_b"):
            text = getattr(self, name)
            if not isinstance(text, str):
                raise ValueError(
                    f"expected {name} to be a string, got {type(text).__name__} {text!r}; put the words in quotes"
                )

    def replace(self, **changes: Unpack[SelectionFields]) -> Selection:
        """A copy with some fields changed; ValueError names the fields there are.

        A neuron belongs to its layer: another layer without a neuron named leaves the neuron behind.
        """
        names = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(changes) - names)
        if unknown:
            raise ValueError(
                f"a selection has no field {', '.join(map(repr, unknown))}; fields are {', '.join(sorted(names))}"
            )
        if changes.get("layer", self.layer) != self.layer:
            changes.setdefault("neuron", None)
        fields: dict[str, Any] = {**changes}
        return dataclasses.replace(self, **fields)

    def to_dict(self) -> dict[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "images": list(self.images), "ablation": self.ablation.to_dict()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Selection:
        _check_fields("a selection's", fields)
        fields = dict(fields)
        ablation = Ablation.from_dict(fields.pop("ablation", None) or {})
        return cls(**{**fields, "ablation": ablation})

    def token_string(self) -> str:
        """A short string that reopens the same selection: URL-safe base64 of a checksum and the changes as JSON."""
        return _token(self._changed())

    @classmethod
    def from_token(cls, token: str) -> Selection:
        """The selection that `token_string` wrote, or that of a View's token; ValueError for anything else."""
        return View.from_token(token).selection

    def _changed(self) -> dict[str, Any]:
        plain = Selection().to_dict()
        return {k: v for k, v in self.to_dict().items() if v != plain[k]}


@dataclass(frozen=True)
class View:
    """What is on screen: the selection, and the options of the panels that are not at their defaults.

    panels: panel name -> option -> value, such as {"heatmap": {"scope": "head"}, "desks": {"shown": "ablate"}}.
    `session.view` reads and sets it.
    """

    selection: Selection = Selection()
    panels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.selection, Selection):
            raise ValueError(
                f"expected a clipviz.Selection, got {type(self.selection).__name__}; View.from_dict reads dicts"
            )
        try:
            plain = json.loads(json.dumps(dict(self.panels)))  # a copy, of what JSON can say
            named = {name: options for name, options in plain.items() if dict(options)}
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"expected panels as a mapping from names to options, got {type(self.panels).__name__}: {error}"
            ) from error
        object.__setattr__(self, "panels", named)

    def to_dict(self) -> dict[str, Any]:
        return {"selection": self.selection.to_dict(), "panels": dict(self.panels)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> View:
        _check_fields("a view's", fields)
        return cls(Selection.from_dict(fields.get("selection") or {}), fields.get("panels") or {})

    def token_string(self) -> str:
        """A short string that reopens the view; that of its selection where all panels are at their defaults."""
        if not self.panels:
            return self.selection.token_string()
        return _token({"selection": self.selection._changed(), "panels": self.panels})

    @classmethod
    def from_token(cls, token: str) -> View:
        """The view that `token_string` wrote, or a Selection's token; ValueError for anything else."""
        advice = f"expected a view token made by session.view.token_string(), got {str(token)[:40]!r}; copy it whole"
        if not isinstance(token, str):
            raise ValueError(advice)
        try:
            whole = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            if whole[:4] != _checksum(whole[4:]):
                raise ValueError("it differs from its checksum")
            fields = json.loads(whole[4:].decode("utf-8", "surrogatepass"))
            return cls.from_dict(fields if "selection" in fields else {"selection": fields})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(advice) from error


def _token(fields: Mapping[str, Any]) -> str:
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    content = text.encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(_checksum(content) + content).decode().rstrip("=")


def _checksum(content: bytes) -> bytes:
    """Four bytes that change with the content."""
    return zlib.crc32(content).to_bytes(4, "big")


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """One transformer layer as the lenses read it; layer scale is folded into the output matrices.

    The key bias is absent on purpose: it adds the same number to every token's score, which softmax ignores.
    query and key are the matrices alone: what a tower does to their products (rotations, norms) is not in them.
    An inner LayerNorm over the heads' outputs is folded into `output`, its centring included. Where the written
    sum passes a LayerNorm, gamma and centring are folded into `output`, its beta is `output_bias`, and
    `scaled_bias` is the part of the bias that is divided by the token's standard deviation; likewise for the MLP.
    """

    query: Tensor  # [head, d_head, d_model]
    query_bias: Tensor  # [head, d_head]
    key: Tensor  # [head, d_head, d_model]
    value: Tensor  # [head, d_head, d_model]
    value_bias: Tensor  # [head, d_head]
    output: Tensor  # [head, d_model, d_head]
    output_bias: Tensor  # [d_model]
    ln_gamma: Tensor  # [d_model], the LayerNorm before the attention
    ln_beta: Tensor  # [d_model]
    ln_eps: float
    mlp_output: Tensor  # [d_model, neuron], column n is the direction w_n that neuron n writes
    mlp_output_bias: Tensor  # [d_model]
    scaled_bias: Tensor | None = None  # [d_model], post-norm layers only
    mlp_scaled_bias: Tensor | None = None  # [d_model], post-norm layers only

    @property
    def post_norm(self) -> bool:
        """Whether the LayerNorms stand after the attention and the MLP, so that the attention reads the residual."""
        return self.scaled_bias is not None


@dataclass(frozen=True, eq=False)
class Readout:
    """What makes the embedding of the final tokens, linear once attention and LayerNorm statistics are fixed.

        embedding = (sum_p sum_q w[p, q] x_q @ matrices[p] - mean m + bias) / std + constant + tail
    with m the column sums of the matrices. The weights w over readout heads p and tokens q, mean, std and the tail
    belong to an image; a trace has them. Class token: p = 1, w = 1 for token 0, mean and std of the final LayerNorm.
    Where a LayerNorm comes before the pooling, its centring is folded into the matrices and mean is 0.
    """

    kind: str  # "class token", "mean of tokens" or "attention pooling"
    matrices: Tensor  # [readout_head, d_model, d_embed], final LayerNorm's gamma and the projection folded in
    bias: Tensor  # [d_embed], divided by std
    constant: Tensor  # [d_embed]
    has_tail: bool = False  # a part that is not linear after pooling, one more term of the embedding

    @property
    def n_heads(self) -> int:
        return int(self.matrices.shape[0])

    @property
    def pools(self) -> bool:
        """Whether all tokens are read out, evenly or by an attention pool, and not a class token alone."""
        return self.kind != "class token"

    @property
    def flat(self) -> Tensor:
        """The matrices one below the other, [readout_head * d_model, d_embed]."""
        return self.matrices.flatten(0, 1)

    @property
    def mean_matrix(self) -> Tensor:
        """m [d_embed], what the LayerNorm's mean takes away."""
        return self.flat.sum(0)

    @classmethod
    def after_norm(
        cls,
        gamma: Tensor,
        beta: Tensor,
        projection: Tensor,
        kind: str = "class token",
        bias: Tensor | None = None,
    ) -> Readout:
        """One vector through a final LayerNorm (gamma, beta) and a projection [d_model, d_embed] with its bias."""
        constant = beta @ projection
        return cls(
            kind,
            (gamma[:, None] * projection)[None],
            bias=constant.new_zeros(constant.shape),
            constant=constant if bias is None else constant + bias,
        )


@dataclass(frozen=True, eq=False)
class TowerWeights:
    """A vision tower as the lenses read it: layers, the readout, and the grid of image tokens.

    prefix: tokens in front of the image tokens that have no place (class token, registers). thesis_shares: biases and
    means of norms are shared out as the thesis does, over attention terms alone (App. A) and over the neurons before a
    layer (App. B.8), instead of over all terms that write; sums are the same.
    """

    layers: tuple[LayerWeights, ...]
    readout: Readout
    grid: tuple[int, int]  # rows, cols of image tokens
    prefix: int = 1
    thesis_shares: bool = False

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def n_heads(self) -> int:
        return int(self.layers[0].value.shape[0])

    @property
    def d_head(self) -> int:
        return int(self.layers[0].value.shape[1])

    @property
    def d_model(self) -> int:
        return int(self.layers[0].value.shape[2])

    @property
    def d_embed(self) -> int:
        return int(self.readout.matrices.shape[2])

    @property
    def n_neurons(self) -> int:
        return int(self.layers[0].mlp_output.shape[1])

    @property
    def n_tokens(self) -> int:
        """Image tokens and those in front."""
        return self.prefix + self.grid[0] * self.grid[1]

    @property
    def n_terms(self) -> int:
        """Terms that share the readout's mean, bias and constant: the input, then an attention and an MLP per layer.

        With thesis_shares the attentions alone.
        """
        return self.n_layers if self.thesis_shares else 2 * self.n_layers + 1

    @property
    def mlp_share(self) -> float:
        """The share of the readout's mean, bias and constant that the input or one MLP takes."""
        return 0.0 if self.thesis_shares else 1 / self.n_terms

    def n_writers(self, later: int) -> int:
        """Neurons, or terms as large as a layer of them, that share what a later layer's norm adds."""
        return (later if self.thesis_shares else 1 + 2 * later) * self.n_neurons

    @property
    def n_mlp_terms(self) -> int:
        """Entries of mlp_effects: the input, the MLPs, and the readout's tail where it has one."""
        return 1 + self.n_layers + self.readout.has_tail

    @property
    def n_tallies(self) -> int:
        """Entries that a head code needs beside its values: sums of the weights that biases are read with."""
        return self.readout.n_heads * ((self.readout.n_heads > 1) + self.layers[0].post_norm)

    @property
    def d_code(self) -> int:
        """Length of a head code: d_head per readout head and the tallies; d_head for a class token."""
        return self.readout.n_heads * self.d_head + self.n_tallies


@dataclass(frozen=True, eq=False)
class HeadBasis:
    """The image-independent half of every head effect (thesis Eq. 2.6 and A.2, factored).

    effect[layer, head] = (u @ basis[layer, head] + output_bias[layer] - mean * mean_share) / std + constant
    with u the head code [d_code] and mean, std the final LayerNorm's statistics of the image (see Readout).
    """

    basis: Tensor  # [layer, head, d_code, d_embed]
    output_bias: Tensor  # [layer, d_embed], a head's share of the attention's output bias
    mean_share: Tensor  # [d_embed]
    constant: Tensor  # [d_embed]
    layers: tuple[int, ...]  # the layers that the first axis stands for

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> HeadBasis:
        """The same basis on another device, in another precision."""
        return dataclasses.replace(
            self,
            basis=self.basis.to(device, dtype),
            output_bias=self.output_bias.to(device, dtype),
            mean_share=self.mean_share.to(device, dtype),
            constant=self.constant.to(device, dtype),
        )

    def select(self, layers: Sequence[int], heads: Sequence[int] | None = None) -> HeadBasis:
        """The basis of some layers (their numbers in the model) and of some of their heads, counted again from 0."""
        at, chosen = _places(layers, self.layers, "layer"), _places(heads, self.basis.shape[1], "head")
        basis = self.basis[at][:, chosen]
        return dataclasses.replace(self, basis=basis, output_bias=self.output_bias[at], layers=tuple(layers))


@dataclass(frozen=True, eq=False)
class Codes(Generic[Array]):
    """A collection as the small numbers that make every head effect exact (see HeadBasis)."""

    codes: Array  # [image, layer, head, d_code]
    mean: Array  # [image], mean of the final LayerNorm
    std: Array  # [image], its sqrt(variance + eps)
    embedding: Array  # [image, d_embed], unnormalised
    layers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, images: Rows) -> Codes[Array]:
        """The codes of some images: one (its axis stays), a slice (not copied), indices or a mask [image]."""
        rows = rows_of(images, len(self))
        return Codes(self.codes[rows], self.mean[rows], self.std[rows], self.embedding[rows], self.layers)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Codes[Tensor]:
        """The same codes as tensors, on another device, in another precision; not copied where nothing changes."""
        import torch

        columns = (self.codes, self.mean, self.std, self.embedding)
        codes, mean, std, embedding = (torch.as_tensor(column).to(device, dtype) for column in columns)
        return Codes(codes, mean, std, embedding, self.layers)

    def select(self, layers: Sequence[int], heads: Sequence[int] | None = None) -> Codes[Array]:
        """The codes of some layers (their numbers in the model) and of some of their heads, counted again from 0."""
        at, chosen = _places(layers, self.layers, "layer"), _places(heads, self.codes.shape[2], "head")
        return dataclasses.replace(self, codes=self.codes[:, at][:, :, chosen], layers=tuple(layers))


def rows_of(images: Rows, n_images: int) -> slice | Tensor | np.ndarray | list[int]:
    """An index that keeps the image axis: a single image as a slice, a range as a list; IndexError beyond the end."""
    if isinstance(images, slice):
        return images
    if isinstance(images, int) or getattr(images, "ndim", None) == 0:
        image = int(images)  # type: ignore[arg-type]
        if not -n_images <= image < n_images:
            raise IndexError(f"expected an image within 0..{n_images - 1}, got {image}")
        return slice(image % n_images, image % n_images + 1)
    return images if hasattr(images, "ndim") else list(images)  # type: ignore[arg-type, return-value]


def _places(chosen: Sequence[int] | None, known: Sequence[int] | int, axis: str) -> slice | list[int]:
    """Where layers or heads are on their axis: a slice where they stand side by side, which copies nothing."""
    if chosen is None:
        return slice(None)
    numbers = list(range(known) if isinstance(known, int) else known)
    unknown = [number for number in chosen if number not in numbers]
    if unknown or not len(chosen):
        raise ValueError(f"expected {axis}s among {numbers}, got {unknown or 'none'}")
    places = [numbers.index(number) for number in chosen]
    ascending = places == list(range(places[0], places[0] + len(places)))
    return slice(places[0], places[0] + len(places)) if ascending else places


@dataclass(frozen=True, eq=False)
class TextBasis:
    """What TextSpan chose for one head (thesis Alg. 1).

    order: [n_texts] indices into the pool; explained: [n_texts] cumulative share of the head's variance, in
    0..1; directions: [n_texts, d_embed] orthonormal, in the order chosen, 0 once nothing was left of any text;
    n_used_up: [] texts not chosen of which nothing is left: duplicates, combinations of those chosen, texts
    orthogonal to the head's span.
    """

    order: Tensor
    explained: Tensor
    directions: Tensor
    n_used_up: Tensor

    @property
    def gains(self) -> Tensor:
        """Share of variance that each text adds, [n_texts]."""
        gains = self.explained.clone()
        gains[..., 1:] -= self.explained[..., :-1]
        return gains


@dataclass(frozen=True, eq=False)
class SparseCode:
    """Sparse text codes of neuron directions (thesis 3.4): atoms [neuron, n_nonzero] are indices into the
    dictionary, -1 where fewer were needed; weights [neuron, n_nonzero] are signed."""

    atoms: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class Matches:
    """Rosetta matches of two models (thesis Eq. 4.1-4.4): correlation [unit_a, unit_b], or a sparse tensor of its
    top k where the table would not fit; pairs [pair, 2] mutual nearest neighbours, strongest first; strength
    [pair] their correlation.

    Units are counted through all layers: layers_a, layers_b list (layer name, number of units) in that order.
    """

    correlation: Tensor
    pairs: Tensor
    strength: Tensor
    layers_a: tuple[tuple[str, int], ...] = ()
    layers_b: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, eq=False)
class UnitThumbnails:
    """What the units of a dictionary look like on its example images.

    maps: [concept, model, example, rows, cols] uint8; 0 is the unit's mean over the mining images, 255 its peak;
    floor, peak: [concept, model] those two, in the unit's own activation (peak: mean over its strongest images).
    All are 0 where a model has no unit.
    """

    maps: Tensor | np.ndarray
    floor: Tensor | np.ndarray
    peak: Tensor | np.ndarray


@dataclass(frozen=True, eq=False)
class Concepts:
    """A dictionary of Rosetta neurons (thesis 4.3): one row per pivot unit, one column per model, the pivot first.

    units: [concept, model] unit counted through the model's layers, -1 where the model has none; correlation,
    heldout: [concept, model] with the pivot on the mining images and on others (1 for the pivot itself, 0 where
    there is no unit); cluster: [concept] rows that share a number are one concept; examples: [concept, example]
    image ids, the strongest first; layers: a model's (layer name, number of units); n_pairs, n_chance: [model] best
    buddies with the pivot, and how many arise when its images are shuffled (0 for the pivot); k: neighbours;
    threshold: [model] correlation that a pair had to have beyond its own on shuffled images; labels: [concept] a
    person's names, "" where none; hints: [concept] (text, correlation) of the text whose heatmap is most like the
    pivot's maps, or empty.
    """

    models: tuple[str, ...]
    layers: tuple[tuple[tuple[str, int], ...], ...]
    units: Tensor | np.ndarray
    correlation: Tensor | np.ndarray
    heldout: Tensor | np.ndarray
    cluster: Tensor | np.ndarray
    examples: Tensor | np.ndarray
    n_pairs: Tensor | np.ndarray
    n_chance: Tensor | np.ndarray
    threshold: Tensor | np.ndarray
    k: int = 5
    labels: tuple[str, ...] = ()
    hints: tuple[tuple[str, float], ...] = ()
    thumbnails: UnitThumbnails | None = None

    def __len__(self) -> int:
        return len(self.units)

    def name(self, concept: int) -> str:
        """A person's name for a concept, else its hint, else the pivot's unit."""
        if self.labels and self.labels[concept]:
            return self.labels[concept]
        return self.hints[concept][0] if self.hints else f"unit {int(self.units[concept, 0])}"

    def where(self, concept: int, model: int) -> tuple[str, int] | None:
        """Layer name and unit inside it of one cell, or None where the model has no unit."""
        unit = int(self.units[concept, model])
        for layer, n_units in self.layers[model] if unit >= 0 else ():
            if unit < n_units:
                return layer, unit
            unit -= n_units
        return None

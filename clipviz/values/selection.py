"""The selection and the view: Ablation, Selection, View, and the short strings that restore them."""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from clipviz.values.axes import Head, whole, wholes

if TYPE_CHECKING:
    from typing_extensions import Unpack


def _heads(heads: Any) -> frozenset[Head]:
    """Return pairs of a layer and a head."""
    try:
        pairs = [(layer, head) for layer, head in heads]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected heads as (layer, head) pairs, got {heads!r}; write {{(5, 3)}} for one"
        ) from error
    return frozenset((whole("a layer", layer), whole("a head", head)) for layer, head in pairs)


MOST_REMOVED = 1_000_000
"""The largest number of tokens, layers or MLPs that an ablation can name."""


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
        """Return a description of what is removed, as the panels show it: "without 2 heads", or "" for nothing.

        n_heads: number of heads per layer; n_mlps: number of MLP terms of the model, needed to recognise that all
        of them are removed.
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
            object.__setattr__(self, name, frozenset(wholes(name, getattr(self, name), MOST_REMOVED)))
        if self.how not in ("mean", "zero"):
            raise ValueError(f"expected how='mean' or 'zero', got {self.how!r}; choose one of the two")

    def __bool__(self) -> bool:
        return bool(self.heads or self.layers or self.mlps or self.tokens)

    def toggle(self, layer: int, head: int) -> Ablation:
        """Return the same ablation with one head added or removed."""
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


def check_characters(name: str, text: str) -> None:
    """Raise ValueError for a text with half of a surrogate pair, which no message and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"expected {name} to be valid Unicode, got half of a surrogate pair at position "
            f"{error.start} of {text!r:.80}; type it again"
        ) from error


def _check_fields(whose: str, fields: Any) -> None:
    if not isinstance(fields, dict):
        raise ValueError(
            f"expected {whose} fields as a dict, got {type(fields).__name__}; pass what to_dict() returns"
        )


class SelectionFields(TypedDict, total=False):
    """The keyword arguments of Selection.replace and Session.select, for type checkers and completion."""

    image: int | None
    images: Iterable[int]
    layer: int | None
    head: int | None
    token: int | None
    neuron: int | None
    dictionary: str
    text: str
    text_b: str
    concept: int | None
    ablation: Ablation


@dataclass(frozen=True)
class Selection:
    """The current selection, the only state that panels share. It is replaced as a whole and never edited.

    image: index into the session's images; images: a chosen set (for "describe these"); layer, head, token: indices or
    None; neuron: a neuron of the MLP of `layer`, or None; dictionary: where it is not "", `neuron` is the number of a
    feature of the dictionary of this name (see session.neurons.use); text, text_b: the query and the text it is
    compared with ("" = none); concept: a Rosetta concept's index; ablation: the ablation set.
    """

    image: int | None = None
    images: tuple[int, ...] = ()
    layer: int | None = None
    head: int | None = None
    token: int | None = None
    neuron: int | None = None
    dictionary: str = ""
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
        for name in ("text", "text_b", "dictionary"):
            text = getattr(self, name)
            if not isinstance(text, str):
                raise ValueError(
                    f"expected {name} to be a string, got {type(text).__name__} {text!r}; put the words in quotes"
                )
            check_characters(name, text)
        if self.neuron is None:
            object.__setattr__(self, "dictionary", "")

    def replace(self, **changes: Unpack[SelectionFields]) -> Selection:
        """Return a copy with some fields changed. An unknown field raises ValueError, which lists the valid ones.

        A neuron belongs to its layer: selecting another layer without naming a neuron clears the neuron.
        A neuron named without a dictionary is one of the MLP.
        """
        names = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(changes) - names)
        if unknown:
            raise ValueError(
                f"a selection has no field {', '.join(map(repr, unknown))}; fields are {', '.join(sorted(names))}"
            )
        if changes.get("layer", self.layer) != self.layer:
            changes.setdefault("neuron", None)
        if "neuron" in changes:
            changes.setdefault("dictionary", "")
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
        """Return a short string for the same selection: URL-safe base64 of a checksum and the changes as JSON."""
        return _token(self._changed())

    @classmethod
    def from_token(cls, token: str) -> Selection:
        """Return the selection that its own or a View's token describes. Raises ValueError for anything else."""
        return View.from_token(token).selection

    def _changed(self) -> dict[str, Any]:
        plain = Selection().to_dict()
        return {k: v for k, v in self.to_dict().items() if v != plain[k]}


@dataclass(frozen=True)
class View:
    """The whole view: the selection, and every panel option that is not at its default.

    panels: panel name -> option -> value, such as {"heatmap": {"scope": "head"}, "desks": {"shown": "ablate"}}.
    `session.view` reads and sets it.
    """

    selection: Selection = Selection()
    panels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.selection, Selection):
            raise ValueError(
                f"expected a clipviz.Selection, got {type(self.selection).__name__}; use "
                "View.from_dict for dicts"
            )
        try:
            plain = json.loads(json.dumps(dict(self.panels)))  # a copy, limited to what JSON can hold
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
        """Return a short string that restores the view. If all panel options are at their defaults, it is the
        selection's token.
        """
        if not self.panels:
            return self.selection.token_string()
        return _token({"selection": self.selection._changed(), "panels": self.panels})

    @classmethod
    def from_token(cls, token: str) -> View:
        """Return the view that its own or a Selection's token describes. Raises ValueError for anything else."""
        advice = f"expected a view token made by session.view.token_string(), got {str(token)[:40]!r}; copy it whole"
        if not isinstance(token, str):
            raise ValueError(advice)
        try:
            whole = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            if whole[:4] != _checksum(whole[4:]):
                raise ValueError("its checksum does not match")
            fields = json.loads(whole[4:].decode("utf-8", "surrogatepass"))
            return cls.from_dict(fields if "selection" in fields else {"selection": fields})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(advice) from error


def _token(fields: Mapping[str, Any]) -> str:
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    content = text.encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(_checksum(content) + content).decode().rstrip("=")


def _checksum(content: bytes) -> bytes:
    """Return a four-byte checksum of the content."""
    return zlib.crc32(content).to_bytes(4, "big")

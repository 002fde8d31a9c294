"""The selected image and where its tokens write towards the text, beside the baselines' maps and a head's own texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import traitlets

from clipviz.panels import pictures
from clipviz.panels.base import LAZY, LOCAL, Arrays, Panel, View
from clipviz.panels.scripts import script, style
from clipviz.session import BASELINES, IGNORING, POOLED_BASELINES, Session, TokenHead, TokenMaps
from clipviz.values import N_LATE, Ablation, Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

SCOPES = ("all", "late", "layer", "head")
OURS = ("effect", "centred", "pool", "attention")

Part = tuple[View, Arrays]


class HeatmapOptions(TypedDict, total=False):
    scope: Literal["all", "late", "layer", "head"]
    show: str
    opacity: float
    outline: bool
    scale: float | None


class Heatmap(Panel):
    """Token effects on text A, or on A minus B, over the image (thesis 2.5). Sums over heads are made locally.

    scope: "all" heads, the "late" layers (last 4), the selected "layer" or the selected "head". show: "effect",
    "centred" (the effect minus that on the mean of all texts, the bias that every text's map shares), "pool" (where
    tokens are pooled: the effect of each final token as the pool reads it; the scope is not its own), "attention"
    (the share of each token in what heads read: the class token's attention), or a baseline by name ("rollout",
    "Grad-CAM", ...; the scope is not theirs).
    outline draws the image's true mask, where it has one. scale: the value at full colour, None for each map's
    largest. Hover reads a token; a click selects it and lists the heads that write there; arrows move it. Below, what
    the cosine is compared with (the pool, the collection), and the texts of the selected head that the image agrees
    with most and least, with where they come from (Fig. 2.6).
    """

    name = "heatmap"
    cost = 2
    _esm = script("heatmap")
    _css = style("heatmap")

    scope = traitlets.Enum(SCOPES, "late").tag(**LOCAL)
    show = traitlets.Enum((*OURS, *dict.fromkeys((*BASELINES, *POOLED_BASELINES))), "effect").tag(**LAZY)
    opacity = traitlets.Float(0.75, min=0, max=1).tag(**LOCAL)
    outline = traitlets.Bool(False).tag(**LOCAL)
    scale = traitlets.Float(None, allow_none=True, min=1e-9).tag(**LOCAL)
    picture = traitlets.Bytes(help="the image as the model sees it; written only when it changes").tag(
        sync=True
    )

    def __init__(self, session: Session, **options: Unpack[HeatmapOptions]) -> None:
        super().__init__(session, **options)

    _picture_of: Any = None
    _parts: dict[str, tuple[Any, Part]] | None = None

    def looks_at(self, selection: Selection) -> Any:
        s = selection
        asked = s.text, s.text_b, s.ablation
        return s.image, s.layer, s.head, s.token, asked, self._needs(), self._progress()

    def compute(self, selection: Selection, stale: Stale) -> tuple[View, Arrays] | None:
        if selection.image is None:
            return {"message": "Select an image."}, {}
        view, arrays = self._base(selection)
        if stale():
            return None
        self._show_picture(selection.image)
        known = self._parts = self._parts or {}
        wanted = self._wanted(selection)
        fresh = [name for name, (key, _) in wanted.items() if name not in known or known[name][0] != key]
        for name in wanted.keys() - set(fresh):
            _join(view, arrays, known[name][1])
        if fresh:
            self._show(selection, view, arrays)  # the map need not wait for what is slower
        for name in fresh:
            if stale():
                return None
            key, make = wanted[name]
            known[name] = key, make()
            _join(view, arrays, known[name][1])
        return view, arrays

    def map(self) -> np.ndarray:
        """The map on screen, [rows, cols], as the browser sums it."""
        shown = self.data()
        if self.show in self.session.baselines and self.show in shown:
            return shown[self.show]
        if self.show == "pool" and "pool" in shown:
            return shown["pool"][1:].reshape(shown["rows"], shown["cols"])
        return self._maps_shown(shown).map(
            self.scope, shown["selection"]["layer"], shown["selection"]["head"]
        )

    def token_heads(self, token: int | None = None, k: int = 5) -> list[TokenHead]:
        """The k heads that write most (by size) at a token, the selected one when None; all layers are asked."""
        token = self.session.selection.token if token is None else token
        return self._maps_shown(self.data()).at(token, k)

    def agreement(self) -> tuple[float, float, float] | None:
        """Pixel accuracy, mean IoU and average precision of the map on screen against the image's true mask."""
        found = self.session.agreement(self.map(), self.view["selection"]["image"])
        return None if found is None else (found.pixel_accuracy, found.miou, found.map)

    def draw(self, width: float) -> Figure:
        """The image and the map on screen, its scale, its scope and the cosine."""
        from clipviz.figures.panels import heatmap_figure

        view, values = self.data(), self.map()
        shown = view["selection"]
        minus = f" − “{shown['text_b']}”" if shown["text_b"] else ""
        signed = self.show in ("effect", "centred", "pool")
        what = "token effect" if signed else self.show
        scope = "" if self.show not in OURS or self.show == "pool" else f", {self._scope(shown)}"
        removed = Ablation.from_dict(shown["ablation"]).without(self.session.model.n_heads)
        notes = [
            f"cosine {view['cosine']:+.3f}{' ' + removed if removed else ''}"
            if view["cosine"] is not None
            else "",
            "centred: minus the effect on the mean of all texts" if self.show == "centred" else "",
            f"{self.show} ignores the text" if self.show in (*IGNORING, "attention") else "",
        ]
        return heatmap_figure(
            self.session.pixels(shown["image"]),
            values,
            f"“{shown['text']}”{minus}" if shown["text"] else "",
            width,
            "signed" if signed else "plain",
            self.scale,
            "; ".join(note for note in notes if note),
            f"{what}{scope}",
            self.opacity,
        )

    def _scope(self, shown: View) -> str:
        layer, head = shown["layer"], shown["head"]
        return {
            "all": "all heads",
            "late": f"heads of the last {N_LATE} layers",
            "layer": f"layer {layer}",
            "head": f"L{layer}·H{head}",
        }[self.scope]

    def _needs(self) -> str:
        """Which of the costlier maps is shown: "shared", "baselines" or none of them."""
        return "baselines" if self.show not in OURS else "shared" if self.show == "centred" else ""

    def _progress(self) -> Any:
        """Changes a few times while the collection is read, and when it is complete."""
        collection = self.session.collection
        return collection.complete, collection.n_ready.bit_length()

    def _base(self, selection: Selection) -> Part:
        session, image = self.session, selection.image
        assert image is not None
        pools = session.model.weights.readout.pools
        if self.show == "pool" and not pools:
            raise ValueError(
                f"{session.model.name!r} reads a class token and has no pool; choose show='effect'"
            )
        rows, cols = session.model.weights.grid
        arrays = {"attention": session.attention(image).astype(np.float32)}
        cosine = before = fits = None
        if selection.text:
            asked = selection.text, image, selection.text_b
            found = session.token_maps(*asked, selection.ablation)
            arrays["scores"], cosine = found.scores.astype(np.float32), found.cosine
            before = session.head_scores(*asked, Ablation()).cosine if selection.ablation else None
            fits = session.names_object(selection.text, image)
            if pools:
                arrays["pool"] = session.pool_map(*asked).astype(np.float32)
        mask = session.true_mask(image)
        if mask is not None:
            arrays["mask"] = mask.astype(np.uint8)
        return {
            "rows": rows,
            "cols": cols,
            "mask_size": None if mask is None else list(mask.shape),
            "n_layers": session.model.n_layers,
            "n_heads": session.model.n_heads,
            "n_late": N_LATE,
            "pools": pools,
            "baselines": list(session.baselines),
            "ignoring": [name for name in session.baselines if name in IGNORING],
            "cosine": cosine,
            "cosine_before": before,
            "fits": fits,
            "context": None,
            "title": pictures.title(session, image),
            "picture": self._picture_of_image(image),
            "joint": None,
            "message": "",
        }, arrays

    def _wanted(self, selection: Selection) -> dict[str, tuple[Any, Callable[[], Part]]]:
        """The slower parts of the view: what each rests on, and how it is made."""
        s, session = selection, self.session
        parts: dict[str, tuple[Any, Callable[[], Part]]] = {}
        if self._needs() == "shared" and s.text:
            parts["shared"] = s.image, lambda: ({}, {"shared": _float(session.shared_maps(s.image))})
        if self._needs() == "baselines" and s.text:
            parts["baselines"] = (s.image, s.text, s.text_b), lambda: ({}, self._baseline_maps(s))
        asked = (s.image, s.text, s.text_b, s.ablation, self._progress())
        parts["context"] = asked, lambda: (self._context(s), {})
        key = (s.image, s.layer, s.head, self._progress())
        parts["joint"] = key, lambda: self._joint(s)
        return parts

    def _context(self, selection: Selection) -> View:
        """What the cosine is compared with: the image's nearest texts, the pool, the collection."""
        session, s = self.session, selection
        assert s.image is not None
        about: View = {"nearest": [list(pair) for pair in session.nearest_texts(s.image, 5, s.ablation)]}
        familiar = session.familiarity(s.image)
        about["far"] = None if familiar.known else familiar._asdict()
        found = session.standing(s.text, s.image, s.text_b, s.ablation) if s.text else None
        return {"context": about | {"standing": None if found is None else found._asdict()}}

    def _baseline_maps(self, selection: Selection) -> dict[str, np.ndarray]:
        if self.show not in self.session.baselines:
            raise ValueError(
                f"{self.show} does not apply to the readout of {self.session.model.name!r}; choose one of "
                f"{', '.join(self.session.baselines)}"
            )
        found = self.session.compare_maps(selection.text, selection.image, selection.text_b)
        return {name: _float(values) for name, values in found.items()}

    def _joint(self, selection: Selection) -> Part:
        session, layer, head = self.session, selection.layer, selection.head
        about: dict[str, Any] = {"message": "", "texts": [], "values": []}
        if layer is None or head is None:
            about["message"] = "Select a head to see what it says about this image."
        elif layer not in session.collection.layers:
            about["message"] = f"Layer {layer} was not read for this collection."
        elif session.collection.n_ready < 2 or len(session.texts) < 2:
            about["message"] = "" if session.collection.complete else "Reading the collection…"
        if about["message"] or layer is None or head is None or session.collection.n_ready < 2:
            return {"joint": about}, {}
        found = session.joint_maps(layer, head, selection.image)
        about |= {"texts": list(found.texts), "values": [float(value) for value in found.coefficients]}
        return {"joint": about}, {"joint_maps": _float(found.maps)}

    def _maps_shown(self, shown: dict[str, Any]) -> TokenMaps:
        """What is summed: effects (A, minus B or minus the mean's) or attention."""
        if self.show == "attention" or "scores" not in shown:
            scores = shown["attention"]
        else:
            mean = self.show == "centred" and not shown["selection"]["text_b"] and "shared" in shown
            scores = shown["scores"] - shown["shared"] if mean else shown["scores"]
        return TokenMaps(scores, shown["cosine"] or 0.0, (shown["rows"], shown["cols"]))

    def _picture_of_image(self, image: int) -> list[Any]:
        return [image, self.session.images.fingerprint]

    def _show_picture(self, image: int) -> None:
        key = self._picture_of_image(image)
        if self._picture_of == key:
            return
        self._picture_of, self.picture = key, pictures.picture(self.session, image)


def _join(view: View, arrays: Arrays, part: Part) -> None:
    view |= part[0]
    arrays |= part[1]


def _float(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)

"""The selected image and the tokens that write towards the text, beside the baselines' maps and a head's own texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import traitlets

from clipviz.panels.core import pictures
from clipviz.panels.core.base import ASKED, LAZY, LOCAL, Computed, Panel
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.stored import Answer, Kept, Stored
from clipviz.panels.heatmap import parts
from clipviz.panels.heatmap.parts import Part
from clipviz.session import (
    BASELINES,
    IGNORING,
    NEURON_THRESHOLD,
    POOLED_BASELINES,
    Session,
    TokenHead,
    TokenMaps,
)
from clipviz.values import N_LATE, Ablation, Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

SCOPES = ("all", "late", "layer", "head")
OURS = ("effect", "centred", "pool", "attention")
NEURONS = ("neurons", "neuron")  # where neurons are active, averaged and rescaled to 0..1


class HeatmapOptions(TypedDict, total=False):
    scope: Literal["all", "late", "layer", "head"]
    show: str
    opacity: float
    outline: bool
    scale: float | None
    joint_texts: Literal[10, 60]


class Heatmap(Panel):
    """Token effects on text A, or on A minus B, over the image (thesis 2.5). The browser sums over heads.

    scope: "all" heads, the "late" layers (last 4), the selected "layer" or the selected "head". show: "effect",
    "centred" (the effect minus that on the mean of all texts, the bias that every text's map shares), "pool" (for
    towers with pooling: the effect of each final token as the pool reads it; independent of the scope),
    "attention" (the share of each token in what heads read: the class token's attention), "neurons" (where the
    200 neurons that write most along the text are active, Table 3.4), "neuron" (where the selected one is), or a
    baseline by name ("rollout", "Grad-CAM", ...; independent of the scope). outline draws the image's true mask,
    if it has one. scale: the value at full colour, None for each map's maximum. Hovering reads a token; a click
    selects it and lists the heads that write there; arrow keys move it. Below, the cosine is compared with the
    pool and the collection, and the texts of the selected head that agree most and least with the image are shown
    with their regions (Fig. 2.6), among its first 10 texts, or 60 as in the thesis (joint_texts).
    """

    name = "heatmap"
    cost = 2
    _esm = script("heatmap")
    _css = style("heatmap")

    scope = traitlets.Enum(SCOPES, "late").tag(**LOCAL)
    show = traitlets.Enum((*OURS, *NEURONS, *dict.fromkeys((*BASELINES, *POOLED_BASELINES))), "effect").tag(
        **LAZY
    )
    opacity = traitlets.Float(0.75, min=0, max=1).tag(**LOCAL)
    outline = traitlets.Bool(False).tag(**LOCAL)
    joint_texts = traitlets.Enum((10, 60), 10).tag(**ASKED)
    scale = traitlets.Float(None, allow_none=True, min=1e-9).tag(**LOCAL)
    picture = traitlets.Bytes(help="the image as the model sees it; written only when it changes").tag(
        sync=True
    )

    _picture_of: Any = None

    def __init__(self, session: Session, **options: Unpack[HeatmapOptions]) -> None:
        self._parts = parts.Parts()
        super().__init__(session, **options)

    def looks_at(self, selection: Selection) -> Any:
        s = selection
        asked = s.text, s.text_b, s.ablation
        return (
            s.image,
            s.layer,
            s.head,
            s.neuron,
            s.dictionary,
            s.token,
            asked,
            self._needs(),
            self._progress(),
        )

    def compute(self, selection: Selection, stale: Stale) -> Computed:
        if selection.image is None:
            return {"message": "Select an image."}, {}
        view, arrays = self._base(selection)
        if stale():
            return None
        if self._picture_of != view["picture"]:
            self._picture_of = view["picture"]
            self.picture = pictures.picture(self.session.images, selection.image)
        wanted = parts.wanted(
            self.board, selection, self.show, self._needs(), self._progress(), self.joint_texts
        )
        return self._parts.join(view, arrays, wanted, stale)

    def stored(self, kept: Kept) -> list[Stored]:
        session, start = self.session, self.session.selection
        if start.image is None:
            return [Stored((), lambda _: Answer({"message": "Select an image."}))]

        def base(s: Selection) -> Answer:
            assert s.image is not None
            return Answer(*self._base(s), {"picture": pictures.picture(session.images, s.image)})

        found = [
            Stored(("image", "text"), base),
            Stored(("image", "text"), lambda s: Answer(*parts.context(self.board, s))),
            Stored(("image",), lambda s: Answer(*parts.shared(self.board, s))),
            Stored(
                ("image", "layer", "head"), lambda s: Answer(*parts.joint(self.board, s, self.joint_texts))
            ),
        ]
        if start.neuron is not None:
            one = start.layer, start.neuron, start.dictionary
            found.append(Stored(("image",), lambda s: Answer(*parts.neuron(self.board, _at(s, one)))))
        if start.text:
            first = session.maps.baselines[0]
            found.append(Stored(("image", "text"), lambda s: Answer(*parts.baselines(self.board, s, first))))
            found.append(Stored(("image", "text"), lambda s: Answer(*parts.neurons(self.board, s))))
        return found

    def map(self) -> np.ndarray:
        """Return the map on screen, [rows, cols], as summed by the browser."""
        shown = self.data()
        if self.show in (*NEURONS, *self.session.maps.baselines) and self.show in shown:
            return shown[self.show]
        if self.show == "pool" and "pool" in shown:
            return shown["pool"][1:].reshape(shown["rows"], shown["cols"])
        return self._maps_shown(shown).map(
            self.scope, shown["selection"]["layer"], shown["selection"]["head"]
        )

    def token_heads(self, token: int | None = None, k: int = 5) -> list[TokenHead]:
        """Return the k heads that write most (by magnitude) at a token, the selected one if None, over all layers."""
        token = self.session.selection.token if token is None else token
        return self._maps_shown(self.data()).at(token, k)

    def agreement(self) -> tuple[float, float, float] | None:
        """Return pixel accuracy, mean IoU and average precision of the map on screen against the image's true mask."""
        threshold = NEURON_THRESHOLD if self.show in NEURONS else None
        found = self.session.maps.agreement(self.map(), self.view["selection"]["image"], threshold)
        return None if found is None else (found.pixel_accuracy, found.miou, found.map)

    def draw(self, width: float) -> Figure:
        """Draw the image and the map on screen, its scale, its scope and the cosine."""
        from clipviz.figures.panels import heatmap_figure

        view, values = self.data(), self.map()
        shown = view["selection"]
        minus = f" − “{shown['text_b']}”" if shown["text_b"] else ""
        shows = "effect" if self.show == "neuron" and "neuron" not in view else self.show
        signed = shows in ("effect", "centred", "pool")
        named = "feature" if shows == "neuron" and shown["dictionary"] else shows
        what = "token effect" if signed else parts.NAMES.get(named, shows).format(**shown)
        scope = "" if shows not in OURS or shows == "pool" else f", {parts.scope_in_words(self.scope, shown)}"
        notes = [
            f"cosine {view['cosine']:+.3f} {view['removed']}".strip() if view["cosine"] is not None else "",
            "centred: minus the effect on the mean of all texts" if shows == "centred" else "",
            f"{shows} ignores the text" if shows in (*IGNORING, "attention") else "",
        ]
        return heatmap_figure(
            self.session.images.pixels(shown["image"]),
            values,
            f"“{shown['text']}”{minus}" if shown["text"] else "",
            width,
            "signed" if signed else "plain",
            self.scale,
            "; ".join(note for note in notes if note),
            f"{what}{scope}",
            self.opacity,
        )

    def _needs(self) -> str:
        """Return which of the costlier maps is shown: "shared", "neurons", "neuron", "baselines" or none."""
        if self.show in OURS:
            return "shared" if self.show == "centred" else ""
        return self.show if self.show in NEURONS else "baselines"

    def _progress(self) -> Any:
        """Return a value that changes a few times while the collection is read, and when it is complete."""
        collection = self.board.collection
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
        arrays = {"attention": session.maps.attention(image).astype(np.float32)}
        cosine = before = fits = None
        if selection.text:
            asked = selection.text, image, selection.text_b
            found = session.maps.tokens(*asked, selection.ablation)
            arrays["scores"], cosine = found.scores.astype(np.float32), found.cosine
            before = session.heads.effects(*asked, Ablation()).cosine if selection.ablation else None
            fits = session.maps.names_object(selection.text, image)
            if pools:
                arrays["pool"] = session.maps.pool(*asked).astype(np.float32)
        mask = session.maps.truth(image)
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
            "baselines": list(session.maps.baselines),
            "ignoring": [name for name in session.maps.baselines if name in IGNORING],
            "neuron_layers": list(session.neurons.late_layers),
            "neuron_threshold": NEURON_THRESHOLD,
            "cosine": cosine,
            "cosine_before": before,
            "fits": fits,
            "context": None,
            "title": pictures.title(self.board.images, image),
            "picture": [image, self.board.images.fingerprint],
            "joint": None,
            "message": "",
        }, arrays

    def _maps_shown(self, shown: dict[str, Any]) -> TokenMaps:
        """Return what is summed: effects (A, minus B or minus the mean's) or attention."""
        if self.show == "attention" or "scores" not in shown:
            scores = shown["attention"]
        else:
            mean = self.show == "centred" and not shown["selection"]["text_b"] and "shared" in shown
            scores = shown["scores"] - shown["shared"] if mean else shown["scores"]
        return TokenMaps(scores, shown["cosine"] or 0.0, (shown["rows"], shown["cols"]))


def _at(selection: Selection, unit: tuple[int | None, int, str]) -> Selection:
    layer, neuron, dictionary = unit
    return selection.replace(layer=layer, neuron=neuron, dictionary=dictionary)

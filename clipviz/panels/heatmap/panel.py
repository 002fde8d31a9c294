"""The selected image and the tokens that write towards the text, beside the baselines' maps and a head's own texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import traitlets

from clipviz.panels.core import pictures
from clipviz.panels.core.base import Computed, Panel
from clipviz.panels.core.options import asked, lazy, local
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.stored import Answer, Kept, Stored
from clipviz.panels.heatmap import parts
from clipviz.panels.heatmap.parts import Part
from clipviz.panels.heatmap.sent import HeatmapArrays
from clipviz.session import (
    IGNORING,
    NEURON_THRESHOLD,
    TokenHead,
    TokenMaps,
)
from clipviz.values import N_LATE, Ablation, Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Own = Literal["effect", "centred", "pool", "attention"]
Neural = Literal["neurons", "neuron"]  # what neurons activate at, averaged and stretched to 0..1
Baseline = Literal[
    "LRP", "partial LRP", "rollout", "raw attention", "Grad-CAM", "Chefer et al.", "Chefer et al. (generic)"
]
OURS, NEURONS = get_args(Own), get_args(Neural)


class Heatmap(Panel):
    """Token effects on text A, or on A minus B, over the image (thesis 2.5). The browser sums over heads.

    Hovering shows the value of a token. A click selects the token and lists the heads that write there; the arrow
    keys move the selection. Below the map, the panel compares the cosine with those of other texts and other images.
    It also shows the texts of the selected head with which the image agrees most and least, and their maps (Fig. 2.6).
    """

    name = "heatmap"
    cost = 2
    _esm = script("heatmap")
    _css = style("heatmap")

    scope: Literal["all", "late", "layer", "head"] = local(
        default="late",
        help="The heads summed: all, those of the last 4 layers, or of the selected layer, or one head.",
    )
    show: Literal[Own, Neural, Baseline] = lazy(
        default="effect",
        help="The map: the effect on the text; that minus the effect on the mean of all texts, the bias that every "
        "text's map shares; where tokens are pooled, the effect of each final token as the pool reads it; the share "
        "of each token in what heads read, which is the class token's attention; where the 200 neurons that write "
        "most along the text are active (Table 3.4), or where the selected one is; or a baseline by its name. Pool "
        "and baselines have no scope.",
    )
    opacity: float = local(default=0.75, low=0, high=1, help="Opacity of the map over the image.")
    outline: bool = local(default=False, help="Whether the image's true mask is drawn, where it has one.")
    joint_texts: Literal[10, 60] = asked(
        default=10, help="How many of the head's first texts the image is compared with; 60 in the thesis."
    )
    scale: float | None = local(
        default=None, low=1e-9, help="The value at full colour; None: the largest of each map."
    )
    picture = traitlets.Bytes(help="the image as the model sees it; written only when it changes").tag(
        sync=True
    )

    def prepare(self) -> None:
        self._parts = parts.Parts()
        self._picture_of: Any = None

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
            return np.asarray(shown[self.show])
        if self.show == "pool" and "pool" in shown:
            return np.asarray(shown["pool"])[1:].reshape(shown["rows"], shown["cols"])
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
        arrays: HeatmapArrays = {"attention": session.maps.attention(image).astype(np.float32)}
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
            "picture": (image, self.board.images.fingerprint),
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

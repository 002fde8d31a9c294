"""The words of an image: the texts that its active neurons write, beside those nearest by cosine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipviz.panels.core.background import NeuronDesk
from clipviz.panels.core.options import fixed
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.sent import Scored
from clipviz.panels.words.sent import TextColumn, WordsArrays, WordsView
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Words(NeuronDesk):
    """Concept discovery (thesis 3.5, Figure B.1): the texts of the pool that the image's active neurons contribute.

    A click on a text selects it everywhere.
    """

    name = "words"
    title = "Words"
    question = "What do this image's neurons say?"
    cost = 7
    _esm = script("words")
    _css = style("words")

    n_texts: int = fixed(default=12, low=1, high=50, help="Rows of each list.")

    def prepare(self) -> None:
        self._known: int | str | None = None  # whose neurons have been read

    def looks_at(self, selection: Selection) -> Any:
        return selection.image, selection.text, self._known, tuple(self.session.neurons.dictionaries)

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[WordsView, WordsArrays] | None:
        session, layer = self.session, self.layer_shown()
        view: WordsView = {"columns": []}
        self.add_layer(view, layer)
        if layer is None:
            return view, {}
        if selection.image is None:
            return {**view, "message": "Select an image."}, {}
        self.follow()
        nearest = session.texts.nearest(selection.image, self.n_texts)
        columns = [_column("Nearest by cosine", "cosine with the image", nearest)]
        if self._known == layer:
            found = session.neurons.concepts(selection.image, layer, self.n_texts, self.m)
            whose = "features" if isinstance(layer, str) else "neurons"
            columns.insert(0, _column(f"Written by active {whose}", "summed contribution, as a share", found))
        if stale():
            return None
        return {**view, "columns": columns, "complete": self._known == layer}, {}

    def draw(self, width: float) -> Figure:
        """Draw both lists as bars."""
        from clipviz.figures.panels import lists_figure

        shown = self.data()
        if not shown.get("columns"):
            raise ValueError(f"expected texts, got none: {shown.get('message') or 'open the desk first'}")
        return lists_figure(shown["columns"], width)

    def step(self) -> bool:
        """Read images for the layer shown."""
        layer = self.layer_shown()
        if layer is None or self._known == layer:
            return False
        reading = self.board.neuron_reading(layer)
        if self.read_on(reading):
            return True
        self._known = layer
        self.board.refresh()
        return False


def _column(title: str, unit: str, found: list[tuple[str, float]]) -> TextColumn:
    most = max((abs(score) for _, score in found), default=0.0) or 1.0
    rows: list[Scored] = [{"text": text, "score": score} for text, score in found]
    return {"title": title, "unit": unit, "rows": rows, "most": most}

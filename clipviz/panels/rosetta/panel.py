"""Rosetta neurons: the concepts that CLIP's units share with other models, as a grid, on one image, and in pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clipviz.panels.core.base import Desk
from clipviz.panels.core.options import asked, fixed
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.sent import as_sent
from clipviz.panels.rosetta import concepts
from clipviz.panels.rosetta.sent import RosettaArrays, RosettaView
from clipviz.session import PIVOTS
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipviz.session.answers import SharedUnits

N_EXAMPLES = {"grid": 3, "pair": 6}
MINE = (
    "session.rosetta.mine(folder) finds units that it shares with other networks on these images, "
    "and shows them here."
)


class Rosetta(Desk):
    """Rows are concepts, columns are models, cells the units' maps over shared images (thesis Figures 4.1 and 4.2)."""

    name = "rosetta"
    title = "Rosetta"
    question = "Which units of other models see the same?"
    cost = 5
    _esm = script("rosetta")
    _css = style("rosetta")

    show: Literal["grid", "image", "pair"] = asked(
        default="grid",
        help="The grid of all models, every concept on the selected image, or the pivot beside one other model.",
    )
    sort: Literal["named", "heldout", "correlation", "size", "layer"] = asked(
        default="named",
        help="The order of the rows: those with a name first; by the correlation on held-out images, or on all, as a "
        "mean over the partners; by the number of units that share the concept; or by layer.",
    )
    models: list[str] = asked(default=[], help="Only concepts that all these models have are listed.")
    other: str = asked(default="", help='The model beside the pivot, for show="pair".')
    whose: str = asked(default="", help='The model whose units are drawn, for show="image".')
    words: str = asked(default="", help="Only concepts whose name or hint holds these words are listed.")
    every_unit: bool = asked(default=False, help="Whether every unit has a row, not only every concept.")
    pivot: Literal["clip", "generator"] = asked(
        default="clip", help="The model whose units are matched with all others'."
    )
    page: int = asked(default=0, low=0, help="The page of the list, from 0.")
    n_rows: int = fixed(default=8, low=1, high=50, help="Rows on a page.")
    folder: str = fixed(default="", help="A saved dictionary that is shown instead of the shipped one.")
    partners: dict[str, Any] = fixed(  # networks cannot be written into a view
        default={}, help="Networks that are not shipped, by the model's name.", asked=False, lasting=False
    )

    def looks_at(self, selection: Selection) -> Any:
        s = selection
        return s.image, s.layer, s.neuron, s.dictionary, s.concept, self._version()

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[RosettaView, RosettaArrays] | None:
        try:
            book = self.dictionary()
        except ValueError as error:
            return {"message": self._nothing(), "advice": str(error) if self.folder else MINE}, {}
        if not len(book.concepts):
            return {"message": "No unit of this model has a partner.", "advice": ""}, {}
        concept, asked_for = self._concept(book, selection)
        known = book.listed(self.sort, self._wanted(book), self.words, self.every_unit)
        view: RosettaView = {
            "message": "",
            "columns": [as_sent(column) for column in book.columns],
            "n_found": len(known),
            "n_concepts": len(set(np.asarray(book.concepts.cluster).tolist())),
            "n_units": len(book.concepts),
            "n_untrained": book.n_untrained,
            "linked": book.linked,
            "pivots": self._pivots(),
            "pivot": self.pivot,
            "show": self.show,
            "sort": self.sort,
            "models": list(self.models),
            "every_unit": self.every_unit,
            "other": self._other(book),
            "whose": self._whose(book),
            "missed": "" if concept is not None or asked_for is None else _missed(asked_for),
        }
        more, arrays = self._body(book, known, selection.image)
        if stale():
            return None
        shown = concept if concept is not None else (known[0] if known else None)
        detail, drawn = concepts.detail(book, shown, self.board, selection.image)
        return {**view, **more, **detail, "chosen": concept is not None}, {**arrays, **drawn}

    def _body(
        self, book: SharedUnits, known: list[int], image: int | None
    ) -> tuple[RosettaView, RosettaArrays]:
        if self.show == "image":
            return concepts.tiles(book, known, image, self._whose(book))
        names = list(book.concepts.models)
        places = [0, names.index(self._other(book))] if self.show == "pair" else list(range(len(names)))
        return concepts.rows(book, known, self.page, self.n_rows, places, N_EXAMPLES[self.show])

    def dictionary(self) -> SharedUnits:
        """Return the dictionary that the panel shows. Raises ValueError if there is none for the session's model."""
        return self.session.rosetta.units(self.folder or None, self.partners, self.pivot)

    def act(self, request: Request) -> None:
        """Carry out "name": name a concept."""
        if request.action != "name":
            return super().act(request)
        self.dictionary().name(request.number("concept"), request.text("label", 80))
        return None

    def save(self, folder: str) -> str:
        """Save the dictionary with the names given so far to a folder; open it with Rosetta(session, folder=...)."""
        return str(self.dictionary().save(folder))

    def draw(self, width: float) -> Figure:
        """Draw the rows shown as a dictionary page, in the form of Figure 4.2."""
        from clipviz.figures import chapter4

        book = self.dictionary()
        known = book.listed(self.sort, self._wanted(book), self.words, self.every_unit)
        if self.show == "image" and self.session.selection.image is not None:
            image = self.session.selection.image
            shown = book.strongest(image, known, self._whose(book))[:48]
            return chapter4.all_concepts(
                self.session.images.picture(image),
                [(one.title, one.map) for one in shown],
                self._whose(book),
                width,
            )
        rows = known[self.page * self.n_rows :][: self.n_rows]
        return chapter4.dictionary_page(
            [chapter4.ConceptBlock(*entry) for entry in book.entries(rows)], book.lookers, width
        )

    def _version(self) -> int:
        """Return a value that changes when a concept is named, here or in another panel."""
        try:
            return self.dictionary().version if self.on_screen else -1
        except ValueError:
            return -1

    def _pivots(self) -> list[str]:
        """Return the pivots to choose from: none for a folder, or if the model brings only one dictionary."""
        bundle = self.session.model.bundle
        both = not self.folder and bundle is not None and bundle.generator_dictionary is not None
        return list(PIVOTS) if both else []

    # -- parts of the view -------------------------------------------------------------------------------------

    def _nothing(self) -> str:
        model = self.session.model
        if self.folder:
            return f"This folder holds no dictionary for {model.name}."
        return f"There is no dictionary of shared units for {model.name} yet."

    def _wanted(self, book: SharedUnits) -> list[str]:
        wanted = [name for name in self.models if name in book.concepts.models]
        return [*wanted, self._other(book)] if self.show == "pair" else wanted

    def _other(self, book: SharedUnits) -> str:
        names = book.concepts.models
        return self.other if self.other in names[1:] else names[1]

    def _whose(self, book: SharedUnits) -> str:
        return self.whose if self.whose in book.concepts.models else book.networks.clip

    def _concept(
        self, book: SharedUnits, selection: Selection
    ) -> tuple[int | None, tuple[int | str, int] | None]:
        """Return the selected concept (that of the selected neuron, else the one chosen by number), and the neuron."""
        if selection.neuron is not None and selection.layer is not None:
            place = (selection.dictionary or selection.layer, selection.neuron)
            chosen = selection.concept
            if chosen is not None and chosen < len(book.concepts) and book.neuron(chosen) == place:
                return chosen, place
            return book.concept_of(*place), place
        chosen = selection.concept
        return (chosen if chosen is not None and chosen < len(book.concepts) else None), None


def _missed(neuron: tuple[int | str, int]) -> str:
    whose, number = neuron
    said = f"Feature {number} of {whose}" if isinstance(whose, str) else f"Neuron {number} of layer {whose}"
    return f"{said} has no partner in this dictionary."

"""Rosetta neurons: the concepts that CLIP's units share with other models', as a grid, on one image, and in pairs."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from PIL import Image

from clipviz.panels.base import Panel, marks, script, style
from clipviz.session import SORTS
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipviz.analysis.shared_units import Cell, SharedUnits

THUMBNAIL, PICTURE = 88, 240
N_EXAMPLES = {"grid": 3, "pair": 6}
VIEWS = ("grid", "image", "pair")
MOST_TILES = 120  # concepts shown on one image


class Rosetta(Panel):
    """Rows are concepts, columns are models, cells the units' maps over shared images (thesis Figures 4.1 and 4.2).

    show: the "grid" of all models, every concept on the selected "image", or the pivot beside one model as a "pair".
    sort: "heldout" or "correlation" (mean over the partners), "size" (units that share a concept) or "layer". models:
    only concepts that these models have; other: the model of the pair; whose: the model drawn on one image. words:
    only concepts whose name or hint holds them. every_unit: a row a unit instead of one a concept. folder: a saved
    dictionary instead of the shipped one; partners: model name -> network, for models that are not shipped.
    visible=False waits until the browser shows the panel.
    """

    name = "rosetta"
    cost = 5
    _esm = script("rosetta")
    _css = style("rosetta")

    show = traitlets.Enum(VIEWS, "grid").tag(sync=True, option=True, recompute=True)
    sort = traitlets.Enum(SORTS, "heldout").tag(sync=True, option=True, recompute=True)
    models = traitlets.List(traitlets.Unicode()).tag(sync=True, option=True, recompute=True)
    other = traitlets.Unicode("").tag(sync=True, option=True, recompute=True)
    whose = traitlets.Unicode("").tag(sync=True, option=True, recompute=True)
    words = traitlets.Unicode("").tag(sync=True, option=True, recompute=True)
    every_unit = traitlets.Bool(False).tag(sync=True, option=True, recompute=True)
    page = traitlets.Int(0, min=0).tag(sync=True, option=True, recompute=True)
    n_rows = traitlets.Int(8, min=1, max=50).tag(option=True, recompute=True)
    visible = traitlets.Bool(True).tag(sync=True, option=True, recompute=True)
    folder = traitlets.Unicode("").tag(option=True, recompute=True)
    partners = traitlets.Dict().tag(option=True)

    def looks_at(self, selection: Selection) -> Any:
        s = selection
        return s.image, s.layer, s.neuron, s.concept, self._version()

    def compute(self, selection: Selection, stale: Stale) -> tuple[dict[str, Any], dict[str, Any]] | None:
        view: dict[str, Any] = {
            "selection": marks(selection),
            "message": "",
            "advice": "",
            "waiting": not self.visible,
        }
        if not self.visible:
            return view, {}
        try:
            book = self.dictionary()
        except ValueError as error:
            return {**view, "message": self._nothing(), "advice": str(error)}, {}
        if not len(book.concepts):
            return {**view, "message": "No unit of this model has a partner.", "advice": ""}, {}
        concept, asked_for = self._concept(book, selection)
        known = book.listed(self.sort, self._wanted(book), self.words, self.every_unit)
        view |= {
            "columns": [column._asdict() for column in book.columns],
            "n_found": len(known),
            "n_concepts": len(set(np.asarray(book.concepts.cluster).tolist())),
            "n_units": len(book.concepts),
            "linked": book.linked,
            "show": self.show,
            "sort": self.sort,
            "models": list(self.models),
            "every_unit": self.every_unit,
            "other": self._other(book),
            "whose": self._whose(book),
            "missed": "" if concept is not None or asked_for is None else _missed(asked_for),
        }
        arrays: dict[str, Any] = {}
        if self.show == "image":
            self._tiles(book, known, selection.image, view, arrays)
        else:
            self._rows(book, known, concept, view, arrays)
        if stale():
            return None
        shown = concept if concept is not None else (known[0] if known else None)
        self._detail(book, shown, concept is not None, selection.image, view, arrays)
        return view, arrays

    def dictionary(self) -> SharedUnits:
        """The dictionary that the panel shows. Raises ValueError when there is none for the session's model."""
        return self.session.rosetta(self.folder or None, self.partners)

    def act(self, request: dict[str, Any]) -> None:
        """Name a concept: {"action": "name", "concept": 3, "label": "grass"}."""
        if request.get("action") != "name":
            return super().act(request)
        self.dictionary().name(int(request["concept"]), str(request.get("label", "")))
        return None

    def save(self, folder: str) -> str:
        """Write the dictionary with the names given so far into a folder; open it with Rosetta(session, folder=...)."""
        return str(self.dictionary().save(folder))

    def figure(self) -> Figure:
        """The rows on show as a dictionary page, in the form of Figure 4.2."""
        from clipviz.figures import chapter4

        book = self.dictionary()
        known = book.listed(self.sort, self._wanted(book), self.words, self.every_unit)
        if self.show == "image" and self.session.selection.image is not None:
            image = self.session.selection.image
            shown = book.strongest(image, known, self._whose(book))[:48]
            return chapter4.all_concepts(
                self.session.picture(image), [(one.title, one.map) for one in shown], self._whose(book)
            )
        rows = known[self.page * self.n_rows :][: self.n_rows]
        return chapter4.dictionary_page(
            [chapter4.ConceptBlock(*entry) for entry in book.entries(rows)], list(book.concepts.models)
        )

    def _version(self) -> int:
        """Changes when a concept was named, here or in another panel."""
        try:
            return self.dictionary().version if self.visible else -1
        except ValueError:
            return -1

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
        return self.whose if self.whose in book.concepts.models else book.concepts.models[0]

    def _concept(self, book: SharedUnits, selection: Selection) -> tuple[int | None, tuple[int, int] | None]:
        """The selected concept: that of the selected neuron, else the one chosen by number; and the neuron."""
        if selection.neuron is not None and selection.layer is not None:
            place = (selection.layer, selection.neuron)
            chosen = selection.concept
            if chosen is not None and chosen < len(book.concepts) and book.neuron(chosen) == place:
                return chosen, place
            return book.concept_of(*place), place
        chosen = selection.concept
        return (chosen if chosen is not None and chosen < len(book.concepts) else None), None

    def _rows(
        self,
        book: SharedUnits,
        known: list[int],
        concept: int | None,
        view: dict[str, Any],
        arrays: dict[str, Any],
    ) -> None:
        """One page of rows with their maps on the example images."""
        n_pages = max(1, -(-len(known) // self.n_rows))
        page = min(self.page, n_pages - 1)
        rows = known[page * self.n_rows :][: self.n_rows]
        names = list(book.concepts.models)
        places = [0, names.index(self._other(book))] if self.show == "pair" else list(range(len(names)))
        n_examples = N_EXAMPLES[self.show]
        examples = np.asarray(book.concepts.examples)[rows][:, :n_examples]
        pictures = sorted(set(examples.ravel().tolist()))
        tile = {image: place for place, image in enumerate(pictures)}
        sprite, columns = book.sprite(pictures, THUMBNAIL)
        view |= {
            "page": page,
            "n_pages": n_pages,
            "at": places,
            "rows": [self._row(book, row, places, n_examples, tile) for row in rows],
            "sprite_columns": columns,
            "n_pictures": len(pictures),
            "captions": [book.caption(image) for image in pictures],
            "pictures": pictures,
            "concept": concept,
        }
        thumbnails = book.concepts.thumbnails
        if thumbnails is not None and rows:
            maps = np.asarray(thumbnails.maps)[rows][:, places, :n_examples]
            arrays["maps"] = np.ascontiguousarray(maps)
            view["side"] = int(maps.shape[-1])
        arrays["sprite"] = sprite

    def _row(
        self, book: SharedUnits, concept: int, places: list[int], n_examples: int, tile: dict[int, int]
    ) -> dict[str, Any]:
        cells = book.cells(concept)
        examples = np.asarray(book.concepts.examples)[concept][:n_examples].tolist()
        return {
            **_about(book, concept),
            "cells": [_cell(cells[place]) for place in places],
            "tiles": [tile[image] for image in examples],
        }

    def _tiles(
        self,
        book: SharedUnits,
        known: list[int],
        image: int | None,
        view: dict[str, Any],
        arrays: dict[str, Any],
    ) -> None:
        """Every concept on the selected image, the strongest first."""
        view |= {"tiles": [], "page": 0, "n_pages": 1, "concept": None}
        if image is None:
            return
        found = book.strongest(image, known, self._whose(book))
        shown = found[:MOST_TILES]
        view["tiles"] = [{**_about(book, one.concept), "strength": one.strength} for one in shown]
        view["n_found"] = len(found)
        if shown:
            arrays["here"] = np.stack([one.map[::2, ::2] for one in shown])

    def _detail(
        self,
        book: SharedUnits,
        concept: int | None,
        chosen: bool,
        image: int | None,
        view: dict[str, Any],
        arrays: dict[str, Any],
    ) -> None:
        """One concept on the selected image, through every model that is at hand."""
        view["concept"], view["chosen"], view["detail"] = concept, chosen, None
        if concept is None:
            return
        view["detail"] = {**_about(book, concept), "cells": [_cell(cell) for cell in book.cells(concept)]}
        if image is None:
            return
        seen, images = book.on_image(image), self.session.images
        view["detail"] |= {
            "image": image,
            "caption": (images.captions or images.names)[image],
            "strength": seen.strength[concept].tolist(),
        }
        buffer = io.BytesIO()
        picture = Image.fromarray(self.session.picture(image))
        picture.thumbnail((PICTURE, PICTURE))
        picture.save(buffer, "JPEG", quality=88)
        arrays["picture"], arrays["now"] = buffer.getvalue(), np.ascontiguousarray(seen.maps[concept])


def _about(book: SharedUnits, concept: int) -> dict[str, Any]:
    neuron, (hint, correlation) = book.neuron(concept), book.hint(concept)
    return {
        "concept": concept,
        "name": book.title(concept),
        "label": book.label(concept),
        "hint": hint,
        "hint_r": correlation,
        "neuron": list(neuron) if neuron else None,
        "size": int(book.sizes[concept]),
    }


def _cell(cell: Cell | None) -> dict[str, Any] | None:
    return cell if cell is None else cell._asdict()


def _missed(neuron: tuple[int, int]) -> str:
    return f"Neuron {neuron[1]} of layer {neuron[0]} has no partner in this dictionary."

"""The session: one model, one collection, one selection. Everything that a panel shows can be asked for here.

No widget is needed: `session.textspan(5, 3)`, `session.token_maps("a dog")` return values. With panels, a change
of the selection wakes the worker, which refreshes the panels that look at what changed, the cheapest first.
The methods stand by topic in clipviz.session.questions. Each is short: it checks what it is given and asks the module
of its topic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipviz.session import opening
from clipviz.session.questions.ablation import AblationQuestions
from clipviz.session.questions.cues import CueQuestions
from clipviz.session.questions.heads import HeadQuestions
from clipviz.session.questions.images import ImageQuestions
from clipviz.session.questions.maps import MapQuestions
from clipviz.session.questions.neurons import NeuronQuestions
from clipviz.session.questions.shared import SharedUnitQuestions

if TYPE_CHECKING:
    from clipviz.models.bundle import TourStep
    from clipviz.values import Selection


class Session(
    ImageQuestions,
    HeadQuestions,
    MapQuestions,
    AblationQuestions,
    NeuronQuestions,
    CueQuestions,
    SharedUnitQuestions,
):
    """One model, its images and texts, and the selection that all panels share.

    model: from clipviz.load or clipviz.wrap. images: a folder, list of paths, PIL images, arrays, a data set
    (see clipviz.data.images.open_images); default those of the model's bundle. texts: "general", the bundle's name, a
    file, or a list. index: an open Index or its folder, read instead of the images, which need not be there any more
    (their thumbnails stand in). layers: whose heads are kept for the collection (default all, or the last 4 when
    memory is short). background=False reads the whole collection before returning.
    A notebook cell that is run again closes the session that it made before from the same model.
    """

    @property
    def tour(self) -> tuple[TourStep, ...]:
        """Steps through the board that the model's bundle brings for images of its kind; none elsewhere."""
        return opening.tour(self)

    def tour_selection(self, step: TourStep) -> Selection:
        """What a step of a tour selects; ValueError while the collection that it needs is being read."""
        return opening.tour_selection(self, step)

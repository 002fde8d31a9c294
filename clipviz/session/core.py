"""The session: one model, one collection, one selection. Everything that a panel shows can be asked for here.

No widget is needed: `session.textspan(5, 3)`, `session.token_maps("a dog")` return values. With panels, a change
of the selection wakes the worker, which refreshes the panels that look at what changed, the cheapest first.
Each method is short: it checks what it is given and asks the module of its topic.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import Tensor

from clipviz.analysis import atlas as planes
from clipviz.analysis import cues as cue_words
from clipviz.analysis import retrieval, shared_units
from clipviz.analysis.neurons import N_WORDS, Code, Effects, Histogram, LayerNeurons
from clipviz.analysis.retrieval import Ranked
from clipviz.analysis.standing import names_object
from clipviz.analysis.tasks import Task
from clipviz.lens import textspan as textspan_lens
from clipviz.lens.cues import N_SEGMENT_NEURONS
from clipviz.lens.sparse import code_size
from clipviz.models.towers.anatomy import unmixed
from clipviz.session import ablation as ablations
from clipviz.session import checks, context, generation, heads, maps, mining, opening
from clipviz.session import neurons as readings
from clipviz.session.heads import Description, HeadFound, HeadScores, Label, TokenMaps
from clipviz.session.state import SessionState
from clipviz.session.workbench import Workbench
from clipviz.values import Ablation, Head, Selection, neuron_layers

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import Unpack

    from clipviz.analysis.ablation import Desk, Outcome
    from clipviz.analysis.atlas import Atlas
    from clipviz.analysis.atlas import Words as AtlasWords
    from clipviz.analysis.cues import Cue, Source
    from clipviz.analysis.generation import Edited, Progress
    from clipviz.analysis.generator_concepts import GeneratorConcept
    from clipviz.analysis.shared_units import SharedUnits
    from clipviz.analysis.standing import Familiarity, Standing
    from clipviz.lens.cues import Attack
    from clipviz.lens.invert import Schedule
    from clipviz.lens.segment import SegmentationScore
    from clipviz.models.bundle import Studio, TourStep
    from clipviz.models.captioners import Describe, Draw
    from clipviz.session.ablation import Preset
    from clipviz.session.maps import Joint
    from clipviz.session.mining import MiningOptions
    from clipviz.session.neurons import Listed, Reading

Made = TypeVar("Made")
SHOWN_TEXTS = 10


class Session(SessionState):
    """One model, its images and texts, and the selection that all panels share.

    model: from clipviz.load or clipviz.wrap. images: a folder, list of paths, PIL images, arrays, a data set
    (see clipviz.data.images.open_images); default those of the model's bundle. texts: "general", the bundle's name, a
    file, or a list. index: an open Index or its folder, read instead of the images, which need not be there any more
    (their thumbnails stand in). layers: whose heads are kept for the collection (default all, or the last 4 when
    memory is short). background=False reads the whole collection before returning.
    A notebook cell that is run again closes the session that it made before from the same model.
    """

    # -- the collection ----------------------------------------------------------------------------------------

    def attributes(self) -> dict[str, dict[str, int]]:
        """Columns that subsets can be chosen by, and how many images have each word; common words first."""
        return self.remember(("attributes", len(self.images)), lambda: retrieval.attributes(self.images))

    def subset(self, column: str, value: str) -> tuple[int, ...]:
        """Images whose label, group or other attribute is `value`, for select(images=...) and textspan(images=...)."""
        return tuple(self.images.where(column, value))

    def search(self, text: str, k: int = 24, text_b: str = "", ablation: Ablation | None = None) -> Ranked:
        """The images nearest to a text by cosine, or by cosine minus that with text_b, best first.

        ablation: whose embeddings are compared, default the selection's; Ablation() for the whole model.
        """
        k = checks.count("k", k)
        return retrieval.best(self.collection, self.cosines(text, text_b, ablation), k)

    def cosines(self, text: str, text_b: str = "", ablation: Ablation | None = None) -> Tensor:
        """Cosine of every image with a text, or minus that with text_b, [image]; ablation as in search."""
        embeddings = ablations.embeddings_after(self, self._ablation(ablation))
        return retrieval.cosines(embeddings, self.contrast(text, text_b))

    def top_images(self, direction: Tensor, layer: int, head: int, k: int = 4, by: str = "product") -> Ranked:
        """The images on which one head writes most along a direction (Fig. 2.4).

        by="product" is the thesis's inner product of the head's effect and the direction; by="cosine" divides it by the
        lengths of both, so that images on which the head writes little count as much.
        """
        layer, head = self._head(layer, head)
        return retrieval.top_images(self.collection, direction, layer, head, checks.count("k", k), by)

    def neighbours(
        self,
        image: int | None = None,
        layer: int | None = None,
        head: int | None = None,
        k: int = 24,
        by: str = "cosine",
    ) -> Ranked:
        """The k images most like one under the whole model, or under one head, best first (thesis 2.4, Fig. 2.5).

        by="cosine" compares embeddings, or the head's effects, by their cosine and leaves the image itself out;
        by="product" is the thesis's inner product of the head's effects, with the image itself among the others.
        """
        i, k = self._image(image), checks.count("k", k)
        if (layer is None) != (head is None):
            raise ValueError(f"expected a layer and a head, or neither, got layer={layer}, head={head}")
        chosen = None if layer is None or head is None else self._head(layer, head)
        return retrieval.neighbours(self.collection, i, chosen, k, by, lambda: self.trace(i))

    def atlas(self, layer: int | None = None, head: int | None = None) -> Atlas:
        """The collection in the plane of its two principal components: of the embeddings, or of one head's effects.

        Raises ValueError with fewer than 3 images read, and for a layer that is not kept.
        """
        chosen = None if layer is None or head is None else self._head(layer, head)

        def make() -> Atlas:
            if chosen is None:
                return planes.of_model(self.collection)
            covariance, span = self.span()
            at = self.heads.index(chosen)
            return planes.of_head(self.collection, *chosen, covariance[at], span[at])

        return self.remember(("atlas", self.collection.version, chosen), make)

    def atlas_words(self, layer: int | None = None, head: int | None = None) -> AtlasWords:
        """The plane of `atlas` in texts of the pool: what the ends of its axes, and its dense places, are about."""
        chosen = None if layer is None or head is None else self._head(layer, head)

        def make() -> AtlasWords:
            return planes.words(
                self.atlas(layer, head), self.collection, chosen, self.pool(), list(self.texts)
            )

        return self.remember(("atlas words", self.collection.version, chosen), make)

    @property
    def tour(self) -> tuple[TourStep, ...]:
        """Steps through the board that the model's bundle brings for images of its kind; none elsewhere."""
        return opening.tour(self)

    def tour_selection(self, step: TourStep) -> Selection:
        """What a step of a tour selects; ValueError while the collection that it needs is being read."""
        return opening.tour_selection(self, step)

    # -- heads and tokens --------------------------------------------------------------------------------------

    def head_scores(
        self, text: str, image: int | None = None, text_b: str = "", ablation: Ablation | None = None
    ) -> HeadScores:
        """Direct effect of every head and MLP on the cosine of an image and a text (Eq. 2.4, 2.6).

        With text_b, on that cosine minus the one with text_b. ablation: default the selection's; Ablation() for the
        whole model. The effects add up to `cosine`, which is that of the ablated embedding.
        """
        i, chosen = self._image(image), self._ablation(ablation)
        key = ("heads", i, text, text_b, chosen, self._means_version(chosen))
        return self.remember(key, lambda: heads.head_scores(self, text, i, text_b, chosen))

    def head_variance(self, images: Sequence[int] = ()) -> np.ndarray:
        """Share of the heads' summed variance that each head has over the collection, [layer, head]."""
        return heads.variance_shares(self, self._images(images))

    def span(self, images: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Covariance of every head's effects in its own span, and the spans, for the images read so far."""
        images = self._images(images)

        def make() -> tuple[Tensor, Tensor]:
            return textspan_lens.head_span(self.collection.basis, self.collection.head_covariance(images))

        return self.remember(("span", self.collection.version, images), make)

    def textspan(
        self, layer: int, head: int, n_texts: int = SHOWN_TEXTS, images: Sequence[int] = (), n_draws: int = 20
    ) -> Description:
        """The texts that explain a head's variance over the images (Alg. 1), and its null (n_draws=0: without)."""
        layer, head = self._head(layer, head)
        images, n_texts = self._images(images), checks.count("n_texts", n_texts)
        key = ("textspan", self.collection.version, layer, head, n_texts, images, n_draws)
        return self.remember(key, lambda: heads.describe(self, layer, head, n_texts, images, n_draws))

    def label(self, layer: int, head: int, images: Sequence[int] = ()) -> Label:
        """What a head is about, if random rotations of it do not do as well; defined in clipviz.analysis.labels.

        The reports' tables of heads show the same label. Images added by hand count only where `images` names them.
        """
        layer, head = self._head(layer, head)
        images = self._images(images)
        if images:
            key = ("label", self.collection.version, layer, head, images)
            return self.remember(key, lambda: heads.label(self, layer, head, images))
        known = self._labels()
        if (layer, head) not in known:
            known[layer, head] = heads.label(self, layer, head, heads.read_images(self))
        return known[layer, head]

    def find_heads(self, text: str) -> list[HeadFound]:
        """The heads whose effects vary with a text, by the share of variance along it; none where none stands out.

        A head is found where it varies more along the text than along 95% of the pool's texts (mean direction taken
        out of all), whatever its label says.
        """
        key = ("find heads", self.collection.version, text)
        return self.remember(key, lambda: heads.find(self, text))

    @property
    def heads(self) -> list[Head]:
        """Every head kept for the collection, as (layer, head)."""
        return [(layer, head) for layer in self.collection.layers for head in range(self.model.n_heads)]

    @property
    def labelled(self) -> bool:
        """Whether every head has its label, so that head_summaries() costs nothing."""
        return len(self._labels()) == len(self.heads)

    def head_summaries(self) -> dict[str, dict[str, Any]]:
        """Label, first texts and a person's own role of every head kept, keyed "layer,head"."""
        found, roles = {}, self.roles()
        for layer, head in self.heads:
            self.checkpoint()
            own = roles.get((layer, head), "")
            found[f"{layer},{head}"] = {**heads.summary(self.label(layer, head)), "role": own}
        return found

    def roles(self) -> dict[Head, str]:
        """What a person calls heads of this model, (layer, head) -> role; kept between sessions (data.roles)."""
        return self._roles.all()

    def set_role(self, layer: int, head: int, role: str) -> None:
        """Give a head a role of one's own, such as "background", shown beside its computed label; "" takes it away."""
        at = (
            checks.within("layer", layer, self.model.n_layers),
            checks.within("head", head, self.model.n_heads),
        )
        self._roles.set(at, role)
        self.refresh()

    def label_heads(self) -> None:
        """Label every head behind everything else; panels are refreshed when that is done."""
        if not self.labelled and self._labels_asked != heads.read_version(self):
            self._labels_asked = heads.read_version(self)
            self.worker.background(heads.labelling(weakref.ref(self)))

    def _labels(self) -> dict[Head, Label]:
        return self.remember(("labels", heads.read_version(self)), dict)

    def token_maps(
        self, text: str, image: int | None = None, text_b: str = "", ablation: Ablation | None = None
    ) -> TokenMaps:
        """Direct effect of every token through every head on the cosine of an image and a text (thesis 2.5).

        text_b and ablation as in head_scores, whose head effects are the sums over the tokens.
        """
        i, chosen = self._image(image), self._ablation(ablation)
        key = ("tokens", i, text, text_b, chosen, self._means_version(chosen))
        return self.remember(key, lambda: heads.token_maps(self, text, i, text_b, chosen))

    def pool_map(self, text: str, image: int | None = None, text_b: str = "") -> np.ndarray:
        """Effect on a text's cosine of each final token as the pool reads it, [token]; tokens as in token_maps.

        text_b as in head_scores; of the whole model, whatever is taken out. Raises ValueError for a model that reads
        a class token, which has no pool.
        """
        i = self._image(image)
        return self.remember(("pool", i, text, text_b), lambda: heads.pool_map(self, text, i, text_b))

    def attention(self, image: int | None = None) -> np.ndarray:
        """Share of each token in what is read through every head, [layer, head, token]; tokens as in token_maps."""
        return heads.attention(self, self._image(image))

    def compare_maps(self, text: str, image: int | None = None, text_b: str = "") -> dict[str, np.ndarray]:
        """The map [rows, cols] of every baseline of `baselines` for a text, or for one text minus another, by name."""
        i = self._image(image)
        return self.remember(("compare", i, text, text_b), lambda: maps.compare(self, text, i, text_b))

    @property
    def baselines(self) -> tuple[str, ...]:
        """The baselines that apply to the model: those of Table 2.4, or those that every readout allows."""
        return maps.applicable(self)

    def joint_maps(
        self, layer: int, head: int, image: int | None = None, k: int = 2, n_texts: int = SHOWN_TEXTS
    ) -> Joint:
        """The k texts of a head that an image agrees with most and the k least, with their token maps (Fig. 2.6)."""
        layer, head = self._head(layer, head)
        return maps.joint(self, layer, head, self._image(image), checks.count("k", k), n_texts)

    def shared_maps(self, image: int | None = None) -> np.ndarray:
        """Token effects on the mean of all texts, [layer, head, token]: what every text's map has in common (2.5)."""
        i = self._image(image)
        return self.remember(("shared tokens", i), lambda: maps.shared_scores(self, i))

    def true_mask(self, image: int | None = None) -> np.ndarray | None:
        """The objects of an image as the model sees it, bool [rows, cols], or None where nothing is known."""
        i = self._image(image)
        return self.remember(("mask", i), lambda: maps.true_mask(self, i))

    def agreement(
        self, heatmap: np.ndarray, image: int | None = None, threshold: float | None = None
    ) -> SegmentationScore | None:
        """A map [rows, cols] scored as a segmentation of the image's objects; None without a true mask.

        threshold: of the map in 0..1, default its mean (the thesis takes 0.5 for neurons).
        """
        return maps.agreement(heatmap, self.true_mask(image), threshold)

    def unit_embedding(self, image: int | None = None, ablation: Ablation | None = None) -> Tensor:
        """The unit embedding of one image, [d_embed]; ablation as in head_scores."""
        i, chosen = self._image(image), self._ablation(ablation)
        if chosen:
            left = ablations.left_of(self, i, chosen)
            return left.embedding / left.norm
        trace = self.trace(i)
        return trace.embedding[0] / trace.norm[0]

    def standing(
        self, text: str, image: int | None = None, text_b: str = "", ablation: Ablation | None = None
    ) -> Standing:
        """Where a text's cosine with an image stands: its rank among the pool's texts, its share over the images.

        text_b and ablation as in head_scores; every cosine that it is compared with is of the same quantity.
        """
        i, chosen = self._image(image), self._ablation(ablation)
        key = ("standing", i, text, text_b, chosen, self.collection.version)
        return self.remember(key, lambda: context.standing(self, text, i, text_b, chosen))

    def familiarity(self, image: int | None = None) -> Familiarity:
        """Whether an image is of the kind that the model knows, and how that is told (clipviz.session.context)."""
        return context.familiarity(self, self._image(image))

    def names_object(self, text: str, image: int | None = None) -> bool | None:
        """Whether a text names what the image's true mask outlines; None where nothing is known of that."""
        return names_object(text, self.images.attributes or {}, self._image(image))

    # -- ablation ----------------------------------------------------------------------------------------------

    def tasks(self) -> dict[str, Task]:
        """The classification tasks that the images pose by themselves; none where nothing is known of their classes."""
        return ablations.tasks(self)

    def typed_task(self, names: str) -> Task:
        """A task of class names typed with commas between them; at least two."""
        return ablations.typed(self, names)

    def ablate(self, ablation: Ablation | None = None, task: Task | str | None = None) -> Outcome:
        """Accuracy on the images read so far, before and after an ablation and under draws of as many heads.

        ablation: default the selection's; task: one of `tasks()`, its name, or one made by `typed_task`; default
        the first. Single MLPs (1 + layer), tokens (0 = the class token, Table A.1) and layers that are not kept are
        measured on up to 1,024 labelled images, traced again; the codes of the collection do not tell them apart.
        Raises ValueError where no labelled image has been read.
        """
        chosen = self._ablation(ablation)
        found = ablations.outcome(self, ablations.task_of(self, task), chosen)
        if found is None:
            raise ValueError(
                "expected labelled images that have been read, got none; wait with session.wait()"
            )
        return found

    def n_labelled(self, task: Task) -> int:
        """How many of a task's labelled images have been read."""
        return ablations.n_labelled(self, task)

    def ablation_desk(
        self,
        task: Task | str | None = None,
        image: int | None = None,
        apart: bool = False,
        class_token: bool = False,
    ) -> Desk | None:
        """Everything that toggling needs for one image; None until the first images, and all examples, are read.

        apart: with every MLP alone, its means from up to 1,024 images traced again; class_token: without what the
        class token writes by attending to itself (Table A.1), which needs them too.
        """
        asked = ablations.task_of(self, task), self._image(image)
        if apart or class_token:
            return ablations.desk_apart(self, *asked, frozenset({0} if class_token else ()))
        return ablations.desk(self, *asked)

    def desk_ablation(self, ablation: Ablation) -> Ablation:
        """The ablation in the desk's terms; ValueError where it names what cannot be ablated alone there."""
        return ablations.on_desk(self, checks.ablation(self.model, ablation))

    def everything_else(self) -> Ablation:
        """All that is not a head kept for the collection: MLPs, the input term, and layers that are not kept."""
        return ablations.everything_else(self)

    def presets(
        self,
        text: str = "",
        image: int | None = None,
        task: Task | None = None,
        cue: tuple[str, str] = ("", ""),
    ) -> list[Preset]:
        """Sets of heads worth ablating: those that carry the task's cue or a typed one (see cue_heads), those of each
        role and property, a text's, the early ones."""
        return ablations.presets(self, text, None if image is None else self._image(image), task, cue)

    def cue_heads(self, text: str, text_b: str, task: Task | str | None = None) -> Preset:
        """The late heads that tell one typed cue from another, such as "the sea" from "a forest" (thesis 2.4).

        A fifth of the heads of the last layers: those whose direct effects vary most along the difference of the two
        texts and least along the classes of `task` (see lens.spurious.cue_heads). Each side is one text, or several
        with commas between them. Raises ValueError until the collection has been read.
        """
        cue = ablations.typed_cue(text, text_b)
        return ablations.cue_heads(self, cue, ablations.task_of(self, task))

    # -- neurons -----------------------------------------------------------------------------------------------

    @property
    def default_layer(self) -> int:
        """The layer whose neurons are shown first: the last but two (the thesis finds layers 8-10 of 12 strongest).

        The last but one where several pooling heads read: statistics grow with the square of the later heads.
        """
        return max(0, self.model.n_layers - (3 if self.model.weights.readout.n_heads == 1 else 2))

    def neuron_layer(self, layer: int | None = None) -> int | None:
        """The layer whose neurons are shown when `layer` is asked for: at most the last that later attention reads.

        None for a model of one layer, where nothing reads the neurons.
        """
        last = self.model.n_layers - 2
        return None if last < 0 else min(self.default_layer if layer is None else layer, last)

    @property
    def neuron_layers(self) -> range:
        """The late layers whose neurons are taken together: 8-10 of 12 (thesis 3.3), see values.neuron_layers."""
        return neuron_layers(self.model.n_layers)

    def neuron_map(
        self,
        text: str = "",
        image: int | None = None,
        text_b: str = "",
        neurons: Sequence[tuple[int, int]] | None = None,
        layers: Sequence[int] | None = None,
        n_neurons: int = N_SEGMENT_NEURONS,
        n_images: int | None = None,
    ) -> np.ndarray:
        """Where neurons are active on an image, [rows, cols], averaged and stretched to 0..1 (Table 3.4, Fig. 3.7).

        neurons: (layer, neuron) pairs; else the n_neurons of `layers` (default the late ones) whose directions are
        most along the text, or along text minus text_b, whichever way they point (top |<r, v>|). n_images: images that
        their directions come from, spread over the collection (None: all). As a mask, it is cut at 0.5.
        """
        i, chosen = self._image(image), self.neuron_layers if layers is None else layers
        count = checks.count("n_neurons", n_neurons)
        target = self.contrast(text, text_b) if neurons is None else None
        if neurons is None and not chosen:
            raise ValueError(
                "expected layers that later attention reads, got none; this model has a single layer"
            )
        return readings.neuron_map(self, i, neurons, target, chosen, count, n_images)

    @property
    def code_size(self) -> int:
        """Texts of a neuron's code unless told otherwise (thesis: 128 for an embedding of 512), at most the pool's."""
        return min(code_size(self.model.weights.d_embed), len(self.texts))

    def neurons(self, layer: int | None = None, n_images: int | None = None) -> LayerNeurons:
        """One layer's neurons over the collection (at most 5,000 images, spread evenly), read now or from the index."""
        with unmixed(self.model.device):
            return readings.read(self, self.default_layer if layer is None else layer, n_images)

    def neuron_reading(self, layer: int) -> Reading:
        """One layer's neurons as they are being read, step by step, for panels; `neurons` reads them at once."""
        return readings.reading_of(self, layer)

    def find_neurons(
        self, by: str = "text", layer: int | None = None, k: int = 14, image: int | None = None
    ) -> Listed:
        """The k neurons of a layer that answer a search for what is selected, best first.

        by: "text", by their effect on the cosine with text A (or A minus B); "image", by the length of their effect on
        the image; or "strength", by its length on their top images. Where no text is selected, the image is asked for;
        where there is no image, the strength.
        """
        known = self.neurons(layer)
        s = self.selection
        image = s.image if image is None else self._image(image)
        reading = self.neuron_reading(known.stats.layer)
        return reading.find(known, by, checks.count("k", k), s.text, s.text_b, image)

    def neuron_effects(self, neuron: int, image: int | None = None, layer: int | None = None) -> Effects:
        """A neuron's second-order effect on an image beside its indirect effect (thesis 3.3), each against its mean.

        The indirect effect is a real intervention: the model runs again with the neuron at its per-token mean over a
        few images.
        """
        known = self.neurons(layer, readings.FIRST)
        chosen = checks.within("neuron", neuron, known.n_neurons)
        return readings.effects(self, chosen, self._image(image), known.stats.layer)

    def neuron_histogram(self, neuron: int, layer: int | None = None, n_bins: int = 8) -> Histogram:
        """How many images a neuron has an effect of which size on, in even intervals, and images of each."""
        known = self.neurons(layer)
        chosen = checks.within("neuron", neuron, known.n_neurons)
        return known.histogram(chosen, checks.count("n_bins", n_bins))

    def describe_neurons(
        self, layer: int, neurons: Sequence[int], n_texts: int = N_WORDS, m: int | None = None
    ) -> list[Code]:
        """Sparse text codes of some neurons (thesis 3.4): signed texts and the share of the direction they rebuild.

        m: texts of a code, default the thesis's (128 for an embedding of 512 and more, see code_size), of
        which the n_texts of largest weight are returned; the share is that of all.
        """
        known = self.neurons(layer)
        chosen = checks.several("neurons", neurons, known.n_neurons)
        count, codes = checks.count("n_texts", n_texts), known.codes(chosen, checks.code_size(m))
        return [code._replace(words=code.words[:count]) for code in codes]

    def neuron_direction(self, text: str, text_b: str = "") -> Tensor:
        """What neurons are compared with: a text minus the pool's mean, which all texts share; or minus text_b."""
        return self.direction(text) - (self.direction(text_b) if text_b else self.pool().mean(0))

    def nearest_texts(
        self, image: int | None = None, k: int = 5, ablation: Ablation | None = None
    ) -> list[tuple[str, float]]:
        """The texts of the pool that are nearest to an image by cosine, best first; ablation as in head_scores."""
        cosines = self.pool() @ self.unit_embedding(image, ablation)
        found = cosines.topk(min(checks.count("k", k), len(self.texts)))
        return [
            (self.texts[j], value)
            for j, value in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]

    def concepts_of(
        self, image: int | None = None, layer: int | None = None, k: int = 10, m: int | None = None
    ) -> list[tuple[str, float]]:
        """The texts that an image's activated neurons write, with their scores, best first (thesis 3.5, Fig. B.1).

        m: texts of a neuron's code, as in describe_neurons.
        """
        layer, k = self.default_layer if layer is None else layer, checks.count("k", k)
        return readings.concepts_of(self, self._image(image), layer, k, checks.code_size(m))

    # -- spurious cues -----------------------------------------------------------------------------------------

    def cue_classes(self) -> tuple[str, ...]:
        """Classes that pictures can be drawn of here; none where nothing or anything can (see can_draw)."""
        return self.studio.classes if self.studio else ()

    @property
    def studio(self) -> Studio | None:
        """Who writes and draws for spurious cues: the one set here, else that of the model's bundle.

        Set it to clipviz.analysis.cues.studio(describe, draw): describe(words, class_name, avoid) writes sentences,
        draw(sentence, seed) paints them. The Cues desk then draws any class.
        """
        return self._studio or cue_words.studio_of(self.model)

    @studio.setter
    def studio(self, studio: Studio | None) -> None:
        if studio is not None and not hasattr(studio, "writer"):
            raise ValueError(
                f"expected a studio, got {type(studio).__name__}; clipviz.analysis.cues.studio(describe, draw) "
                "makes one"
            )
        self._studio = studio
        self.refresh()

    def can_draw(self, name: str) -> bool:
        """Whether pictures of a class can be drawn here."""
        return self.studio is not None and self.studio.draws(name)

    @property
    def first_pair(self) -> tuple[str, str]:
        """The class drawn and the class it should be taken for, at first; empty names where nothing can be drawn."""
        return self.studio.pair if self.studio else ("", "")

    @staticmethod
    def check_pair(pair: tuple[str, str]) -> None:
        """ValueError unless these are two different class names: that of the class drawn and that it is taken for."""
        cue_words.check_pair(*pair)

    def class_text(self, name: str) -> str:
        """The text that stands for a class: "a horse", "grapes"."""
        return cue_words.prompt(self.model, name)

    def cue_source(self, layers: int | Sequence[int] | None = None, m: int | None = None) -> Source:
        """The words and sparse codes of some layers' neurons, from which cues are chosen.

        layers: default the late ones (`neuron_layers`); m: texts of a code, as in describe_neurons.
        """
        chosen = self.neuron_layers if layers is None else [layers] if isinstance(layers, int) else layers
        known = [self.neurons(layer) for layer in chosen]
        key = ("cue source", *((one.stats.layer, one.stats.count) for one in known), checks.code_size(m))
        return self.remember(key, lambda: cue_words.source(known, self.pool(), m))

    def cue_steps(self, known: Sequence[LayerNeurons], m: int | None = None) -> Iterator[Source | None]:
        """The same in short steps for work between clicks: None until the last, which is the source."""
        return cue_words.coding(known, self.pool(), checks.code_size(m))

    def cues(
        self,
        pair: tuple[str, str],
        layers: int | Sequence[int] | None = None,
        n_words: int = cue_words.N_WORDS,
        source: Source | None = None,
        m: int | None = None,
    ) -> list[Cue]:
        """The words that pull pictures of pair[0] towards pair[1] by way of some layers' neurons (Eq. 3.4).

        layers and m as in cue_source; source: one that is there already.
        """
        self.check_pair(pair)
        source = self.cue_source(layers, m) if source is None else source
        return cue_words.cues(self.model, source, *pair, n_words=checks.count("n_words", n_words))

    def attack(
        self,
        pair: tuple[str, str],
        seed: int = 0,
        layers: int | Sequence[int] | None = None,
        n_sentences: int = 10,
        n_images: int = 10,
        m: int | None = None,
        describe: Describe | None = None,
        draw: Draw | None = None,
    ) -> dict[str, tuple[list[str], Attack]]:
        """Pictures made to fool the model, by every method of Table 3.3: method -> (its words, its pictures).

        layers and m as in cue_source. describe, draw: who writes and who paints (see `studio`), both or neither.
        """
        if (describe is None) != (draw is None):
            raise ValueError("expected describe and draw together, got one of them; give both or neither")
        own = None if describe is None or draw is None else cue_words.studio(describe, draw)
        self.check_pair(pair)
        source = self.cue_source(layers, m)
        return cue_words.attack_pair(
            self.model,
            source,
            pair,
            seed,
            n_sentences=n_sentences,
            n_images=n_images,
            studio=own or self.studio,
        )

    def attack_steps(
        self, source: Source, pair: tuple[str, str], seed: int, n_sentences: int, n_images: int
    ) -> Iterator[tuple[str, list[str], Attack]]:
        """(method, its words, its pictures), one after the other, for work between clicks."""
        return cue_words.attempts(self.model, source, pair, seed, n_sentences, n_images, self.studio)

    def drawable(self, texts: Sequence[str], pair: tuple[str, str]) -> list[bool]:
        """Whether each word can be drawn into a picture of pair[0] here."""
        return cue_words.drawable(self.studio, texts, pair)

    def pair_map(self, picture: Image.Image, pair: tuple[str, str]) -> np.ndarray:
        """Effects of a picture's tokens [rows, cols]: above 0 where they write towards pair[1] (Fig. 3.6)."""
        return cue_words.pair_map(self.model, picture, pair)

    # -- units shared with other models ------------------------------------------------------------------------

    def rosetta(
        self,
        folder: str | Path | None = None,
        partners: Mapping[str, Any] | None = None,
        pivot: str = "clip",
    ) -> SharedUnits:
        """The dictionary of units that the model shares with others: mined here, a shipped one, or that of a folder.

        partners: model name -> network, for models that are not shipped. pivot: whose units are the rows of the shipped
        one, "clip" or "generator" (Eq. 4.4). Raises ValueError when there is no dictionary for this model.
        """
        own = len(self._mined) if not folder and pivot == shared_units.CLIP else 0
        if own:
            folder, partners = self._mined[-1][0], {**self._mined[-1][1], **(partners or {})}
        names = tuple(sorted((name, id(partner)) for name, partner in (partners or {}).items()))
        key = ("rosetta", str(folder or ""), names, pivot, own)
        painted = self.workbench.painted
        return self.remember(
            key, lambda: shared_units.open_shared(self, folder, partners, pivot, painted.get)
        )

    def mine(
        self,
        folder: str | Path,
        partners: Sequence[Any] = ("cnn",),
        n_images: int = 256,
        **options: Unpack[MiningOptions],
    ) -> SharedUnits:
        """Look for the units that the model shares with partners on the session's images (Eq. 4.3, 4.4).

        folder: where the dictionary is saved. partners: names that clipviz.load_partner knows, or models. n_images:
        how many images are drawn; a quarter of them is held out for the correlations that are shown. options: at_least
        (partners that a row needs, default all), above (what a correlation must exceed that on shuffled images by),
        k (neighbours, 5) and others of clipviz.analysis.mining.mine. The Rosetta panel shows what was found.
        Raises ValueError for too few images, or where no unit is shared beyond chance.
        """
        self._mined.append(mining.mine(self, folder, partners, n_images, options))
        self.refresh()
        return self.rosetta()

    # -- pictures that follow shared units ---------------------------------------------------------------------

    @property
    def generator(self) -> Any:
        """The generator that edits and inversions use: the one set here, else that of the model's bundle."""
        return generation.generator_of(self)

    @generator.setter
    def generator(self, generator: Any) -> None:
        self._generator = generator

    def generator_concepts(self) -> list[GeneratorConcept]:
        """The generator's units that other models share (Eq. 4.3), those that light up together as one named concept.

        Each has .name, the text whose heatmap is most like its maps, .similarity, .units and .readers.
        """
        return generation.concepts(self)

    @property
    def workbench(self) -> Workbench:
        """The picture that the generator is painting, as the Generate desk shows it: begin, follow, said, keep."""
        if self._workbench is None:
            self._workbench = Workbench(self)
        return self._workbench

    def edit(
        self,
        latents: Any,
        change: str = "none",
        concepts: Sequence[int] | None = None,
        right: float = 0.0,
        down: float = 0.0,
        factor: float = 1.0,
        schedule: Schedule | None = None,
        progress: Progress | None = None,
    ) -> Edited:
        """Change the maps of shared units and search the latents that follow (thesis 4.4, Fig. 4.7, 4.8).

        latents: from `generator.sample`. change: "none", "zoom" (factor), "shift" (right, down, as shares of the
        sides), "copy", "remove" or "amplify" (factor). concepts: indices into `generator_concepts()`, default all; the
        others are asked to stay. schedule, progress: as in clipviz.lens.invert.invert; default the thesis's 500 steps,
        where the Generate desk takes 40 to follow a hand (clipviz.session.workbench.LIVE).
        Returns .latents, .images [image, 3, rows, cols], .source, and .distance [image] of the maps from those asked.
        """
        how = {"right": right, "down": down, "factor": factor, "schedule": schedule, "progress": progress}
        return generation.edit(self, latents, change, concepts, **how)

    def invert(
        self,
        image: int | None = None,
        label: str | int | None = None,
        pixels: bool = True,
        seed: int = 0,
        alpha: float = 0.1,
        beta: float = 1.0,
        schedule: Schedule | None = None,
        progress: Progress | None = None,
    ) -> Edited:
        """Latents whose picture is like an image, guided by shared units (Eq. 4.7), or by these alone (Eq. 4.5).

        image: default the selected one. label: class of a class-conditional generator, default the one that the model
        names; another one translates the image into that class (Fig. 4.5). pixels=False compares maps alone, by their
        cosine, for images from outside the generator's world (Fig. 4.4). seed: of the random starts, of which the best
        is taken. schedule: default the thesis's 500 steps; the Generate desk takes 120
        (clipviz.session.workbench.INVERSION).
        """
        i = self._image(image)
        return generation.invert(self, i, label, pixels, seed, alpha, beta, schedule, progress)

    def visualise(
        self,
        concept: int,
        n_starts: int = 6,
        seed: int = 0,
        schedule: Schedule | None = None,
        progress: Progress | None = None,
    ) -> Edited:
        """Several pictures that share the map of a concept's first unit, from random starts (thesis 4.4, Fig. 4.1)."""
        return generation.visualise(self, concept, n_starts, seed, schedule, progress)

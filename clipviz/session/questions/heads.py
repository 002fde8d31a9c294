"""What is asked of heads: direct effects, TextSpan, labels and the roles that a person gives them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from clipviz.lens import textspan as textspan_lens
from clipviz.session import checks, heads
from clipviz.session.heads import Description, HeadFound, HeadScores, Label
from clipviz.session.state import SessionState
from clipviz.values import Ablation, Head

SHOWN_TEXTS = 10
MOST_DRAWS = 10_000
"""Random rotations of a head, each of which holds some kilobytes."""


class HeadQuestions(SessionState):
    """The methods of a session about heads."""

    def head_scores(
        self, text: str, image: int | None = None, text_b: str = "", ablation: Ablation | None = None
    ) -> HeadScores:
        """Direct effect of every head and MLP on the cosine of an image and a text (Eq. 2.4, 2.6).

        With text_b, on that cosine minus the one with text_b. ablation: default the selection's; Ablation() for the
        whole model. The effects add up to `cosine`, which is that of the ablated embedding.
        """
        i, chosen = self._image(image), self._ablation(ablation)
        text, text_b = checks.text("text", text), checks.text("text_b", text_b)
        key = ("heads", i, text, text_b, chosen, self._means_version(chosen))
        return self.remember(key, lambda: heads.head_scores(self._session, text, i, text_b, chosen))

    def head_variance(self, images: Sequence[int] = ()) -> np.ndarray:
        """Share of the heads' summed variance that each head has over the collection, [layer, head]."""
        return heads.variance_shares(self._session, self._images(images))

    def span(self, images: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Covariance of every head's effects in its own span, and the spans, for the images read so far."""
        images = self._images(images)

        def make() -> tuple[Tensor, Tensor]:
            return textspan_lens.head_span(self.collection.basis, self.collection.head_covariance(images))

        return self.remember(("span", self.collection.version, images), make)

    def head_span(self, layer: int, head: int, images: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Covariance of one head's effects in its own span, [1, rank, rank], and that span, [1, d_embed, rank]."""
        at, images = self._head(layer, head), self._images(images)

        def make() -> tuple[Tensor, Tensor]:
            basis = self.collection.basis.select([at[0]], [at[1]])
            return textspan_lens.head_span(basis, self.collection.head_covariance(images, at))

        return self.remember(("head span", self.collection.version, at, images), make)

    def textspan(
        self, layer: int, head: int, n_texts: int = SHOWN_TEXTS, images: Sequence[int] = (), n_draws: int = 20
    ) -> Description:
        """The texts that explain a head's variance over the images (Alg. 1), and its null (n_draws=0: without).

        Raises ValueError for a head that writes the same on all of the images.
        """
        layer, head = self._head(layer, head)
        images, n_texts = self._images(images), checks.count("n_texts", n_texts)
        n_draws = checks.count("n_draws", n_draws, least=0, most=MOST_DRAWS)
        key = ("textspan", self.collection.version, layer, head, n_texts, images, n_draws)
        return self.remember(
            key, lambda: heads.describe(self._session, layer, head, n_texts, images, n_draws)
        )

    def varies(self, layer: int, head: int, images: Sequence[int] = ()) -> bool:
        """Whether a head writes differently on the images, so that texts can explain how."""
        return textspan_lens.varies(self.head_span(layer, head, images)[1][0])

    def label(self, layer: int, head: int, images: Sequence[int] = ()) -> Label:
        """What a head is about, if random rotations of it do not do as well; defined in clipviz.analysis.heads.labels.

        The reports' tables of heads show the same label. Images added by hand count only where `images` names them.
        """
        layer, head = self._head(layer, head)
        images = self._images(images)
        if images:
            key = ("label", self.collection.version, layer, head, images)
            return self.remember(key, lambda: heads.label(self._session, layer, head, images))
        known = self.known_labels()
        if (layer, head) not in known:
            known[layer, head] = heads.label(self._session, layer, head, heads.read_images(self._session))
        return known[layer, head]

    def find_heads(self, text: str) -> list[HeadFound]:
        """The heads whose effects vary with a text, by the share of variance along it; none where none stands out.

        A head is found where it varies more along the text than along 95% of the pool's texts (mean direction taken
        out of all), whatever its label says.
        """
        key = ("find heads", self.collection.version, checks.text("text", text))
        return self.remember(key, lambda: heads.find(self._session, text))

    @property
    def heads(self) -> list[Head]:
        """Every head kept for the collection, as (layer, head)."""
        return [(layer, head) for layer in self.collection.layers for head in range(self.model.n_heads)]

    @property
    def labelled(self) -> bool:
        """Whether every head has its label, so that head_summaries() costs nothing."""
        return len(self.known_labels()) == len(self.heads)

    def head_summaries(self) -> dict[str, dict[str, Any]]:
        """Label, first texts and a person's own role of every head kept, keyed "layer,head"."""
        found, roles = {}, self.roles()
        between = self.telling("Labelling the heads", len(self.heads))
        for place, (layer, head) in enumerate(self.heads):
            between(place)
            own = roles.get((layer, head), "")
            found[f"{layer},{head}"] = {**heads.summary(self.label(layer, head)), "role": own}
        between(len(self.heads))
        return found

    def roles(self) -> dict[Head, str]:
        """What a person calls heads of this model, (layer, head) -> role; kept between sessions (data.roles)."""
        return self._roles.all()

    def set_role(self, layer: int, head: int, role: str) -> None:
        """Give a head a role, such as "background", shown beside its computed label; "" removes it."""
        at = (
            checks.within("layer", layer, self.model.n_layers),
            checks.within("head", head, self.model.n_heads),
        )
        self._roles.set(at, checks.text("role", role))
        self.refresh()

    def label_heads(self) -> None:
        """Label every head behind everything else; panels are refreshed when that is done."""
        if not self.labelled and self._labels_asked != heads.read_version(self._session):
            self._labels_asked = heads.read_version(self._session)
            self.worker.background(heads.labelling(weakref.ref(self._session)))

    def known_labels(self) -> dict[Head, Label]:
        """The labels of the collection as it was read, those that have been found."""
        return self.keep(("labels", heads.read_version(self._session)), dict)

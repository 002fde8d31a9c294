"""The first view of a board, and the views of its tour's steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipviz.session.state import State
from clipviz.session.topics.ablation import AblationTopic
from clipviz.session.topics.heads import HeadTopic
from clipviz.session.topics.texts import TextTopic
from clipviz.values import Ablation, Selection

if TYPE_CHECKING:
    from clipviz.models.bundle import TourStep


def first_selection(state: State, heads: HeadTopic) -> Selection:
    """Return the first view of the model's bundle, or the last layer's first head on the first image."""
    plain = Selection(image=0, layer=state.model.n_layers - 1, head=0)
    first = state.model.bundle.first if state.model.bundle else None
    if first is None or not state.images.captions:
        return plain
    image = first.image(state.images)
    try:
        layer, head = heads.strongest(first.quality, image)
    except (ValueError, OSError):  # its file is missing and there is no thumbnail; the panels say so
        return plain.replace(image=image, text=first.text)
    return Selection(image=image, layer=layer, head=head, text=first.text)


def first_text(state: State, texts: TextTopic, heads: HeadTopic) -> Selection | None:
    """Return the selection with a text and the head that writes most towards it. The text is the one nearest to the
    image, from the pool of a model that brings one, else from the examples. Returns None if an image cannot be read;
    the panels then say so.
    """
    selection, bundle = state.selection, state.model.bundle
    image = selection.image
    assert image is not None
    try:
        if bundle is not None and bundle.texts is not None:
            text = texts.nearest(image, 1)[0][0]
        else:
            embedding, examples = state.trace(image).embedding[0], texts.examples
            text = examples[int((state.model.encode_texts(list(examples)) @ embedding).argmax())]
        layer, head = heads.strongest(text, image)
    except (ValueError, OSError):
        return None
    return selection.replace(text=text, layer=layer, head=head)


def step_selection(state: State, heads: HeadTopic, ablation: AblationTopic, step: TourStep) -> Selection:
    """Return a tour step's selection. Raises ValueError while the collection that it needs is being read."""
    selection = state.selection.replace(**step.select)
    if step.image is not None:
        selection = selection.replace(image=step.image(state.images))
    if step.quality and selection.image is not None:
        layer, head = heads.strongest(step.quality, selection.image)
        selection = selection.replace(layer=layer, head=head)
    if not step.without_shortcut:
        return selection
    tasks = ablation.tasks()
    if step.without_shortcut not in tasks:
        raise ValueError(
            f"This step needs images with the classes of {step.without_shortcut!r}. The tasks of "
            f"these images are: {', '.join(tasks) or 'none'}."
        )
    shortcut = [one for one in ablation.presets(task=tasks[step.without_shortcut]) if one.kind == "shortcut"]
    if not shortcut:
        read, n_images = state.collection.n_ready, len(state.images)
        raise ValueError(
            f"The collection is being read ({read:,} of {n_images:,} images). Press Next when it is complete."
        )
    return selection.replace(ablation=Ablation(heads=frozenset(shortcut[0].heads)))

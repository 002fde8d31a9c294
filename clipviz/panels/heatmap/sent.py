"""The data from which the heatmap is drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import Floats, Uint8s


class Far(TypedDict):
    """Why an image differs from what the model was trained on."""

    known: bool
    why: str
    cosine: float
    share: float
    n_images: int


class PercentilesShown(TypedDict):
    """The image's rank among the pool's texts and among the images."""

    cosine: float
    rank: int | None
    n_texts: int
    share: float
    n_images: int


class ContextShown(TypedDict):
    """What the cosine is compared with. true: for each of the nearest texts whether it is true, if known."""

    nearest: list[tuple[str, float]]
    true: list[bool | None] | None
    far: Far | None
    percentiles: PercentilesShown | None


class JointShown(TypedDict):
    """The texts of the head that agree most and least with the image."""

    message: str
    texts: list[str]
    values: list[float]
    n_texts: int


class HeatmapView(TypedDict, total=False):
    """The view. mask_size: rows and columns of the true mask; fits: whether the text names an object of the image."""

    message: str
    rows: int
    cols: int
    mask_size: list[int] | None
    n_layers: int
    n_heads: int
    n_late: int
    pools: bool
    baselines: list[str]
    ignoring: list[str]
    neuron_layers: list[int]
    neuron_threshold: float
    cosine: float | None
    cosine_before: float | None
    fits: bool | None
    context: ContextShown | None
    title: str
    picture: tuple[int, str]
    joint: JointShown | None


BaselineArrays = TypedDict(
    "BaselineArrays",
    {
        "LRP": Floats,
        "partial LRP": Floats,
        "rollout": Floats,
        "raw attention": Floats,
        "Grad-CAM": Floats,
        "Chefer et al.": Floats,
        "Chefer et al. (generic)": Floats,
    },
    total=False,
)


class HeatmapArrays(BaselineArrays, total=False):
    """The heatmap's arrays. attention, scores, shared: [layer, head, token]; joint_maps: [text, token]; the other
    methods' maps, named as in view.baselines: [row, column].
    """

    attention: Floats
    scores: Floats
    shared: Floats
    pool: Floats
    mask: Uint8s
    neurons: Floats
    neuron: Floats
    joint_maps: Floats

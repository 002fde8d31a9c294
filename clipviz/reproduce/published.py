"""The numbers printed in the thesis, by open_clip architecture (weights trained on LAION-2B), in 0..1.

They are shown beside measured ones if the model is the published one; `heading` states whether the data are too.
"""

from __future__ import annotations

TABLE_2_1 = {  # ImageNet zero-shot: base, all MLPs mean-ablated
    "ViT-B-16": (0.7022, 0.6704),
    "ViT-L-14": (0.7525, 0.7412),
    "ViT-H-14": (0.7795, 0.7630),
}
TABLE_A_1 = {  # base, class token mean-ablated, and the MLPs too
    "ViT-B-16": (0.7022, 0.6937, 0.6732),
    "ViT-L-14": (0.7525, 0.7438, 0.7387),
    "ViT-H-14": (0.7795, 0.7689, 0.7629),
}
FIGURE_2_3 = {"ViT-L-14": (60, 0.7277)}  # texts per head, accuracy with general descriptions
TABLE_2_3 = {  # worst group on Waterbirds: base, best of 5 random draws, background heads ablated
    "ViT-B-16": (0.456, 0.523, 0.575),
    "ViT-L-14": (0.477, 0.577, 0.729),
    "ViT-H-14": (0.372, 0.370, 0.433),
}
TABLE_A_7 = {  # all of Waterbirds: base, background heads ablated
    "ViT-B-16": (0.767, 0.838),
    "ViT-L-14": (0.731, 0.842),
    "ViT-H-14": (0.770, 0.841),
}
TABLES_A_8_TO_10 = {  # Waterbirds by group: base, background heads ablated
    "ViT-L-14": {
        "waterbird on water": (0.931, 0.921),
        "waterbird on land": (0.662, 0.778),
        "landbird on water": (0.477, 0.729),
        "landbird on land": (0.948, 0.949),
    },
    "ViT-H-14": {
        "waterbird on water": (0.698, 0.623),
        "waterbird on land": (0.372, 0.433),
        "landbird on water": (0.710, 0.879),
        "landbird on land": (0.964, 0.980),
    },
    "ViT-B-16": {
        "waterbird on water": (0.861, 0.805),
        "waterbird on land": (0.635, 0.816),
        "landbird on water": (0.456, 0.575),
        "landbird on land": (0.961, 0.943),
    },
}
TABLE_2_4 = {  # ImageNet-Segmentation, ViT-L-14: pixel accuracy, mIoU, mAP
    "LRP": (0.5281, 0.3357, 0.5437),
    "partial LRP": (0.6149, 0.4071, 0.7229),
    "rollout": (0.6063, 0.4064, 0.7447),
    "raw attention": (0.6567, 0.4383, 0.7605),
    "Grad-CAM": (0.7027, 0.4450, 0.7030),
    "Chefer et al.": (0.6921, 0.4747, 0.7829),
    "token decomposition": (0.7521, 0.5450, 0.8161),
}
TABLE_3_1 = {  # ImageNet, layer 9: accuracy after mean-ablation, variance of the first component
    "indirect": (0.523, 0.110),
    "second-order": (0.296, 0.482),
}
TABLE_3_3 = {  # share of 100 drawn images that fool the classifier: random, indirect, similar words, second order
    "horse → automobile": (0.010, 0.028, 0.010, 0.053),
    "dog → deer": (0.003, 0.063, 0.033, 0.227),
    "bird → frog": (0.003, 0.010, 0.050, 0.080),
    "ship → truck": (0.000, 0.000, 0.000, 0.057),
    "ship → automobile": (0.013, 0.000, 0.013, 0.070),
}
TABLE_3_4 = {  # ImageNet-Segmentation: pixel accuracy, mIoU, mAP
    "partial LRP": (0.550, 0.355, 0.669),
    "rollout": (0.618, 0.426, 0.740),
    "LRP": (0.629, 0.358, 0.685),
    "Grad-CAM": (0.673, 0.393, 0.619),
    "Chefer et al.": (0.689, 0.491, 0.797),
    "raw attention": (0.696, 0.498, 0.800),
    "token decomposition": (0.765, 0.581, 0.841),
    "neurons": (0.781, 0.590, 0.849),
}

LAION_2B = "laion2b"
IMAGENET, WATERBIRDS, SEGMENTATION = "ImageNet", "Waterbirds", "ImageNet-Segmentation"
N_WATERBIRDS = 5_794
"""Number of images in the test part, by which the data set is recognised."""


def heading(data: str, same: bool) -> str:
    """Return the heading of published numbers beside measured ones, on the thesis's data or on others."""
    return f"thesis, {data}" if same else f"published, on {data}"


def for_model(table: dict, name: str, pretrained: str) -> tuple[float, ...] | dict | None:  # type: ignore[type-arg]
    """Return a row of a table if the model is the one that the thesis measured."""
    return table.get(name.replace("/", "-")) if pretrained.startswith(LAION_2B) else None


def chapter_3_model(name: str, pretrained: str) -> bool:
    """Return whether the model is the one in chapter 3's tables: OpenAI's ViT-B/32."""
    return name.replace("/", "-") in ("ViT-B-32", "ViT-B-32-quickgelu") and pretrained == "openai"

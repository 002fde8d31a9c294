"""An image's embedding as a sparse sum of texts with positive weights, a baseline for concept discovery.

SpLiCE (Bhalla, Oesterling, Srinivas, Calmon and Lakkaraju 2024, "Interpreting CLIP with sparse linear concept
embeddings"). Images and texts lie in two separate cones. Each side is therefore centred by its own mean and
normalised again: z = unit(unit(image) - image mean), c_j = unit(unit(text j) - text mean). Then w = argmin_{w >=
0} 1/2 |z - sum_j w_j c_j|^2 + penalty sum_j w_j,
solved by scikit-learn's coordinate descent. The embedding that a code stands for is unit(unit(sum_j w_j c_j) + image
mean).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

PENALTY = 0.25
TOLERANCE, MOST_ROUNDS = 1e-8, 100_000


@dataclass(frozen=True, eq=False)
class ConceptCodes:
    """weights: [image, text], 0 or positive. cosine: of each image's embedding with the one that its code stands for,
    [image]; 0 for an image without any text. reconstruction: [image, d_embed], unit vectors."""

    weights: Float[Tensor, "image text"]
    reconstruction: Float[Tensor, "image d_embed"]
    cosine: Float[Tensor, " image"]

    @property
    def n_texts(self) -> Float[Tensor, " image"]:
        """The number of texts in each code."""
        return (self.weights > 0).sum(1).to(self.weights)

    def strongest(self, image: int, n: int = 10) -> list[tuple[int, float]]:
        """Return the texts of largest weight of one image.

        Args:
            image: Index of the image.
            n: The number of texts, at most.

        Returns:
            (text, weight) pairs; texts of weight zero are omitted.
        """
        order = self.weights[image].argsort(descending=True, stable=True)[:n].tolist()
        return [(text, float(self.weights[image, text])) for text in order if self.weights[image, text] > 0]


def concept_codes(
    embeddings: Float[Tensor, "image d_embed"],
    text_directions: Float[Tensor, "text d_embed"],
    image_mean: Float[Tensor, " d_embed"],
    penalty: float = PENALTY,
) -> ConceptCodes:
    """Return sparse codes of images over a pool of texts. Neither needs to be of unit length.

    Args:
        embeddings: [image, d_embed].
        text_directions: The pool, [text, d_embed], which is centred by its own mean.
        image_mean: Mean of the unit embeddings of a collection, by which the images are centred, [d_embed].
        penalty: A larger one gives fewer texts; from 1 on there are none.

    Returns:
        Weights, reconstructions and their cosines with the embeddings.

    Raises:
        ValueError: The widths differ, there are fewer than two texts, or the penalty is not positive.

    >>> images, texts = torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> concept_codes(images, texts, torch.tensor([0.6, 0.6])).weights.gt(0).tolist()
    [[True, False]]
    """
    from sklearn.linear_model import Lasso

    if text_directions.ndim != 2 or len(text_directions) < 2:
        raise ValueError(
            f"expected a pool [text, d_embed] of at least two texts, got {list(text_directions.shape)}; encode it with "
            "model.encode_texts(texts)"
        )
    widths = {embeddings.shape[-1], text_directions.shape[-1], image_mean.shape[-1]}
    if embeddings.ndim != 2 or image_mean.ndim != 1 or len(widths) > 1:
        raise ValueError(
            f"expected embeddings [image, d_embed] and an image mean [d_embed] of the texts' width, got "
            f"{list(embeddings.shape)}, {list(image_mean.shape)} and {list(text_directions.shape)}"
        )
    if not penalty > 0:
        raise ValueError(f"expected a positive penalty, got {penalty!r}; a smaller one keeps more texts")
    images, texts = _unit(embeddings.double()), _unit(text_directions.double()).to(embeddings.device)
    mean = image_mean.double().to(embeddings.device)
    targets, atoms = _unit(images - mean), _unit(texts - texts.mean(0))
    design = atoms.T.cpu().numpy()
    solver = Lasso(
        alpha=penalty / len(design),  # scikit-learn divides the squares by the number of rows
        positive=True,
        fit_intercept=False,
        precompute=True,
        tol=TOLERANCE,
        max_iter=MOST_ROUNDS,
    )
    found = [solver.fit(design, target).coef_.copy() for target in targets.cpu().numpy()]
    weights = torch.stack([torch.as_tensor(one) for one in found]).to(embeddings.device)
    rebuilt = _unit(_unit(weights @ atoms) + mean)
    cosine = (rebuilt * images).sum(1) * (weights > 0).any(1)
    return ConceptCodes(weights.to(embeddings), rebuilt.to(embeddings), cosine.to(embeddings))


def _unit(rows: Float[Tensor, "row d_embed"]) -> Float[Tensor, "row d_embed"]:
    found: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return found

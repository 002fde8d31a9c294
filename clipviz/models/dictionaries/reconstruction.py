"""How well a dictionary reconstructs its point on some images. A wrong convention or layer shows here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.models.dictionaries.dictionary import Dictionary
from clipviz.models.dictionaries.fitting import check_fits
from clipviz.models.dictionaries.points import read_point, reading
from clipviz.values.tables import Table

if TYPE_CHECKING:
    from clipviz.models.opened import Opened, Pictures

BATCH = 32
LITTLE = 0.5
"""If the explained share is lower than this, a dictionary hardly reconstructs its point on these images."""


@dataclass(frozen=True)
class Fit:
    """The fit of a dictionary. explained: 1 - sum |error|^2 / sum |x - mean|^2 over tokens, negative if the mean
    alone does better. n_active: active features per token, on average (L0). n_dead: features that no token
    activates.
    """

    explained: float
    n_active: float
    n_dead: int
    n_units: int
    n_tokens: int


@dataclass(frozen=True, repr=False)
class Reconstruction(Table, Fit):
    """The fit on some images, and the embedding when the reconstruction replaces the point's values.

    cosine: that of this embedding with the original one, mean over images. cosine_of_mean: the same when the
    point's mean over tokens and images replaces its values, the baseline of a dictionary without any information
    about the token.
    """

    cosine: float
    cosine_of_mean: float
    n_images: int

    def __str__(self) -> str:
        doubt = (
            " This is a low share: check the layer, the point and the format's convention."
            if self.explained < LITTLE
            else ""
        )
        return (
            f"The reconstruction explains {self.explained:.1%} of the variance with {self.n_active:.1f} active "
            f"features per token; {self.n_dead:,} of {self.n_units:,} features are dead on these {self.n_images} "
            f"images. With it in place, the cosine of the embedding with the original is {self.cosine:.3f} "
            f"(with the mean in place: {self.cosine_of_mean:.3f}).{doubt}"
        )


def measure(model: Opened, images: Pictures, dictionary: Dictionary) -> Reconstruction:
    """Measure the reconstruction of a dictionary on some images, in two passes.

    A dictionary for the class token alone is measured and substituted at the first token only.

    Args:
        model: The model.
        images: As in `ClipModel.trace`.
        dictionary: Directions at one point of this model; another width or layer raises ValueError.

    Returns:
        The fit, and the cosine of the embedding with the reconstruction in place.
    """
    check_fits(model, dictionary)
    pixels = model.prepare(images)
    here = dictionary.to(pixels.device)
    layer, point = dictionary.layer, dictionary.point
    sums, embeddings = Sums(dictionary.n_units), []
    for batch in pixels.split(BATCH):
        stream, embedding = read_point(model, batch, layer, point)
        sums.add(here, _seen(here, stream))
        embeddings.append(embedding)
    mean = sums.mean

    def rebuilt(stream: Tensor) -> Tensor:
        seen = _seen(here, stream)
        replaced = here.to(dtype=_precision(seen)).reconstruct(seen.to(_precision(seen)))
        return torch.cat([replaced.to(stream.dtype), stream[:, seen.shape[1] :]], 1)

    def even(stream: Tensor) -> Tensor:
        seen = _seen(here, stream)
        return torch.cat([mean.to(stream).expand_as(seen), stream[:, seen.shape[1] :]], 1)

    whole = torch.cat(embeddings)
    cosines = []
    for reader in (rebuilt, even):
        with torch.no_grad(), reading(model, layer, point, reader):
            changed = torch.cat([model.encode_images(batch) for batch in pixels.split(BATCH)])
        cosines.append(float(torch.cosine_similarity(changed.double(), whole.double(), dim=-1).mean()))
    return Reconstruction(
        **vars(sums.fit()), cosine=cosines[0], cosine_of_mean=cosines[1], n_images=len(pixels)
    )


def fit(dictionary: Dictionary, stream: Float[Tensor, "image token d_in"]) -> Fit:
    """Return the fit of a dictionary to the values at its point.

    Args:
        dictionary: The dictionary.
        stream: The values, [image, token, d_in].

    Returns:
        Explained variance and active features.
    """
    sums = Sums(dictionary.n_units)
    sums.add(dictionary, _seen(dictionary, stream))
    return sums.fit()


class Sums:
    """Sums over tokens, in float64, from which a fit is computed."""

    def __init__(self, n_units: int) -> None:
        self.count, self.error, self.squares, self.n_active = 0, 0.0, 0.0, 0.0
        self.total: Tensor = torch.zeros(())
        self.used = torch.zeros(n_units, dtype=torch.bool)

    def add(self, dictionary: Dictionary, stream: Tensor) -> None:
        inputs = stream.flatten(0, -2)
        here = dictionary.to(inputs.device, inputs.dtype)
        for part in _pieces(inputs, here.n_units):
            encoded = here.encode(part)
            active = encoded.activations != 0
            left = part - encoded.activations @ here.decoder - encoded.offset
            self.error += float(left.double().square().sum())
            self.squares += float(part.double().square().sum())
            self.total = self.total + part.double().sum(0).cpu()
            self.n_active += float(active.sum())
            self.used |= active.any(0).cpu()
            self.count += len(part)

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    def fit(self) -> Fit:
        spread = self.squares - self.count * float(self.mean.square().sum())
        return Fit(
            1 - self.error / spread if spread > 0 else float("nan"),
            self.n_active / self.count,
            int((~self.used).sum()),
            len(self.used),
            self.count,
        )


def _pieces(inputs: Tensor, n_units: int, entries: int = 1 << 25) -> Iterator[Tensor]:
    """Yield groups of rows whose activations fit in memory together."""
    yield from inputs.split(max(1, entries // n_units))


def _seen(dictionary: Dictionary, stream: Tensor) -> Tensor:
    """Return the tokens that the dictionary was trained for."""
    return stream[:, :1] if dictionary.cls_token_only else stream


def _precision(stream: Tensor) -> torch.dtype:
    return torch.float64 if stream.dtype == torch.float64 else torch.float32

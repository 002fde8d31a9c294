"""Latents: the inputs from which a generator makes images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents of a class-conditional generator: z [image, latent] and the index of each one's class, label [image].

    `len(latents)`, `latents[3]`, `latents[:8]` and `latents.take([5, 2])` select some of them. Raises ValueError
    if the shapes do not agree or a label is not a valid index.
    """

    z: Float[Tensor, "image latent"]
    label: Int[Tensor, " image"]

    def __post_init__(self) -> None:
        import torch

        if self.z.ndim != 2 or not self.z.is_floating_point():
            raise ValueError(
                f"expected z as floating point [image, latent], got {self.z.dtype} {list(self.z.shape)}; "
                "take generator.sample(n)"
            )
        if self.label.shape != self.z.shape[:1] or self.label.dtype != torch.long:
            raise ValueError(
                f"expected one label (int64) for each of {len(self.z)} latents, got {self.label.dtype} "
                f"{list(self.label.shape)}"
            )

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows: int | slice | Tensor) -> Latents:
        if isinstance(rows, int):
            rows = slice(rows, rows + 1) if rows != -1 else slice(-1, None)
        return Latents(self.z[rows], self.label[rows])

    def take(self, rows: Sequence[int]) -> Latents:
        """Return the latents at some indices, in the given order."""
        import torch

        return self[torch.tensor(list(rows), dtype=torch.long, device=self.z.device)]

    def moved(self, z: Float[Tensor, "image latent"]) -> Latents:
        """Return other latents of the same classes, such as those that an edit found."""
        return Latents(z, self.label)

    def check(self, n_latent: int, n_classes: int) -> None:
        """Raise ValueError if a generator of n_latent numbers and n_classes classes cannot use these latents."""
        import torch

        if self.z.shape[1] != n_latent:
            raise ValueError(
                f"expected latents of {n_latent} numbers, got {self.z.shape[1]}; take them from this generator's "
                "sample(n)"
            )
        if not bool(torch.isfinite(self.z.detach()).all()):
            raise ValueError(
                "expected finite latents, got NaN or infinite numbers; start again from sample(n)"
            )
        if len(self.label) and not 0 <= int(self.label.min()) <= int(self.label.max()) < n_classes:
            raise ValueError(
                f"expected labels in 0..{n_classes - 1}, got {int(self.label.min())}..{int(self.label.max())}; "
                "see generator.classes"
            )


def numbers_of(latents: Any) -> Tensor:
    """Return the numbers that a search changes: z of Latents, or the latents themselves if they are a tensor."""
    return latents.z if isinstance(latents, Latents) else latents


def with_numbers(latents: Any, z: Tensor) -> Any:
    """Return latents of the same classes with other numbers."""
    return latents.moved(z) if isinstance(latents, Latents) else z

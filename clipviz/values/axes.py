"""Checks of indices along the axes (layers, heads, images), and of whole numbers from users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Rows = int | slice | Sequence[int] | Tensor | np.ndarray
else:
    Rows = object  # one image, a slice, indices or a mask [image]

Head = tuple[int, int]

N_LATE = 4  # attention layers at the end that write most of the embedding (thesis Fig. 2.2)


MOST_NUMBERS = 10_000_000
"""The largest number of images that can be selected at once."""


def late_layers(n_layers: int, n_late: int = N_LATE) -> range:
    """Return the last layers of a tower with n_layers; all of them if it has fewer than that."""
    return range(max(0, n_layers - n_late), n_layers)


def neuron_layers(n_layers: int) -> range:
    """Return the MLP layers whose neurons write most through later heads: the last third of a tower, without its
    last layer.

    These are layers 8-10 of 12 (thesis 3.3) and 16-22 of 24. At least three layers are returned, or all of a
    shorter tower.
    """
    n_late = max(3, n_layers // 3 - 1)
    return range(max(0, n_layers - 1 - n_late), max(0, n_layers - 1))


def whole(name: str, number: Any) -> int:
    """Return a non-negative whole number (NumPy's too) as a plain int. Raises ValueError for anything else."""
    try:
        found = -1 if isinstance(number, bool | str | bytes) else int(number)
        right = found >= 0 and bool(found == number)
    except (TypeError, ValueError, OverflowError):
        right = False
    if not right:
        raise ValueError(f"expected {name} to be a non-negative integer, got {number!r}; numbers start at 0")
    return found


def wholes(name: str, numbers: Any, most: int = MOST_NUMBERS) -> tuple[int, ...]:
    """Return non-negative whole numbers, in order. Raises ValueError for invalid ones, or more than `most`."""
    if isinstance(numbers, str | bytes | Mapping) or not isinstance(numbers, Iterable):
        raise ValueError(
            f"expected {name} as a list of whole numbers, got {numbers!r}; write [5] for a single one"
        )
    given = () if _longer(numbers, most) else tuple(islice(numbers, most + 1))
    if len(given) > most or _longer(numbers, most):
        raise ValueError(f"expected at most {most:,} {name}, got more; choose fewer")
    return tuple(whole(name, one) for one in given)


def _longer(numbers: Any, most: int) -> bool:
    """Return whether `numbers` is known to be longer than `most` before any element is read."""
    try:
        return len(numbers) > most
    except OverflowError:  # the range is too long for len()
        return True
    except TypeError:  # a generator
        return False


def rows_of(images: Rows, n_images: int) -> slice | Tensor | np.ndarray | list[int]:
    """Return an index that keeps the image axis: one image as a slice, a range as a list. Raises IndexError."""
    if isinstance(images, slice):
        return images
    if isinstance(images, int) or getattr(images, "ndim", None) == 0:
        image = int(images)  # type: ignore[arg-type]
        if not -n_images <= image < n_images:
            raise IndexError(f"expected an image within 0..{n_images - 1}, got {image}")
        return slice(image % n_images, image % n_images + 1)
    return images if hasattr(images, "ndim") else list(images)  # type: ignore[return-value]


def places_of(chosen: Sequence[int] | None, known: Sequence[int] | int, axis: str) -> slice | list[int]:
    """Return the positions of layers or heads on their axis, as a slice, which copies nothing, if contiguous."""
    if chosen is None:
        return slice(None)
    numbers = list(range(known) if isinstance(known, int) else known)
    unknown = [number for number in chosen if number not in numbers]
    if unknown or not len(chosen):
        raise ValueError(f"expected {axis}s among {numbers}, got {unknown or 'none'}")
    places = [numbers.index(number) for number in chosen]
    ascending = places == list(range(places[0], places[0] + len(places)))
    return slice(places[0], places[0] + len(places)) if ascending else places

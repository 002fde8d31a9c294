"""What counts on the axes: layers, heads, the images chosen, and whole numbers from anywhere."""

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
"""Images that can be chosen at once."""


def late_layers(n_layers: int, n_late: int = N_LATE) -> range:
    """Return the last layers of a tower of n_layers, all of them where it has no more."""
    return range(max(0, n_layers - n_late), n_layers)


def neuron_layers(n_layers: int) -> range:
    """MLP layers whose neurons write most through later heads: the last third of a tower but its last layer.

    8-10 of 12 (thesis 3.3), 16-22 of 24; three where a third has fewer, all there are where the tower is shorter.
    """
    n_late = max(3, n_layers // 3 - 1)
    return range(max(0, n_layers - 1 - n_late), max(0, n_layers - 1))


def whole(name: str, number: Any) -> int:
    """Return a whole number of at least 0 as a plain int; numpy's integers are taken. Raises ValueError for anything
    else.
    """
    try:
        found = -1 if isinstance(number, bool | str | bytes) else int(number)
        right = found >= 0 and bool(found == number)
    except (TypeError, ValueError, OverflowError):
        right = False
    if not right:
        raise ValueError(
            f"expected {name} to be a non-negative integer, got {number!r}; counting begins at 0"
        )
    return found


def wholes(name: str, numbers: Any, most: int = MOST_NUMBERS) -> tuple[int, ...]:
    """Whole numbers of at least 0, in their order; ValueError for one that is not, for no list of them, or for more
    than `most`."""
    if isinstance(numbers, str | bytes | Mapping) or not isinstance(numbers, Iterable):
        raise ValueError(
            f"expected {name} as a list of whole numbers, got {numbers!r}; put a single one in [ ]"
        )
    found = () if _longer(numbers, most) else tuple(whole(name, one) for one in islice(numbers, most + 1))
    if len(found) > most or _longer(numbers, most):
        raise ValueError(f"expected at most {most:,} {name}, got more; choose fewer")
    return found


def _longer(numbers: Any, most: int) -> bool:
    """Return whether more than `most` things are known to be there before any is read."""
    try:
        return len(numbers) > most
    except OverflowError:  # a range longer than any list
        return True
    except TypeError:  # a generator
        return False


def rows_of(images: Rows, n_images: int) -> slice | Tensor | np.ndarray | list[int]:
    """Return an index that keeps the image axis: a single image as a slice, a range as a list; IndexError beyond the
    end.
    """
    if isinstance(images, slice):
        return images
    if isinstance(images, int) or getattr(images, "ndim", None) == 0:
        image = int(images)  # type: ignore[arg-type]
        if not -n_images <= image < n_images:
            raise IndexError(f"expected an image within 0..{n_images - 1}, got {image}")
        return slice(image % n_images, image % n_images + 1)
    return images if hasattr(images, "ndim") else list(images)  # type: ignore[return-value]


def places_of(chosen: Sequence[int] | None, known: Sequence[int] | int, axis: str) -> slice | list[int]:
    """Return where layers or heads are on their axis: a slice where they stand side by side, which copies nothing."""
    if chosen is None:
        return slice(None)
    numbers = list(range(known) if isinstance(known, int) else known)
    unknown = [number for number in chosen if number not in numbers]
    if unknown or not len(chosen):
        raise ValueError(f"expected {axis}s among {numbers}, got {unknown or 'none'}")
    places = [numbers.index(number) for number in chosen]
    ascending = places == list(range(places[0], places[0] + len(places)))
    return slice(places[0], places[0] + len(places)) if ascending else places

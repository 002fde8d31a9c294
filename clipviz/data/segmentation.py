"""Images with true foreground masks: ImageNet-Segmentation, a folder of pairs, or a collection with masks."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipviz.data.images import Images
from clipviz.data.paths import path_of
from clipviz.data.sources import SUFFIXES

IGNORED = 255  # the value of pixels that belong to no class


class MaskedImages(Sequence[tuple[Image.Image, np.ndarray]]):
    """An immutable sequence of (RGB picture, mask); mask: bool [rows, cols] of the picture's size.

    A mask that marks pixels to ignore (255 beside labels below it, as in Pascal VOC) is uint8: 0, 1 and 255.

    names: [image]; labels: [image] the class of each image as the source names it, or None. skipped: (name,
    reason) of pairs that could not be used.
    """

    def __init__(
        self,
        names: Sequence[str],
        labels: Sequence[str | None],
        read: Callable[[int], tuple[Image.Image, np.ndarray]],
        skipped: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.names, self.labels, self.skipped = list(names), list(labels), list(skipped)
        self._read = read

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an image index in 0..{len(self) - 1}, got {index}")
        picture, mask = self._read(int(index) % len(self))
        return picture.convert("RGB"), _foreground(np.asarray(mask))

    def subset(self, indices: Sequence[int]) -> MaskedImages:
        """Return some of the images, in the order given."""
        chosen = [int(i) for i in indices]
        return MaskedImages(
            [self.names[i] for i in chosen],
            [self.labels[i] for i in chosen],
            lambda i: self._read(chosen[i]),
            self.skipped,
        )


def folder(images: str | os.PathLike[str], masks: str | os.PathLike[str] | None = None) -> MaskedImages:
    """Return pairs from an image folder and a mask folder: the mask of class/name.jpg is class/name.png, nonzero
    inside.

    images: the image folder, or a folder that holds "images" and "masks". A subfolder's name is the class of its
    images. Images without a readable mask are listed in `.skipped`. Raises ValueError if no pair is usable.
    """
    root = path_of(images, "a folder of images")
    if masks is None:
        root, mask_root = root / "images", root / "masks"
    else:
        mask_root = path_of(masks, "a folder of masks")
    for path in (root, mask_root):
        if not path.is_dir():
            raise ValueError(f"expected a folder {str(path)!r}, which does not exist; name both folders")
    pairs, skipped = [], []
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES):
        name = path.relative_to(root)
        mask = next((m for m in _mask_paths(mask_root, name) if m.is_file()), None)
        if mask is None:
            skipped.append((name.as_posix(), f"no mask {name.with_suffix('.png').as_posix()} beside it"))
        else:
            pairs.append((path, mask, name))
    if not pairs:
        raise ValueError(
            f"expected images with masks of the same name, got none in {str(root)!r} and {str(mask_root)!r}; "
            "name the masks like the images, with .png"
        )
    names = [name.as_posix() for _, _, name in pairs]
    labels = [name.parts[-2] if len(name.parts) > 1 else None for _, _, name in pairs]
    return MaskedImages(names, labels, lambda i: _read_pair(*pairs[i][:2]), skipped)


def imagenet_segmentation(path: str | os.PathLike[str]) -> MaskedImages:
    """Return ImageNet-Segmentation (Guillaumin et al. 2014), 4,276 images with masks, from gtsegs_ijcv.mat.

    The file is in MATLAB 7.3 format, which h5py reads; without h5py a ValueError says how to install it. labels:
    the WordNet id in the image's name ("n01440764_1234.JPEG"), if the file contains it.
    """
    try:
        import h5py
    except ImportError as error:
        raise ValueError(
            "expected the package h5py to read gtsegs_ijcv.mat; install it with pip install h5py"
        ) from error
    place = path_of(path, "the file gtsegs_ijcv.mat")
    if not place.is_file():
        raise ValueError(f"expected the file gtsegs_ijcv.mat, got {str(place)!r}, which does not exist")
    file = h5py.File(place, "r")
    if "value" not in file or "img" not in file["value"] or "gt" not in file["value"]:
        raise ValueError(
            f"expected value/img and value/gt in {str(place)!r}, got {list(file)}; is it gtsegs_ijcv.mat?"
        )
    pictures, truths = file["value/img"], file["value/gt"]
    names = [_matlab_text(file, "value/id", i) or f"image {i}" for i in range(len(pictures))]
    labels = [name.split("_")[0] if name[:1] == "n" and name[1:9].isdigit() else None for name in names]

    def read(i: int) -> tuple[Image.Image, np.ndarray]:
        pixels = np.asarray(file[pictures[i, 0]]).transpose(2, 1, 0)
        mask = np.asarray(file[file[truths[i, 0]][0, 0]]).T
        return Image.fromarray(pixels.astype(np.uint8)), mask

    return MaskedImages(names, labels, read)


def from_collection(images: Images, column: str | None = None) -> MaskedImages:
    """Return a collection's images that have masks; labels come from an attribute column."""
    kept = [i for i in range(len(images)) if _any(images.masks(i))]
    if not kept:
        raise ValueError("expected a collection with masks, got one without; clipviz.demo.images() has them")
    words: Sequence[str | None] = [None] * len(images)
    if column is not None:
        if column not in (images.attributes or {}):
            raise ValueError(
                f"expected an attribute column, got {column!r}; choose one of {list(images.attributes or {})}"
            )
        words = (images.attributes or {})[column]

    def read(i: int) -> tuple[Image.Image, np.ndarray]:
        mask = images.masks(kept[i])
        assert mask is not None
        return images[kept[i]], mask

    return MaskedImages([images.names[i] for i in kept], [words[i] for i in kept], read)


def fit_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a mask after the geometry of the preprocessing: shorter side to the network's `size`, centre crop.

    mask: bool or uint8 [rows, cols]; size: (rows, cols). Values are not interpolated.
    """
    rows, cols = mask.shape
    scale = max(size[0] / rows, size[1] / cols)
    grown = Image.fromarray(mask).resize((round(cols * scale), round(rows * scale)), Image.Resampling.NEAREST)
    top, left = (grown.height - size[0]) // 2, (grown.width - size[1]) // 2
    return np.array(grown.crop((left, top, left + size[1], top + size[0])))


def _foreground(mask: np.ndarray) -> np.ndarray:
    """Return where a mask is nonzero; 255 is kept if smaller labels show that it means "ignore"."""
    inside = mask > 0
    ignored = mask == IGNORED if mask.dtype != bool else np.zeros_like(inside)
    if not ignored.any() or not (inside & ~ignored).any():
        return inside
    return np.where(ignored, IGNORED, inside).astype(np.uint8)


def _any(mask: np.ndarray | None) -> bool:
    return mask is not None and bool(mask.any())


def _mask_paths(root: Path, name: Path) -> list[Path]:
    return [root / name.with_suffix(suffix) for suffix in (".png", ".bmp", ".gif", ".tif", ".tiff")]


def _read_pair(path: Path, mask_path: Path) -> tuple[Image.Image, np.ndarray]:
    with Image.open(io.BytesIO(path.read_bytes())) as opened:
        picture = opened.convert("RGB")
    with Image.open(io.BytesIO(mask_path.read_bytes())) as opened:
        mask = np.asarray(opened if opened.mode in ("L", "1", "P", "I") else opened.convert("L"))
    if mask.shape[:2] != (picture.height, picture.width):
        raise ValueError(
            f"expected a mask of {picture.height} x {picture.width} pixels for {path.name!r}, got "
            f"{' x '.join(map(str, mask.shape[:2]))}; resize the mask"
        )
    return picture, mask


def _matlab_text(file: Any, key: str, index: int) -> str | None:
    """Return the string at a reference in a MATLAB cell array, stored as character codes."""
    if key not in file:
        return None
    codes = np.asarray(file[file[key][index, 0]]).flatten()
    return "".join(chr(int(code)) for code in codes)

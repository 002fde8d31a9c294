"""A model's preprocessing as steps that the page's script carries out too."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from clipviz.models.clip import ClipModel
from clipviz.models.hf import HfPreprocess
from clipviz.page.export import CannotExport

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
CLOSE = 1e-5  # tolerance for a normalised pixel
# share of pixels that may be off by one of 255 levels, since libraries round between two passes
SELDOM = 0.01
TRIED = ((131, 97), (60, 201), (300, 240))  # rows and columns of the test pictures


@dataclass(frozen=True)
class Steps:
    """The steps of a preprocessing. resize: {"short": side} keeps the proportions, {"size": [rows, cols]} does not;
    crop: [rows, cols] around the centre, or None; an odd pixel goes to the "even" side or to the one "below";
    filter: the resampling; mean, std: of each channel, for pixels in 0..1.
    """

    resize: dict[Literal["short", "size"], Any] | None
    crop: list[int] | None
    filter: str
    mean: list[float]
    std: list[float]
    odd: Literal["even", "below"] = "even"

    def fitted(self, picture: Image.Image) -> np.ndarray:
        """Return the picture as the network sees it, uint8 [rows, cols, 3]."""
        made = picture.convert("RGB")
        if self.resize is not None:
            made = made.resize(self._size(made), FILTERS[self.filter])
        if self.crop is not None:
            rows, cols = self.crop
            spare = made.height - rows, made.width - cols
            top, left = (round(n / 2) if self.odd == "even" else n // 2 for n in spare)
            made = made.crop((left, top, left + cols, top + rows))
        return np.asarray(made)

    def pixels(self, fitted: np.ndarray) -> np.ndarray:
        """Return normalised pixels [3, rows, cols]."""
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.mean, self.std))
        return (fitted.transpose(2, 0, 1).astype(np.float32) / np.float32(255) - mean) / std

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def _size(self, picture: Image.Image) -> tuple[int, int]:
        assert self.resize is not None
        if "size" in self.resize:
            rows, cols = self.resize["size"]
            return cols, rows
        short, (width, height) = self.resize["short"], picture.size
        if height <= width:
            return int(short * width / height), short
        return short, int(short * height / width)


def steps_of(model: ClipModel) -> Steps:
    """Return a model's preprocessing in steps. Raises CannotExport if they do not give its pixels on pictures."""
    found = _of_processor(model) if isinstance(model.preprocess, HfPreprocess) else _of_transforms(model)
    draw = np.random.default_rng(0)
    for rows, cols in TRIED:
        blocks = draw.integers(0, 256, (rows // 7 + 1, cols // 7 + 1, 3), dtype=np.uint8)
        picture = Image.fromarray(blocks.repeat(7, 0).repeat(7, 1)[:rows, :cols])
        wanted = np.asarray(model.preprocess(picture), np.float32)
        made = found.pixels(found.fitted(picture))
        level = 1.01 / 255 / min(found.std)
        far = np.abs(made - wanted) if made.shape == wanted.shape else np.array([np.inf])
        if far.max() > level or (far > CLOSE).mean() > SELDOM:
            raise _cannot(model, "whose pixels differ from those of a resize, a crop and a normalisation")
    return found


def _of_transforms(model: ClipModel) -> Steps:
    """Return the steps of a composition of torchvision transforms, as open_clip builds them."""
    resize: dict[Any, Any] | None = None
    crop, kind, mean, std = None, "bicubic", [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    steps = getattr(model.preprocess, "transforms", None)
    if steps is None:
        raise _cannot(model, "which is not composed of torchvision's steps")
    for step in steps:
        name = type(step).__name__
        if name == "Resize":
            size = [step.size] if isinstance(step.size, int) else [int(side) for side in step.size]
            resize = {"short": size[0]} if len(size) == 1 else {"size": size}
            kind = str(getattr(step.interpolation, "value", step.interpolation)).lower()
        elif name == "CenterCrop":
            crop = [int(side) for side in step.size]
        elif name == "Normalize":
            mean, std = [float(v) for v in step.mean], [float(v) for v in step.std]
        elif (
            "ToTensor" not in name
            and "Convert" not in name
            and "convert" not in getattr(step, "__name__", "")
        ):
            raise _cannot(model, f"with the step {name}")
    if kind not in FILTERS:
        raise _cannot(model, f"with {kind} resampling")
    return Steps(resize, crop, kind, mean, std)


def _of_processor(model: ClipModel) -> Steps:
    """Return the steps of a Hugging Face image processor."""
    one: Any = model.preprocess.image_processor  # type: ignore[attr-defined]
    kind = {2: "bilinear", 3: "bicubic"}.get(int(one.resample or 0), "other")
    if kind not in FILTERS:
        raise _cannot(model, "with another resampling than bilinear or bicubic")
    size, crop = dict(one.size or {}), None
    if getattr(one, "do_center_crop", False):
        crop = [int(one.crop_size["height"]), int(one.crop_size["width"])]
    resize: dict[Any, Any] | None = None
    if one.do_resize:
        short = size.get("shortest_edge")
        resize = {"short": int(short)} if short else {"size": [int(size["height"]), int(size["width"])]}
    mean, std = list(model.preprocess.mean), list(model.preprocess.std)  # type: ignore[attr-defined]
    return Steps(resize, crop, kind, mean, std, odd="below")


def _cannot(model: ClipModel, what: str) -> CannotExport:
    return CannotExport(
        f"expected a preprocessing that a page can carry out (resize, centre crop, normalise), got that of "
        f"{model.name!r}, {what}; publish the saved page without a model: model=False"
    )

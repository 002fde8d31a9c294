"""Open a CLIP model: the user's own, one of open_clip, or one of Hugging Face."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

from clipviz.data.paths import path_of
from clipviz.models import hf
from clipviz.models.adapters import check_merged, merged
from clipviz.models.byte_pairs import BytePairs
from clipviz.models.clip import ClipModel
from clipviz.models.numbers import check_default_device
from clipviz.models.text_towers import check_clip_tokens
from clipviz.models.towers import UnsupportedTower, read_tower
from clipviz.values import TowerWeights

if TYPE_CHECKING:
    from clipviz.models.bundle import Bundle


def wrap(
    network: nn.Module,
    tokenizer: Callable[[list[str]], Tensor] | None = None,
    preprocess: Callable[[Image.Image], Tensor] | None = None,
    name: str = "custom",
    bundle: Bundle | None = None,
) -> ClipModel:
    """Wrap an open_clip or Hugging Face model that is already loaded.

    Adapters of the package peft are merged into the weights of a copy.

    Args:
        network: The model.
        tokenizer: Texts -> token ids; for a Hugging Face model, its processor (AutoProcessor). None takes CLIP's byte
            pairs.
        preprocess: PIL -> [3, rows, cols]. None takes the resize, centre crop and normalisation that open_clip gives a
            model of this size, or the processor's.
        name: What messages and figures call the model.
        bundle: The world that comes with the model, see models.bundle.Bundle.

    Returns:
        The model, ready to be traced.

    Raises:
        ValueError: The tower is not supported, a wrapper hides it (torch.compile, DataParallel), a layer or an encoder
            does more than the tower's weights say, or a text tower has another vocabulary but not its tokenizer.
    """
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"expected an open_clip or Hugging Face model, got {type(network).__name__}; clipviz.load opens one by name"
        )
    plain = merged(network)
    model = _wrapped(plain, tokenizer, preprocess, name, bundle)
    if plain is not network:
        check_merged(network, model)
    return model


def _wrapped(network: Any, tokenizer: Any, preprocess: Any, name: str, bundle: Bundle | None) -> ClipModel:
    if hf.is_hf_model(network):
        opened, texts, images = hf.open_up(network, tokenizer)
        return ClipModel(opened, texts, preprocess or images, name=name, bundle=bundle)
    visual: Any = getattr(network, "visual", None)
    if tokenizer is None and visual is not None:
        check_clip_tokens(network)
    if preprocess is None and visual is not None:
        mean, std = getattr(visual, "image_mean", None), getattr(visual, "image_std", None)
        size = getattr(visual, "image_size", None)
        if size is not None:
            import open_clip

            preprocess = open_clip.image_transform(size, False, mean=mean, std=std)
    if tokenizer is None:
        tokenizer = BytePairs(getattr(network, "context_length", 77))
    return ClipModel(network, tokenizer, preprocess, name=name, bundle=bundle)


def load_hf(
    name: str,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    bundle: Bundle | None = None,
) -> ClipModel:
    """Load a Hugging Face model, ready to be traced; see models.hf.

    Args:
        name: "owner/model" or a local folder.
        device: As in `load_open_clip`.
        precision: As in `load_open_clip`.
        bundle: The world that comes with the model.

    Returns:
        The model.
    """
    network, tokenizer, preprocess = hf.fetch(name, choose_device(device), precision)
    return ClipModel(network, tokenizer, preprocess, name=name, pretrained="Hugging Face", bundle=bundle)


def is_open_clip(name: str) -> bool:
    """Return whether a name belongs to open_clip: an architecture, "hf-hub:owner/model" or "local-dir:path"."""
    import open_clip

    return name.startswith(("hf-hub:", "local-dir:")) or name.replace("/", "-") in open_clip.list_models()


def load_open_clip(
    name: str,
    pretrained: str | None = None,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    bundle: Bundle | None = None,
) -> ClipModel:
    """Load a CLIP model of open_clip, ready to be traced.

    Args:
        name: Any open_clip architecture with `pretrained`, or "hf-hub:owner/model".
        pretrained: A tag, or a local checkpoint: safetensors, or a weights-only torch file.
        device: None takes cuda, then mps, then cpu.
        precision: "fp32", "fp16" or "bf16"; statistics stay float32.
        bundle: The world that comes with the model.

    Returns:
        The model.

    Raises:
        ValueError: The name or the tag is unknown, the tower is not supported, or the weights are unavailable.
    """
    chosen = choose_device(device)
    check_open_clip(name, pretrained)
    import open_clip

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*QuickGELU mismatch.*")
            network, _, preprocess = open_clip.create_model_and_transforms(
                name,
                pretrained=pretrained,
                device=chosen,
                precision=precision,
                force_quick_gelu=_wants_quick_gelu(name, pretrained),
            )
            _halve_queries(network)
            tokenizer = open_clip.get_tokenizer(name)
    except ImportError as error:
        raise ImportError(
            f"model {name!r} needs a package that is missing: {_first_line(error)}; {hf.NEEDED}"
        ) from error
    except Exception as error:
        raise ValueError(
            f"could not load the weights of {name!r} ({pretrained or 'hub'}): {_first_line(error)}. "
            "Check the network or the path, pass a local checkpoint as pretrained=..., or start with "
            'clipviz.load("demo"), which needs no network'
        ) from error
    return ClipModel(network, tokenizer, preprocess, name=name, pretrained=pretrained or "", bundle=bundle)


def check_architecture(name: str) -> TowerWeights:
    """Return the shapes of an architecture's vision tower, without memory or weights.

    Raises:
        ValueError: The architecture is not supported.
    """
    import open_clip
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    config = open_clip.get_model_config(name.replace("/", "-"))
    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tower = _build_vision_tower(
                config["embed_dim"], CLIPVisionCfg(**vision), quick_gelu=config.get("quick_gelu", False)
            )
            return read_tower(tower.eval()).weights
    except UnsupportedTower as error:
        raise UnsupportedTower(f"architecture {name!r}: {error}") from error


def imagenet_prompts() -> tuple[list[str], list[Callable[[str], str]]]:
    """Return ImageNet's 1,000 class names and prompt templates from open_clip, in the order of the class ids."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

    return list(IMAGENET_CLASSNAMES), list(OPENAI_IMAGENET_TEMPLATES)


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Return the requested device, or the fastest available one.

    Raises:
        ValueError: The device is missing or holds no numbers.
    """
    check_default_device()
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"expected a device like 'cpu', 'cuda:0' or 'mps', got {device!r}") from error
    if chosen.type == "meta":
        raise ValueError("expected a device that holds numbers, got 'meta'; use device='cpu'")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} was requested but no CUDA device is available; use device='cpu'")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {device!r} was requested but MPS is not available; use device='cpu'")
    return chosen


def check_open_clip(name: str, pretrained: str | None) -> None:
    """Check, without a download, that a model can be opened.

    Args:
        name: As in `load_open_clip`.
        pretrained: As in `load_open_clip`.

    Raises:
        ValueError: The name, the tag or the architecture cannot be opened.
    """
    import open_clip

    if not isinstance(name, str):
        raise ValueError(f"expected a model name, got {type(name).__name__} {name!r}")
    if name.startswith(("hf-hub:", "local-dir:")):
        return
    known = open_clip.list_models()
    if name.replace("/", "-") not in known:
        near = difflib.get_close_matches(name, ["demo", *known], n=4, cutoff=0.4)
        raise ValueError(
            f"no model is called {name!r}; similar names: {', '.join(near) or 'none'}. Use 'demo', "
            "an open_clip name (open_clip.list_models()), 'owner/model' of Hugging Face, or "
            "'hf-hub:owner/model'"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not pretrained:
        raise ValueError(
            f"model {name!r} needs pretrained=..., one of {', '.join(tags)} or a local checkpoint"
        )
    if pretrained not in tags and not path_of(pretrained, "a pretrained tag or a checkpoint").is_file():
        raise ValueError(
            f"model {name!r} has no pretrained tag {pretrained!r} and no such file exists; "
            f"tags are {', '.join(tags)}"
        )
    check_architecture(name)


def _halve_queries(network: nn.Module) -> None:
    """Convert an attention pool's queries to half precision: open_clip leaves them in float32, which cannot run."""
    for pool in network.modules():
        query, inside = getattr(pool, "query", None), getattr(pool, "attn", None)
        if isinstance(query, nn.Parameter) and isinstance(inside, nn.MultiheadAttention):
            query.data = query.data.to(inside.out_proj.weight.dtype)


def _wants_quick_gelu(name: str, pretrained: str | None) -> bool:
    import open_clip

    if not pretrained or name.startswith(("hf-hub:", "local-dir:")):
        return False
    return bool((open_clip.get_pretrained_cfg(name, pretrained) or {}).get("quick_gelu", False))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

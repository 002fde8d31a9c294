"""Load models by name: the embedded ones, which come with their bundle, and public ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipviz.files import path_of
from clipviz.models.clip import ClipModel
from clipviz.models.hf import is_folder, require_transformers
from clipviz.models.opening import (
    check_open_clip,
    choose_device,
    is_open_clip,
    load_hf,
    load_open_clip,
)
from clipviz.models.zoo import ENTRIES, Partner, open_partner

if TYPE_CHECKING:
    import torch
    from torch import nn

    from clipviz.demo.generator.demo_generator import DemoGenerator
    from clipviz.models.bundle import Bundle
    from clipviz.models.dictionaries import Dictionary
    from clipviz.models.generator import ModuleGenerator

DEMO = "demo"


def load(
    name: str = DEMO,
    pretrained: str | None = None,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    bundle: Bundle | None = None,
) -> ClipModel:
    """Return a CLIP model, ready to be traced.

    Args:
        name: "demo" (embedded, no network), any open_clip architecture with `pretrained`, "hf-hub:owner/model" (a
            checkpoint in open_clip's format), or a Hugging Face CLIP, SigLIP or MetaCLIP 2, as
            "openai/clip-vit-base-patch32" or a local folder; the last need the extra clipviz[hf].
        pretrained: A tag, or a local checkpoint: safetensors, or a weights-only torch file; for "demo" a file that
            tools.demo.train wrote.
        device: None takes cuda, then mps, then cpu.
        precision: "fp32", "fp16" or "bf16"; statistics stay float32.
        bundle: The world that the model belongs to, whose images and texts a session opens; the demo has its own.

    Returns:
        The model. An unknown name or tag, an unsupported tower and weights that cannot be had raise ValueError.
    """
    if is_hugging_face(name):
        return load_hf(name, device, precision, bundle)
    if name != DEMO:
        return load_open_clip(name, pretrained, device, precision, bundle)
    from clipviz.demo.contents import bundle as demo_bundle
    from clipviz.demo.model.opening import open_model

    return open_model(choose_device(device), precision, pretrained, bundle or demo_bundle())


def is_hugging_face(name: str) -> bool:
    """Return whether a name is a Hugging Face model: "owner/model" that open_clip does not know, or a local folder."""
    return (
        isinstance(name, str) and name != DEMO and not is_open_clip(name) and ("/" in name or is_folder(name))
    )


def check(name: str = DEMO, pretrained: str | None = None, device: str | None = None) -> None:
    """Check that `load` can open a model, as far as that is known without a download.

    Args:
        name: As in `load`.
        pretrained: As in `load`.
        device: As in `load`.

    Raises:
        ValueError: The model cannot be opened; ImportError if it needs an extra that is not installed.
    """
    choose_device(device)
    if is_hugging_face(name):
        require_transformers()
    elif name != DEMO:
        check_open_clip(name, pretrained)
    elif pretrained and not path_of(pretrained, "a file of weights").is_file():
        raise ValueError(
            f"expected a file of weights for the demo model, got {pretrained!r}, which does not exist"
        )


def load_partner(
    name: str, checkpoint: str | Path | None = None, device: torch.device | str = "cpu"
) -> Partner:
    """Return a Rosetta partner network in eval mode.

    Args:
        name: "cnn" or "vit" (embedded, no network), or a public network of models.zoo.ENTRIES.
        checkpoint: A local file (safetensors, or a torch file of weights alone). None fetches the weights.
        device: Where it runs.

    Returns:
        The network.

    Raises:
        ValueError: The name is unknown, weights cannot be had, or the file does not fit.
    """
    from clipviz.demo.partners.reading import PARTNERS

    checkpoint = None if checkpoint is None else path_of(checkpoint, "a file of weights")
    if name in PARTNERS:
        return PARTNERS[name].load(device, checkpoint)
    if name not in ENTRIES:
        raise ValueError(
            f"expected a partner among {', '.join((*PARTNERS, *ENTRIES))}, got {name!r}; choose one, or build a "
            "models.zoo.Partner around your own module"
        )
    return open_partner(name, checkpoint, device)


def load_dictionary(name: str = DEMO) -> Dictionary:
    """Open the dictionary of directions that comes with the demo; a file is opened by clipviz.Dictionary.load(path).

    Raises:
        ValueError: The name is not "demo".
    """
    from clipviz.demo import shipped

    if name != DEMO:
        raise ValueError(
            f"expected {DEMO!r}, the only embedded dictionary, got {name!r}; open a file with "
            "clipviz.Dictionary.load(path)"
        )
    return next(iter(shipped.features().values()))


def load_generator(
    source: str | Path | nn.Module = DEMO,
    kind: str | None = None,
    *,
    checkpoint: str | Path | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> DemoGenerator | ModuleGenerator:
    """Return a generator with frozen weights, whose units can be matched and whose pictures can be edited.

    Args:
        source: "demo" (embedded, no network); a module of a StyleGAN2, StyleGAN3, StyleGAN-XL or BigGAN; or a file of a
            StyleGAN2's or BigGAN's weights, safetensors or a torch file of weights alone.
        kind: "stylegan2", "stylegan3", "stylegan_xl" or "biggan". None reads it from a file's weights.
        checkpoint: Weights to load into a module first.
        device: Where it runs.
        options: Options of the kind (class_index, truncation).

    Returns:
        The generator. An unknown name or kind, a file that is not there or does not fit, and a pickle raise ValueError.

        generator = clipviz.load_generator("demo")
        pictures = generator.images(generator.sample(16, seed=0, label="duck"))
    """
    if source != DEMO:
        from clipviz.models.generator import open_generator

        return open_generator(source, kind, checkpoint, device, **options)
    from clipviz.demo.generator.demo_generator import open_demo_generator

    checkpoint = None if checkpoint is None else path_of(checkpoint, "a file of weights")
    return open_demo_generator(checkpoint, device)

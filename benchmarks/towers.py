"""Every open_clip configuration against the contract of towers; writes docs/towers.md.

    python -m benchmarks.towers [FILE]

Each vision tower is built at full width with random, strongly perturbed weights and two of its layers; what does not
depend on depth (sums in float64 and float32, token scores) is checked on one random image. Speed and memory are
measured on whole towers of one size per family. No weights are fetched.
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._timing import best, one_thread, row
from clipviz.models.towers import Tower, UnsupportedTower, read_tower
from clipviz.models.towers.recording import recording

LAYERS_KEPT = 2
TIMED = {
    "ViT-B-16": 1.15,
    "EVA02-B-16": 1.15,
    "ViT-B-16-SigLIP": 1.6,
    "ViT-B-16-SigLIP2": 1.6,
    "PE-Core-B-16": 1.6,
    "ViT-L-14-CLIPA": 1.6,
    "coca_ViT-B-32": 1.6,
}


def vision_tower(name: str) -> nn.Module:
    """The vision tower of a configuration on the meta device: shapes without memory."""
    import open_clip
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    config = open_clip.get_model_config(name)
    vision = CLIPVisionCfg(**{**config["vision_cfg"], "timm_model_pretrained": False})
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tower = _build_vision_tower(config["embed_dim"], vision, quick_gelu=config.get("quick_gelu", False))
    return tower.eval()


def filled(tower: nn.Module, n_layers: int | None) -> nn.Module:
    """The tower in memory with random weights, norms and biases far from initial values; first layers kept."""
    if n_layers is not None:
        holder = tower.trunk if hasattr(tower, "trunk") else tower.transformer
        name = "blocks" if hasattr(holder, "blocks") else "resblocks"
        setattr(holder, name, getattr(holder, name)[:n_layers])
    tower = tower.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, tensor in [*tower.named_parameters(), *tower.named_buffers()]:
            noise = torch.randn(tensor.shape, generator=generator)
            scale = 0.5 if tensor.ndim <= 1 else max(tensor[0].numel(), 1) ** -0.5
            norm = tensor.ndim == 1 and key.endswith("weight")
            noise = noise.abs() if key.endswith("running_var") else noise * scale
            tensor.copy_(noise + (1.0 if norm else 0.0))
    return tower


@torch.no_grad()
def traced(tower: Tower, pixels: Tensor) -> Any:
    """One pass, opened up."""
    with recording(tower, True) as recorder:
        output = tower.visual(pixels)
    return recorder.trace(output[0] if isinstance(output, tuple) else output)


def contract(visual: nn.Module) -> dict[str, float]:
    """Largest relative differences: sums in float64 and float32, token scores against head effects in float64."""
    found = {}
    for name, kind in (("float32", torch.float32), ("float64", torch.float64)):
        tower = read_tower(visual.to(kind))
        generator = torch.Generator().manual_seed(1)
        pixels = torch.randn(1, 3, *tower.image_size, generator=generator, dtype=torch.float64).to(kind)
        trace = traced(tower, pixels)
        found[name] = trace.sum_check()
    directions = torch.randn(1, tower.weights.d_embed, generator=generator, dtype=torch.float64)
    heads = torch.einsum("ilhk,xk->xilh", trace.head_effects(), directions)
    gap = trace.token_scores(directions).sum(-1) - heads
    found["tokens"] = float(gap.abs().max() / heads.abs().max())
    return found


def examine(name: str, run: bool = True) -> dict[str, Any]:
    """What a configuration gives: its family and, with run, its checks; or why it is refused."""
    visual = vision_tower(name)
    try:
        tower = read_tower(visual)
    except UnsupportedTower as error:
        reason = str(error).split("effects, got ")[1].split("; supported")[0]
        return {"name": name, "refused": reason}
    kind = tower.weights.readout.kind
    found = {"name": name, "family": tower.family, "readout": kind, "layers": tower.weights.n_layers}
    return found | contract(filled(visual, LAYERS_KEPT)) if run else found


def timing(name: str) -> dict[str, Any]:
    """A whole tower's trace against its plain forward, batch 8, processor time on one thread."""
    tower = read_tower(filled(vision_tower(name), None))
    pixels = torch.randn(8, 3, *tower.image_size)

    @torch.no_grad()
    def plain() -> None:
        tower.visual(pixels)

    with one_thread():
        forward, trace = best([plain, lambda: traced(tower, pixels)], repeats=3)
    made = traced(tower, pixels[:1])
    kept = [made.codes, made.mlp_writes, made.paths, *made.tokens]
    size = sum(tensor.numel() * 4 for tensor in kept) / 1e6
    return {"name": name, "ratio": trace / forward, "budget": TIMED[name], "MB an image": size}


def run() -> list[dict[str, Any]]:
    """A whole tower's trace against its plain forward, for the towers that pool all tokens and for EVA-02."""
    names = ("EVA02-B-16", "ViT-B-16-SigLIP", "PE-Core-B-16")
    return [
        row(f"trace against the plain forward, {name}, batch 8, x", timing(name)["ratio"], TIMED[name])
        for name in names
    ]


def report(rows: list[dict[str, Any]], times: list[dict[str, Any]]) -> str:
    """docs/towers.md."""
    accepted, refused = [r for r in rows if "refused" not in r], [r for r in rows if "refused" in r]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for one in accepted:
        groups[one["family"], one["readout"]].append(one)
    lines = [
        "# Towers",
        "",
        f"{len(accepted)} of open_clip's {len(rows)} configurations are opened up exactly; the other {len(refused)} "
        "are refused by name before any download and can be Rosetta partners. Written by "
        f"`python -m benchmarks.towers`: towers at full width with {LAYERS_KEPT} of their layers or one, and random, "
        "perturbed weights; the others' shapes alone are checked, without memory. Numbers are the "
        "largest relative difference among a group's configurations: of the summed effects and the tower's own output "
        "(limit 1e-12 in float64, 1e-5 in float32), and of token scores and head effects (float64).",
        "",
        "| family | readout | configurations | run | sum, float64 | sum, float32 | tokens |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (family, readout), found in sorted(groups.items()):
        ran = [r for r in found if "float64" in r]
        worst = [f"{max(r[c] for r in ran):.1e}" if ran else "" for c in ("float64", "float32", "tokens")]
        lines.append(f"| {family} | {readout} | {len(found)} | {len(ran)} | {' | '.join(worst)} |")
    lines += [
        "",
        "A trace against the plain forward of whole towers (batch 8, one thread), and what it keeps:",
        "",
        "| configuration | time, x plain | budget | MB an image |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {t['name']} | {t['ratio']:.2f} | {t['budget']} | {t['MB an image']:.1f} |" for t in times]
    lines += ["", "## Accepted", ""]
    for (family, readout), found in sorted(groups.items()):
        lines.append(f"- {family}, {readout}: {', '.join(r['name'] for r in found)}")
    lines += ["", "## Refused", ""]
    reasons: dict[str, list[str]] = defaultdict(list)
    for one in refused:
        reasons[one["refused"]].append(one["name"])
    lines += [f"- {reason}: {', '.join(names)}" for reason, names in sorted(reasons.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Examine every configuration and write the report."""
    import open_clip

    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "towers.md"
    rows = []
    for name in open_clip.list_models():
        rows.append(examine(name))
        print({k: f"{v:.1e}" if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    times = []
    for name in TIMED:
        times.append(timing(name))
        print(times[-1], flush=True)
    path.write_text(report(rows, times))


if __name__ == "__main__":
    main()

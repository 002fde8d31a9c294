"""Every open_clip configuration against the contract of towers; writes docs/towers.md.

    python -m benchmarks.towers                 # all of it: about 10 minutes of processor time, 2 GB
    python -m benchmarks.towers --quick         # the tests' tiny towers alone, printed: under a minute
    python -m benchmarks.towers EVA02-B-16 ...  # these configurations alone, each timed with all its layers, printed

Each vision tower is built at full width with random, strongly perturbed weights and its first layer; what does not
depend on depth (sums in float64 and float32, token scores) is checked on one random image. Second-order effects are
compared with a literal reference on the tests' tiny towers. Speed and memory are measured on deep towers, a few per
kind of readout. No weights are fetched.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import os
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks._timing import best, one_thread, row
from clipviz.models.towers import Tower, UnsupportedTower, read_tower
from clipviz.models.towers.recording import recording

LAYERS_KEPT = 1
NOISE = 1_000_003  # normal numbers that fill every tower, again and again; prime, so that no two rows agree
CLASS_TOKEN, POOLED = 1.15, 1.6  # most that a trace may cost, x the plain forward


class Timed(NamedTuple):
    """A configuration whose trace is timed: with how many of its layers (None: all), at which budget."""

    name: str
    budget: float
    layers: int | None = None


TIMED = (
    Timed("ViT-B-16", CLASS_TOKEN),
    Timed("EVA02-B-16", CLASS_TOKEN),
    Timed("ViT-B-16-SigLIP", POOLED),
    Timed("ViT-B-16-SigLIP2", POOLED),
    Timed("PE-Core-B-16", POOLED),
    Timed("ViT-L-14-CLIPA", POOLED, 6),
    Timed("coca_ViT-B-32", POOLED),
)
CHECKS = ("float64", "float32", "tokens", "second")
LIMITS = {"float64": 1e-12, "float32": 1e-5, "tokens": 1e-12, "second": 1e-5}


def vision_tower(name: str) -> nn.Module:
    """Return the vision tower of a configuration on the meta device: shapes without memory."""
    import open_clip
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    config = open_clip.get_model_config(name)
    vision = CLIPVisionCfg(**{**config["vision_cfg"], "timm_model_pretrained": False})
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tower = _build_vision_tower(config["embed_dim"], vision, quick_gelu=config.get("quick_gelu", False))
    return tower.eval()


def filled(tower: nn.Module, n_layers: int | None) -> nn.Module:
    """Return the tower in memory with random weights, norms and biases far from initial values; first layers kept."""
    if n_layers is not None:
        holder = tower.trunk if hasattr(tower, "trunk") else tower.transformer
        name = "blocks" if hasattr(holder, "blocks") else "resblocks"
        setattr(holder, name, getattr(holder, name)[:n_layers])
    tower = tower.to_empty(device="cpu")
    numbers = torch.randn(NOISE, generator=torch.Generator().manual_seed(0))
    start = 0
    with torch.no_grad():
        for key, tensor in [*tower.named_parameters(), *tower.named_buffers()]:
            places = (start, start + tensor.numel())
            start = places[1] % NOISE
            noise = numbers.repeat(places[1] // NOISE + 1)[slice(*places)].view(tensor.shape)
            scale = 0.5 if tensor.ndim <= 1 else max(tensor[0].numel(), 1) ** -0.5
            norm = tensor.ndim == 1 and key.endswith("weight")
            noise = noise.abs() if key.endswith("running_var") else noise * scale
            tensor.copy_(noise + (1.0 if norm else 0.0))
    return tower


@torch.no_grad()
def traced(tower: Tower, pixels: Tensor) -> Any:
    """Return one pass, opened up."""
    with recording(tower, True) as recorder:
        output = tower.visual(pixels)
    return recorder.trace(output[0] if isinstance(output, tuple) else output)


def contract(visual: nn.Module) -> dict[str, float]:
    """Return the largest relative differences: sums in float64 and float32, token scores against head effects in
    float64.
    """
    found = {}
    for name, kind in (("float32", torch.float32), ("float64", torch.float64)):
        tower = read_tower(visual.to(kind))
        generator = torch.Generator().manual_seed(1)
        pixels = torch.randn(1, 3, *tower.image_size, generator=generator, dtype=torch.float64).to(kind)
        trace = traced(tower, pixels)
        effects = trace.head_effects()
        total = effects.sum((1, 2)) + trace.mlp_effects().sum(1)
        found[name] = float((total - trace.embedding).norm() / trace.norm)
    directions = torch.randn(1, tower.weights.d_embed, generator=generator, dtype=torch.float64)
    heads = torch.einsum("ilhk,xk->xilh", effects, directions)
    gap = trace.token_scores(directions).sum(-1) - heads
    found["tokens"] = float(gap.abs().max() / heads.abs().max())
    return found


def examine(name: str, known: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return what a configuration gives: its family and its checks, or why it is refused.

    known: checks by vision tower; configurations that differ in their text tower alone share one.
    """
    import open_clip

    visual = vision_tower(name)
    try:
        tower = read_tower(visual)
    except UnsupportedTower as error:
        reason = str(error).split("effects, got ")[1].split("; supported")[0]
        return {"name": name, "refused": reason}
    config = open_clip.get_model_config(name)
    key = json.dumps([config["vision_cfg"], config["embed_dim"], config.get("quick_gelu")], sort_keys=True)
    if key not in known:
        known[key] = contract(filled(visual, LAYERS_KEPT))
    found = {"name": name, "family": tower.family, "readout": tower.weights.readout.kind}
    return found | known[key]


def tiny(name: str, build: Callable[[], nn.Module]) -> dict[str, Any]:
    """Return a tiny tower of the tests: its checks, and float32 second-order effects against the literal float64
    sums.
    """
    import clipviz
    from tests.models import literal
    from tests.models.families import images

    model = clipviz.wrap(build(), name=name)
    exact = clipviz.wrap(copy.deepcopy(model.network).double(), name=name)
    expected, _ = literal.second_order(exact, 0)
    effects = model.second_order(images(model, 1), 0).effects(normalize=False)[0]
    gap = float((effects - expected).abs().max() / expected.abs().max())
    found = contract(copy.deepcopy(model.visual))
    kind = model.weights.readout.kind
    return {"name": name, "family": model.tower.family, "readout": kind, "second": gap, **found}


def tinies() -> list[dict[str, Any]]:
    """Return every tiny tower of the tests."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from tests.models.families import FAMILIES

    return [tiny(name, build) for name, build in FAMILIES.items()]


def timing(timed: Timed, batch: int = 4, repeats: int = 3) -> dict[str, Any]:
    """Return a deep tower's trace against its plain forward: processor time on one thread, and peak memory."""
    visual = vision_tower(timed.name)
    n_layers = read_tower(visual).weights.n_layers
    tower = read_tower(filled(visual, timed.layers))
    pixels = torch.randn(batch, 3, *tower.image_size)

    @torch.no_grad()
    def plain() -> None:
        tower.visual(pixels)

    works = [plain, lambda: traced(tower, pixels)]
    with one_thread():
        memory = [peak(work) for work in works]
        forward, trace = best(works, repeats)
    made = traced(tower, pixels[:1])
    kept = [made.codes, made.mlp_writes, made.paths, *made.tokens]
    return {
        "name": timed.name,
        "layers": f"{tower.weights.n_layers} of {n_layers}",
        "ratio": trace / forward,
        "budget": timed.budget,
        "memory": memory[1] / memory[0],
        "MB per image": sum(tensor.numel() * 4 for tensor in kept) / 1e6,
    }


def peak(work: Callable[[], Any]) -> float:
    """Return bytes that the process grows by at most while it works beyond what it held before; in a child of its
    own.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if hasattr(
                libc := ctypes.CDLL(None), "malloc_trim"
            ):  # freed memory would hide what grows into it
                libc.malloc_trim(0)
            before = _status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
            work()
            os.write(write, str(max(_status("VmHWM") - before, 1)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return float(found) if found else float("nan")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def run() -> list[dict[str, Any]]:
    """Return a deep tower's trace against its plain forward, for every kind of readout."""
    return [
        row(
            f"trace against the plain forward, {timed.name}, batch 4, x", timing(timed)["ratio"], timed.budget
        )
        for timed in TIMED[1:]
        if timed.name != "ViT-B-16-SigLIP2"  # as SigLIP
    ]


def report(rows: list[dict[str, Any]], small: list[dict[str, Any]], times: list[dict[str, Any]]) -> str:
    """docs/towers.md."""
    accepted, refused = [r for r in rows if "refused" not in r], [r for r in rows if "refused" in r]
    lines = [
        "# Towers",
        "",
        f"{len(accepted)} of open_clip's {len(rows)} configurations are decomposed exactly; the other {len(refused)} "
        "are refused by name before any download and can be Rosetta partners. This page is written by "
        f"`python -m benchmarks.towers`, which instantiated {sum('float64' in r for r in accepted)} of the "
        f"{len(accepted)} at full width with their first layer and random, perturbed weights (configurations that "
        "differ only in their text tower share one). Numbers are the largest relative differences in a group: between "
        "the summed effects and the tower's own output (limit 1e-12 in float64, 1e-5 in float32), between token scores "
        "and head effects (float64, 1e-12), and between second-order effects of neurons (float32, 1e-5) and the "
        "literal float64 sum over tokens, later heads and readout heads, on tiny towers of three layers.",
        "",
        *contract_table(accepted, small),
        "",
        "The table compares a trace with the plain forward pass of deep towers (batch 4, one thread): processor time, "
        "peak memory beyond the weights, and the size of the trace.",
        "",
        *cost_table(times),
        "",
        "## Accepted",
        "",
    ]
    for (family, readout), found in sorted(_grouped(accepted).items()):
        lines.append(f"- {family}, {readout}: {', '.join(r['name'] for r in found)}")
    lines += ["", "## Refused", ""]
    reasons: dict[str, list[str]] = defaultdict(list)
    for one in refused:
        reasons[one["refused"]].append(one["name"])
    lines += [f"- {reason}: {', '.join(names)}" for reason, names in sorted(reasons.items())]
    return "\n".join(lines) + "\n"


def contract_table(accepted: list[dict[str, Any]], small: list[dict[str, Any]]) -> list[str]:
    """Family and readout x the checks of the contract, of configurations and of the tests' tiny towers."""
    groups, tiny_groups = _grouped(accepted), _grouped(small)
    lines = [
        "| family | readout | accepted | instantiated | sum, float64 | sum, float32 | tokens | second order |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (family, readout), found in sorted({**tiny_groups, **groups}.items()):
        is_open_clip = (family, readout) in groups
        ran = [r for r in found if "float64" in r]
        counts = (str(len(found)), str(len(ran))) if is_open_clip else ("any size", f"{len(ran)} tiny")
        worst = [_worst(ran, check) for check in CHECKS[:3]]
        worst.append(_worst(tiny_groups.get((family, readout), []), "second"))
        lines.append(f"| {family} | {readout} | {' | '.join((*counts, *worst))} |")
    return lines


def cost_table(times: list[dict[str, Any]]) -> list[str]:
    """Configuration x what its trace costs."""
    lines = [
        "| configuration | layers | time, x plain | budget | peak memory, x plain | kept, MB per image |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {t['name']} | {t['layers']} | {t['ratio']:.2f} | {t['budget']} | {t['memory']:.2f} | "
        f"{t['MB per image']:.1f} |"
        for t in times
    ]
    return lines


def _grouped(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for one in rows:
        found[one["family"], one["readout"]].append(one)
    return found


def _worst(rows: list[dict[str, Any]], check: str) -> str:
    """Return the largest difference, marked where it is over its limit."""
    if not rows:
        return ""
    largest = max(r[check] for r in rows)
    return f"{largest:.1e}" + ("" if largest <= LIMITS[check] else " **over**")


def examined(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what each of some configurations gives, printed as it is found."""
    rows, known = [], {}
    for name in names:
        rows.append(examine(name, known))
        print({k: f"{v:.1e}" if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    return rows


def timed(cases: Sequence[Timed]) -> list[dict[str, Any]]:
    """Return what the trace of each of some configurations costs, printed as it is found."""
    times = []
    for case in cases:
        times.append(timing(case))
        print(times[-1], flush=True)
    return times


def main() -> None:
    """Examine every configuration and write docs/towers.md, or print what is known of some."""
    import open_clip

    parser = argparse.ArgumentParser(description="open_clip's configurations against the contract of towers")
    parser.add_argument("names", nargs="*", metavar="NAME", help="configurations; all when none is given")
    parser.add_argument("--quick", action="store_true", help="the tests' tiny towers alone")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(open_clip.list_models()))
    if unknown:
        parser.error(f"expected names of open_clip.list_models(), got {', '.join(unknown)}")
    if args.quick:
        print("\n".join(contract_table([], tinies())))
    elif args.names:
        rows = [row for row in examined(args.names) if "refused" not in row]
        pools = "attention pooling", "mean of tokens"
        cases = [Timed(row["name"], POOLED if row["readout"] in pools else CLASS_TOKEN) for row in rows]
        print("\n".join(["", *contract_table(rows, []), "", *cost_table(timed(cases))]))
    else:
        times, small = timed(TIMED), tinies()
        text = report(examined(open_clip.list_models()), small, times)
        (Path(__file__).parents[1] / "docs" / "towers.md").write_text(text)


if __name__ == "__main__":
    main()

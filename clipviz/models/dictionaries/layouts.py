"""File formats of sparse autoencoders: each project's names and conventions, in one place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from clipviz.files import write_whole
from clipviz.models.dictionaries import plain
from clipviz.models.dictionaries.kinds import Activation, Gate, Norm, Point
from clipviz.values.training import TrainingLog

LARGEST = 16 << 30
"""A file larger than this many bytes cannot be a dictionary."""
FILES = ("cfg.json", "sae_weights.safetensors")
"""The files of SAELens's layout."""
KNOWN = (
    "ViT-Prisma (weights.pt beside config.json, or {cfg, state_dict}), saev (sae.pt), patchsae ({cfg, state_dict}), "
    "SAELens (cfg.json beside sae_weights.safetensors), dictionary_learning (ae.pt beside config.json)"
)
HOOKS: dict[str, Point] = {
    "hook_resid_post": "residual",
    "hook_mlp_out": "mlp output",
    "mlp.hook_post": "mlp hidden",
    "hook_attn_out": "attention output",
}
"""TransformerLens's names of hook points."""
Fields = dict[str, Any]
"""The tensors of a Dictionary, by the names of its fields."""


def read(path: Path, layer: int | None, point: Point | None) -> Fields:
    """Return the fields of the dictionary in a file or a folder; see Dictionary.load."""
    try:
        return _read(path.expanduser(), layer, point)
    except (
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        OverflowError,
        RuntimeError,
        RecursionError,
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ValueError(
            f"expected a dictionary at {path}, got unexpected settings or tensors ({reason}); "
            "download the file again"
        ) from error


def _read(path: Path, layer: int | None, point: Point | None) -> Fields:
    if not path.exists():
        raise ValueError(
            f"expected a dictionary at {path}, which does not exist; pass a local file or folder"
        )
    folder = path if path.is_dir() else path.parent
    there = {one.name for one in folder.iterdir()} if folder.is_dir() else set()
    if path.is_file() and path.suffix in (".json", ".safetensors"):
        path = folder
    if path.is_dir():
        if set(FILES) <= there:
            return _saelens(folder, layer, point)
        if "ae.pt" in there:
            return _dictionary_learning(folder / "ae.pt", layer, point)
        if {"weights.pt", "config.json"} <= there:
            return _prisma(
                plain.state_dict(folder / "weights.pt"),
                plain.settings_in(folder / "config.json"),
                folder,
                layer,
                point,
            )
        single = [
            folder / name for name in ("sae.pt", *sorted(there)) if name in there and name.endswith(".pt")
        ]
        if not single:
            raise ValueError(
                f"expected a dictionary in {folder}, got {plain.some(there)}; known formats: {KNOWN}"
            )
        path = single[0]
    if path.stat().st_size > LARGEST:
        raise ValueError(f"expected a dictionary, got {path.stat().st_size / 1e9:,.0f} GB at {path}")
    if path.name == "ae.pt":
        return _dictionary_learning(path, layer, point)
    if path.name == "weights.pt" and "config.json" in there:
        return _prisma(plain.state_dict(path), plain.settings_in(folder / "config.json"), path, layer, point)
    header = plain.header(path)
    if header is not None:
        return _saev(path, *header, layer, point)
    return _of_one_file(path, layer, point)


def _of_one_file(path: Path, layer: int | None, point: Point | None) -> Fields:
    """Read {cfg, state_dict} from one file: patchsae, or ViT-Prisma's older files."""
    stored = plain.unpickled(path)
    if not isinstance(stored, Mapping) or not {"cfg", "state_dict"} <= set(stored):
        found = plain.some(stored) if isinstance(stored, Mapping) else type(stored).__name__
        raise ValueError(f"expected cfg and state_dict in {path}, got {found}; known formats: {KNOWN}")
    config, state = stored["cfg"], plain.tensors(stored["state_dict"], path)
    if not isinstance(config, Mapping):
        raise ValueError(
            f"expected cfg as a dict of plain values in {path}, got {type(config).__name__}; {plain.CONVERT}"
        )
    plain.check_names(config, path)
    if "block_layer" in config or "module_name" in config:
        return _patchsae(state, config, path, layer, point)
    return _prisma(state, config, path, layer, point)


def _prisma(
    state: plain.State, config: Mapping[str, Any], path: Path, layer: int | None, point: Point | None
) -> Fields:
    """Read ViT-Prisma's format: W_enc [d_in, d_sae]; b_dec is subtracted; gated files add b_gate, r_mag and b_mag."""
    where = f"ViT-Prisma, {path.name}"
    named = "layer_subtype" if "layer_subtype" in config else "hook_point"
    subtype = plain.word(config, named, "hook_resid_post", where).rsplit("blocks.", 1)[-1]
    norm = _prisma_norm(config.get("normalize_activations"), where)
    kind, k = _kind(config, plain.word(config, "activation_fn_str", "relu", where), where)
    gate = None
    if plain.word(config, "architecture", "standard", where) == "gated" or "b_gate" in state:
        _need(state, ("b_gate", "r_mag", "b_mag"), where)
        kind, gate = "gated", Gate(state["b_gate"], state["r_mag"], state["b_mag"])
    found = config.get("hook_point_layer")
    return _made(
        state,
        where,
        layer=_place(layer, found, where),
        point=point or _hooked(subtype, where),
        activation=kind,
        k=k,
        gate=gate,
        norm=norm,
        cls_token_only=plain.flag(config, "cls_token_only", where),
    )


def _prisma_norm(said: Any, where: str) -> Norm:
    names: dict[Any, Norm] = {None: "none", "none": "none", False: "none", "layer_norm": "layer norm"}
    names["constant_norm_rescale"] = "unit norm"
    if not isinstance(said, str | bool | None) or said not in names:
        raise ValueError(
            f"expected normalize_activations among {', '.join(str(name) for name in names)} in {where}, got {said!r}; "
            "fold the scale into the weights first"
        )
    return names[said]


def _saev(
    path: Path, config: Mapping[str, Any], start: int, layer: int | None, point: Point | None
) -> Fields:
    """Read saev's format: a line of JSON, then a state dict. The layer is not stored, and b_dec is not subtracted."""
    where = f"saev, {path.name}"
    state = plain.tensors(plain.unpickled(path, start), path)
    settings = plain.mapping(config, "cfg", where) if "cfg" in config else config
    named = settings.get("activation")
    said = {"cls": named} if isinstance(named, str) else plain.mapping(settings, "activation", where)
    name = plain.word(said, "cls" if "cls" in said else "key", "relu", where)
    threshold = next((state[key] for key in ("activation.threshold", "threshold") if key in state), None)
    if threshold is not None:
        kind, k = "jumprelu", None
    else:
        kind, k = _kind({**said, **plain.mapping(said, "params", where)}, name, where)
    return _made(
        state,
        where,
        layer=_place(layer, None, where),
        point=point or "residual",
        activation=kind,
        k=k,
        threshold=threshold,
        subtracts_bias=False,
    )


def _patchsae(
    state: plain.State, config: Mapping[str, Any], path: Path, layer: int | None, point: Point | None
) -> Fields:
    """Read patchsae's format: block_layer and module_name "resid"; b_dec is subtracted."""
    where = f"patchsae, {path.name}"
    name = plain.word(config, "module_name", "resid", where)
    if point is None and name != "resid":
        raise ValueError(f"expected module_name 'resid' in {where}, got {name!r}; pass point=")
    kind, k = _kind(config, plain.word(config, "activation_fn", "relu", where), where)
    layer = _place(layer, config.get("block_layer"), where)
    return _made(state, where, layer=layer, point=point or "residual", activation=kind, k=k)


def _saelens(folder: Path, layer: int | None, point: Point | None) -> Fields:
    """Read SAELens's format: cfg.json beside sae_weights.safetensors; the configuration states what is subtracted
    and normalised.
    """
    from clipviz.models.checksummed import read_weights

    where = f"SAELens, {folder.name}"
    config = plain.settings_in(folder / "cfg.json")
    state, _ = read_weights(folder / "sae_weights.safetensors", "a SAELens dictionary", "download it again")
    hook = plain.word(
        config if "hook_name" in config else plain.mapping(config, "metadata", where), "hook_name", "?", where
    )
    place = re.search(r"(?:blocks\.)?(\d+)\.(hook_\w+|mlp\.hook_\w+|attn\.hook_\w+)$", hook)
    kind, k = _kind(config, plain.word(config, "architecture", "standard", where), where)
    gate = None
    if kind == "gated":
        _need(state, ("b_gate", "r_mag", "b_mag"), where)
        gate = Gate(state["b_gate"], state["r_mag"], state["b_mag"])
    return _made(
        state,
        where,
        layer=_place(layer, place[1] if place else config.get("hook_layer"), where),
        point=point or _hooked(place[2] if place else hook, where),
        activation=kind,
        k=k,
        threshold=state.get("threshold"),
        gate=gate,
        norm=_prisma_norm(config.get("normalize_activations"), where),
        subtracts_bias=plain.flag(config, "apply_b_dec_to_input", where),
        cls_token_only=plain.flag(config, "cls_token_only", where),
        model=plain.word(plain.mapping(config, "metadata", where), "model", "", where, needed=False),
        log=_log(plain.mapping(config, "log", where), where),
    )


def _log(told: Mapping[str, Any], where: str) -> TrainingLog | None:
    """Return the training log of a dictionary that was trained with clipviz."""
    if not told:
        return None
    columns = [told.get(name) for name in ("steps", "explained", "dead")]
    if not all(isinstance(column, list) and len(column) == len(columns[0] or ()) for column in columns):
        raise ValueError(f"expected a log of equally long columns in {where}, got {plain.some(told)}")
    steps, explained, dead = (tuple(map(float, column)) for column in columns if column is not None)
    return TrainingLog(
        tuple(map(int, steps)), explained, dead, int(told.get("tokens", 0)), float(told.get("seconds", 0))
    )


def write(fields: Fields, shown: str, folder: Path, half: bool) -> None:
    """Return the files of SAELens's layout; see Dictionary.save. shown: the dictionary's name in messages."""
    from clipviz.models.checksummed import write_weights

    of = SimpleNamespace(**fields)
    n_units, d_in = of.encoder.shape
    architectures = {"relu": "standard", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
    if of.activation not in architectures or of.norm != "none":
        raise ValueError(
            f"expected a dictionary of {', '.join(architectures)} without a norm to save, got {shown} of norm "
            f"{of.norm!r}"
        )
    hook = next(name for name, point in HOOKS.items() if point == of.point)
    config = {
        "architecture": architectures[of.activation],
        "d_in": d_in,
        "d_sae": n_units,
        "dtype": "float16" if half else "float32",
        "apply_b_dec_to_input": of.subtracts_bias,
        "normalize_activations": "none",
        "cls_token_only": of.cls_token_only,
        "metadata": {"hook_name": f"blocks.{of.layer}.{hook}", "model": of.model},
        **({"k": of.k} if of.activation == "topk" else {}),
    }
    if of.log is not None:
        config["log"] = vars(of.log)
    tensors = {
        "W_enc": of.encoder.T,
        "W_dec": of.decoder,
        "b_enc": of.encoder_bias,
        "b_dec": of.bias,
    }
    if of.threshold is not None:
        tensors["threshold"] = of.threshold
    if of.gate is not None:
        gate = of.gate
        tensors |= {"b_gate": gate.bias, "r_mag": gate.r_mag, "b_mag": gate.mag_bias}
    held = {name: tensor.half() if half else tensor.float() for name, tensor in tensors.items()}
    write_weights(folder / "sae_weights.safetensors", held, {})
    write_whole(folder / "cfg.json", (json.dumps(config, indent=1) + "\n").encode())


def _dictionary_learning(path: Path, layer: int | None, point: Point | None) -> Fields:
    """Read dictionary_learning's ae.pt beside config.json: encoder.weight [d_sae, d_in], or W_enc for JumpReLU."""
    where = f"dictionary_learning, {path.name}"
    state = plain.state_dict(path)
    beside = path.with_name("config.json")
    trainer: Mapping[str, Any] = {}
    if beside.exists():
        config = plain.settings_in(beside)
        trainer = plain.mapping(config, "trainer", where) if "trainer" in config else config
    found, name = trainer.get("layer"), plain.word(trainer, "submodule_name", "resid", where)
    submodules: dict[str, Point] = {"resid": "residual", "mlp": "mlp output", "attn": "attention output"}
    place = point or next((one for part, one in submodules.items() if part in name), "residual")
    gate = None
    turned = {}
    if "encoder.weight" in state:
        _need(state, ("decoder.weight",), where)
        _check_matrices(where, **{name: state[name] for name in ("encoder.weight", "decoder.weight")})
        bias = next((state[key] for key in ("b_dec", "bias", "decoder_bias") if key in state), None)
        if bias is None:
            raise ValueError(f"expected b_dec, bias or decoder_bias in {where}, got {plain.some(state)}")
        encoder = state["encoder.weight"]
        turned = {
            "W_enc": encoder.T,
            "b_enc": state.get("encoder.bias", encoder.new_zeros(encoder.shape[0])),
            "W_dec": state["decoder.weight"].T,
            "b_dec": bias,
        }
    kind: Activation = "relu"
    k, threshold = None, None
    if {"r_mag", "gate_bias", "mag_bias"} <= set(state):
        kind, gate = "gated", Gate(state["gate_bias"], state["r_mag"], state["mag_bias"])
    elif "threshold" in state and ("k" not in state or float(state["threshold"].max()) > 0):
        kind, threshold = "jumprelu", state["threshold"].float()
    elif "k" in state or trainer.get("k") is not None:
        kind, k = "topk", int(state["k"] if "k" in state else trainer["k"])
    return _made(
        turned or state,
        where,
        layer=_place(layer, found, where),
        point=place,
        activation=kind,
        k=k,
        threshold=threshold,
        gate=gate,
        subtracts_bias="encoder.weight" in state or plain.flag(trainer, "apply_b_dec_to_input", where),
    )


def _made(state: plain.State, where: str, **said: Any) -> Fields:
    """Convert W_enc [d_in, d_sae] and W_dec [d_sae, d_in] to the fields of a dictionary, in float32."""
    _need(state, ("W_enc", "W_dec", "b_dec"), where)
    _check_matrices(where, W_enc=state["W_enc"], W_dec=state["W_dec"])
    if wrong := [name for name, value in state.items() if name != "k" and not value.is_floating_point()]:
        raise ValueError(
            f"expected numbers with a decimal point in {where}, got {state[wrong[0]].dtype} as {wrong[0]}"
        )
    if "threshold" in state and said["activation"] != "jumprelu":
        raise ValueError(
            f"expected no threshold beside {said['activation']} in {where}; check its activation"
        )
    encoder, decoder = state["W_enc"].float(), state["W_dec"].float()
    if encoder.shape == decoder.shape and encoder.shape[0] != encoder.shape[1]:
        encoder = encoder.T  # written [d_sae, d_in]
    n_units = encoder.shape[1]
    bias = state.get("b_enc", torch.zeros(n_units)).float()
    floats: dict[str, Any] = {
        name: value.float() if isinstance(value, Tensor) else value for name, value in said.items()
    }
    return dict(
        encoder=encoder.T.contiguous(),
        encoder_bias=bias,
        decoder=decoder.contiguous(),
        bias=state["b_dec"].float(),
        source=where,
        **{**floats, "gate": _floats(said.get("gate"))},
    )


def _check_matrices(where: str, **matrices: Tensor) -> None:
    for name, matrix in matrices.items():
        if matrix.ndim != 2:
            raise ValueError(f"expected a matrix {name} in {where}, got {matrix.ndim} axes")


def _floats(gate: Gate | None) -> Gate | None:
    return gate and Gate(gate.bias.float(), gate.r_mag.float(), gate.mag_bias.float())


def _kind(config: Mapping[str, Any], name: str, where: str) -> tuple[Activation, int | None]:
    """Return the activation that a configuration names, with its k."""
    name = name.lower().replace("_", "").replace("-", "")
    inner = plain.mapping(config, "activation_fn_kwargs", where)
    k = next(
        (source[key] for source in (inner, config) for key in ("k", "top_k", "topk") if key in source), None
    )
    names: dict[str, Activation] = {
        **dict.fromkeys(("relu", "standard", ""), "relu"),
        **dict.fromkeys(("topk", "batchtopk"), "topk"),
        "jumprelu": "jumprelu",
        "gated": "gated",
        "tanhrelu": "tanh-relu",
    }
    if name not in names:
        raise ValueError(
            f"expected an activation among {', '.join(n for n in names if n)} in {where}, got {name!r}"
        )
    if names[name] == "topk" and (isinstance(k, bool) or not isinstance(k, int)):
        raise ValueError(f"expected k, the number of active features, in {where}, got {k!r}")
    return names[name], k if names[name] == "topk" else None


def _hooked(name: str, where: str) -> Point:
    """Return the point for a hook name of TransformerLens."""
    name = re.sub(r"^\d+\.", "", name)
    if name not in HOOKS:
        raise ValueError(
            f"expected a hook among {', '.join(HOOKS)} in {where}, got {name!r}: activations at that "
            "hook are not written to the residual stream, so its features have no direct effect; "
            "pass point= if the name refers to a supported point"
        )
    return HOOKS[name]


def _place(given: int | None, found: Any, where: str) -> int:
    chosen = given if given is not None else found
    if isinstance(chosen, str) and chosen.isdecimal() and len(chosen) < 4:
        chosen = int(chosen)
    if isinstance(chosen, bool) or not isinstance(chosen, int):
        raise ValueError(f"expected {where} to state its layer, got {chosen!r}; pass layer=, counted from 0")
    return chosen


def _need(state: plain.State, names: tuple[str, ...], where: str) -> None:
    missing = [name for name in names if name not in state]
    if missing:
        raise ValueError(
            f"expected {', '.join(names)} in {where}, got {plain.some(state)}; known formats: {KNOWN}"
        )

"""Recording of a tower's forward pass as a trace, by hooks that are context managers and change nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from clipviz.lens.decompose import attention_paths, class_attention, head_codes, path_codes
from clipviz.lens.trace import Trace
from clipviz.models.forward_lock import turn
from clipviz.models.towers.anatomy import Block, Reading, Tower, deviation, full, unmixed, unsupported
from clipviz.values import LayerWeights

Listener = TypeVar("Listener", bound="Attending")


class Attended(NamedTuple):
    """Queries and keys of one layer as its attention multiplied them, after norms and rotations."""

    queries: Tensor  # [image, head, token, d_key]
    keys: Tensor  # [image, head, token, d_key]
    scale: float
    mask: Tensor | None


@contextmanager
def recording(tower: Tower, tokens: bool, check: Callable[[], None] | None = None) -> Iterator[Recorder]:
    """Hook the tower for one forward pass, which calls `check` before every layer; hooks are always removed."""
    with listening(Recorder(tower, tokens)) as recorder, ExitStack() as stack:
        if check is not None:
            asking = partial(_call, check)
            for block in tower.blocks:
                stack.callback(block.module.register_forward_pre_hook(asking).remove)
        yield recorder


def _call(check: Callable[[], None], *_: Any) -> None:
    check()


@contextmanager
def listening(recorder: Listener) -> Iterator[Listener]:
    """Attach a recorder's hooks for one forward pass, holding the tower's lock; hooks are always removed."""
    tower = recorder.tower
    with turn(tower.visual), ExitStack() as stack:
        for handle in recorder.hooks():
            stack.callback(handle.remove)
        if any(recorder.listens(block) for block in tower.blocks):
            stack.enter_context(AttentionCalls(recorder.note_call))
        yield recorder


class AttentionCalls(TorchFunctionMode):
    """Intercepts every call of scaled dot-product attention while it is entered."""

    def __init__(self, note: Callable[..., None]) -> None:
        super().__init__()
        self.note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            self.note(*args, **kwargs)
        return func(*args, **kwargs)


class Attending:
    """Records the attention of some layers in one pass, as the readout reads it.

    Everything is kept in float32 (or float64), whatever the model's precision. The weights of a class token or a
    plain mean are known in advance, and each layer is contracted as it runs. If the weights are only known at the
    end of the pass, the attention's inputs are kept until then, and queries and keys are recomputed if possible,
    since those of all layers would take half the memory of a trace.
    """

    def __init__(self, tower: Tower, first_layer: int = 0) -> None:
        self.tower = tower
        self.layers = range(first_layer, tower.weights.n_layers)
        self.tokens: dict[int, Tensor] = {}  # the input of a layer's attention
        self.attended: dict[int, Attended] = {}
        self.deviations: dict[int, Tensor] = {}  # [image, token], deviations of the heads' output
        self.seen: dict[str, Tensor] = {}  # inputs of the readout's modules
        self.weights: Tensor | None = None
        self.running: int | None = None

    @property
    def one_row(self) -> bool:
        """Whether the readout uses token 0 only."""
        return self.tower.weights.readout.kind == "class token"

    def listens(self, block: Block) -> bool:
        """Return whether queries and keys are taken from the attention's call, not computed from the weights."""
        return block.reads == "calls" or (block.reads == "either" and self.tower.readout.early)

    def hooks(self) -> Iterator[Any]:
        """Register all hooks and yield their handles."""
        yield self.tower.blocks[0].module.register_forward_pre_hook(self.note_input)
        for layer in self.layers:
            block = self.tower.blocks[layer]
            if block.norm is not None:
                yield block.norm.register_forward_hook(partial(self.note_tokens, layer))
            else:
                yield block.module.register_forward_pre_hook(partial(self.note_residual, layer))
            if self.listens(block):
                yield block.attention.register_forward_pre_hook(partial(self.note_start, layer))
            if block.scaling_norm is not None:
                yield block.scaling_norm.register_forward_pre_hook(partial(self.note_deviation, layer))
        for layer, block in enumerate(self.tower.blocks):
            yield block.mlp_write.register_forward_hook(partial(self.note_mlp, layer))
        for name, module in self.tower.readout.modules().items():
            yield module.register_forward_pre_hook(partial(self.note_seen, name))

    def note_input(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self.tower.readout.early:
            self.weights = self.tower.readout.weights_before(inputs[0])

    def note_mlp(self, layer: int, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if self.tower.readout.early and layer in self.layers:
            with unmixed(output.device):
                self.contract(layer)

    def contract(self, layer: int) -> None:
        """Compute what is kept of a layer, once the readout's weights are known."""
        raise NotImplementedError

    def finish(self) -> Reading:
        """Return the readout's reading, after contracting the layers that waited for its weights."""
        with unmixed(next(iter(self.seen.values())).device):
            reading = self.tower.readout.reading(self.seen)
            if not self.tower.readout.early:
                self.weights = reading.weights
                for layer in self.layers:
                    self.contract(layer)
        return reading

    def note_residual(self, layer: int, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.tokens[layer] = full(inputs[0])

    def note_tokens(self, layer: int, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self.tokens[layer] = full(output)

    def note_start(self, layer: int, *_: Any) -> None:
        self.running = layer

    def note_call(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        layer, self.running = self.running, None
        if layer is None:  # the call of a pooling head
            return
        if is_causal:
            raise unsupported("causal attention in an image tower")
        queries = query[:, :, :1] if self.one_row else query
        mask = attn_mask if attn_mask is None or not self.one_row else attn_mask[..., :1, :]
        self.attended[layer] = Attended(
            full(queries), full(key), query.shape[-1] ** -0.5 if scale is None else scale, mask
        )

    def note_deviation(self, layer: int, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        written = inputs[0][:, :1] if self.one_row else inputs[0]
        self.deviations[layer] = deviation(written, module.eps)  # type: ignore[arg-type]

    def note_seen(self, name: str, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.seen[name] = inputs[0]

    def read_paths(self, layer: int) -> tuple[Tensor, list[Tensor]]:
        """Return the paths [image, head, readout_head, token] of a layer and the tallies of its codes."""
        tokens, weights = self.tokens[layer], self.tower.weights.layers[layer]
        if self.one_row and layer not in self.attended and layer not in self.deviations:
            return class_attention(tokens, weights)[:, :, None], []
        attended = self.attended.pop(layer, None) or self._multiplied(layer, tokens, weights)
        readout = self.weights
        if readout is None:
            readout = tokens.new_ones(len(tokens), 1, 1)
        scaled, tallies = readout, [readout.sum(-1)] if readout.shape[1] > 1 else []
        if layer in self.deviations:
            scaled = readout / self.deviations.pop(layer)[:, None]
            tallies += [scaled.sum(-1)] if weights.post_norm else []
        return attention_paths(
            attended.queries, attended.keys, scaled, attended.scale, attended.mask
        ), tallies

    def _multiplied(self, layer: int, tokens: Tensor, weights: LayerWeights) -> Attended:
        block: Block = self.tower.blocks[layer]
        if block.reads == "calls":
            raise unsupported(
                f"attention {type(block.attention).__name__} that does not call scaled_dot_product_attention",
                "turn fused attention on: timm.layers.set_fused_attn(True)",
            )
        readers = tokens[:, :1] if self.one_row else tokens
        heads = (len(weights.query), -1)
        queries = torch.nn.functional.linear(
            readers, weights.query.flatten(0, 1), weights.query_bias.flatten()
        )
        keys = torch.nn.functional.linear(tokens, weights.key.flatten(0, 1))
        return Attended(
            queries.unflatten(-1, heads).transpose(1, 2),
            keys.unflatten(-1, heads).transpose(1, 2),
            weights.query.shape[1] ** -0.5,
            None,
        )


class Recorder(Attending):
    """Collects the parts of a trace."""

    def __init__(self, tower: Tower, keep_tokens: bool) -> None:
        super().__init__(tower)
        self.keep_tokens = keep_tokens
        self.paths: dict[int, Tensor] = {}
        self.codes: dict[int, Tensor] = {}
        self.writes: dict[int, Tensor] = {}  # 0 the input, 1 + layer an MLP
        self.final: Tensor | None = None  # the input of a pool

    def hooks(self) -> Iterator[Any]:
        yield from super().hooks()
        if self.keep_tokens and self.tower.weights.readout.pools:
            yield self.tower.blocks[-1].module.register_forward_hook(self.note_final)

    def note_final(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self.final = full(output[0] if isinstance(output, tuple) else output)

    def note_input(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        super().note_input(_module, inputs)
        self.writes[0] = self._read(inputs[0])

    def note_mlp(self, layer: int, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self.writes[1 + layer] = self._read(output)
        super().note_mlp(layer, _module, _inputs, output)

    def contract(self, layer: int) -> None:
        """Return the layer's codes, and its paths if tokens are kept."""
        paths, tallies = self.read_paths(layer)
        weights = self.tower.weights.layers[layer]
        if self.one_row and self.tower.blocks[layer].scaling_norm is None:
            self.codes[layer] = head_codes(self.tokens[layer], paths[:, :, 0], weights)
        else:
            self.codes[layer] = path_codes(self.tokens[layer], paths, weights, tallies)
        if self.keep_tokens:
            self.paths[layer] = paths
        else:
            del self.tokens[layer]

    def trace(self, embedding: Tensor) -> Trace:
        """Return the trace once the pass has run."""
        reading = self.finish()
        if not self.tower.readout.early:
            assert reading.weights is not None
            with unmixed(embedding.device):
                self.writes = {k: torch.bmm(reading.weights, y).flatten(1) for k, y in self.writes.items()}
        return Trace(
            weights=self.tower.weights,
            embedding=full(embedding),
            codes=torch.stack([self.codes[layer] for layer in self.layers], 1),
            mlp_writes=torch.stack([self.writes[term] for term in sorted(self.writes)], 1),
            mean=reading.mean,
            std=reading.std,
            tokens=tuple(self.tokens[layer] for layer in self.layers) if self.keep_tokens else None,
            paths=torch.stack([self.paths[layer] for layer in self.layers], 1) if self.keep_tokens else None,
            tail=reading.tail,
            final=self.final,
            reads=None if self.final is None else self.weights,
        )

    def _read(self, written: Tensor) -> Tensor:
        """Return a term as the readout reads it [image, d_model], or unreduced if the weights are not known yet."""
        if not self.tower.readout.early:
            return full(written)
        if self.weights is None:
            return full(written[:, 0])
        with unmixed(written.device):
            return torch.bmm(self.weights, full(written))[:, 0]

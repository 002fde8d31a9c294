"""The CLIP model that a session uses: it encodes, traces and identifies itself. See towers/ for the decomposition."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor, nn

from clipviz.data.decode import to_rgb
from clipviz.lens.decompose import head_basis
from clipviz.lens.neurons import NeuronBasis, SecondOrder
from clipviz.lens.trace import Trace
from clipviz.models.checksummed import digest_of
from clipviz.models.dictionaries.dictionary import Dictionary
from clipviz.models.forward_lock import turn
from clipviz.models.numbers import check_weights
from clipviz.models.preprocess import normalization, signature
from clipviz.models.second import basis_of, each_second_order, second_orders
from clipviz.models.text_towers import check_ids, encode_tokens
from clipviz.models.towers import read_tower, unsupported
from clipviz.models.towers.anatomy import full
from clipviz.models.towers.recording import recording
from clipviz.models.units import units_of
from clipviz.models.vetting import (
    Watch,
    adapted,
    check_image_encoder,
    check_matrices,
    check_plain,
    whole_texts,
)
from clipviz.values import HeadBasis, TowerWeights, check_characters

if TYPE_CHECKING:
    from clipviz.models.bundle import Bundle
    from clipviz.models.dictionaries import PointEffects, Reconstruction
    from clipviz.models.registers import Registers

Kind = TypeVar("Kind")

FAR_OFF = 1e3  # if the residual mean is this many deviations, float32 loses half its digits
SUM_CHECK_LIMIT = {torch.float32: 1e-4, torch.float64: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}


class ClipModel:
    """A CLIP image-text model whose embedding is decomposed into a sum of heads, MLPs and tokens.

    network: the image-text model, in eval mode, otherwise unchanged; tower: its vision tower, with the weights in
    the form that lenses use; sum_check: relative difference between the summed effects and the model's own
    output, measured on load; fingerprint: a short hash of the weights and the activation, part of every cache's
    key; bundle: the world that the model belongs to, if any, see models.bundle; registers: (layer, neuron) pairs,
    see with_registers.
    """

    def __init__(
        self,
        network: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        preprocess: Callable[[Image.Image], Tensor],
        name: str = "custom",
        pretrained: str = "",
        bundle: Bundle | None = None,
    ) -> None:
        check_plain(network)
        visual = getattr(network, "visual", None)
        if visual is None or not hasattr(network, "encode_text"):
            raise ValueError(
                f"expected an open_clip model with .visual and .encode_text, got {type(network).__name__}; "
                "create one with open_clip.create_model_and_transforms, or pass a Hugging Face model and its processor"
            )
        check_weights(network, f"model {name!r}")
        self.network = network.eval()
        self.name = name
        self.pretrained = pretrained
        self.bundle = bundle
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        _check_parts(tokenizer, preprocess)
        self.tower = read_tower(visual)
        self.fingerprint = self.weights_fingerprint = _fingerprint(network, self.activation)
        self.registers: tuple[tuple[int, int], ...] = ()
        self._watch = Watch(network)
        check_matrices(self.tower, self.limit)
        self.sum_check = self._check_sum()
        self._whole_texts = whole_texts(network, tokenizer, self.limit)

    def __repr__(self) -> str:
        tag = f", {self.pretrained}" if self.pretrained else ""
        n = len(self.registers)
        moved = f", {n} register {'neuron' if n == 1 else 'neurons'} moved" if n else ""
        return f"<ClipModel {self.name}{tag}: {self.n_layers} layers x {self.n_heads} heads on {self.device}{moved}>"

    @property
    def visual(self) -> Any:
        return self.tower.visual

    @property
    def weights(self) -> TowerWeights:
        return self.tower.weights

    @property
    def device(self) -> torch.device:
        found: torch.device = next(self.visual.parameters()).device
        return found

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the pixels that the tower takes: its first convolution's, even if others stay in float32."""
        convolutions = (module for module in self.visual.modules() if isinstance(module, nn.Conv2d))
        first = next(convolutions, None)
        return next(self.visual.parameters()).dtype if first is None else first.weight.dtype

    @property
    def limit(self) -> float:
        """The largest relative difference between two ways to compute one number in this model's precision."""
        return SUM_CHECK_LIMIT.get(self.dtype, 1e-4)

    @property
    def n_layers(self) -> int:
        return self.weights.n_layers

    @property
    def n_heads(self) -> int:
        return self.weights.n_heads

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns of a preprocessed image, in pixels."""
        return self.tower.image_size

    @property
    def logit_scale(self) -> float:
        """The trained temperature: logits are logit_scale * cosine + logit_bias."""
        return float(self.network.logit_scale.detach().exp())  # type: ignore[operator]

    @property
    def logit_bias(self) -> float | None:
        """The trained bias of a model with a sigmoid loss (SigLIP), or None."""
        bias = getattr(self.network, "logit_bias", None)
        return None if bias is None else float(bias.detach())

    def probabilities(self, cosines: Float[Tensor, "*images text"]) -> Float[Tensor, "*images text"]:
        """Return zero-shot probabilities: softmax over the texts, or sigmoids if the model has a logit bias."""
        logits = self.logit_scale * cosines
        return (
            torch.softmax(logits, -1) if self.logit_bias is None else torch.sigmoid(logits + self.logit_bias)
        )

    @property
    def link(self) -> str:
        """How cosines become probabilities: "sigmoid of 117.3 × cosine − 12.9, each class separately"."""
        scaled, bias = f"{self.logit_scale:.1f} × cosine", self.logit_bias
        if bias is None:
            return f"softmax of {scaled} over the classes"
        return f"sigmoid of {scaled} {'−' if bias < 0 else '+'} {abs(bias):.1f}, each class separately"

    @property
    def activation(self) -> str:
        """The activation function of the MLPs, e.g. 'GELU' or 'QuickGELU'."""
        return self.tower.activation

    def prepare(
        self, images: Tensor | Image.Image | Sequence[Image.Image]
    ) -> Float[Tensor, "image 3 rows cols"]:
        """Return images as the network takes them, on its device: PIL images are preprocessed, tensors are checked.

        PIL images are first made upright, opaque and 8-bit, like those of a collection (data.decode.to_rgb).

        Raises:
            ValueError: An image is of another kind or shape.
        """
        if isinstance(images, Tensor):
            return self._check_pixels(images).to(self.device, self.dtype)
        images, wrong = _listed(images, Image.Image)
        if wrong or not images:
            got = type(wrong[0]).__name__ if wrong else "an empty list"
            raise ValueError(
                f"expected PIL images or a tensor [image, 3, rows, cols], got {got}; open other sources with "
                "clipviz.data.images.open_images(...)"
            )
        return torch.stack([self.preprocess(to_rgb(image)) for image in images]).to(self.device, self.dtype)

    def shown(self, pixels: Float[Tensor, "image 3 rows cols"]) -> np.ndarray:
        """Return preprocessed images as the network sees them, as uint8 [image, rows, cols, 3] for display."""
        mean, std = (
            torch.tensor(v).view(3, 1, 1) for v in normalization(self.preprocess, self.network.visual)
        )
        raw = (pixels.float().cpu() * std + mean).clamp(0, 1) * 255
        return raw.round().byte().permute(0, 2, 3, 1).numpy()

    def shown_sharp(self, image: Image.Image, scale: int = 2) -> np.ndarray:
        """Return one image as `shown` does, at a higher resolution if the preprocessing is a resize and crop.

        Args:
            image: The image.
            scale: Factor of the resolution, at most.

        Returns:
            uint8 [rows, cols, 3].
        """
        rows, cols = self.image_size
        steps = [type(step).__name__ for step in getattr(self.preprocess, "transforms", [])]
        image = to_rgb(image)
        if "CenterCrop" not in steps or rows != cols or min(image.size) <= rows:
            found: np.ndarray = self.shown(self.prepare(image))[0]
            return found
        side = min(scale * rows, min(image.size))
        return np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))

    @torch.no_grad()
    def encode_images(
        self, images: Tensor | Image.Image | Sequence[Image.Image]
    ) -> Float[Tensor, "image d_embed"]:
        """Return unnormalised image embeddings in float32 (float64 for a float64 model)."""
        return full(self._forward(self.prepare(images)))

    @torch.no_grad()
    def encode_texts(
        self, texts: str | Sequence[str], normalize: bool = True, batch: int = 256
    ) -> Float[Tensor, "text d_embed"]:
        """Return text embeddings.

        Args:
            texts: One text or several.
            normalize: Return unit vectors.
            batch: Texts at once.

        Returns:
            [text, d_embed], float32 on the model's device.

        Raises:
            ValueError: There is no text, or something that is not a text.
        """
        texts, wrong = _listed(texts, str)
        if wrong or not texts:
            raise ValueError(f"expected one or more texts, got {repr(wrong[0]) if wrong else 'none'}")
        for text in texts:
            check_characters("a text", text)
        self.check_unchanged()
        rows = []
        with self._evaluated():
            for start in range(0, len(texts), batch):
                tokens = self.tokenizer(texts[start : start + batch])
                check_ids(self.network, tokens)
                rows.append(full(encode_tokens(self.network, tokens.to(self.device), self._whole_texts)))
        encoded = torch.cat(rows)
        return encoded / encoded.norm(dim=-1, keepdim=True) if normalize else encoded

    @torch.no_grad()
    def trace(
        self,
        images: Tensor | Image.Image | Sequence[Image.Image],
        tokens: bool = True,
        check: Callable[[], None] | None = None,
    ) -> Trace:
        """Return one forward pass, decomposed into the effects of every head, MLP and token (thesis Eq. 2.4-2.6).

        Args:
            images: Preprocessed, [image, 3, rows, cols], or PIL images.
            tokens: Keep the inputs of the tokens, which token scores and heatmaps need. False saves memory over whole
                collections; head and MLP effects remain exact.
            check: Called before every layer; an exception that it raises ends the pass.

        Returns:
            A Trace, whose effects sum to the embedding before it is normalised.
        """
        pixels = self.prepare(images)
        with recording(self.tower, tokens, check) as recorder:
            embedding = self._forward(pixels)
        return recorder.trace(embedding)

    def second_order(
        self, images: Tensor | Image.Image | Sequence[Image.Image], layer: int | Dictionary
    ) -> SecondOrder:
        """Return second-order effects of one layer's neurons on some images, from one pass (thesis Eq. 3.3, B.5).

        Args:
            images: As in `trace`.
            layer: An MLP layer, counted from 0; the last layer has no later attention and hence no second-order
                effect. Or a dictionary, whose features stand where the neurons stand (see models.units).

        Returns:
            A SecondOrder, in the units of the embedding before it is normalised. The effects phi_n of all neurons are
            never formed together; ask for `norms()`, `effects(neurons)` or `activation_maps(neurons)`.

        Raises:
            ValueError: The layer does not exist, or no attention follows it.
        """
        if isinstance(layer, Dictionary):
            return units_of(self, layer).second_order(images)
        return self.second_orders(images, [layer])[0]

    def second_orders(
        self, images: Tensor | Image.Image | Sequence[Image.Image], layers: Sequence[int]
    ) -> list[SecondOrder]:
        """Return second-order effects of several layers from one pass.

        Args:
            images: As in `trace`.
            layers: As in `second_order`.

        Returns:
            One SecondOrder per layer, in the order of `layers`.
        """
        return second_orders(self.tower, self.encode_images, self.prepare(images), layers)

    def each_second_order(
        self, images: Tensor | Image.Image | Sequence[Image.Image], layers: Sequence[int]
    ) -> Iterator[SecondOrder]:
        """Yield second-order effects layer by layer, for layers that do not fit in memory together.

        Args:
            images: As in `trace`.
            layers: As in `second_order`.

        Yields:
            One SecondOrder per layer, in the order of `layers`.
        """
        return each_second_order(self.tower, self.encode_images, self.prepare(images), layers)

    def dictionary_effects(
        self, images: Tensor | Image.Image | Sequence[Image.Image], dictionary: Dictionary
    ) -> PointEffects:
        """Return exact effects of a dictionary's features on some images, from one pass.

        Args:
            images: As in `trace`.
            dictionary: Directions at one point of this model.

        Returns:
            Effects of the features, of the dictionary's offset and of its error.
        """
        from clipviz.models.dictionaries.effects import point_effects

        return point_effects(self, images, dictionary)

    def measure_dictionary(
        self, images: Tensor | Image.Image | Sequence[Image.Image], dictionary: Dictionary
    ) -> Reconstruction:
        """Measure how well a dictionary reconstructs its point on some images. A wrong convention or layer shows here.

        Args:
            images: As in `trace`.
            dictionary: Directions at one point of this model.

        Returns:
            Explained variance, active and dead features, and the cosine of the embedding before and after.
        """
        from clipviz.models.dictionaries.reconstruction import measure

        return measure(self, images, dictionary)

    def neuron_basis(self, layer: int | Dictionary) -> NeuronBasis:
        """Return the image-independent half of the second-order effects of one layer's neurons, or of a dictionary's
        features; made once, see lens.neurons."""
        if isinstance(layer, Dictionary):
            return units_of(self, layer).basis
        return basis_of(self.weights, layer)

    def head_basis(self, layers: Sequence[int] | None = None) -> HeadBasis:
        """Return the image-independent basis of this model's head effects, see values.HeadBasis."""
        return head_basis(self.weights, layers)

    def with_thesis_shares(self) -> ClipModel:
        """Return the same model with biases and means of norms distributed exactly as in the thesis (App. A and
        B.8): over attention terms alone, and over the neurons before a layer. Sums are the same; docs/fidelity.md
        says how much differs.
        """
        other = copy.copy(self)
        other.tower = dataclasses.replace(
            self.tower, weights=dataclasses.replace(self.weights, thesis_shares=True)
        )
        return other

    def find_registers(self, images: Tensor | Image.Image | Sequence[Image.Image], **how: Any) -> Registers:
        """Return the few neurons that write the large norms of outlier tokens.

        Args:
            images: As in `trace`.
            how: As in models.registers.find_registers.

        Returns:
            The neurons, for `with_registers`.
        """
        from clipviz.models.registers import find_registers

        return find_registers(self, images, **how)

    def with_registers(self, registers: Registers | Sequence[tuple[int, int]]) -> ClipModel:
        """Return the same model with one added token that takes over the activations of register neurons.

        registers: (layer, neuron) pairs counted from 0, or the result of `find_registers`. The added token takes
        each neuron's largest activation over all tokens, and every other token takes zero. Every lens, map and
        trace follows: the added token has no position in the image, and the effects sum to this model's output.
        See docs/registers.md.

        Raises:
            ValueError: The model does not have a neuron.
        """
        from clipviz.models.registers import with_registers

        return with_registers(self, registers)

    def identity(self) -> dict[str, Any]:
        """Return everything that a cache must match to belong to this model. preprocess: its output for two
        pictures, in numbers.
        """
        self.check_unchanged()
        return {
            "name": self.name,
            "pretrained": self.pretrained,
            "fingerprint": self.fingerprint,
            "activation": self.activation,
            "image_size": list(self.image_size),
            "normalization": [list(v) for v in normalization(self.preprocess, self.network.visual)],
            "preprocess": signature(self.preprocess),
        }

    def cache_key(self) -> tuple[str, ...]:
        """Return the key of answers kept on disk: weights, activation, precision and kind of device."""
        self.check_unchanged()
        return self.fingerprint, str(self.dtype), self.device.type

    def check_unchanged(self) -> None:
        """Check that the network is as it was when it was opened, so that earlier results hold.

        Weights that were changed and then restored count as unchanged. The check takes about a millisecond.

        Raises:
            ValueError: The network has changed.
        """
        if self._watch.same(lambda: _fingerprint(self.network, self.activation) == self.weights_fingerprint):
            return
        name = self._watch.changed()
        raise ValueError(
            f"the weights of model {self.name!r} have changed since it was "
            f"opened{f' ({name})' if name else ''}, and earlier results do not hold for them; open "
            "the network again with clipviz.wrap(network, tokenizer, preprocess) and give it to a "
            "new session"
        )

    @contextmanager
    def _evaluated(self) -> Iterator[None]:
        """Put the text tower in eval mode for a block, whatever mode the network was left in."""
        if not any(module.training for module in self.network.modules()):
            yield
            return
        with turn(self.visual), turn(self.network):
            yield

    def _forward(self, pixels: Tensor) -> Tensor:
        self.check_unchanged()
        with turn(self.visual):
            output = self.visual(pixels)
        found: Tensor = output[0] if isinstance(output, tuple) else output
        return found

    def _check_pixels(self, pixels: Tensor) -> Tensor:
        expected = (3, *self.image_size)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected:
            raise ValueError(
                f"expected images [image, {', '.join(map(str, expected))}] for model {self.name!r}, got "
                f"{list(pixels.shape)}; preprocess them with model.prepare(PIL images)"
            )
        if pixels.shape[0] == 0:
            raise ValueError("expected at least one image, got an empty batch")
        return pixels

    def _check_sum(self) -> float:
        generator = torch.Generator().manual_seed(0)
        pixels = self.prepare(torch.randn(1, 3, *self.image_size, generator=generator))
        trace = self.trace(pixels, tokens=False)
        residual, limit = trace.sum_check(), self.limit
        if not residual <= limit:
            offset = float((trace.mean.abs() / trace.std).max())
            if offset > FAR_OFF and self.dtype != torch.float64:
                raise ValueError(
                    "expected a final residual stream with a mean not far above its deviation, got "
                    f"a mean {offset:.0e} times as large in model {self.name!r}: in "
                    f"{str(self.dtype).removeprefix('torch.')} the terms miss the output by "
                    f"{residual:.1e} (limit {limit:.0e}); open the model in float64, "
                    "clipviz.wrap(network.double())"
                )
            found = f"model {self.name!r}, whose terms miss its output by {residual:.1e} (limit {limit:.0e})"
            wrappers = adapted(self.visual)
            hint = f"these modules modify the weights: {wrappers}; merge them first" if wrappers else ""
            raise unsupported(found, hint)
        check_image_encoder(self.network, pixels, trace.embedding, limit, self.name)
        return residual


def _listed(given: Any, kind: type[Kind]) -> tuple[list[Kind], list[Any]]:
    """Return a list of the given items up to the first of another type, and that item if there is one."""
    listed: list[Kind] = []
    for one in (given,) if isinstance(given, kind) or not isinstance(given, Iterable) else given:
        if not isinstance(one, kind):
            return listed, [one]
        listed.append(one)
    return listed, []


def _check_parts(tokenizer: Any, preprocess: Any) -> None:
    """Raise ValueError unless the tokenizer turns texts into ids and the preprocessing a picture into pixels."""
    asked: tuple[tuple[str, Any, Any, int, str], ...] = (
        ("tokenizer", tokenizer, ["a photo"], 2, "a list of texts into token ids [text, token]"),
        ("preprocess", preprocess, Image.new("RGB", (8, 8)), 3, "a PIL image into pixels [3, rows, cols]"),
    )
    for name, part, example, n_axes, what in asked:
        if part is None:
            continue
        try:
            made, cause = part(example), None
        except Exception as error:
            made, cause = None, error
        if len(getattr(made, "shape", ())) != n_axes:
            said = (
                f"raises {type(cause).__name__}: {str(cause)[:80]}"
                if cause
                else f"gives {type(made).__name__}"
            )
            raise ValueError(
                f"expected a {name} that turns {what}, got {type(part).__name__}, which {said}; pass "
                "tokenizer= and preprocess= as open_clip or the processor provides them, and do not "
                "swap them"
            ) from cause
    if preprocess is not None and len({tuple(signature(preprocess)) for _ in range(3)}) > 1:
        raise ValueError(
            f"expected a preprocess that gives the same pixels each time, got {type(preprocess).__name__}, which does "
            "not; pass the transform for evaluation, the third that open_clip.create_model_and_transforms gives"
        )


def _fingerprint(network: nn.Module, activation: str) -> str:
    """Return a short hash of all weights and the activation, the same in every precision that can hold them."""
    described = f"{type(network).__name__}{activation}{digest_of(network.state_dict())}"
    return hashlib.sha256(described.encode()).hexdigest()[:12]

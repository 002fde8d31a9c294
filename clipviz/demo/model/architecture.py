"""The demo's CLIP in torch alone: the architecture, the names of parameters and the numbers are open_clip's.

Importing open_clip takes longer than all the rest that a first board needs, so the demo does without. open_clip opens
the same weights, see MODEL_CARD.md; tests compare both networks number by number.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Layer normalisation that returns the type of its inputs, under autocast too."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).to(inputs.dtype)


class ResidualAttentionBlock(nn.Module):
    """Attention, then an MLP, each of which reads a normalised residual stream and adds to it."""

    def __init__(self, width: int, n_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.ln_1 = LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = LayerNorm(width)
        parts = (
            ("c_fc", nn.Linear(width, hidden)),
            ("gelu", nn.GELU()),
            ("c_proj", nn.Linear(hidden, width)),
        )
        self.mlp = nn.Sequential(OrderedDict[str, nn.Module](parts))
        self.ls_2 = nn.Identity()

    def forward(self, stream: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        normed = self.ln_1(stream)
        mask = None if attn_mask is None else attn_mask.to(stream.dtype)
        attended = self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        stream = stream + self.ls_1(attended)
        found: Tensor = stream + self.ls_2(self.mlp(self.ln_2(stream)))
        return found


class Transformer(nn.Module):
    """Blocks in a row."""

    def __init__(self, width: int, n_layers: int, n_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.width, self.layers, self.batch_first = width, n_layers, True
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(width, n_heads, mlp_ratio) for _ in range(n_layers)
        )

    def get_cast_dtype(self) -> torch.dtype:
        """Return the type of the weights, to which tokens are converted."""
        first: Any = self.resblocks[0]
        found: torch.dtype = first.mlp.c_fc.weight.dtype
        return found

    def forward(self, stream: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            stream = block(stream, attn_mask=attn_mask)
        return stream


class VisionTransformer(nn.Module):
    """The image tower: the class token of the last layer, normalised and projected, is the embedding."""

    def __init__(
        self,
        d_embed: int,
        layers: int,
        width: int,
        head_width: int,
        patch_size: int,
        image_size: int,
        mlp_ratio: float = 4.0,
        patch_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if patch_dropout:
            raise ValueError(
                f"expected patch_dropout 0 in the configuration, got {patch_dropout}; training drops patches by a "
                "module of its own"
            )
        side, scale = image_size // patch_size, width**-0.5
        self.image_size, self.patch_size = (image_size, image_size), (patch_size, patch_size)
        self.grid_size, self.output_dim = (side, side), d_embed
        self.pool_type, self.final_ln_after_pool, self.attn_pool = "tok", False, None
        self.conv1 = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(side * side + 1, width))
        self.patch_dropout: nn.Module = nn.Identity()
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, width // head_width, mlp_ratio)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, d_embed))

    def _embeds(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).permute(0, 2, 1)
        first = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.positional_embedding.to(patches.dtype)
        found: Tensor = self.ln_pre(self.patch_dropout(tokens))
        return found

    def forward(self, pixels: Tensor) -> Tensor:
        stream = self.transformer(self._embeds(pixels))
        found: Tensor = self.ln_post(stream)[:, 0] @ self.proj
        return found


class CLIP(nn.Module):
    """An image tower, and a causal text tower whose parts are the network's own, as in open_clip.

    drawn: whether the text tower's weights, most of which are its table of tokens, are drawn.
    """

    attn_mask: Tensor
    logit_bias = None
    text_pool_type, text_eos_id = "argmax", 2

    def __init__(
        self, d_embed: int, vision: dict[str, Any], text: dict[str, Any], drawn: bool = True
    ) -> None:
        super().__init__()
        self.visual = VisionTransformer(d_embed, **vision)
        self.context_length, self.vocab_size, width = (
            text["context_length"],
            text["vocab_size"],
            text["width"],
        )
        shape = self.vocab_size, width
        table = (
            nn.Embedding(*shape) if drawn else nn.Embedding.from_pretrained(torch.empty(shape), freeze=False)
        )
        self.transformer = Transformer(width, text["layers"], text["heads"], text.get("mlp_ratio", 4.0))
        # parameters keep open_clip's order, by which an optimiser's state is resumed
        self.token_embedding = table
        self.positional_embedding = nn.Parameter(torch.empty(self.context_length, width))
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, d_embed))
        mask = torch.full((self.context_length, self.context_length), float("-inf")).triu(1)
        self.register_buffer("attn_mask", mask, persistent=False)
        if drawn:
            self._draw_texts()
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def _draw_texts(self) -> None:
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        width = self.transformer.width
        for block in self.transformer.resblocks:
            part: Any = block
            nn.init.normal_(part.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(
                part.attn.out_proj.weight, std=width**-0.5 * (2 * self.transformer.layers) ** -0.5
            )
            nn.init.normal_(part.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(part.mlp.c_proj.weight, std=width**-0.5 * (2 * self.transformer.layers) ** -0.5)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Return embeddings of preprocessed images, [image, d_embed]."""
        found: Tensor = self.visual(image)
        return F.normalize(found, dim=-1) if normalize else found

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Return embeddings of token ids, [text, d_embed], read at each text's end."""
        dtype = self.transformer.get_cast_dtype()
        stream = self.token_embedding(text).to(dtype) + self.positional_embedding.to(dtype)
        stream = self.ln_final(self.transformer(stream, attn_mask=self.attn_mask))
        found = (
            stream[torch.arange(len(stream), device=stream.device), text.argmax(-1)] @ self.text_projection
        )
        return F.normalize(found, dim=-1) if normalize else found

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit embeddings of images and of texts, and the scale of their cosines."""
        return self.encode_image(image, True), self.encode_text(text, True), self.logit_scale.exp()

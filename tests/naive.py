"""The thesis, literally: slow, float64, every [token, token, head, d_model] tensor formed. The tests' reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from open_clip.model import (
        CLIP,
    )  # takes seconds to import, so functions do it: every worker reads the tests

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}


def small_clip(seed: int = 0, **vision) -> CLIP:
    """A random CLIP with LayerNorms and biases far from their initial values."""
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    config = {"layers": 3, "width": 48, "head_width": 12, "patch_size": 8, "image_size": 32} | vision
    network = CLIP(20, config, TEXT).eval()
    perturb(network, seed)
    return network


def perturb(network: nn.Module, seed: int = 0) -> None:
    """Strongly perturbed LayerNorms, layer scales and biases, so that no bias share can hide."""
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in network.visual.named_parameters():
            if parameter.ndim <= 1:
                noise = torch.randn(parameter.shape, generator=generator)
                normed = "ln" in name or "norm" in name
                parameter.copy_(parameter + (0.7 if normed else 0.5) * noise)
            elif "latent" in name or "query" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


def reference(network: CLIP, images: torch.Tensor, attention_only: bool = False) -> dict[str, torch.Tensor]:
    """Direct effects of every token through every head, and of the MLPs, from the literal equations.

    Eq. 2.3-2.6 with App. A.1-A.4: full attention, each head's output at each token as a sum over source tokens,
    projected one by one, LayerNorm and biases shared out equally, over all terms or the c_{i,l,h} alone. Returns
    float64 tensors: tokens [image, layer, head, token, d_embed], mlps [image, 1 + layer, d_embed], embedding
    [image, d_embed].
    """
    visual = network.visual.double()
    with torch.no_grad():
        residual = visual._embeds(images.double())
        inputs, writes = [residual[:, 0]], []
        for block in visual.transformer.resblocks:
            contributions = head_token_writes(block, block.ln_1(residual))
            residual = residual + contributions.sum((2, 3))
            writes.append(contributions[:, 0])
            mlp = block.ls_2(block.mlp(block.ln_2(residual)))
            residual = residual + mlp
            inputs.append(mlp[:, 0])
        final = residual[:, 0]
        mean = final.mean(-1)
        std = (final.var(-1, unbiased=False) + visual.ln_post.eps).sqrt()
        n_terms = len(writes) if attention_only else 2 * len(writes) + 1
        tokens = torch.stack(writes, 1).transpose(2, 3)  # image layer head token d_model
        shares = n_terms * tokens.shape[2] * tokens.shape[3]
        effects = project(visual, tokens, mean, std, shares)
        mlps = project(visual, torch.stack(inputs, 1), mean, std, float("inf") if attention_only else n_terms)
        embedding = visual(images.double())
    network.float()
    return {"tokens": effects, "mlps": mlps, "embedding": embedding}


def head_token_writes(block: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """[image, to, from, head, d_model]: what each source token writes to each token through each head."""
    attention = block.attn
    n_heads, d_model = attention.num_heads, tokens.shape[-1]
    queries, keys, values = (tokens @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, -1)
    split = [x.unflatten(-1, (n_heads, -1)) for x in (queries, keys, values)]
    logits = torch.einsum("ithe,ishe->ihts", split[0], split[1]) * (d_model // n_heads) ** -0.5
    weights = logits.softmax(-1)
    output = attention.out_proj.weight.unflatten(1, (n_heads, -1))
    written = torch.einsum("ihts,ishe,dhe->itshd", weights, split[2], output)
    written = written + attention.out_proj.bias / (n_heads * tokens.shape[1])
    scale = getattr(block.ls_1, "gamma", None)
    return written if scale is None else written * scale


def project(visual: nn.Module, writes: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, shares: float):
    """(gamma (x - mean / shares) / std + beta / shares) P for each write."""
    spread = (...,) + (None,) * (writes.ndim - 1)
    mean, std = mean[spread], std[spread]
    gamma, beta = visual.ln_post.weight, visual.ln_post.bias
    return (gamma * (writes - mean / shares) / std + beta / shares) @ visual.proj


def textspan(effects: torch.Tensor, pool: torch.Tensor, n_texts: int, rank: int | None = None, span=None):
    """Algorithm 1 on the raw matrices: order and cumulative explained share of variance (Eq. 2.7).

    rank: project texts to as many right singular vectors of the data before centring, as the authors' code does.
    """
    data = effects.double() - effects.double().mean(0)
    _, singular, right = torch.linalg.svd(data if rank is None else effects.double(), full_matrices=False)
    kept = right[: rank or int((singular > singular[0] * 1e-6).sum())]
    kept = kept if span is None else span.double().T  # [d_embed, direction], orthonormal
    texts = pool.double() @ kept.T @ kept
    total = data.square().sum()
    rebuilt = torch.zeros_like(data)
    order, explained = [], []
    for _ in range(n_texts):
        products = texts @ data.T
        best = int(products.square().sum(1).argmax())
        order.append(best)
        unit = texts[best] / texts[best].norm()
        rebuilt = rebuilt + (data @ unit)[:, None] * unit
        data = data - (data @ unit)[:, None] * unit
        texts = texts - (texts @ unit)[:, None] * unit
        explained.append(float(rebuilt.square().sum() / total))
    return order, explained

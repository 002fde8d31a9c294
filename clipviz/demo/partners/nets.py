"""The architectures of the embedded partners, which are small, plain, and readable by the same hooks as large ones."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Images = Float[Tensor, "image 3 rows cols"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; units are read after `relu` and after the block's last ReLU."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )
        self.relu_out = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(maps)))
        found: Tensor = self.relu_out(self.bn2(self.conv2(inner)) + self.shortcut(maps))
        return found


class SmallResNet(nn.Module):
    """A supervised CNN: four stages at 1/2, 1/4, 1/8 and 1/16 of the image, and one linear head per question.

    widths: channels per stage; questions: name -> number of classes (background, colour ...).
    """

    def __init__(self, widths: list[int], questions: dict[str, int]) -> None:
        super().__init__()
        self.config = {"widths": list(widths), "questions": dict(questions)}
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        sizes = [widths[0], *widths]
        self.stages = nn.ModuleList(
            ResidualBlock(sizes[i], sizes[i + 1], stride=1 if i == 0 else 2) for i in range(len(widths))
        )
        self.heads = nn.ModuleDict({name: nn.Linear(widths[-1], n) for name, n in questions.items()})

    def forward(self, images: Images) -> dict[str, Tensor]:
        """Return logits [image, class] for each question."""
        maps = self.stem(images)
        for stage in self.stages:
            maps = stage(maps)
        pooled = maps.mean((2, 3))
        return {name: head(pooled) for name, head in self.heads.items()}


class MaskedViT(nn.Module):
    """A masked autoencoder: a timm ViT sees a quarter of the patches, and a one-layer decoder paints the rest.

    Partners use the `encoder`; the decoder is kept so that training can continue.
    """

    def __init__(self, width: int, depth: int, heads: int, patch: int = 8, size: int = 96) -> None:
        from timm.models.vision_transformer import Block, VisionTransformer

        super().__init__()
        self.config = {"width": width, "depth": depth, "heads": heads, "patch": patch, "size": size}
        self.patch = patch
        self.encoder = VisionTransformer(
            img_size=size, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads, num_classes=0
        )
        narrow = width // 2
        self.narrow = nn.Linear(width, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_position = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2, narrow))
        self.decoder = Block(narrow, max(narrow // 32, 1), 4.0, qkv_bias=True)
        self.paint = nn.Linear(narrow, 3 * patch * patch)
        for block in [*self.encoder.blocks, self.decoder]:
            block.attn.fused_attn = False  # on a CPU the fused kernel's backward is the slow one

    def forward(self, images: Images) -> Tensor:
        """Return token features [image, 1 + patch, width]."""
        found: Tensor = self.encoder.forward_features(images)
        return found

    def encode(self, images: Images, keep: Tensor) -> Tensor:
        """Return features of the kept patches [image, kept, width]; keep [image, kept] are patch indices."""
        encoder: Any = self.encoder  # timm marks its own parameters optional
        tokens = encoder.patch_embed(images) + encoder.pos_embed[:, 1:]
        tokens = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[-1]))
        class_token = (encoder.cls_token + encoder.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        found: Tensor = encoder.norm(encoder.blocks(torch.cat([class_token, tokens], 1)))[:, 1:]
        return found

    def loss(self, images: Images, generator: torch.Generator, kept_share: float = 0.25) -> Tensor:
        """Return the mean squared error on the hidden patches, each normalised by its own mean and deviation."""
        n_patches = self.decoder_position.shape[1]
        n_kept = round(kept_share * n_patches)
        shuffle = torch.rand(len(images), n_patches, generator=generator).argsort(1)
        keep, hidden = shuffle[:, :n_kept], shuffle[:, n_kept:]
        seen = self.narrow(self.encode(images, keep))
        tokens = self.mask_token.expand(len(images), n_patches, -1)
        tokens = (
            tokens.scatter(1, keep[..., None].expand_as(seen), seen.to(tokens.dtype)) + self.decoder_position
        )
        painted = self.paint(self.decoder(tokens))
        target = F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)
        target = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + 1e-2).sqrt()
        found: Tensor = ((painted - target) ** 2).mean(2).gather(1, hidden).mean()
        return found

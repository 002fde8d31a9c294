"""The embedded generator's network: a reader of the latent, canvases of kinds and backgrounds, convolutions."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from clipviz.demo.generator.scenes import GROUNDS, KINDS, N_LATENT, SIDE, opacities, rotation

CODE = {
    "centre": 4,
    "log_size": 1,
    "number": 1,
    "ground": len(GROUNDS),
    "rgb": 3,
    "painted": 1,
    "tops": 6,
    "light": 1,
}
"""The numbers that the reader extracts from a latent, in this order; scenes.TrueScenes defines their meaning."""
LAYERS = ("coarse1", "coarse2", "fine1", "fine2", "fine3")
"""Modules whose outputs, after their ReLU, are the generator's units."""
BOX = 1.1
"""Side of a canvas as a multiple of its sprite's longest side, which leaves a margin."""


class Reader(nn.Module):
    """Maps latents to codes: the fixed rotation, then a small network that had to learn the factors' formulas."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("turn", rotation().float(), persistent=False)
        self.direct = nn.Linear(N_LATENT, sum(CODE.values()))
        self.deep = nn.Sequential(
            *(nn.Linear(N_LATENT, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()),
            nn.Linear(width, sum(CODE.values())),
        )

    def forward(self, z: Float[Tensor, "image latent"]) -> dict[str, Tensor]:
        """Return codes by name, [image, number]; logits for ground and painted."""
        factors = z @ self.turn.T  # type: ignore[operator]
        values = self.direct(factors) + self.deep(factors)
        return dict(zip(CODE, values.split(list(CODE.values()), 1), strict=True))


class StyledLayer(nn.Module):
    """A convolution whose channels the style scales and shifts, and a ReLU."""

    def __init__(self, n_in: int, n_out: int, style: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, size, padding=size // 2, bias=False)
        self.style = nn.Linear(style, 2 * n_out)
        nn.init.kaiming_normal_(self.conv.weight)
        nn.init.normal_(self.style.weight, std=0.5 * style**-0.5)
        with torch.no_grad():
            self.style.bias[:n_out], self.style.bias[n_out:] = 1, 0

    def forward(self, maps: Tensor, style: Tensor, more: Tensor | None = None) -> Tensor:
        scale, shift = self.style(style)[:, :, None, None].chunk(2, 1)
        maps = torch.addcmul(shift, self.conv(maps), scale)
        return F.relu(maps if more is None else maps + more)


class LayoutGenerator(nn.Module):
    """Maps a latent and a label to a picture; every step is differentiable in the latent.

    The reader extracts positions, size, opacities and colours of up to two objects and their background. The
    kind's canvas is placed at both positions over the mixed background canvases; convolutions at 32 and 64 px,
    styled by the codes and the kind, paint the picture.
    """

    def __init__(
        self,
        canvas: int = 20,
        ground: int = 12,
        width: int = 64,
        fine: int = 40,
        style: int = 128,
        reader: int = 192,
    ) -> None:
        super().__init__()
        self.config = {
            **{"canvas": canvas, "ground": ground, "width": width, "fine": fine},
            **{"style": style, "reader": reader},
        }
        self.reader = Reader(reader)
        self.kind = nn.Embedding(len(KINDS), 32)
        self.styler = nn.Sequential(
            *(nn.Linear(32 + self._n_styling(), style), nn.SiLU(), nn.Linear(style, style), nn.SiLU())
        )
        self.canvas = nn.Parameter(0.3 * torch.randn(len(KINDS), canvas, 32, 32))
        self.canvas_alpha = nn.Parameter(_blob(32).expand(len(KINDS), 1, 32, 32).clone())
        self.grounds = nn.Parameter(0.3 * torch.randn(len(GROUNDS), ground, SIDE, SIDE))
        n = canvas + 1 + ground + 4 + 3
        self.coarse1 = StyledLayer(n, width, style, 3)
        self.coarse2 = StyledLayer(width, width, style, 3)
        self.up = nn.Conv2d(width, fine + 8, 1)
        self.fine1 = StyledLayer(n, fine + 8, style, 1)
        self.fine2 = StyledLayer(fine + 8, fine, style, 3)
        self.fine3 = StyledLayer(fine, fine, style, 1)
        self.to_rgb = nn.Conv2d(fine, 3, 1)
        line = (torch.arange(SIDE) + 0.5) / SIDE
        self.register_buffer(
            "places", torch.stack(torch.meshgrid(line, line, indexing="xy"), -1), persistent=False
        )

    @staticmethod
    def _n_styling() -> int:
        return sum(CODE[name] for name in ("log_size", "ground", "rgb", "painted", "tops", "light"))

    def forward(
        self, z: Float[Tensor, "image latent"], label: Int[Tensor, " image"]
    ) -> Float[Tensor, "image 3 64 64"]:
        """Return pictures in 0..1."""
        return self.paint(self.reader(z), label)[0]

    def paint(self, code: dict[str, Tensor], label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the picture of a code and the opacity of both objects in it, [image, 1, rows, cols]."""
        ground = code["ground"].softmax(1)
        painted = code["painted"].sigmoid()
        styling = [code["log_size"], ground, code["rgb"] * painted, painted, code["tops"], code["light"]]
        style = self.styler(torch.cat([self.kind(label), *styling], 1))
        objects, alpha = self.objects(code, label)
        beneath = (
            code["light"][..., None, None] * (1 + torch.einsum("ig,gcyx->icyx", ground, self.grounds)) - 1
        )
        tint = torch.cat([code["rgb"] * painted, painted], 1)[..., None, None] * alpha
        under = torch.cat([beneath, self.backdrop(code, ground)], 1) * (1 - alpha)
        maps = torch.cat([objects, alpha, under, tint], 1)
        coarse = self.coarse2(self.coarse1(F.avg_pool2d(maps, 2), style), style)
        lifted = F.interpolate(self.up(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)
        fine = self.fine3(self.fine2(self.fine1(maps, style, lifted), style), style)
        return torch.sigmoid(2 * self.to_rgb(fine)), alpha

    def backdrop(self, code: dict[str, Tensor], ground: Tensor) -> Tensor:
        """Return the colours of plain and gradient backgrounds, zero for the others, [image, 3, rows, cols]."""
        top, bottom = code["tops"][..., None, None].chunk(2, 1)
        down = self.places[None, None, :, :1, 1]  # type: ignore[index]
        plain, gradient = (ground[:, GROUNDS.index(name), None, None, None] for name in ("plain", "gradient"))
        return (plain * top + gradient * (top + down * (bottom - top))).expand(-1, -1, SIDE, SIDE)

    def objects(self, code: dict[str, Tensor], label: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of both objects, the first over the second, and their joint opacity."""
        alpha = self.canvas_alpha[label].sigmoid()
        canvas = torch.cat([self.canvas[label] * alpha, alpha], 1)
        half = 0.5 * BOX * code["log_size"].exp()[:, :, None, None]
        shown = opacities(code["number"][:, 0])
        layers = []
        for which in range(2):
            centre = code["centre"][:, 2 * which : 2 * which + 2][:, None, None]
            sampled = F.grid_sample(canvas, (self.places - centre) / half, align_corners=False)  # type: ignore[operator]
            layers.append(sampled * shown[:, which, None, None, None])
        first, second = layers
        both = first + (1 - first[:, -1:]) * second
        return both[:, :-1], both[:, -1:]


def _blob(side: int) -> Tensor:
    line = torch.linspace(-1, 1, side)
    return 2 - 4 * (line[:, None] ** 2 + line[None] ** 2)

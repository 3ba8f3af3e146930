"""Convolutions with 3 x 3 filters by Winograd's minimal filtering, F(4 x 4, 3 x 3): 36 multiplications for 16 outputs
of a filter instead of 144 (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308).

Tiles of 6 x 6 inputs, four apart, are transformed; between transformed tiles and filters a convolution is a product of
matrices for each of the 36 places; what comes out is transformed back to 4 x 4 outputs. The transforms are sums with
the factors 1, 2, 4, 5 and 8, so float32 loses a digit beside a direct convolution.

Tensors have their channels last, (batch, height, width, channels).
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

TILE: Final = 4  # outputs of a tile along one side
REACH: Final = TILE + 2  # inputs that they hear
TILES_AT_ONCE: Final = 200
"""What a strip of the image holds at least: so few that its transforms stay in a core's cache, so
many that the filters are not fetched anew too often."""
FILTERS: Final = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
"""The paper's matrix G: a filter's transform, by the points 0, 1, -1, 2, -2 and infinity."""


class Convolution:
    """A convolution with 3 x 3 filters, stride 1 and a border of zeros, so that the image keeps its size."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """`weight`: (filters, channels, 3, 3), `bias`: (filters,)."""
        filters = torch.tensor(FILTERS, dtype=torch.float64)
        transformed = torch.einsum("xi,kcij,yj->xyck", filters, weight.double(), filters)
        self._filters = transformed.reshape(REACH * REACH, weight.shape[1], weight.shape[0]).float().contiguous()
        self._bias = bias.float()

    def __call__(self, images: Tensor, *, rectify: bool = True, pool: bool = False) -> Tensor:
        """(batch, height, width, filters) of images (batch, height, width, channels).

        `rectify`: what is below 0 becomes 0. `pool`: the largest of each 2 x 2 outputs, (batch, height // 2, width //
        2, filters).
        """
        batch, height, width, _ = images.shape
        down, across = -(-height // TILE), -(-width // TILE)
        padded = functional.pad(images, (0, 0, 1, TILE * across + 1 - width, 1, TILE * down + 1 - height))
        side = TILE // 2 if pool else TILE
        out = images.new_empty(batch, down, side, across, side, self._filters.shape[2])
        rows = min(down, -(-TILES_AT_ONCE // across))
        count = -(-TILES_AT_ONCE // (down * across)) if rows == down else 1
        for image in range(0, batch, count):
            for row in range(0, down, rows):
                last = min(row + rows, down)
                strip = padded[image : image + count, TILE * row : TILE * last + 2]
                self._convolve(strip, out[image : image + count, row:last], pool)
        out += self._bias
        if rectify:
            out.relu_()
        shaped = out.view(batch, side * down, side * across, -1)
        return shaped[:, : height // 2, : width // 2] if pool else shaped[:, :height, :width]

    def _convolve(self, padded: Tensor, out: Tensor, pool: bool) -> None:
        """Fills `out` (batch, down, side, across, side, filters), side 4 or pooled 2, of images with their border."""
        batch, down, _, across, _, filters = out.shape
        channels = padded.shape[3]
        beyond = REACH - TILE - 1  # of the last tile's first input, in steps of one
        rows = padded.new_empty(REACH, batch, down, padded.shape[2], channels)
        _transform([padded[:, i : padded.shape[1] - beyond - TILE + i : TILE] for i in range(REACH)], rows.unbind(0))
        tiles = padded.new_empty(REACH, REACH, batch, down, across, channels)
        ends = padded.shape[2] - beyond - TILE
        _transform([rows[:, :, :, j : ends + j : TILE] for j in range(REACH)], tiles.unbind(1))
        products = torch.bmm(tiles.view(REACH * REACH, -1, channels), self._filters)
        products = products.view(REACH, REACH, batch, down, across, filters)
        half = padded.new_empty(TILE, REACH, batch, down, across, filters)
        _transform_back(products.unbind(0), half.unbind(0))
        placed = out.permute(2, 4, 0, 1, 3, 5)  # (side, side, batch, down, across, filters)
        if not pool:
            _transform_back(half.unbind(1), placed.unbind(1))
            return
        whole = padded.new_empty(TILE, TILE, batch, down, across, filters)
        _transform_back(half.unbind(1), whole.unbind(1))
        pooled = torch.maximum(whole[0::2], whole[1::2])
        torch.maximum(pooled[:, 0::2], pooled[:, 1::2], out=placed)


def _transform(inputs: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """The paper's matrix B, of six inputs in a row."""
    zero, one, two, three, four, five = inputs
    even, odd = torch.add(four, two, alpha=-4), torch.add(three, one, alpha=-4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    even, odd = four - two, (three - one).mul_(2)
    torch.add(even, odd, out=out[3])
    torch.sub(even, odd, out=out[4])
    torch.add(four, two, alpha=-5, out=out[0]).add_(zero, alpha=4)
    torch.add(five, three, alpha=-5, out=out[5]).add_(one, alpha=4)


def _transform_back(products: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """The paper's matrix A: four outputs of six products."""
    zero, one, two, three, four, five = products
    ones, signed_ones = one + two, one - two
    twos, signed_twos = three + four, three - four
    torch.add(ones, twos, out=out[0]).add_(zero)
    torch.add(signed_ones, signed_twos, alpha=2, out=out[1])
    torch.add(ones, twos, alpha=4, out=out[2])
    torch.add(signed_ones, signed_twos, alpha=8, out=out[3]).add_(five)

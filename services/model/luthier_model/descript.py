"""The encoder and the decoder of the Descript Audio Codec (Kumar 2023), which stable-audio-tools takes from the package
descript-audio-codec: the same layers and tensor names, without the dozens of packages that it imports. `network` puts
this module in its place where it is not installed; training's tests hold the two against each other.

Names and defaults are the package's own (`dac.model.dac`, release 1.0.0): the library calls them by these.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import weight_norm

DILATIONS = (1, 3, 9)
_NO_ZERO = 1e-9


class Snake1d(nn.Module):
    """x + sin(alpha x)^2 / alpha (Ziyin 2020), with an alpha for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:  # (batch, channels, samples), the same again
        return x + (self.alpha + _NO_ZERO).reciprocal() * torch.sin(self.alpha * x).pow(2)


class ResidualUnit(nn.Module):
    """Two convolutions around which the input goes by."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake1d(channels),
            weight_norm(nn.Conv1d(channels, channels, kernel_size=7, dilation=dilation, padding=3 * dilation)),
            Snake1d(channels),
            weight_norm(nn.Conv1d(channels, channels, kernel_size=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.block(x)
        return x + added


class EncoderBlock(nn.Module):
    """Fewer samples, twice the channels."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        half, padding = channels // 2, math.ceil(stride / 2)
        self.block = nn.Sequential(
            *(ResidualUnit(half, dilation) for dilation in DILATIONS),
            Snake1d(half),
            weight_norm(nn.Conv1d(half, channels, kernel_size=2 * stride, stride=stride, padding=padding)),
        )

    def forward(self, x: Tensor) -> Tensor:
        fewer: Tensor = self.block(x)
        return fewer


class DecoderBlock(nn.Module):
    """More samples, half the channels."""

    def __init__(self, channels: int, half: int, stride: int) -> None:
        super().__init__()
        padding = math.ceil(stride / 2)
        self.block = nn.Sequential(
            Snake1d(channels),
            weight_norm(nn.ConvTranspose1d(channels, half, kernel_size=2 * stride, stride=stride, padding=padding)),
            *(ResidualUnit(half, dilation) for dilation in DILATIONS),
        )

    def forward(self, x: Tensor) -> Tensor:
        more: Tensor = self.block(x)
        return more


class Encoder(nn.Module):
    """(batch, 1, samples) -> (batch, d_latent, samples / product of the strides)."""

    def __init__(self, d_model: int = 64, strides: Sequence[int] = (2, 4, 8, 8), d_latent: int = 64) -> None:
        super().__init__()
        self.enc_dim = d_model << len(strides)
        widths = [d_model << (level + 1) for level in range(len(strides))]
        self.block = nn.Sequential(
            weight_norm(nn.Conv1d(1, d_model, kernel_size=7, padding=3)),
            *(EncoderBlock(width, stride) for width, stride in zip(widths, strides, strict=True)),
            Snake1d(self.enc_dim),
            weight_norm(nn.Conv1d(self.enc_dim, d_latent, kernel_size=3, padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        latents: Tensor = self.block(x)
        return latents


class Decoder(nn.Module):
    """(batch, input_channel, latents) -> (batch, d_out, latents * product of the rates), within -1 to 1."""

    def __init__(self, input_channel: int, channels: int, rates: Sequence[int], d_out: int = 1) -> None:
        super().__init__()
        narrowest = channels >> len(rates)
        self.model = nn.Sequential(
            weight_norm(nn.Conv1d(input_channel, channels, kernel_size=7, padding=3)),
            *(DecoderBlock(channels >> at, channels >> (at + 1), stride) for at, stride in enumerate(rates)),
            Snake1d(narrowest),
            weight_norm(nn.Conv1d(narrowest, d_out, kernel_size=7, padding=3)),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        sound: Tensor = self.model(x)
        return sound

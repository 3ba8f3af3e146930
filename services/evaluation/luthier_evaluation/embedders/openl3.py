"""OpenL3, the embedding of FD_openl3 (Cramer et al. 2019): input mel256, content "music", 512 numbers a channel,
windows of 1 s every 0.5 s, as stable-audio-metrics takes them from openl3 0.4.2.

There are two front ends, and the same weights give other vectors with each, so each is an embedder of its own name:

- `openl3`: openl3 0.4.2 with kapre 0.3.7, so stable-audio-metrics, its published figures and its shipped statistics.
  The frames of a window begin at its start, with silence behind; mel bands on Slaney's scale, of magnitudes.
- `torchopenl3`: openl3 0.3.1, with which the network was trained, and torchopenl3 1.0.1. The frames begin 982 samples
  before the window, with silence on both sides; mel bands on HTK's scale, the root of a sum of powers, by the filters
  that the checkpoint holds.

Never compare vectors of one with statistics of the other. At 44.1 kHz the five mel bands above 22.05 kHz hold what the
rounding of the FFT leaves there, 60 to 80 dB below: in these, openl3 on two machines agrees in distribution only.
"""

import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchaudio.functional import melscale_fbanks

from luthier_evaluation.embedders.base import Embedding, Floats
from luthier_evaluation.embedders.papers import finite, levelled
from luthier_evaluation.embedders.parallel import in_parallel
from luthier_evaluation.embedders.weights import read_weights
from luthier_evaluation.embedders.winograd import Convolution

FrontEnd = Literal["openl3", "torchopenl3"]

SAMPLE_RATE_HZ: Final = 44_100  # stable-audio-metrics brings all audio to it, and openl3 what it gets to NETWORK_HZ
NETWORK_HZ: Final = 48_000
WINDOW_SAMPLES, HOP_SAMPLES = NETWORK_HZ, NETWORK_HZ // 2
CHANNEL_DIMENSIONS: Final = 512
WINDOWS_AT_ONCE: Final = 4

# the front ends
FFT_SAMPLES, FRAME_HOP_SAMPLES, MELS = 2048, 242, 256
FRAMES: Final = 199
SAME_PADDING: Final = (982, 982)  # Keras' "same" of a window: what FRAMES frames reach beyond it
END_PADDING: Final = (0, (FRAMES - 1) * FRAME_HOP_SAMPLES + FFT_SAMPLES - WINDOW_SAMPLES)
FLOOR: Final = 1e-10
RANGE_DB: Final = 80.0  # below the loudest cell of a window

# resampy 0.2's `kaiser_best`, with which openl3 goes from 44.1 to 48 kHz
REACH: Final = 64  # samples on both sides
ROLLOFF: Final = 0.9475937167399596
BETA: Final = 14.769656459379492
TABLE: Final = 512  # values a sample; between them lines
PHASES, STEP = 160, 147  # 48000 / 44100

# the network
CONVOLUTIONS: Final[Mapping[str, int]] = {
    "conv2d_1": 64,
    "conv2d_2": 64,
    "conv2d_3": 128,
    "conv2d_4": 128,
    "conv2d_5": 256,
    "conv2d_6": 256,
    "conv2d_7": 512,
    "audio_embedding_layer": CHANNEL_DIMENSIONS,
}
"""Filters of the layers; before each stands a batch normalisation."""
NORMALISATION: Final = ("weight", "bias", "running_mean", "running_var")
POOLED_AFTER: Final = ("conv2d_2", "conv2d_4", "conv2d_6")
TOGETHER: Final = 2
"""The last layers have more filters than places, so they hear some windows at once; of the others one window fills a
core's cache."""
EPSILON: Final = 1e-3  # of batch normalisation


def weight_shapes(front_end: FrontEnd) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors, by torchopenl3's names; those of `torchopenl3` have the mel filters, too."""
    shapes: dict[str, tuple[int, ...]] = {}
    before = 1
    for place, (name, filters) in enumerate(CONVOLUTIONS.items(), 1):
        shapes |= {f"batch_normalization_{place}.{part}": (before,) for part in NORMALISATION}
        shapes |= {f"{name}.weight": (filters, before, 3, 3), f"{name}.bias": (filters,)}
        before = filters
    return shapes if front_end == "openl3" else {**shapes, "mel_basis": (MELS, FFT_SAMPLES // 2 + 1)}


class _Inference:
    """The network for inference: each batch normalisation behind a convolution is part of it."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        def normalisation(place: int) -> tuple[Tensor, Tensor]:
            weight, bias, mean, variance = (
                tensors[f"batch_normalization_{place}.{part}"].double() for part in NORMALISATION
            )
            scale = weight / (variance + EPSILON).sqrt()
            return scale, bias - mean * scale

        # the first stands before zeros are padded, so it cannot move into the convolution behind it
        self._scale, self._shift = (float(value) for value in normalisation(1))
        folded = []
        for place, name in enumerate(CONVOLUTIONS, 1):
            weight, bias = tensors[f"{name}.weight"].double(), tensors[f"{name}.bias"].double()
            if place < len(CONVOLUTIONS):
                scale, shift = normalisation(place + 1)
                weight, bias = weight * scale[:, None, None, None], bias * scale + shift
            folded.append((name, weight, bias))
        (_, weight, bias), *rest = folded
        self._first = weight.float().contiguous(memory_format=torch.channels_last), bias.float()  # of one channel
        convolutions = [(name, Convolution(weight, bias)) for name, weight, bias in rest]
        self._large, self._small = convolutions[:-TOGETHER], convolutions[-TOGETHER:]

    def __call__(self, mel: Tensor) -> Tensor:
        """Vectors (batch, 512) of log mel spectrograms (batch, 256, 199)."""
        x = torch.cat([self._one(each) for each in torch.split(mel, 1)])  # (batch, 32, 24, 256)
        for name, convolution in self._small:
            x = convolution(x, rectify=name != "audio_embedding_layer")
        return x.amax((1, 2))

    def _one(self, mel: Tensor) -> Tensor:
        """What the layers with large images make of one spectrogram (1, 256, 199): the next ones' input."""
        x = (mel * self._scale + self._shift)[:, None].contiguous(memory_format=torch.channels_last)
        x = functional.conv2d(x, *self._first, padding=1).relu_().permute(0, 2, 3, 1)  # (1, 256, 199, 64)
        for name, convolution in self._large:
            x = convolution(x, pool=name in POOLED_AFTER)
        return x


@cache
def slaney_filters() -> Tensor:
    """Weights of FFT bins in mel bands (256, 1025), of area 1 each, after Slaney's Auditory Toolbox (1998)."""
    filters: Tensor = melscale_fbanks(
        FFT_SAMPLES // 2 + 1, 0.0, NETWORK_HZ / 2, MELS, NETWORK_HZ, norm="slaney", mel_scale="slaney"
    )
    return filters.T.contiguous()


def spectrogram(windows: Tensor, mel_basis: Tensor | None = None) -> Tensor:
    """Log mel spectrograms (batch, 256, 199) of windows (batch, 48000), in dB below the loudest cell of each.

    By torchopenl3's front end with its `mel_basis`, else by openl3's.
    """
    padded = functional.pad(windows, END_PADDING if mel_basis is None else SAME_PADDING)
    bins = torch.stft(
        padded, FFT_SAMPLES, FRAME_HOP_SAMPLES, window=torch.hann_window(FFT_SAMPLES), center=False, return_complex=True
    )  # (batch, 1025, 199)
    power = bins.real.square() + bins.imag.square()
    mel = slaney_filters() @ power.sqrt() if mel_basis is None else (mel_basis @ power).sqrt()
    decibels = 10 * mel.clamp(min=FLOOR).log10()
    return (decibels - decibels.amax((1, 2), keepdim=True)).clamp(min=-RANGE_DB)


@cache
def resampling_kernel() -> Tensor:
    """Weights (160, 1, 147 + 2 * 64) of the samples from 64 before a block of 147 to 64 behind it, for each of the 160
    that it becomes.

    A sinc under a Kaiser window, read from a table as resampy does: mel bands above 22 kHz hear what the lines between
    the table's values leave there, 120 dB below.
    """
    at = np.linspace(0, REACH, TABLE * REACH + 1)
    table = ROLLOFF * np.sinc(ROLLOFF * at) * np.kaiser(2 * at.size - 1, BETA)[at.size - 1 :]
    taps = np.arange(-REACH, STEP + REACH)
    distances = np.abs(np.arange(PHASES)[:, None] * STEP / PHASES - taps)
    return torch.from_numpy(np.interp(distances, at, table, right=0.0).astype(np.float32))[:, None]


def resampled(channels: Tensor) -> Tensor:
    """Samples (channels, frames) at 48 kHz of those at 44.1 kHz."""
    count, frames = channels.shape
    blocks = -(-frames // STEP)
    padded = functional.pad(channels, (REACH, blocks * STEP + REACH - frames))
    out = functional.conv1d(padded[:, None], resampling_kernel(), stride=STEP)  # (channels, 160, blocks)
    wanted = int(frames * (NETWORK_HZ / SAMPLE_RATE_HZ))  # rounded down, as resampy does
    return out.transpose(1, 2).reshape(count, -1)[:, :wanted]


def windows_of(channel: Tensor) -> Tensor:
    """Windows (windows, 48000) of samples (frames,) at 48 kHz: the first is centred at 0, the last holds the end."""
    padded = functional.pad(channel, (HOP_SAMPLES, -len(channel) % HOP_SAMPLES))  # a hop is half a window
    return padded.unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)


class OpenL3:
    """OpenL3 with its weights. Many threads may call it: they take turns."""

    sample_rate_hz = SAMPLE_RATE_HZ
    channels = 2
    dimensions = 2 * CHANNEL_DIMENSIONS
    window_s = WINDOW_SAMPLES / NETWORK_HZ
    hop_s = HOP_SAMPLES / NETWORK_HZ
    classes: tuple[str, ...] = ()

    def __init__(self, front_end: FrontEnd, weights_sha256: str, tensors: Mapping[str, Tensor]) -> None:
        self.name: str = front_end
        self.weights_sha256 = weights_sha256
        self._mel_basis = tensors["mel_basis"] if front_end == "torchopenl3" else None
        self._network = _Inference(tensors)
        self._turn = threading.Lock()

    def embed(self, samples: Floats) -> Embedding:
        """Vectors (windows, 1024) of stereo samples (frames, 2) at 44.1 kHz, of 0.5 s to 1 h: left, then right.

        Mono is two channels that are the same, as stable-audio-metrics has it; it costs half. InvalidRequest where
        samples are not that, not finite (AUDIO_NOT_FINITE), or silent (AUDIO_SILENT).
        """
        stereo = torch.from_numpy(np.ascontiguousarray(levelled(samples, 2, SAMPLE_RATE_HZ).T))
        if torch.equal(stereo[0], stereo[1]):
            stereo = stereo[:1]
        with self._turn:
            channels = resampled(stereo)
            windows = torch.cat([windows_of(channel) for channel in channels])
            found = torch.cat(
                in_parallel(
                    lambda some: self._network(spectrogram(some, self._mel_basis)),
                    torch.split(windows, WINDOWS_AT_ONCE),
                )
            )
        each = found.numpy().reshape(len(channels), -1, CHANNEL_DIMENSIONS)
        vectors = np.concatenate([each[0], each[-1]], axis=1)
        finite(self.name, vectors)
        return Embedding(vectors, np.zeros((len(vectors), 0), np.float32))


def opener(front_end: FrontEnd) -> Callable[[Path], OpenL3]:
    """What opens a file that `luthier_evaluation.conversion` wrote for this front end."""

    def open_weights(path: Path) -> OpenL3:
        weights = read_weights(path, front_end, weight_shapes(front_end))
        return OpenL3(front_end, weights.sha256, weights.tensors)

    return open_weights

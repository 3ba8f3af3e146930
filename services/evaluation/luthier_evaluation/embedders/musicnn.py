"""musicnn: two taggers of 50 classes each, of the Million Song Dataset and of MagnaTagATune (Pons et al. 2018,
"End-to-end learning for music audio tagging at scale"; Pons and Serra 2019, "musicnn: pre-trained convolutional neural
networks for music audio tagging").

The network and its front end are those that the package musicnn 0.1.0 publishes, in torch, with the package's weights
(`luthier_evaluation.conversion`). Vectors are the outputs of the layer before the last, 200 numbers.

It hears nothing above 8 kHz. It is sensitive to level (its front end compresses by a fixed curve, log10(10000 x + 1)),
so audio is brought to LEVEL_LUFS first: the same music, softer by 12 dB, has the same vectors. It calls noise and
single sounds something, too: a class is evidence only as far as `tagger_accuracy.json` says.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from luthier_evaluation.embedders.base import SILENT_BELOW, Embedding, Floats
from luthier_evaluation.embedders.parallel import in_parallel
from luthier_evaluation.embedders.weights import INVALID, read_weights
from luthier_kit.rpc import InvalidRequest
from luthier_music.loudness import integrated_loudness_lufs

SAMPLE_RATE_HZ: Final = 16_000
FFT_SAMPLES: Final = 512
HOP_SAMPLES: Final = 256
MELS: Final = 96  # 0 to 8 kHz
COMPRESSION: Final = 10_000.0  # of the power of a mel band, before the logarithm
WINDOW_FRAMES: Final = 187  # 3 s, what the networks were trained on
HOP_FRAMES: Final = 61
"""0.98 s, what the package makes of an overlap of one second: windows overlap by two thirds, so that a clip of 4 s has
two, and one of 30 s has 28 rather than 10."""
LEVEL_LUFS: Final = -14.0
"""What the mono audio below 8 kHz is brought to (BS.1770-4): the level at which streaming services play, and near that
of the recordings that the networks were trained on, which are mastered music as it was sold."""
DIMENSIONS: Final = 200
MIN_SAMPLES: Final = SAMPLE_RATE_HZ // 2
MAX_SAMPLES: Final = SAMPLE_RATE_HZ * 3600
WINDOWS_AT_ONCE: Final = 16  # 120 MB of what the widest layer gives


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


MSD_CLASSES: Final = _names(
    "rock, pop, alternative, indie, electronic, female vocalists, dance, 00s, alternative rock, jazz, beautiful, "
    "metal, chillout, male vocalists, classic rock, soul, indie rock, Mellow, electronica, 80s, folk, 90s, chill, "
    "instrumental, punk, oldies, blues, hard rock, ambient, acoustic, experimental, female vocalist, guitar, Hip-Hop, "
    "70s, party, country, easy listening, sexy, catchy, funk, electro, heavy metal, Progressive rock, 60s, rnb, "
    "indie pop, sad, House, happy"
)
MTT_CLASSES: Final = _names(
    "guitar, classical, slow, techno, strings, drums, electronic, rock, fast, piano, ambient, beat, violin, vocal, "
    "synth, female, indian, opera, male, singing, vocals, no vocals, harpsichord, loud, quiet, flute, woman, "
    "male vocal, no vocal, pop, soft, sitar, solo, man, classic, choir, voice, new age, dance, male voice, "
    "female vocal, beats, harp, cello, no voice, weird, country, metal, female voice, choral"
)
"""The classes in the order of the logits: the package's `configuration.py`, which the checkpoints do not hold."""


@dataclass(frozen=True)
class Layer:
    """A layer of the network by our name, and by the name of its tensors in the published checkpoints."""

    name: str
    published: str


LAYERS: Final = (
    Layer("input_norm", "batch_normalization"),
    *(Layer(f"timbral.{n}.convolution", f"conv2d{s}") for n, s in enumerate(("", "_1"))),
    *(Layer(f"timbral.{n}.norm", f"batch_normalization_{1 + n}") for n in range(2)),
    *(Layer(f"temporal.{n}.convolution", f"conv2d_{2 + n}") for n in range(3)),
    *(Layer(f"temporal.{n}.norm", f"batch_normalization_{3 + n}") for n in range(3)),
    *(Layer(f"middle.{n}.convolution", f"conv2d_{5 + n}") for n in range(3)),
    *(Layer(f"middle.{n}.norm", f"batch_normalization_{6 + n}") for n in range(3)),
    Layer("pool_norm", "batch_normalization_9"),
    Layer("dense", "dense"),
    Layer("dense_norm", "batch_normalization_10"),
    Layer("output", "dense_1"),
)

_EPSILON: Final = 1e-3  # of TensorFlow's batch normalisation
_TIMBRAL: Final = ((7, 38), (7, 67))  # frames and mels of a filter: 0.4 and 0.7 of the mels
_TIMBRAL_FILTERS: Final = 204
_TEMPORAL: Final = (128, 64, 32)  # frames of a filter
_TEMPORAL_FILTERS: Final = 51
_MIDDLE_FILTERS: Final = 64
_FRAMES: Final = 7  # of a filter of timbre, or of the middle layers
_EDGE: Final = _FRAMES // 2
_FRONT: Final = len(_TIMBRAL) * _TIMBRAL_FILTERS + len(_TEMPORAL) * _TEMPORAL_FILTERS
_POOLED: Final = 2 * (_FRONT + 3 * _MIDDLE_FILTERS)  # maximum and mean of each


class _Block(nn.Module):
    """A convolution, its rectified output normalised: in this order, as published."""

    def __init__(self, convolution: nn.Module, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.norm(functional.relu(self.convolution(x)))
        return normalised

    def pooled(self, x: Tensor) -> Tensor:
        """The maximum over mels (windows, filters, frames) of spectrograms (windows, 1, frames, mels).

        Rectifying and normalising keep the order of values, or turn it round where the norm's factor is negative: so
        they wait until one value of the many is chosen.
        """
        filtered = self.convolution(x)
        rising = self.norm.weight[:, None] >= 0
        chosen = torch.where(rising, filtered.amax(dim=3), filtered.amin(dim=3))
        normalised: Tensor = self.norm(functional.relu(chosen))
        return normalised


def _blocks(modules: nn.ModuleList) -> Iterator[_Block]:
    """A list's blocks, by their type."""
    return (block for block in modules if isinstance(block, _Block))


class Network(nn.Module):
    """Spectrograms of windows (windows, 187, 96) in; vectors (windows, 200) and logits (windows, classes) out."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm2d(1, _EPSILON)
        self.timbral = nn.ModuleList(
            _Block(nn.Conv2d(1, _TIMBRAL_FILTERS, size), nn.BatchNorm1d(_TIMBRAL_FILTERS, _EPSILON))
            for size in _TIMBRAL
        )
        self.temporal = nn.ModuleList(
            _Block(nn.Conv2d(1, _TEMPORAL_FILTERS, (size, 1)), nn.BatchNorm1d(_TEMPORAL_FILTERS, _EPSILON))
            for size in _TEMPORAL
        )
        self.middle = nn.ModuleList(
            _Block(
                nn.Conv1d(channels, _MIDDLE_FILTERS, _FRAMES, padding=_EDGE), nn.BatchNorm1d(_MIDDLE_FILTERS, _EPSILON)
            )
            for channels in (_FRONT, _MIDDLE_FILTERS, _MIDDLE_FILTERS)
        )
        self.pool_norm = nn.BatchNorm1d(_POOLED, _EPSILON)
        self.dense = nn.Linear(_POOLED, DIMENSIONS)
        self.dense_norm = nn.BatchNorm1d(DIMENSIONS, _EPSILON)
        self.output = nn.Linear(DIMENSIONS, classes)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        x = self.input_norm(windows[:, None])  # (windows, 1, 187, 96)
        padded = functional.pad(x, (0, 0, _EDGE, _EDGE))
        return self._rest(x, [block.pooled(padded) for block in _blocks(self.timbral)])

    def overlapping(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The same of the windows of a spectrogram (frames, 96), HOP_FRAMES apart.

        Most of the work is the filters of timbre, each 7 frames wide. Windows share their frames, so what these filters
        make of them is worked out once; only next to its ends, where a window is padded, has each its own.
        """
        windows = frames.unfold(0, WINDOW_FRAMES, HOP_FRAMES).transpose(1, 2)  # (windows, 187, 96)
        x = self.input_norm(windows[:, None])
        whole = self.input_norm(frames[None, None])
        ends = torch.cat(
            [
                functional.pad(x[:, :, : 2 * _EDGE], (0, 0, _EDGE, 0)),
                functional.pad(x[:, :, -2 * _EDGE :], (0, 0, 0, _EDGE)),
            ]
        )  # (2 * windows, 1, 9, 96): each gives 3 frames
        timbral = []
        for block in _blocks(self.timbral):
            inner = block.pooled(whole)[0].unfold(1, WINDOW_FRAMES - 2 * _EDGE, HOP_FRAMES)  # (204, windows, 181)
            first, last = block.pooled(ends).chunk(2)
            timbral.append(torch.cat([first, inner.transpose(0, 1), last], dim=2))  # (windows, 204, 187)
        return self._rest(x, timbral)

    def _rest(self, x: Tensor, timbral: list[Tensor]) -> tuple[Tensor, Tensor]:
        """From the normalised windows (windows, 1, 187, 96) and what the filters of timbre made of them."""
        front = list(timbral)  # each (windows, 204, 187)
        for block, frames in zip(_blocks(self.temporal), _TEMPORAL, strict=True):
            padded = functional.pad(x, (0, 0, frames // 2 - 1, frames // 2))  # TensorFlow's SAME: the odd one behind
            front.append(block.pooled(padded))  # (windows, 51, 187)
        layers = [torch.cat(front, dim=1)]  # (windows, 561, 187)
        layers.append(self.middle[0](layers[0]))  # (windows, 64, 187)
        layers.append(self.middle[1](layers[1]) + layers[1])
        layers.append(self.middle[2](layers[2]) + layers[2])
        features = torch.cat(layers, dim=1)  # (windows, 753, 187)
        pooled = torch.stack([features.amax(dim=2), features.mean(dim=2)], dim=2)  # (windows, 753, 2)
        dense = functional.relu(self.dense(self.pool_norm(pooled.flatten(1))))
        vectors = self.dense_norm(dense)
        return vectors, self.output(vectors)


def weight_shapes(classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's tensors."""
    with torch.device("meta"):
        state = Network(classes).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}


@cache
def mel_filters() -> NDArray[np.float32]:
    """The weights of FFT bins in mel bands (96, 257), of area 1 each in Hz, after Slaney's Auditory Toolbox (1998): the
    mel scale is linear up to 1 kHz and logarithmic above.
    """
    top = _mel_of(SAMPLE_RATE_HZ / 2)
    edges = _hz_of(np.linspace(0.0, top, MELS + 2))  # of the triangles: band n rises from n to n + 1, falls to n + 2
    bins = np.arange(FFT_SAMPLES // 2 + 1) * SAMPLE_RATE_HZ / FFT_SAMPLES
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters: NDArray[np.float32] = (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)
    return filters


_MELS_PER_HZ: Final = 3 / 200  # below 1 kHz
_KNEE_HZ: Final = 1000.0
_LOG_STEP: Final = np.log(6.4) / 27  # of frequency in a mel above it


def _mel_of(hz: float) -> float:
    return float(_KNEE_HZ * _MELS_PER_HZ + np.log(hz / _KNEE_HZ) / _LOG_STEP)


def _hz_of(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    knee = _KNEE_HZ * _MELS_PER_HZ
    above = _KNEE_HZ * np.exp(_LOG_STEP * np.maximum(mel - knee, 0.0))
    return np.where(mel < knee, mel / _MELS_PER_HZ, above)


def spectrogram(samples: Floats) -> Tensor:
    """The front end: samples (frames,) at 16 kHz become log10(10000 x + 1) of the powers x in 96 mel bands, (1 +
    frames // 256, 96), float32.

    The published code rounds x to half precision, which is infinite above 65504, so that a loud tone gives infinity;
    here it stays float32. The ends are mirrored by half an FFT, as librosa did when the networks were trained.
    """
    window = torch.hann_window(FFT_SAMPLES)
    bins = torch.stft(
        torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)),
        FFT_SAMPLES,
        HOP_SAMPLES,
        window=window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )  # (257, frames)
    power = bins.real.square() + bins.imag.square()
    mel = torch.from_numpy(mel_filters()) @ power  # (96, frames)
    return torch.log10(COMPRESSION * mel + 1.0).T


def filled(frames: Tensor) -> Tensor:
    """A spectrogram (frames, 96) of at least one window.

    A shorter one is repeated until it fills it, as in the networks' training (`pad_short: repeat-pad`): silence behind
    the music would be something the network hears.
    """
    if len(frames) >= WINDOW_FRAMES:
        return frames
    return frames.repeat(-(-WINDOW_FRAMES // len(frames)), 1)[:WINDOW_FRAMES]


def levelled(samples: Floats) -> Floats:
    """Mono samples (frames,) at 16 kHz, at LEVEL_LUFS. InvalidRequest AUDIO_SILENT where there is nothing to level."""
    loudness = integrated_loudness_lufs(samples, SAMPLE_RATE_HZ)
    if not np.isfinite(loudness) or np.abs(samples).max(initial=0.0) < SILENT_BELOW:
        raise InvalidRequest("silence has no embedding", reason="AUDIO_SILENT")
    return samples * np.float32(10.0 ** ((LEVEL_LUFS - loudness) / 20))


class Musicnn:
    """One of the two taggers. Many threads may call it at once."""

    sample_rate_hz = SAMPLE_RATE_HZ
    channels = 1
    dimensions = DIMENSIONS
    window_s = WINDOW_FRAMES * HOP_SAMPLES / SAMPLE_RATE_HZ
    hop_s = HOP_FRAMES * HOP_SAMPLES / SAMPLE_RATE_HZ

    def __init__(self, name: str, weights_sha256: str, classes: tuple[str, ...], tensors: Mapping[str, Tensor]) -> None:
        self.name, self.weights_sha256, self.classes = name, weights_sha256, classes
        self._network = Network(len(classes)).eval().requires_grad_(False)
        counters = {k: v for k, v in self._network.state_dict().items() if k.endswith("num_batches_tracked")}
        self._network.load_state_dict({**tensors, **counters})

    def embed(self, samples: Floats) -> Embedding:
        """Vectors (windows, 200) and logits (windows, 50) of mono samples (frames, 1) at 16 kHz, of 0.5 s to 1 h.

        InvalidRequest where they are not that, not finite (AUDIO_NOT_FINITE), or silent (AUDIO_SILENT).
        """
        if samples.ndim != 2 or samples.shape[1] != 1 or not MIN_SAMPLES <= len(samples) <= MAX_SAMPLES:
            bound = f"must be (frames, 1), {MIN_SAMPLES} to {MAX_SAMPLES} frames, got {samples.shape}"
            raise InvalidRequest(violations=[("samples", bound)])
        if not np.isfinite(samples).all():
            raise InvalidRequest("the audio holds NaN or infinity", reason="AUDIO_NOT_FINITE")
        frames = filled(spectrogram(levelled(samples[:, 0])))
        count = 1 + (len(frames) - WINDOW_FRAMES) // HOP_FRAMES  # what is left at the end, below 0.98 s, is not heard
        groups = (range(first, min(first + WINDOWS_AT_ONCE, count)) for first in range(0, count, WINDOWS_AT_ONCE))
        found = in_parallel(
            self._network.overlapping,
            (frames[group[0] * HOP_FRAMES : group[-1] * HOP_FRAMES + WINDOW_FRAMES] for group in groups),
        )
        vectors, logits = (torch.cat([each[part] for each in found]).numpy() for part in (0, 1))
        if not (np.isfinite(vectors).all() and np.isfinite(logits).all()):
            raise InvalidRequest(f"{self.name} gives NaN or infinity for this audio", reason="AUDIO_NOT_FINITE")
        return Embedding(vectors, logits)


def opener(name: str, classes: tuple[str, ...]) -> Callable[[Path], Musicnn]:
    """What opens a file of this tagger's weights."""

    def open_weights(path: Path) -> Musicnn:
        weights = read_weights(path, name, weight_shapes(len(classes)))
        if weights.classes != classes:
            text = f"{path.name} names other classes than {name} has"
            raise InvalidRequest(text, reason=INVALID)
        return Musicnn(name, weights.sha256, classes, weights.tensors)

    return open_weights

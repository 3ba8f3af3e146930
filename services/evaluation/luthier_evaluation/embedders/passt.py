"""PaSST, the tagger of KL_passt (Koutini et al. 2022, arXiv:2110.05069): `passt_s_swa_p16_128_ap476`, as hear21passt
0.0.26 computes it and stable-audio-metrics calls it.

A vision transformer over patches of a mel spectrogram, trained on AudioSet: 527 logits and an embedding of 768 for each
window of 10 s. Its tensors have the checkpoint's names. Of patchout nothing is here: it belongs to training.
"""

import csv
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.compliance.kaldi import get_mel_banks

from luthier_evaluation.embedders.base import Embedding, Floats
from luthier_evaluation.embedders.papers import finite, levelled
from luthier_evaluation.embedders.parallel import in_parallel
from luthier_evaluation.embedders.weights import read_weights

NAME: Final = "passt"
SAMPLE_RATE_HZ: Final = 32_000
WINDOW_SAMPLES: Final = 10 * SAMPLE_RATE_HZ  # what the network was trained on
HOP_SAMPLES: Final = 5 * SAMPLE_RATE_HZ
UNPADDED_SAMPLES: Final = 48_000  # 15 % of a window: so little is heard as it is, without silence behind
CLASSES: Final = 527
WINDOWS_AT_ONCE: Final = 1  # what a layer gives of more (15 MB each) is too much for the cache

# the front end
PREEMPHASIS: Final = 0.97
FFT_SAMPLES, FRAME_SAMPLES, FRAME_HOP_SAMPLES = 1024, 800, 320
MELS: Final = 128
TOP_HZ: Final = 15_000.0  # half the rate less half of the 2000 Hz by which training moved it
FLOOR: Final = 1e-5
OFFSET, SCALE = 4.5, 5.0

# the network
PATCH, STRIDE = 16, 10
HEAD_WIDTH: Final = 64
BLOCK_EPSILON: Final = 1e-6  # of all norms but the classifier's


@dataclass(frozen=True)
class Size:
    """`frequencies` and `times`: patches of a window."""

    width: int = 768
    blocks: int = 12
    frequencies: int = (MELS - PATCH) // STRIDE + 1
    times: int = 99

    @property
    def heads(self) -> int:
        return self.width // HEAD_WIDTH


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, asking: int) -> Tensor:
        """Of (batch, tokens, width), what the first `asking` tokens hear in all: (batch, asking, width)."""
        batch, tokens, width = x.shape
        if asking == tokens:
            q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        else:
            q = functional.linear(x[:, :asking], self.qkv.weight[:width], self.qkv.bias[:width])
            q = q.reshape(batch, asking, self.heads, -1).transpose(1, 2)
            kv = functional.linear(x, self.qkv.weight[width:], self.qkv.bias[width:])
            k, v = kv.reshape(batch, tokens, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(q, k, v)  # (batch, heads, asking, width / heads)
        out: Tensor = self.proj(heard.transpose(1, 2).reshape(batch, asking, width))
        return out


class Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, BLOCK_EPSILON)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, BLOCK_EPSILON)
        self.mlp = Perceptron(width)

    def forward(self, x: Tensor, asking: int) -> Tensor:
        """The first `asking` tokens of what becomes of (batch, tokens, width)."""
        out: Tensor = x[:, :asking] + self.attn(self.norm1(x), asking)
        after: Tensor = out + self.mlp(self.norm2(out))
        return after


class Network(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, size.width, PATCH, STRIDE)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.new_pos_embed = nn.Parameter(torch.zeros(1, 2, size.width))
        self.freq_new_pos_embed = nn.Parameter(torch.zeros(1, size.width, size.frequencies, 1))
        self.time_new_pos_embed = nn.Parameter(torch.zeros(1, size.width, 1, size.times))
        self.blocks = nn.ModuleList(Block(size.width, size.heads) for _ in range(size.blocks))
        self.norm = nn.LayerNorm(size.width, BLOCK_EPSILON)
        self.head = nn.Sequential(nn.LayerNorm(size.width), nn.Linear(size.width, CLASSES))

    def forward(self, spectrograms: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (batch, width) and logits (batch, 527) of spectrograms (batch, 128, frames) of up to a window."""
        x = self.patch_embed["proj"](spectrograms[:, None])  # (batch, width, 12, times)
        x = x + self.time_new_pos_embed[..., : x.shape[-1]] + self.freq_new_pos_embed
        x = x.flatten(2).transpose(1, 2)  # (batch, 12 * times, width)
        tokens = torch.cat([self.cls_token, self.dist_token], 1) + self.new_pos_embed
        x = torch.cat([tokens.expand(len(x), -1, -1), x], 1)
        for block in self.blocks[:-1]:
            x = block(x, x.shape[1])
        x = self.norm(self.blocks[-1](x, 2))  # (batch, 2, width): of the last block no other token is asked for
        vectors = x.mean(1)
        return vectors, self.head(vectors)


def weight_shapes(size: Size | None = None) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's tensors."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in Network(size or Size()).state_dict().items()}


@cache
def classes() -> tuple[str, ...]:
    """AudioSet's 527 classes (Gemmeke et al. 2017, CC BY 4.0), in the order of the logits."""
    table = resources.files("luthier_evaluation.embedders").joinpath("audioset_classes.csv")
    lines = table.read_text(encoding="utf-8").splitlines()
    return tuple(row["display_name"] for row in csv.DictReader(lines))


@cache
def mel_filters() -> Tensor:
    """Weights of FFT bins in mel bands (128, 513): Kaldi's triangles, 0 Hz to TOP_HZ."""
    banks, _ = get_mel_banks(MELS, FFT_SAMPLES, SAMPLE_RATE_HZ, 0.0, TOP_HZ, 100.0, -500.0, 1.0)
    return functional.pad(banks, (0, 1))  # Kaldi leaves out the bin at half the rate


def spectrogram(windows: Tensor) -> Tensor:
    """Log mel energies (batch, 128, 1 + (frames - 1) // 320) of samples (batch, frames) at 32 kHz: the front end."""
    x = windows[:, 1:] - PREEMPHASIS * windows[:, :-1]
    bins = torch.stft(
        x,
        FFT_SAMPLES,
        FRAME_HOP_SAMPLES,
        FRAME_SAMPLES,
        torch.hann_window(FRAME_SAMPLES, periodic=False),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )  # (batch, 513, frames)
    mel = mel_filters() @ (bins.real.square() + bins.imag.square())
    return ((mel + FLOOR).log() + OFFSET) / SCALE


def windows_of(samples: Tensor) -> Tensor:
    """Windows (windows, frames) of samples (frames,), as stable-audio-metrics cuts them.

    Every 5 s a window of 10 s begins, as long as more than 5 s are left; what is missing in the last is silence. Audio
    of at most 1.5 s is one window of its own length.
    """
    if len(samples) <= UNPADDED_SAMPLES:
        return samples[None]
    count = max(1, -(-(len(samples) - HOP_SAMPLES) // HOP_SAMPLES))
    missing = (count - 1) * HOP_SAMPLES + WINDOW_SAMPLES - len(samples)
    return functional.pad(samples, (0, max(0, missing))).unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)[:count]


class Passt:
    """PaSST with its weights. Many threads may call it: they take turns."""

    name = NAME
    sample_rate_hz = SAMPLE_RATE_HZ
    channels = 1
    window_s = WINDOW_SAMPLES / SAMPLE_RATE_HZ
    hop_s = HOP_SAMPLES / SAMPLE_RATE_HZ

    def __init__(self, weights_sha256: str, tensors: Mapping[str, Tensor], size: Size | None = None) -> None:
        size = size or Size()
        self.weights_sha256, self.dimensions, self.classes = weights_sha256, size.width, classes()
        with torch.device("meta"):
            self._network = Network(size)
        self._network.load_state_dict(tensors, assign=True)
        self._network.eval().requires_grad_(False)
        self._turn = threading.Lock()

    def embed(self, samples: Floats) -> Embedding:
        """Vectors (windows, 768) and logits (windows, 527) of mono samples (frames, 1) at 32 kHz, of 0.5 s to 1 h.

        InvalidRequest where they are not that, not finite (AUDIO_NOT_FINITE), or silent (AUDIO_SILENT).
        """
        mono = torch.from_numpy(levelled(samples, 1, SAMPLE_RATE_HZ)[:, 0])
        with self._turn:
            found: list[tuple[Tensor, Tensor]] = in_parallel(
                lambda window: self._network(spectrogram(window)), torch.split(windows_of(mono), WINDOWS_AT_ONCE)
            )
        vectors, logits = (torch.cat([each[part] for each in found]).numpy() for part in (0, 1))
        finite(self.name, vectors, logits)
        return Embedding(vectors, logits)


def open_passt(path: Path) -> Passt:
    """PaSST with the weights of a file that `luthier_evaluation.conversion` wrote."""
    weights = read_weights(path, NAME, weight_shapes())
    return Passt(weights.sha256, weights.tensors)

"""CLAP, of the CLAP score (Wu et al. 2023): `630k-audioset-fusion-best`, as laion_clap computes it and
stable-audio-metrics calls it, by transformers' ClapModel.

Audio and texts have vectors in one space of 512 dimensions. Of audio beyond 10 s the network hears the whole, shrunk to
10 s, and three pieces of 10 s, one of each third. The published code draws the pieces anew at every call, so the same
file scores differently each time; here each piece is the one in the middle of its third's range.

transformers' feature extractor is not used: it differs from laion_clap (findings/clap-fuses-a-short-clip-by-chance.sh).
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from torchaudio.functional import melscale_fbanks
from transformers import ClapConfig, ClapModel
from transformers.initialization import no_init_weights

from luthier_evaluation.embedders.base import Embedding, Floats
from luthier_evaluation.embedders.papers import finite, levelled
from luthier_evaluation.embedders.weights import INVALID, read_weights
from luthier_kit.rpc import InvalidRequest

NAME: Final = "clap"
TOKENIZER: Final = "clap.tokenizer"
"""Key of the file's header: RoBERTa's tokenizer.json as text."""
SAMPLE_RATE_HZ: Final = 48_000
WINDOW_SAMPLES: Final = 10 * SAMPLE_RATE_HZ
DIMENSIONS: Final = 512
INT16: Final = 32767.0

# the front end (laion_clap's HTSAT-tiny.json)
FFT_SAMPLES, HOP_SAMPLES, MELS = 1024, 480, 64
LOW_HZ, HIGH_HZ = 50.0, 14_000.0
FRAMES: Final = WINDOW_SAMPLES // HOP_SAMPLES + 1
FLOOR: Final = 1e-10  # of power

# the text side
MAX_TOKENS: Final = 77
MAX_TEXTS, MAX_TEXT_CHARS = 10_000, 10_000
TEXTS_AT_ONCE: Final = 32
PAD: Final = 1  # RoBERTa's token
MAX_TOKENIZER_BYTES: Final = 12 << 20
HEAD_WIDTH: Final = 64
TEXT_EPSILON: Final = 1e-5  # RoBERTa's, which laion_clap takes; transformers' own default for CLAP is 1e-12


@dataclass(frozen=True)
class Size:
    """Of the text encoder; the encoder of audio has one size."""

    vocabulary: int = 50_265
    layers: int = 12
    intermediate: int = 3072
    positions: int = 514

    def config(self) -> ClapConfig:
        """transformers' configuration of the whole model."""
        return ClapConfig(
            text_config={
                "vocab_size": self.vocabulary,
                "num_hidden_layers": self.layers,
                "intermediate_size": self.intermediate,
                "max_position_embeddings": self.positions,
                "layer_norm_eps": TEXT_EPSILON,
            },
            audio_config={"enable_fusion": True},
        )


_NOT_STORED: Final = (
    "logit_scale_a",  # of training
    "logit_scale_t",
    "position_ids",  # constants, which the model makes itself
    "token_type_ids",
    "relative_position_index",
    "num_batches_tracked",
)


def weight_shapes(size: Size | None = None) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the model's tensors, by transformers' names."""
    with torch.device("meta"):
        state = ClapModel((size or Size()).config()).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith(_NOT_STORED)}


def pieces_of(frames: int) -> tuple[int, int, int]:
    """Where the three pieces of FRAMES frames begin in a spectrogram of so many, more than FRAMES.

    The places where one may begin are cut into three ranges, as even as can be, the first ones longer; a range that is
    empty is 0.
    """
    ranges = np.array_split(np.arange(frames - FRAMES + 1), 3)
    first, second, third = (int(places[len(places) // 2]) if len(places) else 0 for places in ranges)
    return first, second, third


@cache
def mel_filters() -> Tensor:
    """Weights of the FFT bins up to HIGH_HZ in mel bands (64, 299), HTK's triangles."""
    filters: Tensor = melscale_fbanks(FFT_SAMPLES // 2 + 1, LOW_HZ, HIGH_HZ, MELS, SAMPLE_RATE_HZ)
    return filters[: int(HIGH_HZ * FFT_SAMPLES / SAMPLE_RATE_HZ) + 1].T.contiguous()


def spectrogram(mono: Tensor) -> Tensor:
    """Mel powers in dB (1 + frames // 480, 64) of samples (frames,) at 48 kHz: the front end."""
    bins = torch.stft(
        mono,
        FFT_SAMPLES,
        HOP_SAMPLES,
        window=torch.hann_window(FFT_SAMPLES),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )[: mel_filters().shape[1]]  # (299, frames)
    power = bins.real.square() + bins.imag.square()
    return 10 * (mel_filters() @ power).clamp(min=FLOOR).log10().T


class Clap:
    """CLAP with its weights. Many threads may call it: they take turns."""

    name = NAME
    sample_rate_hz = SAMPLE_RATE_HZ
    channels = 1
    dimensions = DIMENSIONS
    window_s = WINDOW_SAMPLES / SAMPLE_RATE_HZ
    hop_s = WINDOW_SAMPLES / SAMPLE_RATE_HZ
    """Audio of any length is one window: the network's own fusion."""
    classes: tuple[str, ...] = ()

    def __init__(
        self, weights_sha256: str, tensors: Mapping[str, Tensor], tokenizer: Tokenizer, size: Size | None = None
    ) -> None:
        self.weights_sha256 = weights_sha256
        with no_init_weights():
            self._model = ClapModel((size or Size()).config())
        constants = {name: value for name, value in self._model.state_dict().items() if name.endswith(_NOT_STORED)}
        self._model.load_state_dict({**constants, **tensors}, assign=True)
        self._model.requires_grad_(False)
        self._model.train(False)
        self._tokenizer = tokenizer
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        self._turn = threading.Lock()

    def embed(self, samples: Floats) -> Embedding:
        """One vector (1, 512) of length 1 of mono samples (frames, 1) at 48 kHz, of 0.5 s to 1 h.

        Audio up to 10 s is repeated whole as often as it fits, then silence. InvalidRequest where samples are not that,
        not finite (AUDIO_NOT_FINITE), or silent (AUDIO_SILENT).
        """
        level = levelled(samples, 1, SAMPLE_RATE_HZ)[:, 0]
        mono = torch.from_numpy((level * np.float32(INT16)).astype(np.int16).astype(np.float32) / np.float32(INT16))
        with self._turn, torch.inference_mode():
            if len(mono) < WINDOW_SAMPLES:
                mono = mono.repeat(WINDOW_SAMPLES // len(mono))
                mono = functional.pad(mono, (0, WINDOW_SAMPLES - len(mono)))
            mel = spectrogram(mono)
            fused = len(mel) > FRAMES
            if fused:
                shrunk = functional.interpolate(mel[None, None], (FRAMES, MELS), mode="bilinear")[0, 0]
                pieces = [mel[begin : begin + FRAMES] for begin in pieces_of(len(mel))]
                heard = torch.stack([shrunk, *pieces])
            else:
                heard = mel.expand(4, -1, -1)  # only the first is listened to
            encoded = self._model.audio_model(input_features=heard[None], is_longer=torch.tensor([[fused]]))
            vectors = functional.normalize(self._model.audio_projection(encoded.pooler_output), dim=-1).numpy()
        finite(self.name, vectors)
        return Embedding(vectors, np.zeros((1, 0), np.float32))

    def embed_text(self, texts: list[str]) -> Floats:
        """Vectors (texts, 512) of length 1. Of a text the first 77 tokens are read, the two around it counted.

        InvalidRequest for more than 10,000 texts, or a text beyond 10,000 characters.
        """
        if len(texts) > MAX_TEXTS or any(len(text) > MAX_TEXT_CHARS for text in texts):
            bound = f"at most {MAX_TEXTS} of at most {MAX_TEXT_CHARS} characters"
            raise InvalidRequest(violations=[("texts", bound)])
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        by_length = sorted(range(len(texts)), key=lambda number: len(tokens[number]))  # little padding in a batch
        with self._turn, torch.inference_mode():
            for first in range(0, len(texts), TEXTS_AT_ONCE):
                numbers = by_length[first : first + TEXTS_AT_ONCE]
                ids = torch.nn.utils.rnn.pad_sequence(
                    [torch.tensor(tokens[number]) for number in numbers], batch_first=True, padding_value=PAD
                )  # (batch, tokens)
                mask = torch.nn.utils.rnn.pad_sequence(
                    [torch.ones(len(tokens[number]), dtype=torch.long) for number in numbers], batch_first=True
                )
                encoded = self._model.text_model(input_ids=ids, attention_mask=mask)
                projected = self._model.text_projection(encoded.pooler_output)
                vectors[numbers] = functional.normalize(projected, dim=-1).numpy()
        finite(self.name, vectors)
        return vectors


def tokenizer_of(text: str, size: Size | None = None) -> Tokenizer:
    """A tokenizer from the text of a tokenizer.json; ValueError when it is none, or not RoBERTa's."""
    if not text or len(text) > MAX_TOKENIZER_BYTES:
        raise ValueError(f"tokenizer.json must have 1 to {MAX_TOKENIZER_BYTES} characters, got {len(text)}")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"tokenizer.json cannot be read: {error}"[:300]) from None
    special = {"<s>": 0, "<pad>": PAD, "</s>": 2}
    found = {token: tokenizer.token_to_id(token) for token in special}
    if found != special:
        raise ValueError(f"tokenizer.json must be RoBERTa's, with {special}, got {found}")
    most = (size or Size()).vocabulary
    highest = max(tokenizer.get_vocab().values())
    if highest >= most:
        raise ValueError(f"tokenizer.json has token {highest}, the network knows {most}")
    if tokenizer.encode("a").ids[:1] + tokenizer.encode("a").ids[-1:] != [0, 2]:
        raise ValueError("tokenizer.json must put <s> before a text and </s> behind")
    return tokenizer


def open_clap(path: Path) -> Clap:
    """CLAP with the weights and the tokenizer of a file that `luthier_evaluation.conversion` wrote."""
    weights = read_weights(path, NAME, weight_shapes())
    try:
        tokenizer = tokenizer_of(weights.header.get(TOKENIZER, ""))
    except ValueError as error:
        raise InvalidRequest(f"{path.name}: {error}", reason=INVALID) from None
    return Clap(weights.sha256, weights.tensors, tokenizer)

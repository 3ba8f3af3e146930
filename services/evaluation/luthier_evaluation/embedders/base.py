"""What every embedder gives: vectors of windows of audio, and of a tagger the logits of its classes.

An embedder is a network whose weights an operator brings (`weights`); the Fréchet distances, divergences, adherence and
nearest neighbours are computed from what it gives, so audio is listened to once.
"""

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SILENT_BELOW: Final = 10 ** (-60 / 20)
"""Full scale 1. Audio without a sample above has no embedding: taggers call silence rock."""


@dataclass(frozen=True)
class Embedding:
    """What an embedder makes of one piece of audio.

    `vectors`: (windows, dimensions); `logits`: (windows, classes) before any sigmoid or softmax, classes 0 where the
    embedder is no tagger. All values are finite.
    """

    vectors: Floats
    logits: Floats


class Embedder(Protocol):
    """A network with its weights, ready to listen. Safe for calls from many threads, which it may serve in turn."""

    name: str
    """As scores are named by it: `musicnn`, `passt`, `openl3`, `clap`."""
    weights_sha256: str
    sample_rate_hz: int
    channels: int
    """1 or 2: what `embed` is given."""
    dimensions: int
    window_s: float
    hop_s: float
    classes: tuple[str, ...]
    """Names of the classes of `logits`; empty = no tagger."""

    def embed(self, samples: Floats) -> Embedding:
        """Listen to samples (frames, channels) at `sample_rate_hz`, full scale 1, of any length from 0.5 s.

        Levelling and padding are the embedder's own, as its publication has them.
        """
        ...


@runtime_checkable
class TextEmbedder(Protocol):
    """An embedder whose space holds texts, too."""

    def embed_text(self, texts: list[str]) -> Floats:
        """Vectors (texts, dimensions) of length 1."""
        ...

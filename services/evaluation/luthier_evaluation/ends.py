"""Where the sound of a piece of audio ends.

Stable Audio 1 (Evans et al. 2024, arXiv:2402.04825) measures its timing so: the whole window is generated, a simple
threshold of energy tells where the silence begins that goes on to its end, and that is held against the length asked
for. Its threshold is not published; ours is below.
"""

import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.store import Store
from luthier_music.audio import Samples, read_audio

BLOCK_S: Final = 0.01  # resolution of an end
LOUD_BLOCKS: Final = 5  # 50 ms: the loudest of them is what a sound ends below
BELOW_LOUDEST_DB: Final = 60.0  # as reverberation time is defined (ISO 3382): what is that much softer is not heard
FLOOR_DBFS: Final = -80.0  # lower than this 16 bits have little but rounding; a peak below it is silence
RUNS_ON_S: Final = 0.05  # a sound that ends so near the end of the window did not stop before it


def sounding_s_of(store: Store, audio: ArtifactRef) -> tuple[float | None, float]:
    """Where the sound of an artifact ends (None = it is silent), and how long the artifact is, seconds."""
    with tempfile.TemporaryDirectory() as folder:
        samples, rate = read_audio(store.blobs.fetch(audio, Path(folder), read_only=True))
    return sounding_s(samples, rate), samples.shape[0] / rate


def sounding_s(samples: Samples, rate: int) -> float | None:
    """The last moment of samples (frames, channels) above the threshold, seconds from the start; None for silence.

    The threshold is 60 dB below the loudest 50 ms, and -80 dBFS at least; levels are the mean square over blocks of
    10 ms and all channels.
    """
    block = max(1, round(BLOCK_S * rate))
    count = -(-samples.shape[0] // block)
    if not count:
        return None
    squares = np.square(samples, dtype=np.float64).mean(axis=1)  # [frames]
    starts = np.arange(count) * block
    energy = np.add.reduceat(squares, starts) / np.diff(starts, append=samples.shape[0])  # [count]
    loud = np.convolve(energy, np.full(LOUD_BLOCKS, 1 / LOUD_BLOCKS), "full").max()
    threshold = max(loud * 10 ** (-BELOW_LOUDEST_DB / 10), 10 ** (FLOOR_DBFS / 10))
    sounding = np.flatnonzero(energy > threshold)
    return min((int(sounding[-1]) + 1) * block, samples.shape[0]) / rate if sounding.size else None

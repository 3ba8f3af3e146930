"""Clipping: samples that stand at full scale, one after another."""

import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.store import Store
from luthier_music.audio import Samples, read_audio

FULL_SCALE: Final = 32767 / 32768
"""The highest sample of 16 bits."""
RUN: Final = 3
"""Samples at full scale in a row that are no peak any more."""


def clipped_share_of(store: Store, audio: ArtifactRef, seconds: float | None = None) -> float:
    """The share of an artifact's samples that are clipped, of its first `seconds` where they are given."""
    with tempfile.TemporaryDirectory() as folder:
        samples, _ = read_audio(store.blobs.fetch(audio, Path(folder)), duration_s=seconds)
    return clipped_share(samples)


def clipped_share(samples: Samples) -> float:
    """Share of the samples (frames, channels) that stand at full scale, RUN or more in a row, 0 to 1."""
    if not samples.size:
        return 0.0
    clipped = 0
    for channel in np.abs(samples).T:
        edges = np.flatnonzero(np.diff(channel >= FULL_SCALE, prepend=False, append=False))  # starts and ends in turn
        lengths = edges[1::2] - edges[::2]
        clipped += int(lengths[lengths >= RUN].sum())
    return clipped / samples.size

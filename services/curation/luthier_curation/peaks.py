"""Waveform peaks in audiowaveform's format, version 2: what a person sees of a clip before the audio is there.

The file is read in blocks, so memory does not grow with its length. The peaks are signed 8-bit pairs (lowest, highest)
per column, -128 to 127 for -1.0 to 1.0. They are of one channel: the lowest and the highest sample of all channels,
since the mean that audiowaveform draws by default would be a flat line for channels in antiphase.

The format is described in audiowaveform's doc/DataFormat.md: readers such as waveform-data.js take it.
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from luthier_kit.rpc import DataLoss
from luthier_music.audio import AudioError, open_audio

OVERVIEW_COLUMNS: Final = 800
"""Most columns of one waveform as lists show it: the widest that the page draws it, in CSS pixels."""
DETAIL_COLUMNS: Final = 8000
"""Most columns where a person zooms in: at 30 s one for every 4 ms."""
VERSION: Final = "3"
_BLOCK_FRAMES: Final = 1 << 18
_HEADER: Final = struct.Struct("<iIiiIi")  # version, flags, sample rate, samples per pixel, length, channels
_FORMAT: Final = 2  # of audiowaveform, the first with channels
_EIGHT_BITS: Final = 1


@dataclass(frozen=True)
class Waveform:
    """A waveform to draw: `data` (columns, 2), lowest and highest of each `samples_per_pixel` frames."""

    sample_rate_hz: int
    samples_per_pixel: int
    data: NDArray[np.int8]

    def dat(self) -> bytes:
        """As audiowaveform's binary format has it: a header of 24 bytes, little-endian, and the pairs."""
        header = _HEADER.pack(_FORMAT, _EIGHT_BITS, self.sample_rate_hz, self.samples_per_pixel, len(self.data), 1)
        return header + self.data.tobytes()

    def json(self) -> bytes:
        """The same as audiowaveform's JSON."""
        value = {
            "version": _FORMAT,
            "channels": 1,
            "sample_rate": self.sample_rate_hz,
            "samples_per_pixel": self.samples_per_pixel,
            "bits": 8,
            "length": len(self.data),
            "data": self.data.reshape(-1).tolist(),
        }
        return json.dumps(value, separators=(",", ":")).encode()


def waveform_of_dat(data: bytes) -> Waveform:
    """What `Waveform.dat` wrote. ValueError for anything else."""
    if len(data) < _HEADER.size:
        raise ValueError("no audiowaveform data: it has no header")
    version, flags, rate, samples_per_pixel, length, channels = _HEADER.unpack_from(data)
    if (version, flags, channels) != (_FORMAT, _EIGHT_BITS, 1) or len(data) != _HEADER.size + 2 * length:
        raise ValueError(f"no audiowaveform data of version {_FORMAT} with 8 bits and one channel")
    return Waveform(rate, samples_per_pixel, np.frombuffer(data, np.int8, offset=_HEADER.size).reshape(-1, 2))


def peaks_of(path: Path, columns: int = OVERVIEW_COLUMNS) -> Waveform:
    """The waveform of an audio file in at most `columns` columns.

    Raises DataLoss for what cannot be decoded, or holds no sound.
    """
    try:
        with open_audio(path) as audio:
            frames, rate = audio.frames, audio.samplerate
            if not 0 < frames < 1 << 40:
                raise DataLoss("the clip's audio holds no frames", reason="AUDIO_UNREADABLE")
            step = math.ceil(frames / min(columns, frames))
            lows, highs = _reduce(audio, frames, step)
    except AudioError as error:
        raise DataLoss(f"the clip's audio cannot be decoded: {error}", reason="AUDIO_UNREADABLE") from error
    pairs = np.stack([lows, highs], axis=1).clip(-1, 1)
    return Waveform(rate, step, np.round(np.nan_to_num(pairs) * 127.5 - 0.5).astype(np.int8))


def _reduce(audio: soundfile.SoundFile, frames: int, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest and highest sample per column; column c holds frames [c * step, (c + 1) * step)."""
    filled = math.ceil(frames / step)
    lows, highs = np.zeros(filled, np.float32), np.zeros(filled, np.float32)
    size = max(step, _BLOCK_FRAMES // step * step)  # whole columns per block
    first = 0
    for block in audio.blocks(blocksize=size, dtype="float32", always_2d=True):
        starts = np.arange(0, len(block), step)
        last = min(first + len(starts), filled)
        lows[first:last] = np.minimum.reduceat(block.min(axis=1), starts)[: last - first]
        highs[first:last] = np.maximum.reduceat(block.max(axis=1), starts)[: last - first]
        first = last
    return lows, highs

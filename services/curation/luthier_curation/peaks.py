"""Waveform peaks for the page: what a person sees of a clip before the audio is there.

The file is read in blocks, so memory does not grow with its length. The peaks are signed 8-bit pairs (lowest, highest)
per column over all channels, -128 to 127 for -1.0 to 1.0, as the `peaks` of audiowaveform are. Their mean would be a
flat line for channels in antiphase.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from luthier_kit.rpc import DataLoss
from luthier_music.audio import AudioError, open_audio

COLUMNS = 800
"""columns of one waveform: the widest the page draws it, in CSS pixels."""
BLOCK_FRAMES = 1 << 18
VERSION = "2"


@dataclass(frozen=True)
class Peaks:
    """A waveform to draw; `peaks` holds 2 * columns integers, lowest and highest by turns."""

    duration_s: float
    sample_rate_hz: int
    columns: int
    peaks: list[int]


def peaks_of(path: Path, columns: int = COLUMNS) -> Peaks:
    """The waveform of an audio file in at most `columns` columns.

    Raises DataLoss for what cannot be decoded, or holds no sound.
    """
    try:
        with open_audio(path) as audio:
            frames, rate = audio.frames, audio.samplerate
            if not 0 < frames < 1 << 40:
                raise DataLoss("the clip's audio holds no frames", reason="AUDIO_UNREADABLE")
            lows, highs = _reduce(audio, frames, min(columns, frames))
    except AudioError as error:
        raise DataLoss(f"the clip's audio cannot be decoded: {error}", reason="AUDIO_UNREADABLE") from error
    pairs = np.stack([lows, highs], axis=1).clip(-1, 1)
    quantised = np.round(np.nan_to_num(pairs) * 127.5 - 0.5).astype(int)
    return Peaks(round(frames / rate, 4), rate, len(lows), quantised.reshape(-1).tolist())


def _reduce(audio: soundfile.SoundFile, frames: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest sample per column; column c holds frames [c * step, (c + 1) * step)."""
    step = math.ceil(frames / columns)
    filled = math.ceil(frames / step)
    lows, highs = np.zeros(filled, np.float32), np.zeros(filled, np.float32)
    size = max(step, BLOCK_FRAMES // step * step)  # whole columns per block
    first = 0
    for block in audio.blocks(blocksize=size, dtype="float32", always_2d=True):
        starts = np.arange(0, len(block), step)
        last = min(first + len(starts), filled)
        lows[first:last] = np.minimum.reduceat(block.min(axis=1), starts)[: last - first]
        highs[first:last] = np.maximum.reduceat(block.max(axis=1), starts)[: last - first]
        first = last
    return lows, highs

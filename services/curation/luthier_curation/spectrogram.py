"""Spectrograms for the page, as PNG pictures: time from left to right, frequency from bottom to top.

The frequencies are spaced evenly in pitch, from 40 Hz to 16 kHz, as notes are; the levels reach 80 dB down from the
loudest. A picture of a sine has one bright line at its frequency.
"""

import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from luthier_kit.rpc import DataLoss
from luthier_music.audio import AudioError, audio_info, read_audio

VERSION: Final = "1"
WIDTH: Final = 1600
"""Most columns of a picture."""
HEIGHT: Final = 160
"""Rows, each of them a step in pitch."""
LOWEST_HZ: Final = 40.0
HIGHEST_HZ: Final = 16_000.0
RANGE_DB: Final = 80.0
MAX_DURATION_S: Final = 600.0
"""Longest clip that has a picture: a whole song."""
_WINDOW: Final = 4096  # samples: 93 ms at 44.1 kHz, so that bass notes stand apart
_QUIETEST_DB: Final = -60.0  # a loudest that is quieter than this, against full scale, counts as if it had it
_FLOOR: Final = 10 ** ((_QUIETEST_DB - RANGE_DB) / 10)  # of power: digital silence has a level, too
_COLOURS: Final = np.array(  # dark violet to pale yellow, in steps of equal lightness
    [[8, 6, 20], [62, 15, 88], [140, 41, 99], [217, 83, 67], [251, 155, 52], [252, 253, 191]], np.float64
)


def spectrogram_png(path: Path) -> bytes:
    """The spectrogram of an audio file, at most WIDTH pixels wide and HEIGHT high.

    Raises DataLoss for what cannot be decoded, holds no sound or is longer than MAX_DURATION_S.
    """
    try:
        if not audio_info(path).frames:
            raise DataLoss("the clip's audio holds no frames", reason="AUDIO_UNREADABLE")
        samples, rate = read_audio(path, max_duration_s=MAX_DURATION_S)
    except AudioError as error:
        raise DataLoss(f"the clip's audio cannot be decoded: {error}", reason="AUDIO_UNREADABLE") from error
    return _png(_levels(samples, rate))


def _levels(samples: NDArray[np.float32], rate: int) -> NDArray[np.uint8]:
    """(rows, columns) of 0 to 255 for RANGE_DB below the loudest to the loudest."""
    total = None
    hop = max(_WINDOW // 8, -(-len(samples) // WIDTH))
    transform = ShortTimeFFT(hann(_WINDOW, sym=False), hop, rate, scale_to="magnitude")
    padded = max(len(samples), _WINDOW)
    for channel in samples.T:  # powers are added: channels in antiphase are as loud as they are heard
        signal = np.pad(channel, (0, padded - len(channel)))
        power = transform.spectrogram(signal, p0=0, p1=-(-len(samples) // hop))
        total = power if total is None else total + power
    assert total is not None
    edges_hz = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (np.arange(HEIGHT + 1) / HEIGHT)
    bins = np.clip(np.searchsorted(transform.f, edges_hz), 0, len(transform.f) - 1)
    firsts, lasts = bins[:-1], np.maximum(bins[1:], bins[:-1] + 1)
    rows = np.stack([total[first:last].max(axis=0) for first, last in zip(firsts, lasts, strict=True)])
    levels_db = 10 * np.log10(np.maximum(rows, _FLOOR))
    scaled = (levels_db - max(levels_db.max(), _QUIETEST_DB) + RANGE_DB) / RANGE_DB
    shown: NDArray[np.uint8] = np.round(scaled.clip(0, 1) * 255).astype(np.uint8)
    return shown[::-1]


def _png(levels: NDArray[np.uint8]) -> bytes:
    """A PNG (ISO/IEC 15948) of 256 colours, one byte a pixel."""
    height, width = levels.shape
    places = np.linspace(0, len(_COLOURS) - 1, 256)
    palette = np.stack([np.interp(places, np.arange(len(_COLOURS)), column) for column in _COLOURS.T], axis=1)
    rows = np.hstack([np.zeros((height, 1), np.uint8), levels])  # each after the number of its filter, 0 = none
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", np.round(palette).astype(np.uint8).tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

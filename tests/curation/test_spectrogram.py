"""Spectrograms: where a signal that is known is bright."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from luthier_curation.spectrogram import HEIGHT, HIGHEST_HZ, LOWEST_HZ, RANGE_DB, spectrogram_png
from luthier_kit.rpc import DataLoss

RATE = 44_100


def levels(folder: Path, signal: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The picture's bytes, by an own reading of the PNG: one byte a pixel, filter 0."""
    path = folder / "signal.flac"
    soundfile.write(path, signal, RATE, subtype="PCM_16")
    file = io.BytesIO(spectrogram_png(path))
    assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    chunks = {}
    while head := file.read(8):
        size, kind = struct.unpack(">I4s", head)
        chunks[kind] = file.read(size)
        assert struct.unpack(">I", file.read(4))[0] == zlib.crc32(kind + chunks[kind])
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    return rows[:, 1:]


def row_of(frequency_hz: float) -> int:
    """The row that a frequency is in, evenly spaced in pitch; 0 is the top."""
    share = np.log(frequency_hz / LOWEST_HZ) / np.log(HIGHEST_HZ / LOWEST_HZ)
    return HEIGHT - 1 - int(share * HEIGHT)


def sine(frequency_hz: float, seconds: float = 2.0) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE)) / RATE)


@pytest.mark.parametrize("frequency_hz", [220.0, 1000.0, 8000.0])
def test_a_sine_is_brightest_at_its_frequency(tmp_path: Path, frequency_hz: float) -> None:
    middle = levels(tmp_path, sine(frequency_hz))[:, 40:-40]
    assert middle.shape[0] == HEIGHT
    assert abs(int(np.median(middle.argmax(axis=0))) - row_of(frequency_hz)) <= 1


def test_an_octave_up_is_as_many_rows_everywhere(tmp_path: Path) -> None:
    rows = [int(np.median(levels(tmp_path, sine(hz))[:, 40:-40].argmax(axis=0))) for hz in (500, 1000, 2000, 4000)]
    steps = -np.diff(rows)
    octave = HEIGHT / np.log2(16_000 / 40)
    assert np.abs(steps - octave).max() <= 1.5


def test_a_sound_begins_where_it_begins(tmp_path: Path) -> None:
    found = levels(tmp_path, np.concatenate([np.zeros(RATE), sine(1000, 1.0)]))
    row = found[row_of(1000.0) - 1 : row_of(1000.0) + 2].max(axis=0).astype(int)
    middle = len(row) // 2
    assert row[: middle - 10].max() == 0
    assert row[middle + 10 : -10].min() > 240


def test_twenty_decibels_are_a_quarter_of_the_range(tmp_path: Path) -> None:
    loud = sine(1000, 2.0)
    loud[RATE:] /= 10
    found = levels(tmp_path, loud)
    row = found[row_of(1000.0) - 1 : row_of(1000.0) + 2].max(axis=0).astype(int)
    quarter = len(row) // 4
    assert row[quarter] - row[3 * quarter] == pytest.approx(255 * 20 / RANGE_DB, abs=2)


def test_channels_in_antiphase_are_seen(tmp_path: Path) -> None:
    tone = sine(1000)
    assert levels(tmp_path, np.stack([tone, -tone], axis=1)).max() == 255


def test_silence_is_dark(tmp_path: Path) -> None:
    assert levels(tmp_path, np.zeros(RATE)).max() == 0


def test_what_is_no_audio_is_data_loss(tmp_path: Path) -> None:
    path = tmp_path / "broken.flac"
    path.write_bytes(b"not audio")
    with pytest.raises(DataLoss):
        spectrogram_png(path)

"""Peaks: what a waveform shows of a signal that is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from luthier_curation.peaks import Waveform, peaks_of, waveform_of_dat
from luthier_kit.rpc import DataLoss
from tests.support.flac import streamed


def written(folder: Path, signal: np.ndarray, rate: int = 44_100) -> Path:
    path = folder / "signal.flac"
    soundfile.write(path, signal, rate, subtype="PCM_16")
    return path


def pairs(found: Waveform) -> np.ndarray:
    return found.data.astype(int)


def test_a_sine_reaches_both_ends_of_its_amplitude(tmp_path: Path) -> None:
    sine = 0.5 * np.sin(2 * np.pi * 441 * np.arange(44_100) / 44_100)
    found = peaks_of(written(tmp_path, sine), columns=100)
    assert (found.samples_per_pixel, found.sample_rate_hz, len(found.data)) == (441, 44_100, 100)
    lows, highs = pairs(found).T
    assert np.abs(lows + 64).max() <= 1
    assert np.abs(highs - 63).max() <= 1


def test_a_click_is_seen_where_it_is_and_nowhere_else(tmp_path: Path) -> None:
    signal = np.zeros(100_000)
    signal[73_500] = 1.0
    highs = pairs(peaks_of(written(tmp_path, signal), columns=100))[:, 1]
    assert np.flatnonzero(highs > 0).tolist() == [73]


def test_channels_in_antiphase_are_no_flat_line(tmp_path: Path) -> None:
    half = 0.5 * np.sin(2 * np.pi * 441 * np.arange(44_100) / 44_100)
    lows, highs = pairs(peaks_of(written(tmp_path, np.stack([half, -half], axis=1)), columns=100)).T
    assert np.abs(lows + 64).max() <= 1
    assert np.abs(highs - 63).max() <= 1


def test_a_column_reaches_as_far_as_its_loudest_channel(tmp_path: Path) -> None:
    levels = np.stack([np.full(1000, 0.1), np.full(1000, -0.8), np.zeros(1000)], axis=1)
    lows, highs = pairs(peaks_of(written(tmp_path, levels), columns=10)).T
    assert np.abs(lows + 0.8 * 128).max() <= 1
    assert np.abs(highs - 0.1 * 127).max() <= 1


def test_a_streamed_flac_has_the_waveform_of_the_file_it_would_have_been(tmp_path: Path) -> None:
    path = written(tmp_path, np.random.default_rng(3).uniform(-0.9, 0.9, (600_000, 2)))
    whole = peaks_of(path)
    assert peaks_of(streamed(path)).dat() == whole.dat()


def test_a_file_longer_than_a_block_is_one_waveform(tmp_path: Path) -> None:
    ramp = np.linspace(0, 0.99, 1_000_000)
    highs = pairs(peaks_of(written(tmp_path, ramp), columns=800))[:, 1]
    assert len(highs) == 800
    assert (np.diff(highs) >= 0).all()
    assert highs[-1] == 126


def test_a_clip_of_fewer_samples_than_columns_has_one_each(tmp_path: Path) -> None:
    assert peaks_of(written(tmp_path, np.full(7, 0.5)), columns=800).data.shape == (7, 2)


@pytest.mark.parametrize("data", [b"", b"not audio", b"fLaC" + bytes(100)])
def test_what_is_no_audio_is_data_loss(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.flac"
    path.write_bytes(data)
    with pytest.raises(DataLoss) as refused:
        peaks_of(path)
    assert refused.value.reason == "AUDIO_UNREADABLE"


def test_the_binary_form_is_audiowaveforms_version_2(tmp_path: Path) -> None:
    steps = np.repeat([0.5, -0.5], 50)
    data = peaks_of(written(tmp_path, steps, 8000), columns=2).dat()
    # doc/DataFormat.md of audiowaveform: int32 version, uint32 flags (1 = 8 bit), int32 sample rate, int32 samples per
    # pixel, uint32 length, int32 channels, all little-endian; then minimum and maximum of each pixel
    assert data == (
        b"\x02\0\0\0" b"\x01\0\0\0" b"\x40\x1f\0\0" b"\x32\0\0\0" b"\x02\0\0\0" b"\x01\0\0\0"
        + bytes([63, 63, 0xC0, 0xC0])
    )  # fmt: skip


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    found = peaks_of(written(tmp_path, np.random.default_rng(1).uniform(-1, 1, 5000)), columns=50)
    said = json.loads(found.json())
    assert {name: said[name] for name in ("version", "channels", "bits", "length")} == {
        "version": 2, "channels": 1, "bits": 8, "length": 50,
    }  # fmt: skip
    assert said["data"] == np.frombuffer(found.dat()[24:], np.int8).tolist()
    assert waveform_of_dat(found.dat()).json() == found.json()


@pytest.mark.parametrize("data", [b"", bytes(24), b"\x02" + bytes(30)])
def test_other_bytes_are_no_waveform(data: bytes) -> None:
    with pytest.raises(ValueError, match="audiowaveform"):
        waveform_of_dat(data)

"""Audio files: what is written comes back; what cannot be read or written says so."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from luthier_music.audio import AudioError, audio_info, peak, read_audio, write_audio

NOISE = np.random.default_rng(7).uniform(-0.9, 0.9, (44_100, 2)).astype(np.float32)


@pytest.mark.parametrize("name", ["a.flac", "a.wav"])
def test_samples_come_back_to_within_half_a_step_of_16_bits(tmp_path: Path, name: str) -> None:
    write_audio(tmp_path / name, NOISE)
    samples, rate = read_audio(tmp_path / name)
    assert rate == 44_100
    assert samples.dtype == np.float32
    assert np.abs(samples - NOISE).max() <= 1.0 / 32768


def test_the_header_is_the_files_truth(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", NOISE[:, 0], 22_050)
    info = audio_info(tmp_path / "a.flac")
    assert (info.sample_rate_hz, info.channels, info.duration_s, info.subtype) == (22_050, 1, 2.0, "PCM_16")


def test_a_span_is_cut_out_and_ends_with_the_file(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", NOISE)
    samples, _ = read_audio(tmp_path / "a.wav", start_s=0.25, duration_s=0.5)
    assert samples.shape == (22_050, 2)
    rest, _ = read_audio(tmp_path / "a.wav", start_s=0.9, duration_s=10.0)
    assert rest.shape == (4410, 2)


def test_gain_is_applied_while_writing(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", NOISE, gain=0.5)
    assert peak(read_audio(tmp_path / "a.wav")[0]) == pytest.approx(0.5 * peak(NOISE), abs=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5])
def test_what_cannot_be_stored_truly_is_not_written(tmp_path: Path, bad: float) -> None:
    samples = NOISE.copy()
    samples[100, 0] = bad
    with pytest.raises(AudioError):
        write_audio(tmp_path / "a.flac", samples)


@pytest.mark.parametrize("content", [b"", b"not audio at all", b"fLaC" + bytes(100)])
def test_what_is_no_audio_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.flac"):
        read_audio(tmp_path / "a.flac")


def test_more_than_the_bound_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", NOISE)
    with pytest.raises(AudioError, match=r"bound is 0\.5 s"):
        read_audio(tmp_path / "a.flac", max_duration_s=0.5)


@pytest.mark.parametrize(("start", "length"), [(-1.0, None), (float("nan"), 1.0), (0.0, -1.0), (0.0, float("nan"))])
def test_spans_that_make_no_sense_are_refused(tmp_path: Path, start: float, length: float | None) -> None:
    write_audio(tmp_path / "a.flac", NOISE)
    with pytest.raises(AudioError, match="span"):
        read_audio(tmp_path / "a.flac", start_s=start, duration_s=length)


@pytest.mark.parametrize("value", [1.1e6, -1e30, 3e38])
def test_samples_that_no_power_can_be_taken_of_are_refused(tmp_path: Path, value: float) -> None:
    samples = NOISE.copy()
    samples[100] = value
    soundfile.write(tmp_path / "huge.wav", samples, 44_100, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"full scale is 1\.0, at most 1e"):
        read_audio(tmp_path / "huge.wav")


def test_float_samples_above_full_scale_are_read_as_they_are(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", 40_000 * NOISE, 44_100, subtype="FLOAT")
    samples, _ = read_audio(tmp_path / "loud.wav")
    np.testing.assert_array_equal(samples, 40_000 * NOISE)

"""FLAC files that Luthier's own encoder writes: libsndfile, another implementation, reads every sample as it was."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from luthier_music.audio import BLOCK_FRAMES, AudioError, read_audio, write_audio, write_flac
from luthier_music.native import FLAC_BLOCK_FRAMES
from tests.support.flac import streamed

LENGTHS = [1, 2, 5, 16, 17, 255, 4095, 4096, 4097, 8192 + 2048, BLOCK_FRAMES, BLOCK_FRAMES + 1, 200_000]
HEADER_BYTES = 42


def random() -> np.random.Generator:
    return np.random.default_rng(11)


def in_16_bits(samples: np.ndarray) -> np.ndarray:
    """What PCM of 16 bits holds of samples: the nearest step, of two the even one, 1.0 one step lower."""
    whole = np.rint(np.asarray(samples, np.float32) * np.float32(32768))
    held: np.ndarray = np.minimum(whole, np.float32(32767)).astype(np.int16)
    return held


def steps(*values: float, channels: int = 2) -> np.ndarray:
    """20,000 frames of these values over and over, the last channel mirrored."""
    samples = np.resize(np.array(values, np.float32), (20_000, 1)) * np.ones(channels, np.float32)
    samples[:, -1] *= -1
    return samples


SOUNDS = {
    "silence": np.zeros((20_000, 2)),
    "silence but for one sample": np.eye(20_000, 2, k=-12_345),
    "full scale, constant": steps(1.0),
    "full scale, each sample another sign": steps(1.0, -1.0),
    "full scale, every second sample silent": steps(1.0, 0.0, -1.0, 0.0),
    "one channel": steps(1.0, -1.0, 0.5, channels=1),
    "noise at full scale": random().uniform(-1, 1, (20_000, 2)),
    "noise of one step": random().integers(-1, 2, (20_000, 2)) / 32768,
    "both sides alike": np.repeat(random().normal(0, 0.1, (20_000, 1)).clip(-1, 1), 2, axis=1),
    "sides mirrored": random().normal(0, 0.1, (20_000, 1)).clip(-1, 1) * [1, -1],
    "a sine": np.sin(np.arange(40_000).reshape(-1, 2) / 40),
    "loud parts and quiet ones": random().normal(0, 1, (20_000, 2)).clip(-1, 1)
    * np.geomspace(1e-5, 1, 20_000)[:, None],
    "eight channels": random().normal(0, 0.2, (20_000, 8)).clip(-1, 1),
}


@pytest.mark.parametrize("sound", SOUNDS)
def test_every_sample_comes_back(tmp_path: Path, sound: str) -> None:
    write_audio(tmp_path / "a.flac", SOUNDS[sound])

    read, _ = soundfile.read(tmp_path / "a.flac", dtype="int16", always_2d=True)

    np.testing.assert_array_equal(read, in_16_bits(SOUNDS[sound]))


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_no_length_is_off_by_a_frame(tmp_path: Path, frames: int, channels: int) -> None:
    samples = random().normal(0, 0.2, (frames, channels)).clip(-1, 1)

    write_audio(tmp_path / "a.flac", samples)

    read, _ = soundfile.read(tmp_path / "a.flac", dtype="int16", always_2d=True)
    np.testing.assert_array_equal(read, in_16_bits(samples))


def test_a_long_file_counts_its_frames_beyond_one_byte_and_two(tmp_path: Path) -> None:
    samples = np.zeros((FLAC_BLOCK_FRAMES * 2100, 1), np.float32)  # 0x7F and 0x7FF are the last numbers of their size
    samples[::FLAC_BLOCK_FRAMES, 0] = np.arange(2100) / 32768

    write_audio(tmp_path / "a.flac", samples)

    np.testing.assert_array_equal(read_audio(tmp_path / "a.flac")[0], samples)


@pytest.mark.parametrize("rate_hz", [1, 8000, 11_025, 44_100, 96_000, 655_350])
def test_the_rate_is_kept(tmp_path: Path, rate_hz: int) -> None:
    write_audio(tmp_path / "a.flac", SOUNDS["a sine"], rate_hz)

    assert soundfile.info(tmp_path / "a.flac").samplerate == rate_hz


@pytest.mark.parametrize("start_s", [0.0, 0.1, 1.0, 3.21, 4.5])
def test_a_span_is_found_without_a_table_of_places(tmp_path: Path, start_s: float) -> None:
    samples = random().normal(0, 0.2, (200_000, 2)).clip(-1, 1).astype(np.float32)
    write_audio(tmp_path / "a.flac", samples)

    read, _ = read_audio(tmp_path / "a.flac", start_s=start_s, duration_s=0.01)

    first = round(start_s * 44_100)
    np.testing.assert_array_equal(in_16_bits(read), in_16_bits(samples[first : first + 441]))


def test_each_frame_has_checksums_that_hold(tmp_path: Path) -> None:
    """Without its length in the header a stream is measured by frames whose checksums hold (audio_flac.py)."""
    samples = SOUNDS["loud parts and quiet ones"]
    write_audio(tmp_path / "a.flac", samples)

    assert len(read_audio(streamed(tmp_path / "a.flac"))[0]) == len(samples)


def test_a_bit_that_fell_over_is_seen(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", SOUNDS["noise at full scale"])
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.flac").write_bytes(data)

    with pytest.raises(AudioError):
        read_audio(tmp_path / "a.flac")


def test_the_header_holds_the_smallest_and_the_largest_frame(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", SOUNDS["a sine"][:FLAC_BLOCK_FRAMES])
    write_audio(tmp_path / "b.flac", np.vstack([np.zeros((BLOCK_FRAMES, 2)), SOUNDS["a sine"][:FLAC_BLOCK_FRAMES]]))

    one, several = (tmp_path / name for name in ("a.flac", "b.flac"))
    sine_bytes = one.stat().st_size - HEADER_BYTES
    assert one.read_bytes()[12:18] == sine_bytes.to_bytes(3, "big") * 2
    silent = BLOCK_FRAMES // FLAC_BLOCK_FRAMES
    silence_bytes = (several.stat().st_size - HEADER_BYTES - sine_bytes) // silent
    assert several.read_bytes()[12:18] == silence_bytes.to_bytes(3, "big") + sine_bytes.to_bytes(3, "big")


@pytest.mark.parametrize("sound", ["a sine", "loud parts and quiet ones", "both sides alike", "silence"])
def test_a_file_is_no_larger_than_libflac_makes_it_by_the_same_predictors(tmp_path: Path, sound: str) -> None:
    write_audio(tmp_path / "a.flac", SOUNDS[sound])
    soundfile.write(tmp_path / "b.flac", in_16_bits(SOUNDS[sound]), 44_100, compression_level=0.125)  # 1 of 8

    assert (tmp_path / "a.flac").stat().st_size <= 1.01 * (tmp_path / "b.flac").stat().st_size


def test_noise_takes_hardly_more_than_its_samples(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", SOUNDS["noise at full scale"])

    assert (tmp_path / "a.flac").stat().st_size < 1.01 * 20_000 * 2 * 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.001, -1.001])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frame", [0, 4098, 9999])
def test_a_sample_that_cannot_be_stored_is_refused_wherever_it_is(
    tmp_path: Path, bad: float, channels: int, frame: int
) -> None:
    samples = np.zeros((10_000, channels), np.float32)
    samples[frame, -1] = bad

    with pytest.raises(AudioError, match="frame 0"):
        write_audio(tmp_path / "a.flac", samples)


@pytest.mark.parametrize(("channels", "rate_hz"), [(9, 44_100), (0, 44_100), (2, 0), (2, 655_351)])
def test_what_the_format_does_not_know_is_refused(tmp_path: Path, channels: int, rate_hz: int) -> None:
    with pytest.raises(AudioError, match="FLAC holds"):
        write_audio(tmp_path / "a.flac", np.zeros((100, channels)), rate_hz)


def test_blocks_are_written_as_they_come(tmp_path: Path) -> None:
    samples = random().normal(0, 0.2, (2 * BLOCK_FRAMES + 100, 2)).clip(-1, 1).astype(np.float32)
    reused = np.empty((BLOCK_FRAMES, 2), np.float32)

    def blocks() -> Iterator[np.ndarray]:
        for first in range(0, len(samples), BLOCK_FRAMES):
            block = samples[first : first + BLOCK_FRAMES]
            reused[: len(block)] = block
            yield reused[: len(block)]

    write_flac(tmp_path / "a.flac", blocks(), gain=0.5)

    read, _ = soundfile.read(tmp_path / "a.flac", dtype="int16")
    np.testing.assert_array_equal(read, in_16_bits(samples * np.float32(0.5)))

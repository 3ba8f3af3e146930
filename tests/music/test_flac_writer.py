"""FLAC files are what another decoder and another MD5 say they are; a file that cannot be written says so."""

import contextlib
import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from luthier_music.flac_writer import FlacWriter

MD5 = slice(26, 42)  # of the file: RFC 9639, 8.2


def steps(frames: int, channels: int = 2) -> np.ndarray:
    """Noise of 16 bit [channels, frames]."""
    return np.random.default_rng(frames).integers(-32768, 32768, (channels, frames), np.int32)


def written(path: Path, samples: np.ndarray, *, rate_hz: int = 44_100, md5: bool = False) -> Path:
    with FlacWriter(path, rate_hz, len(samples), md5=md5) as file:
        for first in range(0, samples.shape[1], 10_000):
            file.write(np.ascontiguousarray(samples[:, first : first + 10_000]))
    return path


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("frames", [1, 4095, 4096, 25_001])
def test_libsndfile_reads_what_was_written(tmp_path: Path, frames: int, channels: int) -> None:
    samples = steps(frames, channels)

    with soundfile.SoundFile(written(tmp_path / "a.flac", samples, rate_hz=48_000)) as file:
        assert (file.samplerate, file.subtype, file.frames) == (48_000, "PCM_16", frames)
        np.testing.assert_array_equal(file.read(dtype="int16", always_2d=True), samples.T)


def test_the_md5_is_that_of_the_samples_where_it_is_asked_for(tmp_path: Path) -> None:
    samples = steps(30_000)
    with_md5 = written(tmp_path / "a.flac", samples, md5=True).read_bytes()
    without = written(tmp_path / "b.flac", samples, md5=False).read_bytes()

    assert with_md5[MD5] == hashlib.md5(samples.T.astype("<i2").tobytes(), usedforsecurity=False).digest()
    assert without[MD5] == bytes(16)
    assert with_md5[: MD5.start] + with_md5[MD5.stop :] == without[: MD5.start] + without[MD5.stop :]


@pytest.mark.parametrize("frames", [100, 200_000])  # refused when it is closed, and while it is written
def test_a_full_disk_is_an_error_of_the_system(frames: int) -> None:
    with pytest.raises(OSError, match="No space left") as failure:
        written(Path("/dev/full"), steps(frames))
    assert failure.value.errno == errno.ENOSPC


@pytest.mark.parametrize(("channels", "rate_hz"), [(9, 44_100), (0, 44_100), (2, 2_000_000)])
def test_what_flac_does_not_have_is_refused(tmp_path: Path, channels: int, rate_hz: int) -> None:
    with pytest.raises(ValueError, match=f"FLAC has no {channels} channels of {rate_hz} Hz"):
        FlacWriter(tmp_path / "a.flac", rate_hz, channels, md5=False)


def test_samples_of_another_number_of_channels_are_refused(tmp_path: Path) -> None:
    with FlacWriter(tmp_path / "a.flac", 44_100, 2, md5=False) as file, pytest.raises(ValueError, match="1 channels"):
        file.write(steps(10, channels=1))


def test_an_exception_leaves_no_file_that_claims_to_be_whole(tmp_path: Path) -> None:
    with contextlib.suppress(KeyError), FlacWriter(tmp_path / "a.flac", 44_100, 2, md5=True) as file:
        file.write(steps(30_000))
        raise KeyError

    data = (tmp_path / "a.flac").read_bytes()
    assert int.from_bytes(data[18:26], "big") & (1 << 36) - 1 == 0, "its length is not known"

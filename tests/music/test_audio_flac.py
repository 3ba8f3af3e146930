"""FLAC without a length in its header, as encoders write it to a pipe, is read whole; what was cut off says so."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from luthier_music.audio import AudioError, audio_info, read_audio
from tests.support.flac import streamed

ENCODED = sorted((Path(__file__).parent / "streamed").glob("*.flac"))
SINE = np.round(16384 * np.sin(2 * np.pi * 440 * np.arange(10_077) / 8000)) / 32768  # see streamed/README.md


def written(folder: Path, frames: int, channels: int = 2, subtype: str = "PCM_16") -> tuple[Path, np.ndarray]:
    """A file of noise, and its samples as it holds them."""
    path = folder / "a.flac"
    noise = np.random.default_rng(frames).uniform(-0.9, 0.9, (frames, channels))
    soundfile.write(path, noise, 44_100, subtype=subtype)
    return path, soundfile.read(path, dtype="float32", always_2d=True)[0]


@pytest.mark.parametrize("path", ENCODED, ids=[path.stem for path in ENCODED])
def test_what_encoders_write_to_a_pipe_is_read_whole(path: Path) -> None:
    samples, rate_hz = read_audio(path)

    assert (audio_info(path).frames, rate_hz) == (10_077, 8000)
    np.testing.assert_array_equal(samples[:, 0], SINE.astype(np.float32))


def test_there_are_files_of_two_encoders() -> None:
    assert {path.name.split("-")[0] for path in ENCODED} == {"flac", "ffmpeg"}


@pytest.mark.parametrize("frames", [1, 16, 255, 256, 4095, 4096, 4097, 8192, 100_000])
@pytest.mark.parametrize(("channels", "subtype"), [(1, "PCM_16"), (2, "PCM_24"), (8, "PCM_16")])
def test_no_length_is_off_by_a_frame(tmp_path: Path, frames: int, channels: int, subtype: str) -> None:
    path, held = written(tmp_path, frames, channels, subtype)

    np.testing.assert_array_equal(read_audio(streamed(path))[0], held)


def test_a_span_of_a_stream_is_that_of_the_file(tmp_path: Path) -> None:
    path, held = written(tmp_path, 100_000)

    samples, _ = read_audio(streamed(path), start_s=1.0, duration_s=0.5)

    np.testing.assert_array_equal(samples, held[44_100:66_150])


def test_the_file_itself_stays_as_it_is(tmp_path: Path) -> None:
    path = streamed(written(tmp_path, 5000)[0])
    before = path.read_bytes()

    read_audio(path)

    assert path.read_bytes() == before


def test_a_tag_before_the_stream_is_passed_over(tmp_path: Path) -> None:
    """ID3v2.4, 300 bytes: 2 * 128 + 44, in bytes of seven bits."""
    path, held = written(tmp_path, 5000)
    path.write_bytes(b"ID3\x04\x00\x00\x00\x00\x02\x2c" + bytes(300) + streamed(path).read_bytes())

    np.testing.assert_array_equal(read_audio(path)[0], held)


def test_a_stream_that_was_cut_off_says_so(tmp_path: Path) -> None:
    path = streamed(written(tmp_path, 20_000)[0])
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(AudioError, match=r"a\.flac.*does not end with a whole frame"):
        audio_info(path)


def test_a_stream_without_a_frame_says_so(tmp_path: Path) -> None:
    path, _ = written(tmp_path, 1)
    data = streamed(path).read_bytes()
    path.write_bytes(data[: data.index(b"\xff\xf8")])

    with pytest.raises(AudioError, match="does not end with a whole frame"):
        audio_info(path)


def test_a_stream_is_bounded_before_it_is_decoded(tmp_path: Path) -> None:
    path = streamed(written(tmp_path, 44_100)[0])

    with pytest.raises(AudioError, match=r"1\.0 s of audio asked for, the bound is 0\.5 s"):
        read_audio(path, max_duration_s=0.5)


def test_a_file_that_ends_before_its_header_says_is_refused(tmp_path: Path) -> None:
    path, _ = written(tmp_path, 100_000)
    path.write_bytes(path.read_bytes()[:50_000])

    with pytest.raises(AudioError, match=r"a\.flac"):
        read_audio(path)

"""Audio files of all usual formats become one; what is none, or would cost too much, is refused by name."""

import io
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1.analysis_pb2_grpc import AnalysisServiceStub as Stub
from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_analysis import decoding, jobs
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_music.audio import AudioError

from .encoders import encoded
from .synth import RATE_HZ

SECONDS, LEFT_HZ, RIGHT_HZ = 2.0, 440.0, 660.0
TAGS = {"title": "So  What\x07", "artist": "Miles Davis", "genre": "Jazz", "comment": "x" * 3000}


def sine(hertz: float, rate_hz: int = RATE_HZ, seconds: float = SECONDS, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def pair(rate_hz: int = RATE_HZ) -> np.ndarray:
    """(2, n): another tone left than right."""
    return np.stack([sine(LEFT_HZ, rate_hz), sine(RIGHT_HZ, rate_hz)])


def decode(folder: Path, data: bytes) -> tuple[jobs.DecodedAudio, np.ndarray]:
    (folder / "original.bin").write_bytes(data)
    found = jobs.decode(folder / "original.bin", folder)
    samples, rate_hz = soundfile.read(found.path, dtype="float32", always_2d=True)
    info = soundfile.info(str(found.path))
    assert (info.format, info.subtype, rate_hz, info.channels) == ("FLAC", "PCM_16", RATE_HZ, 2)
    assert found.duration_s == len(samples) / RATE_HZ
    return found, samples


def loudest_hz(mono: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(mono * np.hanning(len(mono))))
    return float(np.argmax(spectrum) * RATE_HZ / len(mono))


LOSSLESS = [
    ("wav", "pcm_s16le"), ("aiff", "pcm_s16be"), ("au", "pcm_s16be"), ("caf", "pcm_s16le"), ("w64", "pcm_s16le"),
    ("flac", "flac"), ("ogg", "flac"), ("matroska", "flac"), ("wav", "pcm_s24le"),
]  # fmt: skip
LOSSY = [
    ("mp3", "libmp3lame", 44_100), ("mp3", "libmp3lame", 22_050), ("adts", "aac", 44_100), ("ipod", "aac", 48_000),
    ("ogg", "libopus", 48_000), ("webm", "libopus", 48_000), ("mp2", "mp2", 48_000),
]  # fmt: skip
OTHERS = [
    ("ipod", "alac", 44_100), ("wav", "pcm_u8", 8_000), ("wav", "pcm_f32le", 96_000), ("wav", "pcm_f64le", 192_000),
    ("tta", "tta", 44_100), ("wv", "wavpack", 32_000), ("wav", "pcm_mulaw", 8_000),
]  # fmt: skip


@pytest.mark.parametrize(("container", "codec", "rate_hz"), [*((*one, RATE_HZ) for one in LOSSLESS), *LOSSY, *OTHERS])
def test_every_usual_format_and_rate_becomes_the_same_music(
    tmp_path: Path, container: str, codec: str, rate_hz: int
) -> None:
    found, samples = decode(tmp_path, encoded(pair(rate_hz), container, codec, rate_hz=rate_hz))

    assert found.duration_s == pytest.approx(SECONDS, abs=0.1)  # AAC fills up its last frames
    middle = samples[RATE_HZ // 2 : -RATE_HZ // 2]
    assert loudest_hz(middle[:, 0]) == pytest.approx(LEFT_HZ, abs=1.5)
    assert loudest_hz(middle[:, 1]) == pytest.approx(RIGHT_HZ, abs=1.5)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.06)  # LAME: 5 % less at low rates
    assert (found.sample_rate_hz, found.channels, found.gain_db) == (rate_hz, 2, 0.0)


def test_the_fingerprint_is_the_musics_not_the_files(tmp_path: Path) -> None:
    prints = {decode(tmp_path, encoded(pair(), *kind))[0].fingerprint for kind in LOSSLESS[:-1]}
    prints.add(decode(tmp_path, encoded(pair(), "flac", "flac", tags=TAGS))[0].fingerprint)
    other = decode(tmp_path, encoded(pair() * 0.9, "flac", "flac"))[0].fingerprint

    assert len(prints) == 1
    assert other not in prints


def test_samples_of_16_bit_come_through_to_the_bit(tmp_path: Path) -> None:
    truth = np.random.default_rng(3).integers(-(1 << 15), 1 << 15, (RATE_HZ, 2)).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, truth, RATE_HZ, format="WAV", subtype="PCM_16")
    found, _ = decode(tmp_path, file.getvalue())
    assert np.array_equal(soundfile.read(found.path, dtype="int16")[0], truth)


def test_one_channel_becomes_both(tmp_path: Path) -> None:
    mono, samples = decode(tmp_path, encoded(sine(440)[None], "flac", "flac", layout="mono"))
    assert np.array_equal(samples[:, 0], samples[:, 1])
    assert mono.channels == 1
    twice = np.tile(sine(440), (2, 1))
    assert mono.fingerprint == decode(tmp_path, encoded(twice, "flac", "flac"))[0].fingerprint


@pytest.mark.parametrize(
    ("channel", "left", "right"),
    [(0, 1, 0), (1, 0, 1), (2, 0.7071, 0.7071), (3, 0, 0), (4, 0.7071, 0), (5, 0, 0.7071)],
    ids=["left", "right", "centre", "low frequencies", "back left", "back right"],
)
def test_six_channels_are_mixed_down_after_bs_775(tmp_path: Path, channel: int, left: float, right: float) -> None:
    samples = np.zeros((6, RATE_HZ), np.float32)
    samples[channel] = sine(440, seconds=1, level=0.4)
    _, out = decode(tmp_path, encoded(samples, "wav", "pcm_s24le", layout="5.1"))
    assert np.abs(out).max(axis=0) == pytest.approx([0.4 * left, 0.4 * right], abs=2e-3)


def test_what_lies_beyond_full_scale_is_made_quieter_not_cut_off(tmp_path: Path) -> None:
    found, samples = decode(tmp_path, encoded(4 * pair(), "wav", "pcm_f32le"))
    assert found.gain_db == pytest.approx(-6.02, abs=0.01)
    assert found.notes == ("samples reached 2.000 of full scale: all of it was made quieter",)
    assert np.abs(samples[:, 0] - 2 * sine(LEFT_HZ)).max() < 1e-4


@pytest.mark.parametrize(("container", "codec"), [("mp3", "libmp3lame"), ("ogg", "libopus"), ("flac", "flac")])
def test_tags_are_read_cleaned_and_bounded(tmp_path: Path, container: str, codec: str) -> None:
    rate_hz = 48_000 if codec == "libopus" else RATE_HZ
    tags = {**TAGS, "license": "CC-BY-4.0", "encoded_by": "nobody asks"}
    found, _ = decode(tmp_path, encoded(pair(rate_hz), container, codec, rate_hz=rate_hz, tags=tags))
    assert found.tags == {
        "title": "So What", "artist": "Miles Davis", "genre": "Jazz", "licence": "CC-BY-4.0", "comment": "x" * 500,
    }  # fmt: skip


def long_wav(seconds: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 1, 8000, 0, "NONE", ""))
        out.writeframes(bytes([128]) * 8000 * seconds)
    return file.getvalue()


def floats(samples: np.ndarray, rate_hz: int = RATE_HZ) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no audio that can be read"),
        (b"MThd\0\0\0\6\0\0\0\1\0\x60", "no audio that can be read"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n", "no audio that can be read"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "no audio that can be read"),
        (bytes(1 << 20), "no audio that can be read"),
        (encoded(pair()[:, :4000], "flac", "flac"), "must last 0.5 to 1800 s, it lasts 0.091 s"),
        (long_wav(1801), "must last 0.5 to 1800 s, it lasts longer"),
        (floats(np.full((RATE_HZ, 2), np.nan)), "NaN or infinite"),
        (floats(np.full((RATE_HZ, 2), 1e20)), "full scale is 1.0"),
        (floats(np.zeros((RATE_HZ, 9))), "must have 1 to 8 channels, got 9"),
        (floats(np.zeros((RATE_HZ, 7))), "nobody says what its 7 channels are"),
        (floats(np.zeros((RATE_HZ, 2)), 4000), "must be sampled at 8000 to 192000 Hz, got 4000"),
        (encoded(pair(8000), "wav", "adpcm_ima_wav", rate_hz=8000), "its codec is adpcm_ima_wav"),
        (
            floats(np.zeros((RATE_HZ, 2))).replace(b"fmt \x10\0\0\0\3\0", b"fmt \x10\0\0\0\x99\x99"),
            "its codec is unknown",
        ),
    ],
    ids=[
        "empty",
        "midi",
        "playlist",
        "concat",
        "zeros",
        "short",
        "long",
        "nan",
        "huge",
        "9",
        "7",
        "4 kHz",
        "adpcm",
        "nobody's",
    ],
)
def test_what_is_not_taken_says_why(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(AudioError, match=says):
        decode(tmp_path, data)


def test_a_file_that_was_cut_off_gives_what_there_is(tmp_path: Path) -> None:
    whole = encoded(pair(), "mp3", "libmp3lame")
    found, _ = decode(tmp_path, whole[: len(whole) // 2])
    assert 0.8 < found.duration_s < 1.2


def test_packets_that_cannot_be_decoded_are_counted_and_many_are_too_many(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).uniform(-0.5, 0.5, (2, 4 * RATE_HZ))
    whole = bytearray(encoded(noise, "flac", "flac"))
    for place in range(len(whole) // 3, len(whole), 20_000):
        whole[place : place + 100] = bytes(100)
    with pytest.raises(AudioError, match=r"it is damaged: \d+ of \d+ packets cannot be decoded"):
        decode(tmp_path, bytes(whole))


def test_decoding_takes_only_so_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(pair(), "mp3", "libmp3lame")
    monkeypatch.setattr(decoding, "MAX_MEMORY_BYTES", 32 << 20)
    monkeypatch.setattr(decoding, "_stereo", lambda _: np.ones((16 << 20, 2), np.float32))
    with pytest.raises(AudioError, match="takes more than 32 MiB of memory"):
        decode(tmp_path, whole)
    monkeypatch.undo()
    assert decode(tmp_path, whole)[0].channels == 2  # the bound goes with the job


def put(store: Store, data: bytes, ext: str) -> ArtifactRef:
    return store.blobs.put_bytes("audio", data, ext)


def test_the_service_stores_what_it_decoded_and_remembers_it(service: Stub, store: Store, tmp_path: Path) -> None:
    data = encoded(pair(), "mp3", "libmp3lame", tags={"artist": "Nina", "title": "Sinnerman"})
    request = pb.DecodeAudioRequest(original=put(store, data, "mp3"))
    first, second = service.DecodeAudio(request, timeout=60), service.DecodeAudio(request, timeout=60)

    assert soundfile.info(str(store.blobs.fetch(first.audio, tmp_path))).frames == round(first.duration_s * RATE_HZ)
    assert first.audio.key.startswith("decoded/")
    assert {tag.name: tag.value for tag in first.tags} == {"artist": "Nina", "title": "Sinnerman"}
    original = first.original
    assert (original.container, original.codec, original.sample_rate_hz, original.channels) == (
        "mp3", "mp3float", RATE_HZ, 2,
    )  # fmt: skip
    assert 100_000 < original.bit_rate_bps < 200_000
    assert first.cpu_s > 0
    assert (first.action.reused, second.action.reused) == (False, True)
    assert second.audio == first.audio
    assert list(second.action.lineage.inputs) == [request.original.sha256]
    assert second.action.lineage.versions["av"]
    clips = service.CutClips(pb.CutClipsRequest(mix=first.audio), timeout=60).clips
    assert [(clip.span.start_s, clip.span.end_s) for clip in clips] == [(0, first.duration_s)]


@pytest.mark.parametrize(
    ("original", "says"),
    [
        (lambda store: put(store, b"no music", "mp3"), "no audio that can be read"),
        (
            lambda store: ArtifactRef(key=f"audio/{'0' * 64}.mp3", sha256="0" * 64, size_bytes=2 << 30),
            "1073741824 bytes",
        ),
        (lambda store: ArtifactRef(), "must name an artifact"),
    ],
    ids=["text", "large", "absent"],
)
def test_the_service_refuses_by_field(
    service: Stub, store: Store, original: Callable[[Store], ArtifactRef], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        service.DecodeAudio(pb.DecodeAudioRequest(original=original(store)), timeout=60)
    assert {field.split(".")[0] for field, _ in refused.value.violations} == {"original"}

"""Sounds of a listening test: copies without metadata, as loud as asked, and the anchor of BS.1534-3."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import freqz

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_curation.listening import audio
from luthier_kit.rpc import InvalidRequest, NotFound
from luthier_kit.store import Store
from luthier_music.loudness import integrated_loudness_lufs

from .listening_builders import RATE_HZ, noise, put


def samples_of(store: Store, ref: ArtifactRef, folder: Path) -> np.ndarray:
    samples, _ = soundfile.read(store.blobs.fetch(ref, folder / "kept"), dtype="float32", always_2d=True)
    return np.asarray(samples)


def test_a_copy_has_the_samples_and_nothing_else(store: Store, tmp_path: Path) -> None:
    sound = noise(1, 1)
    source = put(store, sound, tmp_path)
    kept = audio.keep(store, source, None, None)
    assert kept.audio.key.startswith("listening/")
    assert np.array_equal(samples_of(store, kept.audio, tmp_path), samples_of(store, source, tmp_path))
    assert b"secret-model" in store.blobs.read(source)
    assert b"secret-model" not in store.blobs.read(kept.audio)
    assert (kept.channels, kept.duration_s) == (2, 1.0)


def test_a_copy_outlives_its_source(store: Store, tmp_path: Path) -> None:
    source = put(store, noise(1, 1), tmp_path)
    kept = audio.keep(store, source, None, None)
    store.objects.delete(source.key)
    assert audio.keep(store, source, None, None) == kept
    assert store.blobs.exists(kept.audio)


def test_a_takedown_of_the_source_takes_its_copy(store: Store, tmp_path: Path) -> None:
    source = put(store, noise(1, 1), tmp_path)
    audio.keep(store, source, None, None)
    [key] = list(store.objects.keys("actions/listening-sound/"))
    record = store.objects.get(key, 1 << 20) or b""
    assert source.sha256 in record.decode(), "lineage leads from the copy to the source"
    store.blobs.take_down(source.sha256, by="ann", reason="asked")
    with pytest.raises(NotFound):
        audio.keep(store, source, None, None)


@pytest.mark.parametrize("level", [0.01, 0.5])
def test_sounds_are_as_loud_as_asked(store: Store, tmp_path: Path, level: float) -> None:
    kept = audio.keep(store, put(store, noise(2, 1, level=level), tmp_path), -23.0, None)
    found = integrated_loudness_lufs(samples_of(store, kept.audio, tmp_path), RATE_HZ)
    assert found == pytest.approx(-23.0, abs=0.05)
    assert kept.loudness_lufs == pytest.approx(found, abs=0.01)


def test_nothing_clips_for_the_sake_of_loudness(store: Store, tmp_path: Path) -> None:
    click = np.zeros((RATE_HZ, 2), np.float32)
    click[::4410] = 0.5
    kept = audio.keep(store, put(store, click, tmp_path), -10.0, None)
    assert np.abs(samples_of(store, kept.audio, tmp_path)).max() == pytest.approx(1.0, abs=1e-4)
    assert kept.loudness_lufs < -15


def test_silence_stays_silence(store: Store, tmp_path: Path) -> None:
    kept = audio.keep(store, put(store, np.zeros((RATE_HZ, 2), np.float32), tmp_path), -23.0, None)
    assert not kept.HasField("loudness_lufs")
    assert not samples_of(store, kept.audio, tmp_path).any()


@pytest.mark.parametrize("rate_hz", [16_000, 32_000, 44_100, 48_000, 96_000])
def test_the_anchors_filter_is_the_one_of_bs_1534(rate_hz: int) -> None:
    impulse = np.zeros((rate_hz, 1), np.float32)
    impulse[rate_hz // 2] = 1
    response = audio.low_passed(impulse, rate_hz)[:, 0]
    hertz, gains = freqz(response, worN=2**16, fs=rate_hz)
    level_db = 20 * np.log10(np.maximum(np.abs(gains), 1e-9))
    assert np.abs(level_db[hertz <= 3500]).max() <= 0.1, "at most 0.1 dB of ripple in the pass band"
    assert level_db[hertz >= 4000].max() <= -25
    assert level_db[hertz >= 4500].max() <= -50
    assert int(np.argmax(response)) == rate_hz // 2, "in time with the reference"


def test_an_anchors_spectrum_falls_above_3500_hz_and_is_kept_below(store: Store, tmp_path: Path) -> None:
    reference = audio.keep(store, put(store, noise(2, 1), tmp_path, "audio"), -23.0, None)
    anchor = audio.anchor(store, reference, None)
    spectra = [
        np.abs(np.fft.rfft(samples_of(store, sound.audio, tmp_path)[:, 0])) ** 2 for sound in (reference, anchor)
    ]
    hertz = np.fft.rfftfreq(2 * RATE_HZ, 1 / RATE_HZ)
    ratio_db = [
        10 * np.log10(spectra[1][band].sum() / spectra[0][band].sum())
        for band in ((hertz > 100) & (hertz < 3400), hertz > 4500)
    ]
    assert ratio_db[0] == pytest.approx(0, abs=0.1)
    assert ratio_db[1] < -45
    assert anchor.duration_s == reference.duration_s


@pytest.mark.parametrize(
    ("samples", "rate_hz", "what"),
    [
        (np.zeros((44_100, 3), np.float32), 44_100, "channels"),
        (np.zeros((8_000, 1), np.float32), 8_000, "sample rate"),
        (np.zeros((4, 1), np.float32), 44_100, "0.1 to 300 s"),
        (np.zeros((301 * 16_000, 1), np.float32), 16_000, "0.1 to 300 s"),
    ],
)
def test_a_sound_beyond_a_bound_is_refused_by_name(
    store: Store, tmp_path: Path, samples: np.ndarray, rate_hz: int, what: str
) -> None:
    with pytest.raises(InvalidRequest, match=what):
        audio.keep(store, put(store, samples, tmp_path, rate_hz=rate_hz), None, None)


def test_what_is_no_audio_is_refused(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="no audio that can be read"):
        audio.keep(store, store.blobs.put_bytes("audio", b"nothing", "flac"), None, None)

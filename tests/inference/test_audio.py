"""Init audio as the model takes it: its rate, its channels, its length."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from luthier_inference import audio
from luthier_kit.rpc import InvalidRequest
from tests.support.flac import streamed

RATE_HZ, LENGTH = 44_100, 2 * 44_100


def written(folder: Path, samples: np.ndarray, rate_hz: int, name: str = "a.flac") -> Path:
    soundfile.write(folder / name, samples, rate_hz)
    return folder / name


TAGS = audio.Tags("a title\nof two lines", "für")


@pytest.mark.parametrize("name", audio.FORMATS)
def test_the_same_samples_are_the_same_bytes_at_any_time(name: str, tmp_path: Path) -> None:
    """libsndfile writes the clock into float WAVs, and draws an Ogg stream's serial number by it."""
    rate_hz = audio.FORMATS[name].rate_hz or RATE_HZ
    sound = np.stack([tone(440, rate_hz), tone(660, rate_hz)], axis=1).astype(np.float32)
    found = []
    for number in range(2):
        (folder := tmp_path / str(number)).mkdir()
        found.append(audio.write(folder, sound, rate_hz, name, TAGS).read_bytes())

    assert found[0] == found[1]
    if name == audio.WAV_FLOAT:  # in the chunk PEAK, behind its size and version
        assert found[0].split(b"PEAK")[1][8:12] == bytes(4)
    with soundfile.SoundFile(io.BytesIO(found[0])) as file:
        assert (file.title, file.comment) == ("a title of two lines", "für")
        read = file.read(always_2d=True)
    assert read.shape == sound.shape
    assert float(np.abs(read - sound).std()) < (0.02 if name in (audio.VORBIS, audio.OPUS, audio.MP3) else 2e-5)


@pytest.mark.parametrize("name", audio.FORMATS)
def test_a_title_that_has_nothing_to_show_is_left_out(name: str, tmp_path: Path) -> None:
    samples, rate_hz = np.zeros((4800, 2), np.float32), audio.FORMATS[name].rate_hz or 16_000

    path = audio.write(tmp_path, samples, rate_hz, name, audio.Tags("\x00 \x01", "seed 1"))

    with soundfile.SoundFile(path) as file:
        assert (file.title, file.comment) == ("", "seed 1")


def test_opus_is_at_its_own_rate_and_as_long() -> None:
    sound = tone(440, RATE_HZ)[:, None].astype(np.float32)

    made = audio.finished(sound, RATE_HZ, audio.OPUS, audio.Level())

    assert (made.rate_hz, made.samples.shape) == (48_000, (2 * 48_000, 1))


def test_silence_gets_no_gain() -> None:
    made = audio.finished(np.zeros((44_100, 2), np.float32), RATE_HZ, audio.FLAC, audio.Level(-14.0, -1.0))

    assert (made.gain_db, made.loudness_lufs, made.true_peak_dbtp) == (0.0, None, None)
    assert not made.samples.any()


def test_a_limit_alone_only_turns_down() -> None:
    quiet, loud = (audio.finished((gain * tone(997, RATE_HZ)[:, None]).astype(np.float32), RATE_HZ, audio.FLAC,
                                  audio.Level(None, -1.0)) for gain in (0.5, 2.0))  # fmt: skip

    assert quiet.gain_db == 0.0
    assert loud.gain_db == pytest.approx(-1.0, abs=0.1)  # a sine of full scale
    assert loud.loudness_lufs == pytest.approx(-3.01 - 1.0, abs=0.1)  # BS.1770 of one channel of it


def tone(hz: float, rate_hz: int, seconds: float = 2.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def level_db(sound: torch.Tensor) -> float:
    """Of the first channel over the tone's own level, the edges left out."""
    return float(20 * torch.log10(sound[0, 0, 4410:-4410].std() * 2**0.5 / 0.5 + 1e-12))


@pytest.mark.parametrize(
    ("hz", "at_least", "at_most"), [(1000, -0.01, 0.01), (19_000, -0.01, 0.01), (23_000, -200, -80)]
)
def test_what_the_models_rate_cannot_hold_does_not_come_back(
    tmp_path: Path, hz: float, at_least: float, at_most: float
) -> None:
    sound = audio.read(written(tmp_path, tone(hz, 48_000), 48_000), RATE_HZ, 1, LENGTH)

    assert at_least <= level_db(sound) <= at_most


def test_an_onset_stays_where_it_is(tmp_path: Path) -> None:
    click = np.zeros((48_000, 2))
    click[24_000] = 0.9

    sound = audio.read(written(tmp_path, click, 48_000), RATE_HZ, 2, LENGTH)

    assert sound.shape == (1, 2, LENGTH)
    assert sound.abs().argmax(dim=2).tolist() == [[22_050, 22_050]]
    assert float(sound[:, :, 44_100:].abs().max()) == 0, "silence fills the window"


def test_a_streamed_flac_is_read_whole(tmp_path: Path) -> None:
    path = written(tmp_path, np.stack([tone(440, RATE_HZ), tone(660, RATE_HZ)], axis=1), RATE_HZ)
    whole = audio.read(path, RATE_HZ, 2, LENGTH)

    assert torch.equal(audio.read(streamed(path), RATE_HZ, 2, LENGTH), whole)


def test_another_number_of_channels_becomes_their_mean(tmp_path: Path) -> None:
    path = written(tmp_path, np.stack([np.full(LENGTH, 0.5), np.zeros(LENGTH)], axis=1), RATE_HZ)

    assert audio.read(path, RATE_HZ, 1, LENGTH).shape == (1, 1, LENGTH)
    assert float(audio.read(path, RATE_HZ, 1, LENGTH).mean()) == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize("samples", [0, 20_000])
def test_no_sound_and_half_a_file_are_refused_by_field(tmp_path: Path, samples: int) -> None:
    path = written(
        tmp_path,
        np.random.default_rng(1).uniform(-0.5, 0.5, (samples, 2)),
        RATE_HZ,
        "a.wav" if not samples else "a.flac",
    )
    path.write_bytes(path.read_bytes()[: 40_000 if samples else None])

    with pytest.raises(InvalidRequest) as refused:
        audio.read(path, RATE_HZ, 2, LENGTH)

    assert refused.value.reason == "INIT_AUDIO_UNREADABLE"
    assert refused.value.violations[0][0] == "init_audio"

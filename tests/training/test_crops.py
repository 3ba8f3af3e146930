"""Crops are parts of their clips, follow from seed and number, and are never silent."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from luthier_kit.rpc import InvalidRequest
from luthier_model.configuration import Configuration
from luthier_training import audio
from luthier_training.crops import Clip, draw_crops, held_out_crops, is_silent

from .conftest import tone

WINDOW = 4096


def clip(folder: Path, known: Configuration, samples: np.ndarray, name: str = "clip", rate_hz: int = 44100) -> Clip:
    path = folder / f"{name}.flac"
    soundfile.write(path, samples, rate_hz)
    return Clip.open(path, known)


@pytest.mark.parametrize("rate_hz", [44100, 16000])
def test_a_crop_is_what_the_whole_clip_holds_there(known: Configuration, tmp_path: Path, rate_hz: int) -> None:
    found = clip(tmp_path, known, tone(2.0, 220, rate_hz), rate_hz=rate_hz)
    whole = audio.read(found.path, known)
    for first in (0, 5000, found.length - 1000):
        crop = audio.read_crop(found.path, known, first, WINDOW)
        wanted = torch.nn.functional.pad(whole[:, first : first + WINDOW], (0, WINDOW))[:, :WINDOW]
        torch.testing.assert_close(crop, wanted, atol=0.03, rtol=0)  # up to a sample late, where it is resampled
        assert rate_hz != 16000 or torch.equal(crop, wanted)


def test_a_batch_follows_from_seed_and_number(known: Configuration, tmp_path: Path) -> None:
    clips = [clip(tmp_path, known, tone(1.0 + index, 220), str(index)) for index in range(3)]
    drawn = [draw_crops(clips, number, 3, WINDOW, known, seed=1) for number in (0, 1, 0)]
    assert drawn[0].shape == (3, known.channels, WINDOW)
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], draw_crops(clips, 0, 3, WINDOW, known, seed=2))


def test_some_crops_hold_the_silence_behind_a_clip_and_none_is_silent(known: Configuration, tmp_path: Path) -> None:
    loud, silent = np.full((16000, 2), 0.1), np.zeros((16000, 2))
    clips = [clip(tmp_path, known, samples, name, 16000) for name, samples in (("loud", loud), ("silent", silent))]
    crops = draw_crops(clips, 0, 60, WINDOW, known, seed=1)
    assert not any(map(is_silent, crops))
    ended = int((crops[:, 0, -1] == 0).sum())
    assert 3 < ended < 25


def test_a_data_set_that_is_silent_is_refused(known: Configuration, tmp_path: Path) -> None:
    clips = [clip(tmp_path, known, np.zeros((8000, 2)))]
    for draw in (lambda: draw_crops(clips, 0, 1, WINDOW, known, 1), lambda: held_out_crops(clips, WINDOW, known, 1)):
        with pytest.raises(InvalidRequest) as refused:
            draw()
        assert refused.value.reason == "DATASET_INVALID"


def test_a_file_that_is_no_audio_is_refused(known: Configuration, tmp_path: Path) -> None:
    (tmp_path / "x.flac").write_bytes(b"garbage")
    with pytest.raises(InvalidRequest) as refused:
        Clip.open(tmp_path / "x.flac", known)
    assert refused.value.reason == "AUDIO_INVALID"

"""The experiment's songs: every tempo, every key, and what their files say."""

from collections import Counter
from pathlib import Path

import mido
import pytest

from luthier_pipeline.experiment.songs import GROOVES, TEMPI_BPM, songs
from luthier_pipeline.songbook.compose import write_songs


def test_each_genre_has_each_tempo_once_and_all_keys_alike() -> None:
    made = songs()
    assert len(made) == len(GROOVES) * len(TEMPI_BPM) == 344
    assert Counter(song.tempo_bpm for song in made) == dict.fromkeys(TEMPI_BPM, len(GROOVES))
    for genre in GROOVES:
        keys = Counter(str(song.key) for song in made if song.genre == genre)
        assert len(keys) == 24
        assert max(keys.values()) - min(keys.values()) <= 1


def test_the_seed_draws_other_keys_for_the_same_tempi() -> None:
    assert songs() == songs()
    one, other = songs(seed=1), songs(seed=2)
    assert [song.tempo_bpm for song in one] == [song.tempo_bpm for song in other]
    assert [song.key for song in one] != [song.key for song in other]


def test_tempo_and_key_stand_in_the_files(tmp_path: Path) -> None:
    made = songs(TEMPI_BPM[::43])
    write_songs(tmp_path, made)
    for song in made:
        file = mido.MidiFile(tmp_path / song.artist / f"{song.title}.mid")
        said = {message.type: message for message in file.tracks[0]}
        assert mido.tempo2bpm(said["set_tempo"].tempo) == pytest.approx(song.tempo_bpm, abs=0.01)
        assert said["key_signature"].key == song.key.midi_name()

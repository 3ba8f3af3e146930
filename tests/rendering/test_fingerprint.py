"""Identity by content: what a duplicate may change, and what makes another song."""

import io
import random
from pathlib import Path

import mido
import pretty_midi
import pytest

from luthier_rendering.fingerprint import fingerprint
from luthier_rendering.midi import load_song
from tests.support.services import shared

from .midi_making import TICKS, control, midi_bytes, name, note, notes, program, tempo

CASES = Path(__file__).parent / "cases"
LEAD = [program(73), *notes([60, 64, 67, 72])]
DRUMS = notes([36, 38, 36, 38], channel=9)


def of(*tracks: list[mido.Message], **options: int) -> str:
    return fingerprint(load_song(midi_bytes(*tracks, **options)))


@pytest.mark.parametrize(
    "same",
    [
        [[name("another name"), *LEAD], [name("Kit"), *DRUMS]],
        [DRUMS, LEAD],
        [[tempo(120.003), tempo(119.98, beat=2)], LEAD, DRUMS],
        [[tempo(90)], LEAD, DRUMS],
        [[control(7, 80), *LEAD], DRUMS],
        [[*LEAD, *DRUMS]],
        [[message.copy(time=message.time + 480 * 3) for message in LEAD + DRUMS]],
        [[m.copy(velocity=70) if m.type == "note_on" else m for m in LEAD], DRUMS],
    ],
    ids=["names", "order", "tempo noise", "tempo", "controls", "one track", "leading rest", "velocity"],
)
def test_a_duplicate_is_found(same: list[list[mido.Message]]) -> None:
    assert of(*same) == of(LEAD, DRUMS)


def test_resolution_does_not_count() -> None:
    fine = note(60, 0, 1, ticks=480) + note(64, 1.5, 1, ticks=480)
    coarse = note(60, 0, 1, ticks=96) + note(64, 1.5, 1, ticks=96)
    assert of(fine) == of(coarse, ticks_per_beat=96)


@pytest.mark.parametrize(
    "other",
    [
        [[program(73), *notes([61, 65, 68, 73])], DRUMS],
        [[program(72), *notes([60, 64, 67, 72])], DRUMS],
        [LEAD],
        [[program(73), *notes([60, 64, 67, 71])], DRUMS],
        [[program(73), *notes([60, 64, 67, 72], beats=0.5)], DRUMS],
    ],
    ids=["transposed", "another program", "a track less", "another note", "another rhythm"],
)
def test_another_song_differs(other: list[list[mido.Message]]) -> None:
    assert of(*other) != of(LEAD, DRUMS)


@pytest.mark.filterwarnings("ignore:Tempo, Key:RuntimeWarning")
@pytest.mark.parametrize("number", [3, 19, 35])
def test_a_real_song_that_another_library_wrote_anew_is_found(number: int) -> None:
    path = sorted(shared("corpus", "clean_midi").rglob("*.mid"))[number]
    again = io.BytesIO()
    pretty_midi.PrettyMIDI(str(path)).write(again)
    assert again.getvalue() != path.read_bytes()
    assert fingerprint(load_song(again.getvalue())) == fingerprint(load_song(path.read_bytes()))


def test_the_same_notes_backwards_are_another_song() -> None:
    assert of([program(73), *notes([72, 67, 64, 60])], DRUMS) != of(LEAD, DRUMS)


def test_two_progressions_over_the_same_chords_are_two_songs() -> None:
    first, second = ((CASES / f"13_progression_{which}.mid").read_bytes() for which in "ab")
    assert fingerprint(load_song(first)) != fingerprint(load_song(second))


def test_melodies_of_the_same_notes_are_as_many_songs() -> None:
    shuffle = random.Random(1)
    melodies = {tuple(shuffle.sample([60, 62, 64, 65, 67, 69, 71, 72] * 4, 32)) for _ in range(200)}
    assert len({of(notes(melody)) for melody in melodies}) == len(melodies)


@pytest.mark.parametrize("seed", range(5))
def test_a_tick_more_or_less_is_the_same_song(seed: int) -> None:
    chance = random.Random(seed)
    beats = sorted(chance.randrange(256) / 4 for _ in range(150))
    keys = [(chance.choice([48, 60, 64, 67]), 1 + beat) for beat in beats]
    struck = [message for key, beat in keys for message in note(key, beat, 0.2)]
    moved = [message for key, beat in keys for message in note(key, beat + chance.choice([-1, 0, 1]) / TICKS, 0.2)]
    assert of([*note(60), *struck]) == of([*note(60), *moved])


def test_no_two_songs_of_a_real_corpus_are_taken_for_one() -> None:
    paths = sorted(shared("corpus", "clean_midi").rglob("*.mid"))[::4]
    assert len({fingerprint(load_song(path.read_bytes())) for path in paths}) == len(paths)

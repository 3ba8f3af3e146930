"""Signatures: what near-duplicates keep of them, and what other songs do not share."""

import random
from collections.abc import Sequence

import mido
import pytest

from luthier.rendering.v1.rendering_pb2 import NoteSignature
from luthier_rendering.midi import load_song
from luthier_rendering.signature import signature
from tests.support.services import shared

from .midi_making import TICKS, control, midi_bytes, note, notes, program, tempo

Track = list[mido.Message | mido.MetaMessage]


def melody(seed: int, count: int = 120) -> list[int]:
    """Pitches of a random walk."""
    chance, pitches = random.Random(seed), [64]
    while len(pitches) < count:
        pitches.append(min(90, max(40, pitches[-1] + chance.choice([-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 7]))))
    return pitches


LEAD: Track = [program(73), *notes(melody(1))]
BASS: Track = [program(33, channel=1), *notes([pitch - 24 for pitch in melody(2)], channel=1)]
DRUMS: Track = notes([36, 42, 38, 42, 36, 36, 38, 46] * 4, channel=9)


def of(*tracks: Sequence[mido.Message | mido.MetaMessage], **options: int) -> NoteSignature:
    return signature(load_song(midi_bytes(*tracks, **options)))


def every(found: NoteSignature) -> set[int]:
    return {number for voice in found.voices for number in (*voice.hashes, *voice.short_hashes)}


def long(found: NoteSignature) -> set[int]:
    return {number for voice in found.voices for number in voice.hashes}


def transposed(track: Track, by: int) -> Track:
    return [m.copy(note=m.note + by) if m.type.startswith("note") else m for m in track]


@pytest.mark.parametrize(
    "same",
    [
        [transposed(LEAD, 5), transposed(BASS, 5), DRUMS],
        [[tempo(77)], LEAD, BASS, DRUMS],
        [BASS, DRUMS, LEAD],
        [[program(40), *LEAD[1:]], BASS, DRUMS],
        [[control(7, 80), *LEAD], BASS, DRUMS],
        [[m.copy(time=2 * m.time) for m in track] for track in (LEAD, BASS, DRUMS)],
        [[program(40, beat=20), *LEAD], BASS, DRUMS],
        [LEAD, BASS],
    ],
    ids=[
        "transposed", "tempo", "order", "another program", "controls", "note values doubled", "a program change",
        "without drums",
    ],
)  # fmt: skip
def test_what_near_duplicates_change_does_not_count(same: list[Track]) -> None:
    assert every(of(*same)) == every(of(LEAD, BASS, DRUMS))


def test_resolution_does_not_count() -> None:
    coarse = [m.copy(time=m.time * 96 // TICKS) for m in LEAD]
    assert of(coarse, ticks_per_beat=96) == of(LEAD)


def test_a_note_less_changes_the_hashes_around_it() -> None:
    before, after = long(of(LEAD)), long(of([*LEAD[:101], *LEAD[103:]]))  # one note is its two messages
    assert 0 < len(before - after) <= 7  # six intervals have either of the two that became one
    assert len(after - before) <= 6


def test_a_voice_less_changes_no_other() -> None:
    both = [set(voice.hashes) for voice in of(LEAD, BASS).voices]
    assert len(both) == 2
    assert set(of(LEAD).voices[0].hashes) == both[0]


def test_other_songs_share_next_to_nothing() -> None:
    songs = [every(of(notes(melody(seed)))) for seed in range(10, 30)]
    shared_most = max(len(a & b) for index, a in enumerate(songs) for b in songs[:index])
    assert shared_most <= 0.1 * min(map(len, songs))


def test_what_all_songs_have_is_left_out() -> None:
    trill, scale = [60, 62] * 40, [*range(36, 96)]
    assert not long(of(notes(trill), notes(scale, channel=1)))


def test_of_chords_the_highest_and_the_lowest_notes_count() -> None:
    top, low = melody(3), [pitch - 20 for pitch in melody(4)]
    chords = [message for i, (a, b) in enumerate(zip(top, low, strict=True)) for message in note(a, i) + note(b, i)]
    inner = [message for i, a in enumerate(top) for message in note(a - 3, i)]  # below the highest, above the lowest
    lower, upper = long(of(notes(low))), long(of(notes(top)))
    assert set(of(chords).voices[0].hashes) == lower | upper
    assert set(of(chords + inner).voices[0].hashes) >= upper


def test_a_fast_run_is_no_chord() -> None:
    assert len(long(of(notes(melody(5), beats=1 / 24)))) > 20
    assert long(of(notes(melody(5), beats=1 / 11))) == long(of(notes(melody(5))))


def test_a_song_with_little_melody_has_more_of_another_kind_and_its_drums() -> None:
    short = of([program(73), *notes(melody(1, 30))], DRUMS)
    assert [bool(voice.short_hashes) for voice in short.voices] == [True, True]
    assert not any(voice.short_hashes for voice in of(LEAD, BASS, DRUMS).voices)


def test_durations_count_in_the_short_ones_alone() -> None:
    pitches, chance = melody(1, 30), random.Random(1)
    beats = [0.0]
    while len(beats) < len(pitches):
        beats.append(beats[-1] + chance.choice([0.5, 1.0, 1.5, 3.0]))
    even, uneven = of(notes(pitches)), of([m for p, b in zip(pitches, beats, strict=True) for m in note(p, b, 0.4)])
    assert even.voices[0].hashes == uneven.voices[0].hashes
    assert even.voices[0].short_hashes != uneven.voices[0].short_hashes


def test_a_long_song_keeps_its_smallest_hashes_and_says_below_what() -> None:
    voices = [notes(melody(seed, 700), channel=seed % 9) for seed in range(3)]
    found, whole = of(*voices), {number for voice in voices for number in every_of_long(voice)}
    assert found.below in whole
    assert every(found) == {number for number in whole if number < found.below}
    assert len(every(found)) == 1024


def every_of_long(voice: Track) -> set[int]:
    """Hashes of a voice that is short enough to keep all."""
    found = of(voice)
    assert not found.HasField("below")
    return every(found)


def test_a_song_of_drums_alone_has_a_signature() -> None:
    beat, other = ([36, 42, 38, 42, 46, 36, 50, 42, 38, 49], [35, 51, 40, 53, 51, 35, 40, 47, 45, 53])
    [one] = of(notes(beat * 3, channel=9)).voices
    assert one.short_hashes
    assert not set(one.short_hashes) & every(of(notes(other * 3, channel=9)))


def test_one_note_has_none() -> None:
    assert of(note(60)) == NoteSignature()


def test_the_signatures_of_real_songs_are_small_and_their_own() -> None:
    paths = sorted(shared("corpus", "clean_midi").rglob("*.mid"))[::8]
    found = [every(signature(load_song(path.read_bytes()))) for path in paths]
    assert all(8 <= len(one) <= 1024 for one in found)
    assert all(len(a & b) <= 0.15 * min(len(a), len(b)) for index, a in enumerate(found) for b in found[:index])

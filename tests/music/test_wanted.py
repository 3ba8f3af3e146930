"""Music asked for beside a prompt: what contradicts it, read by hand, and completed prompts, read by the checker."""

import pytest

from luthier_music.captions import check
from luthier_music.captions.asked import asked_of
from luthier_music.captions.instruments import instrument_of
from luthier_music.captions.wanted import Contradiction, Wanted, completed_prompt, contradictions
from luthier_music.instrument_words import PHRASES, UNKNOWN, WHERE_TRUE
from luthier_music.keys import ALL_KEYS, Key

D_MINOR = Key(2, "minor")
ALL = Wanted(90.0, D_MINOR, (3, 4), 8, 16.0, ("piano", "Drums"))


@pytest.mark.parametrize(
    ("prompt", "field", "stated"),
    [
        ("a song at 120 BPM", "tempo_bpm", "120 BPM"),
        ("fast", "tempo_bpm", "fast"),
        ("not 90 BPM", "tempo_bpm", "not 90 BPM"),
        ("with an accelerando", "tempo_bpm", "accelerando"),
        ("in C major", "key", "C major"),
        ("in F minor", "key", "F minor"),
        ("in a major key", "key", "major"),
        ("in 4/4", "meter", "4/4"),
        ("no drums", "instruments", "no drums"),
        ("30 seconds of music", "bars", "30 seconds"),
    ],
)
def test_a_prompt_that_says_something_else_contradicts(prompt: str, field: str, stated: str) -> None:
    (found,) = contradictions(prompt, ALL)

    assert (found.field, stated in found.stated) == (field, True)


@pytest.mark.parametrize(
    "prompt",
    ["", "calm jazz", "90 BPM in D minor", "about 91 BPM", "slow", "not 120 BPM", "not in a major key",
     "a waltz in 3/4", "violin and piano", "no violin", "16 seconds", "a song in D"],
)  # fmt: skip
def test_what_is_the_same_or_something_beside_it_does_not(prompt: str) -> None:
    assert contradictions(prompt, ALL) == []


@pytest.mark.parametrize("prompt", ["120 BPM, C major, 4/4, no drums, 30 seconds", "rubato, fast, slow, accelerando"])
def test_what_is_not_asked_for_is_never_contradicted(prompt: str) -> None:
    assert contradictions(prompt, Wanted(instruments=("violin",))) == []
    assert contradictions(prompt, Wanted()) == []


def test_every_contradiction_is_told_with_what_is_asked_for() -> None:
    assert contradictions("F major, 120 BPM", ALL) == [
        Contradiction("tempo_bpm", "120 BPM", "90 BPM"),
        Contradiction("key", "F major", "D minor"),
    ]


@pytest.mark.parametrize(
    ("prompt", "made"),
    [
        ("", "A piece in D minor, at 90 BPM, with piano and drums, in 3/4 time."),
        ("calm jazz", "calm jazz, in D minor, at 90 BPM, with piano and drums, in 3/4 time"),
        ("Calm jazz.", "Calm jazz. In D minor, at 90 BPM, with piano and drums, in 3/4 time."),
        ("jazz, calm, ", "jazz, calm, in D minor, at 90 BPM, with piano and drums, in 3/4 time"),
        (
            "Genre: Jazz|Moods: calm",
            "Genre: Jazz|Moods: calm|Instruments: piano, drums|Tempo: 90 BPM|Key: D minor|in 3/4 time",
        ),
        ("90 bpm jazz piano", "90 bpm jazz piano, in D minor, with drums, in 3/4 time"),
        ("D minor waltz in 3/4 at 90 BPM for piano and drums", "D minor waltz in 3/4 at 90 BPM for piano and drums"),
        ("a song in D", "a song in D, in D minor, at 90 BPM, with piano and drums, in 3/4 time"),
    ],
)
def test_a_prompt_is_completed_by_what_it_does_not_say(prompt: str, made: str) -> None:
    assert completed_prompt(prompt, ALL) == made
    assert completed_prompt(made, ALL) == made


def test_instruments_are_called_as_captions_call_them_and_several_by_their_own_word() -> None:
    wanted = Wanted(instruments=("Acoustic Grand Piano", "Guitar", "contrabass", "jazz guitar", "the violins"))

    assert completed_prompt("", wanted) == "A piece with piano, guitar, contrabass, jazz guitar and violins."


@pytest.mark.parametrize("prompt", ["", "calm", "A calm piece.", "Moods: calm | Era: 1980s"])
def test_a_completed_prompt_asks_for_just_what_was_wanted(prompt: str) -> None:
    """By the reader of prompts, which knows nothing of the grammar."""
    for key in ALL_KEYS:
        for tempo_bpm in (20.0, 61.0, 140.0, 400.0):
            asked = asked_of(completed_prompt(prompt, Wanted(tempo_bpm, key)))
            assert (asked.keys, asked.tempi_bpm) == ((key,), ((tempo_bpm, tempo_bpm),))


@pytest.mark.parametrize("prompt", ["", "calm", "A calm piece.", "Moods: calm | Era: 1980s"])
def test_every_name_of_an_instrument_is_read_back(prompt: str) -> None:
    for words in (*PHRASES, *WHERE_TRUE):
        wanted = Wanted(instruments=(words,))
        made = completed_prompt(prompt, wanted)
        assert not [one for one in check(made, wanted.facts(), allow_subset=True) if one.subject == "instrument"], made
        assert completed_prompt(made, wanted) == made


def test_a_meter_that_does_not_tell_its_beat_has_its_tempo_in_quarter_notes() -> None:
    wanted = Wanted(140.0, meter=(7, 8))

    assert completed_prompt("", wanted) == "A piece at 140 quarter notes per minute, in 7/8 time."
    assert contradictions("quarter = 140", wanted) == []
    assert contradictions("quarter = 120", wanted) == [Contradiction("tempo_bpm", "quarter = 120", "140 BPM")]


def test_what_no_program_stands_for_is_no_instrument() -> None:
    assert not any(instrument_of(words) for words in (*UNKNOWN, "vocals", "piano and drums", "", "jazz", "key"))

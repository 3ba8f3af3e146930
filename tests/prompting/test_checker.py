"""The checker against a golden table of captions, true and false, written by hand.

Each clip's facts stand above its captions; the table says what a listener with the score would object to.
"""

# ruff: noqa: E501 - a table: one caption is one line

import time
from collections.abc import Iterable

import pytest

from luthier_music.captions import Disagreement, check
from luthier_music.clip_facts import Facts, Heard
from luthier_music.instruments import PROGRAM_NAMES
from luthier_music.vocabulary import GENRE_PARENTS, implied_genres

ROCK = Facts(
    duration_s=29.8, tempo_bpm=120.0, tonic="F#", mode="minor", meter=(4, 4), loudness_lufs=-14.2, onset_rate_hz=6.0,
    instruments=(Heard("Drums"), Heard("Overdriven Guitar", 0.9), Heard("Electric Bass (finger)", 0.9)),
    genres=("indie rock",), moods=("energetic",), eras=("1990s",),
)  # fmt: skip
JAZZ = Facts(
    duration_s=31.0, tempo_bpm=119.6, tonic="A", mode="minor", meter=(3, 4), onset_rate_hz=3.0,
    instruments=(Heard("Acoustic Grand Piano"), Heard("Acoustic Bass", 0.8), Heard("Tenor Sax", 0.5)),
    genres=("jazz",), moods=("relaxed",),
)  # fmt: skip
SYNTH = Facts(
    tempo_bpm=84.0, tempo_changes=True, tonic="Eb", mode="major",
    instruments=(Heard("Pad 2 (warm)"), Heard("Lead 1 (square)"), Heard("Choir Aahs"), Heard("Electric Piano 1")),
    genres=("ambient", "electronic"), moods=("dreamy", "calm"),
)  # fmt: skip
UNKNOWN = Facts(instruments=(Heard("Acoustic Guitar (nylon)"), Heard("Flute")))

SIX_EIGHT = Facts(tempo_bpm=120.0, beat_quarters=1.5, meter=(6, 8), instruments=(Heard("Flute"),))
SEVEN_EIGHT = Facts(tempo_bpm=140.0, beat_quarters=1.0, notated=True, meter=(7, 8), instruments=(Heard("Flute"),))
ESTIMATED = Facts(tempo_bpm=120.0, instruments=(Heard("Flute"),))  # from the audio: beats of a note value nobody knows
SOLO = Facts(tempo_bpm=92.0, tonic="D", mode="minor", instruments=(Heard("Cello"),), solo=True)
ONE_NAME = Facts(tempo_bpm=92.0, tonic="D", mode="minor", instruments=(Heard("Cello"),))  # there may be two cellists
CHANGING = Facts(meter=(3, 4), meter_changes=True, instruments=(Heard("Flute"),))

TRUE = [
    (SOLO, "A solo cello, 92 BPM, in D minor."),
    (SOLO, "Cello alone in D minor at 92 BPM."),
    (SOLO, "Unaccompanied cello in D minor, 92 BPM, without accompaniment."),
    (SOLO, "Format: Solo | Instruments: Cello | BPM: 92 | Key: D minor"),
    (SOLO, "solo, cello, 92 BPM, D minor"),
    (ONE_NAME, "A cello in D minor at 92 BPM, not alone."),
    (ROCK, "Energetic indie rock in F# minor, 120 BPM: a guitar solo over bass and drums."),
    (SIX_EIGHT, "A flute in 6/8 time at 120 BPM."),
    (SIX_EIGHT, "A flute in 6/8 at 120 dotted quarter notes per minute."),
    (SIX_EIGHT, "A flute in six-eight, dotted quarter = 120."),
    (SIX_EIGHT, "A flute in 6/8 at 180 quarter notes per minute."),
    (SIX_EIGHT, "A flute in 6/8, ♩ = 180."),
    (SIX_EIGHT, "A flute in 6/8, ♩. = 120."),
    (SIX_EIGHT, "A flute in 6/8 at 360 eighth notes per minute."),
    (SEVEN_EIGHT, "A flute in 7/8 time at 140 quarter notes per minute."),
    (SEVEN_EIGHT, "A flute in 7/8 at 280 quavers per minute."),
    (SEVEN_EIGHT, "A flute in 7/8, quarter note = 140 BPM."),
    (SEVEN_EIGHT, "A flute in 7/8, around 139 quarter notes per minute."),
    (SIX_EIGHT, "A flute in 6/8, dotted quarter = 120 BPM."),
    (SIX_EIGHT, "A flute in 6/8 at 120 BPM by the dotted quarter."),
    (SIX_EIGHT, "A flute playing eighth notes at 120 BPM."),
    (ESTIMATED, "A flute at 120 BPM."),
    (ESTIMATED, "A fast flute, 120 beats per minute."),
    (CHANGING, "A flute with changing meter."),
    (CHANGING, "A flute, mostly in 3/4 time."),
    (CHANGING, "A flute in shifting time signatures."),
    (ROCK, "An energetic indie rock track in F# minor at 120 BPM with overdriven guitar, electric bass and drums."),
    (ROCK, "Energetic rock in F-sharp minor, 120 beats per minute, driven by distorted guitars, bass guitar and a drum kit."),
    (ROCK, "Energetic indie-rock at one hundred and twenty beats per minute in G flat minor: drums, electric guitar, bass."),
    (ROCK, "Energetic rock | Key: Gbm | BPM: 120 | Instruments: Drums, Overdriven Guitar, Electric Bass (finger)"),
    (ROCK, "A fast, energetic indie rock piece (F♯ minor, 120 bpm, 4/4) for guitar, bass and drums, no vocals."),
    (ROCK, "Instrumental, energetic rock without piano or strings, around 119 BPM, F sharp minor; guitars, bass, drums."),
    (ROCK, "Energetic high-energy 90s indie rock, tempo of 120, in the key of F# minor, guitar riffs over bass and drums"),
    (ROCK, "energetic indie rock with a steady 120-BPM drum beat, a bassline... in f# minor and crunchy guitar"),
    (ROCK, "Energetic indie rock power trio in F# minor, guitar, bass, drums, 120 BPM, 30 seconds"),
    (ROCK, "Energetic indie rock in F# aeolian at 118 to 122 BPM, electric guitar, electric bass, snare and hi-hats"),
    (JAZZ, "A relaxed jazz waltz in A minor at 120 BPM for piano, double bass and tenor saxophone."),
    (JAZZ, "Relaxed jazz in a minor key, A minor to be precise, 120 BPM, grand piano, upright bass, sax."),
    (JAZZ, "relaxed jazz, a minor, 120 bpm, piano, acoustic bass, tenor sax"),
    (JAZZ, "RELAXED JAZZ IN A MINOR, 120 BPM, PIANO, UPRIGHT BASS, TENOR SAX"),
    (JAZZ, "A relaxed acoustic jazz trio: piano, bass and saxophone in A natural minor, one-twenty BPM, 3/4."),
    (JAZZ, "Piano, bass and sax play relaxed jazz at a mid-tempo 119.6 BPM in A-minor."),
    (JAZZ, "Jazzy and laid-back, A minor, 120 beats a minute, piano over walking bass, sax melody, drumless"),
    (SYNTH, "Dreamy ambient electronic music in E flat major with a changing tempo around 84 BPM, warm synth pad, "
            "square-wave synth lead, choir aahs and electric piano."),
    (SYNTH, "Calm ambient in D# major whose tempo changes, warm pads, a square lead, a choir and rhodes."),
    (SYNTH, "Dreamy ambient, Eb major, tempo shifts around 85 BPM, choir, synth pads, synth lead, electric piano."),
    (ROCK, "Not only guitar but also bass and drums carry this energetic indie rock, F♯ min, 120 B.P.M., -14 LUFS"),
    (ROCK, "Energetic indie rock; the guitar plays a major role, drums and bass behind it, key: F#m, tempo 120"),
    (ROCK, "Energetic indie rock: drummer, bassist and guitarist, no vocals, no synths, no keys; F# minor, 120bpm."),
    (UNKNOWN, "A duo of nylon-string guitar and flute."),
    (UNKNOWN, "Classical guitar and flute, no drums."),
    (UNKNOWN, "Flute over acoustic guitar, an acoustic piece without drums, bass, or piano"),
]  # fmt: skip

# (facts, caption, the subjects and reasons that must be reported, all of them)
FALSE = [
    (SIX_EIGHT, "tempo", "CONTRADICTS_FACTS", "at 180 BPM"),
    (SIX_EIGHT, "tempo", "CONTRADICTS_FACTS", "at 120 quarter notes per minute"),
    (SIX_EIGHT, "tempo", "CONTRADICTS_FACTS", "with dotted quarter = 180"),
    (SIX_EIGHT, "tempo", "CONTRADICTS_FACTS", "quarter note = 120 BPM"),
    (SIX_EIGHT, "tempo", "CONTRADICTS_FACTS", "at 120 BPM by the quarter note"),
    (SIX_EIGHT, "tempo", "CONTRADICTS_FACTS", "at 120 BPM (quarter note)"),
    (SIX_EIGHT, "tempo", "CONTRADICTS_FACTS", "BPM: 120 (quarter note)"),
    (SEVEN_EIGHT, "tempo", "NOT_IN_FACTS", "at 140 BPM"),
    (SEVEN_EIGHT, "tempo", "NOT_IN_FACTS", "at 93 BPM"),
    (SEVEN_EIGHT, "tempo", "NOT_IN_FACTS", "140 beats per minute"),
    (SEVEN_EIGHT, "tempo", "NOT_IN_FACTS", "tempo: 140"),
    (SEVEN_EIGHT, "tempo", "NOT_IN_FACTS", "at 140"),
    (SEVEN_EIGHT, "tempo", "NOT_IN_FACTS", "a fast track"),
    (SEVEN_EIGHT, "tempo", "NOT_IN_FACTS", "a slow track"),
    (SEVEN_EIGHT, "tempo", "NOT_IN_FACTS", "mid-tempo"),
    (SEVEN_EIGHT, "tempo", "NOT_IN_FACTS", "allegro"),
    (SEVEN_EIGHT, "tempo", "CONTRADICTS_FACTS", "at 120 quarter notes per minute"),
    (SEVEN_EIGHT, "tempo", "CONTRADICTS_FACTS", "quarter note = 93 BPM"),
    (ESTIMATED, "tempo", "NOT_IN_FACTS", "at 120 quarter notes per minute"),
    (ESTIMATED, "tempo", "NOT_IN_FACTS", "quarter = 120"),
    (ESTIMATED, "tempo", "NOT_IN_FACTS", "dotted quarter = 80"),
    (ESTIMATED, "tempo", "NOT_IN_FACTS", "120 BPM by the quarter note"),
    (ESTIMATED, "tempo", "CONTRADICTS_FACTS", "at 121 BPM"),
    (SIX_EIGHT, "meter", "CONTRADICTS_FACTS", "with changing meter"),
    (CHANGING, "meter", "CONTRADICTS_FACTS", "in 4/4 time"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "at 121 BPM"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "at 60 BPM"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "at 240 beats per minute"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "at ninety-five bpm"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "around 130 BPM"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "tempo: 100"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "130-140 BPM"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "with a slow tempo"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "in a slow, heavy way"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "that speeds up"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "adagio"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "anything from 80 to 160 BPM"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "half-time at 60 BPM"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "one thirty BPM"),
    (ROCK, "tempo", "CONTRADICTS_FACTS", "120.6 BPM"),
    (ROCK, "tempo", "NEGATED", "not 120 BPM"),
    (ROCK, "key", "CONTRADICTS_FACTS", "in G minor"),
    (ROCK, "key", "CONTRADICTS_FACTS", "in F minor"),
    (ROCK, "key", "CONTRADICTS_FACTS", "modulating to A major"),
    (ROCK, "key", "CONTRADICTS_FACTS", "key of E-flat"),
    (ROCK, "key", "CONTRADICTS_FACTS", "in C"),
    (ROCK, "key", "NEGATED", "not in F# minor"),
    (ROCK, "mode", "CONTRADICTS_FACTS", "in F# major"),
    (ROCK, "mode", "CONTRADICTS_FACTS", "in a major key"),
    (ROCK, "mode", "CONTRADICTS_FACTS", "F# dorian"),
    (ROCK, "mode", "CONTRADICTS_FACTS", "with a Phrygian flavour"),
    (ROCK, "instrument", "NOT_IN_FACTS", "with piano"),
    (ROCK, "instrument", "NOT_IN_FACTS", "with acoustic guitar"),
    (ROCK, "instrument", "NOT_IN_FACTS", "with synth pads"),
    (ROCK, "instrument", "NOT_IN_FACTS", "with slap bass"),
    (ROCK, "instrument", "NOT_IN_FACTS", "with a saxophone solo"),
    (ROCK, "instrument", "NOT_IN_FACTS", "with strings"),
    (ROCK, "instrument", "NOT_IN_FACTS", "with Hammond organ"),
    (ROCK, "instrument", "NOT_IN_FACTS", "with congas"),
    (ROCK, "instrument", "NOT_IN_FACTS", "with ukulele"),
    (ROCK, "instrument", "NOT_IN_FACTS", "with keys"),
    (ROCK, "instrument", "NOT_IN_FACTS", "and a pianist"),
    (ROCK, "instrument", "NOT_IN_FACTS", "a Moog"),
    (ROCK, "instrument", "CONTRADICTS_FACTS", "without a drummer"),
    (ROCK, "instrument", "CONTRADICTS_FACTS", "neither drums nor piano"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "drum and bass"),
    (ROCK, "vocals", "CONTRADICTS_FACTS", "a vocoder"),
    (ROCK, "meter", "CONTRADICTS_FACTS", "in five four"),
    (ROCK, "artist", "NOT_IN_FACTS", "like Radiohead"),
    (ROCK, "artist", "NOT_IN_FACTS", "by Nirvana"),
    (ROCK, "instrument", "CONTRADICTS_FACTS", "without drums"),
    (ROCK, "instrument", "CONTRADICTS_FACTS", "no piano, bass or organ"),
    (ROCK, "instrument", "CONTRADICTS_FACTS", "a drumless mix"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "jazz"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "with a funky groove"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "heavy metal"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "with hip-hop beats"),
    (ROCK, "genre", "NEGATED", "not jazz"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "sunshine pop"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "with djent riffs"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "britpop"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "Brit-pop"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "pop rock"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "a doo-wop bounce"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "psych pop"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "rockabilly"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "glam rock"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "piano rock"),
    (ROCK, "genre", "CONTRADICTS_FACTS", "speed metal"),
    (ROCK, "mood", "CONTRADICTS_FACTS", "and melancholic"),
    (ROCK, "mood", "CONTRADICTS_FACTS", "with a cheerful touch"),
    (ROCK, "era", "CONTRADICTS_FACTS", "from the 80s"),
    (ROCK, "era", "CONTRADICTS_FACTS", "1970s"),
    (ROCK, "energy", "CONTRADICTS_FACTS", "low-energy"),
    (ROCK, "vocals", "CONTRADICTS_FACTS", "with female vocals"),
    (ROCK, "vocals", "CONTRADICTS_FACTS", "and a male singer"),
    (ROCK, "vocals", "CONTRADICTS_FACTS", "by a choir"),
    (ROCK, "vocals", "CONTRADICTS_FACTS", "with rap verses"),
    (ROCK, "vocals", "CONTRADICTS_FACTS", "with voices"),
    (ROCK, "meter", "CONTRADICTS_FACTS", "in 3/4"),
    (ROCK, "meter", "CONTRADICTS_FACTS", "in 6/8 time"),
    (ROCK, "duration", "CONTRADICTS_FACTS", "two minutes long"),
    (ROCK, "duration", "CONTRADICTS_FACTS", "45 seconds"),
    (ROCK, "loudness", "CONTRADICTS_FACTS", "at -9 LUFS"),
    (ROCK, "ensemble", "CONTRADICTS_FACTS", "by a quartet"),
    (ROCK, "ensemble", "CONTRADICTS_FACTS", "solo guitar"),
    (ROCK, "ensemble", "CONTRADICTS_FACTS", "guitar alone"),
    (ROCK, "ensemble", "CONTRADICTS_FACTS", "unaccompanied drums"),
    (ONE_NAME, "ensemble", "CONTRADICTS_FACTS", "solo cello"),
    (ONE_NAME, "ensemble", "CONTRADICTS_FACTS", "cello alone"),
    (ONE_NAME, "ensemble", "CONTRADICTS_FACTS", "unaccompanied cello"),
    (ONE_NAME, "ensemble", "CONTRADICTS_FACTS", "format: solo"),
    (SOLO, "ensemble", "CONTRADICTS_FACTS", "not alone"),
    (SOLO, "ensemble", "CONTRADICTS_FACTS", "with a band"),
    (SOLO, "ensemble", "CONTRADICTS_FACTS", "accompanied"),
    (SOLO, "ensemble", "CONTRADICTS_FACTS", "by a duo"),
    (SOLO, "instrument", "NOT_IN_FACTS", "with piano"),
    (ROCK, "number", "NOT_IN_FACTS", "take 7"),
    (ROCK, "artist", "NOT_IN_FACTS", "in the style of the Beatles"),
    (ROCK, "acousticness", "CONTRADICTS_FACTS", "unplugged"),
    (ROCK, "form", "QUESTION", "how about that?"),
    (ROCK, "form", "NOT_ONLY_THE_PROMPT", "https://example.org"),
    (ROCK, "form", "INSTRUCTION", "Please add more"),
    (JAZZ, "key", "CONTRADICTS_FACTS", "C major"),
    (JAZZ, "mode", "CONTRADICTS_FACTS", "in a major key"),
    (JAZZ, "instrument", "NOT_IN_FACTS", "with brushed drums"),
    (JAZZ, "instrument", "NOT_IN_FACTS", "with alto sax"),
    (JAZZ, "instrument", "NOT_IN_FACTS", "with electric piano"),
    (JAZZ, "acousticness", "CONTRADICTS_FACTS", "fully electronic"),
    (SYNTH, "tempo", "CONTRADICTS_FACTS", "at a steady 84 BPM"),
    (UNKNOWN, "tempo", "NOT_IN_FACTS", "at 120 BPM"),
    (UNKNOWN, "tempo", "NOT_IN_FACTS", "slow"),
    (UNKNOWN, "key", "NOT_IN_FACTS", "in C major"),
    (UNKNOWN, "mode", "NOT_IN_FACTS", "in a minor key"),
    (UNKNOWN, "genre", "NOT_IN_FACTS", "flamenco"),
    (UNKNOWN, "mood", "NOT_IN_FACTS", "romantic"),
    (UNKNOWN, "meter", "NOT_IN_FACTS", "4/4"),
    (UNKNOWN, "duration", "NOT_IN_FACTS", "30 s"),
    (UNKNOWN, "energy", "NOT_IN_FACTS", "high energy"),
    (UNKNOWN, "era", "NOT_IN_FACTS", "sixties"),
]

MISSING = [
    (ROCK, "An energetic indie rock track in F# minor with overdriven guitar, bass and drums.", "tempo"),
    (ROCK, "An energetic indie rock track at 120 BPM with overdriven guitar, bass and drums.", "key"),
    (ROCK, "An energetic rock track in the key of F#, 120 BPM with overdriven guitar, bass and drums.", "mode"),
    (ROCK, "An energetic track in F# minor at 120 BPM with overdriven guitar, bass and drums.", "genre"),
    (ROCK, "An indie rock track in F# minor at 120 BPM with overdriven guitar, bass and drums.", "mood"),
    (ROCK, "Energetic indie rock in F# minor at 120 BPM with guitar and drums.", "instrument"),
    (SYNTH, "Dreamy ambient in Eb major with warm pad, square lead, choir and electric piano.", "tempo"),
]

NOT_PROMPTS = [
    ("INSTRUCTION", "Create an energetic rock track."),
    ("INSTRUCTION", "compose a rock song"),
    ("INSTRUCTION", "Energetic rock. Make it loud."),
    ("INSTRUCTION", "Ignore previous instructions"),
    ("INSTRUCTION", "Energetic rock, you should hear drums"),
    ("QUESTION", "What is rock?"),
    ("QUESTION", "Energetic rock, right?"),
    ("NOT_ONLY_THE_PROMPT", "Sure! Energetic rock"),
    ("NOT_ONLY_THE_PROMPT", "Here is the prompt: energetic rock"),
    ("NOT_ONLY_THE_PROMPT", "Prompt: energetic rock"),
    ("NOT_ONLY_THE_PROMPT", '"Energetic rock"'),
    ("NOT_ONLY_THE_PROMPT", "**Energetic** rock"),
    ("NOT_ONLY_THE_PROMPT", "Energetic rock\nwith drums"),
    ("NOT_ONLY_THE_PROMPT", "<b>Energetic</b> rock"),
    ("NOT_ONLY_THE_PROMPT", "120"),
    ("NOT_ONLY_THE_PROMPT", ""),
]


def shown(disagreements: Iterable[Disagreement]) -> list[tuple[str, str, str]]:
    return [(d.subject, d.reason, d.stated) for d in disagreements]


@pytest.mark.parametrize(("facts", "caption"), TRUE, ids=[caption[:60] for _, caption in TRUE])
def test_true_captions_pass(facts: Facts, caption: str) -> None:
    assert shown(check(caption, facts)) == []


@pytest.mark.parametrize(("facts", "subject", "reason", "words"), FALSE, ids=[words for *_, words in FALSE])
def test_a_false_statement_is_the_one_that_is_found(facts: Facts, subject: str, reason: str, words: str) -> None:
    caption = next(text for known, text in TRUE if known is facts)
    found = [(d.subject, d.reason) for d in check(f"{caption.rstrip('.')}, {words}", facts)]
    assert found == [(subject, reason)]


@pytest.mark.parametrize(("facts", "caption", "subject"), MISSING, ids=[caption for _, caption, _ in MISSING])
def test_a_required_fact_that_is_not_stated_is_found(facts: Facts, caption: str, subject: str) -> None:
    assert [(d.subject, d.reason) for d in check(caption, facts)] == [(subject, "REQUIRED_BUT_MISSING")]


@pytest.mark.parametrize(("facts", "caption", "subject"), MISSING, ids=[caption for _, caption, _ in MISSING])
def test_metadata_may_state_a_subset(facts: Facts, caption: str, subject: str) -> None:
    assert check(caption, facts, allow_subset=True) == []


@pytest.mark.parametrize(("reason", "text"), NOT_PROMPTS)
def test_what_is_no_prompt_is_refused(reason: str, text: str) -> None:
    assert reason in [d.reason for d in check(text, ROCK, allow_subset=True)]


def test_a_disagreement_names_both_sides() -> None:
    (found,) = check("C minor", Facts(tonic="D", mode="minor"))
    assert (found.subject, found.stated, found.expected) == ("key", "C minor", "D minor")


@pytest.mark.parametrize("beat", [0.5, 0.75, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize(
    ("note", "quarters"),
    [
        ("eighth note", 0.5),
        ("dotted eighth note", 0.75),
        ("quarter note", 1),
        ("dotted quarter", 1.5),
        ("half note", 2),
    ],
)
def test_a_number_of_a_note_value_holds_by_the_length_of_the_beat(beat: float, note: str, quarters: float) -> None:
    per_minute = 120 * beat / quarters
    known, unknown = (
        Facts(tempo_bpm=120.0, beat_quarters=length, instruments=(Heard("Flute"),)) for length in (beat, None)
    )
    for caption in (f"A flute at {per_minute:g} {note}s per minute.", f"A flute, {note} = {per_minute:g}."):
        assert shown(check(caption, known)) == []
        assert [(d.subject, d.reason) for d in check(caption, unknown)] == [("tempo", "NOT_IN_FACTS")]
    wrong = check(f"A flute at {per_minute + 7:g} {note}s per minute.", known)
    assert [(d.subject, d.reason) for d in wrong] == [("tempo", "CONTRADICTS_FACTS")]


def test_what_nobody_knows_is_answered_with_what_is_known() -> None:
    (found,) = check("A flute at 140 BPM in 7/8.", SEVEN_EIGHT)
    assert (found.stated, found.expected) == ("140 BPM", "140 quarter notes per minute")


@pytest.mark.parametrize("tonic", ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"])
@pytest.mark.parametrize("mode", ["major", "minor"])
def test_of_all_24_keys_in_all_spellings_only_the_true_one_passes(tonic: str, mode: str) -> None:
    facts = Facts(tonic=tonic, mode=mode)
    letters = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
    truth = (letters[tonic[0]] + {"#": 1, "b": -1}.get(tonic[1:], 0)) % 12
    for letter, value in letters.items():
        for marks, shift in ((("",), 0), (("#", " sharp", "-sharp", "♯"), 1), (("b", " flat", "-flat", "♭"), -1)):
            for mark in marks:
                for other in ("major", "minor"):
                    true = (value + shift) % 12 == truth and other == mode
                    for text in (f"Music in {letter}{mark} {other}", f"key: {letter}{mark} {other}"):
                        assert (check(text, facts) == []) == true, text


@pytest.mark.parametrize(
    "text",
    ["a" * 2000, "no " * 666, "one " * 500, "twenty-" * 285, "1-1-" * 500, "tempo : = " * 200, "a minor " * 250,
     "no a, " * 333, "C# " * 666, "by A" * 500, "drum and " * 222, "in the style of " * 125, "\x00" * 2000, "\n" * 2000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_hostile_text_is_read_in_bounded_time(text: str) -> None:
    started = time.process_time()
    assert check(text, ROCK)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("bpm", [60, 75, 99, 100, 101, 110, 119, 120, 121, 160, 200])
def test_numbers_in_words_are_numbers(bpm: int) -> None:
    tens = {2: "twenty", 3: "thirty", 4: "forty", 6: "sixty", 7: "seventy", 9: "ninety"}
    small = [
        "",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        *["eleven", "twelve"],
    ]
    small += [f"{x}teen" for x in ("thir", "four", "fif", "six", "seven", "eigh", "nine")]
    hundreds, rest = divmod(bpm, 100)
    below = small[rest] if rest < 20 else "-".join(filter(None, (tens[rest // 10], small[rest % 10])))
    words = " and ".join(filter(None, (f"{small[hundreds]} hundred" if hundreds else "", below)))
    assert check(f"Music at {words} beats per minute", Facts(tempo_bpm=bpm)) == []
    assert check(f"Music at {words} beats per minute", Facts(tempo_bpm=bpm + 1)) != []


@pytest.mark.parametrize(
    ("genre", "words", "other"),
    [
        ("sunshine pop", "sunshine pop", "psychedelic pop"),
        ("djent", "djent", "grindcore"),
        ("rockabilly", "rockabilly", "psychobilly"),
        ("doo wop", "doo-wop", "northern soul"),
        ("glam rock", "glam rock", "glam metal"),
        ("pop rock", "pop rock", "post-rock"),
        ("synth pop", "synth-pop", "new jack swing"),
        ("minimal techno", "minimal techno", "goa trance"),
        ("piano blues", "piano blues", "chicago blues"),
        ("hi nrg", "hi-NRG", "italo disco"),
    ],
)
def test_another_of_the_new_genres_than_the_facts_have_is_found(genre: str, words: str, other: str) -> None:
    facts = Facts(genres=(genre,))
    assert shown(check(f"A {words} track", facts)) == []
    assert [(d.subject, d.reason) for d in check(f"A {other} track", facts)] == [("genre", "CONTRADICTS_FACTS")]


@pytest.mark.parametrize(
    ("genre", "words"),
    [("sunshine pop", "pop"), ("djent", "metal"), ("rockabilly", "rock"), ("pop rock", "rock"), ("pop rock", "pop")],
)
def test_what_a_new_genre_is_a_kind_of_may_be_said(genre: str, words: str) -> None:
    assert check(f"A {words} track", Facts(genres=(genre,))) == []


@pytest.mark.parametrize(
    "words",
    ["with bounce and twist", "like a lullaby", "that goes full on", "in stride", "with a gothic glow",
     "a nocturne", "a ballad of sorts", "an acid edge", "with a medieval air", "a rave-up"],
)  # fmt: skip
def test_a_word_that_mostly_means_something_else_is_no_genre(words: str) -> None:
    caption = next(text for known, text in TRUE if known is ROCK)
    assert check(f"{caption.rstrip('.')}, {words}", ROCK) == []


def test_an_instrument_beside_a_genre_is_still_read() -> None:
    facts = Facts(genres=("smooth jazz",), instruments=(Heard("Electric Guitar (jazz)"),))
    assert check("Smooth jazz with jazz guitar", facts) == []
    found = check("Smooth jazz with a piano", facts)
    assert ("instrument", "NOT_IN_FACTS") in [(d.subject, d.reason) for d in found]


def test_nearly_every_genre_of_the_vocabulary_is_found_where_it_is_wrong() -> None:
    """The rest are words such as "ballad" or "march", which in a sentence mostly mean something else."""
    facts = Facts(genres=("klezmer",))
    wrong = [genre for genre in GENRE_PARENTS if genre not in implied_genres("klezmer")]
    found = [genre for genre in wrong if check(f"A {genre} track", facts, allow_subset=True)]
    assert len(found) >= 0.93 * len(wrong)


def playing(genre: str, *instruments: str) -> Facts:
    """A clip of a genre in which these play, the first most."""
    return Facts(
        genres=(genre,), instruments=tuple(Heard(name, 1 - place / 10) for place, name in enumerate(instruments))
    )


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (playing("pop", "Acoustic Guitar (steel)", "Flute", "Drums"), "acoustic pop"),
        (playing("sunshine pop", "Acoustic Guitar (steel)"), "Acoustic-pop"),  # which is pop
        (playing("rock", "Acoustic Grand Piano", "Electric Bass (finger)", "Drums"), "piano rock"),
        (playing("delta blues", "Harmonica", "Drums"), "harmonica blues"),
    ],
)
def test_a_genre_of_two_true_words_is_true(facts: Facts, words: str) -> None:
    assert not check(f"A {words} track.", facts, allow_subset=True)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (playing("pop", "Synth Bass 1", "Lead 1 (square)", "Drums"), "acoustic pop"),
        (playing("jazz", "Acoustic Guitar (steel)"), "acoustic pop"),
        (playing("rock", "Distortion Guitar", "Electric Bass (finger)", "Drums"), "piano rock"),
        (
            playing("rock", *(f"Synth Strings {n}" for n in (1, 2)), *PROGRAM_NAMES[56:60], "Acoustic Grand Piano"),
            "piano rock",
        ),
        (playing("pop", "Lead 1 (square)"), "synth pop"),  # a genre of its own
        (playing("house", "Synth Bass 1"), "bass house"),
    ],
)
def test_a_genre_of_its_own_is_none_by_what_plays(facts: Facts, words: str) -> None:
    assert [found.subject for found in check(f"A {words} track.", facts, allow_subset=True)] == ["genre"]


def test_a_genre_that_names_an_energy_is_a_genre() -> None:
    caption = "A high energy disco track."
    assert not check(caption, Facts(genres=("hi nrg",), onset_rate_hz=4.0), allow_subset=True)
    assert [found.subject for found in check(caption, Facts(genres=("rock",)), allow_subset=True)] == ["genre"]


def test_a_genre_that_names_an_instrument_states_it() -> None:
    facts = playing("rock", "Acoustic Grand Piano", "Drums")
    assert not check("A piano rock track with drums.", facts)
    assert [found.expected for found in check("A piano rock track.", facts)] == ["Drums"]


def test_a_longer_name_of_an_instrument_goes_before_a_genre() -> None:
    piano = Facts(instruments=(Heard("Honky-tonk Piano"),))
    assert check("A honky-tonk piano", piano) == []
    assert shown(check("A honky-tonk tune", piano, allow_subset=True)) == [("genre", "NOT_IN_FACTS", "honky-tonk")]


def test_a_letter_that_only_looks_like_another_is_read_as_that() -> None:
    assert [one.subject for one in check("An \u0131ndie rock track", Facts())] == ["genre"]

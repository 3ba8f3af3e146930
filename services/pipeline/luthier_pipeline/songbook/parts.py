"""The rules: from a part's patterns and the chords of a section to notes.

A pattern is rhythm in text: one character is one step of the bar, and the steps divide the bar evenly. "." rests, "-"
holds the note before it; every other character starts a note and says which one:
drums and chords  x accent, o normal, g ghost
bass              r root, 3 third, 5 fifth, 8 octave, a a step below the next root
arpeggio          0 to 9, the tone of the chord counted from below, going on an octave higher
melody            x a tone of the chord, s a step of the scale

Times are beats from the song's start.
"""

# ruff: noqa: E501 - a table: one groove is one line

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from luthier_pipeline.songbook.plan import Part
from luthier_pipeline.songbook.theory import Chord, Key, melody_scale, nearest, voicing

KICK, SNARE, RIM, CLAP = 36, 38, 37, 39
CLOSED_HAT, OPEN_HAT, PEDAL_HAT, RIDE, CRASH = 42, 46, 44, 51, 49
TOM_LOW, TOM_HIGH, SHAKER, TRIANGLE, TAMBOURINE = 45, 50, 70, 81, 54

ACCENT = {"x": 1.0, "o": 0.82, "g": 0.5}


@dataclass(frozen=True)
class Hit:
    """One symbol of a pattern: start and length in beats from the bar's first beat."""

    start: float
    length: float
    symbol: str


def hits(pattern: str, beats: int) -> Iterator[Hit]:
    """The notes that a pattern spells in a bar of so many beats."""
    step = beats / len(pattern)
    for index, symbol in enumerate(pattern):
        if symbol in ".-":
            continue
        held = len(pattern[index + 1 :]) - len(pattern[index + 1 :].lstrip("-"))
        yield Hit(index * step, (1 + held) * step, symbol)


DRUMS: dict[str, dict[int, str]] = {
    "rock": {KICK: "x.....o.x.......", SNARE: "....x.......x...", CLOSED_HAT: "x.o.x.o.x.o.x.o."},
    "rock ride": {KICK: "x..o..o.x..o....", SNARE: "....x.......x..g", RIDE: "x.o.x.o.x.o.x.o."},
    "swing": {RIDE: "x..x.ox..x.o", PEDAL_HAT: "...x.....x..", KICK: "o.....g.....", SNARE: "..........g."},
    "swing brush": {RIDE: "x..o..x..o.o", PEDAL_HAT: "...x.....x..", RIM: ".........o..", KICK: "g..........."},
    "pop": {KICK: "x.......x.o.....", SNARE: "....x.......x...", CLOSED_HAT: "o.g.o.g.o.g.o.g.", SHAKER: "gggggggggggggggg"},
    "pop lift": {KICK: "x.......x.......", CLAP: "....x.......x...", RIDE: "x...o...x...o...", TAMBOURINE: "..o...o...o...o."},
    "house": {KICK: "x...x...x...x...", CLAP: "....x.......x...", OPEN_HAT: "..x...x...x...x.", CLOSED_HAT: "g..gg..gg..gg..g"},
    "house break": {KICK: "x...x...x...x..o", CLOSED_HAT: "x.ogx.ogx.ogx.og"},
    "train": {KICK: "x...x...x...x...", SNARE: "g.ogxgogg.ogxgog", CLOSED_HAT: "..x...x...x...x."},
    "train soft": {KICK: "x.......x.......", RIM: "..o.x.o...o.x.o.", SHAKER: "o.o.o.o.o.o.o.o."},
    "bossa": {KICK: "x..ox..ox..ox..o", RIM: "x..x..x...x..x..", SHAKER: "ogogogogogogogog"},
    "bossa ride": {KICK: "x..ox..ox..ox..o", RIM: "..x..x..x...x...", RIDE: "x.o.x.o.x.o.x.o."},
    "waltz": {KICK: "x...........", TRIANGLE: "....o...o...", PEDAL_HAT: "....g...g..."},
    "waltz full": {KICK: "x...........", SNARE: "....g...g.g.", RIDE: "x...o...o..."},
    "boom bap": {KICK: "x.....o..ox.....", SNARE: "....x..g....x...", CLOSED_HAT: "x.o.x.ogx.o.x.o."},
    "boom bap sparse": {KICK: "x.........x.....", SNARE: "....x.......x...", CLOSED_HAT: "x...o...x...o..."},
    "one drop": {KICK: "........x.......", RIM: "........x.......", CLOSED_HAT: "o.x.o.x.o.x.o.xg"},
    "steppers": {KICK: "x...x...x...x...", SNARE: "........x.......", CLOSED_HAT: "o.x.o.x.o.x.o.x."},
    "funk": {KICK: "x..o..x...o..o..", SNARE: "....x..g.g..x..g", CLOSED_HAT: "x.o.x.o.x.o.x.o."},
    "funk open": {KICK: "x.o.......xo....", SNARE: "....x..g.g..x...", OPEN_HAT: "..............x.", CLOSED_HAT: "x.ogx.ogx.ogx..."},
    "pulse": {KICK: "x.......o.......", RIM: "............g...", SHAKER: "o...g...o...g..."},
    "pulse wide": {KICK: "x.....o.x.......", SNARE: "........o.......", RIDE: "x...o...x...o..."},
    "chip": {KICK: "x...x...x...x...", SNARE: "..x...x...x...x.", CLOSED_HAT: "xgogxgogxgogxgog"},
    "chip half": {KICK: "x.....x...x.....", SNARE: "........x.......", CLOSED_HAT: "x.o.x.o.x.o.x.o."},
}  # fmt: skip

FILLS = {
    3: {SNARE: "o.oox.x.xxxx"},
    4: {
        KICK: "x...x...x...x...",
        SNARE: "x..ox.o.........",
        TOM_HIGH: "........xxo.....",
        TOM_LOW: "............xxxx",
    },
}

GAP = 0.06  # a note ends this part of its length early, so that repeated notes speak again
MELODY_RANGE = 9  # semitones either side of a melody's centre


@dataclass(frozen=True)
class Note:
    """start and length in beats, pitch 0 to 127, velocity 1 to 127."""

    start: float
    length: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Bar:
    """A bar to fill: its first beat, its length in beats, its chords, and the chord of the bar after it."""

    start: float
    beats: int
    chords: list[Chord]
    following: Chord

    def chord_at(self, beat: float) -> Chord:
        return self.chords[min(len(self.chords) - 1, int(beat * len(self.chords) / self.beats))]


Section = list[Bar]


@dataclass(frozen=True)
class Task:
    """One part in one section: its patterns there (one per bar, cycled), the key and the dice."""

    part: Part
    patterns: tuple[str, ...]
    section: Section
    key: Key
    dice: random.Random

    def hits(self) -> Iterator[tuple[Bar, Hit]]:
        for number, bar in enumerate(self.section):
            for hit in hits(self.patterns[number % len(self.patterns)], bar.beats):
                yield bar, hit

    def touch(self, loudness: float = 1.0) -> float:
        """The part's velocity times `loudness` (0 to 1), uneven as a player's."""
        return self.part.velocity * loudness + self.dice.randint(-5, 5)


def play(part: Part, letter: str, section: Section, key: Key, dice: random.Random) -> list[Note]:
    """The part's notes in one section; empty where the plan gives it no pattern."""
    patterns = part.patterns(letter)
    return ROLES[part.role](Task(part, patterns, section, key, dice)) if patterns else []


def _note(bar: Bar, hit: Hit, pitch: int, velocity: float) -> Note:
    return Note(bar.start + hit.start, hit.length * (1 - GAP), pitch, max(1, min(127, round(velocity))))


def _chords(task: Task) -> list[Note]:
    notes: list[Note] = []
    voices: list[int] = []
    for bar, hit in task.hits():
        voices = voicing(bar.chord_at(hit.start), task.part.centre, voices)
        velocity = task.touch(ACCENT[hit.symbol])
        notes += [_note(bar, hit, pitch, velocity) for pitch in voices]
    return notes


def _arpeggio(task: Task) -> list[Note]:
    notes: list[Note] = []
    voices: list[int] = []
    for bar, hit in task.hits():
        voices = voicing(bar.chord_at(hit.start), task.part.centre, voices)
        octave, tone = divmod(int(hit.symbol), len(voices))
        notes.append(_note(bar, hit, voices[tone] + 12 * octave, task.touch()))
    return notes


def _bass(task: Task) -> list[Note]:
    notes = []
    for bar, hit in task.hits():
        chord = bar.chord_at(hit.start)
        if hit.symbol == "a":
            target = nearest([bar.following.root], task.part.centre)
            pitch = nearest(melody_scale(chord, task.key) - {target % 12}, target - 1.5)
        else:
            above_root = {"r": 0, "3": chord.intervals[1], "5": 7, "8": 12}[hit.symbol]
            pitch = nearest([chord.root], task.part.centre) + above_root
        notes.append(_note(bar, hit, pitch, task.touch()))
    return notes


def _melody(task: Task) -> list[Note]:
    """A contour drawn once per pattern comes back with it; the last bar rests on a tone of its chord."""
    contours = {p: [task.dice.choice((-2, -1, -1, 1, 1, 2)) for _ in hits(p, 4)] for p in task.patterns}
    notes: list[Note] = []
    pitch = task.part.centre
    for number, bar in enumerate(task.section[:-1]):
        pattern = task.patterns[number % len(task.patterns)]
        for hit, step in zip(hits(pattern, bar.beats), contours[pattern], strict=True):
            strong = hit.symbol == "x"
            pitch = _next_pitch(pitch, step, strong, _ladder(task, bar.chord_at(hit.start), strong))
            notes.append(_note(bar, hit, pitch, task.touch(1.0 if strong else 0.88)))
    rest = task.section[-1]
    pitch = nearest(rest.chords[-1].tones(), 0.5 * (pitch + task.part.centre))
    return [*notes, _note(rest, Hit(0, rest.beats * 0.75, "x"), pitch, task.part.velocity)]


def _ladder(task: Task, chord: Chord, strong: bool) -> list[int]:
    """The pitches that a melody may take now, rising: the chord's tones when strong, else the scale."""
    allowed = set(chord.tones()) if strong else melody_scale(chord, task.key)
    low, high = task.part.centre - MELODY_RANGE, task.part.centre + MELODY_RANGE
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in allowed]


def _next_pitch(pitch: int, step: int, strong: bool, ladder: list[int]) -> int:
    """A rung of the ladder: near where the step points when strong, else the neighbour; turns at the ends."""
    if strong:
        return min(ladder, key=lambda rung: abs(rung - (pitch + 2 * step)))
    beyond = [rung for rung in ladder if (rung > pitch if step > 0 else rung < pitch)]
    if not beyond:
        return _next_pitch(pitch, -step, strong, ladder)
    return min(beyond, key=lambda rung: abs(rung - pitch))


ROLES: dict[str, Callable[[Task], list[Note]]] = {
    "chords": _chords,
    "pad": _chords,
    "arpeggio": _arpeggio,
    "bass": _bass,
    "melody": _melody,
}


def drums(name: str, section: Section, opening: bool, dice: random.Random) -> list[Note]:
    """The kit's notes: a crash opens the section where asked, a fill closes it."""
    notes = []
    for number, bar in enumerate(section):
        last = number == len(section) - 1
        kit = FILLS[bar.beats] if last else DRUMS[name]
        for pitch, pattern in kit.items():
            for hit in hits(pattern, bar.beats):
                velocity = 100 * ACCENT[hit.symbol] + dice.randint(-6, 6)
                notes.append(_note(bar, Hit(hit.start, bar.beats / len(pattern), "x"), pitch, velocity))
    if opening:
        notes.append(_note(section[0], Hit(0, 2, "x"), CRASH, 96))
    return notes


def ending(part: Part, bar: Bar) -> list[Note]:
    """The last bar: everyone on the tonic chord."""
    chord, hit = bar.chords[0], Hit(0, bar.beats, "x")
    if part.role in ("bass", "melody"):
        return [_note(bar, hit, nearest([chord.root], part.centre), part.velocity)]
    return [_note(bar, hit, pitch, part.velocity) for pitch in voicing(chord, part.centre, [])]

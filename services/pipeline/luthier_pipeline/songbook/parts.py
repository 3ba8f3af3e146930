"""The rules: from a part's patterns and the chords of a section to notes.

Times are beats from the song's start.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from luthier_pipeline.songbook.patterns import ACCENT, CRASH, DRUMS, FILLS, Hit, hits
from luthier_pipeline.songbook.plan import Part
from luthier_pipeline.songbook.theory import Chord, Key, melody_scale, nearest, voicing

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

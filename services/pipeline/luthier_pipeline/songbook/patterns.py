"""Rhythm in text: one character is one step of the bar, and the steps divide the bar evenly.

"." rests, "-" holds the note before it; every other character starts a note and says which one:
drums and chords  x accent, o normal, g ghost
bass              r root, 3 third, 5 fifth, 8 octave, a a step below the next root
arpeggio          0 to 9, the tone of the chord counted from below, going on an octave higher
melody            x a tone of the chord, s a step of the scale
"""

# ruff: noqa: E501 - a table: one groove is one line

from collections.abc import Iterator
from dataclasses import dataclass

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

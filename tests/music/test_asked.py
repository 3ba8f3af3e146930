"""What a prompt asks for, read by hand."""

import pytest

from luthier_music.captions.asked import Asked, asked_of
from luthier_music.instruments import DRUM_PROGRAM
from luthier_music.keys import Key

VIOLIN = frozenset({40, 110})  # a fiddle is one
F_SHARP_MINOR, C_MAJOR = Key(6, "minor"), Key(0, "major")


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("", Asked()),
        ("a nice piece", Asked()),
        ("A calm violin in F# minor at 170 BPM", Asked((("violin", VIOLIN),), (), ((170, 170),), (F_SHARP_MINOR,))),
        ("Jazz, drums, 120.5 bpm", Asked((("drums", frozenset({DRUM_PROGRAM})),), ("jazz",), ((120.5, 120.5),))),
        ("between 90 and 95 BPM", Asked(tempi_bpm=((90, 95),))),
        ("bebop | bebop", Asked(genres=("bebop",))),
        ("gb minor", Asked(keys=(F_SHARP_MINOR,))),
        ("C major, then F# minor", Asked(keys=(C_MAJOR, F_SHARP_MINOR))),
        ("C dorian", Asked()),
        ("fast and loud", Asked()),
        ("no drums, without violin", Asked()),
        ("not jazz", Asked()),
        ("dotted quarter = 60", Asked()),
        ("a theremin", Asked((("theremin", frozenset()),))),
        ("9999 BPM", Asked()),
    ],
)  # fmt: skip
def test_what_is_stated_is_asked_for(prompt: str, asked: Asked) -> None:
    assert asked_of(prompt) == asked

"""Which notes an instrument can play, and which other ones may play its part: what variations of a song keep to.

Ranges are those of professional players (Adler, The Study of Orchestration, 4th ed. 2016), as keys that sound: basses
have five strings, electric guitars eight and a whole tone below. What has keys or an oscillator has the keyboard that
it is mostly built with. Sounds that are no notes have all keys.

An instrument stands in for another where both are sounded alike: a bowed part is no harp's, though both are strings.
"""

from typing import Final, NamedTuple


class Range(NamedTuple):
    """Lowest and highest key, 0..127."""

    low: int
    high: int


_PIANO, _SYNTH, _ANY = Range(21, 108), Range(21, 108), Range(0, 127)
_BASS, _GUITAR, _STRINGS, _WINDS = Range(23, 67), Range(28, 88), Range(24, 103), Range(55, 96)

RANGES: Final[tuple[Range, ...]] = (
    # Piano
    _PIANO, _PIANO, _PIANO, _PIANO, Range(28, 103), Range(28, 103), Range(29, 89), Range(29, 96),
    # Chromatic percussion, from celesta to dulcimer
    Range(60, 108), Range(72, 108), Range(60, 84), Range(53, 89), Range(36, 96), Range(65, 108), Range(60, 77),
    Range(48, 86),
    # Organ, accordions, harmonica
    Range(36, 96), Range(36, 96), Range(36, 96), _PIANO, Range(36, 96), Range(41, 96), Range(48, 96), Range(41, 96),
    # Guitar
    Range(40, 88), Range(35, 88), Range(35, 88), _GUITAR, _GUITAR, _GUITAR, _GUITAR, Range(40, 100),
    # Bass
    _BASS, _BASS, _BASS, _BASS, _BASS, _BASS, Range(21, 72), Range(21, 72),
    # Violin to contrabass, tremolo, pizzicato, harp, timpani
    Range(55, 103), Range(48, 91), Range(36, 84), Range(24, 67), _STRINGS, _STRINGS, Range(23, 103), Range(36, 57),
    # Ensemble: strings, voices, orchestra hit
    _STRINGS, _STRINGS, _STRINGS, _STRINGS, Range(36, 84), Range(36, 84), Range(36, 96), Range(36, 96),
    # Trumpet, trombone, tuba, muted trumpet, French horn, sections
    Range(52, 88), Range(34, 77), Range(26, 65), Range(52, 88), Range(34, 77), Range(28, 96), Range(28, 96),
    Range(28, 96),
    # Saxophones, oboe, English horn, bassoon, clarinet
    Range(56, 88), Range(49, 85), Range(44, 80), Range(36, 73), Range(58, 93), Range(52, 84), Range(34, 77),
    Range(50, 96),
    # Piccolo, flute, recorder and other pipes
    Range(74, 108), Range(59, 98), Range(60, 98), _WINDS, Range(48, 96), _WINDS, Range(60, 103), Range(60, 96),
    # Synthesiser leads, pads, effects
    *[_SYNTH] * 24,
    # Sitar to shanai
    Range(48, 84), Range(48, 88), Range(48, 84), Range(43, 84), Range(48, 88), Range(48, 84), Range(55, 103),
    Range(48, 84),
    # Tinkle bell, agogo, steel drums, woodblock, toms, reverse cymbal; sound effects
    Range(60, 96), Range(48, 84), Range(52, 84), Range(48, 84), Range(33, 72), Range(33, 72), Range(33, 72), _ANY,
    *[_ANY] * 8,
)  # fmt: skip
"""Of each program, index = program."""

_ALIKE: Final = (
    range(8),  # pianos
    range(8, 16),  # mallets and bells
    range(16, 21),  # organs
    range(21, 24),  # free reeds
    range(24, 31),  # guitars
    range(32, 40),  # basses
    range(40, 45),  # bowed strings
    range(45, 47),  # plucked strings
    range(48, 52),  # string ensembles
    range(52, 55),  # voices
    range(56, 64),  # brass
    range(64, 72),  # reeds
    range(72, 80),  # pipes
    (80, 81, 82, 83, 84, 85, 87),  # leads; the one in fifths adds a voice to every note
    range(88, 96),  # pads
    range(96, 104),  # synthesiser effects
    range(104, 109),  # plucked
    range(109, 112),  # bagpipe, fiddle, shanai
    (112, 113, 114),  # bells and pans
    (116, 117, 118),  # toms
)
_KITS: Final = (0, 8, 16, 24, 25, 32, 40)
"""Kits of GS that lay the same strokes on the same keys: standard, room, power, electronic, TR-808, jazz, brush."""
_OTHER_STROKES: Final = 48  # from this kit on (orchestra, sound effects); those between the others are their variations


def alike(program: int, *, is_drum: bool = False) -> list[int]:
    """The programs (for drums: kits) that may stand in for one, in order; itself left out."""
    if is_drum:
        return [kit for kit in _KITS if kit != program] if program < _OTHER_STROKES else []
    group = next((group for group in _ALIKE if program in group), ())
    return [other for other in group if other != program]

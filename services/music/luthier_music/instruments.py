"""The names of instruments: the one place in Luthier that knows the General MIDI 1 sound set.

A program is 0..127 as it stands in the file (listings for people count from 1). Programs come in sixteen
families of eight, in this order. Drums are not a program: whatever sounds on a percussion channel is "Drums".
Source: General MIDI System Level 1, MMA RP-003, tables 2 and 3.
"""

from dataclasses import dataclass
from typing import Final

DRUMS: Final = "Drums"
DRUM_PROGRAM: Final = -1
"""Stands for the drums, which are no General MIDI program."""

_FAMILIES: Final[dict[str, str]] = {
    "Piano": "Acoustic Grand Piano, Bright Acoustic Piano, Electric Grand Piano, Honky-tonk Piano, "
    "Electric Piano 1, Electric Piano 2, Harpsichord, Clavinet",
    "Chromatic Percussion": "Celesta, Glockenspiel, Music Box, Vibraphone, Marimba, Xylophone, Tubular Bells, Dulcimer",
    "Organ": "Drawbar Organ, Percussive Organ, Rock Organ, Church Organ, Reed Organ, Accordion, "
    "Harmonica, Tango Accordion",
    "Guitar": "Acoustic Guitar (nylon), Acoustic Guitar (steel), Electric Guitar (jazz), "
    "Electric Guitar (clean), Electric Guitar (muted), Overdriven Guitar, Distortion Guitar, Guitar Harmonics",
    "Bass": "Acoustic Bass, Electric Bass (finger), Electric Bass (pick), Fretless Bass, Slap Bass 1, "
    "Slap Bass 2, Synth Bass 1, Synth Bass 2",
    "Strings": "Violin, Viola, Cello, Contrabass, Tremolo Strings, Pizzicato Strings, Orchestral Harp, Timpani",
    "Ensemble": "String Ensemble 1, String Ensemble 2, Synth Strings 1, Synth Strings 2, Choir Aahs, "
    "Voice Oohs, Synth Voice, Orchestra Hit",
    "Brass": "Trumpet, Trombone, Tuba, Muted Trumpet, French Horn, Brass Section, Synth Brass 1, Synth Brass 2",
    "Reed": "Soprano Sax, Alto Sax, Tenor Sax, Baritone Sax, Oboe, English Horn, Bassoon, Clarinet",
    "Pipe": "Piccolo, Flute, Recorder, Pan Flute, Blown Bottle, Shakuhachi, Whistle, Ocarina",
    "Synth Lead": "Lead 1 (square), Lead 2 (sawtooth), Lead 3 (calliope), Lead 4 (chiff), Lead 5 (charang), "
    "Lead 6 (voice), Lead 7 (fifths), Lead 8 (bass + lead)",
    "Synth Pad": "Pad 1 (new age), Pad 2 (warm), Pad 3 (polysynth), Pad 4 (choir), Pad 5 (bowed), "
    "Pad 6 (metallic), Pad 7 (halo), Pad 8 (sweep)",
    "Synth Effects": "FX 1 (rain), FX 2 (soundtrack), FX 3 (crystal), FX 4 (atmosphere), FX 5 (brightness), "
    "FX 6 (goblins), FX 7 (echoes), FX 8 (sci-fi)",
    "Ethnic": "Sitar, Banjo, Shamisen, Koto, Kalimba, Bagpipe, Fiddle, Shanai",
    "Percussive": "Tinkle Bell, Agogo, Steel Drums, Woodblock, Taiko Drum, Melodic Tom, Synth Drum, Reverse Cymbal",
    "Sound Effects": "Guitar Fret Noise, Breath Noise, Seashore, Bird Tweet, Telephone Ring, Helicopter, "
    "Applause, Gunshot",
}

FAMILIES: Final[tuple[str, ...]] = tuple(_FAMILIES)
"""The sixteen families in program order: family of program p is FAMILIES[p // 8]."""

PROGRAM_NAMES: Final[tuple[str, ...]] = tuple(name.strip() for names in _FAMILIES.values() for name in names.split(","))
"""The 128 program names, index = program."""


_ELECTRIC_PROGRAMS: Final = frozenset(
    [
        *(2, 4, 5, 7),  # electric grand, electric pianos, Clavinet
        *(16, 17, 18),  # drawbar, percussive and rock organ
        *range(26, 32),  # electric guitars
        *range(33, 40),  # electric and synthesiser basses
        *(50, 51, 54, 55),  # synthesiser strings and voice, orchestra hit: a sample
        *(62, 63),  # synthesiser brass
        *range(80, 104),  # leads, pads, effects
        *(118, 119),  # synthesiser drum, reversed cymbal
    ]
)
_FIRST_NOISE: Final = 120  # sound effects are no instruments

_CAPTION_NAMES: Final = {
    0: "piano", 1: "bright acoustic piano", 2: "electric grand piano", 4: "electric piano", 5: "FM electric piano",
    14: "tubular bells", 16: "drawbar organ", 22: "harmonica", 23: "bandoneon", 24: "nylon-string guitar",
    25: "steel-string acoustic guitar", 26: "jazz guitar", 27: "clean electric guitar", 28: "muted electric guitar",
    29: "overdriven guitar", 30: "distorted guitar", 31: "guitar harmonics", 32: "upright bass",
    33: "electric bass", 34: "picked bass", 36: "slap bass", 37: "slap bass", 38: "synth bass", 39: "synth bass",
    43: "double bass", 44: "tremolo strings", 45: "pizzicato strings", 46: "harp", 48: "string ensemble",
    49: "string section", 50: "synth strings", 51: "synth strings", 52: "choir aahs", 53: "voice oohs",
    54: "synth voice", 62: "synth brass", 63: "synth brass", 64: "soprano saxophone", 65: "alto saxophone",
    66: "tenor saxophone", 67: "baritone saxophone", 80: "square-wave synth lead", 81: "sawtooth synth lead",
    82: "calliope synth lead", 83: "chiff synth lead", 84: "charang synth lead", 85: "synth lead",
    86: "fifths synth lead", 87: "synth lead", 88: "new age synth pad", 89: "warm synth pad", 90: "polysynth pad",
    91: "choir pad", 92: "bowed synth pad", 93: "metallic synth pad", 94: "halo synth pad", 95: "sweep synth pad",
    96: "rain synth effect", 97: "soundtrack synth effect", 98: "crystal synth effect",
    99: "atmosphere synth effect", 100: "brightness synth effect", 101: "goblin synth effect",
    102: "echo synth effect", 103: "sci-fi synth effect", 109: "bagpipes", 114: "steel drums", 116: "taiko drums",
    DRUM_PROGRAM: "drums",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Instrument:
    """What sounds: a General MIDI program (0..127), its name and family; or the drums (`is_drum`).

    For drums `program` is the kit (0 = standard) and name and family are "Drums" for every kit.
    """

    program: int
    name: str
    family: str
    is_drum: bool = False


def instrument(program: int, *, is_drum: bool = False) -> Instrument:
    """The instrument of a program 0..127. ValueError outside."""
    if not 0 <= program <= 127:
        raise ValueError(f"a MIDI program is 0..127, got {program}")
    if is_drum:
        return Instrument(program, DRUMS, DRUMS, is_drum=True)
    return Instrument(program, PROGRAM_NAMES[program], FAMILIES[program // 8])


def program_of(name: str) -> int:
    """The program of a General MIDI name, any case. KeyError when it is none (drums are not a program)."""
    return _BY_NAME[name.strip().casefold()]


def caption_name(program: int) -> str:
    """What a caption calls the instrument of a program 0..127, or the drums of DRUM_PROGRAM."""
    return _CAPTION_NAMES.get(program) or PROGRAM_NAMES[program].lower()


def family_of(name: str) -> str:
    """The family of an instrument's name, any case; "Drums" for drums. KeyError when unknown."""
    if name.strip().casefold() == DRUMS.casefold():
        return DRUMS
    return FAMILIES[program_of(name) // 8]


def is_acoustic(name: str) -> bool | None:
    """Whether a General MIDI name, any case, is an instrument that sounds without electricity.

    Voices are acoustic, and so is the vibraphone, whose motor only turns discs. None for drums, whose kit the name does
    not tell, for sound effects, and for names that are none.
    """
    program = _BY_NAME.get(name.strip().casefold())
    return None if program is None or program >= _FIRST_NOISE else program not in _ELECTRIC_PROGRAMS


_BY_NAME: Final = {name.casefold(): program for program, name in enumerate(PROGRAM_NAMES)}

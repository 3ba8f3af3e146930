"""The General MIDI sound set, against entries of the published table."""

import pytest

from luthier_music.instruments import FAMILIES, PROGRAM_NAMES, family_of, instrument, is_acoustic, program_of


def test_there_are_128_distinct_programs_in_sixteen_families() -> None:
    assert len(PROGRAM_NAMES) == len({name.casefold() for name in PROGRAM_NAMES}) == 128
    assert len(FAMILIES) == 16


@pytest.mark.parametrize(
    ("program", "name", "family"),
    [
        (0, "Acoustic Grand Piano", "Piano"),
        (19, "Church Organ", "Organ"),
        (26, "Electric Guitar (jazz)", "Guitar"),
        (38, "Synth Bass 1", "Bass"),
        (47, "Timpani", "Strings"),
        (56, "Trumpet", "Brass"),
        (73, "Flute", "Pipe"),
        (80, "Lead 1 (square)", "Synth Lead"),
        (104, "Sitar", "Ethnic"),
        (127, "Gunshot", "Sound Effects"),
    ],
)
def test_programs_stand_where_the_standard_puts_them(program: int, name: str, family: str) -> None:
    found = instrument(program)
    assert (found.name, found.family) == (name, family)
    assert program_of(name.upper()) == program
    assert family_of(name) == family


def test_drums_are_drums_whatever_the_kit() -> None:
    assert instrument(0, is_drum=True).name == instrument(25, is_drum=True).name == "Drums"
    assert family_of("Drums") == "Drums"


@pytest.mark.parametrize("program", [-1, 128])
def test_programs_outside_are_refused(program: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.127"):
        instrument(program)


@pytest.mark.parametrize(
    ("name", "acoustic"),
    [
        ("Acoustic Grand Piano", True), ("electric piano 1", False), ("Harpsichord", True), ("Clavinet", False),
        ("Vibraphone", True), ("Church Organ", True), ("Rock Organ", False), ("Acoustic Guitar (nylon)", True),
        ("Distortion Guitar", False), ("Acoustic Bass", True), ("Fretless Bass", False), ("Cello", True),
        ("String Ensemble 1", True), ("Synth Strings 1", False), ("Voice Oohs", True), ("Synth Voice", False),
        ("Trumpet", True), ("Synth Brass 2", False), ("Flute", True), ("Lead 1 (square)", False), ("Sitar", True),
        ("Steel Drums", True), ("Synth Drum", False), ("Seashore", None), ("Drums", None), ("Kazoo", None),
    ],
)  # fmt: skip
def test_what_sounds_without_electricity_is_acoustic(name: str, acoustic: bool | None) -> None:
    assert is_acoustic(name) is acoustic


def test_a_name_that_says_electric_or_synth_is_not_acoustic_and_one_that_says_acoustic_is() -> None:
    for name in PROGRAM_NAMES:
        if name.startswith(("Electric", "Synth", "Lead", "Pad", "FX")):
            assert is_acoustic(name) is False
        if name.startswith("Acoustic"):
            assert is_acoustic(name) is True

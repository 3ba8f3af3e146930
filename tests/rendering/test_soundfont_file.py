"""The index of a SoundFont: the same presets as the synthesiser finds, and files that are none."""

import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from tinysoundfont._tinysoundfont import SoundFont

from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_kit.licences import USES, licences_of, rule_of
from luthier_rendering.backends.base import BackendConfig, BackendError
from luthier_rendering.backends.soundfont import SoundFontBackend, SoundFontFile, open_backend, packaged_soundfont
from luthier_rendering.backends.soundfont_file import Preset, read_presets
from luthier_rendering.midi import load_song
from luthier_rendering.performance import performance

from .midi_making import control, midi_bytes, note, notes, program
from .soundfont_making import Tone, soundfont_bytes

# of Debian's package musescore-general-soundfont-small
MUSESCORE = Path(os.environ.get("LUTHIER_TEST_SF3", "/usr/share/sounds/sf3/MuseScore_General_Lite.sf3"))
RATE = 44_100
TONES = [Tone(0, 4, "Plain", 440), Tone(8, 4, "Varied", 660), Tone(128, 0, "Kit", 220), Tone(128, 8, "Room", 330)]


@pytest.fixture
def tones(tmp_path: Path) -> SoundFontBackend:
    (tmp_path / "tones.sf2").write_bytes(soundfont_bytes(TONES))
    return SoundFontBackend(SoundFontFile(tmp_path / "tones.sf2"), [])


def heard_hz(font: SoundFontBackend, data: bytes, part: int = 0) -> float:
    """The strongest frequency of a part."""
    samples = font.render(performance(load_song(data), part), 2 * RATE, random.Random(1)).samples
    stretch = samples[2000:12_000].mean(axis=1)
    spectrum = np.abs(np.fft.rfft(stretch * np.hanning(stretch.size), 8 * RATE))
    return float(spectrum.argmax() / 8)


def musescore() -> Path:
    if not MUSESCORE.exists():
        pytest.skip("no musescore-general-soundfont-small, which has an .sf3")
    return MUSESCORE


@pytest.mark.parametrize("which", ["packaged", "musescore"])
def test_the_index_has_what_the_synthesiser_finds(which: str) -> None:
    path = packaged_soundfont() if which == "packaged" else musescore()
    font = SoundFont(path.read_bytes())
    everywhere = [Preset(bank, program) for bank in range(129) for program in range(128)]
    found = {one: font.get_preset_name(*one) for one in everywhere if font.get_preset_index(*one) >= 0}
    assert {one: name[:19].strip() for one, name in read_presets(path).items()} == found  # it cuts names


def test_a_variation_is_played_where_the_font_has_it(tones: SoundFontBackend) -> None:
    asked = [control(0, 8), program(4), *note(69, 0, 2)]
    assert heard_hz(tones, midi_bytes(asked)) == pytest.approx(660, rel=0.01)
    assert heard_hz(tones, midi_bytes(asked[1:])) == pytest.approx(440, rel=0.01)


@pytest.mark.parametrize(("bank", "number"), [(8, 24), (8, 14), (1, 120), (3, 127)])
def test_a_variation_that_is_another_instrument_is_not_played(tmp_path: Path, bank: int, number: int) -> None:
    path = tmp_path / "gs.sf2"
    path.write_bytes(soundfont_bytes([Tone(0, number, "Named", 220), Tone(bank, number, "Another", 440)]))
    played = performance(load_song(midi_bytes([control(0, bank), program(number), *note(69, 0, 2)])), 0)
    assert played.bank == bank
    assert SoundFontFile(path).preset(played) == Preset(0, number)


def test_a_variation_that_the_font_lacks_is_its_program(tones: SoundFontBackend) -> None:
    data = midi_bytes([control(0, 16), program(4), *note(69, 0, 2)])
    assert heard_hz(tones, data) == pytest.approx(440, rel=0.01)


@pytest.mark.parametrize(("kit", "hz"), [(0, 220), (8, 330), (40, 220)])
def test_drum_kits_go_by_program_and_an_absent_one_is_the_standard_kit(
    tones: SoundFontBackend, kit: int, hz: float
) -> None:
    data = midi_bytes([program(kit, channel=9), *note(69, 0, 2, channel=9)])
    assert heard_hz(tones, data) == pytest.approx(hz, rel=0.01)


def test_drums_are_no_piano_in_a_font_without_kits(tmp_path: Path) -> None:
    (tmp_path / "pianos.sf2").write_bytes(soundfont_bytes([TONES[0], Tone(0, 0, "Piano")]))
    font = SoundFontBackend(SoundFontFile(tmp_path / "pianos.sf2"), [])
    drums = performance(load_song(midi_bytes(notes([36], channel=9))), 0)
    with pytest.raises(BackendError, match="no preset for Drums"):
        font.render(drums, RATE, random.Random(1))
    (said,) = font.faults()
    assert "Drums" not in said
    assert "Bright Acoustic Piano" in said
    assert said.endswith("more")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "ends within a header"),
        (lambda data: b"RIFX" + data[4:], "no RIFF file of the type sfbk"),
        (lambda data: data[:8] + b"WAVE" + data[12:], "no RIFF file of the type sfbk"),
        (lambda data: data[:-100], "ends after"),
        (lambda data: data.replace(b"pdta", b"pdtb"), "no list of presets"),
        (lambda data: data.replace(b"phdr", b"phdq"), "no list of presets"),
        (lambda data: data.replace(b"phdr" + struct.pack("<I", 190), b"phdr" + struct.pack("<I", 191)), "191 bytes"),
    ],
)
def test_what_is_no_soundfont_is_said_before_anything_plays(damage: object, said: str, tmp_path: Path) -> None:
    data = soundfont_bytes(TONES)
    assert callable(damage)
    (tmp_path / "broken.sf2").write_bytes(damage(data))
    with pytest.raises(BackendError, match=f"broken.sf2 cannot be loaded: .*{said}"):
        open_backend(BackendConfig(soundfont=str(tmp_path / "broken.sf2")))


def test_a_compressed_soundfont_plays_its_variations_and_kits() -> None:
    """MuseScore's, whose samples are Vorbis: key 69 is 440 Hz with bank 8, too, and kits differ."""
    font = SoundFontBackend(SoundFontFile(musescore()), [])
    grand, mellow = (
        performance(load_song(midi_bytes([control(0, bank), program(0), *note(69, 0, 2)])), 0) for bank in (0, 8)
    )
    played = [font.render(one, RATE, random.Random(1)) for one in (grand, mellow)]
    assert [one.sound.preset for one in played] == ["Grand Piano", "Mellow Grand Piano"]
    assert not np.array_equal(played[0].samples, played[1].samples)
    for bank in (0, 8):
        data = midi_bytes([control(0, bank), program(0), *note(69, 0, 2)])
        assert heard_hz(font, data) == pytest.approx(440, rel=0.01)
    kicks = [
        font.render(performance(load_song(midi_bytes([program(kit, channel=9), *note(36, channel=9)])), 0), RATE,
                    random.Random(1))
        for kit in (0, 24)
    ]  # fmt: skip
    assert [one.sound.preset for one in kicks] == ["Standard", "Electronic"]
    assert not np.array_equal(kicks[0].samples, kicks[1].samples)


def test_the_licence_of_a_soundfont_is_its_owners_word(tmp_path: Path) -> None:
    path = tmp_path / "mine.sf2"
    path.write_bytes(soundfont_bytes(TONES))

    stated = open_backend(BackendConfig(soundfont=str(path), soundfont_licence="CC0-1.0"))
    unstated = open_backend(BackendConfig(soundfont=str(path)))

    assert stated.licences() == ["mine.sf2 SoundFont: CC0-1.0"]
    assert unstated.licences() == ["unstated: mine.sf2 SoundFont"]


def test_the_licence_of_musescore_general_is_known_and_allows_every_use() -> None:
    [licence] = open_backend(BackendConfig(soundfont=str(musescore()))).licences()

    rule = rule_of(licence)
    assert licence == "MuseScore_General_Lite.sf3 SoundFont: MIT"
    assert rule
    assert all(rule.allows(use) for use in USES.values())


def test_a_soundfont_whose_licence_nobody_states_counts_as_unknown() -> None:
    assert licences_of(DatasetRow(licences=["Apache-2.0", "unstated: mine.sf2 SoundFont"])) == ["Apache-2.0", "unknown"]

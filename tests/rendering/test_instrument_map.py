"""The instrument map as people write it: what it means, and every fault with its line."""

import random
from collections import Counter

import numpy as np
import pytest

from luthier_music.instruments import instrument
from luthier_rendering.backends.base import BackendError
from luthier_rendering.backends.instrument_map import DEFAULT_MAP, FontChoice, PluginChoice, Range, read_map
from luthier_rendering.backends.soundfont_file import Preset

WHOLE = """
soundfonts:
  mono: {path: musescore.sf3, licence: MIT}
  stored: {artifact: soundfonts/%s.sf2}
effects:
  Guitar:
    - {reverb: {room_size: {uniform: [0.1, 0.5]}}}
    - {distortion: {drive_db: 6}, probability: 0.3}
room: {reverb: {wet_level: {uniform: [0.02, 0.12]}}}
humanise: {timing_ms: 8, velocity: 6}
instruments:
  - for: [Guitar, Drums]
    candidates: [{soundfont: mono}]
  - for: [24, Violin]
    candidates:
      - {vst3: mda-vst3.vst3, plugin: mda Piano, preset: warm.vstpreset, weight: 2, effects: [],
         parameters: {muffling_filter: {log: [0.3, 0.9]}, polyphony: {choice: [0, 0.5]}, stereo_width: 0.5}}
      - {soundfont: packaged, preset: {bank: 8, program: 0}}
""" % ("a" * 64)


def faults(text: str) -> list[str]:
    with pytest.raises(BackendError) as refused:
        read_map(text)
    first, *lines = str(refused.value).splitlines()
    assert first == "the instrument map:"
    return lines


def with_candidate(candidate: str) -> str:
    return f"instruments:\n  - for: [0]\n    candidates:\n      - {candidate}\n"


def test_a_map_says_who_plays_what() -> None:
    found = read_map(WHOLE)
    plugin, font = found.entries[1].candidates
    assert isinstance(plugin.instrument, PluginChoice)
    assert (plugin.instrument.bundle, plugin.instrument.name) == ("mda-vst3.vst3", "mda Piano")
    assert plugin.instrument.parameters == {
        "muffling_filter": Range("log", (0.3, 0.9)),
        "polyphony": Range("choice", (0.0, 0.5)),
        "stereo_width": Range("fixed", (0.5,)),
    }
    assert (plugin.weight, font.weight) == (2.0, 1.0)
    assert font.instrument == FontChoice("packaged", Preset(8, 0))
    assert found.fonts["mono"].licence == "MIT"
    assert (found.humanise.timing_ms, found.humanise.velocity) == (8.0, 6.0)


def test_a_program_comes_before_a_family_and_the_first_entry_before_later_ones() -> None:
    found = read_map(WHOLE)
    chosen = [found.entry(instrument(program)) for program in (24, 25, 40, 41)]
    assert chosen == [1, 0, 1, None]
    assert found.entry(instrument(24, is_drum=True)) == 0


def test_effects_are_the_candidates_own_else_the_familys_in_the_order_of_effects() -> None:
    found = read_map(WHOLE)
    own, familys = found.entries[1].candidates[0], found.entries[0].candidates[0]
    assert found.effects_of(instrument(24), own) == ()
    chain = found.effects_of(instrument(25), familys)
    assert [(one.name, one.probability) for one in chain] == [("distortion", 0.3), ("reverb", 1.0)]
    assert found.effects_of(instrument(40), found.entries[1].candidates[1]) == ()


def test_the_packaged_map_names_plugins_only() -> None:
    found = read_map(DEFAULT_MAP.read_text())
    chosen = (one.instrument for entry in found.entries for one in entry.candidates)
    plugins = {one.name for one in chosen if isinstance(one, PluginChoice)}
    assert plugins == {"mda Piano", "mda EPiano", "mda DX10", "mda JX10", "Nekobi.vst3", "Kars.vst3"}
    assert (found.effects, found.room, bool(found.humanise)) == ({}, None, False)


def test_a_range_is_drawn_as_its_name_says() -> None:
    draw = random.Random(3)
    uniform = [Range("uniform", (0.2, 0.6)).draw(draw) for _ in range(4000)]
    logs = [Range("log", (0.01, 1.0)).draw(draw) for _ in range(4000)]
    choices = Counter(Range("choice", (0.0, 0.5, 1.0)).draw(draw) for _ in range(3000))
    assert 0.2 <= min(uniform) < 0.21 < 0.59 < max(uniform) <= 0.6
    assert np.mean(uniform) == pytest.approx(0.4, abs=0.01)
    assert np.median(logs) == pytest.approx(0.1, rel=0.1)
    assert 0.01 <= min(logs) <= max(logs) <= 1.0
    assert min(choices.values()) > 900
    assert Range("fixed", (0.7,)).draw(draw) == 0.7


def test_an_effect_comes_as_often_as_its_probability_says() -> None:
    (distortion, _) = read_map(WHOLE).effects["Guitar"]
    draw = random.Random(4)
    drawn = [distortion.draw(draw) for _ in range(2000)]
    assert sum(one is not None for one in drawn) / 2000 == pytest.approx(0.3, abs=0.03)
    assert all(dict(one.values) == {"drive_db": 6.0} for one in drawn if one)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["line 1: the file: is empty"]),
        (
            "just words",
            ["line 1: the file: must be a mapping of soundfonts, effects, room, humanise, instruments, got"],
        ),
        ("instruments: 5", ["line 1: instruments: must be a list of entries, got '5'"]),
        ("room:\n  reverb: {}\n", ["line 1: the file: instruments is missing"]),
        ("instruments: []", ["line 1: instruments: must be a list of entries, got an empty list"]),
        ("instruments: [{for: [0]}]", ["line 1: instruments[0]: candidates is missing"]),
        ("a: 1\na: 2", ["line 2: the file: the name 'a' stands twice"]),
        ("a: [1", ["is not YAML"]),
        ("a: &x [1]\nb: *x", ["line 2: the file: aliases (*) are not read"]),
        ("a: !!python/object:os.system x", ["line 1: the file: tags (!) are not read"]),
        ("a: 1\n---\nb: 2", ["line 3: the file: must be one document"]),
        ("[" * 17 + "]" * 17, ["must nest at most 16 deep"]),
        ("[" + "0," * 100_000 + "0]", ["must hold at most 100000 values"]),
        (" " * ((1 << 20) + 1), ["line 1: the file: must be at most 1048576 bytes"]),
        ("a: \udce9", ["line 1: the file: must be UTF-8"]),
        ("{[1]: 2}", ["a name must be a text, got a list"]),
    ],
)
def test_what_is_no_map_is_refused(text: str, said: list[str]) -> None:
    found = faults(text)
    for one in said:
        assert any(one in fault for fault in found), found


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ("{soundfont: packaged, weight: 0}", "weight: must be more than 0"),
        ("{soundfont: packaged, weight: -1}", "weight: must be a number between 0 and 1000, got '-1'"),
        ("{soundfont: packaged, weight: '2'}", "weight: must be a number between 0 and 1000, got '2'"),
        ("{soundfont: packaged, weight: .nan}", "weight: must be a number between 0 and 1000, got '.nan'"),
        ("{soundfont: nowhere}", "soundfont: must be one of packaged, default, got 'nowhere'"),
        ("{soundfont: packaged, vst3: a.vst3}", "must have vst3 or soundfont, one of them"),
        ("{weight: 2}", "must have vst3 or soundfont, one of them"),
        ("{soundfont: packaged, colour: red}", "colour: is not known: it must be one of vst3, plugin, soundfont"),
        ("{soundfont: packaged, parameters: {a: 1}}", "parameters: is for plugins"),
        ("{soundfont: packaged, preset: {bank: 129, program: 0}}", "preset.bank: must be a whole number between 0 and"),
        ("{soundfont: packaged, preset: {bank: 0}}", "preset: program is missing"),
        ("{vst3: ../evil.vst3}", "vst3: must name a bundle inside LUTHIER_VST3_PATH"),
        ("{vst3: a.vst3, preset: /etc/passwd}", "preset: must name a .vstpreset file inside LUTHIER_VST3_PATH"),
        ("{vst3: a.vst3, plugin: [x]}", "plugin: must be the name of a plugin in the bundle, got a list"),
        ("{vst3: a.vst3, parameters: {x: 2}}", "parameters.x: must be a number between 0 and 1, got '2'"),
        ("{vst3: a.vst3, parameters: {x: {uniform: [0.5, 0.2]}}}", "x.uniform: must be two numbers, the lower"),
        ("{vst3: a.vst3, parameters: {x: {uniform: [0.5]}}}", "x.uniform: must be two numbers, the lower"),
        ("{vst3: a.vst3, parameters: {x: {log: [0, 1]}}}", "x.log: must be above 0"),
        ("{vst3: a.vst3, parameters: {x: {choice: []}}}", "x.choice: must be a list of numbers, got an empty list"),
        ("{vst3: a.vst3, parameters: {x: {gauss: [0, 1]}}}", "x.gauss: is not known"),
        ("{soundfont: packaged, effects: [{fuzz: {}}]}", "effects[0].fuzz: is not known: it must be one of distortion"),
        (
            "{soundfont: packaged, effects: [{distortion: {drive_db: {uniform: [0, 60]}}}]}",
            "drive_db.uniform[1]: must be a number between 0 and 40, got '60'",
        ),
        ("{soundfont: packaged, effects: [{reverb: {}, probability: 2}]}", "probability: must be a number between 0"),
        ("{soundfont: packaged, effects: [{reverb: {}, delay: {}}]}", "effects[0]: must be one effect"),
    ],
)  # fmt: skip
def test_a_fault_says_its_line_where_it_stands_and_what_must_be(candidate: str, said: str) -> None:
    (fault,) = faults(with_candidate(candidate))
    assert fault.startswith("line 4: instruments[0].candidates[0]")
    assert said in fault


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("128", "got '128'"), ("1.5", "got '1.5'"), ("'24'", "got '24'"), ("Kazoo", "got 'Kazoo'"), ("[1]", "a list"),
    ],
)  # fmt: skip
def test_what_names_no_instrument_is_refused(item: str, said: str) -> None:
    (fault,) = faults(f"instruments:\n  - for: [0, {item}]\n    candidates: [{{soundfont: packaged}}]")
    assert fault.startswith("line 2: instruments[0].for[1]: must be a program 0..127, its General MIDI name, a family")
    assert said in fault


@pytest.mark.parametrize(
    ("font", "said"),
    [
        ("packaged: {path: a.sf2}", "soundfonts.packaged: a name has letters"),
        ("x: {path: ../a.sf2}", "soundfonts.x.path: must name an .sf2 or .sf3 file inside LUTHIER_SOUNDFONT_PATH"),
        ("x: {}", "soundfonts.x: must have path or artifact, one of them"),
        ("x: {artifact: soundfonts/abc.sf2}", "soundfonts.x.artifact: must be a key such as"),
    ],
)
def test_a_soundfont_is_a_file_of_the_folder_or_an_artifact(font: str, said: str) -> None:
    (fault,) = faults(f"soundfonts: {{{font}}}\n{with_candidate('{soundfont: packaged}')}")
    assert said in fault


def test_all_faults_are_told_at_once() -> None:
    text = "humanise: {timing_ms: 21}\nroom: {delay: {}}\n" + with_candidate("{vst3: a, weight: 2000}")
    assert [fault.split(": ")[:2] for fault in faults(text)] == [
        ["line 2", "room.delay"],
        ["line 1", "humanise.timing_ms"],
        ["line 6", "instruments[0].candidates[0].weight"],
        ["line 6", "instruments[0].candidates[0].vst3"],
    ]


def test_no_more_faults_are_told_than_people_read() -> None:
    lines = faults("instruments:\n" + "  - {for: [200], candidates: [{soundfont: packaged}]}\n" * 100)
    assert len(lines) == 31
    assert lines[-1] == "and 70 more"


def test_the_json_form_of_before_is_refused_with_how_it_is_written_now() -> None:
    older = '{"instruments": [{"bundle": "mda-vst3.vst3", "plugin": "mda Piano", "programs": [0, 1]}]}'
    (fault,) = faults(older)
    assert fault.startswith("line 1: instruments[0]: is the form of before")
    assert "{for: [0, Organ], candidates: [{vst3: X.vst3, plugin: P}]}" in fault

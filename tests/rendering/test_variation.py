"""Songs that are varied before they are rendered: what moves, how far, on which instruments, and what it is told by."""

import io
from collections.abc import Sequence
from pathlib import Path

import mido
import numpy as np
import pytest

from luthier.common.v1.common_pb2 import Variation
from luthier_music.instruments import Instrument, instrument
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.backends.mapped import open_backend as open_map
from luthier_rendering.backends.soundfont import SoundFontBackend
from luthier_rendering.instrument_ranges import RANGES, alike
from luthier_rendering.midi import Song, load_song
from luthier_rendering.performance import performance
from luthier_rendering.smf import MidiLimits
from luthier_rendering.timeline import timeline
from luthier_rendering.variation import OtherInstruments, varied
from tests.support.services import shared

from .midi_making import control, meter, midi_bytes, note, notes, program, tempo

FLUTE, STRINGS, BASS = 73, 48, 33
TUNE = [program(FLUTE), *notes([72, 74, 76, 77])]
DRUMS = notes([36, 38, 42], channel=9)


def song_of(*tracks: Sequence[mido.Message | mido.MetaMessage]) -> Song:
    return load_song(midi_bytes(*tracks))


def vary(song: Song, others: OtherInstruments | None = None, **asked: object) -> tuple[Song, Variation]:
    return varied(song, Variation(number=1, **asked), MidiLimits(), others)  # type: ignore[arg-type]


def on(program: int, keys: Sequence[int], channel: int = 0) -> list[mido.Message]:
    changed = mido.Message("program_change", program=program, channel=channel)
    return [changed, *notes(keys, channel=channel)]


def each_its_own(who: Instrument) -> frozenset[str]:
    """A back end that has a sound for everything."""
    return frozenset([f"{who.program} {who.is_drum}"])


# --- transposition


def test_pitched_parts_move_and_drums_do_not() -> None:
    song, took = vary(song_of(TUNE, DRUMS), transpose_semitones=4)
    assert took.transpose_semitones == 4
    assert song.notes.pitch[~song.is_drum].tolist() == [76, 78, 80, 81]
    assert song.notes.pitch[song.is_drum].tolist() == [36, 38, 42]


@pytest.mark.parametrize(("wanted", "granted"), [(12, 12), (3, 3), (-12, -12), (-13 + 1, -12), (0, 0)])
def test_a_part_within_its_range_moves_as_asked(wanted: int, granted: int) -> None:
    assert vary(song_of(TUNE), transpose_semitones=wanted)[1].transpose_semitones == granted


def test_a_part_that_would_leave_its_range_moves_an_octave_the_other_way() -> None:
    low, flute = on(BASS, [24, 28, 31]), on(FLUTE, [72, 76], channel=1)
    song, took = vary(song_of(low, flute), transpose_semitones=-4)
    assert (took.transpose_semitones, dict(took.octaves)) == (-4, {BASS: 1})
    assert song.notes.pitch[song.notes.part == 0].tolist() == [32, 36, 39]
    assert song.notes.pitch[song.notes.part == 1].tolist() == [68, 72]


def test_where_an_octave_does_not_help_the_song_moves_less_far() -> None:
    wide = on(BASS, [25, 66])  # 23 to 67
    song, took = vary(song_of(wide), transpose_semitones=-5)
    assert (took.transpose_semitones, dict(took.octaves)) == (-2, {})
    assert song.notes.pitch.tolist() == [23, 64]
    assert vary(song_of(wide), transpose_semitones=6)[1].transpose_semitones == 1


def test_what_the_file_has_beyond_a_range_bounds_it_no_further() -> None:
    """An electric bass at 20 is below a fifth string: it may move up, and not further down."""
    song = song_of(on(BASS, [20, 60]))
    assert vary(song, transpose_semitones=-1)[1].transpose_semitones == 0
    assert vary(song, transpose_semitones=5)[1].transpose_semitones == 5


def test_keys_beyond_those_of_midi_are_never_made() -> None:
    song, took = vary(song_of(on(120, [0, 127])), transpose_semitones=7)
    assert took.transpose_semitones == 0
    assert song.notes.pitch.tolist() == [0, 127]


def test_pitch_classes_and_the_claimed_key_move_with_the_notes() -> None:
    signature = mido.MetaMessage("key_signature", key="Bb", time=0)
    song, _ = vary(song_of([signature, *on(0, [70, 74, 77])]), transpose_semitones=3)
    assert timeline(song).claimed_key == "C# major"
    assert timeline(song).bars[0].pitch_class_weights[1] > 0  # Bb is C# now
    assert timeline(song).bars[0].pitch_class_weights[10] == 0


def test_what_was_granted_is_granted_again() -> None:
    song = song_of(on(BASS, [25, 66]), DRUMS)
    first, took = vary(song, transpose_semitones=-5, tempo_factor=1.1)
    second, again = varied(song, took, MidiLimits())
    assert again == took
    assert second.notes.pitch.tolist() == first.notes.pitch.tolist()


# --- tempo


def test_the_whole_tempo_map_is_scaled() -> None:
    song = song_of([tempo(120), tempo(60, 2), *notes([60] * 4)])
    other = timeline(vary(song, tempo_factor=1.25)[0])
    assert [change.tempo_bpm for change in other.tempos] == pytest.approx([150, 75])
    assert [change.start_s for change in other.tempos] == pytest.approx([0, 0.8])
    assert other.duration_s == pytest.approx(timeline(song).duration_s / 1.25 + 3 - 3 / 1.25)


@pytest.mark.parametrize(
    ("bpm", "limits", "wanted", "granted"),
    [
        (900, MidiLimits(), 1.25, 1000 / 900),  # BPM
        (1000, MidiLimits(), 2.0, 1.0),
        (120, MidiLimits(duration_s=4.0), 0.5, 0.5),  # 2 s, and 4
        (120, MidiLimits(duration_s=2.5), 0.5, 0.8),
        (120, MidiLimits(stem_s=2.0), 0.5, 1.0),
    ],
)
def test_a_tempo_that_would_break_a_bound_is_the_next_one_that_does_not(
    bpm: float, limits: MidiLimits, wanted: float, granted: float
) -> None:
    song = load_song(midi_bytes([tempo(bpm), *notes([60] * 4)]), limits)
    other, took = varied(song, Variation(number=1, tempo_factor=wanted), limits)
    assert took.tempo_factor == pytest.approx(granted, rel=1e-4)
    assert other.music_end_s <= limits.duration_s
    assert other.tempo.tempos_bpm.max() <= 1000


# --- other instruments


def test_each_program_is_played_by_another_one_of_its_family_that_the_song_has_not() -> None:
    song = song_of(on(24, [50]), on(25, [50], channel=1), on(STRINGS, [60], channel=2), DRUMS)
    for seed in range(20):
        other, took = vary(song, OtherInstruments(each_its_own, seed))
        played = [part.instrument for part in other.parts]
        assert [who.family for who in played] == ["Guitar", "Guitar", "Ensemble", "Drums"]
        assert len({who.name for who in played} - {part.instrument.name for part in song.parts}) == 3
        assert took.programs == {
            was.instrument.program: now.program for was, now in zip(song.parts[:3], played, strict=False)
        }
        assert took.kits[0] in alike(0, is_drum=True)


def test_all_members_of_a_family_are_drawn() -> None:
    song = song_of(on(56, [60, RANGES[58].high + 1]))  # a trumpet, above a tuba
    drawn = {vary(song, OtherInstruments(each_its_own, seed))[1].programs[56] for seed in range(200)}
    assert drawn == {57, 59, 60, 61, 62, 63}


def test_an_instrument_that_could_not_play_the_notes_is_not_drawn() -> None:
    song = song_of(on(40, [96, 100]))  # violin, above a viola
    drawn = {vary(song, OtherInstruments(each_its_own, seed))[1].programs.get(40) for seed in range(50)}
    assert drawn == {44}


def test_ranges_are_looked_at_after_the_song_has_moved() -> None:
    song = song_of(on(71, [56, 60]))  # clarinet, 50 to 96; an oboe begins at 58
    seeds = [OtherInstruments(each_its_own, seed) for seed in range(60)]
    assert 68 not in {vary(song, one)[1].programs[71] for one in seeds}
    assert 68 in {vary(song, one, transpose_semitones=2)[1].programs[71] for one in seeds}


def test_what_is_the_same_sound_or_has_none_is_not_drawn() -> None:
    def sounds(who: Instrument) -> frozenset[str]:
        return {48: frozenset("a"), 49: frozenset("a"), 50: frozenset("b")}.get(who.program, frozenset())

    song = song_of(on(48, [60]))
    assert {vary(song, OtherInstruments(sounds, seed))[1].programs.get(48) for seed in range(30)} == {50}


def test_a_program_without_another_one_stays() -> None:
    song = song_of(on(47, [40]), on(55, [60], channel=1), on(127, [60], channel=2))
    other, took = vary(song, OtherInstruments(each_its_own, 1))
    assert other.parts == song.parts
    assert not took.programs


def test_programs_that_are_named_are_played_and_the_others_drawn() -> None:
    song = song_of(on(0, [60]), on(24, [60], channel=1))
    took = vary(song, OtherInstruments(each_its_own, 3), programs={0: 6, 99: 1})[1]
    assert took.programs[0] == 6
    assert set(took.programs) == {0, 24}


def test_a_variation_of_a_bank_is_left_with_its_instrument() -> None:
    bank = control(0, 8)
    song = song_of([bank, *on(24, [60])])
    assert song.parts[0].bank == 8
    assert vary(song, programs={24: 25})[0].parts[0].bank == 0
    assert vary(song, programs={25: 24})[0].parts[0].bank == 8


def test_stand_ins_are_of_the_same_family_and_it_is_mutual() -> None:
    for number in range(128):
        for other in alike(number):
            assert instrument(other).family == instrument(number).family
            assert number in alike(other) or number == 86


def test_the_packaged_soundfont_has_other_sounds_and_kits(soundfont: SoundFontBackend) -> None:
    song = song_of(on(0, [60]), DRUMS)
    took = vary(song, OtherInstruments(soundfont.sounds_of, 5))[1]
    assert took.programs[0] in alike(0)
    assert (128, took.kits[0]) in soundfont.font.presets


@pytest.mark.parametrize(("kit", "drawn"), [(0, True), (30, True), (48, False), (56, False)])
def test_a_kit_with_other_strokes_on_its_keys_stays(kit: int, drawn: bool) -> None:
    """Kit 30 is a variation of the electronic one; 48 has timpani where others have toms, 56 holds no drums."""
    song = song_of([mido.Message("program_change", program=kit, channel=9), *DRUMS])
    assert (kit in vary(song, OtherInstruments(each_its_own, 2))[1].kits) == drawn


def test_a_kit_that_the_font_has_not_is_no_other_kit(soundfont: SoundFontBackend) -> None:
    assert soundfont.sounds_of(instrument(59, is_drum=True)) == soundfont.sounds_of(instrument(0, is_drum=True))


def test_programs_that_one_plugin_plays_are_one_sound() -> None:
    plugins = shared("vst3")
    text = """instruments:
  - for: [Piano]
    candidates: [{vst3: mda-vst3.vst3, plugin: mda Piano}]
  - for: [Bass]
    candidates: [{soundfont: default, preset: {bank: 0, program: 33}}]
"""
    backend = open_map(BackendConfig(vst3_path=str(plugins), instrument_map=text))
    assert backend.sounds_of(instrument(0)) == backend.sounds_of(instrument(5))
    assert backend.sounds_of(instrument(32)) == backend.sounds_of(instrument(39))
    assert backend.sounds_of(instrument(48)) != backend.sounds_of(instrument(49))
    took = vary(song_of(on(0, [60])), OtherInstruments(backend.sounds_of, 1))[1]
    assert not took.programs


# --- against files that mido has varied


def varied_by_mido(path: Path, semitones: int, factor: float, programs: dict[int, int]) -> bytes:
    """The file with its notes off channel 10, its tempos and its programs changed."""
    file = mido.MidiFile(path, clip=True)
    for track in file.tracks:
        for message in track:
            pitched = not message.is_meta and getattr(message, "channel", 9) != 9
            if message.type in ("note_on", "note_off", "polytouch") and pitched:
                message.note += semitones
            elif message.type == "program_change" and pitched:
                message.program = programs.get(message.program, message.program)
            elif message.type == "set_tempo":
                message.tempo = round(message.tempo / factor)
    if not any(message.type == "set_tempo" for track in file.tracks for message in track):
        file.tracks[0].insert(0, mido.MetaMessage("set_tempo", tempo=round(500_000 / factor)))
    data = io.BytesIO()
    file.save(file=data)
    return data.getvalue()


@pytest.mark.parametrize("number", range(1, 82, 6))
def test_a_real_song_is_varied_as_mido_varies_its_file(number: int) -> None:
    path = sorted(shared("corpus", "clean_midi").rglob("*.mid"))[number]
    song = load_song(path.read_bytes())
    drums = {part.player.part for part in song.parts if part.instrument.is_drum}
    pitched = {part.player.part for part in song.parts if not part.instrument.is_drum}
    if drums - {9} or 9 in pitched or any(part.bank for part in song.parts):
        pytest.skip("drums are not channel 10 alone, or banks choose other sounds")
    others = OtherInstruments(each_its_own, number)
    tried = (vary(song, others, transpose_semitones=by, tempo_factor=0.8) for by in (3, -3, 2, -2, 1, -1, 0))
    other, took = next(one for one in tried if not one[1].octaves)  # mido does not know which notes a program plays
    theirs = load_song(varied_by_mido(path, took.transpose_semitones, 0.8, dict(took.programs)))
    ours, expected = timeline(other), timeline(theirs)
    assert [(one.instrument, one.notes) for one in ours.instruments] == [
        (one.instrument, one.notes) for one in expected.instruments
    ]
    assert ours.duration_s == pytest.approx(expected.duration_s, rel=1e-5)
    assert len(ours.bars) == len(expected.bars)
    weights = [np.array([bar.pitch_class_weights for bar in one.bars]) for one in (ours, expected)]
    assert weights[0] == pytest.approx(weights[1], rel=1e-4, abs=1e-4)
    assert [bar.onsets_on_grid for bar in ours.bars] == [bar.onsets_on_grid for bar in expected.bars]


def test_a_varied_part_is_performed_at_its_new_keys_and_times() -> None:
    song, _ = vary(song_of([meter(3, 4), program(FLUTE), *note(72, 1)]), transpose_semitones=2, tempo_factor=2.0)
    played = performance(song, 0)
    assert [(message.seconds, message.first) for message in played.messages] == [(0.25, 74), (0.5, 74)]

"""What the messages of a channel mean, by the standards: GM 1 and 2, GS, XG, RP-015, and by the cases' names.

The files in `cases/` were written by hand, each for one rule; what is right stands in their names and here.
"""

import random
from pathlib import Path

import mido
import numpy as np
import pytest

from luthier.common.v1.common_pb2 import Timeline
from luthier_rendering.backends.soundfont import SoundFontBackend
from luthier_rendering.channels import Steering, amplitude
from luthier_rendering.controllers import SOSTENUTO, SUSTAIN
from luthier_rendering.midi import Song, load_song
from luthier_rendering.performance import performance
from luthier_rendering.smf import NOTE_OFF
from luthier_rendering.timeline import timeline

from .midi_making import TICKS, bend, control, midi_bytes, note, notes, program

CASES = Path(__file__).parent / "cases"
RATE = 44_100
GM_ON, GM2_ON = (0x7E, 0x7F, 9, 1), (0x7E, 0x7F, 9, 3)
GS_RESET = (0x41, 0x10, 0x42, 0x12, 0x40, 0, 0x7F, 0, 0x41)
XG_ON = (0x43, 0x10, 0x4C, 0, 0, 0x7E, 0)
DRUMS = "Drums"


def case(name: str) -> Song:
    (path,) = CASES.glob(f"{name}*.mid")
    return load_song(path.read_bytes())


def exclusive(*data: int, beat: float = 0.0) -> mido.Message:
    return mido.Message("sysex", data=data, time=round(beat * TICKS))


def heard(song: Song) -> dict[str, int]:
    """Notes of each instrument in the song's facts."""
    found: Timeline = timeline(song)
    return {one.instrument: one.notes for one in found.instruments}


def played(soundfont: SoundFontBackend, song: Song, seconds: float, part: int = 0) -> np.ndarray:
    return soundfont.render(performance(song, part), round(seconds * RATE), random.Random(1)).samples


def level_db(samples: np.ndarray, start_s: float, end_s: float) -> float:
    stretch = samples[round(start_s * RATE) : round(end_s * RATE)].astype(np.float64)
    return float(10 * np.log10(np.mean(stretch**2) + 1e-20))


def pitch_hz(samples: np.ndarray, start_s: float, end_s: float, near_hz: float) -> float:
    stretch = samples[round(start_s * RATE) : round(end_s * RATE)].mean(axis=1)
    spectrum = np.abs(np.fft.rfft(stretch * np.hanning(stretch.size), 8 * RATE))
    hz = np.fft.rfftfreq(8 * RATE, 1 / RATE)
    band = (hz > near_hz * 0.8) & (hz < near_hz * 1.25)
    return float(hz[band][spectrum[band].argmax()])


def with_controls(*moves: mido.Message, tail: list[mido.Message] | None = None) -> Song:
    """An organ's note of eight beats, and what moves its channel."""
    return load_song(midi_bytes([program(19), *moves, *note(60, 0, 8), *(tail or [])]))


# Drums


def test_drums_whose_notes_end_at_once_sound() -> None:
    assert heard(case("01"))[DRUMS] == 64


def test_drums_that_nothing_ends_sound() -> None:
    strokes = [mido.Message("note_on", note=38, channel=9, time=beat * TICKS) for beat in range(4)]
    song = load_song(midi_bytes(strokes))
    assert heard(song) == {DRUMS: 4}
    assert not song.faults["UNMATCHED_NOTES"]


def test_a_stroke_ends_with_the_next_on_its_key_and_after_8_s_at_the_latest() -> None:
    strokes = [event for beat in (0, 2, 120) for event in note(71, beat, channel=9)]
    ends = [one.seconds for one in performance(load_song(midi_bytes(strokes)), 0).messages if one.kind == NOTE_OFF]
    assert ends == [1.0, 9.0, 68.0]


def test_a_stroke_sounds_alike_whatever_its_note_off_does(soundfont: SoundFontBackend) -> None:
    short, long = (load_song(midi_bytes(note(49, 0, beats, channel=9) + note(36, 8, channel=9))) for beats in (0, 4))
    assert np.array_equal(played(soundfont, short, 5), played(soundfont, long, 5))


# Which sound: reset messages, banks, rhythm parts


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("02", {"Electric Bass (finger)": 64, DRUMS: 128}),
        ("03", {"String Ensemble 1": 24}),
        ("04", {"Electric Bass (finger)": 16}),
        ("05", {"Acoustic Grand Piano": 24}),
    ],
)
def test_resets_banks_and_channels_decide_what_is_drums(name: str, right: dict[str, int]) -> None:
    assert heard(case(name)) == right


@pytest.mark.parametrize(
    ("reset", "bank", "channel", "is_drum"),
    [
        (None, 120, 0, True),
        (None, 127, 0, True),
        (None, 0, 9, True),
        (GM_ON, 127, 0, False),
        (GM_ON, 0, 9, True),
        (GM2_ON, 120, 3, True),
        (GM2_ON, 121, 9, False),
        (GM2_ON, 127, 3, False),
        (GM2_ON, None, 9, True),
        (GS_RESET, 127, 3, False),
        (GS_RESET, 8, 9, True),
        (XG_ON, 127, 3, True),
        (XG_ON, 126, 3, True),
        (XG_ON, 126, 9, True),
        (XG_ON, 0, 9, False),
        (XG_ON, None, 9, True),
        (XG_ON, 64, 3, False),
    ],
)
def test_a_bank_means_what_the_reset_says(
    reset: tuple[int, ...] | None, bank: int | None, channel: int, is_drum: bool
) -> None:
    sent = [exclusive(*reset)] if reset else []
    sent += [control(0, bank, channel=channel)] if bank is not None else []
    song = load_song(midi_bytes([*sent, program(40, channel=channel), *notes([60], channel=channel)]))
    assert heard(song) == {DRUMS if is_drum else "Violin": 1}


@pytest.mark.parametrize(
    ("reset", "upper", "lower", "variation"),
    [
        (None, 8, None, 8),
        (None, None, 8, 0),
        (GS_RESET, 8, 2, 8),  # the lower bits choose the map of a sound module's generation
        (GS_RESET, 121, None, 0),
        (GM_ON, 8, None, 0),
        (GM2_ON, 121, 3, 3),
        (GM2_ON, 8, None, 0),
        (XG_ON, 0, 18, 18),
        (XG_ON, None, 18, 18),
        (XG_ON, 64, 1, 0),  # effects of sound, which General MIDI has no names for
    ],
)
def test_what_a_bank_varies_is_what_the_reset_says(
    reset: tuple[int, ...] | None, upper: int | None, lower: int | None, variation: int
) -> None:
    sent = [mido.Message("sysex", data=reset)] if reset else []
    sent += [control(number, value) for number, value in ((0, upper), (32, lower)) if value is not None]
    (part,) = load_song(midi_bytes([*sent, program(4), *notes([60])])).parts
    assert (part.instrument.program, part.instrument.is_drum, part.bank) == (4, False, variation)


def test_a_key_that_is_struck_again_with_another_variation_ends_the_note_that_the_pedal_held() -> None:
    pedal, again = control(64, 127), note(60, 4, 1)
    held = load_song(midi_bytes([program(0), pedal, *note(60, 0, 1), *again]))
    varied = load_song(midi_bytes([program(0), pedal, *note(60, 0, 1), control(0, 8, 3), program(0, 3), *again]))
    assert [sorted(song.notes.release_tick.tolist())[0] for song in (held, varied)] == [4 * TICKS] * 2


def test_another_variation_of_a_program_is_another_part() -> None:
    track = [control(0, 0), program(4), *note(60), control(0, 8, 2), program(4, 2), *note(60, 2)]
    assert [(part.instrument.program, part.bank) for part in load_song(midi_bytes(track)).parts] == [(4, 0), (4, 8)]


def test_the_last_reset_holds_and_takes_programs_back() -> None:
    track = [exclusive(*XG_ON), program(40), *notes([60]), exclusive(*GM_ON, beat=1), *note(60, 1)]
    assert heard(load_song(midi_bytes(track))) == {"Violin": 1, "Acoustic Grand Piano": 1}


@pytest.mark.parametrize(
    ("message", "channel", "is_drum"),
    [
        ((0x41, 0x10, 0x42, 0x12, 0x40, 0x11, 0x15, 1, 0), 0, True),
        ((0x41, 0x10, 0x42, 0x12, 0x40, 0x1A, 0x15, 2, 0), 10, True),
        ((0x41, 0x10, 0x42, 0x12, 0x40, 0x10, 0x15, 0, 0), 9, False),
        ((0x43, 0x10, 0x4C, 8, 3, 7, 2), 3, True),
        ((0x43, 0x10, 0x4C, 8, 9, 7, 0), 9, False),
    ],
)
def test_system_exclusive_makes_and_unmakes_rhythm_parts(message: tuple[int, ...], channel: int, is_drum: bool) -> None:
    reset = XG_ON if message[0] == 0x43 else GS_RESET
    track = [exclusive(*reset), exclusive(*message), program(0, channel=channel), *notes([38], channel=channel)]
    if reset == XG_ON:
        track.pop(2)  # XG's program change would choose the bank again
    assert heard(load_song(midi_bytes(track))) == {DRUMS if is_drum else "Acoustic Grand Piano": 1}


def test_a_reset_that_opens_a_tick_comes_before_other_tracks_at_it() -> None:
    song = load_song(midi_bytes([program(40), *notes([60])], [exclusive(*GS_RESET)]))
    assert heard(song) == {"Violin": 1}


# Reset all controllers (RP-015), all notes off, all sound off


def test_reset_all_controllers_leaves_volume_and_pan(soundfont: SoundFontBackend) -> None:
    samples = played(soundfont, case("06"), 2.2)
    before, after = (level_db(samples, *span) for span in ((0.3, 0.9), (1.3, 1.9)))
    assert after == pytest.approx(before, abs=0.5)
    assert level_db(samples[:, 0], 1.3, 1.9) > level_db(samples[:, 1], 1.3, 1.9) + 10


def test_reset_all_controllers_centres_the_bend(soundfont: SoundFontBackend) -> None:
    assert pitch_hz(played(soundfont, case("07"), 2), 0.3, 1.8, 440) == pytest.approx(440, rel=0.003)


def test_reset_all_controllers_resets_what_rp_015_lists_and_nothing_else() -> None:
    ranged = [control(101, 0), control(100, 0), control(6, 12)]
    moved = [control(n, v) for n, v in ((7, 50), (10, 20), (11, 30), (1, 99), (64, 127), (66, 127), (71, 9), (91, 77))]
    late = [bend(8191, 2), control(6, 3, beat=2)]  # the parameter number is null by now: the range stays
    steering = next(iter(with_controls(*ranged, *moved, bend(-8192), control(121, 0, 1), tail=late).steering.values()))
    assert steering.controls.number.tolist() == [10, 1, 71, 91, 1]
    assert steering.controls.value.tolist() == [20, 99, 9, 77, 0]
    assert steering.levels.left[-1] == pytest.approx(amplitude(50))
    assert steering.pitches.semitones.tolist() == [-12, 0, 12]
    assert steering.sustain.down.tolist() == [True, False]
    assert steering.sostenuto.down.tolist() == [True, False]


@pytest.mark.parametrize("number", [120, 123, 124, 125, 126, 127])
def test_mode_messages_end_notes(number: int) -> None:
    on = [mido.Message("note_on", note=60, time=beat * TICKS) for beat in (0, 2)]
    song = load_song(midi_bytes([*on, control(number, 0, 1), control(number, 0, 3)]))
    assert song.notes.end_tick.tolist() == [TICKS, 3 * TICKS]
    assert heard(case("08")) == {"Church Organ": 3}


def test_all_sound_off_ends_what_the_pedal_holds_and_all_notes_off_does_not() -> None:
    for number, end in ((123, 3.0), (120, 1.0)):
        song = load_song(midi_bytes([control(64, 127), *note(60, 0, 1), control(number, 0, 2), control(64, 0, 6)]))
        ends = [round(message.seconds, 3) for message in performance(song, 0).messages if message.kind == NOTE_OFF]
        assert ends == [end]


# A channel's state crosses the tracks


def test_a_pedal_in_another_track_holds_notes() -> None:
    ends = [round(one.seconds, 2) for one in performance(case("09"), 0).messages if one.kind == NOTE_OFF]
    assert ends[0] == 2.0


def test_a_bend_in_another_track_is_heard_and_moves_the_key(soundfont: SoundFontBackend) -> None:
    song = case("10")
    assert pitch_hz(played(soundfont, song, 1), 0.2, 0.9, 494) == pytest.approx(493.9, rel=0.003)
    (bar,) = timeline(song).bars
    assert [pitch for pitch, weight in enumerate(bar.pitch_class_weights) if weight] == [11]


@pytest.mark.parametrize("number", [7, 11, 8, 10, 1, SUSTAIN, SOSTENUTO, 71])
def test_every_controller_crosses_tracks_also_where_the_notes_track_has_the_same(number: int) -> None:
    own, other = control(number, 64), control(number, 100, beat=1)
    apart = load_song(midi_bytes([own, *note(60, 0, 4)], [other]))
    together = load_song(midi_bytes([own, other, *note(60, 0, 4)]))
    assert [everything(one) for one in apart.steering.values()] == [
        everything(one) for one in together.steering.values()
    ]


def everything(steering: Steering) -> list[list[list[float]]]:
    columns = steering.controls, steering.levels, steering.pitches, steering.sustain, steering.sostenuto
    return [[column.tolist() for column in one] for one in (*columns, (steering.silences,))]


@pytest.mark.parametrize("own", [0, 1])
def test_a_note_ends_where_its_note_off_stands_in_whatever_track(own: int) -> None:
    """Two notes whose ends are in another track of the channel, the second's in its own where `own` is 1."""
    (on, off), (second_on, second_off) = note(60, 0, 1), note(60, 2, 1)
    song = load_song(midi_bytes([on, second_on, *[second_off] * own], [off, *[second_off] * (1 - own)]))
    assert song.notes.start_tick.tolist() == [0, 2 * TICKS]
    assert song.notes.end_tick.tolist() == [TICKS, 3 * TICKS]
    assert not song.faults["UNMATCHED_NOTES"]


def test_a_note_off_in_another_channel_or_port_ends_nothing() -> None:
    on, off = note(60, 0, 1)
    port = mido.MetaMessage("midi_port", port=1, time=0)
    for other in ([off.copy(channel=1)], [port, off]):
        song = load_song(midi_bytes([on, *note(64, 0, 4)], other))
        assert song.notes.pitch.tolist() == [64]


def test_tracks_that_end_their_own_notes_keep_their_lengths_on_a_shared_channel() -> None:
    song = load_song(midi_bytes(note(60, 0, 4), note(60, 0, 1), [note(60, 0, 2)[1]]))
    assert sorted(song.notes.end_tick.tolist()) == [TICKS, 4 * TICKS]
    assert song.faults["UNMATCHED_NOTES"] == 1


# Parts that GS and XG move to other channels


def gs_channel(block: int, channel: int, beat: float = 0.0) -> mido.Message:
    """GS 40 1x 02: the channel that a part receives, 16 for none; block 0 is part 10, 10 is part 11."""
    return exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0x10 + block, 2, channel, 0, beat=beat)


def xg_channel(part: int, channel: int, beat: float = 0.0) -> mido.Message:
    """XG 08 nn 04, 127 for none."""
    return exclusive(0x43, 0x10, 0x4C, 8, part, 4, channel, beat=beat)


@pytest.mark.parametrize(("reset", "move"), [(GS_RESET, gs_channel(10, 0)), (XG_ON, xg_channel(10, 0))])
def test_two_parts_on_a_channel_play_its_notes_together(reset: tuple[int, ...], move: mido.Message) -> None:
    flute = control(0, 0, channel=10), program(73, channel=10)
    set_first = [exclusive(*reset), *flute, move]  # part 11 has its flute before it receives channel 1
    song = load_song(midi_bytes([*set_first, *notes([60, 62]), *notes([40], channel=10)]))
    assert heard(song) == {"Acoustic Grand Piano": 2, "Flute": 2}
    assert song.notes.pitch.tolist() == [60, 60, 62, 62]


@pytest.mark.parametrize(
    ("reset", "away", "back"),
    [(GS_RESET, gs_channel(1, 16), gs_channel(1, 0, 2)), (XG_ON, xg_channel(0, 127), xg_channel(0, 0, 2))],
)
def test_a_part_on_no_channel_plays_nothing_until_it_is_back(
    reset: tuple[int, ...], away: mido.Message, back: mido.Message
) -> None:
    for returned in (back, exclusive(*reset, beat=2)):
        song = load_song(midi_bytes([exclusive(*reset), away, returned, *notes([60, 62, 64, 65])]))
        assert song.notes.pitch.tolist() == [64, 65]


@pytest.mark.parametrize(
    ("message", "right"),
    [
        (gs_channel(0, 3), {DRUMS: 2, "Acoustic Grand Piano": 2}),
        (exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0x15, 0, 0, 40, 3, 0), {"Violin": 2, "Acoustic Grand Piano": 2}),
    ],
    ids=["the rhythm part", "part 5 with its tone"],
)
def test_a_part_takes_what_it_is_to_another_channel(message: mido.Message, right: dict[str, int]) -> None:
    assert heard(load_song(midi_bytes([exclusive(*GS_RESET), message, *notes([38, 40], channel=3)]))) == right


def test_a_note_that_is_held_while_its_part_is_moved_ends() -> None:
    song = load_song(midi_bytes([exclusive(*GS_RESET), *note(60, 0, 4), gs_channel(1, 2, 1), *note(62, 2, channel=2)]))
    assert [
        (end, pitch) for end, pitch in zip(song.notes.end_tick.tolist(), song.notes.pitch.tolist(), strict=True)
    ] == [
        (TICKS, 60),
        (3 * TICKS, 62),
        (3 * TICKS, 62),
    ]


def test_the_channels_of_a_reset_stated_once_more_change_nothing() -> None:
    stated = [gs_channel(block, 9 if block == 0 else block - (block < 10)) for block in range(16)]
    plain, said = (load_song(midi_bytes([exclusive(*GS_RESET), *some, *notes([60, 62])])) for some in ([], stated))
    assert timeline(plain) == timeline(said)


# What is heard


def test_a_muted_channel_is_not_named_and_the_song_says_so() -> None:
    song = case("11")
    assert heard(song) == {"Acoustic Grand Piano": 66}
    assert song.faults["SILENT_NOTES"] == 44


@pytest.mark.parametrize("mute", [control(7, 0), control(11, 0), exclusive(0x7F, 0x7F, 4, 1, 0, 0)])
def test_what_is_played_at_level_0_is_not_heard_and_what_swells_from_it_is(mute: mido.Message) -> None:
    back = exclusive(0x7F, 0x7F, 4, 1, 0, 127, beat=4) if mute.type == "sysex" else control(mute.control, 90, beat=4)
    song = load_song(midi_bytes([mute, *note(60, 0, 2), *note(64, 2, 4), back, *note(67, 8, 1)]))
    (piano,) = timeline(song).instruments
    assert [(span.start_s, span.end_s) for span in piano.spans] == [(2.0, 4.5)]
    assert piano.notes == 2


def test_a_level_that_holds_for_no_time_is_not_heard() -> None:
    song = load_song(midi_bytes([control(7, 100), control(7, 0), *note(60)], note(62, channel=1)))
    assert song.faults["SILENT_NOTES"] == 1


# How loud, and where


@pytest.mark.parametrize("number", [7, 11])
@pytest.mark.parametrize("value", [100, 64, 20])
def test_volume_and_expression_follow_40_log10(soundfont: SoundFontBackend, number: int, value: int) -> None:
    full, less = (played(soundfont, with_controls(control(number, v)), 2) for v in (127, value))
    fall_db = level_db(less, 0.3, 1.9) - level_db(full, 0.3, 1.9)
    assert fall_db == pytest.approx(40 * np.log10(value / 127), abs=0.05)


@pytest.mark.parametrize("velocity", [100, 64, 20])
def test_velocity_follows_40_log10(soundfont: SoundFontBackend, velocity: int) -> None:
    full, less = (
        played(soundfont, load_song(midi_bytes([program(19), *note(60, 0, 4, velocity=v)])), 2) for v in (127, velocity)
    )
    fall_db = level_db(less, 0.3, 1.9) - level_db(full, 0.3, 1.9)
    assert fall_db == pytest.approx(40 * np.log10(velocity / 127), abs=0.05)


@pytest.mark.parametrize("number", [7, 11])
def test_lower_bits_of_volume_and_expression_count_until_the_upper_ones_are_sent(number: int) -> None:
    fine = [control(number, 64), control(number + 32, 64), control(number, 65, 1)]
    (steering,) = with_controls(*fine).steering.values()
    base = 1 if number == 7 else amplitude(100)
    assert steering.levels.left.tolist() == pytest.approx([base * amplitude(64.5), base * amplitude(65)])


def test_full_volume_with_lower_bits_is_full_volume() -> None:
    (steering,) = with_controls(control(7, 127), control(39, 127)).steering.values()
    assert steering.levels.left.tolist() == [1.0]


def test_lower_bits_of_the_pan_are_heard_until_the_upper_ones_are_sent(soundfont: SoundFontBackend) -> None:
    def left_db(*moves: mido.Message) -> float:
        samples = played(soundfont, with_controls(*moves), 2)
        return level_db(samples[:, :1], 0.3, 1.9) - level_db(samples[:, 1:], 0.3, 1.9)

    coarse, half, next_one = (left_db(*moves) for moves in (
        [control(10, 30)], [control(10, 30), control(42, 64)], [control(10, 31)],
    ))  # fmt: skip
    assert half == pytest.approx((coarse + next_one) / 2, abs=0.01)
    assert coarse - next_one > 0.05
    assert left_db(control(10, 60), control(42, 64), control(10, 30)) == pytest.approx(coarse, abs=1e-6)


def test_lower_bits_of_the_balance_count() -> None:
    (steering,) = with_controls(control(8, 32), control(40, 64)).steering.values()
    assert steering.levels.right[-1] / steering.levels.left[-1] == pytest.approx(32.5 / 64)


def test_a_channel_starts_at_volume_100(soundfont: SoundFontBackend) -> None:
    assert np.array_equal(played(soundfont, with_controls(), 2), played(soundfont, with_controls(control(7, 100)), 2))


def test_a_fade_of_the_master_volume_is_heard(soundfont: SoundFontBackend) -> None:
    samples = played(soundfont, case("18"), 4.5)
    fall_db = level_db(samples, 3.0, 3.8) - level_db(samples, 0.2, 0.9)
    assert fall_db == pytest.approx(40 * np.log10(7 / 127), abs=1.0)


@pytest.mark.parametrize(
    "message",
    [
        exclusive(0x7F, 0x7F, 4, 1, 0, 64),
        exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0, 4, 64, 0),
        exclusive(0x43, 0x10, 0x4C, 0, 0, 4, 64),
    ],
    ids=["universal", "GS", "XG"],
)
def test_master_volumes_of_all_standards_count(message: mido.Message) -> None:
    (steering,) = with_controls(message).steering.values()
    assert steering.levels.left[-1] == pytest.approx(amplitude(100) * amplitude(64))


@pytest.mark.parametrize("message", [control(8, 127), exclusive(0x7F, 0x7F, 4, 2, 0, 127)])
def test_balance_turns_one_side_down(message: mido.Message) -> None:
    (steering,) = with_controls(message).steering.values()
    assert [steering.levels.left[-1], steering.levels.right[-1]] == pytest.approx([0, amplitude(100)])


# Pedals, registered parameters, tunings


def test_sostenuto_holds_the_keys_that_are_down_and_no_others() -> None:
    keys = [*note(60, 0, 2), *note(64, 3, 1)]
    song = load_song(midi_bytes([*keys, control(66, 127, 1), control(66, 0, 8)]))
    ends = {one.first: one.seconds for one in performance(song, 0).messages if one.kind == NOTE_OFF}
    assert ends == {60: 4.0, 64: 2.0}


@pytest.mark.parametrize(
    ("pedal", "until"),
    [
        ([control(64, 127), control(64, 0, 6)], 6.0),
        ([control(66, 127, 0.5), control(66, 0, 6)], 6.0),
        ([control(66, 127, 2), control(66, 0, 6)], 1.0),
        ([control(64, 127), control(120, 0, 4), control(64, 0, 6)], 4.0),
        ([control(64, 127), control(7, 0, 5), control(64, 0, 6)], 5.0),
        ([control(64, 127)], 13.0),
    ],
    ids=["sustain", "sostenuto", "sostenuto after the key", "all sound off", "volume 0", "never lifted"],
)
def test_what_a_pedal_holds_is_heard_until_it_is_lifted_or_the_music_ends(
    pedal: list[mido.Message], until: float
) -> None:
    """A note of one beat; drums play to beat 13."""
    drums = notes([36] * 13, channel=9)
    song = load_song(midi_bytes([program(19), *pedal, *note(60, 0, 1)], drums))
    organ = next(one for one in timeline(song).instruments if not one.is_drum)
    assert [(span.start_s * 2, span.end_s * 2) for span in organ.spans] == [(0.0, until)]
    weights = np.array([bar.pitch_class_weights for bar in timeline(song).bars]).sum(axis=0)
    assert weights[0] == pytest.approx(until / 2 * 100 / 127)


def chosen(parameter: int, value: int, low: int = 0) -> list[mido.Message]:
    return [control(101, 0), control(100, parameter), control(6, value), control(38, low)]


@pytest.mark.parametrize(
    ("messages", "semitones"),
    [
        ([*chosen(0, 12), bend(8191)], 12),
        ([*chosen(0, 2, 50), bend(-8192)], -2.5),
        ([*chosen(0, 2), control(96, 0), bend(8191)], 2.01),
        (chosen(1, 96), 0.5),
        ([exclusive(0x7F, 0x7F, 4, 3, 0, 32)], -0.5),
        ([exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0, 0, 0, 7, 14, 8, 0)], 1.0),
        ([control(99, 0), control(98, 0), control(6, 12), bend(8191)], 2),
        ([*chosen(0, 12), control(101, 127), control(100, 127), control(6, 2), bend(8191)], 12),
    ],
    ids=["bend range", "in cents", "increment", "fine tuning", "master tuning", "GS tuning", "NRPN", "null"],
)
def test_registered_parameters_and_tunings_move_the_pitch(messages: list[mido.Message], semitones: float) -> None:
    (steering,) = with_controls(*messages).steering.values()
    assert steering.pitches.semitones[-1] == pytest.approx(semitones, abs=1e-3)


@pytest.mark.parametrize(
    "message",
    [
        chosen(2, 67),
        [exclusive(0x7F, 0x7F, 4, 4, 0, 67)],
        [exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0, 5, 67, 0)],
        [exclusive(0x41, 0x10, 0x42, 0x12, 0x40, 0x11, 0x16, 67, 0)],
        [exclusive(0x43, 0x10, 0x4C, 8, 0, 8, 67)],
    ],
)
def test_coarse_tuning_and_key_shifts_transpose_notes_and_not_drums(message: list[mido.Message]) -> None:
    song = load_song(midi_bytes([*message, *notes([60]), *notes([38], channel=9)]))
    assert sorted(song.notes.pitch.tolist()) == [38, 63]

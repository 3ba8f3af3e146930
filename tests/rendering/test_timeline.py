"""Who plays when and what each bar holds, from files whose truth is known."""

from collections.abc import Sequence

import mido
import pytest

from luthier.common.v1.common_pb2 import Bar
from luthier_rendering.midi import load_song
from luthier_rendering.timeline import TAIL_S, part_activity, timeline

from .midi_making import meter, midi_bytes, note, notes, program, tempo


def spans(bars: Sequence[Bar]) -> list[tuple[float, float]]:
    return [(bar.span.start_s, bar.span.end_s) for bar in bars]


def test_bars_follow_the_meter_and_cover_the_music() -> None:
    found = timeline(load_song(midi_bytes([meter(3, 4), meter(4, 4, beat=6)], notes([60] * 11))))
    assert spans(found.bars) == [(0, 1.5), (1.5, 3.0), (3.0, 5.0), (5.0, 7.0)]
    assert [(m.numerator, m.denominator) for m in found.meters] == [(3, 4), (4, 4)]
    assert found.duration_s == pytest.approx(5.5 + TAIL_S)


def test_a_meter_change_cuts_the_bar_that_it_interrupts() -> None:
    found = timeline(load_song(midi_bytes([meter(4, 4), meter(2, 4, beat=3)], notes([60] * 5))))
    assert spans(found.bars) == [(0, 1.5), (1.5, 2.5)]


def test_pitch_classes_weigh_by_sounding_seconds_and_velocity_across_bars() -> None:
    data = midi_bytes(note(62, 3, 2, velocity=127) + note(48, 0, 1, velocity=127) + note(69, 7, 1, velocity=64))
    first, second = timeline(load_song(data)).bars
    assert first.pitch_class_weights[2] == pytest.approx(0.5)
    assert first.pitch_class_weights[0] == pytest.approx(0.5)
    assert second.pitch_class_weights[2] == pytest.approx(0.5)
    assert second.pitch_class_weights[9] == pytest.approx(0.5 * 64 / 127)
    assert sum(first.pitch_class_weights) == pytest.approx(1.0)


def test_drums_count_as_onsets_but_have_no_pitch() -> None:
    (bar,) = timeline(load_song(midi_bytes(notes([36, 38, 36, 38], channel=9)))).bars
    assert bar.onsets == 4
    assert sum(bar.pitch_class_weights) == 0


def test_onsets_on_sixteenths_and_triplets_are_on_the_grid_and_others_are_not() -> None:
    beats = [0, 0.25, 1 + 1 / 3, 2 + 2 / 3, 3.0, 3.1, 3.42]
    (bar,) = timeline(load_song(midi_bytes([m for b in beats for m in note(60, b, 0.05)]))).bars
    assert (bar.onsets, bar.onsets_on_grid) == (7, 5)


def test_an_instrument_plays_in_spans_and_short_rests_do_not_end_them() -> None:
    lead = [program(73), *note(60, 0, 1), *note(62, 2, 1), *note(64, 8, 1)]
    (flute,) = timeline(load_song(midi_bytes(lead))).instruments
    assert [(span.start_s, span.end_s) for span in flute.spans] == [(0.0, 1.5), (4.0, 4.5)]
    assert (flute.instrument, flute.notes) == ("Flute", 3)


def test_parts_of_one_instrument_are_one_activity_and_stems_have_their_own() -> None:
    track = [program(27), *notes([60])]
    song = load_song(midi_bytes(track, [program(27), *note(62, 10, 1)]))
    assert [one.notes for one in timeline(song).instruments] == [2]
    assert [(span.start_s, span.end_s) for part in (0, 1) for span in part_activity(song, part).spans] == [
        (0.0, 0.5),
        (5.0, 5.5),
    ]


def test_tempos_start_at_zero_and_say_when_nothing_was_stated() -> None:
    stated = timeline(load_song(midi_bytes([tempo(90), tempo(60, beat=4)], notes([60] * 5))))
    assert [(t.start_s, t.tempo_bpm) for t in stated.tempos] == [
        (0.0, pytest.approx(90)),
        (pytest.approx(4 * 60 / 90), pytest.approx(60)),
    ]
    assert not stated.tempo_is_default
    assert timeline(load_song(midi_bytes(notes([60])))).tempo_is_default


def test_a_key_signature_is_passed_on_as_a_claim() -> None:
    claim = mido.MetaMessage("key_signature", key="F#m", time=0)
    assert timeline(load_song(midi_bytes([claim, *notes([60])]))).claimed_key == "F# minor"

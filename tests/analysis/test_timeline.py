"""What the notes prove about a span, and what they do not."""

import itertools

import numpy as np
import pytest

from luthier.common.v1.common_pb2 import FACT_SOURCE_NOTES, FACT_SOURCE_TEMPO_MAP, InstrumentActivity, MeterChange
from luthier_analysis.facts import MeterFound
from luthier_analysis.timeline import Span
from luthier_music.keys import Key

from .synth import activity, timeline

C_MAJOR = (3.0, 0.0, 1.0, 0.0, 2.0, 1.0, 0.0, 2.5, 0.0, 1.0, 0.0, 0.7)


def tempo_in(tempos: tuple[tuple[float, float], ...], span: Span) -> tuple[float, bool]:
    found = timeline(120, tempos=tempos).tempo_in(span)
    assert found is not None
    assert found.source == FACT_SOURCE_TEMPO_MAP
    return found.tempo_bpm, found.changes


def test_a_steady_tempo_has_its_value() -> None:
    assert tempo_in(((0.0, 97.0),), (30, 60)) == (97.0, False)


def test_the_tempo_is_that_of_the_span_not_of_the_song() -> None:
    assert tempo_in(((0.0, 80.0), (60.0, 140.0)), (60, 90)) == (140.0, False)


def test_a_tempo_that_changes_inside_says_so() -> None:
    assert tempo_in(((0.0, 80.0), (60.0, 140.0)), (50, 70)) == (110.0, True)


@pytest.mark.parametrize(
    ("numerator", "denominator", "quarter_bpm", "bpm", "beat"),
    [
        (4, 4, 120, 120, 1.0),
        (3, 4, 120, 120, 1.0),
        (5, 4, 120, 120, 1.0),
        (6, 8, 180, 120, 1.5),
        (9, 8, 180, 120, 1.5),
        (12, 8, 180, 120, 1.5),
        (6, 16, 90, 120, 0.75),
        (2, 2, 160, 80, 2.0),
    ],
)
def test_tempo_is_by_the_beat_of_the_meter(
    numerator: int, denominator: int, quarter_bpm: float, bpm: float, beat: float
) -> None:
    found = timeline(60, tempos=((0.0, quarter_bpm),), meters=((0.0, numerator, denominator),)).tempo_in((0, 30))

    assert found is not None
    assert round(found.tempo_bpm, 6) == bpm
    assert (found.beat_quarters, found.notated) == (beat, False)


def test_without_a_meter_quarter_notes_are_counted_and_no_meter_is_said() -> None:
    song = timeline(60, tempos=((0.0, 140.0),), meters=())

    found = song.tempo_in((0, 30))
    assert found is not None
    assert (found.tempo_bpm, found.beat_quarters, found.notated) == (140.0, 1.0, False)
    assert song.meter_in((0, 30)) is None


@pytest.mark.parametrize("meters", [((0.0, 7, 8),), ((0.0, 3, 8),), ((0.0, 6, 4),), ((0.0, 4, 4), (10.0, 6, 8))])
def test_where_the_meter_does_not_tell_its_beat_the_notated_tempo_is_said_to_be_that(
    meters: tuple[tuple[float, int, int], ...],
) -> None:
    found = timeline(60, tempos=((0.0, 140.0),), meters=meters).tempo_in((0, 30))

    assert found is not None
    assert (found.tempo_bpm, found.beat_quarters, found.notated) == (140.0, 1.0, True)


@pytest.mark.parametrize(
    ("numerator", "denominator", "quarter_bpm", "bpm"),
    [
        (12, 16, 320, 320),  # 426.7 dotted eighths
        (2, 2, 30, 30),  # 15 half notes
        (4, 4, 500, None),
        (4, 4, 19, None),
        (2, 2, 19, None),
        (6, 8, 500, 500 / 1.5),
        (12, 16, 500, None),
        (7, 8, 500, None),
    ],
)
def test_a_beat_that_is_no_tempo_is_given_as_notated_or_not_at_all(
    numerator: int, denominator: int, quarter_bpm: float, bpm: float | None
) -> None:
    found = timeline(60, tempos=((0.0, quarter_bpm),), meters=((0.0, numerator, denominator),)).tempo_in((0, 30))

    assert (found and found.tempo_bpm) == bpm
    assert found is None or found.notated == (bpm == quarter_bpm)


def test_no_meter_and_no_tempo_gives_a_fact_out_of_its_bounds() -> None:
    """All that a file can say: 3.6 BPM is the slowest of a MIDI file's three bytes, 1000 the fastest that is taken."""
    random = np.random.default_rng(1)
    song = timeline(30)
    message = song.message
    for numerator, power in itertools.product(range(1, 65), range(7)):
        for bpm in (3.6, 19.999, 20, 400, 400.001, 1000, *random.uniform(3.6, 1000, 6)):
            del message.tempos[1:], message.meters[1:]
            message.tempos[0].tempo_bpm = bpm
            message.meters[0].MergeFrom(MeterChange(numerator=numerator, denominator=1 << power))
            if numerator % 4 == 0:  # and some that change
                message.tempos.add(start_s=10, tempo_bpm=random.uniform(3.6, 1000))
                message.meters.add(start_s=15, numerator=6, denominator=8)
            found = song.tempo_in((0, 30))
            assert found is None or (20 <= found.tempo_bpm <= 400 and 0 < found.beat_quarters <= 8)


def test_the_meter_is_that_of_most_of_the_span_and_says_when_it_changes() -> None:
    changing = timeline(60, meters=((0.0, 4, 4), (8.0, 3, 4)))

    assert changing.meter_in((0, 30)) == MeterFound(3, 4, changes=True)
    assert changing.meter_in((8, 38)) == MeterFound(3, 4)
    assert changing.meter_in((0, 8)) == MeterFound(4, 4)
    assert changing.meter_in((6, 36)) == MeterFound(3, 4)  # 2 s of 30: a bar


def test_tempo_noise_is_steady() -> None:
    assert tempo_in(((0.0, 120.0), (5.0, 121.0), (10.0, 119.5), (15.0, 120.0)), (0, 20)) == (120.0, False)


def test_a_map_that_no_onset_follows_is_not_believed() -> None:
    played_freely = timeline(60, on_grid=0.25)

    assert played_freely.tempo_in((0, 30)) is None
    assert played_freely.meter_in((0, 30)) is None


def test_trust_is_of_the_span() -> None:
    mixed = timeline(60)
    for bar in mixed.message.bars[:15]:
        bar.onsets_on_grid = 4

    assert mixed.tempo_in((0, 30)) is None
    assert mixed.tempo_in((30, 60)) is not None


def test_key_of_the_notes_in_the_span() -> None:
    found = timeline(60, weights=C_MAJOR).key_fit((10, 40))

    assert found is not None
    assert found.sure()
    assert found.key == Key(0, "major")


def test_drums_alone_have_no_key() -> None:
    assert timeline(60).key_fit((0, 30)) is None


def test_instruments_by_share_of_the_span_and_one_note_is_none() -> None:
    band = timeline(
        60,
        activities=(
            activity("Church Organ", "Organ", (29.5, 31.5)),  # 2 s of 30: one note
            activity("Acoustic Guitar (nylon)", "Guitar", (30, 36), (40, 46)),
            activity("Drums", "Drums", (0, 60)),
            activity("Flute", "Pipe", (0, 29)),  # elsewhere
        ),
    )

    found = [(one.instrument, round(one.share, 3)) for one in band.instruments_in((30, 60))]

    assert found == [("Drums", 1.0), ("Acoustic Guitar (nylon)", 0.4)]


def descriptors_in(span: Span, *activities: InstrumentActivity) -> dict[str, float]:
    found = timeline(60, activities=activities).descriptors_in(span)
    assert {one.source for one in found} <= {FACT_SOURCE_NOTES}
    return {one.name: one.value for one in found}


def test_acousticness_is_the_share_of_the_sounding_time_that_acoustic_instruments_have() -> None:
    flute = activity("Flute", "Pipe", (0, 10), (20, 25))
    lead = activity("Lead 1 (square)", "Synth Lead", (0, 40))

    assert descriptors_in((0, 30), flute, lead)["acousticness"] == pytest.approx(15 / 45)
    assert descriptors_in((0, 30), flute)["acousticness"] == 1
    assert descriptors_in((0, 30), lead)["acousticness"] == 0
    assert descriptors_in((30, 40), flute, lead)["acousticness"] == 0


def test_drums_and_effects_are_neither_acoustic_nor_electric() -> None:
    drums = activity("Drums", "Drums", (0, 60))
    sea = activity("Seashore", "Sound Effects", (0, 60))
    flute = activity("Flute", "Pipe", (0, 10))

    assert descriptors_in((0, 30), drums, sea) == {"instrumentalness": 1.0}
    assert descriptors_in((0, 30), drums, sea, flute)["acousticness"] == 1


def test_where_no_note_sounds_nothing_is_said() -> None:
    flute = activity("Flute", "Pipe", (0, 10))

    assert descriptors_in((20, 40), flute) == {}
    assert descriptors_in((9.5, 40), flute) == {"instrumentalness": 1.0}  # half a second is too little to weigh


def test_a_rendered_choir_sings_no_words() -> None:
    assert descriptors_in((0, 30), activity("Choir Aahs", "Ensemble", (0, 30))) == {
        "acousticness": 1.0, "instrumentalness": 1.0,
    }  # fmt: skip


def test_two_tracks_of_one_instrument_are_one_and_overlap_counts_once() -> None:
    piano = ("Acoustic Grand Piano", "Piano")
    twice = timeline(60, activities=(activity(*piano, (0, 20)), activity(*piano, (10, 25))))

    (found,) = twice.instruments_in((0, 50))

    assert found.share == pytest.approx(0.5)

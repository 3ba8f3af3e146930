"""Passages in which one part really plays, from files whose truth is known. 120 BPM: a bar of 4/4 lasts 2 s."""

import random
from itertools import pairwise

import mido
import pytest

from luthier_rendering.midi import load_song
from luthier_rendering.solos import PartPassages, PassageLengths, find_solos

from .midi_making import midi_bytes, note, notes, program, tempo

SCALE = [60, 62, 64, 65, 67, 69, 71, 72]  # C major, a bar of eighths
EIGHT_S = PassageLengths(target_s=8, min_s=6, max_s=10)


def line(bars: float, *, first_bar: float = 0, channel: int = 0, beats: float = 0.5) -> list[mido.Message]:
    """Eighths up and down C major."""
    at = [4 * first_bar + 0.5 * i for i in range(round(8 * bars))]
    return [m for i, beat in enumerate(at) for m in note(SCALE[i % 8], beat, beats, channel=channel)]


def solos(*tracks: list[mido.Message], lengths: PassageLengths = EIGHT_S) -> list[PartPassages]:
    return find_solos(load_song(midi_bytes(*tracks)), lengths)


def spans(found: PartPassages) -> list[tuple[float, float]]:
    return [(one.start_s, one.end_s) for one in found.passages]


def test_a_part_that_plays_throughout_gives_passages_of_the_wanted_length_from_bar_line_to_bar_line() -> None:
    [violin] = solos([program(40), *line(12)])
    assert spans(violin) == [(0, 8), (8, 16), (16, 24)]
    assert (violin.part, violin.activity.instrument) == (0, "Violin")
    assert {(one.sounding_share, one.longest_rest_s, one.onsets) for one in violin.passages} == {(1.0, 0.0, 32)}


def test_a_part_is_looked_at_alone_whatever_the_others_play() -> None:
    found = solos([program(40), *line(12)], [program(42, channel=1), *line(4, first_bar=8, channel=1)])
    assert [(one.activity.instrument, spans(one)) for one in found] == [
        ("Violin", [(0, 8), (8, 16), (16, 24)]), ("Cello", [(16, 24)]),
    ]  # fmt: skip


def test_where_the_part_rests_for_long_there_is_no_passage() -> None:
    two_bars_out = [*line(4), *line(6, first_bar=6)]
    [violin] = solos([program(40), *two_bars_out])
    assert spans(violin) == [(0, 8), (12, 20)]


def test_short_notes_play_and_sparse_ones_do_not() -> None:
    staccato = [m for beat in range(48) for m in note(60, beat, 0.1)]  # 0.05 s, then a rest of 0.45 s
    sparse = [m for beat in range(0, 48, 2) for m in note(60, beat, 0.2)]  # rests of 0.9 s
    assert spans(solos(staccato)[0]) == [(0, 8), (8, 16), (16, 24)]
    assert solos(sparse) == []


def test_a_held_chord_is_no_solo() -> None:
    assert solos(note(60, 0, 48), line(12, channel=1))[0].part == 1


def test_drums_alone_are_a_solo_without_a_key() -> None:
    hats = [m for half in range(96) for m in note(42, half / 2, 0.05, channel=9)]
    [drums] = solos(hats)
    assert (drums.activity.instrument, len(drums.passages)) == ("Drums", 3)
    assert all(one.key is None and not one.weights.any() for one in drums.passages)


def test_the_key_is_that_of_the_parts_own_notes() -> None:
    cadences = [[60, 64, 67], [65, 69, 72], [67, 71, 74], [60, 64, 67]]  # C: I IV V I

    def chords(up: int, channel: int) -> list[mido.Message]:
        return [m for i in range(48) for p in cadences[i % 4] for m in note(p + up, i, 1, channel=channel)]

    found = solos([program(0), *chords(0, 0)], [program(19, channel=1), *chords(6, 1)])
    assert [str(one.passages[0].key.key) for one in found if one.passages[0].key] == ["C major", "F# major"]


def test_weights_are_the_parts_in_the_bars_of_its_passage() -> None:
    [violin] = solos([program(40), *line(4, first_bar=2)], lengths=EIGHT_S)
    [passage] = violin.passages
    assert (passage.first_bar, passage.weights.shape) == (2, (4, 12))
    assert passage.weights.sum() == pytest.approx(8 * 100 / 127)  # seconds times velocity / 127
    assert passage.weights[:, 1].sum() == 0  # no C# in C major


def test_the_tempo_is_the_mean_of_the_map_in_the_passage() -> None:
    [violin] = solos([tempo(120), tempo(60, beat=8), program(40), *line(6)], lengths=PassageLengths(12, 12, 12))
    [passage] = violin.passages  # 4 s at 120, 8 s at 60
    assert passage.tempo_bpm == pytest.approx(80)


def test_where_bar_lines_mean_nothing_no_note_is_cut() -> None:
    chance = random.Random(1)
    starts = [0.0]
    while starts[-1] < 60:
        starts.append(starts[-1] + chance.uniform(0.3, 0.9))
    free = [m for a, b in pairwise(starts) for m in note(60, a, b - a)]
    [part] = solos(free)
    onsets_s = {round(round(480 * beat) / 960, 6) for beat in starts}
    assert len(part.passages) >= 3
    assert {round(edge, 6) for span in spans(part) for edge in span} <= onsets_s
    assert {one.tempo_bpm for one in part.passages} == {0.0}


def test_a_passage_does_not_go_beyond_the_audio() -> None:
    song = load_song(midi_bytes([program(40), *line(3), *notes([60], beats=1)], [*note(64, 12.0, 0.1, channel=1)]))
    [violin] = find_solos(song, PassageLengths(8, 8, 8))
    assert spans(violin) == [(0, 8)]

"""What rendering recorded: the beats of a clip by the tempo map of its song, and its stems."""

from pathlib import Path

import pytest

from luthier.common.v1 import common_pb2 as common
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_curation.rendered import OWN_TEMPO, TEMPO_MAP, Beats, beats_of, rendering_of
from luthier_kit.store import Store

from .renderings import rendered_clip, timeline

MAP = RenderSongResponse(timeline=timeline())


def facts(**tempo: object) -> common.ClipFacts:
    return common.ClipFacts(duration_s=4.0, tempo=common.TempoFact(**tempo))  # type: ignore[arg-type]


def pairs(found: Beats) -> list[tuple[float, bool]]:
    return [(beat.time_s, beat.downbeat) for beat in found.beats]


def test_beats_follow_the_tempo_map_through_its_changes() -> None:
    mapped = facts(tempo_bpm=90, changes=True, source=common.FACT_SOURCE_TEMPO_MAP)
    found = beats_of(mapped, common.Span(start_s=2, end_s=6), MAP)
    assert found.source == TEMPO_MAP
    assert pairs(found) == [(0.0, True), (0.5, False), (1.0, False), (1.5, False), (2.0, True), (3.0, False)]


def test_a_clip_that_begins_within_a_bar_begins_with_the_next_beat() -> None:
    mapped = facts(tempo_bpm=120, source=common.FACT_SOURCE_TEMPO_MAP)
    assert pairs(beats_of(mapped, common.Span(start_s=2.75, end_s=4), MAP)) == [(0.25, False), (0.75, False)]


def test_a_tempo_that_changes_inside_a_bar_moves_the_beats_behind_it() -> None:
    song = timeline()
    song.tempos[1].start_s = 3.25
    mapped = facts(tempo_bpm=120, source=common.FACT_SOURCE_TEMPO_MAP)
    found = beats_of(mapped, common.Span(start_s=2, end_s=4), RenderSongResponse(timeline=song))
    # half of the beat from 3.0 on lasts 0.25 s at 120 BPM, the other half 0.5 s at 60 BPM
    assert pairs(found) == [(0.0, True), (0.5, False), (1.0, False), (1.75, False)]


def test_in_six_eight_dotted_quarters_are_counted() -> None:
    song = timeline()
    del song.tempos[1:], song.meters[1:], song.bars[1:]
    song.meters[0].numerator, song.meters[0].denominator, song.bars[0].span.end_s = 6, 8, 1.5
    mapped = facts(tempo_bpm=80, beat_quarters=1.5, source=common.FACT_SOURCE_TEMPO_MAP)
    found = beats_of(mapped, common.Span(start_s=0, end_s=1.5), RenderSongResponse(timeline=song))
    assert pairs(found) == [(0.0, True), (0.75, False)]


def test_a_person_who_corrects_the_tempo_gets_beats_of_that() -> None:
    stated = facts(tempo_bpm=60, source=common.FACT_SOURCE_PERSON)
    stated.meter.numerator, stated.meter.denominator = 2, 4
    found = beats_of(stated, common.Span(start_s=2, end_s=6), MAP)
    assert found.source == OWN_TEMPO
    assert pairs(found) == [(0.0, True), (1.0, False), (2.0, True), (3.0, False)]


@pytest.mark.parametrize("tempo", [{}, {"tempo_bpm": 90, "changes": True, "source": common.FACT_SOURCE_AUDIO}])
def test_where_the_tempo_is_not_known_there_are_no_beats(tempo: dict[str, object]) -> None:
    assert beats_of(facts(**tempo), common.Span(start_s=0, end_s=4), None) == Beats()


def test_the_record_is_found_by_the_lineage(store: Store, tmp_path: Path) -> None:
    new = rendered_clip(store, tmp_path)
    found = rendering_of(store, new.lineage)
    assert found
    assert [stem.sound.part for stem in found.stems] == [0, 3]


@pytest.mark.parametrize("key", ["actions/render/none.json", "actions/render/../../x", "actions/render/", "a" * 64])
def test_a_record_that_is_not_there_is_none(store: Store, key: str) -> None:
    assert rendering_of(store, common.Lineage(inputs=[key])) is None

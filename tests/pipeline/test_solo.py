"""Solo clips: which passages are chosen, what is known of a part alone, and the way of one into curation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from luthier.analysis.v1.analysis_pb2 import Clip, CutClipsRequest, CutClipsResponse
from luthier.common.v1.common_pb2 import (
    ActionInfo,
    ArtifactRef,
    Bar,
    InstrumentActivity,
    KeyFact,
    Span,
    TempoChange,
    Timeline,
)
from luthier.curation.v1.curation_pb2 import UpsertClipsResponse
from luthier.enrichment.v1.enrichment_pb2 import EnrichSongResponse
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile
from luthier.prompting.v1.prompting_pb2 import ComposePromptsResponse
from luthier.rendering.v1.rendering_pb2 import (
    FindSolosResponse,
    RenderSongResponse,
    SoloPart,
    SoloPassage,
    Sound,
    Stem,
)
from luthier_kit.rpc import DataLoss, InvalidRequest
from luthier_pipeline.solo import MONOPHONIC, POLYPHONIC, Candidate, by_song, candidates_of, choose, solo_timeline
from luthier_pipeline.song import SongOptions, SongPipeline, SongResult, StageError
from tests.pipeline.fakes import FakeClients, Stub


def candidate(song: int = 0, number: int = 0, **changes: Any) -> Candidate:
    """The `number`-th half minute of a part of a song."""
    name, start_s = f"song {song}", 30.0 * number
    usual = Candidate(name, name, f"midi {song}", 0, start_s, start_s + 30, "Cello", "D minor", 100.0)
    return replace(usual, **changes)


def seconds(chosen: Sequence[Candidate]) -> float:
    return sum(one.length_s for one in chosen)


def test_as_much_is_chosen_of_each_instrument_as_the_quota_says() -> None:
    cellos = [candidate(song, number) for song in range(40) for number in range(4)]
    drums = [replace(one, instrument="Drums", part=1) for one in cellos[:8]]  # of two songs
    chosen = choose([*cellos, *drums], quota_s=600)
    assert seconds([one for one in chosen if one.instrument == "Cello"]) == 600
    assert seconds([one for one in chosen if one.instrument == "Drums"]) == 240  # all that there is


def test_strata_of_key_and_tempo_get_the_same_as_far_as_they_have_it() -> None:
    strata = [("D minor", 100.0, 60), ("C major", 100.0, 60), ("C major", 180.0, 60), ("unknown", 0.0, 1)]
    found = [
        candidate(100 * at + song, key=key, tempo_bpm=bpm)
        for at, (key, bpm, songs) in enumerate(strata)
        for song in range(songs)
    ]
    chosen = Counter((one.key, one.tempo_bpm) for one in choose(found, quota_s=570))
    assert chosen == {("D minor", 100.0): 6, ("C major", 100.0): 6, ("C major", 180.0): 6, ("unknown", 0.0): 1}


def test_a_song_gives_no_more_than_a_fifth() -> None:
    found = [candidate(0, number) for number in range(40)] + [candidate(song) for song in range(1, 5)]
    of_song = Counter(one.song for one in choose(found, quota_s=300))
    assert of_song == {"song 0": 2, "song 1": 1, "song 2": 1, "song 3": 1, "song 4": 1}


def test_however_small_the_quota_an_instrument_has_one_passage() -> None:
    assert len(choose([candidate(song) for song in range(9)], quota_s=1)) == 1


def test_parts_that_double_each_other_are_not_both_chosen() -> None:
    left, right = candidate(), candidate(part=1)
    assert len(choose([left, right], quota_s=600)) == 1
    later = replace(right, start_s=30.0, end_s=60.0)
    assert len(choose([left, later], quota_s=600)) == 2


def test_near_duplicates_and_versions_give_together_what_one_song_gives() -> None:
    copies = [candidate(song, number, group="song 0") for song in range(3) for number in range(10)]
    others = [candidate(song, number) for song in range(3, 8) for number in range(2)]
    chosen = choose([*copies, *others], quota_s=600)
    of_group = [one for one in chosen if one.group == "song 0"]
    assert 0 < seconds(of_group) <= 600 / 5
    assert len({one.start_s for one in of_group}) == len(of_group)  # nothing twice


def test_of_a_passage_that_copies_share_one_is_chosen_of_each_instrument() -> None:
    copies = [candidate(song, group="song 0") for song in range(3)]
    drums = [replace(one, instrument="Drums", part=1) for one in copies]
    chosen = choose([*copies, *drums], quota_s=600)
    assert Counter(one.instrument for one in chosen) == {"Cello": 1, "Drums": 1}


def test_the_choice_follows_from_the_content_not_from_the_order() -> None:
    found = [candidate(song, number, key=f"key {song % 5}") for song in range(50) for number in range(3)]
    chosen = choose(found, quota_s=600)
    assert choose(reversed(found), quota_s=600) == chosen
    renamed = [replace(one, midi_sha256="another file of the same notes") for one in found]
    assert [one.song for one in choose(renamed, quota_s=600)] == [one.song for one in chosen]


def test_a_larger_quota_keeps_what_a_smaller_one_chose() -> None:
    found = [candidate(song, key=f"key {song % 5}") for song in range(80)]
    assert set(choose(found, quota_s=300)) < set(choose(found, quota_s=600))


def test_passages_are_found_by_the_midi_file_and_the_part() -> None:
    chosen = [candidate(0, 0), candidate(0, 2), candidate(0, 1, part=3), candidate(1)]
    assert by_song(chosen) == {
        "midi 0": {0: frozenset({0.0, 60.0}), 3: frozenset({30.0})}, "midi 1": {0: frozenset({0.0})},
    }  # fmt: skip


PASSAGE = SoloPassage(
    span=Span(start_s=2, end_s=6), first_bar=1, pitch_class_weights=[*range(12), *range(12, 24)], tempo_bpm=120.0,
    key=KeyFact(tonic="D", mode="MODE_MINOR"),
)  # fmt: skip
CELLO = InstrumentActivity(instrument="Cello", family="Strings", program=42, spans=[Span(start_s=2, end_s=6)])
PART = SoloPart(part=3, activity=CELLO, passages=[PASSAGE, SoloPassage(span=Span(start_s=6, end_s=8), first_bar=3)])
SONG = CorpusFile(path="a.mid", key="midi/ab.mid", sha256="ab", fingerprint="fe")
OF_SONG = Timeline(
    duration_s=11,
    tempos=[TempoChange(tempo_bpm=120)],
    bars=[
        Bar(span=Span(start_s=2 * at, end_s=2 * at + 2), pitch_class_weights=[9] * 12, onsets=8, onsets_on_grid=7)
        for at in range(4)
    ],
    instruments=[CELLO, InstrumentActivity(instrument="Drums", family="Drums", is_drum=True)],
)


def test_what_is_known_of_a_part_alone_is_its_own_and_the_tempo_map_is_the_songs() -> None:
    alone = solo_timeline(OF_SONG, PART, [PASSAGE])
    assert alone.solo
    assert list(alone.instruments) == [CELLO]
    assert [list(bar.pitch_class_weights) for bar in alone.bars] == [
        [0] * 12, list(range(12)), list(range(12, 24)), [0] * 12,
    ]  # fmt: skip
    assert [(bar.onsets, bar.onsets_on_grid) for bar in alone.bars] == [(8, 7)] * 4
    assert list(alone.tempos) == list(OF_SONG.tempos)
    assert (OF_SONG.solo, len(OF_SONG.instruments)) == (False, 2)  # as it was


def test_a_songs_passages_are_candidates_by_instrument_key_and_tempo() -> None:
    found = candidates_of(SONG, FindSolosResponse(parts=[PART, SoloPart(part=4096, passages=[PASSAGE])]))
    assert [(one.part, one.start_s, one.key, one.tempo_bpm) for one in found] == [
        (3, 2.0, "D minor", 120.0), (3, 6.0, "unknown", 0.0),
    ]  # fmt: skip
    assert [one.stratum[1] for one in found] == [3, -1]
    assert {(one.song, one.midi_sha256, one.instrument) for one in found} == {("fe", "ab", "Cello")}


def test_songs_that_share_a_split_are_a_group_by_the_smallest_fingerprint() -> None:
    found = FindSolosResponse(parts=[PART])
    first = CorpusFile(fingerprint="aa", related_fingerprints=["bb", "cc"])
    second = CorpusFile(fingerprint="bb", related_fingerprints=["aa", "cc"])
    groups = {one.group for song in (first, second) for one in candidates_of(song, found)}
    assert (groups, candidates_of(SONG, found)[0].group) == ({"aa"}, "fe")


def stem(part: int, loudness_lufs: float | None = None) -> Stem:
    audio = ArtifactRef(key=f"stems/{part}.flac")
    return Stem(audio=audio, sound=Sound(part=part), activity=CELLO, loudness_lufs=loudness_lufs)


def services(*stems: Stem) -> FakeClients:
    def action(stage: str) -> ActionInfo:
        return ActionInfo(action_key=f"actions/{stage}/0.json")

    rendered = RenderSongResponse(action=action("render"), stems=stems, timeline=OF_SONG, seed=7)
    mixes = CutClipsResponse(action=action("cut-mix"), clips=[Clip(span=Span(end_s=8))], cpu_s=2.0)
    solos = CutClipsResponse(action=action("cut-solo"), clips=[Clip(span=PASSAGE.span)], notes=["quiet"], cpu_s=1.0)
    return FakeClients(
        None,
        rendering=Stub(
            RenderSong=rendered, FindSolos=FindSolosResponse(action=action("solos"), parts=[PART, SoloPart(part=5)])
        ),
        analysis=Stub(CutClips=lambda request: solos if request.spans else mixes),
        enrichment=Stub(EnrichSong=EnrichSongResponse(action=action("enrich"))),
        prompting=Stub(ComposePrompts=ComposePromptsResponse(action=action("prompt"))),
        curation=Stub(UpsertClips=UpsertClipsResponse(created=1)),
    )


def run(
    clients: FakeClients, subsets: tuple[str, ...], chosen: dict[int, frozenset[float]], **options: Any
) -> SongResult:
    pipeline = SongPipeline(clients, SongOptions("book", subsets=subsets, **options), {"ab": chosen} if chosen else {})
    return pipeline.run(SONG, lambda _: None)


def test_only_chosen_passages_are_cut_from_the_stem_of_their_part() -> None:
    clients = services(stem(0, loudness_lufs=-24), stem(3, loudness_lufs=-24))
    result = run(clients, (MONOPHONIC,), {3: frozenset({2.0})})
    [cut] = clients.requests("CutClips")
    assert (cut.mix.key, list(cut.spans)) == ("stems/3.flac", [PASSAGE.span])
    assert cut.timeline == solo_timeline(OF_SONG, PART, [PASSAGE])
    [new] = clients.requests("UpsertClips")[0].clips
    assert (new.source.subset, new.source.part, new.source.span, new.source.song_fingerprint) == (
        "monophonic", 3, PASSAGE.span, "fe",
    )  # fmt: skip
    assert [key.split("/")[1] for key in new.lineage.inputs[1:]] == ["render", "solos", "cut-solo", "enrich", "prompt"]
    assert (result.clips, result.solo_s, result.cpu_s) == (1, {"Cello": 4.0}, {"cut-solos": 1.0})
    assert result.notes == ["part 3 alone: quiet"]


def test_both_subsets_of_a_song_stand_beside_each_other() -> None:
    clients = services(stem(3, loudness_lufs=-24))
    result = run(clients, (POLYPHONIC, MONOPHONIC), {3: frozenset({2.0})})
    assert [new.source.subset for request in clients.requests("UpsertClips") for new in request.clips] == [
        "", "monophonic",
    ]  # fmt: skip
    assert (result.clips, result.cpu_s) == (2, {"cut": 2.0, "cut-solos": 1.0})


def test_solos_that_fail_leave_the_clips_of_the_mix_counted() -> None:
    clients = services(stem(3, loudness_lufs=-24))
    clients.stubs["rendering"].answers["FindSolos"] = [InvalidRequest("must be shorter", reason="MIDI_TOO_LONG")]
    result = run(clients, (POLYPHONIC, MONOPHONIC), {3: frozenset({2.0})})
    assert (result.clips, result.cpu_s, len(clients.requests("RenderSong"))) == (1, {"cut": 2.0}, 1)
    assert result.solos_failed
    assert (result.solos_failed.stage, result.solos_failed.error.reason) == ("solos", "MIDI_TOO_LONG")


def test_a_song_of_solos_alone_fails_with_them() -> None:
    clients = services(stem(3, loudness_lufs=-24))
    clients.stubs["rendering"].answers["FindSolos"] = [InvalidRequest("must be shorter", reason="MIDI_TOO_LONG")]
    with pytest.raises(StageError, match="must be shorter"):
        run(clients, (MONOPHONIC,), {3: frozenset({2.0})})


@pytest.mark.parametrize(("losses", "clips"), [(1, 2), (2, 1)])
def test_a_stem_that_was_lost_is_made_again_once(losses: int, clips: int) -> None:
    clients = services(stem(3, loudness_lufs=-24))
    cut = clients.stubs["analysis"].answers["CutClips"][0]
    lost = [DataLoss("the stem is corrupt")] * losses

    def of_solos_at_first_lost(request: CutClipsRequest) -> CutClipsResponse:
        if request.spans and lost:
            raise lost.pop()
        answer: CutClipsResponse = cut(request)
        return answer

    clients.stubs["analysis"].answers["CutClips"] = [of_solos_at_first_lost]
    result = run(clients, (POLYPHONIC, MONOPHONIC), {3: frozenset({2.0})})
    assert (len(clients.requests("RenderSong")), result.clips, bool(result.solos_failed)) == (2, clips, losses == 2)


def test_of_a_part_at_most_200_passages_are_cut_by_a_call() -> None:
    clients = services(stem(3, loudness_lufs=-24))
    passages = [SoloPassage(span=Span(start_s=at, end_s=at + 1), first_bar=0) for at in range(450)]
    part = SoloPart(part=3, activity=CELLO, passages=passages)
    clients.stubs["rendering"].answers["FindSolos"] = [FindSolosResponse(parts=[part])]

    def cut(request: CutClipsRequest) -> CutClipsResponse:
        return CutClipsResponse(clips=[Clip(span=span) for span in request.spans])

    clients.stubs["analysis"].answers["CutClips"] = [cut]
    result = run(clients, (MONOPHONIC,), {3: frozenset(float(at) for at in range(450))})
    cuts = clients.requests("CutClips")
    assert [len(request.spans) for request in cuts] == [200, 200, 50]
    assert [span for request in cuts for span in request.spans] == [passage.span for passage in passages]
    assert (result.clips, result.solo_s) == (450, {"Cello": 450.0})


def test_without_a_chosen_passage_a_song_is_not_rendered_for_solos_alone() -> None:
    clients = services()
    result = run(clients, (MONOPHONIC,), {})
    assert (clients.requests("RenderSong"), result.clips, result.passed_over) == ([], 0, True)


def test_solos_are_of_songs_as_written_not_of_their_variations() -> None:
    clients = services(stem(3, loudness_lufs=-24))
    pipeline = SongPipeline(clients, SongOptions("book", subsets=(MONOPHONIC,)), {"ab": {3: frozenset({2.0})}})
    result = pipeline.run(SONG, lambda _: None, 1)
    assert (clients.requests("RenderSong"), result.passed_over) == ([], True)


@pytest.mark.parametrize("stems", [[], [stem(3)]])
def test_a_part_that_gave_no_sound_gives_no_clip(stems: list[Stem]) -> None:
    clients = services(*stems)
    assert run(clients, (MONOPHONIC,), {3: frozenset({2.0})}).clips == 0
    assert clients.requests("CutClips") == []


def test_passages_are_as_long_as_clips() -> None:
    clients = services(stem(3, loudness_lufs=-24))
    run(clients, (MONOPHONIC,), {3: frozenset({2.0})}, clip_s=15.0)
    [find] = clients.requests("FindSolos")
    assert (find.midi.key, find.target_s, find.min_s, find.max_s) == ("midi/ab.mid", 15, 10, 16)

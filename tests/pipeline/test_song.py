"""The way of one song, with services that answer from a script."""

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from luthier.analysis.v1.analysis_pb2 import Clip, CutClipsResponse
from luthier.common.v1.common_pb2 import ActionInfo, Lineage, Variation
from luthier.curation.v1.curation_pb2 import UpsertClipsResponse
from luthier.enrichment.v1.enrichment_pb2 import EnrichSongResponse
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile
from luthier.prompting.v1.prompting_pb2 import ComposePromptsResponse
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.rpc import Cancelled, DataLoss, QuotaExceeded, Unavailable
from luthier_pipeline import song as songs
from luthier_pipeline.song import SongOptions, SongPipeline, SongResult, StageError
from luthier_pipeline.variations import variation_of
from tests.pipeline.fakes import FakeClients, Stub

SONG = CorpusFile(path="a.mid", sha256="ab")
BUSY = Unavailable("every slot works", reason="BUSY", retry_after_s=0.0)


def action(stage: str, licence: str = "", reused: bool = False) -> ActionInfo:
    lineage = Lineage(versions={stage: "1"}, licences=[licence] if licence else [])
    return ActionInfo(action_key=f"actions/{stage}/0.json", lineage=lineage, reused=reused)


RENDERED = RenderSongResponse(action=action("render", "GPL-2.0-only"), seed=7, cpu_s=2.5)


def services(*renderings: RenderSongResponse | Exception, clips: Sequence[Clip] = (), **more: Stub) -> FakeClients:
    """Clients of services of which rendering answers as the script says."""
    answers = {
        "rendering": Stub(RenderSong=[*renderings]),
        "analysis": Stub(CutClips=CutClipsResponse(action=action("cut", reused=True), clips=clips, cpu_s=1.0)),
        "enrichment": Stub(EnrichSong=EnrichSongResponse(action=action("enrich"))),
        "prompting": Stub(ComposePrompts=ComposePromptsResponse(action=action("prompt"))),
        "curation": Stub(UpsertClips=UpsertClipsResponse(created=1)),
    }
    return FakeClients(None, **{**answers, **more})


def run(clients: FakeClients, retry_budget_s: float = 60.0, **options: Any) -> tuple[SongResult, list[str]]:
    clients.retry_budget_s, stages = retry_budget_s, list[str]()
    result = SongPipeline(clients, SongOptions("book", **options)).run(SONG, stages.append)
    return result, stages


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(songs, "FIRST_PAUSE_S", 0.001)


def test_a_clips_lineage_names_the_midi_file_and_the_record_and_version_of_every_stage() -> None:
    clients = services(RENDERED, clips=[Clip()])
    result, stages = run(clients, licence="CC0-1.0")
    [request] = clients.requests("UpsertClips")
    lineage = request.clips[0].lineage
    names = ("render", "cut", "enrich", "prompt")
    assert list(lineage.inputs) == ["ab", *(f"actions/{stage}/0.json" for stage in names)]
    assert sorted(lineage.versions) == sorted(names)
    assert list(lineage.licences) == ["CC0-1.0", "GPL-2.0-only"]
    assert (lineage.seed, result.clips, result.computed, result.reused) == (7, 1, 4, 1)
    assert result.cpu_s == {"render": 2.5}  # what is found done costs nothing
    assert stages == [*names, "curate"]


def test_a_clip_names_the_songs_that_share_its_split() -> None:
    clients = services(RENDERED, clips=[Clip()])
    song = CorpusFile(path="a.mid", sha256="ab", fingerprint="a" * 64, related_fingerprints=["b" * 64, "c" * 64])
    SongPipeline(clients, SongOptions("book")).run(song, lambda _stage: None)
    [request] = clients.requests("UpsertClips")
    assert list(request.clips[0].source.related_fingerprints) == ["b" * 64, "c" * 64]


def test_clips_of_a_variation_say_what_took_effect_and_stay_the_songs() -> None:
    took = Variation(number=3, transpose_semitones=2, tempo_factor=1.1, programs={0: 6}, octaves={33: 1})
    varied = RenderSongResponse(action=action("render"), seed=9, variation=took)
    clients = services(varied, clips=[Clip()])
    song = CorpusFile(path="a.mid", sha256="ab", fingerprint="f1")
    SongPipeline(clients, SongOptions("book", variations=3)).run(song, lambda _: None, 3)
    [asked] = clients.requests("RenderSong")
    assert asked.variation == variation_of("f1", 3)
    assert asked.other_instruments
    [clip] = clients.requests("UpsertClips")[0].clips
    assert (clip.source.song_fingerprint, clip.source.variation) == ("f1", took)
    assert json.loads(clip.lineage.parameters_json)["variation"]["programs"] == {"0": 6}
    assert clip.lineage.seed == 9


def test_a_song_as_written_is_asked_for_as_before() -> None:
    clients = services(RENDERED, clips=[Clip()])
    run(clients, variations=3)
    [request] = clients.requests("UpsertClips")
    assert not request.clips[0].source.HasField("variation")
    assert not request.clips[0].lineage.parameters_json


def test_a_song_without_clips_is_not_sent_to_curation() -> None:
    clients = services(RENDERED)
    assert run(clients)[0].clips == 0
    assert clients.requests("UpsertClips") == []


def test_a_song_is_rendered_as_the_options_say() -> None:
    clients = services(RENDERED)
    run(clients, backend="map", humanise_timing_ms=8.0, humanise_velocity=0.0)
    [asked] = clients.requests("RenderSong")
    assert (asked.backend, asked.humanise_timing_ms, asked.humanise_velocity) == ("map", 8.0, 0.0)
    assert asked.HasField("humanise_velocity")  # none is another question than the renderer's default


def test_what_is_not_said_is_the_renderers_affair() -> None:
    clients = services(RENDERED)
    run(clients)
    [asked] = clients.requests("RenderSong")
    assert {field.name for field, _ in asked.ListFields()} == {"midi"}


def test_the_length_of_clips_sets_the_bounds_around_it() -> None:
    clients = services(RENDERED)
    run(clients, clip_s=15.0)
    [cut] = clients.requests("CutClips")
    assert (cut.target_s, cut.min_s, cut.max_s) == (15, 10, 16)
    clients = services(RENDERED)
    run(clients)
    assert not clients.requests("CutClips")[0].HasField("target_s")


@pytest.mark.parametrize("asked", [0, 5])
def test_prompts_of_a_clip_are_as_many_as_asked_else_the_services_default(asked: int) -> None:
    clients = services(RENDERED, clips=[Clip()])
    run(clients, prompts=asked)
    [request] = clients.requests("ComposePrompts")
    assert (request.HasField("count"), request.count) == (bool(asked), asked)


def test_a_call_that_a_stopping_worker_cancelled_is_made_again() -> None:
    clients = services(Cancelled("the server stopped"), Cancelled("the server stopped"), RENDERED)
    run(clients)
    assert len(clients.requests("RenderSong")) == 3


def test_a_caller_with_all_the_calls_that_it_may_have_waits_for_its_turn() -> None:
    full = QuotaExceeded("pipeline has 4 calls of work in flight", reason="CALLER_IN_FLIGHT")
    clients = services(full, full, RENDERED)
    run(clients)
    assert len(clients.requests("RenderSong")) == 3


def test_a_song_that_takes_every_worker_with_it_is_not_tried_for_ever() -> None:
    lost = QuotaExceeded("5 servers went away in the middle of this call", reason="CALL_LOST")
    with pytest.raises(StageError, match="5 servers went away"):
        run(services(lost, RENDERED))


def test_the_retry_budget_is_the_services_not_the_songs() -> None:
    with pytest.raises(StageError, match="every slot works"):
        run(services(BUSY, RENDERED), retry_budget_s=0.0)
    run(services(BUSY, RENDERED))
    clients = services(BUSY, RENDERED)
    clients.retry_budget_s = 0.2
    pipeline = SongPipeline(clients, SongOptions("book"))
    pipeline._answered["render"] = time.monotonic() + 60  # others get through
    time.sleep(0.3)
    pipeline.run(SONG, lambda _: None)


def test_what_was_lost_from_the_store_is_made_again() -> None:
    lost = DataLoss("the mix is corrupt")
    clients = services(RENDERED, analysis=Stub(CutClips=[lost, CutClipsResponse(action=action("cut"))]))
    _, stages = run(clients)
    assert stages == ["render", "cut", "render", "cut", "enrich"]


def test_the_end_of_the_command_ends_its_songs() -> None:
    with pytest.raises(StageError, match="closed"):
        run(services(Cancelled("the client was closed", reason="CLIENT_CLOSED"), RENDERED))

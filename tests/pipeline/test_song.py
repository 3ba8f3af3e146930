"""The way of one song, with services that answer from a script."""

import pytest

from luthier.analysis.v1 import analysis_pb2 as analysis
from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as curation
from luthier.enrichment.v1 import enrichment_pb2 as enrichment
from luthier.prompting.v1 import prompting_pb2 as prompting
from luthier.rendering.v1 import rendering_pb2 as rendering
from luthier_kit.errors import Cancelled, QuotaExceeded, Unavailable
from luthier_pipeline import song as songs
from luthier_pipeline.corpus import Entry
from luthier_pipeline.failure import StageError
from luthier_pipeline.song import Options, SongWay


class Service:
    """Gives one answer, and keeps the last request."""

    def __init__(self, answer):
        self.answer = answer

    def call(self, _method, request, **_):
        self.request = request
        return self.answer


def action(stage, licence=""):
    lineage = common.Lineage(versions={stage: "1"}, licences=[licence] if licence else [])
    return common.ActionInfo(action_key=f"actions/{stage}/0.json", lineage=lineage)


def test_a_clips_lineage_names_the_midi_file_and_the_record_and_version_of_every_stage():
    services = {
        "rendering": Service(rendering.RenderSongResponse(action=action("render", "GPL-2.0-only"), seed=7)),
        "analysis": Service(analysis.CutClipsResponse(action=action("cut"), clips=[analysis.Clip()])),
        "enrichment": Service(enrichment.EnrichSongResponse(action=action("enrich"))),
        "prompting": Service(prompting.ComposePromptsResponse(action=action("prompt"))),
        "curation": Service(curation.UpsertClipsResponse(created=1)),
    }
    made = SongWay(services, Options("book", licence="CC0-1.0")).make(Entry("a.mid", sha256="ab"), lambda _: None)
    lineage = services["curation"].request.clips[0].lineage
    stages = ("render", "cut", "enrich", "prompt")
    assert list(lineage.inputs) == ["ab", *(f"actions/{stage}/0.json" for stage in stages)]
    assert sorted(lineage.versions) == sorted(stages)
    assert list(lineage.licences) == ["CC0-1.0", "GPL-2.0-only"]
    assert (lineage.seed, made.clips, made.computed) == (7, 1, 5)


class Crowded:
    """Raises the errors of a script, then gives its answer."""

    def __init__(self, answer, *errors):
        self.answer, self.errors = answer, list(errors)

    def call(self, _method, _request, **_):
        if self.errors:
            raise self.errors.pop(0)
        return self.answer


ANSWERS = {
    "analysis": Service(analysis.CutClipsResponse(action=action("cut"))),
    "enrichment": Service(enrichment.EnrichSongResponse(action=action("enrich"))),
}
BUSY = Unavailable("every slot works", reason="BUSY")
RENDERED = rendering.RenderSongResponse(action=action("render"))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(songs, "AGAIN_S", 0.0)


def test_a_call_that_a_stopping_worker_cancelled_is_made_again():
    renderer = Crowded(RENDERED, Cancelled("the server stopped"), Cancelled("the server stopped"))
    SongWay({**ANSWERS, "rendering": renderer}, Options("book")).make(Entry("a.mid"), lambda _: None)
    assert renderer.errors == []


def test_a_caller_with_all_the_calls_that_it_may_have_waits_for_its_turn():
    full = QuotaExceeded("pipeline has 4 calls of work in flight", reason="CALLER_IN_FLIGHT")
    renderer = Crowded(RENDERED, full, full)
    SongWay({**ANSWERS, "rendering": renderer}, Options("book")).make(Entry("a.mid"), lambda _: None)
    assert renderer.errors == []


def test_a_song_that_takes_every_worker_with_it_is_not_tried_for_ever():
    lost = QuotaExceeded("5 servers went away in the middle of this call", reason="CALL_LOST")
    way = SongWay({"rendering": Crowded(RENDERED, lost)}, Options("book"))
    with pytest.raises(StageError, match="5 servers went away"):
        way.make(Entry("a.mid"), lambda _: None)


def test_patience_ends_with_the_service_not_with_the_song():
    way = SongWay({**ANSWERS, "rendering": Crowded(RENDERED, BUSY)}, Options("book", patience_s=0.0))
    with pytest.raises(StageError, match="every slot works"):
        way.make(Entry("a.mid"), lambda _: None)
    way = SongWay({**ANSWERS, "rendering": Crowded(RENDERED, BUSY)}, Options("book", patience_s=60.0))
    way.make(Entry("a.mid"), lambda _: None)


def test_the_end_of_the_command_ends_its_songs():
    closed = Cancelled("the client was closed", reason="CLIENT_CLOSED")
    way = SongWay({"rendering": Crowded(RENDERED, closed)}, Options("book"))
    with pytest.raises(StageError, match="closed"):
        way.make(Entry("a.mid"), lambda _: None)

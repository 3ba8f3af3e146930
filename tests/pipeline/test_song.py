"""The way of one song, with services that answer from a script."""

from luthier.analysis.v1 import analysis_pb2 as analysis
from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as curation
from luthier.enrichment.v1 import enrichment_pb2 as enrichment
from luthier.prompting.v1 import prompting_pb2 as prompting
from luthier.rendering.v1 import rendering_pb2 as rendering
from luthier_pipeline.corpus import Entry
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

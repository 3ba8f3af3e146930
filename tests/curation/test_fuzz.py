"""Hostile requests to every RPC: the status of the table, a stable reason, and a field for what is invalid."""

import pytest

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.__main__ import service_of
from luthier_curation.curation import Curation
from luthier_kit.store import Store
from tests.support.fuzz import Example, attack
from tests.support.services import running

from .builders import PROMPT, clip


@pytest.mark.parametrize("per_class", [None, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(curation: Curation, store: Store, per_class: int | None) -> None:
    sent = clip(store)
    [clip_id], _ = curation.upsert("demo", [sent])

    def update() -> pb.UpdateClipRequest:
        return pb.UpdateClipRequest(
            clip_id=clip_id,
            expected_revision=curation.clip(clip_id).revision,
            reviewer="ann",
            prompts=[PROMPT],
            instruments=pb.InstrumentsEdit(instruments=[common.InstrumentFact(instrument="Drums", share=0.5)]),
            tempo=common.TempoFact(tempo_bpm=120),
            key=common.KeyFact(tonic="C", mode=common.MODE_MAJOR),
            remark="fine",
        )

    def review() -> pb.ReviewClipsRequest:
        return pb.ReviewClipsRequest(
            clips=[pb.ClipRevision(clip_id=clip_id, expected_revision=curation.clip(clip_id).revision)],
            verdict=pb.VERDICT_ACCEPTED,
            reviewer="ann",
            remark="fine",
        )

    examples: dict[str, Example] = {
        "UpsertClips": pb.UpsertClipsRequest(collection="demo", clips=[sent]),
        "ListClips": pb.ListClipsRequest(
            filter=pb.ClipFilter(collection="demo", min_tempo_bpm=1, max_tempo_bpm=300, text="rock"), page_size=5
        ),
        "UpdateClip": update,
        "ReviewClips": review,
        "ExportDataset": pb.ExportDatasetRequest(
            collection="demo", name="demo", validation_share=0.1, test_share=0.1, exported_by="ann"
        ),
    }
    with running(service_of(curation)) as address:
        attack(address, pb.DESCRIPTOR.services_by_name["CurationService"], examples, per_class)

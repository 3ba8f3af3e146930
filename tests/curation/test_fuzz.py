"""Hostile requests to every RPC: the status of the table, a stable reason, and a field for what is invalid."""

from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as pb
from luthier.curation.v1 import listening_pb2
from luthier_curation.__main__ import OFF, build
from luthier_curation.curation import Curation
from luthier_curation.settings import CurationSettings
from luthier_curation.tables import ACCEPTED
from luthier_curation.vectors import Embedded, keep
from luthier_curation.verdicts import Decision
from luthier_kit.store import Store
from tests.support.fuzz import Example, attack
from tests.support.own_process import in_own_process

from .builders import PROMPT, clip
from .evaluations import Evaluation, serving
from .listening_builders import create


@pytest.mark.parametrize("per_class", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(
    curation: Curation, engine: Engine, store: Store, tmp_path: Path, per_class: int
) -> None:
    settings = CurationSettings(
        address="127.0.0.1:0",
        store_folder=tmp_path / "store",
        scratch=tmp_path,
        database_url=engine.url.render_as_string(hide_password=False),
        web_address=OFF,
    )
    sent = clip(store)
    [clip_id, other], *_ = curation.upsert("demo", [sent, clip(store, song=2)])
    vector = np.ones(512, np.float32) / np.sqrt(np.float32(512))
    embedded = [Embedded(name, sent.audio.sha256, vector) for name in (clip_id, other)]
    curation.repository.write(lambda session: keep(session, "clap", "a" * 64, embedded))
    ratings = cycle((1, 2))  # so that each verdict is a change

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

    reviewed = curation.review({clip_id: 0}, Decision(ACCEPTED, "ann"))

    def undo() -> pb.UndoBatchRequest:
        return pb.UndoBatchRequest(
            batch_id=curation.review({other: 0}, Decision(ACCEPTED, "ann", rating=next(ratings))).batch_id,
            reviewer="ann",
        )

    examples: dict[str, Example] = {
        "UpsertClips": pb.UpsertClipsRequest(collection="demo", clips=[sent]),
        "ListClips": pb.ListClipsRequest(
            filter=pb.ClipFilter(collection="demo", min_tempo_bpm=1, max_tempo_bpm=300, text="rock"), page_size=5
        ),
        "UpdateClip": update,
        "ReviewClips": review,
        "GetBatch": pb.GetBatchRequest(batch_id=reviewed.batch_id),
        "UndoBatch": undo,
        "SearchClips": pb.SearchClipsRequest(filter=pb.ClipFilter(collection="demo"), clip_id=clip_id, limit=5),
        "EmbedClips": pb.EmbedClipsRequest(filter=pb.ClipFilter(collection="demo"), reviewer="ann"),
        "SkipClips": pb.SkipClipsRequest(clip_ids=[clip_id], reviewer="ann"),
        "AssignClips": pb.AssignClipsRequest(
            filter=pb.ClipFilter(collection="demo"), reviewers=["ann", "bob"], per_clip=1
        ),
        "ListCollections": pb.ListCollectionsRequest(collection="demo"),
        "UpdateCollection": pb.UpdateCollectionRequest(name="demo", opinions_per_clip=1),
        "ImportOpinions": pb.ImportOpinionsRequest(
            opinions=[
                pb.ImportedOpinion(
                    clip_id=clip_id,
                    opinion=pb.Opinion(reviewer="ann", verdict=pb.VERDICT_ACCEPTED, rating=2, remark="dull"),
                    prompts=[PROMPT],
                )
            ],
            imported_by="bob",
        ),
        "GetClipStamps": pb.GetClipStampsRequest(clip_ids=[clip_id]),
        "ExportDataset": pb.ExportDatasetRequest(
            collection="demo", name="demo", validation_share=0.1, test_share=0.1, exported_by="ann"
        ),
        "CreateListeningTest": create(store, tmp_path, trials=1, seconds=0.2),
        "GetListeningTest": listening_pb2.GetListeningTestRequest(test="ours-vs-base"),
        "ListListeningTests": listening_pb2.ListListeningTestsRequest(page_size=5),
        "GetListeningResults": listening_pb2.GetListeningResultsRequest(test="ours-vs-base"),
    }
    with (
        serving(Evaluation(store, tmp_path)) as address,  # type: ignore[abstract]
        in_own_process(build, replace(settings, evaluation_address=address)) as service,
    ):
        attack(service, pb.DESCRIPTOR.services_by_name["CurationService"], examples, per_class)

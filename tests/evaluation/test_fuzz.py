"""Hostile requests to every RPC: the status of the table, a stable reason, and a field for what is invalid."""

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import soundfile

from luthier.common.v1.common_pb2 import MODE_MINOR, KeyFact
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.__main__ import build
from luthier_evaluation.conversion.__main__ import convert
from luthier_evaluation.plan import EVALUATIONS
from luthier_evaluation.settings import EvaluationSettings
from luthier_kit.registry import RunLog
from luthier_kit.store import Store
from tests.support.fuzz import Example, attack
from tests.support.own_process import in_own_process


@pytest.mark.parametrize("per_class", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(store: Store, tmp_path: Path, per_class: int) -> None:
    settings = EvaluationSettings(
        address="127.0.0.1:0",
        store_folder=tmp_path / "store",
        scratch=tmp_path,
        inference_address="127.0.0.1:1",  # nobody's: what is accepted waits
        analysis_address="127.0.0.1:1",
        metric_weights=str(tmp_path / "weights"),
    )
    row = pb.SuiteRow(prompt="a song", seconds_total=2, seed=1, tempo_bpm=120, key=KeyFact(tonic="F#", mode=MODE_MINOR))

    def create() -> pb.CreateEvaluationRequest:
        return pb.CreateEvaluationRequest(
            request_id=uuid4().hex,
            candidate_model="tuned",
            baseline_model="base",
            suite=pb.Suite(name="own", description="one row", rows=[row]),
            steps=1,
            guidance_scale=1,
            max_rows=1,
            created_by="ann",
            sampler="k-euler",
            seconds_total=1,
            tempo_estimator="essentia",
            beat_estimator="essentia",
            measure_end=True,
        )

    ended = RunLog.create(
        store, EVALUATIONS, "ended", pb.EvaluationPlan(request=create(), models=[pb.EvaluatedModel()])
    )
    ended.cancel()  # a stream of it ends
    convert("musicnn_msd", None, tmp_path / "weights")
    weights = store.blobs.put_file("metric-weights", tmp_path / "weights/musicnn_msd.safetensors")
    sound = tmp_path / "sound.flac"
    soundfile.write(sound, np.random.default_rng(0).uniform(-0.5, 0.5, 16_000), 16_000)
    examples: dict[str, Example] = {
        "CreateEvaluation": create,
        "GetEvaluation": pb.GetEvaluationRequest(evaluation_id=ended.id),
        "ListEvaluations": pb.ListEvaluationsRequest(page_size=2),
        "CancelEvaluation": pb.CancelEvaluationRequest(evaluation_id=ended.id, reason="no"),
        "WatchEvaluation": pb.WatchEvaluationRequest(evaluation_id=ended.id, after_sequence=1),
        "PromoteModel": pb.PromoteModelRequest(
            name="current", model="tuned@1", evaluation_id=ended.id, promoted_by="ann", reason="better", force=True
        ),
        "RegisterMetricWeights": pb.RegisterMetricWeightsRequest(
            name="musicnn_msd", weights=weights, source="a test", created_by="ann"
        ),
        "ListMetricWeights": pb.ListMetricWeightsRequest(),
        "EmbedAudio": pb.EmbedAudioRequest(embedder="musicnn_msd", audio=[store.blobs.put_file("clips", sound)]),
        "EmbedText": pb.EmbedTextRequest(embedder="clap", texts=["slow jazz"]),
    }
    with in_own_process(build, settings) as service:
        attack(service, pb.DESCRIPTOR.services_by_name["EvaluationService"], examples, per_class, refused=["EmbedText"])

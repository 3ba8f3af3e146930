"""`luthier status`: a line a collection, a line a shard, every failure; and what the services know."""

import re
import time
from typing import Any

import pytest

from luthier.curation.v1.curation_pb2 import VERDICT_ACCEPTED, ListClipsResponse
from luthier.curation.v1.dataset_pb2 import DatasetVersion
from luthier.inference.v1.inference_pb2 import ListModelsResponse, Model
from luthier.pipeline.v1.pipeline_pb2 import PartProgress, ShardProgress, SongFailure
from luthier.training.v1.training_pb2 import RUN_STATE_RUNNING, ListTrainingRunsResponse, TrainingRun
from luthier_kit.rpc import Unavailable
from luthier_kit.store import Store
from luthier_pipeline.run_status import part_series, timestamp
from tests.pipeline.fakes import FakeClients, Stub, luthier

FAILURE = SongFailure(path="A/b.mid", stage="render", reason="MIDI_TOO_LONG", message="must be shorter")


@pytest.fixture
def store(store: Store) -> Store:
    """A run of three shards: one done, one that has said nothing for two minutes, one that has not begun."""

    def part(index: int, state: str, silent: float, failures: list[SongFailure], **numbers: Any) -> None:
        work = ShardProgress(shard=index, shards=3, songs=4, clips=6, **numbers)
        progress = PartProgress(
            collection="book", run="r", part=f"{index}-of-3", host=f"pod-{index}",
            state=f"PART_STATE_{state}", updated_at=timestamp(time.time() - silent),
            corpus_songs=12, failures=failures, shard=work,
        )  # fmt: skip
        part_series(store, "book", "r", progress.part).append(progress)

    part(0, "DONE", 0, [FAILURE], rendered=3, failed=1, eta_s=0.0)
    part(1, "RUNNING", 120, [], rendered=1, waiting=1, in_flight=2, eta_s=65.0)
    return store


def test_a_run_is_the_sum_of_its_shards(store: Store) -> None:
    run = luthier("status --collection book --json", FakeClients(store)).document["runs"]["book"]
    assert (run["state"], run["songs"], run["rendered"], run["failed"]) == ("RUNNING", 12, 4, 1)
    assert (run["in_flight"], run["waiting"], run["clips"], run["eta_s"]) == (2, 1 + 4, 12, 65.0)


def test_the_json_keeps_its_field_names(store: Store) -> None:
    run = luthier("status --collection book --json", FakeClients(store)).document["runs"]["book"]
    assert set(run) == {
        "run", "state", "at", "songs", "waiting", "rendered", "failed", "in_flight", "clips", "need_render", "eta_s",
        "shard_count", "ingest", "shards", "failures", "variations", "variations_rendered", "variations_failed",
    }  # fmt: skip
    assert set(run["shards"][0]) >= {
        "collection", "run", "part", "host", "state", "began_at", "at", "shard", "shards", "corpus_songs", "songs",
        "waiting", "in_flight", "rendered", "failed", "clips", "files", "duplicates", "seconds", "audio_s", "computed",
        "reused", "cpu_s", "eta_s", "need_render", "failures",
    }  # fmt: skip
    assert run["failures"] == [
        {"path": "A/b.mid", "stage": "render", "reason": "MIDI_TOO_LONG", "message": "must be shorter", "variation": 0}
    ]


def test_people_see_what_is_silent_what_has_not_begun_and_what_failed(store: Store) -> None:
    head, shards, failures = luthier("status --collection book", FakeClients(store)).out.strip().split("\n\n")
    assert "RUNNING (1/3 shards done, 1 not begun, 1 silent)  5/12" in head
    assert re.search(r"1-of-3  silent for 02:0\d  1/4", shards)
    assert failures == "FAILED book: A/b.mid: render: MIDI_TOO_LONG: must be shorter"


def test_a_collection_that_nobody_ran_has_no_run(store: Store) -> None:
    assert luthier("status --collection other --json", FakeClients(store)).document == {"runs": {}}
    assert luthier("status --collection other", FakeClients(store)).out == "no pipeline run yet\n"


def test_without_a_collection_the_services_are_asked_and_one_that_is_away_is_a_line(store: Store) -> None:
    store.series(DatasetVersion, "datasets/book").append(DatasetVersion(collection="book"))
    clips = Stub(ListClips=lambda request: ListClipsResponse(total=3 * (request.filter.verdict == VERDICT_ACCEPTED)))
    models = Stub(ListModels=ListModelsResponse(models=[Model(name="sao", version=2)]))
    run = TrainingRun(run_id="training-0123456789", state=RUN_STATE_RUNNING)
    trainings = Stub(ListTrainingRuns=ListTrainingRunsResponse(runs=[run]))
    clients = FakeClients(store, curation=clips, inference=models, training=trainings)
    text = luthier("status", clients).out
    for line in (
        "clips: 0 open, 3 accepted, 0 rejected",
        "data sets: book@1",
        "trainings: \n  training-0123456789  RUNNING\n",
        "evaluations: evaluation does not answer at 127.0.0.9:9",
        "models: sao@2",
    ):
        assert line in text
    document = luthier("status --json", clients).document
    assert (document["clips"]["accepted"], document["datasets"]) == (3, {"book": 1})
    assert document["trainings"][0]["state"] == "RUN_STATE_RUNNING"
    assert "127.0.0.9:9" in document["evaluations"]["unavailable"]


def test_models_of_a_service_that_is_away_are_not_none(store: Store) -> None:
    lines = luthier("status", FakeClients(store)).out.splitlines()
    assert "models: inference does not answer at 127.0.0.9:9" in lines
    assert "clips: curation does not answer at 127.0.0.9:9" in lines


def test_data_sets_of_a_store_that_fails_are_unknown_and_the_rest_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = Unavailable("the artifact folder failed: Input/output error", reason="STORE_UNAVAILABLE")
    names = store.names

    def failing(prefix: str) -> list[str]:
        if prefix == "datasets/":
            raise down
        return names(prefix)

    monkeypatch.setattr(store, "names", failing)
    lines = luthier("status", FakeClients(store)).out.splitlines()
    assert "data sets: unknown: STORE_UNAVAILABLE: the artifact folder failed: Input/output error" in lines
    assert "models: inference does not answer at 127.0.0.9:9" in lines

"""What Luthier 0.1 stored is read by today's code, and goes on from there.

`stored/` was written by the kit of commit 5aa81e1, by the program in `stored/program.txt`.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, TrainingProgress, TrainingResult
from luthier_kit.registry import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_QUEUED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    Heartbeat,
    RunKind,
    RunLog,
    current_version,
    list_runs,
    register,
    resolve,
    run_id_of,
    versions,
)
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, NotFound, error_of
from luthier_kit.store import Action, FolderStore, Store

STORED = Path(__file__).with_name("stored")
TRAINING = RunKind("training", CreateTrainingRunRequest, TrainingProgress, TrainingResult)
RENDER = Action(
    "render", ["ab" * 32], {"gain_db": -3.5, "backend": "soundfont"},
    seed=7, version="2", tools={"soundfont": "cd" * 32}, licences=["MIT"],
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    shutil.copytree(STORED / "luthier", tmp_path / "luthier")
    store = Store(FolderStore(tmp_path, "luthier"))
    store.objects.ensure_bucket(create=True)
    return store


def never() -> RenderSongResponse:
    raise AssertionError("computed again")


def run(store: Store, request_id: str) -> RunLog[CreateTrainingRunRequest, TrainingProgress, TrainingResult]:
    return RunLog(store, TRAINING, run_id_of("training", request_id))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


# Action records


def test_the_record_of_a_result_answers_with_all_it_held(store: Store) -> None:
    for key in list(store.objects.keys("tombstones/")):
        store.objects.delete(key)
    response, reused = store.actions.run(RENDER, RenderSongResponse, never)
    assert reused
    assert (response.seed, response.cpu_s, response.fingerprint) == (2**63, 0.1, "ab")
    assert store.blobs.read(response.mix) == b"a mix"
    assert [store.blobs.read(stem.audio) for stem in response.stems] == [b"a stem"]
    assert response.action.lineage == RENDER.lineage
    record = store.actions.record(RENDER, RenderSongResponse)
    assert record
    stored = json.loads(store.objects.get(RENDER.key(1), 1 << 20) or b"")
    assert (record.commit, record.generation) == (stored["commit"], 1)
    assert record.created_at.ToDatetime(UTC) == moment(stored["created_at"])
    assert [ref.key for ref in record.blobs] == [response.mix.key, response.stems[0].audio.key]


def test_an_old_record_ages_and_the_next_generation_is_written_behind_it(store: Store) -> None:
    mix = store.blobs.put_bytes("mixes", b"a newer mix", "flac")
    fresh, reused = store.actions.run(RENDER, RenderSongResponse, lambda: RenderSongResponse(mix=mix), max_age_s=0)
    assert (reused, fresh.action.action_key) == (False, RENDER.key(2))


@pytest.mark.parametrize(
    ("source", "kind", "reason", "message", "metadata"),
    [
        ("ef", InvalidRequest, "MIDI_TOO_LONG", "too many notes: 11", {"notes": "11"}),
        ("01", FailedPrecondition, "PLUGIN_REFUSED", "the plugin does not render this", {"plugin": "Spitfire ö"}),
    ],
)
def test_a_refusal_is_raised_again(
    store: Store, source: str, kind: type[InvalidRequest], reason: str, message: str, metadata: dict[str, str]
) -> None:
    with pytest.raises(kind, match=message) as caught:
        store.actions.run(Action("render", [source * 32]), RenderSongResponse, never)
    assert (caught.value.reason, caught.value.metadata) == (reason, metadata)
    if source == "ef":
        assert caught.value.violations == (("midi", "at most 10 notes"),)


# Model versions


def test_model_versions_have_what_was_registered(store: Store) -> None:
    first, second = versions(store, "tiny")
    assert (first.label, first.dataset, first.created_by, first.reason) == ("tiny@1", None, "operator", "base")
    assert store.blobs.read(first.checkpoint) == b"weights"
    assert [(name, store.blobs.read(ref)) for name, ref in first.text_encoder] == [("spiece.model", b"t5")]
    assert first.notes == {"tiny": True, "steps": 8, "loss": 0.25, "base": None, "tags": ["a", 1]}
    assert second.dataset
    assert second.dataset.key.startswith("datasets/")
    assert (second.dataset_name, second.evaluation, second.autoencoder_digest) == ("way@1", "evaluation-1", "ab" * 32)
    stored = json.loads(store.objects.get("models/tiny/2.json", 1 << 20) or b"")["document"]
    assert (second.digest, second.created_at) == (stored["digest"], moment(stored["created_at"]))


def test_whole_numbers_of_notes_stay_whole(store: Store) -> None:
    first = versions(store, "tiny")[0]
    register(store, replace(first, reason="back"))
    again = current_version(store, "tiny")
    assert again
    for version in (first, again):
        assert json.dumps(version.notes, sort_keys=True) == (
            '{"base": null, "loss": 0.25, "steps": 8, "tags": ["a", 1], "tiny": true}'
        )


def test_a_version_is_appended_behind_old_ones_and_the_current_one_is_not_registered_twice(store: Store) -> None:
    _, second = versions(store, "tiny")
    assert register(store, second) == second
    back = register(store, replace(versions(store, "tiny")[0], reason="worse by ear"))
    assert back.label == "tiny@3"
    assert resolve(store, f"sha256:{back.digest}") == back


# Runs


def test_a_run_that_succeeded_is_read_event_by_event(store: Store) -> None:
    events = list(run(store, "succeeded").watch(after_seq=1, poll_s=0))
    assert [event.event for event in events] == ["waiting", "started", "progress", "progress", "cancel", "succeeded"]
    assert [event.seq for event in events] == [2, 3, 4, 5, 6, 7]
    assert [event.waiting_for for event in events[:2]] == ["no node has a GPU", ""]
    assert (events[2].progress.stage, events[2].progress.done, events[2].progress.eta_s) == ("train", 3, 12.5)
    ended = events[-1]
    assert ended.request == CreateTrainingRunRequest(request_id="succeeded", model_name="tuned", seed=7)
    assert ended.progress == TrainingProgress(stage="train", done=10, total=10)
    assert ended.result == TrainingResult(model="tiny@3", model_digest="sha256:ab")
    assert (ended.state, ended.runner, ended.attempts) == (RUN_STATE_SUCCEEDED, "runner-1", 1)
    assert ended.cancellation
    assert (ended.cancellation.requested_by, ended.cancellation.reason) == ("bob", "too late")
    stored = json.loads(store.objects.get(f"runs/{ended.id}/7.json", 1 << 20) or b"")["document"]
    assert (ended.created_at, ended.updated_at) == (moment(stored["created_at"]), moment(stored["updated_at"]))


def test_a_run_that_failed_has_the_status_that_was_meant(store: Store) -> None:
    failed = run(store, "failed").read()
    assert failed.state == RUN_STATE_FAILED
    assert failed.error
    error = error_of(failed.error)
    assert (error.code, error.reason, str(error)) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY", "no room for batch 16",
    )  # fmt: skip


def test_all_runs_are_listed(store: Store) -> None:
    states = {found.request.request_id: found.state for found in list_runs(store, TRAINING)}
    assert states == {
        "succeeded": RUN_STATE_SUCCEEDED,
        "failed": RUN_STATE_FAILED,
        "waiting": RUN_STATE_QUEUED,
        "cancelled": RUN_STATE_CANCELLED,
    }


def test_the_same_request_id_is_the_old_run_and_another_request_is_refused(store: Store) -> None:
    asked = CreateTrainingRunRequest(request_id="waiting", model_name="tuned", seed=7)
    assert RunLog.create(store, TRAINING, "waiting", asked).read().waiting_for == "a free runner"
    asked.seed = 8
    with pytest.raises(FailedPrecondition):
        RunLog.create(store, TRAINING, "waiting", asked)


def test_an_old_run_goes_on_under_today_s_code(store: Store) -> None:
    work = RunLog(store, TRAINING, run_id_of("training", "waiting"), runner="runner-9")
    assert work.start().state == RUN_STATE_RUNNING
    work.progress(TrainingProgress(stage="train", done=1))
    assert work.succeed(TrainingResult(model="tuned@1")).seq == 5
    again = run(store, "waiting").read()
    assert (again.result.model, again.waiting_for, again.progress.done) == ("tuned@1", "", 1)


def test_a_kind_may_read_its_old_documents_by_functions_of_its_own(store: Store) -> None:
    def old_progress(value: Mapping[str, Any]) -> TrainingProgress:
        return TrainingProgress(stage=value["stage"].upper(), done=value["done"])

    kind = replace(TRAINING, old_progress=old_progress)
    assert RunLog(store, kind, run_id_of("training", "succeeded")).read().progress.stage == "TRAIN"


# Heartbeats and tombstones


def test_a_heartbeat_is_alive_until_it_expires_and_the_next_one_follows(store: Store) -> None:
    heartbeat = Heartbeat(store, run_id_of("training", "succeeded"), "runner-1")
    assert heartbeat.alive()  # the newest one expires in 2058
    heartbeat.beat(expiry_s=0)
    assert not heartbeat.alive()
    assert sorted(store.objects.keys("heartbeats/"))[-1].endswith("/4.json")


def test_what_was_taken_down_stays_so(store: Store) -> None:
    (key,) = store.objects.keys("tombstones/")
    digest = key.removeprefix("tombstones/").removesuffix(".json")
    with pytest.raises(NotFound, match="was taken down"):
        store.actions.run(Action("cut", [digest]), RenderSongResponse, never)
    with pytest.raises(NotFound, match="was taken down"):
        store.actions.run(RENDER, RenderSongResponse, never)


def test_the_examples_are_of_the_past() -> None:
    written = json.loads((STORED / "luthier/models/tiny/1.json").read_text())["document"]["created_at"]
    assert moment(written) < datetime.now(UTC) + timedelta(days=1)

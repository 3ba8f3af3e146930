"""`luthier logs` and `luthier status ID`: what a person sees of a training."""

from pathlib import Path

import pytest

from luthier.training.v1.training_pb2 import (
    RUN_STATE_RUNNING,
    GetTrainingRunRequest,
    GetTrainingRunResponse,
    LossPoint,
    TimestepLoss,
    TrainingLog,
    TrainingRun,
    TrainingSample,
)
from luthier_kit.store import Store
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier

RUN = f"training-{'1a2b' * 8}"


@pytest.fixture
def run(store: Store) -> TrainingRun:
    """A run at step 400 with two parts of a log, and two samples of each of two steps."""
    store.objects.create(f"runs/{RUN}/1.json", b"{}")
    run = TrainingRun(
        run_id=RUN, state=RUN_STATE_RUNNING, stage="train", done=450, total=4000, eta_s=65.0, loss=0.71,
        learning_rate=4.5e-5, gradient_norm=0.83, validation=[LossPoint(loss=1.0), LossPoint(step=400, loss=0.75)],
        validation_by_timestep=[TimestepLoss(timestep=0.1, loss=0.9), TimestepLoss(timestep=0.9, loss=0.6)],
    )  # fmt: skip
    for first, last in ((0, 0), (1, 400)):
        events = store.blobs.put_bytes("training-logs", f"events to {last}".encode(), "tfevents")
        run.logs.append(TrainingLog(first_step=first, last_step=last, events=events))
        for prompt in ("calm piano", "loud drums"):
            audio = store.blobs.put_bytes("training-samples", f"{prompt} at {last}".encode(), "flac")
            run.samples.append(TrainingSample(step=last, prompt=prompt, audio=audio))
    return run


def call(line: str, store: Store, run: TrainingRun) -> Done:
    def get(request: GetTrainingRunRequest) -> GetTrainingRunResponse:
        assert request.run_id == RUN
        return GetTrainingRunResponse(run=run)

    return luthier(line, FakeClients(store, training=Stub(GetTrainingRun=get)))


def files_in(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_log_becomes_a_folder_that_tensorboard_takes(store: Store, run: TrainingRun, tmp_path: Path) -> None:
    done = call(f"logs training-1a2b {tmp_path}", store, run)
    assert done.out.splitlines()[-1] == f"tensorboard --logdir {tmp_path}"
    found = files_in(tmp_path / RUN)
    events = [name for name in found if name.startswith("events.out.tfevents.")]
    assert [found[name] for name in events] == ["events to 0", "events to 400"], "in the order of their names"
    samples = {name.split(".")[0]: text for name, text in found.items() if name.startswith("samples/")}
    assert samples == {
        "samples/step-0000000-1": "calm piano at 0",
        "samples/step-0000000-2": "loud drums at 0",
        "samples/step-0000400-1": "calm piano at 400",
        "samples/step-0000400-2": "loud drums at 400",
    }


def test_called_again_it_fetches_what_is_new_and_drops_what_was_trained_again(
    store: Store, run: TrainingRun, tmp_path: Path
) -> None:
    call(f"logs {RUN} {tmp_path}", store, run)
    run.logs[1].events.CopyFrom(store.blobs.put_bytes("training-logs", b"trained again", "tfevents"))
    done = call(f"logs {RUN} {tmp_path}", store, run)
    assert "1 files are new" in done.out
    events = [text for name, text in files_in(tmp_path / RUN).items() if name.startswith("events")]
    assert events == ["events to 0", "trained again"]


def test_a_run_without_a_log_says_when_it_gets_one(store: Store, run: TrainingRun, tmp_path: Path) -> None:
    del run.logs[:]
    done = call(f"logs {RUN} {tmp_path}", store, run)
    assert (done.code, list(tmp_path.glob("training-*"))) == (1, [])
    assert "LOG_NOT_FOUND" in done.err
    assert "first validation" in done.err


def test_the_status_of_one_training_says_all_that_is_observed(store: Store, run: TrainingRun) -> None:
    text = call("status training-1a2b", store, run).out
    assert text.splitlines()[0] == f"{RUN}  RUNNING  train 450 of 4000, 01:05 to go"
    assert "0.7500 (base 1.0000), step 400" in text
    assert "0.7100, rate 4.5e-05, gradient 0.83" in text
    assert "0.9000 at 0.1, 0.6000 at 0.9" in text
    assert f"{run.samples[3].audio.key}  loud drums" in text
    assert run.samples[0].audio.key not in text, "only the newest"
    assert f"luthier logs {RUN} FOLDER" in text
    assert call("status training-1a2b --json", store, run).document["learning_rate"] == 4.5e-5


def test_an_evaluation_has_no_log(store: Store, tmp_path: Path) -> None:
    store.objects.create("runs/evaluation-1a2b/1.json", b"{}")
    done = luthier(f"logs evaluation-1a2b {tmp_path}", FakeClients(store))
    assert (done.code, done.err.strip()) == (2, "luthier: evaluation-1a2b is no training")

"""Real processes die at bad moments; nothing is lost and nothing is done twice.

The songs of each test are transposed, so that nothing is found done; the model is that of the end-to-end tests.
"""

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mido
import pytest

from luthier.evaluation.v1 import evaluation_pb2 as evaluation
from luthier.training.v1 import training_pb2 as training
from luthier_kit.registry import RUN_STATE_RUNNING, RunKind, RunLog, list_runs, run_id_of
from tests.conftest import Answer
from tests.system import System, songbook

TRAINING = RunKind(
    "training", training.CreateTrainingRunRequest, training.TrainingProgress, training.TrainingResult
)  # fmt: skip
EVALUATION = RunKind(
    "evaluation", evaluation.EvaluationPlan, evaluation.EvaluationProgress, evaluation.EvaluationOutcome
)  # fmt: skip


def test_a_service_that_is_killed_in_the_middle_is_waited_for(system: System) -> None:
    folder = transposed(system.folder / "killed-services", keep=8, by=3)
    begun = time.time()
    died: dict[str, int] = {}

    def rendered(songs: int) -> bool:
        return _records(system, "render", newer_than=begun) >= songs

    run = system.begin("run", str(folder), "--collection", "killed-services", "--mix-only", "--in-flight", "1")
    for songs, service in enumerate(("rendering", "analysis", "enrichment", "prompting", "curation"), start=1):
        wait_for(partial(rendered, songs))  # others are left
        died[service] = system.kill(service)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    summary = json.loads(out.splitlines()[-1])
    assert (summary["rendered"], summary["failures"]) == (8, [])
    after = system.services
    assert all(after[service].pid != pid for service, pid in died.items())


def test_a_run_that_is_killed_goes_on_where_it_stood(system: System) -> None:
    folder = transposed(system.folder / "killed-run", keep=5, by=1)
    run = system.begin("run", str(folder), "--collection", "killed-run", "--mix-only", "--in-flight", "1")
    deadline = time.monotonic() + 120
    while not _records(system, "render", newer_than=run_started(run)) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    resumed = system.luthier("run", str(folder), "--collection", "killed-run", "--mix-only")
    assert (resumed["rendered"], resumed["failures"]) == (5, [])
    assert resumed["reused"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_ctrl_c_ends_with_130_and_leaves_the_services_well(system: System, number: signal.Signals) -> None:
    folder = transposed(system.folder / "interrupted", keep=4, by=2)
    run = system.begin("run", str(folder), "--collection", "interrupted", "--mix-only", "--in-flight", "1")
    wait_for(lambda: in_flight(system, "rendering"))
    os.kill(run.pid, number)
    assert run.wait(timeout=20) == 130
    assert all(row.serving for row in system.services.values())


def test_inference_that_is_killed_while_it_generates_is_asked_again(system: System, tuned: Answer) -> None:
    arguments = ("A rock song", "--model", tuned["model"], "--seconds", "2", "--steps", "600", "--seed", "11")
    asked = system.begin("generate", *arguments, "--out", str(system.folder / "killed.wav"))
    wait_for(lambda: in_flight(system, "inference"))
    died = system.kill("inference")
    out, err = asked.communicate(timeout=120)
    assert asked.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["model_digest"] == tuned["model_digest"]
    assert (system.folder / "killed.wav").read_bytes()[:4] == b"RIFF"
    assert system.services["inference"].pid != died


@pytest.mark.slow
def test_training_that_is_killed_is_followed_to_its_end(system: System, tuned: Answer) -> None:
    more = ("--steps", "8", "--batch-size", "2", "--checkpoint-every", "2", "--request-id", "killed-training")
    asked = system.begin("train", "--base", "base", "--dataset", "way", "--name", "killed", *more)
    run_id = run_id_of("training", "killed-training")
    wait_for(
        lambda: any(run.id == run_id and run.state == RUN_STATE_RUNNING for run in list_runs(system.store, TRAINING))
    )
    died = system.kill("training")
    out, err = asked.communicate(timeout=200)
    assert asked.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["model"].startswith("killed@")
    assert system.services["training"].pid != died


def test_an_evaluation_whose_service_is_killed_goes_on_with_the_rows_that_are_left(
    system: System, tuned: Answer
) -> None:
    more = ("--max-rows", "5", "--steps", "60", "--seconds", "4", "--request-id", "killed-evaluation")
    begun = time.time()
    asked = system.begin("evaluate", "--model", tuned["model"], *more)
    wait_for(lambda: _records(system, "evaluation-row", newer_than=begun))
    died = system.kill("evaluation")
    out, err = asked.communicate(timeout=200)
    assert asked.returncode == 0, err
    ended = json.loads(out.splitlines()[-1])
    assert (ended["done"], ended.get("failed_rows", 0)) == (5, 0)
    run = RunLog(system.store, EVALUATION, run_id_of("evaluation", "killed-evaluation")).read()
    assert run.attempts == 2
    assert system.services["evaluation"].pid != died


def wait_for(reached: Callable[[], object], timeout_s: float = 60) -> None:
    """Returns when `reached()` is true."""
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, "it was not reached in time"
        time.sleep(0.05)


def in_flight(system: System, service: str) -> bool:
    """Whether the service does work now, as its metrics say."""
    address = system.services[service].metrics
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return any(line.startswith("luthier_work_in_flight{") and float(line.split()[-1]) > 0 for line in lines)


def run_started(run: "subprocess.Popen[str]") -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + _ticks(run.pid)


def _ticks(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _records(system: System, stage: str, newer_than: float) -> int:
    folder = system.home / "store"
    return sum(path.stat().st_mtime > newer_than for path in folder.rglob(f"actions/{stage}/*.json"))


def transposed(folder: Path, keep: int, by: int) -> Path:
    """Songs of the songbook, `by` semitones higher."""
    for path in songbook(folder, keep).rglob("*.mid"):
        song = mido.MidiFile(path)
        for track in song.tracks:
            for message in track:
                if message.type in ("note_on", "note_off") and message.channel != 9:
                    message.note = min(127, message.note + by)
        song.save(path)
    return folder

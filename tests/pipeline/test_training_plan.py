"""`luthier train --plan` and `--continue`: what is asked of the service, and every fault with its line."""

import re
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetVersion
from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    KEPT_REASON_BEST,
    KEPT_REASON_NEWEST,
    RUN_STATE_CANCELLED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    Adapter,
    CancelTrainingRunResponse,
    CreateTrainingRunRequest,
    CreateTrainingRunResponse,
    FineTune,
    GetTrainingRunResponse,
    KeptCheckpoint,
    ListTrainingRunsResponse,
    RunState,
    StageData,
    TrainingRun,
    TrainingStage,
    WatchTrainingRunResponse,
)
from luthier_kit.registry import RunLog
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_pipeline.training_request import kept_text
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier
from tests.pipeline.filled_store import TRAINING

KEPT = [
    KeptCheckpoint(step=4, reasons=[KEPT_REASON_BEST]),
    KeptCheckpoint(step=5, reasons=[KEPT_REASON_NEWEST]),
]
PLAN = """\
name: songbook-model
base: tiny-base
seed: 7
keep_every: 100
export: best
ema_decay: 0.99
stages:
  - {name: test, steps: 20, batch_size: 4, data: [{dataset: small}]}
  - name: main
    steps: 400
    learning_rate: 5.0e-5
    warmup_steps: 10
    data:
      - {dataset: songbook@1, share: 3, subsets: {polyphonic: 2, monophonic: 1}}
      - {dataset: small, share: 1}
"""


def manifest(name: str) -> ArtifactRef:
    digit = {"small": "1", "songbook": "2"}[name]
    return ArtifactRef(bucket="luthier", key=f"manifests/{digit * 64}.json", sha256=digit * 64, size_bytes=7)


@pytest.fixture
def store(store: Store) -> Store:
    for name in ("small", "songbook"):
        store.series(DatasetVersion, f"datasets/{name}").append(DatasetVersion(manifest=manifest(name)))
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    return file


def trainer(before: TrainingRun | None = None, **answers: Any) -> Stub:
    """A training service of which every run succeeds at once, and which knows one from before."""
    done = TrainingRun(run_id="training-1", state=RUN_STATE_SUCCEEDED, model="tuned@1")
    given: dict[str, Any] = {
        "CreateTrainingRun": CreateTrainingRunResponse(run=done),
        "WatchTrainingRun": [[WatchTrainingRunResponse(run=done)]],
        "GetTrainingRun": GetTrainingRunResponse(run=before),
    }
    return Stub(**{**given, **answers})


def asked(training: Stub) -> CreateTrainingRunRequest:
    [request] = training.requests("CreateTrainingRun")
    assert isinstance(request, CreateTrainingRunRequest)
    return request


def train(store: Store, line: str, training: Stub) -> Done:
    return luthier(f"train {line}", FakeClients(store, training=training))


def test_a_plan_is_asked_as_it_says(store: Store, path: Path) -> None:
    training = trainer()
    done = train(store, f"--plan {path} --as ann", training)
    assert done.code == 0, done.err
    request = asked(training)
    recipe = request.fine_tune
    assert (request.model_name, request.seed, recipe.base_model) == ("songbook-model", 7, "tiny-base")
    assert (recipe.keep_every, recipe.export, recipe.ema_decay) == (100, EXPORTED_WEIGHTS_BEST_BY_VALIDATION, 0.99)
    test, main = recipe.stages
    assert (test.name, test.steps, test.batch_size, test.data[0].dataset) == ("test", 20, 4, manifest("small"))
    assert (main.learning_rate, main.warmup_steps, main.HasField("batch_size")) == (5e-5, 10, False)
    assert [(data.dataset, data.share) for data in main.data] == [(manifest("songbook"), 3), (manifest("small"), 1)]
    assert [(part.subset, part.share) for part in main.data[0].subsets] == [("polyphonic", 2), ("monophonic", 1)]
    assert not request.HasField("dataset")
    assert "songbook-model on small@1, songbook@1" in done.err


def test_the_plan_of_the_readme_is_one(store: Store, path: Path) -> None:
    """As pasted: a test training of 200 steps on a small data set, then the main run."""
    readme = Path(__file__).parents[2] / "services" / "training" / "README.md"
    [text] = re.findall(r"```yaml\n(# plan.yaml.*?)```", readme.read_text(), re.DOTALL)
    path.write_text(text)
    store.series(DatasetVersion, "datasets/recordings").append(DatasetVersion(manifest=manifest("small")))
    training = trainer()
    done = train(store, f"--plan {path}", training)
    assert done.code == 0, done.err
    recipe = asked(training).fine_tune
    assert [(stage.name, stage.steps) for stage in recipe.stages] == [("test", 200), ("main", 4000)]
    assert [data.share for data in recipe.stages[1].data] == [3, 1]


def test_a_plan_with_an_adapter_is_asked_as_it_says(store: Store, path: Path) -> None:
    path.write_text(f"adapter: {{kind: dora, rank: 8, alpha: 4, targets: [attention]}}\n{PLAN}")
    training = trainer()
    assert train(store, f"--plan {path}", training).code == 0
    expected = Adapter(kind=ADAPTER_KIND_DORA, rank=8, alpha=4, targets=["attention"])
    assert asked(training).fine_tune.adapter == expected


def test_faults_of_an_adapter_are_told_with_their_lines(store: Store, path: Path) -> None:
    path.write_text(f"adapter:\n  kind: loha\n  rank: 0\n  targets: [drums]\n  bias: all\n{PLAN}")
    told = train(store, f"--plan {path} --json", trainer()).document["error"]["message"]
    for fault in (
        "line 2: adapter.kind: must be lora or dora, got 'loha'",
        "line 3: adapter.rank: must be a whole number between 1 and 256, got '0'",
        "line 4: adapter.targets[0]: must be a group of layers: attention, feed_forward or all, got 'drums'",
        "line 5: adapter.bias: is not known",
    ):
        assert fault in told


def test_a_plan_may_be_registered_under_another_name(store: Store, path: Path) -> None:
    training = trainer()
    train(store, f"--plan {path} --name other", training)
    assert asked(training).model_name == "other"


def test_the_same_plan_is_the_same_run(store: Store, path: Path) -> None:
    ids = []
    for _ in range(2):
        training = trainer()
        train(store, f"--plan {path} --as ann", training)
        ids.append(asked(training).request_id)
    assert ids[0] == ids[1]


def test_every_fault_of_a_plan_is_told_at_once_with_its_line(store: Store, path: Path) -> None:
    path.write_text(
        """\
name: No Name
keep_evry: 3
export: first
metadata_share: 2
stages:
  - {name: test, steps: 0, data: [{dataset: nobody}]}
  - name: test
    steps: 10
    warmup_steps: 20
    batch_size: many
    data:
      - {dataset: small, share: 0, subsets: {polyphonic: -1}}
"""
    )
    done = train(store, f"--plan {path} --json", trainer())
    assert done.code == 1
    assert done.document["error"]["reason"] == "PLAN_INVALID"
    lines = done.document["error"]["message"].splitlines()
    assert lines[0] == f"the plan {path}:"
    told = {line.split(": ", 2)[0] + ": " + line.split(": ", 2)[1]: line.split(": ", 2)[2] for line in lines[1:]}
    assert told["line 1: the file"] == "base is missing"
    assert told["line 1: name"].startswith("must be 1 to 64 of")
    assert told["line 2: keep_evry"].startswith("is not known")
    assert told["line 3: export"] == "must be last or best, got 'first'"
    assert told["line 4: metadata_share"] == "must be a number between 0 and 1, got '2'"
    assert told["line 6: stages[0].steps"] == "must be a whole number between 1 and 1000000, got '0'"
    assert told["line 6: stages[0].data[0].dataset"] == "no data set nobody; there are: small, songbook"
    assert told["line 6: stages"] == "the name 'test' stands twice"
    assert told["line 9: stages[1].warmup_steps"] == "must be at most the stage's steps, 10"
    assert told["line 10: stages[1].batch_size"] == "must be a whole number between 1 and 256, got 'many'"
    assert told["line 12: stages[1].data[0].share"] == "must be a number above 0 and at most 1e+06, got '0'"
    assert told["line 12: stages[1].data[0].subsets.polyphonic"].startswith("must be a number above 0")


def test_what_only_the_service_knows_is_told_with_its_line(store: Store, path: Path) -> None:
    violations = [
        ("fine_tune.stages[1].data[0].dataset", "songbook has no clip of the subset 'monophonic'"),
        ("fine_tune.base_model", "must be good"),
    ]
    done = train(store, f"--plan {path}", trainer(CreateTrainingRun=InvalidRequest(violations=violations)))
    assert done.code == 1
    assert (
        f"line {PLAN[: PLAN.index('songbook@1')].count(chr(10)) + 1}: stages[1].data[0].dataset: songbook has"
        in done.err
    )
    assert "line 2: base: must be good" in done.err


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("--plan {path} --steps 3", "beside it only --name"),
        ("--plan {path} --dataset small", "beside it only --name"),
        ("--plan {path} --tiny-base", "not of --tiny-base"),
        ("--plan /nowhere.yaml", "No such file"),
        ("--tiny-base --dataset small --name m --keep-every 3", "not of --tiny-base"),
        ("--base b --dataset small --name m --export first", "must be last or best"),
        ("--base b --name m", "takes --dataset NAME and --name NAME"),
        ("--continue nothing", "four digits of the id"),
    ],
)
def test_options_that_do_not_go_together_are_refused(store: Store, path: Path, line: str, why: str) -> None:
    done = train(store, line.format(path=path), trainer())
    assert done.code == 2
    assert why in done.err


def test_keeping_and_exporting_reach_the_service(store: Store) -> None:
    training = trainer()
    train(store, "--base b --dataset small --name m --keep-every 50 --export best", training)
    recipe = asked(training).fine_tune
    assert (recipe.keep_every, recipe.export) == (50, EXPORTED_WEIGHTS_BEST_BY_VALIDATION)


@pytest.fixture
def before(store: Store) -> TrainingRun:
    """A run that was cancelled after five steps, as the service tells of it."""
    recipe = FineTune(base_model="tiny-base", steps=8, batch_size=2, learning_rate=1e-3, validate_every=4)
    request = CreateTrainingRunRequest(
        request_id="before", dataset=manifest("small"), model_name="tuned", seed=9, fine_tune=recipe
    )
    log = RunLog.create(store, TRAINING, "before", request)
    return TrainingRun(run_id=log.id, state=RUN_STATE_CANCELLED, request=request, base="tiny-base@1", kept=KEPT)


def test_a_cancelled_run_goes_on_with_its_own_plan(store: Store, before: TrainingRun) -> None:
    training = trainer(before)
    train(store, f"--continue {before.run_id[:14]} --export best", training)
    request, recipe = asked(training), asked(training).fine_tune
    assert (request.dataset, request.seed, request.model_name) == (manifest("small"), 9, "tuned")
    assert (recipe.steps, recipe.batch_size, recipe.export) == (8, 2, EXPORTED_WEIGHTS_BEST_BY_VALIDATION)
    source = recipe.continue_from
    assert recipe.base_model == "tiny-base@1"
    assert (source.run_id, source.same_plan, source.HasField("step")) == (before.run_id, True, False)


def test_any_kept_step_can_be_named(store: Store, before: TrainingRun) -> None:
    training = trainer(before)
    train(store, f"--continue {before.run_id}@4", training)
    assert asked(training).fine_tune.continue_from.step == 4


def test_with_steps_a_run_is_trained_on(store: Store, before: TrainingRun) -> None:
    training = trainer(before)
    train(store, f"--continue {before.run_id} --steps 3 --dataset songbook --name more", training)
    request, recipe = asked(training), asked(training).fine_tune
    assert (request.dataset, request.HasField("seed"), request.model_name) == (manifest("songbook"), False, "more")
    assert (recipe.steps, recipe.batch_size, recipe.HasField("validate_every")) == (3, 2, False)
    assert recipe.base_model == "tiny-base@1"  # the version that the run trained, whatever the name means now
    assert not recipe.continue_from.same_plan


def test_a_run_of_stages_is_trained_on_as_its_last(store: Store, before: TrainingRun) -> None:
    stages = [
        TrainingStage(name="test", steps=3, data=[StageData(dataset=manifest("small"))]),
        TrainingStage(
            name="main", steps=500, batch_size=3, warmup_steps=40, data=[StageData(dataset=manifest("songbook"))]
        ),
    ]
    before.request.fine_tune.stages.extend(stages)
    training = trainer(before)
    train(store, f"--continue {before.run_id} --steps 30 --learning-rate 1e-5", training)
    recipe = asked(training).fine_tune
    [only] = recipe.stages
    assert (only.name, only.steps, only.batch_size, only.learning_rate) == ("main", 30, 3, 1e-5)
    assert not only.HasField("warmup_steps")  # longer than the steps from here on
    assert only.data[0].dataset == manifest("songbook")


def test_a_plan_continues_a_run(store: Store, before: TrainingRun, path: Path) -> None:
    path.write_text(PLAN.replace("base: tiny-base\n", ""))
    training = trainer(before)
    done = train(store, f"--plan {path} --continue {before.run_id}", training)
    assert done.code == 0, done.err
    recipe = asked(training).fine_tune
    assert (recipe.base_model, len(recipe.stages), recipe.continue_from.run_id) == ("tiny-base@1", 2, before.run_id)
    assert not recipe.continue_from.same_plan


@pytest.mark.parametrize(
    ("more", "state", "why"),
    [
        ("", RUN_STATE_SUCCEEDED, "has finished: --steps N"),
        ("--learning-rate 1e-5", RUN_STATE_CANCELLED, "takes --steps N"),
    ],
)
def test_what_is_left_open_is_asked_for(
    store: Store, before: TrainingRun, more: str, state: RunState, why: str
) -> None:
    before.state = state
    done = train(store, f"--continue {before.run_id} {more}", trainer(before))
    assert done.code == 2
    assert why in done.err


def test_a_run_that_ended_in_vain_says_how_to_go_on(store: Store, before: TrainingRun) -> None:
    begun = TrainingRun(run_id=before.run_id, state=RUN_STATE_RUNNING)
    training = trainer(
        CreateTrainingRun=CreateTrainingRunResponse(run=begun),
        WatchTrainingRun=[[WatchTrainingRunResponse(run=before)]],
    )
    done = train(store, "--base b --dataset small --name m", training)
    assert done.code == 1
    assert f"kept: 4 (best), 5 (newest)\nnext: luthier train --continue {before.run_id}" in done.err


def test_cancel_says_how_to_go_on(store: Store, before: TrainingRun) -> None:
    training = trainer(CancelTrainingRun=CancelTrainingRunResponse(run=before))
    done = luthier(f"cancel {before.run_id}", FakeClients(store, training=training))
    assert done.out.splitlines() == [
        f"{before.run_id} is CANCELLED",
        f"later: luthier train --continue {before.run_id}",
    ]


def test_status_shows_the_stage_and_what_is_kept(store: Store) -> None:
    run = TrainingRun(
        run_id="training-1",
        state=RUN_STATE_RUNNING,
        stage="train",
        training_stage="main",
        done=30,
        total=420,
        kept=KEPT,
    )
    training = Stub(ListTrainingRuns=ListTrainingRunsResponse(runs=[run]))
    out = luthier("status", FakeClients(store, training=training)).out
    assert "training-1  RUNNING  train main 30/420  kept: 4 (best), 5 (newest)" in out


def test_a_kept_checkpoint_is_told_with_every_reason() -> None:
    assert kept_text(KeptCheckpoint(step=7, reasons=[KEPT_REASON_BEST, KEPT_REASON_NEWEST])) == "7 (best, newest)"

"""A run goes on with the plan of one that ended as if it had not, or begins from its weights and does another thing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    KEPT_REASON_BEST,
    ContinueFrom,
    CreateTrainingRunRequest,
    FineTune,
    StageData,
    TinyBase,
    TrainingResult,
    TrainingStage,
)
from luthier_kit.registry import ModelVersion, RunLog, resolve
from luthier_kit.rpc import DataLoss, FailedPrecondition, InvalidRequest, LuthierError, NotFound
from luthier_kit.store import Store
from luthier_model.configuration import Configuration
from luthier_training.continuing import check_source
from luthier_training.kept import best_of, kept_of
from luthier_training.plan import plan_of, read_data
from luthier_training.recipes import RECIPES, fine_tune
from luthier_training.reporting import Stopped
from luthier_training.requests import settle
from luthier_training.resuming import continued
from luthier_training.runs import KIND, TrainingRunLog

from .conftest import register_base
from .data_sets import LARGE, SMALL, put
from .test_fine_tune import TUNE, job, losses
from .test_stages import falling_until, stopping, trained


def tune(**changes: Any) -> FineTune:
    return FineTune(**{**TUNE, "steps": 8, "checkpoint_every": 8, "validate_every": 8, **changes})


@pytest.fixture
def small(store: Store, tmp_path: Path) -> ArtifactRef:
    return put(store, tmp_path, "small", SMALL)


def cancelled_at(
    store: Store, dataset: ArtifactRef, folder: Path, step: int, request_id: str = "before", **changes: Any
) -> TrainingRunLog:
    """The log of a run that was cancelled after a step."""
    asked, own = job(store, dataset, folder / request_id, request_id, stopping(step), fine_tune=tune(**changes))
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](asked)
    own.cancel("ann", "enough")
    own.cancelled()
    own.heartbeat.stop()
    return own


def finished(
    store: Store, dataset: ArtifactRef, folder: Path, request_id: str = "before", **changes: Any
) -> TrainingRunLog:
    """The log of a run that has its result."""
    asked, own = job(store, dataset, folder / request_id, request_id, fine_tune=tune(**changes))
    RECIPES["fine_tune"](asked)
    own.succeed(TrainingResult(model="tuned@1"))
    own.heartbeat.stop()
    return own


def refused(store: Store, dataset: ArtifactRef, source: ContinueFrom, seed: int = 4, **changes: Any) -> LuthierError:
    """What the service says to a run that would continue another."""
    asked = settle(
        CreateTrainingRunRequest(
            request_id="after",
            dataset=dataset,
            model_name="m",
            seed=seed,
            fine_tune=tune(continue_from=source, **changes),
        )
    )
    manifests = read_data(store, plan_of(asked))
    with pytest.raises(LuthierError) as error:
        check_source(store, asked, resolve(store, asked.fine_tune.base_model), manifests)
    return error.value


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_cancelled_run_goes_on_to_the_weights_of_one_that_was_not(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path, ema: float
) -> None:
    whole, own = job(store, small, tmp_path / "whole", "whole", fine_tune=tune(ema_decay=ema))
    wanted = trained(store, whole, tmp_path / "wanted")
    course = own.read().progress
    before = cancelled_at(store, small, tmp_path, 5, ema_decay=ema)
    source = ContinueFrom(run_id=before.id, same_plan=True)
    after, own = job(store, small, tmp_path / "after", "after", fine_tune=tune(ema_decay=ema, continue_from=source))
    found = trained(store, after, tmp_path / "found")
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    progress = own.read().progress
    assert [point.step for point in progress.training] == list(range(1, 9))
    assert losses(progress.validation) == pytest.approx(losses(course.validation), rel=1e-4)
    assert progress.continued_from.step == 5


def test_a_run_that_goes_on_is_killed_and_goes_on_itself(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path
) -> None:
    whole, _ = job(store, small, tmp_path / "whole", "whole", fine_tune=tune())
    wanted = trained(store, whole, tmp_path / "wanted")
    before = cancelled_at(store, small, tmp_path, 3)
    source = ContinueFrom(run_id=before.id, same_plan=True)
    between = cancelled_at(store, small, tmp_path, 6, "between", continue_from=source)
    source = ContinueFrom(run_id=between.id, step=6, same_plan=True)
    after, _ = job(store, small, tmp_path / "after", "after", fine_tune=tune(continue_from=source))
    torch.testing.assert_close(trained(store, after, tmp_path / "found"), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("before_ema", "ema"), [(0.0, 0.0), (0.9, 0.9), (0.0, 0.9), (0.9, 0.0)])
def test_a_finished_run_is_trained_on_with_other_data(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path, before_ema: float, ema: float
) -> None:
    """The first validation is of the weights that it began from: the finished run's own, where both keep an average."""
    before = finished(store, small, tmp_path, ema_decay=before_ema)
    large = put(store, tmp_path, "large", LARGE)
    source = ContinueFrom(run_id=before.id)
    more = {"steps": 2, "validate_every": 2, "checkpoint_every": 2, "ema_decay": ema, "continue_from": source}
    again, own = job(store, small, tmp_path / "again", "again", fine_tune=tune(**more))
    RECIPES["fine_tune"](again)
    progress = own.read().progress
    assert [point.step for point in progress.validation] == [0, 2]
    if before_ema == ema:
        assert progress.validation[0].loss == pytest.approx(before.read().progress.validation[-1].loss, rel=1e-5)
    other, _ = job(store, large, tmp_path / "other", "other", fine_tune=tune(**more))
    notes = RECIPES["fine_tune"](other).notes
    assert notes["continued_from"] == [{"run": before.id, "step": 8}]
    assert [each["name"] for each in notes["datasets"]] == ["large", "small"]
    assert notes["licences"] == ["licence-of-large", "licence-of-small"]
    assert notes["moving_average"] is (ema > 0)


def test_the_optimisers_state_comes_with_the_weights(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = finished(store, small, tmp_path)
    kept = kept_of(before.read().progress)[-1]
    stored = load_file(store.blobs.fetch(kept.checkpoint, tmp_path))
    found: list[dict[str, torch.Tensor]] = []

    def noted(asked: Any, state: Any) -> Any:
        progress = continued(asked, state)
        moments = state.optimizer.state_dict()["state"]
        found.append(
            {f"optimizer.{index}.{name}": value.clone() for index, of in moments.items() for name, value in of.items()}
        )
        return progress

    monkeypatch.setattr("luthier_training.recipes.fine_tune.continued", noted)
    source = ContinueFrom(run_id=before.id)
    more = {"steps": 1, "validate_every": 1, "checkpoint_every": 1, "continue_from": source}
    after, _ = job(store, small, tmp_path / "after", "after", fine_tune=tune(**more))
    RECIPES["fine_tune"](after)
    assert found[0]
    assert all(torch.equal(value, stored[name]) for name, value in found[0].items())


def test_any_kept_checkpoint_can_be_begun_from(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path
) -> None:
    before = finished(store, small, tmp_path, keep_every=3)
    source = ContinueFrom(run_id=before.id, step=6, same_plan=True)
    after, own = job(store, small, tmp_path / "after", "after", fine_tune=tune(keep_every=3, continue_from=source))
    found = trained(store, after, tmp_path / "found")
    [newest] = [kept for kept in kept_of(before.read().progress) if kept.step == 8]
    wanted = load_file(store.blobs.fetch(newest.checkpoint, tmp_path))
    for name, tensor in found.items():
        if (key := f"weights.{name}") in wanted:
            torch.testing.assert_close(tensor, wanted[key], rtol=1e-4, atol=1e-5)
    assert own.read().progress.continued_from.step == 6


def test_the_best_of_a_plan_may_lie_in_the_run_that_it_began_in(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune, "validation_loss", falling_until(2))  # rises from there on, in whichever run
    before = cancelled_at(store, small, tmp_path, 5, validate_every=1, keep_best=True)
    source = ContinueFrom(run_id=before.id, same_plan=True)
    best = EXPORTED_WEIGHTS_BEST_BY_VALIDATION
    asked = tune(validate_every=1, export=best, continue_from=source)
    after, own = job(store, small, tmp_path / "after", "after", fine_tune=asked)
    assert RECIPES["fine_tune"](after).notes["exported_step"] == 2
    kept = best_of(own.read().progress.kept)
    assert kept is not None
    assert kept.checkpoint.key.startswith(f"checkpoints/{before.id}/")
    assert store.blobs.exists(kept.checkpoint)  # another run's: it is not this run's to delete
    assert KEPT_REASON_BEST in kept.reasons


def test_a_finished_run_exports_its_best_afterwards(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune, "validation_loss", falling_until(6))
    before = finished(store, small, tmp_path, validate_every=1, keep_best=True)
    source = ContinueFrom(run_id=before.id, same_plan=True)
    asked = tune(validate_every=1, export=EXPORTED_WEIGHTS_BEST_BY_VALIDATION, continue_from=source)
    after, own = job(store, small, tmp_path / "after", "after", fine_tune=asked)
    assert RECIPES["fine_tune"](after).notes["exported_step"] == 6
    assert len(own.read().progress.training) == 8  # those of the run before: no step is trained again


def test_only_a_run_that_has_ended_is_continued(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path
) -> None:
    before = RunLog.create(store, KIND, "queued", settle_request(small))
    error = refused(store, small, ContinueFrom(run_id=before.id))
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "RUN_NOT_ENDED"


def settle_request(dataset: ArtifactRef, **recipe: Any) -> CreateTrainingRunRequest:
    recipe = recipe or {"fine_tune": tune()}
    return settle(CreateTrainingRunRequest(request_id="queued", dataset=dataset, model_name="m", **recipe))


@pytest.mark.parametrize("run_id", ["training-" + "0" * 32, "evaluation-1", "no id"])
def test_a_run_that_is_not_there_is_not_found(
    store: Store, base: ModelVersion, small: ArtifactRef, run_id: str
) -> None:
    error = refused(store, small, ContinueFrom(run_id=run_id))
    assert isinstance(error, NotFound)
    assert error.reason == "RUN_NOT_FOUND"


def test_a_tiny_base_is_not_continued(store: Store, base: ModelVersion, small: ArtifactRef) -> None:
    before = RunLog.create(store, KIND, "queued", settle_request(small, tiny_base=TinyBase()))
    before.cancel()
    error = refused(store, small, ContinueFrom(run_id=before.id))
    assert isinstance(error, InvalidRequest)
    assert dict(error.violations) == {"fine_tune.continue_from.run_id": "must be a run that fine-tunes"}


def test_a_checkpoint_that_is_not_kept_is_told_with_those_that_are(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path
) -> None:
    before = cancelled_at(store, small, tmp_path, 5, keep_every=2)
    error = refused(store, small, ContinueFrom(run_id=before.id, step=3))
    assert isinstance(error, NotFound)
    assert error.reason == "CHECKPOINT_NOT_KEPT"
    assert "no checkpoint of step 3; kept are those of step 2, 4, 5" in str(error)
    never = RunLog.create(store, KIND, "queued", settle_request(small))
    never.cancel()
    assert "it has none: begin it again" in str(refused(store, small, ContinueFrom(run_id=never.id)))


def test_a_run_of_another_base_is_refused(
    store: Store,
    base: ModelVersion,
    small: ArtifactRef,
    tmp_path: Path,
    known: Configuration,
    base_files: tuple[Path, Path],
) -> None:
    before = cancelled_at(store, small, tmp_path, 1)
    weights, text = base_files
    path = tmp_path / "other.safetensors"
    save_file({name: tensor * 2 for name, tensor in load_file(weights).items()}, path)
    register_base(store, known, (path, text), "other")
    error = refused(store, small, ContinueFrom(run_id=before.id), base_model="other")
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "CONTINUES_ANOTHER_BASE"
    assert "trains base@1, not other@1" in str(error)


def test_going_on_with_a_plan_needs_that_plan(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path
) -> None:
    before = cancelled_at(store, small, tmp_path, 1)
    source = ContinueFrom(run_id=before.id, same_plan=True)
    large = put(store, tmp_path, "large", LARGE)
    error = refused(store, large, source, seed=5, learning_rate=1e-4, keep_every=2)
    assert isinstance(error, InvalidRequest)
    assert [field for field, _ in error.violations] == ["dataset", "fine_tune.learning_rate", "seed"]


def test_validation_songs_that_were_trained_on_before_are_refused(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path
) -> None:
    """`a` is trained on by the first of two runs."""
    before = cancelled_at(store, small, tmp_path, 1)
    harmless = put(store, tmp_path, "harmless", [("x", "train", ""), ("y", "validation", "")])
    between = cancelled_at(store, harmless, tmp_path, 1, "between", continue_from=ContinueFrom(run_id=before.id))
    leaking = put(store, tmp_path, "leaking", [("x", "train", ""), ("a", "validation", "")])
    error = refused(store, leaking, ContinueFrom(run_id=between.id))
    assert isinstance(error, InvalidRequest)
    [(field, what)] = error.violations
    assert field == "fine_tune.continue_from"
    assert f"song a is trained on by {before.id}" in what


@pytest.mark.parametrize("fault", ["gone", "corrupt"])
def test_a_checkpoint_that_cannot_be_begun_from_ends_the_run(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path, fault: str
) -> None:
    before = cancelled_at(store, small, tmp_path, 1)
    progress = before.read().progress
    if fault == "gone":
        store.objects.delete(progress.checkpoint.key)
    else:
        path = tmp_path / "store" / "luthier" / progress.checkpoint.key
        path.write_bytes(b"garbage")
    after, _ = job(
        store, small, tmp_path / "after", "after", fine_tune=tune(continue_from=ContinueFrom(run_id=before.id))
    )
    with pytest.raises((DataLoss, FailedPrecondition)) as error:
        RECIPES["fine_tune"](after)
    assert error.value.reason == "CHECKPOINT_CORRUPT"
    assert before.id in str(error.value)


def test_a_run_with_stages_is_continued_in_its_second(
    store: Store, base: ModelVersion, small: ArtifactRef, tmp_path: Path
) -> None:
    large = put(store, tmp_path, "large", LARGE)
    stages = [
        TrainingStage(name="test", steps=2, data=[StageData(dataset=small)]),
        TrainingStage(name="main", steps=4, data=[StageData(dataset=large)]),
    ]
    planned: dict[str, Any] = {"stages": stages, "steps": 6, "checkpoint_every": 6, "validate_every": 6}
    whole, _ = job(store, large, tmp_path / "whole", "whole", fine_tune=tune(**planned))
    wanted = trained(store, whole, tmp_path / "wanted")
    before = cancelled_at(store, large, tmp_path, 4, **planned)
    source = ContinueFrom(run_id=before.id, same_plan=True)
    after, _ = job(store, large, tmp_path / "after", "after", fine_tune=tune(continue_from=source, **planned))
    torch.testing.assert_close(trained(store, after, tmp_path / "found"), wanted, rtol=1e-4, atol=1e-5)

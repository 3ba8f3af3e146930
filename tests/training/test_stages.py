"""Stages are trained one after the other as one run: data, shares, schedules, what is kept, and where it goes on."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    KEPT_REASON_BEST,
    KEPT_REASON_EVERY,
    KEPT_REASON_NEWEST,
    KEPT_REASON_STAGE,
    FineTune,
    KeptCheckpoint,
    StageData,
    SubsetShare,
    TrainingStage,
)
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_model.configuration import Configuration
from luthier_training import audio
from luthier_training.examples import Batch, Example
from luthier_training.gradients import Gradients
from luthier_training.job import Job
from luthier_training.kept import kept_of
from luthier_training.ranks import Ranks
from luthier_training.recipes import RECIPES, fine_tune
from luthier_training.reporting import Reporter, Stopped
from luthier_training.runs import TrainingRunLog

from .conftest import register_base
from .data_sets import LARGE, SMALL, put
from .test_fine_tune import job, losses

Weights = dict[str, torch.Tensor]


@pytest.fixture
def stages(store: Store, tmp_path: Path) -> list[TrainingStage]:
    """A test of three steps on a small data set, then five steps on a mixture of it and a large one."""
    small, large = put(store, tmp_path, "small", SMALL), put(store, tmp_path, "large", LARGE)
    subsets = [SubsetShare(subset="monophonic", share=2), SubsetShare(subset="polyphonic", share=1)]
    mixed = [StageData(dataset=large, share=3, subsets=subsets), StageData(dataset=small, share=1)]
    return [
        TrainingStage(name="test", steps=3, batch_size=2, data=[StageData(dataset=small)]),
        TrainingStage(name="main", steps=5, batch_size=4, learning_rate=1e-3, warmup_steps=2, data=mixed),
    ]


def recipe(stages: Sequence[TrainingStage], **changes: Any) -> FineTune:
    steps = sum(stage.steps for stage in stages)
    asked: dict[str, Any] = {"base_model": "base", "learning_rate": 3e-3}
    asked |= {"validate_every": steps, "checkpoint_every": steps}
    return FineTune(stages=stages, **{**asked, **changes})


class Stops(Reporter):
    """Told to stop in a step."""

    step = 0

    def advance(self, done: int, *rest: Any) -> None:
        super().advance(done, *rest)
        if self.progress.stage == "train" and done == self.step:
            self.stop()


def stopping(step: int) -> type[Stops]:
    return type("StopsThere", (Stops,), {"step": step})


def trained(store: Store, asked: Job, folder: Path) -> Weights:
    folder.mkdir(exist_ok=True)
    return load_file(store.blobs.fetch(RECIPES["fine_tune"](asked).checkpoint, folder))


def noting(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches that are trained on."""
    batches, batch_loss = [], fine_tune.batch_loss

    def noted(model: Any, batch: Batch, **options: Any) -> torch.Tensor:
        batches.append(batch)
        return batch_loss(model, batch, **options)

    monkeypatch.setattr(fine_tune, "batch_loss", noted)
    return batches


# 3: between the two stages; 5: inside the second
@pytest.mark.parametrize(("step", "ema"), [(3, 0.0), (5, 0.9)])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    step: int, ema: float,
) -> None:  # fmt: skip
    tune = recipe(stages, ema_decay=ema)
    batches = noting(monkeypatch)
    whole, _ = job(store, None, tmp_path / "whole", "whole", fine_tune=tune)
    wanted = trained(store, whole, tmp_path / "wanted")
    drawn, batches[:] = list(batches), []

    first, own = job(store, None, tmp_path / "first", "parts", stopping(step), fine_tune=tune)
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](first)
    assert own.read().progress.checkpoint_step == step
    own.heartbeat.stop()
    second, own = job(store, None, tmp_path / "second", "parts", fine_tune=tune)
    found = trained(store, second, tmp_path / "found")

    assert [batch.conditions for batch in batches] == [batch.conditions for batch in drawn]
    assert all(torch.equal(one.noise, other.noise) for one, other in zip(batches, drawn, strict=True))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert [point.step for point in own.read().progress.training] == list(range(1, 9))


def test_each_stage_draws_its_own_data_with_its_shares_and_batch_size(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = noting(monkeypatch)
    stages[1].steps = 8  # 32 clips: 16 monophonic and 8 polyphonic of the large one, 8 of the small one
    asked, _ = job(store, None, tmp_path / "a", fine_tune=recipe(stages))
    RECIPES["fine_tune"](asked)
    assert [len(batch.conditions) for batch in batches] == [2] * 3 + [4] * 8
    told = [[conditions["prompt"] for conditions in batch.conditions] for batch in batches]
    assert {prompt.rpartition(" ")[2] for batch in told[:3] for prompt in batch} == {"small"}
    kinds = Counter(prompt.partition(" ")[2] for batch in told[3:] for prompt in batch)
    assert kinds == {"monophonic in large": 16, "all in large": 8, "all in small": 8}


def test_each_stage_has_a_schedule_of_its_own(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    clip = Gradients.clip
    prepare = fine_tune.prepare
    groups: list[dict[str, Any]] = []

    def prepared(*arguments: Any, **more: Any) -> Any:
        found = prepare(*arguments, **more)
        groups[:] = found.optimizer.param_groups
        return found

    def noted(gradients: Gradients, most: float) -> torch.Tensor:
        rates.append(groups[0]["lr"])
        return clip(gradients, most)

    monkeypatch.setattr(fine_tune, "prepare", prepared)
    monkeypatch.setattr(Gradients, "clip", noted)
    asked, _ = job(store, None, tmp_path / "a", fine_tune=recipe(stages))
    RECIPES["fine_tune"](asked)
    test = [3e-3 * fine_tune.rate(step, 3, 0) for step in range(3)]
    main = [1e-3 * fine_tune.rate(step, 5, 2) for step in range(5)]
    assert rates == pytest.approx([*test, *main])


def test_validation_is_of_the_same_clips_in_every_stage_and_told_by_data_set(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated, validation_loss = [], fine_tune.validation_loss

    def noted(model: Any, network: Any, examples: Sequence[Example], *rest: Any) -> float:
        validated.append([example.prompts[0] for example in examples])
        return validation_loss(model, network, examples, *rest)

    monkeypatch.setattr(fine_tune, "validation_loss", noted)
    asked, own = job(store, None, tmp_path / "a", fine_tune=recipe(stages))
    RECIPES["fine_tune"](asked)
    progress = own.read().progress
    assert validated == [["c all in small"], ["f all in large", "f monophonic in large"]] * 3
    assert [point.step for point in progress.validation] == [0, 3, 8]  # each stage's end is validated, too
    small, large = progress.validation_by_dataset
    assert (small.dataset, large.dataset) == ("small", "large")
    mean = [(one.loss + 2 * other.loss) / 3 for one, other in zip(small.losses, large.losses, strict=True)]
    assert losses(progress.validation) == pytest.approx(mean)


def test_a_clip_of_two_data_sets_is_encoded_once(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = put(store, tmp_path, "again", SMALL)
    stages[0].data.add(dataset=again)
    read, files = audio.read, []

    def noted(path: Path, *rest: Any) -> torch.Tensor:
        files.append(path.name)
        return read(path, *rest)

    monkeypatch.setattr(audio, "read", noted)
    asked, _ = job(store, None, tmp_path / "a", fine_tune=recipe(stages[:1]))
    version = RECIPES["fine_tune"](asked)
    assert len(files) == len(SMALL)
    assert version.notes["licences"] == ["licence-of-again", "licence-of-small"]


def test_the_version_says_what_it_was_made_of(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path
) -> None:
    asked, _ = job(store, None, tmp_path / "a", fine_tune=recipe(stages))
    version = RECIPES["fine_tune"](asked)
    assert version.dataset_name == "large"
    assert {each["name"]: each["sha256"] for each in version.notes["datasets"]} == {
        "small": stages[0].data[0].dataset.sha256,
        "large": stages[1].data[0].dataset.sha256,
    }
    assert [stage["name"] for stage in version.notes["stages"]] == ["test", "main"]
    assert version.notes["stages"][1]["data"] == [
        {"dataset": "large", "subset": "monophonic", "share": 0.5},
        {"dataset": "large", "subset": "polyphonic", "share": 0.25},
        {"dataset": "small", "subset": "", "share": 0.25},
    ]
    assert version.notes["licences"] == ["licence-of-large", "licence-of-small"]
    assert (version.notes["exported"], version.notes["exported_step"]) == ("last", 8)


def falling_until(step: int) -> Callable[..., float]:
    """A validation loss that is lowest after that many steps; each data set is measured once a validation."""
    steps = iter(range(1000))
    return lambda *_: float(abs(next(steps) - step) + 1)


def kept(own: TrainingRunLog) -> list[KeptCheckpoint]:
    return kept_of(own.read().progress)


def test_newest_best_every_and_the_ends_of_stages_are_kept_and_nothing_else(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune, "validation_loss", falling_until(5))
    stages[1].ClearField("data")
    stages[1].data.extend(stages[0].data)  # one data set: a loss a validation
    tune = recipe(stages, validate_every=1, checkpoint_every=1, keep_every=4, keep_best=True)
    asked, own = job(store, None, tmp_path / "a", fine_tune=tune)
    RECIPES["fine_tune"](asked)
    found = {each.step: list(each.reasons) for each in kept(own)}
    assert found == {
        3: [KEPT_REASON_STAGE],
        4: [KEPT_REASON_EVERY],
        5: [KEPT_REASON_BEST],
        8: [KEPT_REASON_EVERY, KEPT_REASON_NEWEST],
    }
    assert [each.validation_loss for each in kept(own)] == [3, 2, 1, 4]
    assert set(store.objects.keys(f"checkpoints/{own.id}/")) == {each.checkpoint.key for each in kept(own)}


def test_what_a_runner_stored_and_never_named_goes_with_the_next_checkpoint(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path
) -> None:
    """As when it died between storing a file and saying so, or between saying so and deleting the one before."""
    asked, own = job(store, None, tmp_path / "a", fine_tune=recipe(stages[:1]))
    stray = store.blobs.put_bytes(f"checkpoints/{own.id}", b"of a runner that died", "safetensors")
    others = store.blobs.put_bytes("checkpoints/training-other", b"of another run", "safetensors")
    RECIPES["fine_tune"](asked)
    assert not store.blobs.exists(stray)
    assert store.blobs.exists(others)


def test_the_best_by_validation_is_exported_where_it_is_asked_for(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune, "validation_loss", falling_until(4))
    stages[1].ClearField("data")
    stages[1].data.extend(stages[0].data)
    tune = recipe(stages, validate_every=1, export=EXPORTED_WEIGHTS_BEST_BY_VALIDATION)
    asked, own = job(store, None, tmp_path / "a", fine_tune=tune)
    version = RECIPES["fine_tune"](asked)
    notes = version.notes
    assert (notes["exported"], notes["exported_step"], notes["exported_validation"], notes["steps"]) == (
        "best",
        4,
        1,
        8,
    )
    [best] = [each for each in kept(own) if KEPT_REASON_BEST in each.reasons]
    (tmp_path / "files").mkdir()
    state = load_file(store.blobs.fetch(best.checkpoint, tmp_path / "files"))
    exported = load_file(store.blobs.fetch(version.checkpoint, tmp_path / "files"))
    moved = [name for name in exported if f"weights.{name}" in state]
    assert moved
    assert all(torch.equal(exported[name], state[f"weights.{name}"]) for name in moved)


def test_the_base_is_never_the_best(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune, "validation_loss", falling_until(0))
    tune = recipe(stages[:1], validate_every=1, export=EXPORTED_WEIGHTS_BEST_BY_VALIDATION)
    asked, _ = job(store, None, tmp_path / "a", fine_tune=tune)
    assert RECIPES["fine_tune"](asked).notes["exported_step"] == 1


def test_a_best_that_lies_behind_a_lost_checkpoint_is_made_again(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path
) -> None:
    tune = recipe(stages, validate_every=1, checkpoint_every=3, keep_every=1)
    first, own = job(store, None, tmp_path / "first", "parts", stopping(5), fine_tune=tune)
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](first)
    left = own.read().progress
    store.objects.delete(left.checkpoint.key)
    own.heartbeat.stop()
    second, own = job(store, None, tmp_path / "second", "parts", fine_tune=tune)
    RECIPES["fine_tune"](second)
    assert [each.step for each in kept(own)] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(store.blobs.exists(each.checkpoint) for each in kept(own))


def test_two_ranks_cannot_share_the_batch_of_a_stage(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path
) -> None:
    stages[1].batch_size = 3
    asked, _ = job(store, None, tmp_path / "a", fine_tune=recipe(stages))
    with pytest.raises(InvalidRequest) as refused:
        RECIPES["fine_tune"](replace(asked, ranks=Ranks(0, 2)))
    assert [field for field, _ in refused.value.violations] == ["fine_tune.stages[1].batch_size"]


def test_a_base_that_gets_another_version_meanwhile_changes_nothing(
    store: Store, base: ModelVersion, stages: list[TrainingStage], tmp_path: Path, base_files: tuple[Path, Path],
    known: Configuration,
) -> None:  # fmt: skip
    first, own = job(store, None, tmp_path / "first", "parts", stopping(1), fine_tune=recipe(stages[:1]))
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](first)
    own.heartbeat.stop()
    path = tmp_path / "other.safetensors"
    save_file({name: tensor * 2 for name, tensor in load_file(base_files[0]).items()}, path)
    assert register_base(store, known, (path, base_files[1])).label == "base@2"
    second, _ = job(store, None, tmp_path / "second", "parts", fine_tune=recipe(stages[:1]))
    assert RECIPES["fine_tune"](second).notes["base"] == "base@1"

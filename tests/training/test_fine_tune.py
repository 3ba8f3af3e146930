"""Fine-tuning falls below the base, is repeatable, resumes exactly, and registers what it made."""

import json
import math
import statistics
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stable_audio_tools.training.diffusion import DiffusionCondTrainingWrapper

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, FineTune, LossPoint
from luthier_kit.registry import ModelVersion, RunLog
from luthier_kit.rpc import DataLoss, FailedPrecondition
from luthier_kit.store import Store
from luthier_model import checkpoint
from luthier_model.configuration import Configuration, packaged
from luthier_training import audio
from luthier_training.base_model import BaseModel, Latents
from luthier_training.dataset import read_manifest
from luthier_training.encoding import encode
from luthier_training.examples import draw_batch
from luthier_training.job import Job
from luthier_training.ranks import Ranks
from luthier_training.recipes import RECIPES, fine_tune
from luthier_training.reporting import HeartbeatThread, RankLost, Reporter, Stopped
from luthier_training.requests import settle
from luthier_training.runs import KIND, TrainingRunLog
from luthier_training.seeds import seed_of

from .conftest import encoder_of, gradient_of, register_base

TUNE: dict[str, Any] = {
    "base_model": "base",
    "batch_size": 2,
    "learning_rate": 3e-3,
    "checkpoint_every": 3,
    "validate_every": 4,
}


def job(
    store: Store,
    dataset_ref: ArtifactRef | None,
    folder: Path,
    request_id: str = "r",
    reporter: type[Reporter] = Reporter,
    **kind: Any,
) -> tuple[Job, TrainingRunLog]:
    """An attempt at a run, and the run's log; the run is created when there is none."""
    request = settle(
        CreateTrainingRunRequest(request_id=request_id, dataset=dataset_ref, model_name="tuned", seed=4, **kind)
    )
    run_id = RunLog.create(store, KIND, request_id, request).id
    own = RunLog(store, KIND, run_id, f"runner-{folder.name}")
    run = own.start()
    folder.mkdir(exist_ok=True)
    return Job(run_id, request, store, reporter(run.progress, own), "cpu", folder), own


def losses(points: Iterable[LossPoint]) -> list[float]:
    return [point.loss for point in points]


class StopsAtFive(Reporter):
    """Told to stop in the fifth step of training."""

    def advance(self, done: int, *rest: Any) -> None:
        super().advance(done, *rest)
        if self.progress.stage == "train" and done == 5:
            self.stop()


def test_validation_loss_falls_below_the_bases(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=40, **TUNE))
    version = RECIPES["fine_tune"](asked)
    points = own.read().progress.validation
    assert points[0].step == 0
    assert points[-1].loss < 0.9 * points[0].loss
    assert [tuple(point) for point in version.notes["validation"]] == [(point.step, point.loss) for point in points]


def test_the_loss_is_the_librarys(store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path) -> None:
    """With the same draws, stable-audio-tools' own training step gives the same loss, dropped conditions included."""
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE))
    opened = BaseModel.open(store, base, "cpu", tmp_path / "base")
    train, _ = encode(asked, opened, read_manifest(store, dataset_ref))
    batch = draw_batch(train, 0, 8, 0.5, seed=4)
    assert 0 < int(batch.dropped.sum()) < 8
    ours = fine_tune.batch_loss(opened.model, batch, recompute=False)

    class Wrapper(DiffusionCondTrainingWrapper):  # type: ignore[misc]
        trainer = SimpleNamespace(optimizers=[SimpleNamespace(param_groups=[{"lr": 0.0}])])

        def log_dict(self, *_: Any, **__: Any) -> None:
            """There is no logger."""

    theirs = Wrapper(opened.model, lr=1e-3, use_ema=False, pre_encoded=True, cfg_dropout_prob=0.5)
    seed = seed_of(4, "step", 0)
    theirs.rng = torch.quasirandom.SobolEngine(1, True, seed % (1 << 31))  # type: ignore[no-untyped-call]
    torch.manual_seed(seed)
    metadata = [{**conditions, "padding_mask": [torch.ones(1)]} for conditions in batch.conditions]
    scaled = batch.latents * opened.model.pretransform.scale  # it divides by the scale again
    assert float(ours) == pytest.approx(float(theirs.training_step((scaled, metadata), 0)), rel=1e-6)


def test_recomputing_activations_changes_nothing(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE))
    opened = BaseModel.open(store, base, "cpu", tmp_path / "base")
    train, _ = encode(asked, opened, read_manifest(store, dataset_ref))
    found = []
    for recompute in (False, True):
        trained = fine_tune.prepare(opened.model, asked.request.fine_tune)
        trained.gradients.forget()
        fine_tune.batch_loss(opened.model, draw_batch(train, 0, 4, 0.1, seed=4), recompute=recompute).backward()  # type: ignore[no-untyped-call]
        found.append(gradient_of(trained))
    assert float(found[0].abs().max()) > 0
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("cut", [False, True])
def test_a_clip_beyond_the_window_is_one_of_the_window_where_asked_for(
    store: Store,
    base: ModelVersion,
    known: Configuration,
    dataset_ref: ArtifactRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut: bool,
) -> None:
    opened, window_s = BaseModel.open(store, base, "cpu", tmp_path), known.window_samples / known.sample_rate_hz
    rate_hz, encoded = known.sample_rate_hz, encoder_of(opened).encode(torch.zeros(2, known.window_samples + 999))
    assert encoded.seconds_total > window_s  # SAO's way: a clip's own length
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(cut_to_window=cut, **TUNE))
    long = torch.zeros(2, round(1.5 * window_s * rate_hz))
    monkeypatch.setattr(audio, "read", lambda path, configuration: long)
    train, held_out = encode(asked, opened, read_manifest(store, dataset_ref))
    told = [example.latents.seconds_total for example in (*train, *held_out)]
    assert told == pytest.approx([window_s if cut else 1.5 * window_s] * 3, abs=1e-3)


def test_windows_of_a_song_are_the_sound_at_their_place(
    store: Store, base: ModelVersion, known: Configuration, dataset_ref: ArtifactRef, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A song that gets louder: what a window encodes is what the song holds from the told place on."""
    opened, rate_hz = BaseModel.open(store, base, "cpu", tmp_path), known.sample_rate_hz
    song = torch.linspace(0, 1, 3 * known.window_samples).repeat(2, 1)
    monkeypatch.setattr(audio, "read", lambda path, configuration: song)
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(windows_per_clip=3, **TUNE))
    train, held_out = encode(asked, opened, read_manifest(store, dataset_ref))
    assert len(train) == 2 * (1 + 3)
    assert len(held_out) == 1
    whole_s = song.shape[1] / rate_hz
    for example in train:
        told = example.conditions("p")
        assert told["seconds_total"] == pytest.approx(whole_s)
        first = round(told["seconds_start"] * rate_hz)
        wanted = encoder_of(opened).encode(song[:, first : first + known.window_samples])
        found = example.latents if isinstance(example.latents, Latents) else example.latents.read()
        torch.testing.assert_close(found.mean, wanted.mean, rtol=1e-4, atol=1e-4)
    assert len({example.start_s for example in train}) == 1 + 2 * 3


def test_the_export_fits_the_bases_configuration(
    store: Store, base: ModelVersion, known: Configuration, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    tune = FineTune(steps=2, ema_decay=0.9, min_excerpt_s=1, **TUNE | {"validate_every": 1, "checkpoint_every": 1})
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=tune)
    version = RECIPES["fine_tune"](asked)
    layout = checkpoint.verify(store.blobs.fetch(version.checkpoint, tmp_path), known)
    assert all(name == stored for name, stored in layout.items()), "the export is not wrapped"
    assert version.notes["moving_average"] is True
    assert (version.notes["base"], version.text_encoder) == ("base@1", base.text_encoder)


def test_the_exported_average_lies_between_the_base_and_the_trained_weights(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    tuned = {}
    for name, decay in (("plain", 0.0), ("average", 0.9)):
        tune = FineTune(steps=6, ema_decay=decay, **TUNE)
        asked, _ = job(store, dataset_ref, tmp_path / name, name, fine_tune=tune)
        tuned[name] = load_file(store.blobs.fetch(RECIPES["fine_tune"](asked).checkpoint, tmp_path))
    start = load_file(store.blobs.fetch(base.checkpoint, tmp_path))
    moved = {
        name: sum(float((tensor - start[key]).square().sum()) for key, tensor in weights.items())
        for name, weights in tuned.items()
    }
    assert 0 < moved["average"] < moved["plain"]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_stopped_run_resumes_to_the_same_weights(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, ema: float
) -> None:
    tune = FineTune(steps=8, ema_decay=ema, **TUNE)
    whole, _ = job(store, dataset_ref, tmp_path / "whole", "whole", fine_tune=tune)
    wanted = load_file(store.blobs.fetch(RECIPES["fine_tune"](whole).checkpoint, tmp_path))
    first, own = job(store, dataset_ref, tmp_path / "first", "parts", StopsAtFive, fine_tune=tune)
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](first)
    assert own.read().progress.checkpoint_step == 5
    own.heartbeat.stop()
    second, own = job(store, dataset_ref, tmp_path / "second", "parts", fine_tune=tune)
    resumed = load_file(store.blobs.fetch(RECIPES["fine_tune"](second).checkpoint, tmp_path))
    # memory lies elsewhere after a resume, and vectorised sums may then round differently in the last bit
    torch.testing.assert_close(resumed, wanted, rtol=1e-4, atol=1e-5)
    assert [point.step for point in own.read().progress.training] == list(range(1, 9))


def test_a_steps_loss_is_the_mean_over_what_it_accumulates(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, batch_loss = [], fine_tune.batch_loss

    def noted(*arguments: Any, **options: Any) -> torch.Tensor:
        loss = batch_loss(*arguments, **options)
        found.append(float(loss))
        return loss

    monkeypatch.setattr(fine_tune, "batch_loss", noted)
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, accumulate=2, **TUNE))
    RECIPES["fine_tune"](asked)
    means = [statistics.fmean(pair) for pair in zip(found[::2], found[1::2], strict=True)]
    assert losses(own.read().progress.training) == pytest.approx(means)


def test_the_rate_warms_up_and_falls_to_its_last_share() -> None:
    rates = [fine_tune.rate(step, 100, 9) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(rates[9], abs=0.03)
    assert rates[100] == pytest.approx(fine_tune.FINAL_RATE)


def test_a_long_course_of_losses_is_thinned_and_keeps_the_newest() -> None:
    points = [LossPoint(step=step) for step in range(1, fine_tune.MAX_POINTS + 2)]
    assert fine_tune.thinned(points[:-1]) == points[:-1]
    assert [point.step for point in fine_tune.thinned(points)] == list(range(1, fine_tune.MAX_POINTS + 2, 2))


@pytest.mark.parametrize("spoiled", ["loss", "gradient", "validation loss"])
def test_what_is_not_finite_ends_the_run_before_it_is_kept(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    spoiled: str,
) -> None:  # fmt: skip
    """In the fourth step, of which a checkpoint would be stored."""
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=8, **TUNE | {"checkpoint_every": 1}))
    batch_loss, validation_loss = fine_tune.batch_loss, fine_tune.validation_loss
    steps = iter(range(1, 9))

    def spoiling(*arguments: Any, **options: Any) -> torch.Tensor:
        loss = batch_loss(*arguments, **options)
        if next(steps) < 4 or spoiled == "validation loss":
            return loss
        if spoiled == "gradient":
            loss.register_hook(lambda gradient: gradient * torch.inf)  # type: ignore[no-untyped-call]
            return loss
        return loss * torch.nan

    def infinite(*_: Any) -> float:
        return math.inf

    validated: Iterator[Callable[..., float]] = iter([validation_loss, infinite])
    monkeypatch.setattr(fine_tune, "batch_loss", spoiling)
    if spoiled == "validation loss":
        monkeypatch.setattr(fine_tune, "validation_loss", lambda *arguments: next(validated)(*arguments))
    with pytest.raises(FailedPrecondition, match=f"the {spoiled}.* at step 4") as refused:
        RECIPES["fine_tune"](asked)
    assert refused.value.reason == "TRAINING_DIVERGED"
    assert own.read().progress.checkpoint_step == 3


def lying(store: Store, key: str, run_id: str, folder: Path) -> ArtifactRef:
    """A checkpoint as stored there, whose numbers say another step."""
    path = folder / "lying.safetensors"
    path.write_bytes(store.objects.get(key, 1 << 30) or b"")
    with safe_open(path, "pt") as file:
        numbers = json.loads(file.metadata()["progress"])
    save_file(load_file(path), path, metadata={"progress": json.dumps({**numbers, "step": numbers["step"] + 1})})
    return store.blobs.put_file(f"checkpoints/{run_id}", path)


@pytest.mark.parametrize("fault", ["lies", "corrupt", "gone"])
def test_a_checkpoint_that_cannot_be_read_is_passed_over_for_the_one_before(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, fault: str
) -> None:
    tune = FineTune(steps=8, ema_decay=0.9, **TUNE)
    whole, _ = job(store, dataset_ref, tmp_path / "whole", "whole", fine_tune=tune)
    wanted = load_file(store.blobs.fetch(RECIPES["fine_tune"](whole).checkpoint, tmp_path))
    first, own = job(store, dataset_ref, tmp_path / "first", "parts", StopsAtFive, fine_tune=tune)
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](first)
    left = own.read().progress
    assert (left.checkpoint_step, left.previous_checkpoint_step) == (5, 3)
    if fault == "lies":
        left.checkpoint.CopyFrom(lying(store, left.checkpoint.key, own.id, tmp_path))
        own.progress(left)
    elif fault == "corrupt":
        (tmp_path / "store").joinpath("luthier", left.checkpoint.key).write_bytes(b"garbage")
    else:
        store.objects.delete(left.checkpoint.key)
    own.heartbeat.stop()

    second, own = job(store, dataset_ref, tmp_path / "second", "parts", fine_tune=tune)
    goes_on_from = []
    second.reporter.advance = lambda done, *rest: goes_on_from.append(done)  # type: ignore[method-assign]
    resumed = load_file(store.blobs.fetch(RECIPES["fine_tune"](second).checkpoint, tmp_path))

    assert [done for done in goes_on_from if done <= 8][-5:] == [4, 5, 6, 7, 8]
    torch.testing.assert_close(resumed, wanted, rtol=1e-4, atol=1e-5)


def test_a_run_whose_checkpoints_all_lie_ends_with_data_loss(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    tune = FineTune(steps=8, **TUNE)
    first, own = job(store, dataset_ref, tmp_path / "first", "parts", StopsAtFive, fine_tune=tune)
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](first)
    left = own.read().progress
    for ref in (left.checkpoint, left.previous_checkpoint):
        ref.CopyFrom(lying(store, ref.key, own.id, tmp_path))
    own.progress(left)
    own.heartbeat.stop()

    second, _ = job(store, dataset_ref, tmp_path / "second", "parts", fine_tune=tune)
    with pytest.raises(DataLoss) as refused:
        RECIPES["fine_tune"](second)

    assert refused.value.reason == "CHECKPOINT_CORRUPT"
    assert "step 5: it says step 6, the run says 5; step 3: it says step 4" in str(refused.value)


def test_ranks_that_go_on_from_different_checkpoints_leave(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE))
    monkeypatch.setattr(Ranks, "mean", lambda self, value: value + 1)  # another rank found a later one
    with pytest.raises(RankLost):
        RECIPES["fine_tune"](asked)


def test_two_checkpoints_are_kept_while_it_trains(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    tune = FineTune(steps=8, **TUNE | {"checkpoint_every": 1})
    asked, own = job(store, dataset_ref, tmp_path / "a", "a", StopsAtFive, fine_tune=tune)
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](asked)
    kept = own.read().progress
    assert (kept.checkpoint_step, kept.previous_checkpoint_step) == (5, 4)
    keys = {kept.checkpoint.key, kept.previous_checkpoint.key}
    assert set(store.objects.keys(f"checkpoints/{own.id}/")) == keys


def test_a_run_that_has_its_result_keeps_the_newest_checkpoint(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=7, **TUNE))
    RECIPES["fine_tune"](asked)
    assert list(store.objects.keys(f"checkpoints/{own.id}/")) == [own.read().progress.checkpoint.key]


def test_a_checkpoint_of_the_wrong_shape_is_refused(
    store: Store, dataset_ref: ArtifactRef, base_files: tuple[Path, Path], tmp_path: Path
) -> None:
    register_base(store, packaged("tiny"), base_files, "wrong")
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE | {"base_model": "wrong"}))
    with pytest.raises(FailedPrecondition) as refused:
        RECIPES["fine_tune"](asked)
    assert refused.value.reason == "CHECKPOINT_MISMATCH"
    assert "wrong@1" in str(refused.value)


def test_cancel_is_seen_within_seconds(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    tune = FineTune(steps=100_000, **TUNE | {"validate_every": 100_000})
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=tune)
    heartbeat = HeartbeatThread(RunLog(store, KIND, own.id, own.runner), asked.reporter)
    threading.Timer(2, lambda: RunLog(store, KIND, own.id).cancel("test", "enough")).start()
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](asked)
    assert heartbeat.cancelled
    heartbeat.close()

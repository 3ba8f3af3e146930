"""What is observed of a run: every step once, samples as the exported model makes them, and nothing trained differs."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import AUDIO, SCALARS, TENSORS, EventAccumulator

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import FineTune, TrainingProgress
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import FailedPrecondition
from luthier_kit.store import Store
from luthier_model import generation, loading
from luthier_model.configuration import Configuration
from luthier_model.generation import GenerationParameters
from luthier_model.registered import fetch_version
from luthier_training import observations
from luthier_training.base_model import Latents
from luthier_training.examples import Example
from luthier_training.observations import Observer, prompts_to_sample
from luthier_training.recipes import RECIPES, fine_tune
from luthier_training.reporting import Reporter

from .test_fine_tune import TUNE, job

SAMPLED: dict[str, Any] = {"sample_prompts": ["calm piano", "loud drums"], "sample_steps": 2}
OFF: dict[str, Any] = {"samples": 0}


class Crashed(Exception):
    """The process died."""


class CrashesAtFive(Reporter):
    """Dies in the fifth step of training, two steps behind the checkpoint."""

    def advance(self, done: int, *rest: Any) -> None:
        super().advance(done, *rest)
        if self.progress.stage == "train" and done == 5:
            self.publish()
            raise Crashed


def log_of(store: Store, progress: TrainingProgress, folder: Path) -> EventAccumulator:
    """A run's log as TensorBoard reads it, nothing left out."""
    folder.mkdir()
    for part in progress.logs:
        name = f"events.out.tfevents.{part.first_step:08}.{part.events.sha256[:12]}"
        store.blobs.fetch(part.events, folder).rename(folder / name)
    found = EventAccumulator(str(folder), size_guidance={SCALARS: 0, AUDIO: 0, TENSORS: 0})
    return found.Reload()


def steps_of(found: EventAccumulator, tag: str) -> list[int]:
    return [event.step for event in found.Scalars(tag)]


def values_of(found: EventAccumulator, tag: str) -> list[float]:
    return [event.value for event in found.Scalars(tag)]


def test_observing_a_run_changes_no_weight(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    weights = {}
    for name, options in (("seen", SAMPLED), ("unseen", OFF), ("other-draws", OFF | {"conditioning_dropout": 0.9})):
        tune = FineTune(steps=8, ema_decay=0.9, **TUNE | options)
        asked, own = job(store, dataset_ref, tmp_path / name, name, fine_tune=tune)
        weights[name] = load_file(store.blobs.fetch(RECIPES["fine_tune"](asked).checkpoint, tmp_path))
        assert len(own.read().progress.samples) == (6 if options == SAMPLED else 0)
    # memory lies elsewhere, and vectorised sums may then round differently in the last bit
    torch.testing.assert_close(weights["seen"], weights["unseen"], rtol=1e-4, atol=1e-5)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(weights["other-draws"], weights["unseen"], rtol=1e-4, atol=1e-5)


def test_tensorboard_reads_every_step_of_a_run(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=8, **TUNE | SAMPLED))
    RECIPES["fine_tune"](asked)
    progress = own.read().progress
    found = log_of(store, progress, tmp_path / "log")
    assert steps_of(found, "train/loss") == list(range(1, 9))
    assert values_of(found, "train/loss") == pytest.approx([point.loss for point in progress.training])
    rates = [TUNE["learning_rate"] * fine_tune.rate(step, 8, 0) for step in range(8)]
    assert values_of(found, "train/learning_rate") == pytest.approx(rates)
    assert progress.learning_rate == pytest.approx(rates[-1])
    assert values_of(found, "train/gradient_norm")[-1] == pytest.approx(progress.gradient_norm)
    assert min(values_of(found, "train/gradient_norm")) > 0
    assert steps_of(found, "validation/loss") == [0, 4, 8]
    by_timestep = [values_of(found, f"validation_by_timestep/{t}") for t in fine_tune.VALIDATION_TIMESTEPS]
    assert np.mean(by_timestep, axis=0) == pytest.approx([point.loss for point in progress.validation])
    newest = [point.loss for point in progress.validation_by_timestep]
    assert newest == pytest.approx([values[-1] for values in by_timestep])
    assert len(set(np.round(newest, 3))) == 5, "they differ by timestep"


def test_a_log_has_samples_to_listen_to_and_their_prompts(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, known: Configuration, tmp_path: Path
) -> None:
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE | SAMPLED))
    RECIPES["fine_tune"](asked)
    found = log_of(store, own.read().progress, tmp_path / "log")
    assert [event.step for event in found.Audio("samples/2")] == [0, 4]
    assert found.Audio("samples/1")[0].sample_rate == known.sample_rate_hz
    [prompt] = found.Tensors("samples/2/prompt/text_summary")
    assert prompt.tensor_proto.string_val[0] == b"loud drums"


def test_losses_of_training_are_averaged_by_timestep(
    store: Store, dataset_ref: ArtifactRef, known: Configuration, tmp_path: Path
) -> None:
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE))
    observer = Observer(asked, torch.nn.Module(), known, [])
    observer.rows(torch.tensor([0.1, 0.19, 0.2, 0.999]), torch.tensor([1.0, 2.0, 5.0, 7.0]))
    observer.rows(torch.tensor([0.05, 1.0]), torch.tensor([6.0, 9.0]))
    observer.end_part(3)
    found = log_of(store, asked.reporter.progress, tmp_path / "log")
    bins = {tag: found.Scalars(tag)[0] for tag in found.Tags()["scalars"]}
    assert {tag: (event.step, event.value) for tag, event in bins.items()} == {
        "train_by_timestep/0.0_to_0.2": (3, 3.0),
        "train_by_timestep/0.2_to_0.4": (3, 5.0),
        "train_by_timestep/0.8_to_1.0": (3, 8.0),
    }


@pytest.mark.parametrize("checkpoint_every", [3, 8])
def test_a_run_that_died_goes_on_with_each_step_once(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, checkpoint_every: int
) -> None:
    """Its parts behind the checkpoint are dropped with what it trained there; without a checkpoint all are."""
    often = {"checkpoint_every": checkpoint_every, "validate_every": 2}
    tune = FineTune(steps=8, **TUNE | SAMPLED | often)
    whole, own = job(store, dataset_ref, tmp_path / "whole", "whole", fine_tune=tune)
    RECIPES["fine_tune"](whole)
    wanted = log_of(store, own.read().progress, tmp_path / "wanted")
    first, own = job(store, dataset_ref, tmp_path / "first", "parts", CrashesAtFive, fine_tune=tune)
    with pytest.raises(Crashed):
        RECIPES["fine_tune"](first)
    assert own.read().progress.logs[-1].last_step == 4
    own.heartbeat.stop()
    second, own = job(store, dataset_ref, tmp_path / "second", "parts", fine_tune=tune)
    RECIPES["fine_tune"](second)
    progress = own.read().progress
    found = log_of(store, progress, tmp_path / "found")
    assert found.Tags()["scalars"] == wanted.Tags()["scalars"]
    for tag in wanted.Tags()["scalars"]:
        assert steps_of(found, tag) == steps_of(wanted, tag)
        assert values_of(found, tag) == pytest.approx(values_of(wanted, tag), rel=1e-3)
    assert Counter(sample.step for sample in progress.samples) == Counter([0, 0, 2, 2, 4, 4, 6, 6, 8, 8])


def test_a_sample_is_what_the_exported_model_generates(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    """With the moving average, which is what is exported."""
    tune = FineTune(steps=4, ema_decay=0.5, **TUNE | SAMPLED)
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=tune)
    version = RECIPES["fine_tune"](asked)
    files = fetch_version(store, version, tmp_path / "exported")
    network = loading.load(files.configuration, files.weights, files.text_encoder)
    ready = generation.prepare(network, files.configuration, torch.device("cpu"), "float32")
    base_heard, *_, heard = own.read().progress.samples
    parameters = GenerationParameters(heard.prompt, heard.seed, heard.seconds_total, steps=2)
    *_, last = generation.denoise(ready, parameters)
    wanted = generation.decode(ready, parameters, last.latents).clip(-1, 1)
    found, rate_hz = soundfile.read(store.blobs.fetch(heard.audio, tmp_path), dtype="float32")
    assert (rate_hz, found.shape) == (files.configuration.sample_rate_hz, wanted.shape)
    assert np.abs(found - wanted).max() < 2 / 32768
    other, _ = soundfile.read(store.blobs.fetch(base_heard.audio, tmp_path), dtype="float32")
    assert np.abs(other - wanted).max() > 1e-3, "the test could not tell"


def test_a_sample_that_fails_is_a_warning(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def broken(*_: Any) -> None:
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(generation, "decode", broken)
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE | SAMPLED))
    with caplog.at_level(logging.WARNING):
        assert RECIPES["fine_tune"](asked).notes["steps"] == 4
    assert not own.read().progress.samples
    assert "sample 2 of step 4 failed" in caplog.text


def test_no_sample_is_begun_when_the_run_should_stop(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, known: Configuration, tmp_path: Path
) -> None:
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE))
    files = fetch_version(store, base, tmp_path / "base")
    network = loading.load(known, files.weights, files.text_encoder)
    observer = Observer(asked, network, known, [GenerationParameters("calm", 1, 1.0, steps=250)])
    asked.reporter.stop()
    observer.validated(0, 1.0, network.model)
    assert not asked.reporter.progress.samples


def test_generating_leaves_the_model_as_it_trains(
    store: Store, base: ModelVersion, known: Configuration, tmp_path: Path
) -> None:
    files = fetch_version(store, base, tmp_path)
    model = loading.load(known, files.weights, files.text_encoder).train()
    model.pretransform.eval()
    before = [(module.training, "forward" in vars(module)) for module in model.modules()]
    state = torch.random.get_rng_state()
    samples = observations.generated(model, model.model, known, GenerationParameters("calm", 1, 1.0, steps=2))
    assert samples is not None
    assert [(module.training, "forward" in vars(module)) for module in model.modules()] == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_many_parts_become_few_and_hold_each_step_once(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observations, "MAX_LOGS", 3)
    often = {"checkpoint_every": 3, "validate_every": 1}
    first, own = job(
        store, dataset_ref, tmp_path / "a", "a", CrashesAtFive, fine_tune=FineTune(steps=8, **TUNE | OFF | often)
    )
    with pytest.raises(Crashed):
        RECIPES["fine_tune"](first)
    own.heartbeat.stop()
    second, own = job(store, dataset_ref, tmp_path / "b", "a", fine_tune=FineTune(steps=8, **TUNE | OFF | often))
    RECIPES["fine_tune"](second)
    progress = own.read().progress
    assert len(progress.logs) <= 3
    found = log_of(store, progress, tmp_path / "log")
    assert steps_of(found, "train/loss") == list(range(1, 9))
    assert steps_of(found, "validation/loss") == list(range(9))


def test_a_run_that_diverged_keeps_its_log(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, batch_loss = iter(range(1, 9)), fine_tune.batch_loss

    def spoiling(*arguments: Any, **options: Any) -> torch.Tensor:
        loss = batch_loss(*arguments, **options)
        return loss if next(steps) < 4 else loss * torch.nan

    monkeypatch.setattr(fine_tune, "batch_loss", spoiling)
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=8, **TUNE | OFF))
    with pytest.raises(FailedPrecondition):
        RECIPES["fine_tune"](asked)
    found = log_of(store, own.read().progress, tmp_path / "log")
    assert steps_of(found, "train/loss") == [1, 2, 3]


def test_samples_are_of_validation_clips_where_no_prompt_is_given(known: Configuration) -> None:
    zeros = torch.zeros(1)
    clips = [Example(Latents(zeros, zeros, seconds), (f"clip {seconds}", "x")) for seconds in (1.5, 2.0, 99.0)]
    chosen = prompts_to_sample(FineTune(samples=2, sample_steps=9), 4, clips, known)
    assert [(each.prompt, each.seconds_total, each.steps) for each in chosen] == [
        ("clip 1.5", 1.5, 9),
        ("clip 2.0", 2.0, 9),
    ]
    assert prompts_to_sample(FineTune(samples=2, sample_steps=9), 4, clips, known) == chosen
    assert len({each.seed for each in chosen}) == 2
    own = prompts_to_sample(FineTune(sample_prompts=["calm"], samples=0, sample_steps=9), 4, clips, known)
    assert [(each.prompt, each.seconds_total) for each in own] == [("calm", known.window_s)]
    [longest] = prompts_to_sample(FineTune(samples=1, sample_steps=9), 4, clips[2:], known)
    assert longest.seconds_total == known.window_s

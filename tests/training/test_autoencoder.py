"""An autoencoder, or its decoder alone, learns, and the version says what its transformer is worth."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, FineTune, TrainAutoencoder
from luthier_kit.registry import (
    RUN_STATE_SUCCEEDED,
    TRANSFORMER,
    UNFIT,
    ModelVersion,
    RunLog,
    refuse_unfit,
    register,
)
from luthier_kit.rpc import FailedPrecondition, InvalidRequest
from luthier_kit.store import Action, Store
from luthier_model import checkpoint
from luthier_model.configuration import Configuration
from luthier_model.live_bytes import has_data
from luthier_model.network import random_model
from luthier_training.autoencoder_state import Trained
from luthier_training.autoencoder_window import check_window
from luthier_training.base_model import LATENTS_VERSION, BaseModel, Excerpt, posterior_of
from luthier_training.dataset import read_manifest
from luthier_training.ranks import Ranks
from luthier_training.recipes import RECIPES, autoencoder, tiny_base
from luthier_training.reconstruction import SpectralLoss, make_discriminator
from luthier_training.reporting import Stopped
from luthier_training.requests import settle
from luthier_training.runs import KIND

from .conftest import encoder_of, latents_of, register_base
from .test_fine_tune import StopsAtFive, job
from .test_ranks import forked
from .test_tiny_base import clips

pytestmark = pytest.mark.usefixtures("few_spectra")
Tensors = dict[str, torch.Tensor]
SHORT: dict[str, Any] = {
    "base_model": "base",
    "batch_size": 2,
    "window_samples": 4096,
    "learning_rate": 3e-3,
    "discriminator_learning_rate": 3e-3,
    "discriminator_filters": 2,
    "discriminator_warmup_steps": 2,
    "validate_every": 4,
    "checkpoint_every": 3,
}
DECODER, ENCODER = checkpoint.DECODER, "pretransform.model.encoder."


@pytest.fixture(scope="session")
def learnt_files(
    known: Configuration, base_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Weights whose autoencoder has learnt a little, and their text encoder."""
    model, weights = random_model(known, 5), tmp_path_factory.mktemp("learnt") / "weights.safetensors"
    tiny_base.train(model.pretransform.model, clips(), 30, 2, 0, lambda *_: True)
    checkpoint.write(weights, model.state_dict(), {"format": "pt"})
    return weights, base_files[1]


@pytest.fixture
def base(store: Store, known: Configuration, learnt_files: tuple[Path, Path]) -> ModelVersion:
    return register_base(store, known, learnt_files)


def asking(recipe: TrainAutoencoder) -> CreateTrainingRunRequest:
    dataset = ArtifactRef(key=f"manifests/{'0' * 64}.json", sha256="0" * 64)
    return CreateTrainingRunRequest(request_id="r", dataset=dataset, model_name="m", autoencoder=recipe)


def weights(store: Store, version: ModelVersion, folder: Path) -> Tensors:
    found: Tensors = load_file(store.blobs.fetch(version.checkpoint, folder))
    return found


def differing(one: Tensors, other: Tensors) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name, tensor in one.items() if not torch.equal(tensor, other[name])}


@pytest.mark.usefixtures("all_spectra")
def test_a_decoder_learns_and_nothing_else_changes(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    asked, own = job(store, dataset_ref, tmp_path / "a", autoencoder=TrainAutoencoder(steps=16, **SHORT))
    version = RECIPES["autoencoder"](asked)

    told = own.read().progress
    assert told.memory.needed_bytes > 0
    assert told.validation[0].step == 0
    assert told.validation[-1].loss < 0.9 * told.validation[0].loss
    assert [point.step for point in told.fidelity] == [point.step for point in told.validation]
    assert told.fidelity[-1].mel < told.fidelity[0].mel
    assert len(told.discriminator) == 16
    changed = differing(weights(store, base, tmp_path), weights(store, version, tmp_path))
    assert changed
    assert all(name.startswith(DECODER) for name in changed)
    assert version.configuration == base.configuration
    assert version.notes["trained"] == "decoder"
    refuse_unfit(version)


@pytest.mark.parametrize("named", ["by this release", "by an earlier one"])
def test_latents_that_were_cached_are_those_of_the_new_decoder(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, known: Configuration, tmp_path: Path, named: str
) -> None:
    """Earlier releases named them by the whole autoencoder."""
    clip = read_manifest(store, dataset_ref).rows[0]
    opened = BaseModel.open(store, base, "cpu", tmp_path / "base")
    if named == "by this release":
        mean = latents_of(opened, Excerpt(clip), tmp_path).read().mean
    else:
        mean = torch.full((known.latent_channels, known.window_latents), 7.0)
        parts = {"mean": mean, "deviation": mean.clone(), "seconds_total": torch.tensor(2.0)}
        window = {"sample_rate_hz": known.sample_rate_hz, "window_samples": known.window_samples}
        parameters, tools = {**window, "start_s": 0.0, "length_s": 0.0}, {"autoencoder": opened.autoencoder_digest}
        action = Action("latents", [clip.audio.sha256], parameters, version=LATENTS_VERSION, tools=tools)
        store.actions.run(action, ArtifactRef, lambda: store.blobs.put_bytes("latents", save(parts), "safetensors"))

    asked, _ = job(store, dataset_ref, tmp_path / "a", autoencoder=TrainAutoencoder(steps=4, **SHORT))
    version = register(store, RECIPES["autoencoder"](asked))

    assert version.autoencoder_digest != opened.autoencoder_digest
    tuned = BaseModel.open(store, version, "cpu", tmp_path / "tuned")
    assert torch.equal(latents_of(tuned, Excerpt(clip), tmp_path).read().mean, mean)
    assert len(list(store.objects.keys("latents/"))) == 1


def test_an_encoder_learns_too_and_the_transformer_is_said_not_to_fit(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    recipe = TrainAutoencoder(steps=4, decoder_only=False, **SHORT)
    asked, _ = job(store, dataset_ref, tmp_path / "a", autoencoder=recipe)
    version = register(store, RECIPES["autoencoder"](asked))
    changed = differing(weights(store, base, tmp_path), weights(store, version, tmp_path))
    assert any(name.startswith(ENCODER) for name in changed)
    assert all(name.startswith(checkpoint.AUTOENCODER) for name in changed)
    assert version.notes[TRANSFORMER] == UNFIT
    with pytest.raises(FailedPrecondition, match="fine-tune it") as refused:
        refuse_unfit(version)
    assert refused.value.reason == "TRANSFORMER_UNFIT"

    opened = BaseModel.open(store, version, "cpu", tmp_path / "open")
    crops = torch.stack([clip[:, :16384] for clip in clips()])
    assert 0.3 < float(encoder_of(opened).encode(crops[0]).mean.std()) < 3

    tune = FineTune(base_model="tuned", steps=1, batch_size=1)
    second, _ = job(store, dataset_ref, tmp_path / "b", "tune", fine_tune=tune)
    refuse_unfit(RECIPES["fine_tune"](second))


def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    recipe = TrainAutoencoder(steps=6, accumulate=2, **SHORT)
    whole, own = job(store, dataset_ref, tmp_path / "whole", "whole", autoencoder=recipe)
    wanted, told = weights(store, RECIPES["autoencoder"](whole), tmp_path), own.read().progress
    first, own = job(store, dataset_ref, tmp_path / "first", "parts", StopsAtFive, autoencoder=recipe)
    with pytest.raises(Stopped):
        RECIPES["autoencoder"](first)
    assert own.read().progress.checkpoint_step == 5
    own.heartbeat.stop()

    second, own = job(store, dataset_ref, tmp_path / "second", "parts", autoencoder=recipe)
    resumed = weights(store, RECIPES["autoencoder"](second), tmp_path)

    assert not differing(resumed, wanted)
    after = own.read().progress
    for name in ("training", "validation", "discriminator", "fidelity"):
        assert list(getattr(after, name)) == list(getattr(told, name))


def test_two_processes_train_as_one(store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path) -> None:
    environment = {"DEVICE": "cpu", "LUTHIER_STORE_FOLDER": str(tmp_path / "store"), "LUTHIER_SCRATCH": str(tmp_path)}
    rates = {"learning_rate": 1e-4, "discriminator_learning_rate": 1e-4}
    recipe = TrainAutoencoder(
        steps=2, decoder_only=False, **SHORT | rates | {"validate_every": 2, "checkpoint_every": 2}
    )
    ends = []
    for processes in (1, 2):
        asked = CreateTrainingRunRequest(
            request_id=f"by-{processes}", dataset=dataset_ref, model_name="tuned", autoencoder=recipe, seed=4
        )
        record = RunLog.create(store, KIND, asked.request_id, settle(asked))
        code = forked(record.id, processes, environment)
        ends.append(record.read())
        assert (code, ends[-1].state) == (0, RUN_STATE_SUCCEEDED), ends[-1].error
    for name in ("training", "validation", "discriminator"):
        alone, together = ([point.loss for point in getattr(end.progress, name)] for end in ends)
        assert together[0] == pytest.approx(alone[0], rel=1e-4)
        # Adam makes whole steps of gradients that are the noise of sums that cancel, as the hinge's at first
        assert together == pytest.approx(alone, rel=1e-2)


def test_the_discriminators_judgement_reaches_the_decoder_and_teaches_it_nothing(
    known: Configuration, learnt_files: tuple[Path, Path]
) -> None:
    """The other way round, the discriminator's own gradient does not depend on whether the decoder listens."""
    spectral = SpectralLoss(known.sample_rate_hz, known.channels, a_weighting=True)
    recipe = settle(asking(TrainAutoencoder(**SHORT))).autoencoder
    audio = torch.stack([clip[:, :4096] for clip in clips()])
    noise = torch.zeros(2, known.latent_channels, 4096 // known.downsampling_ratio)
    found = {}
    for listens in (False, True):
        model = random_model(known, 5)
        model.load_state_dict(load_file(learnt_files[0]))
        discriminator = make_discriminator(known.channels, 4, seed=1)
        trained = Trained.prepare(model.pretransform.model, discriminator, recipe)
        autoencoder.batch_losses(trained, spectral, recipe, audio, noise, listens=listens)
        assert trained.critic
        found[listens] = trained.generator.gradient.clone(), trained.critic.gradient.clone()
    (deaf, own), (listening, same) = found[False], found[True]
    assert float((listening - deaf).abs().max()) > 1e-4
    assert float(own.abs().max()) > 0
    assert torch.equal(own, same)


def test_the_discriminator_learns_to_tell_sound_from_its_reconstruction(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    """The decoder stands nearly still; a hinge loss of 2 is that of who cannot tell."""
    changes = {"learning_rate": 1e-8, "discriminator_learning_rate": 1e-2, "discriminator_warmup_steps": 24}
    recipe = TrainAutoencoder(steps=24, **SHORT | changes)
    asked, own = job(store, dataset_ref, tmp_path / "a", autoencoder=recipe)
    RECIPES["autoencoder"](asked)
    losses = [point.loss for point in own.read().progress.discriminator]
    assert losses[0] == pytest.approx(2, abs=0.1), losses
    assert sum(losses[-4:]) / 4 < 1.9, losses


def test_without_adversarial_weights_there_is_no_discriminator(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    recipe = TrainAutoencoder(steps=4, adversarial_weight=0, feature_matching_weight=0, **SHORT)
    asked, own = job(store, dataset_ref, tmp_path / "a", autoencoder=recipe)
    RECIPES["autoencoder"](asked)
    kept = own.read().progress
    assert not kept.discriminator
    assert not any(name.startswith("discriminator") for name in load_file(store.blobs.fetch(kept.checkpoint, tmp_path)))


def test_random_weights_of_the_configuration_are_a_start(
    store: Store, known: Configuration, base_files: tuple[Path, Path], dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    """Gains are set on a first batch: latents begin with little noise."""
    base = register_base(store, known, base_files)
    recipe = TrainAutoencoder(steps=4, random_start=True, **SHORT | {"learning_rate": 1e-8})
    asked, _ = job(store, dataset_ref, tmp_path / "a", autoencoder=recipe)
    version = register(store, RECIPES["autoencoder"](asked))
    changed = differing(weights(store, base, tmp_path), weights(store, version, tmp_path))
    assert version.notes[TRANSFORMER] == UNFIT
    assert all(name.startswith(checkpoint.AUTOENCODER) for name in changed)
    assert any(name.startswith(ENCODER) and name.endswith("weight_v") for name in changed)
    learnt = BaseModel.open(store, version, "cpu", tmp_path / "open").model.pretransform.model
    _, deviation = posterior_of(learnt, torch.stack([clip[:, :8192] for clip in clips()]))
    assert float(deviation.mean()) < 0.2  # 0.7 of weights as they are drawn


@pytest.mark.parametrize("spoiled", ["loss", "gradient"])
def test_what_is_not_finite_ends_the_run_before_it_is_kept(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    spoiled: str,
) -> None:  # fmt: skip
    recipe = TrainAutoencoder(steps=4, **SHORT | {"checkpoint_every": 1})
    asked, own = job(store, dataset_ref, tmp_path / "a", autoencoder=recipe)
    batch_losses, steps = autoencoder.batch_losses, iter(range(1, 5))

    def spoiling(trained: Trained, *rest: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        loss, critics_loss = batch_losses(trained, *rest, **options)
        if not has_data(loss):  # the step whose memory is counted
            return loss, critics_loss
        if next(steps) < 3:
            return loss, critics_loss
        if spoiled == "gradient":
            trained.generator.gradient[0] = math.inf
            return loss, critics_loss
        return loss * math.nan, critics_loss

    monkeypatch.setattr(autoencoder, "batch_losses", spoiling)
    with pytest.raises(FailedPrecondition, match=f"the {spoiled}.* at step 3") as refused:
        RECIPES["autoencoder"](asked)
    assert refused.value.reason == "TRAINING_DIVERGED"
    assert own.read().progress.checkpoint_step == 2


def test_crops_that_are_not_whole_latents_are_refused_by_field(store: Store, base: ModelVersion) -> None:
    asked = settle(asking(TrainAutoencoder(base_model="base", window_samples=4097))).autoencoder
    with pytest.raises(InvalidRequest) as refused:
        check_window(store, base, asked)
    assert "must be a multiple of" in dict(refused.value.violations)["autoencoder.window_samples"]


def test_a_batch_that_ranks_cannot_share_is_refused_by_field(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    asked, _ = job(store, dataset_ref, tmp_path / "a", autoencoder=TrainAutoencoder(steps=4, **SHORT))
    with pytest.raises(InvalidRequest) as refused:
        RECIPES["autoencoder"](replace(asked, ranks=Ranks(0, 3)))
    assert list(dict(refused.value.violations)) == ["autoencoder.batch_size"]

"""What training an autoencoder is estimated to take is what it takes, and decides before anything is loaded."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, TrainAutoencoder
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_model.configuration import Configuration
from luthier_model.memory import MARGIN
from luthier_model.network import skeleton
from luthier_training import autoencoder_memory, memory
from luthier_training.autoencoder_state import Trained
from luthier_training.base_model import BaseModel
from luthier_training.job import Job
from luthier_training.memory import Counted
from luthier_training.ranks import Ranks
from luthier_training.recipes import RECIPES, autoencoder
from luthier_training.reconstruction import SpectralLoss, discriminator_of
from luthier_training.requests import settle
from tests.support.measure import allocated

from .test_fine_tune import job

WHAT = {
    "decoder": {"discriminator_filters": 4},
    "decoder and encoder, no average": {"discriminator_filters": 2, "random_start": True, "ema_decay": 0.0},
    "no discriminator": {"adversarial_weight": 0.0, "feature_matching_weight": 0.0, "a_weighting": False},
}
ROWS, WINDOW = 2, 8192


def settled(**recipe: Any) -> TrainAutoencoder:
    dataset = ArtifactRef(key=f"manifests/{'0' * 64}.json", sha256="0" * 64)
    asked = TrainAutoencoder(base_model="base", steps=4, **recipe)
    request = CreateTrainingRunRequest(request_id="r", dataset=dataset, model_name="m", autoencoder=asked)
    return settle(request).autoencoder


def counted(known: Configuration, recipe: TrainAutoencoder) -> Counted:
    document = json.dumps(known.document, sort_keys=True)
    asked = recipe.SerializeToString(deterministic=True)
    return autoencoder_memory.count(document, asked, autoencoder.batch_losses)


@pytest.mark.parametrize("what", WHAT.values(), ids=WHAT)
def test_a_step_takes_what_was_counted(known: Configuration, what: dict[str, Any]) -> None:
    recipe = settled(batch_size=ROWS, window_samples=WINDOW, **what)
    network = skeleton(known, "cpu").pretransform.model
    spectral = SpectralLoss(known.sample_rate_hz, known.channels, a_weighting=recipe.a_weighting)
    discriminator = discriminator_of(recipe, known.channels, 1)
    trained = Trained.prepare(network, discriminator, recipe)

    def step() -> None:
        audio = torch.randn(ROWS, known.channels, WINDOW)
        noise = torch.randn(ROWS, known.latent_channels, WINDOW // known.downsampling_ratio)
        autoencoder.batch_losses(trained, spectral, recipe, audio, noise, listens=True)

    step()  # what torch makes once is there from now on
    found = counted(known, recipe)
    learners = [learner for learner in (trained.generator, trained.critic) if learner]
    modules = [module for module in (network, spectral, discriminator) if module is not None]
    there = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    averaged = trained.average.ema_model.parameters() if trained.average else []

    assert found.step == pytest.approx(allocated(step), rel=0.03)
    assert found.gradient == sum(4 * learner.gradient.numel() for learner in learners)
    assert found.average == sum(4 * each.numel() for each in averaged)
    assert found.model == sum(tensor.numel() * tensor.element_size() for tensor in there)


def test_a_cpu_holds_the_base_and_a_random_start_its_autoencoder_too(known: Configuration, base: ModelVersion) -> None:
    model = skeleton(known)
    own, whole = (
        sum(tensor.numel() * tensor.element_size() for tensor in part.state_dict().values())
        for part in (model.pretransform.model, model)
    )
    text = sum(ref.size_bytes for name, ref in base.text_encoder if name == "model.safetensors")
    beside = functools.partial(autoencoder_memory.beside_what_is_trained, known, base)
    assert beside(again=True) == pytest.approx(whole + text, rel=0.01)
    assert beside(again=True) - beside(again=False) == pytest.approx(own, rel=0.01)


MIB = 1 << 20


def plain(document: str, recipe: bytes, losses: object) -> Counted:
    """A machine's worth of round numbers: 10 MiB for a crop of 4096 samples, of which a filter takes 1, and 4 MiB of
    weights, half of them the encoder's."""
    asked = TrainAutoencoder.FromString(recipe)
    judged = asked.discriminator_filters if asked.adversarial_weight else 0
    trained = (2 if asked.decoder_only else 4) * MIB
    step = asked.batch_size * asked.window_samples // 4096 * (6 + judged) * MIB
    return Counted(4 * MIB, trained, trained, step)


@pytest.fixture
def asked(store: Store, dataset_ref: ArtifactRef, tmp_path: Path) -> Job:
    """8 crops of 4 times 4096 samples against a discriminator of 4 filters: 320 MiB, beside 16 of what is kept."""
    recipe = settled(batch_size=8, window_samples=16_384, discriminator_filters=4)
    return job(store, dataset_ref, tmp_path / "a", autoencoder=recipe)[0]


@pytest.fixture
def decide(known: Configuration, base: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> Callable[[Job, float], None]:
    """Decides about a run that may take so many MiB with all the rest."""
    monkeypatch.setattr(autoencoder_memory, "count", plain)
    monkeypatch.setattr(autoencoder_memory, "beside_what_is_trained", lambda *_, **__: 0)
    monkeypatch.setattr(autoencoder_memory, "WAITING", 0)

    def decided(asked: Job, mib: float) -> None:
        free = round(mib * MIB * (1 + MARGIN)) * asked.ranks.count
        monkeypatch.setattr(memory, "free_bytes", lambda device: free)
        autoencoder_memory.check_memory(asked, known, base, 0, autoencoder.batch_losses)

    return decided


def kept(trained: int) -> int:
    """MiB from the first step to the last: weights; gradient, moments and average, these again in a checkpoint."""
    return 4 + 4 * trained + 4 * trained


def refusal(decide: Callable[[Job, float], None], asked: Job, mib: float) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        decide(asked, mib)
    [violation] = refused.value.violations
    return violation


def test_what_fits_is_noted(asked: Job, decide: Callable[[Job, float], None]) -> None:
    decide(asked, kept(2) + 320.01)
    noted = asked.reporter.progress.memory
    assert noted.needed_bytes == (kept(2) + 320) * MIB
    assert noted.free_bytes == round((kept(2) + 320.01) * MIB * (1 + MARGIN))


def test_a_batch_that_does_not_fit_is_refused_by_the_largest_that_does(
    asked: Job, decide: Callable[[Job, float], None]
) -> None:
    field, bound = refusal(decide, asked, kept(2) + 5.5 * 40)
    assert field == "autoencoder.batch_size"
    start = "must be at most 5 for crops of 16384 samples on this machine, with a larger accumulate, or fewer"
    assert bound.startswith(f"{start} discriminator_filters than 4: a step needs 0.33 GiB and 10% more")
    asked.request.autoencoder.batch_size = 5
    decide(asked, kept(2) + 5.5 * 40)


def test_ranks_share_a_batch_and_a_machine(asked: Job, decide: Callable[[Job, float], None]) -> None:
    field, bound = refusal(decide, replace(asked, ranks=Ranks(0, 2)), kept(2) + 2.5 * 40)
    assert (field, bound.split()[:5]) == ("autoencoder.batch_size", ["must", "be", "at", "most", "4"])


def test_a_crop_that_does_not_fit_alone_is_refused_by_the_longest_that_does(
    asked: Job, decide: Callable[[Job, float], None]
) -> None:
    field, bound = refusal(decide, asked, kept(2) + 25)
    assert field == "autoencoder.window_samples"
    assert bound.startswith("must be at most 10240 on this machine, or fewer discriminator_filters than 4")


@pytest.mark.parametrize(
    ("room", "change", "field"),
    [
        (kept(2) + 8, {}, "discriminator_filters"),
        (kept(2) + 8, {"adversarial_weight": 0, "feature_matching_weight": 0, "decoder_only": False}, "decoder_only"),
        (kept(2) + 1, {}, "base_model"),
    ],
)
def test_what_no_crop_mends_is_refused_by_what_does(
    asked: Job, decide: Callable[[Job, float], None], room: int, change: dict[str, Any], field: str
) -> None:
    for name, value in change.items():
        setattr(asked.request.autoencoder, name, value)
    assert refusal(decide, asked, room)[0] == f"autoencoder.{field}"


@pytest.mark.usefixtures("base")
def test_a_run_that_does_not_fit_ends_before_anything_is_loaded(asked: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("the base was loaded, or clips were fetched")

    monkeypatch.setattr(memory, "free_bytes", lambda device: 1 << 20)
    monkeypatch.setattr(autoencoder_memory, "count", plain)
    monkeypatch.setattr(BaseModel, "open", forbidden)
    monkeypatch.setattr(autoencoder, "fetch", forbidden)
    with pytest.raises(InvalidRequest, match="free on this cpu"):
        RECIPES["autoencoder"](asked)

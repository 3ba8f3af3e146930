"""A run at another window than its base's: what it trains, exports and generates is as long as was asked for."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luthier.common.v1.common_pb2 import ADAPTER_KIND_LORA, ArtifactRef
from luthier.training.v1.training_pb2 import Adapter, CreateTrainingRunRequest, FineTune
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_model import generation, loading
from luthier_model.configuration import Configuration, check, packaged
from luthier_model.generation import GenerationParameters
from luthier_model.registered import fetch_configuration, fetch_version
from luthier_training import audio
from luthier_training.recipes import RECIPES, fine_tune
from luthier_training.requests import settle
from luthier_training.training_window import with_window
from tests.model.families import stable_audio_1

from .test_fine_tune import TUNE, job

LONGER_S = 6.0
"""The base's window lasts 4.1 s."""
LORA = Adapter(kind=ADAPTER_KIND_LORA, rank=4, alpha=4, targets=["attention"])


def test_a_window_is_whole_latents_and_nothing_else_changes(known: Configuration) -> None:
    for asked_s, latents in ((LONGER_S, 47), (1.0, 8), (2048 / 16000, 1), (2049 / 16000, 2)):
        found = with_window(known, FineTune(window_seconds=asked_s))
        assert found.window_latents == latents
        assert found.window_samples == latents * known.downsampling_ratio
        assert asked_s <= found.window_s < asked_s + known.downsampling_ratio / known.sample_rate_hz
        assert {**found.document, "sample_size": known.window_samples} == known.document
    assert with_window(known, FineTune()) is known


def test_three_minutes_of_stable_audio_open_are_as_many_latents_as_of_stable_audio_2() -> None:
    """4,096 latents of 2,048 samples at 44.1 kHz last 190.2 s (Evans 2024b)."""
    found = with_window(packaged(), FineTune(window_seconds=190.2))
    assert (found.window_latents, found.downsampling_ratio, found.sample_rate_hz) == (4096, 2048, 44100)


def test_a_window_of_a_unet_is_halved_as_often_as_its_factors_say() -> None:
    base = check(stable_audio_1())
    halvings = math.prod(base.document["model"]["diffusion"]["config"]["factors"])
    found = with_window(base, FineTune(window_seconds=50))
    assert halvings > 1
    assert found.window_latents % halvings == 0
    assert 50 <= found.window_s < 50 + halvings * base.downsampling_ratio / base.sample_rate_hz


def test_a_window_that_the_base_cannot_be_told_is_refused(known: Configuration) -> None:
    """The library clamps seconds to max_val before it embeds them."""
    assert packaged().seconds_max == 512
    with pytest.raises(InvalidRequest, match=r"fine_tune\.window_seconds: must be at most 512, .*got 513"):
        with_window(packaged(), FineTune(window_seconds=513))
    document = copy.deepcopy(dict(known.document))
    for condition in document["model"]["conditioning"]["configs"][1:]:
        condition["config"]["max_val"] = 10_000
    with pytest.raises(InvalidRequest, match=r"must be at most 4194\.3, 32768 latents of this base, got 5000"):
        with_window(check(document), FineTune(window_seconds=5000))


@pytest.mark.parametrize("seconds", [-1.0, 3601.0, float("nan")])
def test_a_window_out_of_bounds_is_refused_with_the_request(seconds: float) -> None:
    asked = CreateTrainingRunRequest(request_id="r", model_name="m", fine_tune=FineTune(window_seconds=seconds))
    with pytest.raises(InvalidRequest, match=r"fine_tune\.window_seconds"):
        settle(asked)


def trained(store: Store, dataset_ref: ArtifactRef, folder: Path, **changes: Any) -> ModelVersion:
    recipe = FineTune(
        steps=2, samples=1, sample_steps=2, **TUNE | {"validate_every": 2, "checkpoint_every": 2} | changes
    )
    asked, _ = job(store, dataset_ref, folder, fine_tune=recipe)
    version = RECIPES["fine_tune"](asked)
    assert isinstance(version, ModelVersion)
    return version


@pytest.mark.parametrize("kind", [{}, {"adapter": LORA}], ids=["all weights", "an adapter"])
@pytest.mark.parametrize("window_s", [LONGER_S, 1.0])
def test_the_version_generates_as_long_as_it_was_trained(
    store: Store, base: ModelVersion, known: Configuration, dataset_ref: ArtifactRef, tmp_path: Path,
    window_s: float, kind: dict[str, Any],
) -> None:  # fmt: skip
    version = trained(store, dataset_ref, tmp_path / "a", window_seconds=window_s, **kind)
    exported = fetch_configuration(store, version.configuration)
    assert exported == with_window(known, FineTune(window_seconds=window_s))
    assert fetch_configuration(store, base.configuration) == known
    files = fetch_version(store, version, tmp_path / "version")
    model = loading.load(files.configuration, files.weights, files.text_encoder, "cpu", files.adapters)
    ready = generation.prepare(model, files.configuration, torch.device("cpu"), "float32")
    asked = GenerationParameters("jazz", 1, window_s, steps=2)
    *_, last = generation.denoise(ready, asked)
    sound = generation.decode(ready, asked, last.latents)
    assert last.latents.shape[-1] == exported.window_latents
    assert sound.shape == (round(window_s * known.sample_rate_hz), 2)
    assert np.isfinite(sound).all()


def test_clips_windows_and_samples_follow_the_window(
    store: Store, base: ModelVersion, known: Configuration, dataset_ref: ArtifactRef, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Songs of three windows, which are longer than the base's own, too."""
    batches, batch_loss = list[Any](), fine_tune.batch_loss

    def noted(model: Any, batch: Any, **options: Any) -> torch.Tensor:
        batches.append(batch)
        return batch_loss(model, batch, **options)

    exported = with_window(known, FineTune(window_seconds=LONGER_S))
    song = torch.linspace(0, 0.5, 3 * exported.window_samples).repeat(2, 1)
    monkeypatch.setattr(audio, "read", lambda path, configuration: song)
    monkeypatch.setattr(fine_tune, "batch_loss", noted)
    asked, own = job(
        store, dataset_ref, tmp_path / "a",
        fine_tune=FineTune(steps=4, samples=1, sample_steps=2, windows_per_clip=2, window_seconds=LONGER_S, **TUNE),
    )  # fmt: skip
    RECIPES["fine_tune"](asked)
    assert {batch.latents.shape[-1] for batch in batches} == {47}
    told = [said for batch in batches for said in batch.conditions]
    assert {round(said["seconds_total"], 3) for said in told} == {round(3 * exported.window_s, 3)}
    assert max(said["seconds_start"] for said in told) <= 2 * exported.window_s
    assert any(said["seconds_start"] > 0 for said in told)
    assert [sample.seconds_total for sample in own.read().progress.samples] == [pytest.approx(exported.window_s)] * 2

"""Requests are settled before anything is fetched: defaults filled in, bounds named."""

from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ADAPTER_KIND_LORA, ADAPTER_KIND_UNSPECIFIED, ArtifactRef
from luthier.training.v1.training_pb2 import Adapter, CreateTrainingRunRequest, FineTune, TinyBase, TrainAutoencoder
from luthier_kit.rpc import InvalidRequest
from luthier_training.requests import settle

DATASET = ArtifactRef(key=f"manifests/{'0' * 64}.json", sha256="0" * 64)


def request(**changes: Any) -> CreateTrainingRunRequest:
    values: dict[str, Any] = {
        "request_id": "r",
        "dataset": DATASET,
        "model_name": "m",
        "fine_tune": FineTune(base_model="b"),
    }
    return CreateTrainingRunRequest(**{**values, **changes})


def test_defaults_are_filled_in() -> None:
    asked = settle(request()).fine_tune
    assert (asked.steps, asked.batch_size, asked.conditioning_dropout, asked.validate_every) == (4000, 16, 0.1, 400)


def test_a_base_is_tiny_unless_another_size_is_asked_for() -> None:
    asked = settle(request(tiny_base=TinyBase())).tiny_base
    assert (asked.size, asked.autoencoder_steps) == ("tiny", 400)
    assert settle(request(tiny_base=TinyBase(size="small"))).tiny_base.autoencoder_steps == 1500
    with pytest.raises(InvalidRequest) as refused:
        settle(request(tiny_base=TinyBase(size="huge")))
    assert dict(refused.value.violations)["tiny_base.size"] == "must be tiny or small, got 'huge'"


def test_an_adapter_gets_its_defaults_and_ten_times_the_rate() -> None:
    tune = settle(request(fine_tune=FineTune(base_model="b", adapter=Adapter()))).fine_tune
    assert tune.learning_rate == 5e-4
    assert tune.adapter == Adapter(
        kind=ADAPTER_KIND_LORA, rank=16, alpha=16, dropout=0, targets=["attention", "feed_forward"]
    )
    scaled = settle(request(fine_tune=FineTune(base_model="b", adapter=Adapter(rank=8), learning_rate=1e-5))).fine_tune
    assert (scaled.adapter.alpha, scaled.learning_rate) == (8, 1e-5)


@pytest.mark.parametrize(
    ("field", "adapter"),
    [
        ("kind", Adapter(kind=ADAPTER_KIND_UNSPECIFIED)),
        ("kind", Adapter(kind=7)),  # type: ignore[arg-type]
        ("rank", Adapter(rank=0)),
        ("rank", Adapter(rank=257)),
        ("alpha", Adapter(alpha=0)),
        ("alpha", Adapter(alpha=-1)),
        ("alpha", Adapter(alpha=4097)),
        ("alpha", Adapter(alpha=float("nan"))),
        ("dropout", Adapter(dropout=1)),
        ("dropout", Adapter(dropout=float("nan"))),
        ("targets", Adapter(targets=["all"] * 4)),
        ("targets[1]", Adapter(targets=["all", "convolutions"])),
    ],
)
def test_an_adapter_beyond_a_bound_is_refused_by_name(field: str, adapter: Adapter) -> None:
    with pytest.raises(InvalidRequest) as refused:
        settle(request(fine_tune=FineTune(base_model="b", adapter=adapter)))
    assert f"fine_tune.adapter.{field}" in dict(refused.value.violations)


def test_seed_follows_from_the_request_id() -> None:
    assert settle(request()).seed == settle(request()).seed
    assert settle(request()).seed != settle(request(request_id="other")).seed


def test_a_given_seed_is_kept() -> None:
    assert settle(request(seed=0)).seed == 0


@pytest.mark.parametrize(
    ("field", "recipe"),
    [
        ("fine_tune.steps", FineTune(base_model="b", steps=0)),
        ("fine_tune.steps", FineTune(base_model="b", steps=10**7)),
        ("fine_tune.batch_size", FineTune(base_model="b", batch_size=0)),
        ("fine_tune.learning_rate", FineTune(base_model="b", learning_rate=float("nan"))),
        ("fine_tune.learning_rate", FineTune(base_model="b", learning_rate=1)),
        ("fine_tune.conditioning_dropout", FineTune(base_model="b", conditioning_dropout=1)),
        ("fine_tune.validate_every", FineTune(base_model="b", steps=10, validate_every=11)),
        ("fine_tune.ema_decay", FineTune(base_model="b", ema_decay=1)),
        ("fine_tune.min_excerpt_s", FineTune(base_model="b", min_excerpt_s=-1)),
        ("fine_tune.metadata_share", FineTune(base_model="b", metadata_share=1.1)),
        ("fine_tune.windows_per_clip", FineTune(base_model="b", windows_per_clip=65)),
        ("fine_tune.cut_to_window", FineTune(base_model="b", windows_per_clip=2, cut_to_window=True)),
        ("fine_tune.metadata_share", FineTune(base_model="b", metadata_share=float("nan"))),
        ("fine_tune.timestep_logit_mean", FineTune(base_model="b", timestep_logit_mean=11)),
        ("fine_tune.timestep_logit_deviation", FineTune(base_model="b", timestep_logit_deviation=1)),
        (
            "fine_tune.timestep_logit_deviation",
            FineTune(base_model="b", timestep_logit_mean=0, timestep_logit_deviation=0),
        ),
        ("fine_tune.base_model", FineTune()),
        ("fine_tune.samples", FineTune(base_model="b", samples=9)),
        ("fine_tune.samples", FineTune(base_model="b", samples=1, sample_prompts=["calm"])),
        ("fine_tune.sample_steps", FineTune(base_model="b", sample_steps=0)),
        ("fine_tune.sample_steps", FineTune(base_model="b", sample_steps=251)),
        ("fine_tune.sample_prompts", FineTune(base_model="b", sample_prompts=["calm"] * 9)),
        ("fine_tune.sample_prompts[1]", FineTune(base_model="b", sample_prompts=["calm", " "])),
        ("fine_tune.sample_prompts[0]", FineTune(base_model="b", sample_prompts=["c" * 2001])),
        ("fine_tune.validate_every", FineTune(base_model="b", steps=256, validate_every=1, samples=1)),
    ],
)
def test_beyond_a_bound_is_refused_by_name(field: str, recipe: FineTune) -> None:
    with pytest.raises(InvalidRequest) as refused:
        settle(request(fine_tune=recipe))
    assert field in dict(refused.value.violations)


@pytest.mark.parametrize(
    ("recipe", "samples"),
    [
        (FineTune(), 2),
        (FineTune(steps=1000, batch_size=8), 1),  # 11 validations, 100 evaluations a sample, 24,000 of training
        (FineTune(steps=100, batch_size=4), 0),
        (FineTune(steps=4000, validate_every=10), 0),  # 401 validations
        (FineTune(steps=4000, validate_every=20), 0),  # 201 validations with 100 evaluations each are a tenth
        (FineTune(steps=100, batch_size=4, samples=3), 3),
        (FineTune(sample_prompts=["calm"]), 0),
    ],
)
def test_sampling_takes_a_twentieth_of_a_run_unless_it_is_asked_for(recipe: FineTune, samples: int) -> None:
    recipe.base_model = "b"
    settled = settle(request(fine_tune=recipe)).fine_tune
    assert (settled.samples, settled.sample_steps) == (samples, 50)


def test_an_autoencoder_is_trained_as_stable_audio_opens_was_its_encoder_frozen() -> None:
    asked = settle(request(autoencoder=TrainAutoencoder(base_model="b"))).autoencoder
    assert (asked.decoder_only, asked.random_start, asked.a_weighting) == (True, False, True)
    assert (asked.window_samples, asked.learning_rate, asked.discriminator_learning_rate) == (65536, 1.5e-4, 3e-4)
    assert (asked.spectral_weight, asked.adversarial_weight, asked.feature_matching_weight) == (1, 0.1, 5)
    assert (asked.kl_weight, asked.sample_weight, asked.ema_decay, asked.discriminator_filters) == (1e-4, 0, 0.9999, 64)
    assert (asked.validate_every, asked.checkpoint_every, asked.discriminator_warmup_steps) == (2000, 2000, 2000)


def test_an_autoencoder_of_random_weights_trains_its_encoder() -> None:
    assert not settle(request(autoencoder=TrainAutoencoder(base_model="b", random_start=True))).autoencoder.decoder_only


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 257),
        ("window_samples", 2048),
        ("window_samples", 1 << 21),
        ("learning_rate", float("nan")),
        ("discriminator_learning_rate", 1.0),
        ("warmup_steps", -1),
        ("discriminator_warmup_steps", 20_001),
        ("discriminator_filters", 0),
        ("spectral_weight", -1.0),
        ("spectral_weight", 0.0),
        ("sample_weight", float("inf")),
        ("adversarial_weight", 1001.0),
        ("feature_matching_weight", -0.1),
        ("kl_weight", 1.5),
        ("accumulate", 0),
        ("validate_every", 20_001),
        ("checkpoint_every", 0),
        ("ema_decay", 1.0),
        ("base_model", " "),
    ],
)
def test_options_of_an_autoencoder_are_bounded(field: str, value: Any) -> None:
    recipe = TrainAutoencoder(**{"base_model": "b", field: value})
    with pytest.raises(InvalidRequest) as refused:
        settle(request(autoencoder=recipe))
    assert list(dict(refused.value.violations)) == [f"autoencoder.{field}"]


def test_a_decoder_alone_has_no_random_start() -> None:
    with pytest.raises(InvalidRequest) as refused:
        settle(request(autoencoder=TrainAutoencoder(base_model="b", random_start=True, decoder_only=True)))
    assert list(dict(refused.value.violations)) == ["autoencoder.random_start"]


def test_the_rest_of_the_request_is_bounded_too() -> None:
    bad = CreateTrainingRunRequest(model_name="Not A Name", tiny_base=TinyBase(autoencoder_steps=0))
    with pytest.raises(InvalidRequest) as refused:
        settle(bad)
    assert {"request_id", "dataset", "model_name", "tiny_base.autoencoder_steps"} <= set(dict(refused.value.violations))

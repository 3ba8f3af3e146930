"""The families of the papers are trained: losses as the library's, masks as it draws them, runs from end to end."""

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stable_audio_tools.models.inpainting import random_inpaint_mask
from stable_audio_tools.training.diffusion import DiffusionCondTrainingWrapper

from luthier.common.v1.common_pb2 import ADAPTER_KIND_LORA, ArtifactRef
from luthier.training.v1.training_pb2 import Adapter, FineTune
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_model import adapters, loading
from luthier_model.configuration import Masks
from luthier_model.generation import GenerationParameters, LoadedModel, decode, denoise, prepare
from luthier_model.registered import fetch_configuration
from luthier_training.base_model import BaseModel
from luthier_training.dataset import read_manifest
from luthier_training.encoding import encode
from luthier_training.examples import Batch, draw_batch
from luthier_training.families import as_trained, draw_mask, sounding
from luthier_training.recipes import RECIPES, fine_tune
from luthier_training.seeds import seed_of
from tests.model.families import FAMILIES, small_family

from .conftest import register_base
from .test_fine_tune import TUNE, job, losses

WINDOW = 250  # latents of 8 ms: two seconds, as the clips of the data set


@pytest.fixture
def family(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> ModelVersion:
    """A registered small model of the family that the test names."""
    files = small_family(request.param, tmp_path, WINDOW)
    return register_base(store, files.configuration, (files.weights, files.text_encoder))


class Wrapper(DiffusionCondTrainingWrapper):  # type: ignore[misc]
    """The library's training step without a trainer."""

    trainer = SimpleNamespace(optimizers=[SimpleNamespace(param_groups=[{"lr": 0.0}])])

    def log_dict(self, *_: Any, **__: Any) -> None:
        """There is no logger."""


@pytest.fixture
def same_timesteps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's shift of timesteps, held at its lengths as its later sources do."""
    from stable_audio_tools.inference.sampling import DistributionShift

    shift = DistributionShift.time_shift

    def held(self: Any, timesteps: torch.Tensor, length: int) -> torch.Tensor:
        shifted: torch.Tensor = shift(self, timesteps, min(max(length, self.min_length), self.max_length))
        return shifted

    monkeypatch.setattr(DistributionShift, "time_shift", held)


@pytest.mark.parametrize(
    ("family", "dropout"),
    [*((name, 0.0) for name in FAMILIES), ("stable_audio_1", 1.0), ("stable_audio_2", 1.0)],
    indirect=["family"],
)
@pytest.mark.usefixtures("same_timesteps")
def test_the_loss_is_the_librarys(
    store: Store, family: ModelVersion, dropout: float, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    """Noise, timesteps and masks the same; nothing dropped or all, as the library drops each kind of condition by
    itself.
    """
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE))
    opened = BaseModel.open(store, family, "cpu", tmp_path / "base")
    known = opened.configuration
    train, _ = encode(asked, opened, read_manifest(store, dataset_ref))
    batch = as_trained(draw_batch(train, 0, 8, dropout, seed=4), known, 4, 0)
    ours = fine_tune.batch_loss(opened.model, batch, recompute=False)

    masks = known.masks
    inpainting = {"mask_kwargs": known.document["training"]["inpainting"]["mask_kwargs"]} if masks else None
    theirs = Wrapper(
        opened.model, lr=1e-3, use_ema=False, pre_encoded=True, cfg_dropout_prob=dropout, inpainting_config=inpainting
    )
    seed = seed_of(4, "step", 0)
    theirs.rng = torch.quasirandom.SobolEngine(1, True, seed % (1 << 31))  # type: ignore[no-untyped-call]
    torch.manual_seed(seed)
    random.seed(seed_of(4, "masks", 0))
    lengths = [sounding(said, known) for said in batch.conditions]
    padding = [(torch.arange(WINDOW) < length).float() for length in lengths]
    metadata = [{**said, "padding_mask": [mask]} for said, mask in zip(batch.conditions, padding, strict=True)]
    scaled = batch.latents * opened.model.pretransform.scale  # it divides by the scale again
    assert float(ours) == pytest.approx(float(theirs.training_step((scaled, metadata), 0)), rel=1e-6)


@pytest.mark.parametrize("length", [0, 1, 7, 40])
def test_masks_are_drawn_as_the_library_draws_them(length: int) -> None:
    masks, window = Masks(5, (0.4, 0.2, 0.4)), 40
    padding = (torch.arange(window) < length).float()[None]

    for seed in range(60):
        random.seed(seed)
        _, expected = random_inpaint_mask(torch.ones(1, 2, window), padding, 5, list(masks.probabilities))

        assert torch.equal(draw_mask(random.Random(seed), masks, window, length), expected[0])


@pytest.mark.parametrize("family", ["inpainting"], indirect=True)
def test_masks_follow_from_the_seed_and_the_batch(
    store: Store, family: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    opened = BaseModel.open(store, family, "cpu", tmp_path / "base")
    latents = torch.zeros(6, opened.configuration.latent_channels, WINDOW)
    said = [{"prompt": "", "seconds_start": 0.0, "seconds_total": 1.6}] * 6
    batch = Batch(latents, said, latents, torch.zeros(6), torch.zeros(6).bool())  # type: ignore[arg-type]

    def kept(number: int, seed: int = 4) -> torch.Tensor:
        drawn = as_trained(batch, opened.configuration, seed, number)
        assert drawn.kept is not None
        return drawn.kept

    assert torch.equal(kept(3), kept(3))
    assert not torch.equal(kept(3), kept(4))
    assert not torch.equal(kept(3), kept(3, seed=5))
    part = as_trained(batch, opened.configuration, 4, 3).part(slice(2, 4))
    assert part.kept is not None
    assert torch.equal(part.kept, kept(3)[2:4])


@pytest.mark.parametrize("family", ["inpainting"], indirect=True)
def test_only_what_the_mask_keeps_is_given(
    store: Store, family: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    """The mask and the latents that it keeps reach the transformer, none of what it leaves out does."""
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE))
    opened = BaseModel.open(store, family, "cpu", tmp_path / "base")
    train, _ = encode(asked, opened, read_manifest(store, dataset_ref))
    batch = as_trained(draw_batch(train, 0, 4, 0.0, seed=4), opened.configuration, 4, 0)
    kept = torch.ones(4, 1, WINDOW)
    kept[:, :, WINDOW // 2 :] = 0
    heard: list[torch.Tensor] = []
    opened.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: heard.append(kwargs["input_concat_cond"]), with_kwargs=True
    )

    fine_tune.batch_loss(opened.model, replace(batch, kept=kept), recompute=False)

    (channels,) = heard
    assert torch.equal(channels[:, :1], kept)
    assert torch.equal(channels[:, 1:, : WINDOW // 2], batch.latents[:, :, : WINDOW // 2])
    assert not channels[:, 1:, WINDOW // 2 :].any()


@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_conditions_that_are_dropped_are_not_heard(
    store: Store, family: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    """Tokens of cross attention and those before the latents are dropped together, as guidance goes without both. The
    library's U-Net keeps the mask of a prompt that it goes without: of how many tokens there were it hears.
    """
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE))
    opened = BaseModel.open(store, family, "cpu", tmp_path / "base")
    train, _ = encode(asked, opened, read_manifest(store, dataset_ref))
    batch = as_trained(draw_batch(train, 0, 4, 0.0, seed=4), opened.configuration, 4, 0)
    other = replace(batch, conditions=[{**said, "prompt": train[0].prompts[-1]} for said in batch.conditions])
    other.conditions[0]["prompt"] = train[1].prompts[0]
    if opened.configuration.has_unet:
        other = replace(batch, conditions=[{**said, "seconds_start": 3.0} for said in batch.conditions])
    dropped = torch.ones(4).bool()

    def loss(batch: Batch) -> float:
        return float(fine_tune.batch_loss(opened.model, batch, recompute=False))

    assert loss(batch) != loss(other)
    assert loss(replace(batch, dropped=dropped)) == loss(replace(other, dropped=dropped))


@pytest.mark.parametrize("family", ["stable_audio_open", "stable_audio_2", "one_vector"], indirect=True)
def test_stored_prompts_are_what_the_encoder_makes(store: Store, family: ModelVersion, tmp_path: Path) -> None:
    """Of prompts that are kept, of several lengths, and of one that was drawn: the padding of CLAP is heard, too."""
    opened = BaseModel.open(store, family, "cpu", tmp_path / "base")
    conditioners = opened.model.conditioner.conditioners
    kept, drawn = ["calm piano in D minor at 90 BPM", "drums"], "piano, 100 BPM"
    with torch.no_grad():
        expected, expected_mask = conditioners["prompt"]([*kept, drawn], "cpu")
        opened.cache_prompts(opened.text_embeddings(kept, tmp_path), keep_encoder=True)
        states, mask = conditioners["prompt"]([*kept, drawn], "cpu")

    assert torch.equal(mask, expected_mask)
    torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_a_run_makes_a_version_that_generates(
    store: Store, family: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    asked, own = job(
        store,
        dataset_ref,
        tmp_path / "a",
        fine_tune=FineTune(steps=2, **{**TUNE, "validate_every": 2, "checkpoint_every": 2}),
    )

    version = RECIPES["fine_tune"](asked)

    found = losses(own.read().progress.validation)
    assert len(found) == 2
    assert found[0] != found[1]
    known = fetch_configuration(store, version.configuration)
    (tmp_path / "base").mkdir()
    weights = store.blobs.fetch(version.checkpoint, tmp_path)
    before, after = load_file(store.blobs.fetch(family.checkpoint, tmp_path / "base")), load_file(weights)
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved
    assert not any(name.startswith("pretransform.") for name in moved)

    text = tmp_path / "text"
    text.mkdir()
    for name, ref in version.text_encoder:
        store.blobs.fetch(ref, text).rename(text / name)
    model: LoadedModel = prepare(loading.load(known, weights, text), known, torch.device("cpu"), "float32")
    objective = known.objective
    wanted = GenerationParameters(
        "calm piano", 1, 0.5, steps=1, sampler=objective.samplers[0], sigma_max=objective.sigma_max, guidance_scale=3.0
    )
    (step,) = denoise(model, wanted)
    assert decode(model, wanted, step.latents).shape == (8000, 2)


@pytest.mark.parametrize("family", ["stable_audio_1"], indirect=True)
def test_a_unet_takes_an_adapter(store: Store, family: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path) -> None:
    """Before it is stored each layer is computed with its merged weight (`adapters.store`)."""
    adapter = Adapter(kind=ADAPTER_KIND_LORA, rank=2, alpha=4, targets=["attention", "feed_forward"])
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE, adapter=adapter))

    version = RECIPES["fine_tune"](asked)

    assert version.checkpoint == family.checkpoint
    layers = adapters.read(store.blobs.fetch(version.adapters[0].artifact, tmp_path)).layers
    # six blocks: one in each of two levels on the way down and up, two between; each with self attention and cross
    # attention (to_q, to_kv, to_out) and two layers behind them
    assert len(layers) == 6 * (2 * 3 + 2)


@pytest.mark.parametrize("family", ["stable_audio_open_small"], indirect=True)
def test_windows_of_songs_are_refused_where_their_place_cannot_be_told(
    store: Store, family: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(windows_per_clip=2, **TUNE))
    with pytest.raises(InvalidRequest) as refused:
        RECIPES["fine_tune"](asked)
    assert [field for field, _ in refused.value.violations] == ["fine_tune.windows_per_clip"]

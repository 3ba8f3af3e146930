"""A clip is padded before it is encoded, and clips and prompts are encoded once."""

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from safetensors.torch import load, save

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import DataLoss, FailedPrecondition, InvalidRequest
from luthier_kit.store import Action, Store
from luthier_model.configuration import Configuration
from luthier_training import audio
from luthier_training.base_model import BaseModel, CachedPrompts, Excerpt, posterior_of
from luthier_training.dataset import read_manifest
from tests.support.flac import streamed

from .conftest import PROMPTS, SECONDS, encoder_of, latents_of, tone

STORED = {"mean": [[1.0, 2.0]], "deviation": [[0.5, 0.25]], "sounding": [True, False], "seconds_total": 2.0}


@pytest.fixture
def opened(store: Store, base: ModelVersion, tmp_path: Path) -> BaseModel:
    return BaseModel.open(store, base, "cpu", tmp_path / "base")


@pytest.fixture
def clip(store: Store, dataset_ref: ArtifactRef) -> DatasetRow:
    return read_manifest(store, dataset_ref).rows[0]


def test_latents_are_those_of_the_clip_with_silence_up_to_the_window(
    opened: BaseModel, clip: DatasetRow, known: Configuration, tmp_path: Path
) -> None:
    latents = latents_of(opened, Excerpt(clip), tmp_path).read()
    assert latents.mean.shape == latents.deviation.shape == (known.latent_channels, known.window_latents)
    assert latents.seconds_total == pytest.approx(SECONDS[0], abs=1e-3)
    samples = audio.read(opened.store.blobs.fetch(clip.audio, tmp_path), known)
    padded = torch.zeros(1, 2, known.window_samples)
    padded[0, :, : samples.shape[1]] = samples
    mean, deviation = posterior_of(opened.model.pretransform.model, padded)
    scale = opened.model.pretransform.scale
    torch.testing.assert_close(latents.mean * scale, mean[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(latents.deviation * scale, deviation[0], rtol=1e-5, atol=1e-5)


def test_the_second_time_is_found(
    opened: BaseModel, clip: DatasetRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = latents_of(opened, Excerpt(clip), tmp_path).read()
    words = opened.text_embeddings(PROMPTS, tmp_path / "text")[PROMPTS[1]].read()
    monkeypatch.setattr(opened.model, "pretransform", None)  # nothing can be encoded any more
    monkeypatch.setattr(opened.model.conditioner.conditioners["prompt"], "model", None)
    assert torch.equal(latents_of(opened, Excerpt(clip), tmp_path).read().mean, first.mean)
    assert torch.equal(opened.text_embeddings(PROMPTS, tmp_path / "again")[PROMPTS[1]].read().tokens, words.tokens)


def test_latents_of_an_earlier_release_are_made_anew(
    opened: BaseModel, clip: DatasetRow, known: Configuration, tmp_path: Path
) -> None:
    """Release 0.1 let what the model's rate cannot hold come back as other tones."""
    parameters = {"sample_rate_hz": 16000, "window_samples": known.window_samples, "start_s": 0.5, "length_s": 1.0}
    tools = {"autoencoder": opened.autoencoder_digest}
    action = Action("latents", [clip.audio.sha256], parameters, version="1", tools=tools)
    data = save({name: torch.tensor(value) for name, value in STORED.items()})
    opened.store.actions.run(action, ArtifactRef, lambda: opened.store.blobs.put_bytes("latents", data, "safetensors"))
    latents = latents_of(opened, Excerpt(clip, 0.5, 1.0), tmp_path).read()
    assert latents.mean.shape == (known.latent_channels, known.window_latents)


def test_an_earlier_release_can_read_what_is_stored_now(
    opened: BaseModel, clip: DatasetRow, known: Configuration, tmp_path: Path
) -> None:
    """It wants the mask of the clip's own latents, True before the padding."""
    latents_of(opened, Excerpt(clip), tmp_path).read()
    [key] = opened.store.objects.keys("latents/")
    stored = load(opened.store.objects.get(key, 1 << 20) or b"")
    assert set(stored) == set(STORED)
    held = -(-round(SECONDS[0] * known.sample_rate_hz) // known.downsampling_ratio)
    assert stored["sounding"].tolist() == [True] * held + [False] * (known.window_latents - held)


def test_an_excerpt_has_its_own_length(opened: BaseModel, clip: DatasetRow, tmp_path: Path) -> None:
    latents = latents_of(opened, Excerpt(clip, 0.5, 1.0), tmp_path)
    assert latents.seconds_total == pytest.approx(1.0, abs=1e-6)


def test_what_is_longer_than_the_window_is_cut_and_keeps_its_length(opened: BaseModel, known: Configuration) -> None:
    samples = torch.randn(2, known.window_samples + 16000)
    latents = encoder_of(opened).encode(samples)
    assert torch.equal(latents.mean, encoder_of(opened).encode(samples[:, : known.window_samples]).mean)
    assert latents.seconds_total == pytest.approx(known.window_s + 1)


def test_mean_and_deviation_are_the_librarys_posterior(opened: BaseModel, known: Configuration) -> None:
    samples = torch.randn(2, known.window_samples)
    latents = encoder_of(opened).encode(samples)
    draws = torch.stack([opened.model.pretransform.encode(samples[None])[0] for _ in range(60)])
    error = (draws.mean(0) - latents.mean).abs() / latents.deviation
    assert float(error.max()) < 6 / 60**0.5
    assert torch.allclose(draws.std(0), latents.deviation, rtol=0.6)


def test_cached_prompts_are_what_the_text_encoder_says(opened: BaseModel, tmp_path: Path) -> None:
    conditioner = opened.model.conditioner.conditioners["prompt"]
    opened.cache_prompts(opened.text_embeddings(PROMPTS, tmp_path))
    cached = opened.model.conditioner.conditioners["prompt"]
    assert isinstance(cached, CachedPrompts)
    tokens, mask = cached(PROMPTS[:2], "cpu")
    wanted, wanted_mask = conditioner(PROMPTS[:2], "cpu")
    assert torch.equal(mask, wanted_mask)
    assert torch.allclose(tokens, wanted.float(), atol=2e-3)


def test_the_prompts_of_a_clip_are_an_action_of_their_digests_and_the_text_encoders(
    opened: BaseModel, tmp_path: Path
) -> None:
    words = opened.text_embeddings(PROMPTS[:2], tmp_path)[PROMPTS[0]].read()
    inputs = [hashlib.sha256(prompt.encode()).hexdigest() for prompt in PROMPTS[:2]]
    tools = {"text_encoder": opened.text_encoder_digest}
    parameters = {"max_tokens": opened.configuration.text.max_tokens}
    action = Action("text-states", inputs, parameters, version="2", tools=tools)
    assert opened.store.actions.record(action, ArtifactRef)
    assert 0 < len(words.mask) < opened.configuration.text.max_tokens  # padding is not kept


@pytest.mark.parametrize("name", ["../weights", "x" * 101])
def test_a_text_encoder_with_a_bad_file_name_is_refused(
    store: Store, base: ModelVersion, tmp_path: Path, name: str
) -> None:
    bad = dataclasses.replace(base, text_encoder=((name, base.text_encoder[0][1]),))
    with pytest.raises(FailedPrecondition) as refused:
        BaseModel.open(store, bad, "cpu", tmp_path / "bad")
    assert refused.value.reason == "TEXT_ENCODER_UNUSABLE"


@pytest.mark.parametrize(
    ("file", "reason"), [("checkpoint", "CHECKPOINT_CORRUPT"), ("configuration", "CONFIGURATION_INVALID")]
)
def test_a_version_whose_stored_files_are_not_what_they_should_be_is_data_loss(
    store: Store, base: ModelVersion, tmp_path: Path, file: str, reason: str
) -> None:
    changes: dict[str, Any] = {file: store.blobs.put_bytes(f"{file}s", b"not it", "bin")}
    bad = dataclasses.replace(base, **changes)
    with pytest.raises(DataLoss) as refused:
        BaseModel.open(store, bad, "cpu", tmp_path / "bad")
    assert refused.value.reason == reason


def test_a_mono_clip_is_on_both_channels(known: Configuration, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mono.flac", tone(0.1, 440)[:, 0], 44100)
    left, right = audio.read(tmp_path / "mono.flac", known)
    assert torch.equal(left, right)
    assert float(left.std()) > 0.1


def test_a_streamed_clip_is_the_clip_it_would_have_been(known: Configuration, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.flac", tone(1.5, 440), 44100)
    whole = audio.read(tmp_path / "clip.flac", known)
    assert torch.equal(audio.read(streamed(tmp_path / "clip.flac"), known), whole)


@pytest.mark.parametrize(("hz", "at_least", "at_most"), [(1000, -0.02, 0.02), (8500, -200, -80), (23_000, -200, -80)])
def test_what_the_models_rate_cannot_hold_does_not_come_back(
    known: Configuration, tmp_path: Path, hz: float, at_least: float, at_most: float
) -> None:
    """16 kHz from 48."""
    time = torch.arange(96_000, dtype=torch.float64) / 48_000
    soundfile.write(tmp_path / "tone.flac", 0.5 * torch.sin(2 * torch.pi * hz * time).numpy(), 48_000)
    read = audio.read(tmp_path / "tone.flac", known)[0, 2000:-2000]
    assert at_least <= 20 * math.log10(float(read.std()) * 2**0.5 / 0.5 + 1e-12) <= at_most


@pytest.mark.parametrize("content", [b"", b"not audio"])
def test_what_is_no_audio_is_refused(known: Configuration, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.flac").write_bytes(content)
    with pytest.raises(InvalidRequest) as refused:
        audio.read(tmp_path / "clip.flac", known)
    assert refused.value.reason == "AUDIO_INVALID"


def test_a_clip_of_no_sound_is_refused(known: Configuration, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", tone(0.0, 440), 44100)
    with pytest.raises(InvalidRequest, match="no sound"):
        audio.read(tmp_path / "clip.wav", known)

"""What `ClipEncoder` leaves out and computes in spans gives the latents of the library's own modules."""

import copy
from typing import Any

import pytest
import torch
from stable_audio_tools.models.blocks import SnakeBeta
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier_model.configuration import Configuration, check, packaged
from luthier_model.network import random_model
from luthier_training import clip_encoder
from luthier_training.base_model import posterior_of
from luthier_training.clip_encoder import ClipEncoder

WINDOW = 48
"""Latents: several times the reach of every encoder here."""
ENCODERS: dict[str, dict[str, Any]] = {
    "tiny": {"channels": 2},
    "Stable Audio Open, narrow": {"channels": 2, "c_mults": [1, 2, 4, 8, 16], "strides": [2, 4, 4, 8, 8]},
    "no snake": {"channels": 2, "use_snake": False},
    "odd strides": {"channels": 2, "c_mults": [1, 2, 3], "strides": [3, 5, 8]},
}


def made(**changes: Any) -> tuple[ConditionedDiffusionModelWrapper, Configuration]:
    """A model with such an encoder, its activations random too, and its configuration."""
    document = copy.deepcopy(dict(packaged("tiny").document))
    autoencoder = document["model"]["pretransform"]["config"]
    for side in ("encoder", "decoder"):
        autoencoder[side]["config"].update(changes)
    ratio = 1
    for stride in autoencoder["encoder"]["config"]["strides"]:
        ratio *= stride
    autoencoder["downsampling_ratio"], document["sample_size"] = ratio, WINDOW * ratio
    known = check(document)
    model = random_model(known, seed=7).requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for module in model.pretransform.modules():
        if isinstance(module, SnakeBeta):
            for parameter in (module.alpha, module.beta):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return model, known


def the_librarys(
    model: ConditionedDiffusionModelWrapper, known: Configuration, samples: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of a clip in silence up to the window, each (latent channels, window latents)."""
    window = torch.zeros(1, 2, known.window_samples)
    window[0, :, : samples.shape[1]] = samples
    mean, deviation = posterior_of(model.pretransform.model, window)
    return mean[0] / model.pretransform.scale, deviation[0] / model.pretransform.scale


def noise(samples: int) -> torch.Tensor:
    """(2, samples) at the level of music."""
    return torch.randn((2, samples), generator=torch.Generator().manual_seed(samples)) / 5


@pytest.mark.parametrize("changes", ENCODERS.values(), ids=ENCODERS.keys())
@pytest.mark.parametrize("held", [0, 1e-4, 0.1, 0.5, 0.77, 0.99, 1])
def test_latents_are_the_librarys(changes: dict[str, Any], held: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, known = made(**changes)
    monkeypatch.setitem(clip_encoder.SPAN_VALUES, "cpu", 1 << 12)  # many spans
    samples = noise(round(held * known.window_samples))
    encoder = ClipEncoder(model, known, "cpu")
    assert encoder.layers
    found = encoder.encode(samples)
    mean, deviation = the_librarys(model, known, samples)
    torch.testing.assert_close(found.mean, mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.deviation, deviation, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", ENCODERS.values(), ids=ENCODERS.keys())
def test_the_reach_is_that_of_the_encoder(changes: dict[str, Any]) -> None:
    """The gradient of a latent in the library's own encoder is zero beyond it, and not before half of it."""
    model, known = made(**changes)
    encoder = ClipEncoder(model, known, "cpu")
    audio = noise(known.window_samples)[None].requires_grad_()
    place = WINDOW // 2
    model.pretransform.model.encode(audio, skip_bottleneck=True)[0, :, place].sum().backward()
    assert audio.grad is not None
    heard = audio.grad[0].any(0).nonzero()[:, 0]
    before = place * known.downsampling_ratio - int(heard[0])
    behind = int(heard[-1]) + 1 - (place + 1) * known.downsampling_ratio
    reach = encoder.reach * known.downsampling_ratio
    assert reach / 2 < max(before, behind) <= reach


def test_silence_behind_a_clip_is_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, known = made(**ENCODERS["tiny"])
    encoder, lengths = ClipEncoder(model, known, "cpu"), []
    in_spans = clip_encoder.in_spans

    def noting(layer: clip_encoder.Layer, audio: torch.Tensor) -> torch.Tensor:
        lengths.append(audio.shape[-1])
        return in_spans(layer, audio)

    monkeypatch.setattr(clip_encoder, "in_spans", noting)
    clip = noise(known.window_samples // 4)
    padded = torch.nn.functional.pad(clip, (0, known.window_samples // 2))  # silence that is the clip's own, too
    for samples in (clip, padded):
        lengths.clear()
        encoder.encode(samples)
        assert max(lengths) < 0.7 * known.window_samples


def test_an_encoder_with_attention_runs_as_it_is() -> None:
    model, known = made(**ENCODERS["tiny"])
    model.pretransform.model.encoder.layers.append(torch.nn.MultiheadAttention(4, 1))
    encoder = ClipEncoder(model, known, "cpu")
    assert not encoder.layers
    model.pretransform.model.encoder.layers = model.pretransform.model.encoder.layers[:-1]
    samples = noise(5000)
    assert torch.equal(encoder.encode(samples).mean, the_librarys(model, known, samples)[0])


def test_a_clip_longer_than_the_window_is_cut() -> None:
    model, known = made(**ENCODERS["tiny"])
    samples = noise(known.window_samples + 16000)
    found = ClipEncoder(model, known, "cpu").encode(samples)
    mean, _ = the_librarys(model, known, samples[:, : known.window_samples])
    torch.testing.assert_close(found.mean, mean, rtol=1e-5, atol=1e-5)
    assert found.seconds_total == pytest.approx(known.window_s + 1)

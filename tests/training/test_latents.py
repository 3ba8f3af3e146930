"""A clip is padded before it is encoded, and encoded once."""

import torch

from luthier_model.loading import load
from luthier_training import audio
from luthier_training.dataset import parse
from luthier_training.latents import Encoder, Stretch
from luthier_training.text_states import KnownPrompts, TextStates

from .conftest import PROMPTS, SECONDS, manifest


def encoder(store, known, files, folder):
    return Encoder(store, load(known, *files), known, "d" * 64, "cpu", folder)


def test_silence_fills_the_window_and_the_mask_tells_it(store, known, base_files, tmp_path):
    clip = parse(manifest(store, tmp_path)).clips[0]
    latents, _ = encoder(store, known, base_files, tmp_path)(Stretch(clip))
    assert latents.mean.shape == latents.deviation.shape == (known.latent_channels, known.window_latents)
    assert abs(latents.seconds_total - SECONDS[0]) < 1e-3
    assert int(latents.sounding.sum()) == -(-round(SECONDS[0] * known.sample_rate_hz) // known.downsampling_ratio)


def test_the_second_time_is_found(store, known, base_files, tmp_path):
    clip = parse(manifest(store, tmp_path)).clips[0]
    encode = encoder(store, known, base_files, tmp_path)
    first, found_first = encode(Stretch(clip))
    second, found_second = encode(Stretch(clip))
    assert (found_first, found_second) == (False, True)
    assert torch.equal(first.mean, second.mean)


def test_an_excerpt_has_its_own_length(store, known, base_files, tmp_path):
    clip = parse(manifest(store, tmp_path)).clips[0]
    latents, _ = encoder(store, known, base_files, tmp_path)(Stretch(clip, 0.5, 1.0))
    assert abs(latents.seconds_total - 1.0) < 1e-6


def test_mean_and_deviation_are_the_librarys_posterior(store, known, base_files, tmp_path):
    encode = encoder(store, known, base_files, tmp_path)
    samples = torch.randn(2, known.window_samples)
    latents = encode.encode(samples)
    draws = torch.stack([encode.model.pretransform.encode(samples[None])[0] for _ in range(60)])
    error = (draws.mean(0) - latents.mean).abs() / latents.deviation
    assert float(error.max()) < 6 / 60**0.5
    assert torch.allclose(draws.std(0), latents.deviation, rtol=0.6)


def test_cached_text_states_are_those_of_the_conditioner(store, known, base_files, tmp_path):
    conditioner = load(known, *base_files).conditioner.conditioners["prompt"]
    stand_in = KnownPrompts(conditioner, PROMPTS, TextStates(store, conditioner, "e" * 64, "cpu", tmp_path))
    states, mask = stand_in(PROMPTS[:2], "cpu")
    wanted, wanted_mask = conditioner(PROMPTS[:2], "cpu")
    assert torch.equal(mask, wanted_mask)
    assert torch.allclose(states, wanted.float(), atol=2e-3)


def test_a_mono_clip_is_heard_on_both_channels(known):
    assert audio._channels(torch.ones(1, 5), 2).shape == (2, 5)

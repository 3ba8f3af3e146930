"""A loaded model is stable-audio-tools' own, holds the file's weights and reads text from a local folder."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from luthier_model import text_encoder, tiny
from luthier_model.errors import CheckpointMismatch, TextEncoderError
from luthier_model.loading import load

from .conftest import PROMPTS


def test_loaded_weights_are_the_files(known, files):
    model = load(known, *files)
    state = load_file(files[0])
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not model.training


def test_it_denoises_and_decodes(known, files):
    model = load(known.document, *files)
    condition = model.conditioner([{"prompt": PROMPTS[0], "seconds_start": 0, "seconds_total": 1.5}], "cpu")
    noise = torch.randn(1, known.latent_channels, known.window_latents)
    with torch.no_grad():
        audio = model.pretransform.decode(model(noise, torch.ones(1), cond=condition))
    assert audio.shape == (1, known.channels, known.window_samples)


def test_prompts_have_different_states(known, files):
    model = load(known, *files)
    states, _ = model.conditioner.conditioners["prompt"](PROMPTS, "cpu")
    assert (states[0] - states[1]).abs().max() > 0.1


def test_the_same_prompts_make_the_same_encoder(known, files, tmp_path):
    tiny.write_random(known, PROMPTS, tmp_path, seed=3)
    assert text_encoder.digest(tmp_path / "text_encoder") == text_encoder.digest(files[1])


def test_weights_of_another_shape_are_refused(files):
    with pytest.raises(CheckpointMismatch):
        load(tiny.configuration(), *files)


def test_absent_text_encoder_is_named(known, files):
    with pytest.raises(TextEncoderError, match="needs the text encoder"):
        load(known, files[0], None)


def test_pickled_text_encoder_is_not_accepted(known, files, tmp_path):
    folder = tmp_path / "t5"
    shutil.copytree(files[1], folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(TextEncoderError, match=r"lacks model\.safetensors"):
        load(known, files[0], folder)


def test_text_encoder_of_another_width_is_refused(known, files, tmp_path):
    from luthier_model.tiny_text import make_text_encoder

    make_text_encoder(PROMPTS, 32, tmp_path, 0)
    with pytest.raises(TextEncoderError, match="32 wide"):
        load(known, files[0], tmp_path)

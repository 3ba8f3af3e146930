"""A loaded model is stable-audio-tools' own, holds the file's weights and reads text from a local folder."""

import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file

from luthier_model import text_encoder, tiny
from luthier_model.configuration import Configuration
from luthier_model.errors import CheckpointMismatch, TextEncoderError, TextEncoderMismatch
from luthier_model.loading import load

from .conftest import PROMPTS


def test_loaded_weights_are_the_files(known: Configuration, files: tuple[Path, Path]) -> None:
    model = load(known, *files)
    state = load_file(files[0])

    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not model.training


def test_it_denoises_and_decodes(known: Configuration, files: tuple[Path, Path]) -> None:
    model = load(known, *files)
    condition = model.conditioner([{"prompt": PROMPTS[0], "seconds_start": 0, "seconds_total": 1.5}], "cpu")
    noise = torch.randn(1, known.latent_channels, known.window_latents)

    with torch.no_grad():
        audio = model.pretransform.decode(model(noise, torch.ones(1), cond=condition))

    assert audio.shape == (1, known.channels, known.window_samples)


def test_prompts_have_different_embeddings(known: Configuration, files: tuple[Path, Path]) -> None:
    model = load(known, *files)
    embeddings, _ = model.conditioner.conditioners["prompt"](PROMPTS, "cpu")

    assert (embeddings[0] - embeddings[1]).abs().max() > 0.1


def test_the_same_prompts_make_the_same_encoder(known: Configuration, files: tuple[Path, Path], tmp_path: Path) -> None:
    tiny.write_random(known, PROMPTS, tmp_path, seed=3)

    assert text_encoder.digest(tmp_path / "text_encoder") == text_encoder.digest(files[1])


def test_weights_of_another_shape_are_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(CheckpointMismatch):
        load(tiny.configuration(), *files)


def test_absent_text_encoder_is_named(known: Configuration, files: tuple[Path, Path]) -> None:
    with pytest.raises(TextEncoderMismatch, match="needs the text encoder"):
        load(known, files[0], None)


@pytest.fixture
def encoder(files: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the text encoder's folder, to be changed."""
    return shutil.copytree(files[1], tmp_path / "t5")


def test_pickled_text_encoder_is_not_accepted(known: Configuration, files: tuple[Path, Path], encoder: Path) -> None:
    (encoder / "model.safetensors").rename(encoder / "pytorch_model.bin")

    with pytest.raises(TextEncoderMismatch, match=r"lacks model\.safetensors"):
        load(known, files[0], encoder)


def test_text_encoder_of_another_width_is_refused(
    known: Configuration, files: tuple[Path, Path], tmp_path: Path
) -> None:
    tiny.write_text_encoder(PROMPTS, 32, tmp_path, 0)

    with pytest.raises(TextEncoderMismatch, match="32 wide"):
        load(known, files[0], tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_text_encoder_whose_files_are_broken_is_unreadable(
    known: Configuration, files: tuple[Path, Path], encoder: Path, name: str
) -> None:
    (encoder / name).write_bytes((encoder / name).read_bytes()[:-9])

    with pytest.raises(TextEncoderError, match="text encoder"):
        load(known, files[0], encoder)


def test_a_sentencepiece_tokenizer_alone_is_read(known: Configuration, files: tuple[Path, Path], encoder: Path) -> None:
    """As the published T5 folders have it beside tokenizer.json."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(PROMPTS * 50), model_prefix=str(encoder / "spiece"), minloglevel=2,
        vocab_size=60, hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    (encoder / "tokenizer.json").unlink()
    (encoder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))

    tokenizer = load(known, files[0], encoder).conditioner.conditioners["prompt"].tokenizer

    assert tokenizer(PROMPTS[0])["input_ids"] != tokenizer(PROMPTS[1])["input_ids"]

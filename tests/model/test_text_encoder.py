"""A text encoder's folder: files that are not what their names say are refused, each by name."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier_model import text_encoder
from luthier_model.configuration import Configuration
from luthier_model.errors import TextEncoderError

WEIGHTS, CONFIG, TOKENIZER = text_encoder.WEIGHTS, text_encoder.CONFIG, "tokenizer.json"


@pytest.fixture
def folder(files: tuple[Path, Path], tmp_path: Path) -> Path:
    """A text encoder of its own, to be spoiled."""
    return Path(shutil.copytree(files[1], tmp_path / "text_encoder"))


def test_a_whole_encoder_passes(folder: Path, known: Configuration) -> None:
    assert text_encoder.check(folder, known) == folder
    text_encoder.check_weights(folder)


@pytest.mark.parametrize("name", [CONFIG, TOKENIZER, "tokenizer_config.json"])
@pytest.mark.parametrize("data", [b"[" * 200_000, b" " * (33 << 20)], ids=["deep", "long"])
def test_json_beyond_its_bounds_is_refused(folder: Path, known: Configuration, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    with pytest.raises(TextEncoderError, match=name):
        text_encoder.check(folder, known)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"7", b"\xff", b"{"])
def test_what_is_no_t5_configuration_is_refused(folder: Path, known: Configuration, data: bytes) -> None:
    (folder / CONFIG).write_bytes(data)
    with pytest.raises(TextEncoderError, match=CONFIG):
        text_encoder.check(folder, known)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("d_model", 1 << 40), ("num_layers", 1_000_000), ("vocab_size", -1), ("d_ff", "64"), ("num_heads", True),
        ("d_kv", 1e9), ("feed_forward_proj", "nothing"), ("feed_forward_proj", 7),
    ],
)  # fmt: skip
def test_a_configuration_of_absurd_sizes_is_refused(
    folder: Path, known: Configuration, field: str, value: object
) -> None:
    document = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**document, field: value}))
    with pytest.raises(TextEncoderError, match=CONFIG):
        text_encoder.check(folder, known)


def test_weights_of_something_else_are_refused(folder: Path, known: Configuration) -> None:
    save_file({"noise": torch.randn(64)}, folder / WEIGHTS)
    with pytest.raises(TextEncoderError, match="lacks "):
        text_encoder.check(folder, known)


def test_weights_of_another_shape_are_refused(folder: Path, known: Configuration) -> None:
    state = load_file(folder / WEIGHTS)
    state["shared.weight"] = torch.zeros(3, 3)
    save_file(state, folder / WEIGHTS)
    with pytest.raises(TextEncoderError, match=r"shared.weight is \[3, 3\]"):
        text_encoder.check(folder, known)


@pytest.mark.parametrize("spoiled", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(folder: Path, spoiled: float) -> None:
    state = load_file(folder / WEIGHTS)
    state["shared.weight"][0, 0] = spoiled
    save_file(state, folder / WEIGHTS)
    with pytest.raises(TextEncoderError, match=r"shared\.weight holds NaN or infinity"):
        text_encoder.check_weights(folder)

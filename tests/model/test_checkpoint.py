"""A checkpoint is compared with its configuration by name and shape, from its header alone."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier_model import checkpoint
from luthier_model.configuration import Configuration, packaged
from luthier_model.errors import CheckpointError, CheckpointMismatch
from luthier_model.network import shapes


def test_full_size_has_the_published_number_of_parameters() -> None:
    total = sum(torch.Size(shape).numel() for shape in shapes(packaged()).values())
    assert total == pytest.approx(1057e6 + 156e6, rel=0.001)


def test_unwrapped_tensors_keep_their_names(known: Configuration, files: tuple[Path, Path]) -> None:
    assert all(name == stored for name, stored in checkpoint.verify(files[0], known).items())


def test_wrapped_is_read_and_the_moving_average_preferred(
    known: Configuration, files: tuple[Path, Path], tmp_path: Path
) -> None:
    state = load_file(files[0])
    wrapped = {f"diffusion.{name}": tensor for name, tensor in state.items()}
    averaged = {f"diffusion_ema.ema_model.{n[6:]}": t + 1 for n, t in state.items() if n.startswith("model.")}
    save_file({**wrapped, **averaged, "diffusion_ema.step": torch.zeros(1)}, tmp_path / "wrapped.safetensors")

    layout = checkpoint.verify(tmp_path / "wrapped.safetensors", known)
    plain = checkpoint.read(tmp_path / "wrapped.safetensors", layout)

    assert set(plain) == set(state)
    assert all(torch.equal(plain[n], t + 1 if n.startswith("model.") else t) for n, t in state.items())


def test_mismatch_names_missing_unexpected_and_wrong_shape(
    known: Configuration, files: tuple[Path, Path], tmp_path: Path
) -> None:
    state = load_file(files[0])
    names = sorted(state)
    state["extra.weight"] = torch.zeros(1)
    del state[names[0]]
    state[names[1]] = torch.zeros(7, 7)
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointMismatch) as refused:
        checkpoint.verify(tmp_path / "bad.safetensors", known)
    wrong = refused.value
    assert (wrong.missing, wrong.unexpected, wrong.wrong_shape[0][0]) == (
        [names[0]],
        ["extra.weight"],
        names[1],
    )
    assert names[1] in str(wrong)


def hostile_header() -> bytes:
    text = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04K\x01.",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        hostile_header(),
    ],
)
def test_what_is_no_safetensors_is_refused(known: Configuration, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        checkpoint.verify(path, known)

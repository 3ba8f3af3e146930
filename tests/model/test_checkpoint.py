"""A checkpoint is compared with its configuration by name and shape, from its header alone."""

import json
import math
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier_model import checkpoint
from luthier_model.configuration import Configuration, packaged
from luthier_model.errors import CheckpointError, CheckpointMismatch, WeightsError
from luthier_model.network import shapes
from tests.support.measure import cost_of


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


def test_a_header_of_forty_megabytes_is_refused_unread(known: Configuration, tmp_path: Path) -> None:
    entry = b'"t%07d":{"dtype":"F32","shape":[],"data_offsets":[0,0]},'
    text = b"{" + b"".join(entry % number for number in range(700_000)) + b'"z":{}}'
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    assert len(text) > 38_000_000
    del text

    def refused() -> None:
        with pytest.raises(CheckpointError):
            checkpoint.verify(path, known)

    cost = cost_of(refused)
    assert cost.seconds < 0.5
    assert cost.peak_bytes < 100 << 20


@pytest.mark.parametrize("nested", [b"[" * 500_000, b'{"a":' * 100_000], ids=["arrays", "objects"])
def test_a_deep_header_is_refused(known: Configuration, tmp_path: Path, nested: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(nested)) + nested)
    with pytest.raises(CheckpointError, match="at most 4 deep"):
        checkpoint.verify(path, known)


def test_another_decoder_leaves_the_encoders_digest(
    known: Configuration, files: tuple[Path, Path], tmp_path: Path
) -> None:
    def digests(part: str) -> tuple[str, str]:
        """Of the autoencoder and of its encoder, after a tensor of this part has changed."""
        state, path = load_file(files[0]), tmp_path / "changed.safetensors"
        name = next((name for name in state if part and name.startswith(f"pretransform.model.{part}.")), "")
        if name:
            state[name] = state[name] + 1
        save_file(state, path)
        layout = checkpoint.verify(path, known)
        return checkpoint.autoencoder_digest(path, layout, known), checkpoint.encoder_digest(path, layout, known)

    whole, encoder = digests("")
    assert digests("decoder")[0] != whole
    assert digests("decoder")[1] == encoder
    assert digests("encoder")[0] != whole
    assert digests("encoder")[1] != encoder


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_named(files: tuple[Path, Path], tmp_path: Path, value: float) -> None:
    state = load_file(files[0])
    name = max(state, key=lambda each: state[each].numel())
    state[name].view(-1)[-1] = value
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError, match=f"{name} holds NaN or infinity"):
        checkpoint.check_weights(tmp_path / "bad.safetensors", state)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8, torch.bool])
def test_weights_that_are_not_floating_point_are_named(
    files: tuple[Path, Path], tmp_path: Path, dtype: torch.dtype
) -> None:
    state = load_file(files[0])
    name = sorted(state)[0]
    state[name] = torch.ones(state[name].shape, dtype=dtype)
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError, match=f"{name} is .* must be one of F64, F32, F16, BF16"):
        checkpoint.check_weights(tmp_path / "bad.safetensors", state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_finite_floating_point_weights_pass(files: tuple[Path, Path], tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in load_file(files[0]).items()}
    save_file({**state, "step": torch.ones(1, dtype=torch.int64)}, tmp_path / "good.safetensors")
    checkpoint.check_weights(tmp_path / "good.safetensors", state)


def test_weights_are_checked_in_bounded_memory(tmp_path: Path) -> None:
    save_file({"w": torch.ones(64 << 20)}, tmp_path / "large.safetensors")  # 256 MB
    cost = cost_of(lambda: checkpoint.check_weights(tmp_path / "large.safetensors", ["w"]))
    assert cost.peak_bytes < 128 << 20  # half of the file

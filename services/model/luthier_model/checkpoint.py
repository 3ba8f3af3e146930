"""Checkpoints: safetensors files, compared with their configuration before a tensor is allocated.

*Unwrapped* is a model's own state (`model.`, `conditioner.`, `pretransform.`): what is published and served. *Wrapped*
is what a training wrapper saves: the same below `diffusion.`, perhaps with a moving average of the transformer below
`diffusion_ema.ema_model.`, optimizer state and losses. Both are read; only the unwrapped is written.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from luthier_kit.bounded_json import read_json
from luthier_model.configuration import Configuration
from luthier_model.errors import CheckpointError, CheckpointMismatch, WeightsError
from luthier_model.network import shapes

WRAPPER: Final = "diffusion."
MOVING_AVERAGE: Final = "diffusion_ema.ema_model."
TRANSFORMER: Final = "model."
AUTOENCODER: Final = "pretransform."
DECODER: Final = "pretransform.model.decoder."
MAX_HEADER_BYTES: Final = 16 << 20  # of 100,000 tensors; the full-size model's has 0.2 MB, the format allows 100
MAX_TENSORS: Final = 100_000
MAX_HEADER_DEPTH: Final = 4
FLOATING: Final = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of weights, by their names in safetensors."""
_READ_BYTES: Final = 16 << 20  # of weights at a time


Layout = dict[str, str]
"""Which tensors of a file make the model: the model's own name of each to the file's."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a file holds a tensor: its type by safetensors' name, its bytes from `begin` to `end` of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name; CheckpointError when it is something else.

    The header is bounded before it is decoded.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0] if size >= 8 else 0
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise CheckpointError("the weights are not a safetensors file (other formats are never opened)")
            entries = read_json(file.read(length), max_bytes=MAX_HEADER_BYTES, max_depth=MAX_HEADER_DEPTH)
        found = {
            name: StoredTensor(
                entry["dtype"], tuple(entry["shape"]), *(8 + length + offset for offset in entry["data_offsets"])
            )
            for name, entry in entries.items()
            if name != "__metadata__"
        }
        with safe_open(path, "pt"):  # the library's own check: offsets, sizes, dtypes
            pass
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"the weights are not a readable safetensors file: {error}"[:300]) from None
    if len(found) > MAX_TENSORS:
        raise CheckpointError(f"the weights hold {len(found)} tensors, at most {MAX_TENSORS} are read")
    return found


def verify(path: Path, configuration: Configuration) -> Layout:
    """The file's layout when its tensors are exactly the configuration's (`layout_of`)."""
    return layout_of(path, shapes(configuration))


def layout_of(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> Layout:
    """The file's layout when its tensors are exactly those that are wanted, by name and shape; else CheckpointMismatch.

    Reads the header only. Of a wrapped checkpoint the moving average is preferred where there is one.
    """
    found = header(path)
    names = {name.removeprefix(WRAPPER): name for name in found if name.startswith(WRAPPER)}
    averaged = {TRANSFORMER + n.removeprefix(MOVING_AVERAGE): n for n in found if n.startswith(MOVING_AVERAGE)}
    layout = {**names, **averaged} if names else {name: name for name in found}
    missing = sorted(set(wanted) - set(layout))
    unexpected = sorted(set(layout) - set(wanted))
    wrong = [
        (name, found[layout[name]].shape, shape)
        for name, shape in sorted(wanted.items())
        if name in layout and found[layout[name]].shape != shape
    ]
    if missing or unexpected or wrong:
        raise CheckpointMismatch(missing, unexpected, wrong)
    return layout


def check_weights(path: Path, names: Iterable[str]) -> None:
    """WeightsError when one of these tensors of a file is not floating-point or holds NaN or infinity.

    Reads the file once, 16 MiB at a time.
    """
    found = header(path)
    with path.open("rb") as file:
        for name, tensor in sorted(((name, found[name]) for name in names), key=lambda item: item[1].begin):
            dtype = FLOATING.get(tensor.dtype)
            if dtype is None:
                raise WeightsError(f"tensor {name[:120]} is {tensor.dtype}, must be one of {', '.join(FLOATING)}")
            file.seek(tensor.begin)
            for left in range(tensor.end - tensor.begin, 0, -_READ_BYTES):
                piece = bytearray(file.read(min(left, _READ_BYTES)))
                if not torch.isfinite(torch.frombuffer(piece, dtype=dtype)).all():
                    raise WeightsError(f"tensor {name[:120]} holds NaN or infinity")


def read(path: Path, layout: Layout, device: str = "cpu") -> dict[str, torch.Tensor]:
    """The model's own tensors in float32, mapped from the file where it has them so."""
    with safe_open(path, "pt", device=device) as file:
        return {name: file.get_tensor(stored).to(torch.float32) for name, stored in layout.items()}


def write(path: Path, state: dict[str, torch.Tensor], note: dict[str, str] | None = None) -> None:
    """Writes tensors as safetensors, `note` in its metadata."""
    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in state.items()}, path, metadata=note)


def autoencoder_digest(path: Path, layout: Layout, configuration: Configuration) -> str:
    """sha256 over the autoencoder's tensors and its part of the configuration."""
    return _digest(path, configuration, {name: at for name, at in layout.items() if name.startswith(AUTOENCODER)})


def encoder_digest(path: Path, layout: Layout, configuration: Configuration) -> str:
    """The same without the decoder's tensors: names what is encoded, which another decoder leaves as it is."""
    names = (name for name in layout if name.startswith(AUTOENCODER) and not name.startswith(DECODER))
    return _digest(path, configuration, {name: layout[name] for name in names})


def _digest(path: Path, configuration: Configuration, layout: Layout) -> str:
    whole = hashlib.sha256(json.dumps(configuration.document["model"]["pretransform"], sort_keys=True).encode())
    with safe_open(path, "pt") as file:
        for name in sorted(layout):
            tensor = file.get_tensor(layout[name]).contiguous()
            whole.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            whole.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()

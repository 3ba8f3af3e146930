"""musicnn's two taggers, from the checkpoints that its package on PyPI ships (musicnn 0.1.0, ISC licence).

Each is a TensorFlow 1 checkpoint of 150 tensors: 64 of the network, and what the optimizer kept beside them. The code
of the package is not imported: it asks for TensorFlow and for a NumPy that runs on no Python of today.
"""

import base64
import hashlib
import zipfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from luthier_evaluation.conversion.base import ConversionError, Converter, Published
from luthier_evaluation.conversion.tensor_bundle import MAX_DATA_BYTES, MAX_INDEX_BYTES, BundleError, TensorBundle
from luthier_evaluation.embedders.musicnn import LAYERS, MSD_CLASSES, MTT_CLASSES, weight_shapes

PACKAGE: Final = "musicnn"
INDEX: Final = ".index"
DATA: Final = ".data-00000-of-00001"
_OF_THE_OPTIMIZER: Final = ("/Adam", "/Adam_1", "beta1_power", "beta2_power")

ReadFile = Callable[[str, int], bytes]
"""Gives a file of a checkpoint by its name, refusing more than so many bytes."""


def read(folder: str, classes: tuple[str, ...], source: Path | None) -> Published:
    """The tagger of the package's folder `MSD_musicnn` or `MTT_musicnn`. `source`: the installed package where None,
    else a wheel of it, or a folder with the checkpoint's two files.
    """
    if source is None:
        read_file, name = _of_package(folder)
    elif source.is_dir():
        read_file, name = _of_folder(source), source.resolve().name
    elif source.is_file():
        read_file, name = _of_wheel(source, folder), source.name
    else:
        raise ConversionError("FILE_UNREADABLE", f"{source} is neither a folder nor a wheel")
    data = read_file(DATA, MAX_DATA_BYTES)
    try:
        bundle = TensorBundle(read_file(INDEX, MAX_INDEX_BYTES), data)
        tensors = {name: value for layer in LAYERS for name, value in _layer(bundle, layer.name, layer.published)}
    except BundleError as error:
        raise ConversionError("CHECKPOINT_UNREADABLE", str(error)) from None
    except KeyError as error:
        raise ConversionError("WEIGHTS_DO_NOT_FIT", f"the checkpoint has no tensor {error}") from None
    kept = [name for name in bundle.entries if name.endswith(_OF_THE_OPTIMIZER)]
    return Published(
        tensors=tensors,
        source=name,
        source_sha256=hashlib.sha256(data).hexdigest(),
        classes=classes,
        left_out={"of the optimizer": len(kept)},
    )


def _layer(bundle: TensorBundle, name: str, published: str) -> list[tuple[str, torch.Tensor]]:
    """The tensors of a layer: torch's names and order of dimensions for TensorFlow's."""
    if published.startswith("batch_normalization"):
        of = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        return [(f"{name}.{ours}", _torch(bundle.tensor(f"{published}/{theirs}"))) for ours, theirs in of.items()]
    kernel = bundle.tensor(f"{published}/kernel")
    if kernel.ndim == 2:
        weight = kernel.T  # (in, out) → (out, in)
    elif published in ("conv2d_5", "conv2d_6", "conv2d_7"):
        weight = kernel[:, :, 0].transpose(2, 1, 0)  # (time, in, 1, out) → (out, in, time): one convolution over time
    else:
        weight = kernel.transpose(3, 2, 0, 1)  # (time, mel, 1, out) → (out, 1, time, mel)
    return [(f"{name}.weight", _torch(weight)), (f"{name}.bias", _torch(bundle.tensor(f"{published}/bias")))]


def _torch(numbers: NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.float32).copy())


def _of_package(folder: str) -> tuple[ReadFile, str]:
    """Files of the installed package, each held against the digest that its wheel's list has."""
    try:
        found = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        text = f"the package {PACKAGE} is not installed; name a wheel of it, or the folder of its checkpoint"
        raise ConversionError("FILE_UNREADABLE", text) from None
    listed = {str(path): path for path in found.files or []}

    def read_file(name: str, most: int) -> bytes:
        path = listed.get(f"{PACKAGE}/{folder}/{name}")
        if path is None:
            raise ConversionError("FILE_UNREADABLE", f"{PACKAGE} {found.version} has no {folder}/{name}")
        content = _bounded(Path(str(path.locate())), most)
        if path.hash and path.hash.mode == "sha256":
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            if digest != path.hash.value:
                text = f"{folder}/{name} is not the file that {PACKAGE} {found.version} was installed with"
                raise ConversionError("CHECKPOINT_UNREADABLE", text)
        return content

    return read_file, f"{PACKAGE} {found.version}, {folder}"


def _of_folder(folder: Path) -> ReadFile:
    def read_file(name: str, most: int) -> bytes:
        found = sorted(path for path in folder.iterdir() if path.name.endswith(name) and path.is_file())
        if len(found) != 1:
            raise ConversionError("FILE_UNREADABLE", f"{folder} must hold one file *{name}, and has {len(found)}")
        return _bounded(found[0], most)

    return read_file


def _of_wheel(wheel: Path, folder: str) -> ReadFile:
    def read_file(name: str, most: int) -> bytes:
        member = f"{PACKAGE}/{folder}/{name}"
        try:
            with zipfile.ZipFile(wheel) as archive:
                length = archive.getinfo(member).file_size
                if length > most:
                    raise ConversionError("FILE_TOO_LARGE", f"{member} has {length} bytes, at most {most} are read")
                with archive.open(member) as file:
                    return file.read(length)  # what its list says, however much its compressed bytes would give
        except KeyError:
            raise ConversionError("FILE_UNREADABLE", f"{wheel.name} holds no {member}") from None
        except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
            raise ConversionError("FILE_UNREADABLE", f"{wheel.name} is no wheel that can be read: {error}") from None

    return read_file


def _bounded(path: Path, most: int) -> bytes:
    try:
        length = path.stat().st_size
        if length > most:
            raise ConversionError("FILE_TOO_LARGE", f"{path.name} has {length} bytes, at most {most} are read")
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise ConversionError("FILE_UNREADABLE", f"{path}: {error.strerror}") from None


def _converter(folder: str, classes: tuple[str, ...]) -> Converter:
    def shapes() -> Mapping[str, tuple[int, ...]]:
        return weight_shapes(len(classes))

    return Converter(
        source=f"the installed package {PACKAGE} where none is named, a wheel of it, or the files of {folder}",
        read=lambda source: read(folder, classes, source),
        shapes=shapes,
    )


MSD: Final = _converter("MSD_musicnn", MSD_CLASSES)
MTT: Final = _converter("MTT_musicnn", MTT_CLASSES)

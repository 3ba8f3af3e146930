"""A folder of published weights, looked at before a library opens it: what kind it is, that nothing in it is unpickled,
and its digest."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from luthier_kit.bounded_json import read_json
from luthier_kit.rpc import InvalidRequest

MAX_CONFIG_BYTES: Final = 4 << 20
DIFFUSERS: Final = "model_index.json"
KINDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "musicgen": ("config.json", "model_type", "musicgen"),
    "encodec": ("config.json", "model_type", "encodec"),
    "dac": ("config.json", "model_type", "dac"),
    "audioldm2": (DIFFUSERS, "_class_name", "AudioLDM2Pipeline"),
}
"""By model: the file that says what a folder is, the name in it, and its value."""
WITH_WEIGHTS: Final = (
    "language_model", "projection_model", "text_encoder", "text_encoder_2", "unet", "vae", "vocoder",
)  # fmt: skip
"""Components of AudioLDM 2 that have weights, each in a folder of its own."""


def check_weights(kind: str, folder: Path) -> None:
    """Raises InvalidRequest WEIGHTS_INVALID unless `folder` has a model of this kind in safetensors."""
    name, field, wanted = KINDS[kind]
    path = folder / name
    if not path.is_file():
        raise _invalid(f"{folder} has no {name}: it is no {kind} in the layout of its library")
    try:
        found = read_json(path.read_bytes(), max_bytes=MAX_CONFIG_BYTES, max_values=100_000)
    except (OSError, ValueError) as error:
        raise _invalid(f"{path} cannot be read: {error}") from error
    value = found.get(field) if isinstance(found, dict) else None
    if value != wanted:
        raise _invalid(f"{path} says {field} {json.dumps(value)[:80]}, of a {kind} it is {wanted}")
    for part in [folder / part for part in WITH_WEIGHTS] if name == DIFFUSERS else [folder]:
        if not any(part.glob("*.safetensors")):
            others = ", ".join(sorted(one.name for one in part.glob("*.bin"))[:3])
            text = f"only safetensors are opened, there is {others}" if others else "no safetensors are there"
            raise _invalid(f"{part}: {text}")


def digest_of(folder: Path) -> str:
    """SHA-256 over names and contents of all JSON and safetensors files of the folder, in their names' order."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".model")):
        with path.open("rb") as file:
            whole.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def check_loaded(folder: Path, missing: Collection[str]) -> None:
    """Raises InvalidRequest WEIGHTS_INVALID where tensors were missing: the library fills them at random, and says so
    in its log alone."""
    if missing:
        raise _invalid(f"{folder} lacks {len(missing)} tensors, such as {min(missing)}")


def _invalid(bound: str) -> InvalidRequest:
    return InvalidRequest(reason="WEIGHTS_INVALID", violations=[("--weights", bound)])

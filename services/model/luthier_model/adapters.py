"""Low-rank adapters: small files that change the weights of the model they were trained on.

LoRA (Hu 2021) adds a product of two thin matrices to a weight, `W + alpha / rank * B A`. DoRA (Liu 2024) also gives
each row of the sum a length of its own, `m * V / |V|`. The file is safetensors in peft's layout, the tensors of a
layer being `base_model.model.<layer>.lora_A.weight`, `….lora_B.weight` and, of DoRA, `….lora_magnitude_vector`;
`<layer>` is its name in a checkpoint. The metadata say kind, rank, alpha, targets and the digest of the version that it
was trained on.

Here an adapter is merged: the model that is loaded has the changed weights and is as fast as its base. Only plain
linear layers of the transformer take one. A layer whose weight is made of others when it runs (weight norm) would
silently keep the base's weight, and is refused by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open

from luthier_model import checkpoint
from luthier_model.errors import AdapterError, AdapterMismatch, CheckpointError, WeightsError

LORA: Final = "lora"
DORA: Final = "dora"
KINDS: Final = (LORA, DORA)
MAX_RANK: Final = 256
MAX_ALPHA: Final = 4096.0
PREFIX: Final = "base_model.model."
"""Before the name of each layer, in peft's layout."""
A: Final = ".lora_A.weight"
B: Final = ".lora_B.weight"
MAGNITUDE: Final = ".lora_magnitude_vector"
DIGEST_CHARS: Final = 64


@dataclass(frozen=True)
class Adapter:
    """An adapter's file, its header read and checked. `layers` says of each layer whether it has a magnitude (DoRA)."""

    path: Path
    kind: str
    rank: int
    alpha: float
    targets: Sequence[str]
    base_digest: str
    layers: Mapping[str, bool]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


def write(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    *,
    kind: str,
    rank: int,
    alpha: float,
    targets: Sequence[str],
    base_digest: str,
) -> None:
    """Writes an adapter: `tensors` by layer and suffix, e.g. `model.model.….to_qkv.lora_A.weight`."""
    facts = {"kind": kind, "rank": str(rank), "alpha": repr(alpha), "targets": ",".join(targets), "base": base_digest}
    checkpoint.write(path, {PREFIX + name: tensor for name, tensor in tensors.items()}, {"format": "pt", **facts})


def read(path: Path) -> Adapter:
    """The adapter in a file, by its header alone. AdapterError names what is wrong with it."""
    try:
        header = checkpoint.header(path)
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
    except CheckpointError as error:
        raise AdapterError(f"adapter: {error}") from None
    kind, base_digest = facts.get("kind", ""), facts.get("base", "")
    if kind not in KINDS:
        raise AdapterError(f"adapter: kind must be one of {', '.join(KINDS)}, got {kind[:20]!r}")
    try:
        rank, alpha = int(facts.get("rank", "")), float(facts.get("alpha", ""))
    except ValueError:
        raise AdapterError("adapter: rank and alpha must be numbers") from None
    if not 1 <= rank <= MAX_RANK:
        raise AdapterError(f"adapter: rank must be between 1 and {MAX_RANK}, got {rank}")
    if not 0 < alpha <= MAX_ALPHA:  # NaN is not
        raise AdapterError(f"adapter: alpha must be above 0 and at most {MAX_ALPHA:.0f}, got {alpha}")
    if len(base_digest) != DIGEST_CHARS:
        raise AdapterError("adapter: base must be the SHA-256 of the version that it was trained on")
    layers: dict[str, bool] = {}
    for name in header:
        layer = name.removeprefix(PREFIX).removesuffix(A)
        if name == f"{PREFIX}{layer}{A}":
            layers[layer] = f"{PREFIX}{layer}{MAGNITUDE}" in header
    wanted = {name for layer, dora in layers.items() for name in names_of(layer, dora=dora)}
    if odd := sorted(wanted ^ header.keys()):
        raise AdapterError(
            f"adapter: tensors must be A, B and perhaps a magnitude of each layer; not so: {odd[0][:120]}"
        )
    if not layers or any(layers.values()) != (kind == DORA):
        raise AdapterError(f"adapter: of kind {kind} it must have layers, and of DoRA alone magnitudes")
    targets = tuple(filter(None, facts.get("targets", "").split(",")))
    return Adapter(path, kind, rank, alpha, targets, base_digest, layers)


def names_of(layer: str, *, dora: bool) -> tuple[str, ...]:
    """Names of a layer's tensors in the file."""
    return tuple(f"{PREFIX}{layer}{suffix}" for suffix in ((A, B, MAGNITUDE) if dora else (A, B)))


def linear_layers(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """The layers that can take an adapter by name: the plain linear ones of the transformer."""
    return {
        name: module
        for name, module in model.named_modules()
        # a parametrized layer has a class of its own, one with the older weight norm no parameter of that name
        if name.startswith(checkpoint.TRANSFORMER)
        and type(module) is torch.nn.Linear
        and "weight" in module._parameters
    }


def check(adapter: Adapter, model: torch.nn.Module) -> None:
    """AdapterMismatch unless every tensor fits a linear layer of the model, which may be on the meta device.

    Reads the header only.
    """
    header, known = checkpoint.header(adapter.path), linear_layers(model)
    for layer, dora in adapter.layers.items():
        if layer not in known:
            raise AdapterMismatch(f"adapter: {layer[:120]} is no plain linear layer of the model's transformer")
        rows, columns = known[layer].weight.shape
        shapes = ((adapter.rank, columns), (rows, adapter.rank), (rows,))
        for name, shape in zip(names_of(layer, dora=dora), shapes, strict=False):
            if header[name].shape != shape:
                text = f"adapter: tensor {name.removeprefix(PREFIX)[:120]} is {list(header[name].shape)}"
                raise AdapterMismatch(f"{text}, must be {list(shape)}")


def merge(adapter: Adapter, state: dict[str, torch.Tensor]) -> None:
    """Puts the changed weights into `state`, a model's tensors by name. `check` comes before.

    The changed weights are float32. AdapterError when the file, or what comes of it, holds NaN or infinity.
    """
    try:
        checkpoint.check_weights(adapter.path, checkpoint.header(adapter.path))
    except WeightsError as error:
        raise AdapterError(f"adapter: {error}") from None
    with safe_open(adapter.path, "pt") as file:
        for layer, dora in adapter.layers.items():
            weight = state[f"{layer}.weight"]
            tensors = (file.get_tensor(name).to(weight.device) for name in names_of(layer, dora=dora))
            changed = merged(weight, *tensors, scale=adapter.scale)
            if not torch.isfinite(changed).all():
                raise AdapterError(f"adapter: {layer[:120]} would hold NaN or infinity")
            state[f"{layer}.weight"] = changed


def merged(
    weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, magnitude: torch.Tensor | None = None, *, scale: float
) -> torch.Tensor:
    """The changed weight of a layer, float32.

    `weight`: (outputs, inputs); `a`: (rank, inputs); `b`: (outputs, rank); `magnitude`: (outputs,), of DoRA. A row of
    zeros has no direction that a magnitude could scale: of DoRA it comes out as NaN.
    """
    total = weight.float() + scale * (b.float() @ a.float())  # (outputs, inputs)
    if magnitude is None:
        return total
    lengths = torch.linalg.vector_norm(total, dim=1, keepdim=True)  # (outputs, 1)
    scaled: torch.Tensor = magnitude.float()[:, None] * total / lengths
    return scaled

"""Low-rank adapters in training: peft's layers in the transformer, and the small file that they become.

Only the adapter is trained: the base's weights, the seconds embedders and the prompt's projection stay as they are.
What is served is the base with the adapter merged (`luthier_model.adapters`). Before an adapter is stored, each layer
is computed with its merged weight and must give what it gave in training.
"""

import logging
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from ema_pytorch import EMA
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from safetensors import safe_open
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ArtifactRef, ModelAdapter
from luthier.training.v1.training_pb2 import Adapter
from luthier_kit.rpc import FailedPrecondition, Internal, InvalidRequest
from luthier_kit.store import Store
from luthier_model import adapters
from luthier_model.adapters import DORA, LORA, MAGNITUDE, A, B
from luthier_model.live_bytes import has_data
from luthier_training.requests import TARGETS
from luthier_training.seeds import seed_of

log = logging.getLogger(__name__)
NAME: Final = "default"
"""peft's name of an adapter among several."""
GROUPS: Final = {
    "attention": re.compile(r"\.(self|cross)_attn\.to_\w+$|attention\.to_(q|kv)$|attention\.attention\.to_out$"),
    "feed_forward": re.compile(r"\.ff\.ff\.|\.feed_forward\."),
    "all": re.compile(""),
}
"""Layers by the names that stable-audio-tools gives them, in a transformer or U-Net, of each of `requests.TARGETS`."""
assert tuple(GROUPS) == TARGETS
PROBES: Final = 8
TOLERANCE: Final = 1e-4
"""Of the largest output of a layer: float32 sums in another order differ by some 1e-6, another weight by far more."""
MIN_CHANGE: Final = 1e-6
"""Below it, what an adapter adds is the rounding of float32."""


@dataclass(frozen=True)
class AdapterInTraining:
    """An adapter in a model. `weights` are its parameters by layer and suffix, with `/` for `.`; `left_to_lora` names
    the layers on which DoRA is not defined.
    """

    asked: Adapter
    layers: Mapping[str, LoraLinear]
    weights: torch.nn.ParameterDict
    left_to_lora: tuple[str, ...]

    @contextmanager
    def holding(self, average: EMA | None) -> Iterator[None]:
        """In the block the model computes with the moving average of the adapter, where there is one."""
        own = [parameter.data for parameter in self.weights.values()]
        if average is not None:
            for parameter, averaged in zip(self.weights.values(), average.ema_model.values(), strict=True):
                parameter.data = averaged.data
        try:
            yield
        finally:
            for parameter, data in zip(self.weights.values(), own, strict=True):
                parameter.data = data


def choose(model: ConditionedDiffusionModelWrapper, asked: Adapter) -> tuple[dict[str, torch.nn.Linear], list[str]]:
    """The layers of a model that an adapter is put on by name, and which of them DoRA leaves to LoRA.

    InvalidRequest when the model has no layer of a target, or DoRA is defined on none of them.
    """
    linear = adapters.linear_layers(model)
    chosen: dict[str, torch.nn.Linear] = {}
    for target in asked.targets:
        found = {name: layer for name, layer in linear.items() if GROUPS[target].search(name)}
        if not found:
            bound = f"this model has no layer of {target} that can take an adapter"
            raise InvalidRequest(violations=[("fine_tune.adapter.targets", bound)])
        chosen |= found
    is_dora = asked.kind == ADAPTER_KIND_DORA
    looked_at = {name: layer.weight for name, layer in chosen.items() if is_dora and has_data(layer.weight)}
    zero_rows = [name for name, weight in looked_at.items() if not weight.norm(dim=1).all()]
    if is_dora and len(zero_rows) == len(chosen):
        bound = f"is not defined on rows of zeros, which all {len(chosen)} layers of the targets have: take LoRA"
        raise InvalidRequest(violations=[("fine_tune.adapter.kind", f"DoRA {bound}")])
    return chosen, sorted(zero_rows)


def insert(model: ConditionedDiffusionModelWrapper, asked: Adapter, seed: int) -> AdapterInTraining:
    """Puts a fresh adapter into the model's transformer, which computes what it did: B is zero. Raises as `choose`."""
    chosen, left_to_lora = choose(model, asked)
    if left_to_lora:
        log.warning("DoRA is not defined on rows of zeros; left to LoRA: %s", ", ".join(left_to_lora))
    layers: dict[str, LoraLinear] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "adapter"))
        for name, layer in chosen.items():
            dora = asked.kind == ADAPTER_KIND_DORA and name not in left_to_lora
            config = LoraConfig(lora_dropout=asked.dropout, use_dora=dora)
            alpha: Any = asked.alpha  # peft's hint says int, and it divides
            layers[name] = LoraLinear(layer, NAME, config, r=asked.rank, lora_alpha=alpha)
            model.set_submodule(name, layers[name])
    weights = torch.nn.ParameterDict()
    for name, adapted in layers.items():
        weights[_key(name + A)] = adapted.lora_A[NAME].weight
        weights[_key(name + B)] = adapted.lora_B[NAME].weight
        if NAME in adapted.lora_magnitude_vector:
            weights[_key(name + MAGNITUDE)] = adapted.lora_magnitude_vector[NAME].weight
    model.requires_grad_(False)
    weights.requires_grad_(True)
    return AdapterInTraining(asked, layers, weights, tuple(left_to_lora))


def seed_dropout(asked: Adapter, seed: int, number: int, rank: int) -> None:
    """Before batch `number`: what an adapter's dropout drops follows from it, so a run that goes on drops the same."""
    if asked.dropout:
        torch.manual_seed(seed_of(seed, "dropout", number, rank))


def store(adapter: AdapterInTraining, average: EMA | None, base_digest: str, folder: Path, into: Store) -> ModelAdapter:
    """The adapter, or its moving average, as it is registered, its file stored.

    FailedPrecondition TRAINING_DIVERGED when it is not finite, ADAPTER_WITHOUT_EFFECT when it changes nothing; Internal
    when a layer's merged weight does not give what the layer gives.
    """
    asked, path = adapter.asked, folder / "adapter.safetensors"
    with adapter.holding(average):
        tensors = {key.replace("/", "."): parameter.detach() for key, parameter in adapter.weights.items()}
        if wrong := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
            text = f"tensor {wrong[0]} holds NaN or infinity; a lower learning rate may help"
            raise FailedPrecondition(text, reason="TRAINING_DIVERGED")
        adapters.write(
            path,
            tensors,
            kind=DORA if asked.kind == ADAPTER_KIND_DORA else LORA,
            rank=asked.rank,
            alpha=asked.alpha,
            targets=tuple(asked.targets),
            base_digest=base_digest,
        )
        change = _change_of_weights(adapter, path)
    if change < MIN_CHANGE:
        text = "the adapter changes no weight: train for more steps or at a higher learning rate"
        raise FailedPrecondition(text, reason="ADAPTER_WITHOUT_EFFECT")
    # below checkpoints/, where every installation's policies let training write and inference read
    ref: ArtifactRef = into.blobs.put_file("checkpoints", path)
    return ModelAdapter(
        artifact=ref,
        kind=asked.kind,
        rank=asked.rank,
        alpha=asked.alpha,
        targets=asked.targets,
        left_to_lora=adapter.left_to_lora,
        relative_change=change,
    )


@torch.no_grad()
def _change_of_weights(adapter: AdapterInTraining, path: Path) -> float:
    """Size of what the stored adapter adds over the size of the weights that it changes (Frobenius norms).

    Internal ADAPTER_NOT_MERGED when a layer with its merged weight gives something else than in training.
    """
    stored = adapters.read(path)
    added = there = 0.0
    with safe_open(path, "pt") as file:
        for name, layer in adapter.layers.items():
            base: torch.nn.Linear = layer.base_layer  # type: ignore[assignment]
            before = base.weight
            tensors = (file.get_tensor(n).to(before.device) for n in adapters.names_of(name, dora=stored.layers[name]))
            after = adapters.merged(before, *tensors, scale=stored.scale)  # (outputs, inputs)
            generator = torch.Generator().manual_seed(seed_of(0, name))
            probes = torch.randn(PROBES, before.shape[1], generator=generator).to(before)
            layer.eval()
            in_training = layer(probes)  # (probes, outputs)
            merged = torch.nn.functional.linear(probes, after, base.bias)
            apart, largest = (merged - in_training).abs().max(), in_training.abs().max()
            if not apart <= TOLERANCE * largest:
                text = f"{name}: merged, its adapter gives outputs {float(apart / largest):.1e} apart"
                raise Internal(text, reason="ADAPTER_NOT_MERGED")
            added += float((after - before).square().sum())
            there += float(before.square().sum())
    return math.sqrt(added / there) if there else math.inf


def _key(name: str) -> str:
    """A tensor's name as ParameterDict takes it."""
    return name.replace(".", "/")

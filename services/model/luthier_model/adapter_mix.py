"""Adapters that are applied while a model runs, to some of the rows of a pass: the model's weights stay as they are.

An adapter makes of a layer's weight W another one, W' (`adapters.merged`). At a share w it counts as W + w (W' - W),
and several add their differences. So each layer adds a thin product to what it makes of its input x, and of DoRA, which
scales the rows of W by gains g, a multiple of it:

    y = W x + sum of w (g - 1) W x  +  U D x        D: all A of LoRA one below the other; U: w g s B side by side

which is never the mean of the A times the mean of the B. Rows without an adapter are computed as if there were none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import Linear, functional

from luthier_model import adapters, checkpoint
from luthier_model.adapters import Adapter
from luthier_model.errors import AdapterError, WeightsError

MAX_SHARE: Final = 2.0
ALL: Final = slice(None)


@dataclass(frozen=True, eq=False)
class Difference:
    """What a layer adds. `down`: (ranks, inputs); `up`: (outputs, ranks); `gain`: (outputs,) of W x, 0 = none of it."""

    down: Tensor
    up: Tensor
    gain: Tensor | None = None


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter in memory, on its model's device: the layers of that model that it changes."""

    layers: Mapping[Linear, Difference]

    @property
    def size_bytes(self) -> int:
        return sum(
            tensor.numel() * tensor.element_size()
            for each in self.layers.values()
            for tensor in (each.down, each.up, each.gain)
            if tensor is not None
        )


def load_adapter(adapter: Adapter, network: torch.nn.Module) -> LoadedAdapter:
    """Reads an adapter for a loaded model. AdapterMismatch unless it fits, AdapterError when it, or what comes of it,
    is not finite.

    Each layer's tensors are of its weight's type. Gains of DoRA follow from the weight that is loaded: where that is
    bfloat16, they have its precision.
    """
    adapters.check(adapter, network)
    try:
        checkpoint.check_weights(adapter.path, checkpoint.header(adapter.path))
    except WeightsError as error:
        raise AdapterError(f"adapter: {error}") from None
    known, layers = adapters.linear_layers(network), dict[Linear, Difference]()
    with safe_open(adapter.path, "pt") as file, torch.inference_mode():
        for layer, dora in adapter.layers.items():
            weight = known[layer].weight
            a, b, *magnitude = (file.get_tensor(name).to(weight.device) for name in adapters.names_of(layer, dora=dora))
            up, gain = adapter.scale * b.float(), None
            if magnitude:
                total = weight.float() + up @ a.float()
                scales = magnitude[0].float() / torch.linalg.vector_norm(total, dim=1)  # (outputs,)
                up, gain = scales[:, None] * up, scales - 1
            found = Difference(a.to(weight.dtype), up.to(weight.dtype), None if gain is None else gain.to(weight.dtype))
            if not all(torch.isfinite(each).all() for each in (found.up, found.gain) if each is not None):
                raise AdapterError(f"adapter: {layer[:120]} would hold NaN or infinity")
            layers[known[layer]] = found
    return LoadedAdapter(layers)


@dataclass(frozen=True, eq=False)
class AdapterMix:
    """Adapters at their shares, as one: what each layer of the model adds."""

    layers: Mapping[Linear, Difference]

    @classmethod
    def of(cls, shares: Sequence[tuple[LoadedAdapter, float]]) -> "AdapterMix":
        """Each adapter at a share, 1 = as it was trained, at most MAX_SHARE from 0."""
        found: dict[Linear, Difference] = {}
        for layer in dict.fromkeys(layer for adapter, _ in shares for layer in adapter.layers):
            parts = [(adapter.layers[layer], share) for adapter, share in shares if layer in adapter.layers]
            gains = [share * part.gain for part, share in parts if part.gain is not None]
            found[layer] = Difference(
                torch.cat([part.down for part, _ in parts]) if len(parts) > 1 else parts[0][0].down,
                torch.cat([share * part.up for part, share in parts], dim=1),
                torch.stack(gains).sum(0) if gains else None,
            )
        return cls(found)


class Rows:
    """The rows of a pass, each with a mix or none; those of one mix lie side by side. Layers are applied through it."""

    def __init__(self, mixes: Sequence[AdapterMix | None]) -> None:
        self._parts: list[tuple[slice, AdapterMix]] = []
        begin = 0
        for at in range(1, len(mixes) + 1):
            if at == len(mixes) or mixes[at] is not mixes[begin]:
                if (mix := mixes[begin]) is not None:
                    self._parts.append((slice(begin, at), mix))
                begin = at

    @property
    def all_plain(self) -> bool:
        """Whether no row has a mix."""
        return not self._parts

    def __call__(self, layer: Any, x: Tensor) -> Tensor:
        """What a linear layer, or a sequence with some, makes of the first of the rows, (rows, …, inputs)."""
        if not self._parts:
            found: Tensor = layer(x)
            return found
        if isinstance(layer, torch.nn.Sequential):
            for each in layer:
                x = self(each, x)
            return x
        y: Tensor = layer(x)
        return self.changed(layer, x, y) if isinstance(layer, Linear) else y

    def changed(self, layer: Linear, x: Tensor, y: Tensor, outputs: slice = ALL) -> Tensor:
        """`y`, in place, with what the mixes add to those `outputs` of a layer that it is made of."""
        for rows, mix in self._parts:
            found = mix.layers.get(layer)
            if found is None or rows.start >= len(x):
                continue
            thin = functional.linear(functional.linear(x[rows], found.down), found.up[outputs])
            if found.gain is not None:
                gain, made = found.gain[outputs], y[rows]
                thin = thin + gain * (made if layer.bias is None else made - layer.bias[outputs])
            y[rows] += thin
        return y

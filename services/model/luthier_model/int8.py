"""Linear layers with weights of 8 bits, on a CPU: a quarter of the memory, and products of integers (torch's own).

Each output's weights have a scale of their own; what comes in is rounded to 8 bits by one scale for the whole tensor,
found anew in each pass. Both change the sound a little, so that it is for the caller to choose.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear, Module


class Int8Linear(Module):
    """A linear layer, its weights (outputs, inputs) rounded to 8 bits; `bias` and what comes out are float32."""

    def __init__(self, layer: Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny).double() / 127  # (outputs,)
        rounded = torch.quantize_per_channel(weight, scales, torch.zeros(len(scales), dtype=torch.long), 0, torch.qint8)
        bias = None if layer.bias is None else layer.bias.detach().float()
        self._packed = torch.ops.quantized.linear_prepack(rounded, bias)
        # without these instructions sums of 16 bits may overflow, unless what comes in has 7 bits
        self._seven_bits = not torch.cpu._is_vnni_supported()

    def forward(self, x: Tensor) -> Tensor:
        """(…, outputs) of (…, inputs)."""
        found: Tensor = torch.ops.quantized.linear_dynamic(x.contiguous(), self._packed, self._seven_bits)
        return found


def layers_of(network: Any) -> list[tuple[Module, str, Linear]]:
    """The linear layers of a transformer's blocks (`model.model` of the library's wrapper), each with its parent and
    its name there. What embeds timesteps and conditions is small, and left as it is.
    """
    return [
        (parent, name, layer)
        for block in network.model.model.transformer.layers
        for parent in block.modules()
        for name, layer in parent.named_children()
        if type(layer) is Linear
    ]


def round_weights(network: Any) -> None:
    """Changes a model's transformer so, for good."""
    for parent, name, layer in layers_of(network):
        setattr(parent, name, Int8Linear(layer))

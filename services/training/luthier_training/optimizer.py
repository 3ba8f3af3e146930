"""The optimiser of training steps."""

from collections.abc import Sequence

import torch


def adamw(
    parameters: Sequence[torch.nn.Parameter], learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov 2019) of parameters that are on one device.

    On a CPU in one pass over weights, gradients and moments, which torch does only where it is asked for: its own
    choice there reads and writes them several times (`tests/bench/training_step.py`).
    """
    fused = True if parameters[0].device.type == "cpu" else None  # None: torch's own choice
    return torch.optim.AdamW(parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=fused)

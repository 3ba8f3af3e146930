"""The gradients of what is trained, from a step's first backward pass to the optimiser."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from luthier_training.ranks import Ranks


@dataclass(frozen=True)
class Gradients:
    """Those of parameters that are on one device; a parameter's own is `grad`.

    They are given up before each step, so that the first backward pass hands over what it makes: nothing is set to zero
    and added to, and while activations are kept most gradients are not there yet.
    """

    parameters: Sequence[torch.nn.Parameter]

    def forget(self) -> None:
        """Before a step."""
        for parameter in self.parameters:
            parameter.grad = None

    def average(self, ranks: Ranks) -> None:
        """After a step's last backward pass: each is its mean over all ranks, zeros where no loss depended on a
        parameter, so that AdamW treats all alike. Raises RankLost when a rank has died.
        """
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if ranks.count == 1:
            return
        whole = torch.cat([parameter.grad.flatten() for parameter in self.parameters if parameter.grad is not None])
        self.forget()
        ranks.average(whole)  # one message
        for parameter, part in zip(
            self.parameters, torch.split(whole, [p.numel() for p in self.parameters]), strict=True
        ):
            parameter.grad = part.view_as(parameter)

    def clip(self, most: float) -> torch.Tensor:
        """Scales them down to a norm of `most` where it is higher; the norm before, a number on the device."""
        found = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(found)
        # on a CPU the norm is known here and now, and what needs no scaling is not read and written
        if norm.device.type != "cpu" or not norm <= most:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, most, norm)
        return norm

"""Gradients are what backward passes made, averaged over ranks, and scaled as torch scales them."""

import copy

import pytest
import torch

from luthier_training.gradients import Gradients
from luthier_training.ranks import ALONE, Ranks


class Doubling(Ranks):
    """Two ranks, whose mean is twice what this one has."""

    def average(self, tensor: torch.Tensor) -> None:
        tensor.mul_(2)


def network() -> torch.nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))


def gradients(model: torch.nn.Module, scale: float = 1.0) -> Gradients:
    """After a backward pass."""
    (scale * model(torch.linspace(-1, 1, 12).reshape(4, 3))).square().sum().backward()
    return Gradients(list(model.parameters()))


@pytest.mark.parametrize("scale", [1e-3, 30.0])
def test_they_are_clipped_to_the_bit_as_torch_clips(scale: float) -> None:
    """Below the bound and above it."""
    ours, theirs = network(), network()
    found = gradients(ours, scale)
    gradients(theirs, scale)
    norm, wanted = found.clip(1.0), torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    assert torch.equal(norm, wanted)
    assert (float(wanted) > 1) == (scale > 1)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))  # type: ignore[arg-type]


def test_what_is_not_finite_is_told() -> None:
    model = network()
    found = gradients(model)
    model[0].bias.grad[0] = torch.nan  # type: ignore[index, operator]
    assert torch.isnan(found.clip(1.0))


def test_each_is_the_mean_over_ranks() -> None:
    model = network()
    alone = [p.grad.clone() for p in gradients(model).parameters if p.grad is not None]
    Gradients(list(model.parameters())).average(Doubling(0, 2))
    assert len(alone) == 4
    for parameter, was in zip(model.parameters(), alone, strict=True):
        assert torch.equal(parameter.grad, 2 * was)  # type: ignore[arg-type]


def test_a_parameter_that_no_loss_depends_on_has_zeros() -> None:
    """So AdamW decays it as all others, and knows moments of it."""
    model = torch.nn.ModuleDict({"used": network(), "unused": torch.nn.Linear(2, 2)})
    model["used"](torch.ones(1, 3)).sum().backward()
    Gradients(list(model.parameters())).average(ALONE)
    assert all(not p.grad.any() for p in model["unused"].parameters())  # type: ignore[union-attr]


def test_a_step_begins_without_any() -> None:
    model = network()
    once = copy.deepcopy([p.grad for p in gradients(model).parameters])
    gradients(model).forget()
    again = [p.grad for p in gradients(model).parameters]
    assert all(torch.equal(p, q) for p, q in zip(once, again, strict=True))  # type: ignore[arg-type]

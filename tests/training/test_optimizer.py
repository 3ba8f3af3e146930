"""The optimiser takes the steps of AdamW."""

import torch

from luthier_training.optimizer import adamw


def test_its_steps_are_those_of_the_published_rule() -> None:
    """Algorithm 2 of Loshchilov 2019, in float64."""
    rate, (slow, slower), decay, epsilon = 1e-2, (0.8, 0.99), 1e-1, 1e-8
    dice = torch.Generator().manual_seed(1)
    weights = torch.nn.Parameter(torch.randn(5, 7, generator=dice))
    gradients = [torch.randn(5, 7, generator=dice) * 10**power for power in (0, -3, 2, -1)]
    optimizer = adamw([weights], rate, (slow, slower), decay)
    expected, mean, square = weights.detach().double(), torch.zeros(5, 7).double(), torch.zeros(5, 7).double()

    for step, gradient in enumerate(gradients, 1):
        weights.grad = gradient.clone()
        optimizer.step()
        mean = slow * mean + (1 - slow) * gradient.double()
        square = slower * square + (1 - slower) * gradient.double() ** 2
        moved = (mean / (1 - slow**step)) / ((square / (1 - slower**step)).sqrt() + epsilon)
        expected = expected - rate * decay * expected - rate * moved

    torch.testing.assert_close(weights.detach().double(), expected, rtol=1e-6, atol=1e-6)

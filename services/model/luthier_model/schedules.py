"""Noise levels of the denoising steps, largest first, ending with zero.

`sigma` is the standard deviation of the noise in units of the (unit variance) latents, as in Karras et al.
2022, "Elucidating the Design Space of Diffusion-Based Generative Models".
"""

import math

SIGMA_MIN = 0.3  # Stable Audio Open's own choice (model card), not stable-audio-tools' 0.01
SIGMA_MAX = 500.0  # likewise


def polyexponential(steps: int, sigma_min: float, sigma_max: float, rho: float = 1.0) -> list[float]:
    """`steps` levels from `sigma_max` to `sigma_min`, polynomial of degree `rho` in log sigma, then 0.0.

    rho 1 (stable-audio-tools' default) spaces them evenly in log sigma: the exponential schedule. A single
    step goes from `sigma_max` to zero. Returns steps + 1 floats.
    ValueError unless 0 < sigma_min < sigma_max and steps >= 1.
    """
    if steps < 1 or not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"need steps >= 1 and 0 < sigma_min < sigma_max, got {steps}, {sigma_min}, {sigma_max}")
    low, high = math.log(sigma_min), math.log(sigma_max)
    ramp = [1.0 - step / max(steps - 1, 1) for step in range(steps)]
    return [math.exp(low + at**rho * (high - low)) for at in ramp] + [0.0]

"""What a sampler asks for: expected clean latents, from a v-prediction transformer with guidance.

Guidance: Ho and Salimans 2022. Rescale: Lin et al. 2023, "Common Diffusion Noise Schedules and Sample
Steps are Flawed", section 3.4. v prediction: Salimans and Ho 2022, framed as k-diffusion's `VDenoiser`.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Conditioning = Mapping[str, Tensor | None]  # keyword arguments of the transformer, batch 1
GUIDED_KEYS = ("cross_attn_cond", "prepend_cond")  # what the unconditional branch goes without


class GuidedDenoiser:
    """Callable `(x, sigma) -> denoised` over a stable-audio-tools `DiTWrapper`.

    `scale` 1 asks the conditional branch alone; otherwise both go as one batch and the answer is
    unconditional + scale * (conditional - unconditional). `rescale` (0 to 1) pulls its spread in each frame
    back to the conditional one's. `negative` is the unconditional branch's text; without it, zeros are.

    The transformer's own `cfg_scale` gives the same numbers but waits for the device each step: it stays 1.
    """

    def __init__(
        self,
        transformer: Callable[..., Tensor],
        conditioning: Conditioning,
        *,
        negative: Conditioning | None = None,
        scale: float = 1.0,
        rescale: float = 0.0,
    ):
        self._transformer, self._scale, self._rescale = transformer, scale, rescale
        self._guided = scale != 1.0
        self._inputs = _paired(conditioning, negative) if self._guided else _present(conditioning)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        norm = math.sqrt(sigma * sigma + 1)
        return x / (norm * norm) - self._velocity(x / norm, math.atan(sigma) * 2 / math.pi) * (sigma / norm)

    def _velocity(self, x: Tensor, t: float) -> Tensor:
        """`t` in (0, 1): 0 is clean, 1 is noise alone."""
        if not self._guided:
            return self._ask(x, t)
        conditional, unconditional = self._ask(torch.cat([x, x]), t).chunk(2)
        guided = unconditional + (conditional - unconditional) * self._scale
        if not self._rescale:
            return guided
        spread = conditional.std(dim=1, keepdim=True) / guided.std(dim=1, keepdim=True)
        return guided * (spread * self._rescale + (1 - self._rescale))

    def _ask(self, x: Tensor, t: float) -> Tensor:
        times = torch.full((x.shape[0],), t, device=x.device, dtype=torch.float32)
        return self._transformer(x, times, **self._inputs).to(x.dtype)


def _present(conditioning: Conditioning) -> dict[str, Tensor]:
    return {key: value for key, value in conditioning.items() if value is not None}


def _paired(conditioning: Conditioning, negative: Conditioning | None) -> dict[str, Tensor]:
    """Each input twice along the batch: as asked for, then without what guidance steers by."""
    paired = {}
    for key, value in _present(conditioning).items():
        other = torch.zeros_like(value) if key in GUIDED_KEYS else value
        paired[key] = torch.cat([value, other])
    text = negative.get("negative_cross_attn_cond") if negative else None
    if text is not None and "cross_attn_cond" in paired:
        mask = (negative or {}).get("negative_cross_attn_mask")
        text = text if mask is None else text * mask.to(text.dtype).unsqueeze(-1)
        paired["cross_attn_cond"] = torch.cat([conditioning["cross_attn_cond"], text])  # type: ignore[list-item]
    return paired

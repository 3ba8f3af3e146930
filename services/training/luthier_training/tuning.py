"""One optimiser step after another: stable-audio-tools' training wrapper in a Lightning trainer.

The wrapper computes the loss (v objective, conditioning dropout, no mask: the loss covers the padding),
Lightning brings devices, precision and accumulation, which a plain loop would have to grow. What the two do
not do is here: every draw follows from (seed, batch number); the schedule is torch's own, since the library's
`InverseLR` does not run on present versions; checkpoints hold tensors only.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from ema_pytorch import EMA
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper
from stable_audio_tools.training.diffusion import DiffusionCondTrainingWrapper

from luthier.training.v1.training_pb2 import FineTune
from luthier_training.examples import Batch
from luthier_training.ranks import ALONE, CutDraws, Ranks
from luthier_training.seeds import seed_of

WEIGHT_DECAY, BETAS = 1e-3, (0.9, 0.999)
"""As Stable Audio Open was trained (Evans 2024)."""
FINAL_RATE = 0.02
"""Share of the peak rate that is left at the last step."""
CHECKPOINTED_PARAMETERS = 10_000_000
"""Larger transformers recompute activations to save memory; smaller ones have no need to."""


class Tuning(DiffusionCondTrainingWrapper):
    """The library's wrapper, made repeatable. `first_step` is where a resumed run goes on."""

    def __init__(
        self, model: ConditionedDiffusionModelWrapper, recipe: FineTune, seed: int, ranks: Ranks = ALONE
    ) -> None:
        super().__init__(
            model,
            lr=recipe.learning_rate,
            use_ema=False,
            pre_encoded=True,
            cfg_dropout_prob=recipe.conditioning_dropout,
        )
        self.recipe, self.seed, self.ranks, self.first_step = recipe, seed, ranks, 0
        if recipe.ema_decay:
            self.diffusion_ema = EMA(
                model.model,
                beta=recipe.ema_decay,
                power=3 / 4,
                update_every=1,
                update_after_step=1,
                include_online_model=False,
            )
        _train_only_what_is_trained(model)
        _spare_recomputation(model)

    def training_step(self, batch: tuple[torch.Tensor, list[dict[str, Any]], int], batch_idx: int) -> torch.Tensor:
        """As the library's, with its generators set from the batch's number."""
        latents, rows, number = batch
        own = seed_of(self.seed, "step", number)
        torch.manual_seed(own)
        engine = torch.quasirandom.SobolEngine
        self.rng = engine(1, scramble=True, seed=own % (1 << 31))  # type: ignore[no-untyped-call]
        scale = getattr(self.diffusion.pretransform, "scale", 1.0)
        if self.ranks.count == 1:
            return super().training_step((latents * scale, rows), batch_idx)  # which divides by it again
        self.rng.fast_forward(self.ranks.rank * len(rows))  # type: ignore[no-untyped-call]
        with CutDraws(self.ranks):
            return super().training_step((latents * scale, rows), batch_idx)

    def log_dict(self, *_args: Any, **_kwargs: Any) -> None:
        """The library logs to Lightning's loggers; a run's progress goes to its series instead."""

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.diffusion.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.recipe.learning_rate, betas=BETAS, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate(self.first_step + step, self.recipe.steps, self.recipe.warmup_steps)
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def exported(self) -> dict[str, torch.Tensor]:
        """The unwrapped state, with the moving average of the transformer where there is one."""
        state = dict(self.diffusion.state_dict())
        if self.diffusion_ema is not None:
            averaged = self.diffusion_ema.ema_model.state_dict()
            state.update({f"model.{name}": tensor for name, tensor in averaged.items()})
        return state


def rate(step: int, steps: int, warmup_steps: int) -> float:
    """Share of the peak rate at a step: linear warm-up, then half a cosine down to FINAL_RATE."""
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    return warm * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def numbered(batch: Batch, number: int) -> tuple[torch.Tensor, list[dict[str, Any]], int]:
    """A batch with its number, from which the step takes its randomness."""
    return (*batch, number)


def _train_only_what_is_trained(model: ConditionedDiffusionModelWrapper) -> None:
    """Transformer and conditioners (seconds embedders, projections) learn; the autoencoder stays frozen."""
    model.requires_grad_(True)
    model.pretransform.requires_grad_(False)
    model.train()
    model.pretransform.eval()


def _spare_recomputation(model: ConditionedDiffusionModelWrapper) -> None:
    if sum(parameter.numel() for parameter in model.model.parameters()) > CHECKPOINTED_PARAMETERS:
        return
    model.model.model.transformer.register_forward_pre_hook(
        lambda _module, args, kwargs: (args, {**kwargs, "use_checkpointing": False}), with_kwargs=True
    )

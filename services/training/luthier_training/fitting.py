"""Runs a tuning from where it stands to its last step, and tells its listener on the way."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]

from luthier_kit.errors import FailedPrecondition
from luthier_training import checkpoints
from luthier_training.checkpoints import Progress
from luthier_training.examples import Example, draw_batch
from luthier_training.tuning import Tuning, numbered
from luthier_training.validation import validation_loss

CLIP_GRADIENT = 1.0


MAX_POINTS = 1000


def thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The same course in at most MAX_POINTS points: when full, every other one goes, the newest never."""
    return points if len(points) <= MAX_POINTS else points[-1::-2][::-1]


class Listener(Protocol):
    """Who follows a fit."""

    def stepped(self, progress: Progress) -> bool:
        """After each step; False = stop after a checkpoint."""

    def checkpoint(self, path: Path, progress: Progress) -> None:
        """A checkpoint lies at `path`; it may be moved."""


class Fit(lightning.Callback):
    """Training and validation examples, and the progress through them."""

    def __init__(
        self, tuning: Tuning, train: Sequence[Example], held_out: Sequence[Example], listener: Listener, scratch: Path
    ) -> None:
        self.ranks = tuning.ranks
        self.tuning, self.train, self.held_out = tuning, train, held_out
        self.listener, self.scratch = listener, scratch
        self.progress, self.stopped = Progress(), False
        self.resume_from: Path | None = None
        self._micro: list[float] = []

    def run(self, device: str, resume_from: Path | None = None) -> bool:
        """Fits to the last step; False when the listener stopped it. Raises FailedPrecondition
        TRAINING_DIVERGED.
        """
        if resume_from:
            self.progress = checkpoints.read_progress(resume_from)
        self.resume_from, self.tuning.first_step = resume_from, self.progress.step
        recipe = self.tuning.recipe
        if self.progress.step < recipe.steps:
            trainer = self._trainer(device, recipe.steps - self.progress.step, recipe.accumulate)
            trainer.fit(self.tuning, self._batches())
        return not self.stopped

    def _trainer(self, device: str, steps: int, accumulate: int) -> lightning.Trainer:
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer = lightning.Trainer(
            max_steps=steps,
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=[torch.cuda.current_device()] if device == "cuda" else 1,
            precision="bf16-mixed" if device == "cuda" else "32-true",
            accumulate_grad_batches=accumulate,
            gradient_clip_val=CLIP_GRADIENT,
            plugins=[LightningEnvironment()],  # ranks are ours: to Lightning each is alone
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[self],
        )
        # theirs would leave with exit code 0, before the checkpoint: what a SIGTERM means is the runner's to say
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        return trainer

    def _batches(self) -> Iterator[Any]:
        recipe, number = self.tuning.recipe, self.progress.step * self.tuning.recipe.accumulate
        rows = self.ranks.rows(recipe.batch_size)
        while True:
            latents, conditions = draw_batch(self.train, number, recipe.batch_size, self.tuning.seed)
            yield numbered((latents[rows], conditions[rows]), number)
            number += 1

    def on_before_optimizer_step(self, *_: Any) -> None:
        self.ranks.average_gradients(self.tuning.diffusion.parameters())

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.resume_from:
            checkpoints.restore(self.resume_from, self.tuning, trainer.optimizers[0])
        if not self.progress.validation:
            self._validate()
        self.tuning.diffusion.model.train()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._micro.append(float(outputs["loss"]))  # Lightning has divided it by `accumulate`
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        progress, recipe = self.progress, self.tuning.recipe
        progress.step += 1
        [loss], self._micro = self.ranks.means([math.fsum(self._micro)]), []
        if not math.isfinite(loss):
            text = f"the loss is {loss} at step {progress.step}; a lower learning rate may help"
            raise FailedPrecondition(text, reason="TRAINING_DIVERGED")
        progress.training = thinned([*progress.training, (progress.step, loss)])
        last = progress.step == recipe.steps
        if last or progress.step % recipe.validate_every == 0:
            self._validate()
        [stops] = self.ranks.means([not self.listener.stepped(progress)])
        going = not stops  # all stop at the same step
        if last or not going or progress.step % recipe.checkpoint_every == 0:
            self._save(trainer.optimizers[0])
        if not going:
            self.stopped = trainer.should_stop = True

    def _validate(self) -> None:
        """Measures what would be exported now: the moving average where there is one."""
        model, average = self.tuning.diffusion, self.tuning.diffusion_ema
        trained = model.model
        if average is not None and self.progress.step:
            model.model = average.ema_model
        try:
            loss = validation_loss(model, self.held_out, self.tuning.seed, str(self.tuning.device), self.ranks)
        finally:
            model.model = trained
        self.progress.validation.append((self.progress.step, loss))

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.ranks.leads:
            return
        path = self.scratch / f"step-{self.progress.step}.safetensors"
        checkpoints.save(path, self.tuning, optimizer, self.progress)
        self.listener.checkpoint(path, self.progress)
        path.unlink(missing_ok=True)

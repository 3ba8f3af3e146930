"""Latents of a clip, encoded once: an action keyed by clip, stretch, window and autoencoder.

What is kept is the encoder's mean and standard deviation, so that each epoch draws its own sample (the
library's pre-encoding freezes one), and the mask of what sounds. The clip is padded with silence to the
window before it is encoded; the loss covers that silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.artifacts import Action, Artifacts
from luthier_model.configuration import Configuration
from luthier_training import audio
from luthier_training.autoencoder import encode
from luthier_training.dataset import Clip

STAGE, VERSION = "latents", "1"


@dataclass(frozen=True)
class Stretch:
    """A part of a clip offered as a clip of its own; `length_s` 0 = the whole clip."""

    clip: Clip
    start_s: float = 0.0
    length_s: float = 0.0


@dataclass(frozen=True)
class Latents:
    """`mean`, `deviation`: (latent channels, window latents), scaled as the transformer sees them.

    `sounding`: (window latents,) bool, False over the padding. `seconds_total`: length of the clip, seconds.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    sounding: torch.Tensor
    seconds_total: float

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """One draw of the variational posterior, (latent channels, window latents)."""
        return self.mean + self.deviation * torch.randn(self.mean.shape, generator=generator)


@dataclass(frozen=True)
class Encoder:
    """Encodes stretches with one model's autoencoder, through the store."""

    store: Artifacts
    model: ConditionedDiffusionModelWrapper
    configuration: Configuration
    autoencoder_digest: str
    device: str
    scratch: Path

    def __call__(self, stretch: Stretch) -> tuple[Latents, bool]:
        """(latents, whether they were found rather than computed)."""
        ref, reused = self.store.run(self._action(stretch), ArtifactRef, lambda: self._compute(stretch))
        path = self.store.fetch(ref, self.scratch)
        try:
            tensors = load_file(path)
        finally:
            path.unlink()
        mean, deviation, sounding, seconds = (tensors[n] for n in ("mean", "deviation", "sounding", "seconds_total"))
        return Latents(mean, deviation, sounding, float(seconds)), reused

    def _action(self, stretch: Stretch) -> Action:
        parameters = {
            "sample_rate_hz": self.configuration.sample_rate_hz,
            "window_samples": self.configuration.window_samples,
            "start_s": stretch.start_s,
            "length_s": stretch.length_s,
        }
        tools = {"autoencoder": self.autoencoder_digest}
        return Action(STAGE, [stretch.clip.audio.sha256], parameters, version=VERSION, tools=tools)

    def _compute(self, stretch: Stretch) -> ArtifactRef:
        source = self.store.fetch(stretch.clip.audio, self.scratch)
        samples = audio.read(source, self.configuration)
        if stretch.length_s:
            samples = audio.excerpt(samples, self.configuration, stretch.start_s, stretch.length_s)
        latents = self.encode(samples)
        target = self.scratch / f"latents-{stretch.clip.audio.sha256}.safetensors"
        seconds = torch.tensor(latents.seconds_total, dtype=torch.float64)
        tensors = {"mean": latents.mean, "deviation": latents.deviation, "sounding": latents.sounding}
        save_file({**tensors, "seconds_total": seconds}, target)
        try:
            return self.store.put_file(STAGE, target)
        finally:
            target.unlink()

    def encode(self, samples: torch.Tensor) -> Latents:
        """(channels, samples) -> latents of the whole window."""
        known = self.configuration
        batch = audio.window(samples, known)[None].to(self.device)
        mean, deviation = (
            (part[0] / self.model.pretransform.scale).float().cpu().contiguous()
            for part in encode(self.model.pretransform.model, batch)
        )
        seconds = samples.shape[1] / known.sample_rate_hz
        return Latents(mean, deviation, audio.sounding_latents(samples, known), seconds)

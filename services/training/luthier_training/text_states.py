"""Text states of a prompt, encoded once: an action keyed by prompt and text encoder. Only the frozen encoder
is cached; its projection, where a model has one, is trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from stable_audio_tools.models.conditioners import Conditioner, T5Conditioner

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.artifacts import Action, Artifacts

STAGE, VERSION = "text-states", "1"
States = tuple[torch.Tensor, torch.Tensor]
"""(tokens, width) float32, zero where there is no token; (tokens,) bool mask."""


@dataclass(frozen=True)
class TextStates:
    """Encodes prompts with one text encoder, through the store."""

    store: Artifacts
    conditioner: T5Conditioner
    encoder_digest: str
    device: str
    scratch: Path

    def __call__(self, prompt: str) -> States:
        ref, _ = self.store.run(self._action(prompt), ArtifactRef, lambda: self._compute(prompt))
        path = self.store.fetch(ref, self.scratch)
        try:
            tensors = load_file(path)
        finally:
            path.unlink()
        return tensors["states"], tensors["mask"]

    def _action(self, prompt: str) -> Action:
        inputs = [hashlib.sha256(prompt.encode()).hexdigest()]
        parameters = {"max_tokens": self.conditioner.max_length}
        return Action(STAGE, inputs, parameters, version=VERSION, tools={"text_encoder": self.encoder_digest})

    def _compute(self, prompt: str) -> ArtifactRef:
        projection, self.conditioner.proj_out = self.conditioner.proj_out, torch.nn.Identity()
        try:
            with torch.no_grad():
                states, mask = self.conditioner([prompt], self.device)
        finally:
            self.conditioner.proj_out = projection
        target = self.scratch / f"text-{hashlib.sha256(prompt.encode()).hexdigest()}.safetensors"
        save_file({"states": states[0].float().cpu().contiguous(), "mask": mask[0].cpu().contiguous()}, target)
        try:
            return self.store.put_file(STAGE, target)
        finally:
            target.unlink()


class KnownPrompts(Conditioner):
    """Stands where the T5 conditioner stood, with the states of every prompt of the data set.

    The same numbers, without the encoder in memory and in each step. `proj_out` is the model's own and trains
    on.
    """

    def __init__(self, original: T5Conditioner, prompts: Sequence[str], encode: TextStates) -> None:
        super().__init__(original.dim, original.output_dim)
        self.proj_out = original.proj_out
        self.states = {prompt: encode(prompt) for prompt in prompts}

    def forward(self, x: list[str], device: torch.device | str) -> States:
        """(batch, tokens, width) and (batch, tokens) of prompts that the data set holds."""
        states = torch.stack([self.states[prompt][0] for prompt in x]).to(device)
        mask = torch.stack([self.states[prompt][1] for prompt in x]).to(device)
        return self.proj_out(states) * mask.unsqueeze(-1), mask

"""Models that generate audio from prompts: MusicGen by transformers, AudioLDM 2 by diffusers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch

from luthier_baselines.loading import assemble, load
from luthier_baselines.work import Result, as_frames
from luthier_kit.rpc import InvalidRequest

TOP_K: Final = 250
"""Of MusicGen's sampling, as the paper and audiocraft; transformers' own default is 50."""
AUDIOLDM2_STEPS: Final = 200
AUDIOLDM2_GUIDANCE: Final = 3.5
MUSICGEN_GUIDANCE: Final = 3.0
"""As the papers and the libraries have them."""


class Generator(Protocol):
    """A model that is loaded."""

    def check(self, seconds: float) -> None:
        """Raises InvalidRequest for a length that the model cannot make."""

    def generate(self, prompt: str, seconds: float, seed: int) -> Result:
        """The prompt as audio of exactly that length, the same for the same seed."""


class MusicGen:
    """MusicGen, mono or stereo."""

    def __init__(self, folder: Path, device: torch.device, *, guidance_scale: float) -> None:
        from transformers import AutoTokenizer, MusicgenForConditionalGeneration

        self._tokenizer = assemble(AutoTokenizer, folder)
        self._model = load(MusicgenForConditionalGeneration, folder).to(device).eval()
        self._guidance_scale = guidance_scale
        codec = self._model.config.audio_encoder
        decoder = self._model.config.decoder
        self._rate, self._hop = int(codec.sampling_rate), int(codec.sampling_rate / codec.frame_rate)
        self._frame_rate = codec.frame_rate
        self._delay = decoder.num_codebooks // decoder.audio_channels - 1
        self._longest_frames = decoder.max_position_embeddings - self._delay - 1

    def _frames(self, seconds: float) -> int:
        return -(-round(seconds * self._rate) // self._hop)

    def check(self, seconds: float) -> None:
        if self._frames(seconds) > self._longest_frames:
            longest_s = self._longest_frames / self._frame_rate
            raise _too_long(seconds, longest_s)

    @torch.inference_mode()
    def generate(self, prompt: str, seconds: float, seed: int) -> Result:
        """The codebooks are delayed by one frame each, so that as many tokens more are asked for: the library counts
        them, too, and what it gives for `frames` tokens is so many frames short."""
        torch.manual_seed(seed)
        inputs = self._tokenizer([prompt], return_tensors="pt").to(self._model.device)
        audio = self._model.generate(
            **inputs,
            do_sample=True,
            top_k=TOP_K,
            guidance_scale=self._guidance_scale,
            max_new_tokens=self._frames(seconds) + self._delay,
        )  # (1, channels, samples)
        return Result(as_frames(audio[0].float().cpu().numpy(), round(seconds * self._rate)), self._rate)


class AudioLDM2:
    """AudioLDM 2, mono. One candidate for a prompt: nothing is ranked by CLAP, which evaluation may measure with."""

    def __init__(self, folder: Path, device: torch.device, *, guidance_scale: float, steps: int) -> None:
        from diffusers import (
            AudioLDM2Pipeline,
            AudioLDM2ProjectionModel,
            AudioLDM2UNet2DConditionModel,
            AutoencoderKL,
        )
        from transformers import ClapModel, GPT2LMHeadModel, SpeechT5HifiGan, T5EncoderModel

        kinds: Mapping[str, Any] = {
            "language_model": GPT2LMHeadModel,  # also where the folder says GPT2Model, which cannot generate any more
            "projection_model": AudioLDM2ProjectionModel,
            "text_encoder": ClapModel,
            "text_encoder_2": T5EncoderModel,
            "unet": AudioLDM2UNet2DConditionModel,
            "vae": AutoencoderKL,
            "vocoder": SpeechT5HifiGan,
        }
        # one by one: the pipeline does not say what it lacks
        parts = {name: load(kind, folder / name) for name, kind in kinds.items()}
        pipeline = assemble(AudioLDM2Pipeline, folder, **parts)
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to(device)
        self._guidance_scale, self._steps = guidance_scale, steps
        vocoder = self._pipeline.vocoder.config
        self._rate = int(vocoder.sampling_rate)
        self._hop = int(np.prod(vocoder.upsample_rates))
        self._multiple = self._hop * self._pipeline.vae_scale_factor  # samples of the smallest piece

    def check(self, seconds: float) -> None:
        """Any length goes: the network is convolutional in time. What is short of one piece is made and cut."""

    @torch.inference_mode()
    def generate(self, prompt: str, seconds: float, seed: int) -> Result:
        frames = round(seconds * self._rate)
        pieces = -(-frames // self._multiple)
        generator = torch.Generator().manual_seed(seed)  # the same noise on every device
        audio = self._pipeline(
            prompt,
            # half a sample more: the library rounds down twice on the way to whole pieces
            audio_length_in_s=(pieces * self._multiple + 0.5) / self._rate,
            num_inference_steps=self._steps,
            guidance_scale=self._guidance_scale,
            generator=generator,
        ).audios  # (1, samples)
        return Result(as_frames(np.asarray(audio, np.float32), frames), self._rate)


def _too_long(seconds: float, longest_s: float) -> InvalidRequest:
    bound = f"must be at most {longest_s:.2f} for these weights, got {seconds:g}"
    return InvalidRequest(reason="SECONDS_OUT_OF_RANGE", violations=[("seconds", bound)])

"""Trains the tiny model's Oobleck autoencoder on clips.

Reconstruction by the multi-resolution STFT distance (Yamamoto 2020, as stable-audio-tools ships it) and the
absolute error of samples, with a small Kullback-Leibler term (Kingma 2013). No discriminator: a few hundred
steps on a CPU do not feed one. The layers start with unit variance on a first batch (Salimans 2016,
data-dependent initialisation for weight normalisation); without it nothing is heard in the first hundred
steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from stable_audio_tools.models.autoencoders import AudioAutoencoder
from stable_audio_tools.training.losses.auraloss import MultiResolutionSTFTLoss
from torch import nn

CROP_SAMPLES = 8192
FFT_SIZES = (1024, 256, 64)
PEAK_RATE, WARMUP_STEPS = 3e-3, 20
SAMPLE_WEIGHT, KL_WEIGHT = 10.0, 1e-4
SILENT_END = 0.2
"""Share of crops that hold the end of a clip and the silence behind it."""
START_DEVIATION = 0.1
"""Standard deviation of a latent at the start: small, so that the decoder hears what the encoder says."""
OUTPUT_LEVEL = 0.1
"""RMS of the decoder's output at the start, near that of music at -20 LUFS."""
Report = Callable[[int, float], bool]
"""(steps done, loss) -> whether to go on."""


def train(
    model: AudioAutoencoder, clips: Sequence[torch.Tensor], steps: int, batch_size: int, seed: int, report: Report
) -> bool:
    """Trains in place on clips of (channels, samples); False when `report` said stop. Deterministic by seed."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model.train().requires_grad_(True)
    start(model, crops(clips, batch_size, generator))
    distance = MultiResolutionSTFTLoss(
        fft_sizes=list(FFT_SIZES), hop_sizes=[n // 4 for n in FFT_SIZES], win_lengths=list(FFT_SIZES)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.8, 0.99))
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    for step in range(1, steps + 1):
        loss = _loss(model, distance, crops(clips, batch_size, generator))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if not report(step, float(loss)):
            return False
    model.eval().requires_grad_(False)
    return True


def _rate(step: int, steps: int) -> float:
    """Share of the peak rate: linear warm-up, then half a cosine."""
    return min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def _loss(model: AudioAutoencoder, distance: nn.Module, audio: torch.Tensor) -> torch.Tensor:
    latents, info = model.encode(audio, return_info=True)
    decoded = model.decode(latents)
    error = distance(decoded, audio) + SAMPLE_WEIGHT * (decoded - audio).abs().mean()
    return error + KL_WEIGHT * info["kl"]


def crops(clips: Sequence[torch.Tensor], count: int, generator: torch.Generator) -> torch.Tensor:
    """(count, channels, CROP_SAMPLES) from random places; some hold the end of a clip and the silence behind
    it.
    """
    batch = torch.zeros(count, clips[0].shape[0], CROP_SAMPLES)
    which = torch.randint(len(clips), (count,), generator=generator)
    place, ending = torch.rand(2, count, generator=generator)
    for row in range(count):
        clip = clips[int(which[row])]
        length = clip.shape[1]
        if ending[row] < SILENT_END:
            first = length - int(place[row] * min(CROP_SAMPLES, length))
        else:
            first = int(place[row] * max(1, length - CROP_SAMPLES))
        piece = clip[:, first : first + CROP_SAMPLES]
        batch[row, :, : piece.shape[1]] = piece
    return batch


def start(model: AudioAutoencoder, audio: torch.Tensor) -> None:
    """Sets the gains so that each layer's output has unit variance on `audio`, latents start nearly without
    noise.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
    hooks = [layer.register_forward_hook(_unit_variance) for layer in convolutions]
    with torch.no_grad():
        mean, _ = model.encoder(audio).chunk(2, dim=1)
        model.decoder(mean)
        for hook in hooks:
            hook.remove()
        to_latents = model.encoder.layers[-1]
        half = mean.shape[1]
        to_latents.weight_g[half:] *= 0.1
        to_latents.bias[half:] = math.log(math.expm1(START_DEVIATION))
        last = [m for m in model.decoder.modules() if isinstance(m, nn.Conv1d)][-1]
        last.weight_g.mul_(OUTPUT_LEVEL)  # type: ignore[operator]


def _unit_variance(layer: nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    """Divides gain and bias by the deviation; a transposed convolution has gains per input channel, so one
    for all.
    """
    whole = isinstance(layer, nn.ConvTranspose1d)
    spread = output.std() if whole else output.std(dim=(0, 2))
    spread = spread.clamp_min(1e-4)
    mean = output.mean(dim=(0, 2)) if layer.bias is not None else torch.zeros(output.shape[1])
    layer.weight_g.div_(spread if whole else spread.view(-1, 1, 1))  # type: ignore[union-attr, operator]
    if layer.bias is not None:
        layer.bias.sub_(mean).div_(spread)  # type: ignore[union-attr, operator]
    return (output - mean.view(1, -1, 1)) / (spread if whole else spread.view(1, -1, 1))


@torch.no_grad()
def encode(model: AudioAutoencoder, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(batch, channels, samples) -> mean and standard deviation of the latents, each (batch, latent, time),
    unscaled.
    """
    mean, spread = model.encode(audio, skip_bottleneck=True).chunk(2, dim=1)
    return mean, nn.functional.softplus(spread) + 1e-4  # as the library's vae_sample


def latent_scale(model: AudioAutoencoder, clips: Sequence[torch.Tensor], ratio: int) -> float:
    """Standard deviation of what the encoder says of the clips, so that scaled latents have unit variance."""
    means = [encode(model, clip[None, :, : clip.shape[1] // ratio * ratio])[0].flatten() for clip in clips]
    return max(1e-3, round(float(torch.cat(means).std()), 6))

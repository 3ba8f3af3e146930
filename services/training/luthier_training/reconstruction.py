"""How far a reconstruction is from its original: the losses that an autoencoder is trained by, and the measures that
validation reports. Waveforms are (batch, channels, samples), full scale 1.0; everything is computed in float32.

The losses are Stable Audio's (Evans 2024), by stable-audio-tools' own classes with its own numbers. Two things differ
from its training wrapper:

- The original is the reference of the spectral convergence, as published (Yamamoto 2020) and as in auraloss; the
  wrapper hands the two over the other way round. Either order divides by what may be silent: one silent reconstruction
  there, one silent original here outweighs a whole batch. Originals can be chosen: `crops` draws none that is silent.
- Autoencoder and discriminator learn from every batch, not in turns.
"""

import torch
from stable_audio_tools.models.discriminators import EncodecDiscriminator
from stable_audio_tools.training.losses.auraloss import (
    MelSTFTLoss,
    MultiResolutionSTFTLoss,
    SumAndDifferenceSTFTLoss,
)
from torch import nn

from luthier.training.v1.training_pb2 import TrainAutoencoder
from luthier_training.crops import SILENCE
from luthier_training.seeds import seed_of

RESOLUTIONS = (2048, 1024, 512, 256, 128, 64, 32)
"""Windows of the spectra that are compared, in samples; hops are a quarter. Stable Audio's."""
DISCRIMINATOR_WINDOWS = RESOLUTIONS[:5]
"""Of the discriminator's spectra."""
MAX_DB = 100.0
"""Bound of the ratio of signal to distortion: beyond it float32 has no meaning."""


class SpectralLoss(nn.Module):
    """Distance of spectra at seven resolutions, A-weighted where asked for.

    Of stereo: half the distances of sum and difference (Steinmetz 2020), and half those of left and right.
    """

    def __init__(self, sample_rate_hz: int, channels: int, *, a_weighting: bool) -> None:
        super().__init__()
        windows = list(RESOLUTIONS)
        options = {
            "fft_sizes": windows,
            "hop_sizes": [window // 4 for window in windows],
            "win_lengths": windows,
            "perceptual_weighting": a_weighting,
            "sample_rate": sample_rate_hz,
        }
        with torch.random.fork_rng(devices=[]):  # its filters are made with random weights first
            self.single = MultiResolutionSTFTLoss(**options)
            self.sum_and_difference = SumAndDifferenceSTFTLoss(**options) if channels == 2 else None

    def forward(self, decoded: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """A number, 0 or more."""
        if self.sum_and_difference is None:
            one: torch.Tensor = self.single(decoded, original)
            return one
        sides = [self.single(decoded[:, side : side + 1], original[:, side : side + 1]) for side in (0, 1)]
        both: torch.Tensor = self.sum_and_difference(decoded, original) + (sides[0] + sides[1]) / 2
        return both


def make_discriminator(channels: int, filters: int, seed: int) -> EncodecDiscriminator:
    """A multi-scale STFT discriminator (Défossez 2022) with random weights, on the CPU."""
    windows = list(DISCRIMINATOR_WINDOWS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "discriminator"))
        return EncodecDiscriminator(
            in_channels=channels,
            filters=filters,
            n_ffts=windows,
            hop_lengths=[window // 4 for window in windows],
            win_lengths=windows,
        )


def discriminator_of(recipe: TrainAutoencoder, channels: int, seed: int) -> EncodecDiscriminator | None:
    """The discriminator that a run trains against; None where it has no part in the loss."""
    if not (recipe.adversarial_weight or recipe.feature_matching_weight):
        return None
    return make_discriminator(channels, recipe.discriminator_filters, seed)


def divergence(mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of a posterior from a standard normal distribution, summed over the latent channels,
    its mean over the rest; twice the usual value, as in the library, whose weights it goes with.
    """
    variance = deviation.square()
    return (mean.square() + variance - variance.log() - 1).sum(1).mean()


class Fidelity(nn.Module):
    """What validation measures, by auraloss' own resolutions and without weighting, so that figures compare."""

    def __init__(self, sample_rate_hz: int) -> None:
        super().__init__()
        self.stft, self.mel = MultiResolutionSTFTLoss(), MelSTFTLoss(sample_rate_hz)

    def forward(self, decoded: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """(3,) float64: distance of spectra, distance of mel spectra, ratio of signal to distortion in dB."""
        measures = (self.stft, self.mel, si_sdr_db)
        return torch.tensor([float(measure(decoded, original)) for measure in measures], dtype=torch.float64)


def si_sdr_db(decoded: torch.Tensor, original: torch.Tensor) -> float:
    """Scale-invariant ratio of signal to distortion (Le Roux 2018) in dB, means removed, between -MAX_DB and MAX_DB;
    the mean over the channels that sound. Of a wholly silent original it is -MAX_DB.
    """
    ratios = []
    centred = (audio.flatten(0, 1).double() for audio in (decoded, original))  # (batch * channels, samples)
    for found, wanted in zip(*(rows - rows.mean(1, keepdim=True) for rows in centred), strict=True):
        if wanted.square().mean().sqrt() < SILENCE:
            continue
        signal = wanted * (found @ wanted) / (wanted @ wanted)
        ratio = signal.square().sum() / (found - signal).square().sum()  # 0 / 0 of a silent reconstruction
        ratios.append(float((10 * ratio.log10()).nan_to_num(nan=-MAX_DB).clamp(-MAX_DB, MAX_DB)))
    return sum(ratios) / len(ratios) if ratios else -MAX_DB

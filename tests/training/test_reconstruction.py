"""Losses and measures are those of auraloss and of the library; what they cannot say has a value of its own."""

import auraloss
import pytest
import torch
from stable_audio_tools.models.bottleneck import vae_sample

from luthier_training.reconstruction import (
    MAX_DB,
    RESOLUTIONS,
    Fidelity,
    SpectralLoss,
    divergence,
    si_sdr_db,
)

RATE_HZ = 44100
WINDOWS = list(RESOLUTIONS)


def sound(channels: int = 2, *, samples: int = 8192) -> tuple[torch.Tensor, torch.Tensor]:
    """An original and a reconstruction of it, (1, channels, samples)."""
    torch.manual_seed(0)
    original = 0.1 * torch.randn(1, channels, samples)
    return original, original + 0.02 * torch.randn_like(original)


@pytest.mark.parametrize("a_weighting", [False, True])
def test_the_distance_of_spectra_is_auralosss(a_weighting: bool) -> None:
    original, decoded = sound()
    options = {
        "fft_sizes": WINDOWS,
        "hop_sizes": [window // 4 for window in WINDOWS],
        "win_lengths": WINDOWS,
        "perceptual_weighting": a_weighting,
        "sample_rate": RATE_HZ,
    }
    middle = auraloss.freq.SumAndDifferenceSTFTLoss(**options)(decoded, original)
    one = auraloss.freq.MultiResolutionSTFTLoss(**options)
    sides = [one(decoded[:, side : side + 1], original[:, side : side + 1]) for side in (0, 1)]
    ours = SpectralLoss(RATE_HZ, 2, a_weighting=a_weighting)(decoded, original)
    assert float(ours) == pytest.approx(float(middle + (sides[0] + sides[1]) / 2), rel=1e-5)
    mono = SpectralLoss(RATE_HZ, 1, a_weighting=a_weighting)(decoded[:, :1], original[:, :1])
    assert float(mono) == pytest.approx(float(sides[0]), rel=1e-5)


def test_weighting_makes_what_is_hardly_heard_count_less() -> None:
    time = torch.arange(16384) / RATE_HZ
    original = 0.1 * torch.sin(2 * torch.pi * 1000 * time).expand(1, 2, -1)
    low, middle = (original + 0.05 * torch.sin(2 * torch.pi * hz * time) for hz in (40, 1500))
    plain, weighted = (SpectralLoss(RATE_HZ, 2, a_weighting=on) for on in (False, True))
    assert float(weighted(low, original) / plain(low, original)) < 0.8 * float(
        weighted(middle, original) / plain(middle, original)
    )


def test_validation_measures_what_auraloss_does() -> None:
    original, decoded = sound(samples=16384)
    wanted = [
        auraloss.freq.MultiResolutionSTFTLoss()(decoded, original),
        auraloss.freq.MelSTFTLoss(RATE_HZ)(decoded, original),
        -auraloss.time.SISDRLoss()(decoded, original),
    ]
    assert Fidelity(RATE_HZ)(decoded, original).tolist() == pytest.approx([float(each) for each in wanted], rel=1e-4)


def test_the_ratio_of_signal_to_distortion_has_a_value_for_silence_and_for_no_error() -> None:
    original, _ = sound()
    assert si_sdr_db(original, original) == MAX_DB
    assert si_sdr_db(3 * original + 0.5, original) == pytest.approx(MAX_DB, abs=5)  # neither gain nor offset counts
    assert si_sdr_db(torch.zeros_like(original), original) == -MAX_DB
    assert si_sdr_db(original, torch.zeros_like(original)) == -MAX_DB
    half = original.clone()
    half[:, 1] = 0
    _, decoded = sound()
    assert si_sdr_db(decoded, half) == pytest.approx(si_sdr_db(decoded[:, :1], original[:, :1]))


def test_the_divergence_is_the_librarys() -> None:
    torch.manual_seed(0)
    mean, spread = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    _, theirs = vae_sample(mean, spread)
    assert float(divergence(mean, torch.nn.functional.softplus(spread) + 1e-4)) == pytest.approx(float(theirs))

"""How far audio is from the reference that it reconstructs, sample by sample: what codecs are measured by.

- Distance of spectra at three resolutions, and of mel spectra: the losses of auraloss 0.4 with its default parameters
  (Yamamoto 2020; Steinmetz and Reiss 2020), spectral convergence plus the L1 distance of log magnitudes.
- Scale-invariant ratio of signal to distortion (Le Roux 2018), the mean removed, the mean over the channels that sound.
  A reference without sound has none; equal audio has MAX_DB.
- ViSQOL (Chinen 2020), its mode for audio, where the package visqol-python is installed (the extra `visqol`).

auraloss holds the spectra of the whole file, some 30 MB for a second of stereo. Here they are taken PIECE_FRAMES at a
time, and sums are kept: the figures are the same.
"""

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torchaudio.functional import melscale_fbanks

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_music.audio import AudioError, Samples, read_audio
from luthier_music.audio_rate import resampled

MAX_DURATION_S: Final = 1800.0
MIN_DURATION_S: Final = 0.5
MAX_DB: Final = 100.0
"""Bound of the ratio of signal to distortion: beyond it 16 bits and float32 have no meaning."""
SILENCE: Final = 1e-4  # RMS of full scale, -80 dB
LENGTHS_DIFFER_S: Final = 1.0
"""By so much a codec may lengthen or shorten: it pads to its frames. What both have is compared."""
PIECE_FRAMES: Final = 4096  # of a spectrum held at a time: 34 MB at the largest resolution
VISQOL_RATE_HZ: Final = 48_000  # of its mode for audio
VISQOL_S: Final = 10.0  # its listening tests had 5 to 10 s, and it takes as long as it hears
VISQOL_MIN_S: Final = 1.0
_VISQOL_ALONE: Final = threading.Lock()
"""Two calls at once give other ratings, or end the process: its filters keep state, and libsvm's memory is shared."""
EPS: Final = 1e-8  # least power of a bin, as auraloss'


@dataclass(frozen=True)
class Resolution:
    """Of a spectrum: samples of its transform, its hop and its Hann window."""

    transform: int
    hop: int
    window: int


STFT: Final = (Resolution(1024, 120, 600), Resolution(2048, 240, 1200), Resolution(512, 50, 240))
MEL: Final = Resolution(1024, 256, 1024)
MEL_BANDS: Final = 128


def aligned_values(store: Store, audio: ArtifactRef, reference: ArtifactRef) -> dict[str, float]:
    """`stft`, `mel`, `si_sdr_db` where the reference sounds, `visqol` where it is installed: of an artifact against the
    one that it reconstructs.

    Both are compared at the reference's sampling rate; mono with stereo in mono. Raises InvalidRequest AUDIO_INVALID
    for what cannot be read, REFERENCE_NOT_ALIGNED where the lengths differ by more than LENGTHS_DIFFER_S.
    """
    wanted, rate = _read(store, reference)
    found, own_rate = _read(store, audio)
    apart_s = len(found) / own_rate - len(wanted) / rate
    if abs(apart_s) > LENGTHS_DIFFER_S:
        text = f"the audio is {apart_s:+.2f} s longer than its reference"
        raise InvalidRequest(f"{text}, at most {LENGTHS_DIFFER_S:g} s are allowed", reason="REFERENCE_NOT_ALIGNED")
    if found.shape[1] != wanted.shape[1]:
        found, wanted = (samples.mean(axis=1, keepdims=True) for samples in (found, wanted))
    found = resampled(found, own_rate, rate)
    shared = min(len(found), len(wanted))
    one, other = (torch.from_numpy(np.ascontiguousarray(samples[:shared].T)) for samples in (found, wanted))
    values = {"stft": stft_distance(one, other), "mel": mel_distance(one, other, rate)}
    if (ratio := si_sdr_db(one, other)) is not None:
        values["si_sdr_db"] = ratio
    if (quality := visqol(one, other, rate)) is not None:
        values["visqol"] = quality
    return values


def stft_distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Of (channels, samples) each: 0 or more, the mean over STFT's resolutions."""
    return sum(_distance(found, wanted, resolution) for resolution in STFT) / len(STFT)


def mel_distance(found: torch.Tensor, wanted: torch.Tensor, sample_rate_hz: int) -> float:
    """Of (channels, samples) each: 0 or more."""
    return _distance(found, wanted, MEL, _mel_bands(sample_rate_hz))


def si_sdr_db(found: torch.Tensor, wanted: torch.Tensor) -> float | None:
    """Of (channels, samples) each, in dB, -MAX_DB to MAX_DB; None where no channel of `wanted` sounds. A silent `found`
    has -MAX_DB."""
    ratios = []
    centred = (audio.double() - audio.double().mean(dim=1, keepdim=True) for audio in (found, wanted))
    for one, other in zip(*centred, strict=True):
        if float(other.square().mean().sqrt()) < SILENCE:
            continue
        signal = other * (one @ other) / (other @ other)
        ratio = signal.square().sum() / (one - signal).square().sum()  # 0 / 0 of a silent one, x / 0 of equal ones
        ratios.append(float((10 * ratio.log10()).nan_to_num(nan=-MAX_DB).clamp(-MAX_DB, MAX_DB)))
    return sum(ratios) / len(ratios) if ratios else None


def visqol(found: torch.Tensor, wanted: torch.Tensor, sample_rate_hz: int) -> float | None:
    """Of (channels, samples) each, in mono, the first VISQOL_S: 1 to 4.73, which equal audio has. None where it is not
    installed, of less than VISQOL_MIN_S, and where `wanted` is silent."""
    audio = [each.mean(0).double().numpy()[: round(VISQOL_S * sample_rate_hz)] for each in (wanted, found)]
    long_enough = len(audio[0]) >= VISQOL_MIN_S * sample_rate_hz
    if not long_enough or float(np.sqrt(np.square(audio[0]).mean())) < SILENCE or (measure := _visqol()) is None:
        return None
    at_48k = [resampled(each.astype(np.float32), sample_rate_hz, VISQOL_RATE_HZ).astype(np.float64) for each in audio]
    with _VISQOL_ALONE:
        return float(measure(*at_48k, VISQOL_RATE_HZ).moslqo)


@cache
def _visqol() -> Callable[..., Any] | None:
    """What measures reference, degraded, rate; None where the package is not installed."""
    if find_spec("visqol") is None:
        return None
    api = import_module("visqol").VisqolApi()
    api.create(mode="audio")
    measure: Callable[..., Any] = api.measure_from_arrays
    return measure


@torch.no_grad()
def _distance(
    found: torch.Tensor, wanted: torch.Tensor, resolution: Resolution, bands: torch.Tensor | None = None
) -> float:
    """Spectral convergence plus the mean L1 distance of log magnitudes, over all channels, bins and frames."""
    apart = power = logs = 0.0
    count = 0
    for one, other in zip(found, wanted, strict=True):
        for x, y in zip(_magnitudes(one, resolution, bands), _magnitudes(other, resolution, bands), strict=True):
            apart += float((y - x).double().square().sum())
            power += float(y.double().square().sum())
            logs += float((x.log() - y.log()).abs().double().sum())
            count += x.numel()
    return float((apart / power) ** 0.5 + logs / count)


def _magnitudes(samples: torch.Tensor, resolution: Resolution, bands: torch.Tensor | None) -> Iterator[torch.Tensor]:
    """(samples,) -> (bins or bands, frames) a piece at a time; as `torch.stft` with centred, reflected frames."""
    transform, hop = resolution.transform, resolution.hop
    padded = torch.nn.functional.pad(samples[None], (transform // 2, transform // 2), mode="reflect")[0]
    frames = 1 + (len(padded) - transform) // hop
    window = torch.hann_window(resolution.window)
    for first in range(0, frames, PIECE_FRAMES):
        last = min(frames, first + PIECE_FRAMES) - 1
        piece = padded[first * hop : last * hop + transform]
        spectrum = torch.stft(piece, transform, hop, resolution.window, window, center=False, return_complex=True)
        found = (spectrum.real.square() + spectrum.imag.square()).clamp(min=EPS).sqrt()  # (bins, frames)
        yield found if bands is None else bands @ found


@lru_cache(maxsize=8)
def _mel_bands(sample_rate_hz: int) -> torch.Tensor:
    """(bands, bins): Slaney's scale and norm, from 0 to half the rate, as librosa has them by default."""
    banks = melscale_fbanks(
        MEL.transform // 2 + 1, 0.0, sample_rate_hz / 2, MEL_BANDS, sample_rate_hz, norm="slaney", mel_scale="slaney"
    )
    bands: torch.Tensor = banks.T.contiguous()
    return bands


def _read(store: Store, audio: ArtifactRef) -> tuple[Samples, int]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = store.blobs.fetch(audio, Path(folder), read_only=True)
            samples, rate = read_audio(path, max_duration_s=MAX_DURATION_S)
        except AudioError as error:
            raise InvalidRequest(str(error), reason="AUDIO_INVALID") from error
    if len(samples) < MIN_DURATION_S * rate:
        text = f"{audio.key} lasts {len(samples) / rate:.2f} s, at least {MIN_DURATION_S} s are needed"
        raise InvalidRequest(text, reason="AUDIO_INVALID")
    return samples, rate

"""Acousticness, instrumentalness and valence as heard by vibenet (J. Shim 2025), an extra of this project.

A network distilled on the Free Music Archive, whose values follow those that the Echo Nest, later Spotify, gave to
songs: acousticness and instrumentalness are likelihoods, valence a degree, all 0..1. Of its package only the ONNX file
is read (GPL-3.0-or-later), after its digest was checked; the mel spectrogram before it is built here, equal to
librosa's. It is asked about music only, brought to one level: to silence it gives half of everything, and what it says
of singing falls with the level.
"""

from functools import cache
from itertools import pairwise
from typing import Any, Final

import numpy as np

from luthier.common.v1.common_pb2 import FACT_SOURCE_AUDIO
from luthier_analysis.extra import VIBENET, NoEstimate, identity, shipped
from luthier_analysis.facts import Descriptor
from luthier_analysis.sound import ESSENTIA_RATE_HZ, Sound
from luthier_music.audio_rate import resampled

WEIGHTS: Final = "vibenet/artifacts/efficientnet_model.onnx"
WEIGHTS_SHA256: Final = "efa88450153863a1461989a00846526ac9230665b19fbf82f33e46fdeef7d275"
OUTPUTS: Final = ("acousticness", "danceability", "energy", "instrumentalness", "liveness", "speechiness", "valence")
USED: Final = ("acousticness", "instrumentalness", "valence")
LIKELIHOODS: Final = ("acousticness", "instrumentalness", "liveness")  # come as logits

RATE_HZ: Final = 16_000
WINDOW, HOP, FFT = 640, 320, 1024  # samples
MELS: Final = 128
MAX_HZ: Final = 8_000.0
RANGE_DB: Final = 80.0
LEVEL: Final = 10 ** (-16 / 20)  # RMS of mastered music, which it was trained on
MIN_S: Final = 2.0
PIECE_S: Final = 30.0  # the length of the clips that it was trained on


def measure(sound: Sound) -> tuple[Descriptor, ...]:
    """The means over pieces of about PIECE_S; empty for silence and what is too short. Raises NoEstimate."""
    session = _session()
    if sound.duration_s < MIN_S or sound.mostly_silent:
        return ()
    signal = resampled(sound.mono, ESSENTIA_RATE_HZ, RATE_HZ)
    signal = signal * np.float32(LEVEL / np.sqrt(np.mean(np.square(signal, dtype=np.float64))))
    count = max(1, round(len(signal) / RATE_HZ / PIECE_S))
    edges = np.linspace(0, len(signal), count + 1).astype(int).tolist()
    heard = np.mean([_values(session, signal[first:last]) for first, last in pairwise(edges)], axis=0)
    return tuple(
        Descriptor(name, round(float(value), 4), f"vibenet/{identity(VIBENET)}", FACT_SOURCE_AUDIO)
        for name, value in zip(OUTPUTS, heard, strict=True)
        if name in USED
    )


def _values(session: Any, signal: np.ndarray) -> np.ndarray:
    """(7,) of OUTPUTS, 0..1."""
    (logits,) = session.run(None, {"x": log_mel(signal)[None]})  # (1, 7)
    is_likelihood = np.isin(OUTPUTS, LIKELIHOODS)
    values: np.ndarray = np.where(is_likelihood, 1 / (1 + np.exp(-logits[0])), np.clip(logits[0], 0, 1))
    return values


def log_mel(signal: np.ndarray) -> np.ndarray:
    """(n,) samples at RATE_HZ, a WINDOW at least, to (MELS, frames) dB, at most RANGE_DB below the loudest."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
    spectra = np.fft.rfft(frames * window, n=FFT, axis=1)
    power = (spectra.real**2 + spectra.imag**2).astype(np.float32) @ _mel_bands()
    decibels = 10 * np.log10(np.maximum(power.T, np.float32(1e-10)))
    floored: np.ndarray = np.maximum(decibels, decibels.max() - np.float32(RANGE_DB))
    return floored


@cache
def _mel_bands() -> np.ndarray:
    """(513, MELS): triangles of unit area on Slaney's mel scale: linear up to 1 kHz, logarithmic above."""
    step_hz, break_mel, log_step = 200 / 3, 15.0, np.log(6.4) / 27
    top_mel = break_mel + np.log(MAX_HZ / 1000) / log_step
    mels = np.linspace(0, top_mel, MELS + 2)
    edges = np.where(mels < break_mel, mels * step_hz, 1000 * np.exp(log_step * (mels - break_mel)))
    hertz = np.fft.rfftfreq(FFT, 1 / RATE_HZ)[:, None]
    rising = (hertz - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - hertz) / np.diff(edges)[1:]
    bands: np.ndarray = np.clip(np.minimum(rising, falling), 0, None) * 2 / (edges[2:] - edges[:-2])
    return bands.astype(np.float32)


@cache
def _session() -> Any:
    """The network, on one thread."""
    try:
        import onnxruntime
    except ImportError as error:
        raise NoEstimate("the extra 'vibenet' is not installed") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(shipped(VIBENET, WEIGHTS, WEIGHTS_SHA256), options)

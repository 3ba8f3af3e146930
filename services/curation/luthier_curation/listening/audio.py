"""Sounds of a listening test: copies that outlive generated audio and tell nothing of their maker, and the anchor.

A copy has the samples and no metadata: content credentials, which generated files carry, name the model. Both are
actions, so that a takedown of the source reaches them, and `gc` keeps them as it keeps what any record names.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from scipy.signal import firwin, kaiser_beta, oaconvolve

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.listening_pb2 import KeptStimulus
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Action, Store
from luthier_music.audio import AudioError, Samples, audio_info, peak, read_audio, write_audio
from luthier_music.loudness import integrated_loudness_lufs

KIND: Final = "listening"
VERSION: Final = "1"
MAX_BYTES: Final = 256 << 20
DURATION_S: Final = (0.1, 300.0)
SAMPLE_RATE_HZ: Final = (16_000, 96_000)
MAX_CHANNELS: Final = 2

PASSBAND_HZ: Final = 3500.0
STOPBAND_HZ: Final = 4000.0
STOPBAND_DB: Final = 60.0
"""BS.1534-3 asks of the anchor's filter at most 0.1 dB of ripple up to 3.5 kHz, 25 dB of attenuation at 4 kHz and 50 dB
at 4.5 kHz: 60 dB from 4 kHz on is both, and a Kaiser window gives the same ripple, 0.009 dB, below."""


def keep(store: Store, source: ArtifactRef, loudness_lufs: float | None, scratch: Path | None) -> KeptStimulus:
    """The copy of a sound, at `loudness_lufs` (BS.1770-4; None = as it is) or as loud as its peaks allow.

    16-bit FLAC at the source's own rate. Condition and role are the caller's to set. NotFound for audio that is not
    there, InvalidRequest for what is none or is beyond a bound.
    """

    def copied() -> KeptStimulus:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            path = store.blobs.fetch(source, Path(folder), max_bytes=MAX_BYTES, read_only=True)
            samples, rate = _read(path)
        return _stored(store, samples, rate, _gain(samples, rate, loudness_lufs), scratch)

    parameters = {"loudness_lufs": loudness_lufs}
    return _run(store, Action("listening-sound", [source.sha256], parameters, version=VERSION), copied)


def anchor(store: Store, reference: KeptStimulus, scratch: Path | None) -> KeptStimulus:
    """The low anchor of BS.1534-3: the kept reference through a low-pass of 3.5 kHz, in time with it."""

    def filtered() -> KeptStimulus:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            samples, rate = _read(store.blobs.fetch(reference.audio, Path(folder), read_only=True))
        low = low_passed(samples, rate)
        return _stored(store, low, rate, min(1.0, 1.0 / max(peak(low), 1.0)), scratch)

    return _run(store, Action("listening-anchor", [reference.audio.sha256], version=VERSION), filtered)


def low_passed(samples: Samples, sample_rate_hz: int) -> Samples:
    """Samples [frames, channels] below 3.5 kHz: a linear-phase filter, its delay taken out."""
    width = (STOPBAND_HZ - PASSBAND_HZ) / sample_rate_hz
    taps = int(np.ceil((STOPBAND_DB - 7.95) / (14.36 * width))) | 1  # Kaiser's formula; odd, so that the delay is whole
    middle_hz = (PASSBAND_HZ + STOPBAND_HZ) / 2
    kernel = firwin(taps, middle_hz, window=("kaiser", kaiser_beta(STOPBAND_DB)), fs=sample_rate_hz)
    kernel = kernel.astype(np.float32)  # of double precision it would have all samples double
    padded = np.pad(samples, ((taps // 2, taps // 2), (0, 0)))
    return np.asarray(oaconvolve(padded, kernel[:, np.newaxis], mode="valid", axes=0), dtype=np.float32)


def _run(store: Store, action: Action, compute: Callable[[], KeptStimulus]) -> KeptStimulus:
    kept, _ = store.actions.run(action, KeptStimulus, compute)
    return kept


def _read(path: Path) -> tuple[Samples, int]:
    """Samples of a file within the bounds, which are looked at before anything is decoded."""
    low_s, high_s = DURATION_S
    try:
        info = audio_info(path)
        if not 1 <= info.channels <= MAX_CHANNELS:
            raise AudioError(f"must have 1 or {MAX_CHANNELS} channels, got {info.channels}")
        if not SAMPLE_RATE_HZ[0] <= info.sample_rate_hz <= SAMPLE_RATE_HZ[1]:
            raise AudioError(f"must have a sample rate of {SAMPLE_RATE_HZ[0]} to {SAMPLE_RATE_HZ[1]} Hz")
        if not low_s <= info.duration_s <= high_s:
            raise AudioError(f"must be {low_s:g} to {high_s:g} s long, got {info.duration_s:.2f} s")
        return read_audio(path, max_duration_s=high_s)
    except AudioError as error:
        raise InvalidRequest(f"the audio of a listening test: {error}", reason="AUDIO_UNUSABLE") from error


def _gain(samples: Samples, sample_rate_hz: int, loudness_lufs: float | None) -> float:
    """What makes samples as loud as asked, never so that they clip."""
    highest = peak(samples)
    most = 1.0 / highest if highest else 1.0
    found = integrated_loudness_lufs(samples, sample_rate_hz)
    if loudness_lufs is None or not np.isfinite(found):
        return min(1.0, most)
    return min(float(10 ** ((loudness_lufs - found) / 20)), most)


def _stored(store: Store, samples: Samples, rate: int, gain: float, scratch: Path | None) -> KeptStimulus:
    loudness = integrated_loudness_lufs(samples * np.float32(gain), rate)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / "sound.flac"
        write_audio(path, samples, rate, gain=gain * (1 - 1e-7) if gain != 1 else 1.0)  # 1 / peak may round to above 1
        audio = store.blobs.move_file(KIND, path, media_type="audio/flac")
    return KeptStimulus(
        audio=audio,
        channels=samples.shape[1],
        duration_s=len(samples) / rate,
        loudness_lufs=loudness if np.isfinite(loudness) else None,
    )

"""Generated samples to a file, and an init audio file to samples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import torch

from luthier_kit.rpc import InvalidRequest
from luthier_model.generation import Samples
from luthier_music.audio import AudioError, read_audio
from luthier_music.audio_rate import resampled


@dataclass(frozen=True)
class Format:
    """A way to store audio. `integer` formats end at full scale: what is beyond is clipped."""

    extension: str
    media_type: str
    container: str
    subtype: str
    integer: bool


FLAC: Final = "flac"
WAV: Final = "wav"
WAV_FLOAT: Final = "wav-float"
FORMATS: Final = {
    FLAC: Format("flac", "audio/flac", "FLAC", "PCM_16", True),
    WAV: Format("wav", "audio/wav", "WAV", "PCM_16", True),
    WAV_FLOAT: Format("wav", "audio/wav", "WAV", "FLOAT", False),
}


def peak_dbfs(samples: Samples) -> float:
    """Sample peak in dB over full scale, before any clipping; -200 for silence."""
    peak = float(np.abs(samples).max(initial=0.0))
    return max(20 * float(np.log10(peak)), -200.0) if peak > 0 else -200.0


def write(folder: Path, samples: Samples, sample_rate_hz: int, output_format: str) -> Path:
    """Writes `audio.<extension>` into `folder`. Integer formats clip, they are never scaled: levels stay comparable."""
    form = FORMATS[output_format]
    path = folder / f"audio.{form.extension}"
    written = samples.clip(-1.0, 1.0) if form.integer else samples
    soundfile.write(path, written, sample_rate_hz, form.subtype, format=form.container)
    return path


def read(path: Path, sample_rate_hz: int, channels: int, length: int) -> torch.Tensor:
    """The first `length` samples as (1, channels, length) at the rate asked for, padded with silence.

    InvalidRequest INIT_AUDIO_UNREADABLE when it is no audio, or holds none.
    """
    try:
        found, rate_hz = read_audio(path, duration_s=length / sample_rate_hz)
        if not len(found):
            raise AudioError(f"{path.name} holds no sound")
    except AudioError as error:
        violations = [("init_audio", str(error))]
        raise InvalidRequest(reason="INIT_AUDIO_UNREADABLE", violations=violations) from None
    if found.shape[1] != channels:
        found = found.mean(axis=1, keepdims=True).repeat(channels, axis=1)  # (samples, channels)
    sound = torch.from_numpy(resampled(found, rate_hz, sample_rate_hz)[:length].T.copy())  # (channels, samples)
    return torch.nn.functional.pad(sound, (0, length - sound.shape[1])).unsqueeze(0)

"""Clips as the model takes them: its sample rate and its channels."""

from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.functional import resample

from luthier_kit.rpc import InvalidRequest
from luthier_model.configuration import Configuration

REASON = "AUDIO_INVALID"
MAX_CLIP_S = 3600.0


def read(path: Path, configuration: Configuration) -> torch.Tensor:
    """A clip as (channels, samples) float32 at the model's rate; a clip of another number of channels becomes mono
    on all of them. InvalidRequest AUDIO_INVALID when it is not audio, is empty or lasts longer than MAX_CLIP_S.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if not 0 < file.frames <= MAX_CLIP_S * file.samplerate:
                text = (
                    f"a clip must last more than 0 and at most {MAX_CLIP_S:g} s, {path.name} has {file.frames} frames"
                )
                raise InvalidRequest(text, reason=REASON)
            samples, rate_hz = file.read(dtype="float32", always_2d=True), file.samplerate  # (frames, channels)
    except soundfile.SoundFileError:
        raise InvalidRequest(f"{path.name} is not readable audio", reason=REASON) from None
    if not np.isfinite(samples).all():
        raise InvalidRequest(f"{path.name} holds samples that are not finite", reason=REASON)
    audio = torch.from_numpy(samples.T.copy())  # (channels, frames)
    if audio.shape[0] != configuration.channels:
        audio = audio.mean(0, keepdim=True).expand(configuration.channels, -1)
    resampled: torch.Tensor = resample(audio, rate_hz, configuration.sample_rate_hz)
    return resampled

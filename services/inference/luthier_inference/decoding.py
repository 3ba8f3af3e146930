"""Job of the process that decodes files that are looked into: it imports neither torch nor the service."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from luthier_music.audio import AudioError, read_audio

MAX_HEARD_S: Final = 600.0
"""Of a sound that is listened to, from its beginning."""
_PEAK: Final = 0.5  # that a sound is brought to


@dataclass(frozen=True)
class Decoded:
    """A sound in a WAV file of floats; `cut`: the rest of it was left out. `fault`: why there is none, else empty."""

    cut: bool = False
    fault: str = ""


def decode(path: Path, target: Path) -> Decoded:
    """Writes the sound of a file as WAV of floats."""
    try:
        samples, rate_hz = read_audio(path, duration_s=MAX_HEARD_S)
        with soundfile.SoundFile(path) as file:
            cut = file.frames > len(samples)
    except AudioError as error:
        return Decoded(fault=str(error))
    peak = float(np.abs(samples).max(initial=0.0))
    if not peak:
        return Decoded(fault="it is silent")
    soundfile.write(target, samples * np.float32(_PEAK / peak), rate_hz, format="WAV", subtype="FLOAT")
    return Decoded(cut)

"""How loud a stretch of a 16-bit WAV file is: enough to see whether a model stops when it should."""

import array
import math
import wave
from pathlib import Path

FLOOR_DB = -120.0


def level_dbfs(path: Path, start_s: float, end_s: float | None = None) -> float:
    """RMS level of a span in dBFS over all channels; digital silence and an empty span are FLOOR_DB."""
    with wave.open(str(path)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        samples = array.array("h", file.readframes(file.getnframes()))
    last = None if end_s is None else round(end_s * rate) * channels
    span = samples[round(start_s * rate) * channels : last]
    power = sum(sample * sample for sample in span) / len(span) / 32768**2 if span else 0.0
    return max(FLOOR_DB, 10 * math.log10(power)) if power else FLOOR_DB

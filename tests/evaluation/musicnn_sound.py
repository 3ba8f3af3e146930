"""The sound of which `tests/bench/musicnn_reference.py` keeps what the published code makes of it."""

import numpy as np
from numpy.typing import NDArray


def reference_sound() -> NDArray[np.float32]:
    """5 s at 16 kHz: a rising tone, a plucked one twice a second, and noise that comes and goes."""
    seconds = np.arange(16_000 * 5) / 16_000
    noise = np.random.default_rng(0).standard_normal(seconds.size)
    rising = 0.2 * np.sin(2 * np.pi * (200 + 300 * seconds) * seconds)
    plucked = 0.3 * np.sin(2 * np.pi * 220 * seconds) * np.exp(-6 * (seconds % 0.5))
    return (rising + plucked + 0.03 * noise * (np.sin(2 * np.pi * seconds) > 0)).astype(np.float32)

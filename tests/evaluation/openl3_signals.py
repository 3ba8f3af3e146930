"""Weights and signals by numpy's RandomState, whose numbers never change: of `openl3_golden.py` and its test."""

from typing import Final

import numpy as np

HIGH_BANDS: Final = 5
"""Of the 256 mel bands, those of which the lower end is above 22.05 kHz."""


def network_tensors() -> dict[str, np.ndarray]:
    """OpenL3's tensors by our names, as large as trained ones: the mel spectrogram lies between -80 and 0 dB."""
    draw = np.random.RandomState(7)
    channels = (1, 64, 64, 128, 128, 256, 256, 512, 512)
    found: dict[str, np.ndarray] = {}
    for place in range(1, 9):
        before, after = channels[place - 1], channels[place]
        norm = f"batch_normalization_{place}"
        found[f"{norm}.weight"] = draw.uniform(0.5, 1.5, before)
        found[f"{norm}.bias"] = 0.1 * draw.standard_normal(before)
        found[f"{norm}.running_mean"] = 0.1 * draw.standard_normal(before) - (30 if place == 1 else 0)
        found[f"{norm}.running_var"] = draw.uniform(0.5, 1.5, before) * (400 if place == 1 else 1)
        name = f"conv2d_{place}" if place < 8 else "audio_embedding_layer"
        found[f"{name}.weight"] = draw.standard_normal((after, before, 3, 3)) * np.sqrt(2 / (9 * before))
        found[f"{name}.bias"] = 0.1 * draw.standard_normal(after)
    return {name: value.astype(np.float32) for name, value in found.items()}


def windows() -> np.ndarray:
    """Two windows (2, 48000) at 48 kHz, with something in every mel band."""
    draw, t = np.random.RandomState(3), np.arange(48_000) / 48_000
    sweep = 0.4 * np.sin(2 * np.pi * (200 + 400 * t) * t) + 0.05 * draw.standard_normal(t.size)
    burst = 0.3 * np.sign(np.sin(2 * np.pi * 110 * t)) * np.exp(-3 * t) + 0.02 * draw.standard_normal(t.size)
    return np.stack([sweep, burst]).astype(np.float32)


def stereo() -> np.ndarray:
    """0.7 s (frames, 2) at 44.1 kHz, the highest sample at -1 dBFS."""
    draw, t = np.random.RandomState(4), np.arange(int(0.7 * 44_100)) / 44_100
    left = 0.4 * np.sin(2 * np.pi * (200 + 400 * t) * t) + 0.05 * draw.standard_normal(t.size)
    right = 0.3 * np.sign(np.sin(2 * np.pi * 110 * t)) + 0.02 * draw.standard_normal(t.size)
    both = np.stack([left, right], axis=1).astype(np.float32)
    return (both * np.float32(10 ** (-1 / 20)) / np.abs(both).max()).astype(np.float32)

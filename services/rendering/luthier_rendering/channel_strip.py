"""Volume, expression and pan for instruments that ignore them: what a mixer's channel does, from the controllers.

Amplitude is the square of volume/127 times expression/127 (40 log10, General MIDI level 1 recommended practice);
pan keeps constant power, 64 is the middle.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_music.audio import SAMPLE_RATE_HZ, Samples
from luthier_rendering import smf
from luthier_rendering.performance import Message

VOLUME, PAN, EXPRESSION = 7, 10, 11
STRIP_CONTROLS: Final = (VOLUME, PAN, EXPRESSION)
_DEFAULTS: Final = {VOLUME: 100, PAN: 64, EXPRESSION: 127}
_RAMP_FRAMES: Final = 220  # 5 ms, so that a jump does not click


def channel_strip(samples: Samples, messages: list[Message]) -> Samples:
    """Apply the controllers among `messages` to samples [frames, 2], in place; volume 100 leaves them alone."""
    moves = [(seconds, first, value) for seconds, kind, first, value in messages if kind == smf.CONTROL]
    points = _points([move for move in moves if move[1] in STRIP_CONTROLS])
    frames = samples.shape[0]
    starts = [min(round(seconds * SAMPLE_RATE_HZ), frames) for seconds, _ in points] + [frames]
    before = points[0][1]
    for (_, gains), start, stop in zip(points, starts, starts[1:], strict=False):
        ramp = min(start + _RAMP_FRAMES, stop)
        if ramp > start:
            share = (np.arange(1, ramp - start + 1, dtype=np.float32) / _RAMP_FRAMES)[:, np.newaxis]
            samples[start:ramp] *= before + share * (gains - before)
            samples[ramp:stop] *= gains
            before = gains
    return samples


def _points(moves: list[tuple[float, int, int]]) -> list[tuple[float, NDArray[np.float32]]]:
    """(seconds, gains [left, right]) from which on they hold; the first at 0, one per moment."""
    state = dict(_DEFAULTS)
    points = {0.0: _gains(state)}
    for seconds, controller, value in moves:
        state[controller] = value
        points[seconds] = _gains(state)
    return list(points.items())


def _gains(state: dict[int, int]) -> NDArray[np.float32]:
    amplitude = (state[VOLUME] / 100.0 * state[EXPRESSION] / 127.0) ** 2
    angle = np.clip((state[PAN] - 1) / 126.0, 0.0, 1.0) * np.pi / 2
    return (amplitude * np.sqrt(2.0) * np.array([np.cos(angle), np.sin(angle)])).astype(np.float32)

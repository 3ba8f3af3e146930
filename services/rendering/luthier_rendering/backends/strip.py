"""The channel strip that every back end's samples go through: levels, and what an instrument itself cannot do."""

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_music.audio import SAMPLE_RATE_HZ, Samples
from luthier_music.native import read_warped
from luthier_rendering.performance import Gain, Message
from luthier_rendering.smf import BEND

RAMP_FRAMES: Final = 220  # 5 ms, so that a jump does not click
_OVERSAMPLED: Final = 4  # linear interpolation of four times as many samples leaves an error below -70 dB up to 10 kHz

_PIECE_FRAMES: Final = 1 << 18  # of music: 6 s
_REACH_FRAMES: Final = 10  # of that filter, to each side
_MARGIN_FRAMES: Final = 64  # more than the interpolation filter reaches: a piece's own edges are not read


def apply_gains(samples: Samples, gains: Sequence[Gain]) -> Samples:
    """Samples [frames, 2] times their gains, in place; the last of several at one moment holds, each after a ramp, or
    as far as its ramp comes until the next one."""
    points = {0.0: np.ones(2, np.float32)}
    points |= {one.seconds: np.array([one.left, one.right], np.float32) for one in gains}
    frames = samples.shape[0]
    starts = [min(round(seconds * SAMPLE_RATE_HZ), frames) for seconds in points] + [frames]
    before = points[0.0]
    for now, start, stop in zip(points.values(), starts, starts[1:], strict=False):
        ramp = min(start + RAMP_FRAMES, stop)
        if ramp > start:
            share = (np.arange(1, ramp - start + 1, dtype=np.float32) / RAMP_FRAMES)[:, np.newaxis]
            samples[start:ramp] *= before + share * (now - before)
            for side in range(2):  # a stride of two is fast for numpy, a row of two samples is not
                if now[side] != 1.0:
                    samples[ramp:stop, side] *= now[side]
            before = now if ramp - start == RAMP_FRAMES else before + share[-1] * (now - before)
    return samples


class Bend:
    """Pitch bend for instruments that have none: they play along a warped time, and their samples are read along it.

    Where all keys shall sound s semitones higher, the instrument plays slower by 2 ** (s / 12) and is read as much
    faster: notes keep their times, and the pitch moves.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        moves = {message.seconds: message.value for message in messages if message.kind == BEND}
        self.needed = any(moves.values())
        self._times = np.array([0.0, *moves]) if 0.0 not in moves else np.array([*moves])
        rates = 2.0 ** (np.array([0.0] * (0.0 not in moves) + [*moves.values()]) / 12)
        self._rates: NDArray[np.float64] = rates
        self._warped = np.concatenate([[0.0], np.cumsum(np.diff(self._times) * rates[:-1])])

    def warped_s(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where in the instrument's time moments of the music lie, in seconds."""
        piece = np.searchsorted(self._times, seconds, side="right") - 1
        found: NDArray[np.float64] = self._warped[piece] + (seconds - self._times[piece]) * self._rates[piece]
        return found

    def read(self, played: Samples, frames: int) -> Samples:
        """Samples [frames, 2] of the music from what was played in the instrument's time [any, 2], piece by piece."""
        out = np.zeros((frames, 2), np.float32)
        for first in range(0, frames, _PIECE_FRAMES):
            last = min(first + _PIECE_FRAMES, frames)
            at = self.warped_s(np.arange(first, last) / SAMPLE_RATE_HZ) * SAMPLE_RATE_HZ  # in samples of `played`
            begin = max(0, int(at[0]) - _MARGIN_FRAMES)
            piece = played[begin : int(at[-1]) + _MARGIN_FRAMES]
            if not piece.size:
                break  # nothing was played so late
            out[first:last] = read_warped(piece, _phases(), (at - begin) * _OVERSAMPLED)
        return out


@cache
def _phases() -> NDArray[np.float32]:
    """The filter of `resample_poly`, as what it makes of one sample: of each place between two samples [4], what the
    samples around it weigh [21], the oldest first."""
    from scipy.signal import resample_poly

    impulse = np.zeros(2 * _REACH_FRAMES + 1, np.float32)
    impulse[_REACH_FRAMES] = 1.0
    response = resample_poly(impulse, _OVERSAMPLED, 1)  # [4 * 21]: the latest place of a sample has its first weight
    phases: NDArray[np.float32] = response.reshape(-1, _OVERSAMPLED).T[:, ::-1]
    return phases

"""Ticks to seconds: the tempo map of a MIDI file as a piecewise linear function."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEFAULT_US_PER_BEAT = 500_000  # 120 BPM, what a file without a tempo means
MAX_TEMPO_BPM = 1000.0


@dataclass(frozen=True)
class TempoMap:
    """From `ticks[i]` on a beat lasts `us_per_beat[i]`; `seconds[i]` is when that begins. ticks[0] is 0."""

    ticks_per_beat: int
    ticks: NDArray[np.int64]
    seconds: NDArray[np.float64]
    us_per_beat: NDArray[np.int64]

    def to_seconds(self, ticks: ArrayLike) -> NDArray[np.float64]:
        """Seconds of ticks (0 or more), any shape."""
        at = np.asarray(ticks, dtype=np.int64)
        piece = np.searchsorted(self.ticks, at, side="right") - 1
        return self.seconds[piece] + (at - self.ticks[piece]) * self._seconds_per_tick()[piece]

    @property
    def tempos_bpm(self) -> NDArray[np.float64]:
        return 60e6 / self.us_per_beat

    def _seconds_per_tick(self) -> NDArray[np.float64]:
        return self.us_per_beat / (1e6 * self.ticks_per_beat)


def tempo_map(ticks_per_beat: int, changes: list[tuple[int, int]]) -> TempoMap:
    """From (tick, microseconds per beat) in order; of several at one tick the last holds, repeats are dropped."""
    steps: dict[int, int] = {0: DEFAULT_US_PER_BEAT}
    steps.update(changes)
    kept = sorted(steps.items())
    kept = [kept[0], *(b for a, b in pairwise(kept) if a[1] != b[1])]
    ticks = np.array([tick for tick, _ in kept], dtype=np.int64)
    us = np.array([us for _, us in kept], dtype=np.int64)
    spans = np.diff(ticks) * us[:-1] / (1e6 * ticks_per_beat)
    return TempoMap(ticks_per_beat, ticks, np.concatenate([[0.0], np.cumsum(spans)]), us)

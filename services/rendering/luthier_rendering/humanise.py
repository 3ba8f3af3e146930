"""Notes as a person plays them: each a little early or late, louder or softer, drawn within stated bounds.

The notes of one key keep their order and never run into each other. No note crosses a *wall*: the bar lines, at which
clips are cut, and the moments at which its part is bent, comes from silence or is silenced. So every fact that the
timeline states of a bar stays true; a note lies at most MAX_TIMING_MS beside where the timeline has it.
"""

import random
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_TIMING_MS: Final = 20.0  # two onsets 30 ms apart begin to be heard as two (Hirsh 1959 has 20 ms for their order)
MAX_VELOCITY: Final = 20.0
_SHARE: Final = 0.49  # of the way to a neighbour on the same key: both may move
_WALL_S: Final = 1e-6  # how far before a wall a note stays
_FAR_S: Final = 1e12  # later than anything, and finite


@dataclass(frozen=True)
class Humanise:
    """Largest move of a note in milliseconds, 0 to 20, and largest change of a velocity, 0 to 20; uniform."""

    timing_ms: float = 0.0
    velocity: float = 0.0

    def __bool__(self) -> bool:
        return self.timing_ms > 0 or self.velocity > 0


@dataclass(frozen=True)
class Played:
    """Notes as columns [n]: start and end in seconds, velocity 1..127."""

    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    velocity: NDArray[np.int64]


def humanised(
    notes: Played, keys: NDArray[np.int64], walls_s: NDArray[np.float64], humanise: Humanise, seed: int, part: int
) -> Played:
    """Notes [n] of one part, moved; `keys` [n] are theirs, `walls_s` the moments that no start crosses, any order.

    A part's draws depend on the seed, its number and its notes alone: not on what else plays.
    """
    draw = random.Random(f"{seed}/{part}/humanise")
    draws = np.array([(draw.uniform(-1, 1), draw.uniform(-1, 1)) for _ in range(keys.size)]).reshape(-1, 2)
    velocity = np.clip(np.rint(notes.velocity + draws[:, 1] * humanise.velocity), 1, 127).astype(np.int64)
    reach_s = humanise.timing_ms / 1000
    if reach_s == 0:
        return Played(notes.starts_s, notes.ends_s, velocity)
    order = np.lexsort((notes.starts_s, keys))
    starts, ends, key = notes.starts_s[order], notes.ends_s[order], keys[order]
    followed = np.append(key[:-1] == key[1:], False)[: key.size]  # by another note of the same key
    gap = np.where(followed, np.append(starts[1:], _FAR_S)[: key.size] - starts, _FAR_S)
    before = np.append(_FAR_S, gap)[:-1]  # gaps of the last note of another key are infinite
    walls = np.unique(np.concatenate([[0.0], walls_s]))
    place = np.searchsorted(walls, starts, side="right")
    last_wall, next_wall = walls[place - 1], np.append(walls, _FAR_S)[place]
    low = np.maximum.reduce([np.full(key.size, -reach_s), -_SHARE * before, last_wall - starts])
    high = np.minimum.reduce([np.full(key.size, reach_s), _SHARE * gap, next_wall - _WALL_S - starts])
    moves = np.clip(draws[order, 0] * reach_s, np.minimum(low, 0), np.maximum(high, 0))
    moved = starts + moves
    following = np.append(moved[1:], _FAR_S)[: key.size]
    until = ends + moves
    overlapping = followed & (ends > starts + gap)
    until = np.where(followed & ~overlapping, np.minimum(until, following), until)
    # a note that was let go after its key was struck again still is
    until = np.where(overlapping, np.maximum(until, following + np.minimum(ends - starts - gap, _WALL_S)), until)
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    return Played(moved[back], until[back], velocity)

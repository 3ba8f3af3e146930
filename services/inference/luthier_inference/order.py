"""Who goes next, and when each will be ready: the rules of the step scheduler, without a clock or a device.

A request's *slowdown* is how many times longer it takes than alone: the time since it came and what it still needs,
over what it needs in all ("stretch" in Bender, Chakrabarti and Muthukrishnan 1998, "Flow and Stretch Metrics for
Scheduling Continuous Job Streams"). The request with the largest goes next, so that all are slowed down alike: a short
one waits in proportion to its own length, not to that of the long one before it, and the longer a request waits the
sooner it is its turn.

A request that would otherwise miss its deadline goes before, the least slack first, but not before one that is slowed
down MAX_SLOWDOWN times already: nobody starves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

MAX_SLOWDOWN: Final = 20.0
URGENT_SHARE: Final = 0.1  # of what a request needs in all: with less slack than this it is urgent
SHORTEST_S: Final = 0.01  # a request is taken to need at least this, so that trifles do not outrank everything
SLICES: Final = 256  # of everything that is to be done, in an estimate


@dataclass(frozen=True)
class Load:
    """What a request is to the device. Times in seconds; `came` and `deadline` by one clock, no deadline = infinite.

    `began`: it has latents on the device. As many as there are slots may begin, the others wait.
    """

    came: float
    total_s: float
    left_s: float
    deadline: float = math.inf
    began: bool = False

    def slowdown(self, now: float) -> float:
        """How many times longer it takes than alone, were it to run alone from now on; 1 or more."""
        return (now - self.came + max(self.left_s, SHORTEST_S)) / max(self.total_s, SHORTEST_S)

    def rank(self, now: float) -> tuple[int, float]:
        """Sorts requests: the smallest goes first."""
        slowdown = self.slowdown(now)
        if slowdown >= MAX_SLOWDOWN:
            return 0, -slowdown
        slack = self.deadline - now - self.left_s
        if slack < URGENT_SHARE * max(self.total_s, SHORTEST_S):
            return 1, slack
        return 2, -slowdown


def in_order(loads: Sequence[Load], now: float, slots: int) -> list[int]:
    """Places of those that may go now, the first first: all that began, and as many others as there are slots left."""
    room = slots - sum(load.began for load in loads)
    chosen = []
    for at in sorted(range(len(loads)), key=lambda at: loads[at].rank(now)):
        if loads[at].began:
            chosen.append(at)
        elif room > 0:
            chosen.append(at)
            room -= 1
    return chosen


def ready_times(loads: Sequence[Load], now: float, slots: int) -> list[float]:
    """When each is ready if nobody else comes, one request at a time: an upper bound where requests share passes."""
    left, ready = list(loads), [now] * len(loads)
    slice_s = max(sum(load.left_s for load in loads) / SLICES, 1e-6)
    going = {at for at, load in enumerate(loads) if load.left_s > 0}
    while going:
        places = sorted(going)
        at = places[in_order([left[place] for place in places], now, slots)[0]]
        spent = min(slice_s, left[at].left_s)
        now += spent
        left[at] = replace(left[at], left_s=left[at].left_s - spent, began=True)
        if left[at].left_s <= 1e-9:  # rounding
            going.discard(at)
            ready[at] = now
    return ready

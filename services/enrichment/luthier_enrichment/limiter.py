"""A token bucket: so many calls per second, for all threads of a process together.

Last.fm and MusicBrainz count calls by the caller's address, which all workers of a cluster may share. Each worker takes
its share of the rate. That needs no store of its own and no call to one, and cannot exceed the rate on average; what it
wastes is the share of a worker that has nothing to ask. More workers than one are there for availability: the rate is
the address's, whatever their number.
"""

import threading
import time


class TokenBucket:
    """Holds at most `burst` tokens and gains `rate_hz` per second; of both its share where `workers` divide them."""

    def __init__(self, rate_hz: float, burst: int = 1, workers: int = 1) -> None:
        self._interval_s = workers / rate_hz
        self._burst = burst = max(1, burst // workers)
        self._lock = threading.Lock()
        self._next_s = time.monotonic() - (burst - 1) * self._interval_s

    def take(self, wait_at_most_s: float) -> bool:
        """Waits for a token; False, at once, when none comes within that time."""
        with self._lock:
            now = time.monotonic()
            due = max(self._next_s, now - (self._burst - 1) * self._interval_s)
            if due - now > wait_at_most_s:
                return False
            self._next_s = due + self._interval_s
        time.sleep(max(0.0, due - now))
        return True

    def pause(self, seconds: float) -> None:
        """Gives out nothing for a while: the other side said that it is too much."""
        with self._lock:
            self._next_s = max(self._next_s, time.monotonic() + seconds)

"""A token bucket: so many calls per second, for all threads of the process together."""

import threading
import time


class TokenBucket:
    """Holds at most `burst` tokens and gains `rate_hz` per second."""

    def __init__(self, rate_hz: float, burst: int = 1) -> None:
        self._interval_s = 1 / rate_hz
        self._burst = burst
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

"""Progress with time to go: one line that is rewritten on a terminal, a line every few seconds elsewhere."""

import sys
import threading
import time

PLAIN_EVERY_S = 10.0
TERMINAL_EVERY_S = 0.2


def clock(seconds: float) -> str:
    """`1:02:03` or `02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


class Progress:
    """Counts work of known weight; the time to go follows from the work done by this process. Thread-safe."""

    def __init__(self, what: str, total: int, weight: float = 0.0) -> None:
        self.what = what
        self.total = total
        self.weight = weight or float(total)
        self.done = 0
        self._worked = 0.0
        self._begun = time.monotonic()
        self._shown_at = 0.0
        self._lock = threading.Lock()
        self._terminal = sys.stderr.isatty()

    def advance(self, weight: float = 1.0, note: str = "") -> None:
        """One more is done."""
        with self._lock:
            self.done += 1
            self._worked += weight
        self.show(note)

    @property
    def eta_s(self) -> float | None:
        """Seconds to go; None before anything is done."""
        if not self._worked:
            return None
        return (time.monotonic() - self._begun) * max(0.0, self.weight - self._worked) / self._worked

    def show(self, note: str = "", *, last: bool = False) -> None:
        """Shows where the work stands, not more often than anyone reads."""
        every_s = TERMINAL_EVERY_S if self._terminal else PLAIN_EVERY_S
        with self._lock:
            if time.monotonic() - self._shown_at < every_s and not last:
                return
            self._shown_at = time.monotonic()
            to_go = "" if last or self.eta_s is None else f", {clock(self.eta_s)} to go"
            spent = clock(time.monotonic() - self._begun)
            text = f"{self.what} {self.done}/{self.total} in {spent}{to_go}{'  ' + note if note else ''}"
            end = "\n" if last or not self._terminal else ""
            sys.stderr.write(f"\r\x1b[K{text[:140]}{end}" if self._terminal else f"{text}\n")
            sys.stderr.flush()

    def finish(self, note: str = "") -> None:
        """The last line."""
        self.show(note, last=True)

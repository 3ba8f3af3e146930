"""What a call costs: CPU seconds, and how far it takes a process's memory beyond what it had (Linux)."""

import gc
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """`seconds` are CPU time of all threads, so that other work on the machine does not count; `peak_bytes` is of
    resident memory, beyond what was resident before."""

    seconds: float
    peak_bytes: int


def cost_of(call: Callable[[], object]) -> Cost:
    """Runs `call` in this process and measures it."""
    gc.collect()
    own = os.getpid()
    _begin_peak(own)
    before, began = _resident(own, "VmRSS"), time.process_time()
    call()
    return Cost(time.process_time() - began, _resident(own, "VmHWM") - before)


class ProcessTree:
    """A process and all that it began: their CPU time and memory, seen from outside."""

    def __init__(self, pid: int) -> None:
        self._root = pid
        self.look()

    def look(self) -> None:
        """Find the processes that are there now."""
        parents = {
            int(entry.name): _parent(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()
        }
        found = [self._root]
        for pid in found:  # grows while it is read
            found += [child for child, parent in parents.items() if parent == pid]
        self._pids = found

    def cpu_of(self, call: Callable[[], T]) -> tuple[float, T]:
        """CPU seconds that the processes take while `call` is done here, to 10 ms, and what it returned.

        Of a process that begins meanwhile they do not count: that is a worker which takes the place of an old one.
        """
        before = {pid: _cpu_s(pid) for pid in self._pids}
        result = call()
        after = {pid: _cpu_s(pid) for pid in self._pids}
        if None in after.values():
            self.look()
        return sum((after[pid] or 0) - (taken or 0) for pid, taken in before.items() if after[pid]), result

    def resident_bytes(self) -> int:
        """Resident memory of all."""
        return sum(_resident(pid, "VmRSS") for pid in self._pids)

    def begin_peak(self) -> None:
        """From now on the peak is counted."""
        for pid in self._pids:
            _begin_peak(pid)

    def peak_bytes(self) -> int:
        """The peaks of all, as if they had been at one time."""
        return sum(_resident(pid, "VmHWM") for pid in self._pids)


def _begin_peak(pid: int) -> None:
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins at what is resident now
    except (FileNotFoundError, ProcessLookupError):
        return


def _resident(pid: int, what: str) -> int:
    """0 for a process that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    return int(found[1]) << 10 if found else 0


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third on: the second may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _cpu_s(pid: int) -> float | None:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else None


def allocated(work: Callable[[], object]) -> int:
    """The most bytes that torch's allocator gave out at a time, beyond what was there."""
    from torch.profiler import ProfilerActivity, profile  # here: not every project that measures has torch

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    most = now = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most

"""What a call costs: seconds, and how far it takes this process's memory beyond what it had."""

import gc
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """`peak_bytes` is of resident memory, beyond what was resident before."""

    seconds: float
    peak_bytes: int


def cost_of(call: Callable[[], object]) -> Cost:
    """Runs `call` and measures it (Linux)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what is resident now
    before, began = _resident("VmRSS"), time.perf_counter()
    call()
    return Cost(time.perf_counter() - began, _resident("VmHWM") - before)


def _resident(what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) << 10

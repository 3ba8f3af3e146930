"""Processes of an earlier `up` whose supervisord is gone: found by the mark in their environment."""

import os
import signal
import time
from pathlib import Path

from luthier_local.programs import MARK


def find(home: Path) -> list[int]:
    """The pids of this user's processes that carry the mark of `home`."""
    mark = f"{MARK}={home}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # another user's, or just gone
            continue
    return sorted(found)


def end(home: Path, grace_s: float) -> list[int]:
    """Ask what `find` names to stop, kill what is left after `grace_s`; returns the pids there were."""
    first = find(home)
    _signal(first, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (left := find(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal(left, signal.SIGKILL)
    return first


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue

"""Processes of an earlier `up` whose supervisord is gone: found by the mark in their environment."""

import os
import signal
import time
from pathlib import Path

from luthier_local.services import MARK

KILLED_S = 10.0
"""How long to wait until the kernel has freed what a killed process held."""


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
    """Stop what `find` names, kill what is left after `grace_s` seconds; returns the pids that were found.

    When it returns, their ports are free.
    """
    first = find(home)
    _signal(first, signal.SIGTERM)
    if left := _left(home, first, grace_s):
        _signal(left, signal.SIGKILL)
        _left(home, left, KILLED_S)
    return first


def _left(home: Path, pids: list[int], within_s: float) -> list[int]:
    """The processes that have not ended in time."""
    deadline = time.monotonic() + within_s
    while (left := sorted({*find(home), *filter(_holds, pids)})) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _holds(pid: int) -> bool:
    """True while a process may hold its ports: its memory, with its environment, is freed before its sockets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue

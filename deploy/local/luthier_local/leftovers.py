"""What killed processes leave behind: processes of an earlier `up` whose supervisord is gone, found by the mark in
their environment; and temporary folders, which their owners would have removed."""

import os
import shutil
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


def sweep(scratch: Path, before: float = float("inf"), keep: str = "") -> None:
    """Remove the temporary folders in a service's scratch folder that were last changed before a time (seconds since
    the epoch). Files stay, and what is named `luthier-…` is kept on purpose: only folders in it are temporary."""
    for folder in (*scratch.glob("*"), *scratch.glob("luthier-*/*")):
        try:
            temporary = folder.is_dir() and not folder.name.startswith("luthier-") and not folder.is_symlink()
            if temporary and folder.stat().st_mtime < before and not (keep and folder.name.startswith(keep)):
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            continue


def started_at(pid: int) -> float:
    """When a process started, seconds since the epoch; 0 when it is gone. See proc(5), field 22 of stat."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return 0.0
    return time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")


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

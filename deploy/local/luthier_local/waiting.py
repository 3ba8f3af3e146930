"""Wait until programs serve, say each as it does, and give up with the log of the one that cannot."""

import time
from collections.abc import Callable
from pathlib import Path

from luthier_local.supervisor import State, Supervisor

CRASHES = 3  # a program that dies this often while it starts will not serve
LAST_LINES = 15
POLL_S = 0.25
SAY_EVERY_S = 10


class StartError(Exception):
    """A program did not come to serve; the message holds the last lines of its log."""


def until_serving(
    supervisor: Supervisor,
    checks: dict[str, Callable[[], bool]],
    timeout_s: float,
    say: Callable[[str], None],
) -> None:
    """Return when every check of {program: check} is true. Raises StartError when one cannot become so."""
    begin = time.monotonic()
    said = begin
    waiting = dict(checks)
    watch = _Crashes()
    while waiting:
        states = supervisor.states()
        for name, check in list(waiting.items()):
            _refuse_dead(name, states[name], watch.count(name, states[name]), supervisor.home.logs)
            if states[name].pid and check():
                del waiting[name]
                say(f"  {name} serves after {time.monotonic() - begin:.0f} s")
        now = time.monotonic()
        if waiting and now - begin > timeout_s:
            name = next(iter(waiting))
            raise StartError(
                f"not serving after {timeout_s:.0f} s: {', '.join(waiting)}\n" + tail(supervisor.home.logs, name)
            )
        if waiting and now - said > SAY_EVERY_S:
            said = now
            say(f"  … {now - begin:.0f} s, waiting for {', '.join(waiting)}")
        time.sleep(POLL_S if waiting else 0)


def tail(logs: Path, name: str, lines: int = LAST_LINES) -> str:
    """The last lines of a program's log, headed by where the rest is."""
    path = logs / f"{name}.log"
    text = path.read_bytes()[-16_384:].decode(errors="replace") if path.exists() else ""
    shown = "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (it wrote nothing)"
    return f"  the end of {path}:\n{shown}"


class _Crashes:
    """Counts how often each program was found with another pid than before."""

    def __init__(self) -> None:
        self.pids: dict[str, set[int]] = {}

    def count(self, name: str, state: State) -> int:
        seen = self.pids.setdefault(name, set())
        if state.pid:
            seen.add(state.pid)
        return len(seen) - 1 if state.pid else len(seen)


def _refuse_dead(name: str, state: State, crashes: int, logs: Path) -> None:
    if state.name == "FATAL" or crashes >= CRASHES:
        raise StartError(f"{name} cannot start: it ended {max(crashes, 1)} times\n{tail(logs, name)}")

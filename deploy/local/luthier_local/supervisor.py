"""supervisord, controlled over its socket: started, reconfigured, asked for states, shut down."""

import contextlib
import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from luthier_local.home import Home
from luthier_local.services import RECORDER

START_TIMEOUT_S = 20
DROPPED = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")  # each service has an environment of its own


@dataclass(frozen=True)
class State:
    """State of one program in supervisord's words: RUNNING, BACKOFF, FATAL, …; `pid` is 0 when it does not run."""

    name: str
    pid: int


class Supervisor:
    """The supervisord of one home."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def is_running(self) -> bool:
        if not self.home.socket.exists():
            return False
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def start(self, environ: Mapping[str, str]) -> None:
        """Start supervisord in the background. The services inherit `environ` through it."""
        self.home.socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.home.configuration)]
        clean = {key: value for key, value in environ.items() if key not in DROPPED}
        done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False, cwd=self.home.root)
        deadline = time.monotonic() + START_TIMEOUT_S
        while done.returncode == 0 and not self.is_running() and time.monotonic() < deadline:
            time.sleep(0.1)
        if not self.is_running():
            raise SystemExit(f"supervisord did not start: {(done.stderr or done.stdout).strip()[-1000:]}")

    def reload(self) -> list[str]:
        """Take the new configuration; programs that changed or are left out are stopped. Returns the changed."""
        added, changed, removed = self._call("reloadConfig")[0]
        for name in (*changed, *removed):
            self._call("stopProcessGroup", name)
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)
        return list(changed)

    def states(self) -> dict[str, State]:
        """{program: state}, the recorder left out."""
        return {
            info["name"]: State(info["statename"], info["pid"])
            for info in self._call("getAllProcessInfo")
            if info["name"] != RECORDER
        }

    def start_program(self, name: str) -> None:
        """Start `name` unless it runs. One that waits for its next attempt is started at once."""
        state = self.states()[name].name
        if state == "BACKOFF":
            self._call("stopProcess", name)
        if state in ("STOPPED", "EXITED", "FATAL", "BACKOFF"):
            self._call("startProcess", name, False)

    def shutdown(self, last: str) -> list[str]:
        """Stop all programs at once but `last` (the store, which they still write to), then it, then supervisord.

        Returns the names that had been running, when all are down."""
        running = [name for name, state in self.states().items() if state.pid]
        for name in running:
            if name != last:
                with contextlib.suppress(xmlrpc.client.Fault):  # it ended by itself meanwhile
                    self._call("stopProcess", name, False)
        while any(state.pid for name, state in self.states().items() if name != last):
            time.sleep(0.1)
        pid = self._call("getPID")
        self._call("shutdown")
        while _alive(pid):
            time.sleep(0.1)
        return running

    def _call(self, method: str, *arguments: Any) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.home.socket}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        return getattr(proxy.supervisor, method)(*arguments)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

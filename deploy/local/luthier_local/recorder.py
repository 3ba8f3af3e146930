"""An event listener of supervisord. Whenever a program has (re)started it writes the new pid into services.json and
removes the temporary folders of the process before it; every hour it lets generated audio expire, which delays no
event however long it takes.

Run by supervisord itself with the repository and the home as arguments; protocol: http://supervisord.org/events.html.
"""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from supervisor.childutils import get_headers, listener

from luthier_local import leftovers
from luthier_local.home import Home

RUNNERS = "training-"  # folders of processes that go on when their service is killed
CLOCK_S = 0.1  # start times are counted in hundredths of a second
EXPIRY_S = 3000.0  # what hangs is ended before the next hour's begins


def main() -> None:
    home = Home(Path(sys.argv[1]), Path(sys.argv[2]))
    while True:
        headers, payload = listener.wait()
        if headers["eventname"].startswith("TICK"):
            threading.Thread(target=expire, args=[home], name="expiry", daemon=True).start()
            listener.ok()
            continue
        event = get_headers(payload)
        with home.changed_programs() as programs:
            if program := programs.get(event["processname"]):
                programs[event["processname"]] = replace(program, pid=int(event["pid"]))
        begun = leftovers.started_at(int(event["pid"])) - CLOCK_S
        leftovers.sweep(home.path / "scratch" / event["processname"], begun, keep=RUNNERS)
        listener.ok()


def expire(home: Home, within_s: float = EXPIRY_S) -> None:
    """`luthier gc --generated`, its answer on standard error, which supervisord logs (standard output is the protocol).
    What cannot be done now, or hangs, is done an hour later."""
    command = [str(home.python("pipeline")), "-m", "luthier_pipeline", "gc", "--generated"]
    if os.access(command[0], os.X_OK):
        environ = {**os.environ, "LUTHIER_HOME": str(home.path)}
        try:
            subprocess.run(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=within_s, check=False
            )
        except subprocess.TimeoutExpired:
            print(f"luthier gc --generated was ended after {within_s:g} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

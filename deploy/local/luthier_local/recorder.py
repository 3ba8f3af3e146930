"""An event listener of supervisord: writes the new pid into services.json whenever a program has (re)started.

Run by supervisord itself with the repository and the home as arguments; protocol: http://supervisord.org/events.html.
"""

import sys
from dataclasses import replace
from pathlib import Path

from supervisor.childutils import get_headers, listener

from luthier_local.home import Home


def main() -> None:
    home = Home(Path(sys.argv[1]), Path(sys.argv[2]))
    while True:
        _, payload = listener.wait()
        event = get_headers(payload)
        with home.changed_programs() as programs:
            if program := programs.get(event["processname"]):
                programs[event["processname"]] = replace(program, pid=int(event["pid"]))
        listener.ok()


if __name__ == "__main__":
    main()

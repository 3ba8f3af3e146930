"""An event listener of supervisord: writes the new pid into services.json whenever a program has (re)started.

Run by supervisord itself with services.json's path; protocol: http://supervisord.org/events.html.
"""

import sys
from pathlib import Path

from supervisor.childutils import get_headers, listener

from luthier_local.home import amended


def main() -> None:
    services_file = Path(sys.argv[1])
    while True:
        _, payload = listener.wait()
        event = get_headers(payload)
        with amended(services_file) as services:
            if event["processname"] in services:
                services[event["processname"]]["pid"] = int(event["pid"])
        listener.ok()


if __name__ == "__main__":
    main()

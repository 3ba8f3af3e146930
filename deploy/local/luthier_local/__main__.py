"""python -m luthier_local up|down|ps"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from luthier_local import commands
from luthier_local.home import Home
from luthier_local.services import SERVICES


def main() -> int:
    parser = argparse.ArgumentParser(prog="luthier_local", description="Run every Luthier service on this machine.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[3], help="the repository")
    actions = parser.add_subparsers(dest="action", required=True)
    starting = actions.add_parser("up", help="start what is not up, wait until all serve (STORE=minio, DEVICE=cuda)")
    names = [service.name for service in SERVICES]
    starting.add_argument("--only", nargs="+", default=[], choices=names, metavar="SERVICE", help=", ".join(names))
    actions.add_parser("down", help="stop all gracefully; state stays")
    showing = actions.add_parser("ps", help="show each service; exit 1 unless all serve")
    showing.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    home = Home.find(arguments.root, os.environ)
    if arguments.action == "ps":
        return _show(home, as_json=arguments.json)
    try:
        with home.locked():
            if arguments.action == "up":
                commands.up(home, os.environ, _print, tuple(arguments.only))
            else:
                commands.down(home, _print)
    except commands.StartError as error:
        advice = "The others stay as they are: `make down` stops them, `make up` tries again."
        print(f"{error}\n{advice}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _show(home: Home, *, as_json: bool) -> int:
    rows = commands.report(home)
    if as_json:
        entries = {
            name: {key: value for key, value in asdict(row.program).items() if value != ""}
            | {"state": row.state, "serving": row.serving}
            for name, row in rows.items()
        }
        print(json.dumps(entries, indent=2))
    else:
        print("\n".join(commands.table(rows)))
    return 0 if rows and all(row.serving for row in rows.values()) else 1


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

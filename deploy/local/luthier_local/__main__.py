"""python -m luthier_local up|down|ps"""

import argparse
import json
import os
import sys
from pathlib import Path

from luthier_local import commands
from luthier_local.catalogue import SERVICES
from luthier_local.home import Home
from luthier_local.waiting import StartError


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
    home = Home.find(arguments.root, dict(os.environ))
    return int(_act(arguments, home))


def _act(arguments: argparse.Namespace, home: Home) -> int:
    if arguments.action == "ps":
        return _show(home, arguments.json)
    try:
        with home.locked():
            if arguments.action == "up":
                commands.up(home, dict(os.environ), _say, tuple(arguments.only))
            else:
                commands.down(home, _say)
    except StartError as failure:
        print(
            f"{failure}\nThe others stay as they are: `make down` stops them, `make up` tries again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _show(home: Home, as_json: bool) -> int:
    rows = commands.report(home)
    print(json.dumps(rows, indent=2) if as_json else "\n".join(commands.table(rows)))
    return 0 if rows and all(row["serving"] for row in rows.values()) else 1


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

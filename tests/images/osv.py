"""A server of vulnerabilities with the API of OSV (/v1/query), from records in OSV's format.

    python3 -m tests.images.osv FOLDER

serves the *.json and *.yaml below a folder, such as a copy of PyPA's advisories, until it is ended. It prints its
address.
"""

import json
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

Record = dict[str, Any]
"""A record as OSV defines it: https://ossf.github.io/osv-schema."""


def concerns(record: Record, name: str, version: str) -> bool:
    """Whether a record that was not withdrawn affects this version of a distribution of PyPI."""
    return "withdrawn" not in record and any(
        entry["package"]["ecosystem"] == "PyPI"
        and _normal(entry["package"]["name"]) == _normal(name)
        and (version in entry.get("versions", []) or any(_within(each, version) for each in entry.get("ranges", [])))
        for entry in record.get("affected", [])
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _within(ranges: Record, version: str) -> bool:
    """The algorithm of OSV's specification: events in the order of their versions switch affected on and off."""
    if ranges["type"] != "ECOSYSTEM":
        return False
    try:
        events = [(Version(each[key]), key) for each in ranges["events"] for key in each if key != "limit"]
        asked = Version(version)
    except InvalidVersion:
        return False
    affected = False
    for at, key in sorted(events):
        if key == "introduced" and asked >= at:
            affected = True
        elif (key == "fixed" and asked >= at) or (key == "last_affected" and asked > at):
            affected = False
    return affected


@contextmanager
def serving(records: Iterable[Record]) -> Iterator[str]:
    """The address of /v1/query on loopback."""
    by_name: dict[str, list[Record]] = {}
    for record in records:
        for entry in record.get("affected", []):
            by_name.setdefault(_normal(entry["package"]["name"]), []).append(record)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name, version = query["package"]["name"], query["version"]
            found = [each for each in by_name.get(_normal(name), []) if concerns(each, name, version)]
            body = json.dumps({"vulns": found} if found else {}, default=str).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    paths = [path for path in Path(sys.argv[1]).rglob("*") if path.suffix in (".json", ".yaml")]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with serving(yaml.load(path.read_text(), loader) for path in paths) as address:
        print(address, flush=True)
        threading.Event().wait()

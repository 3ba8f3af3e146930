"""One loopback port for each purpose: the one of the last start, else its default, else the next free one."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from luthier_kit.rpc import METRICS_OFFSET, PORTS, WEB_PORTS
from luthier_local.home import Program, Programs
from luthier_local.services import Service

HOST = "127.0.0.1"
MINIO_PORT = 7400
LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp
LAST_PORT = 7999  # where the search for a free one ends


@dataclass(frozen=True)
class Wanted:
    """A port to choose: whose, for what, and its default."""

    name: str
    purpose: Literal["address", "metrics", "web"]
    default: int


def wanted(services: tuple[Service, ...], *, minio: bool) -> list[Wanted]:
    """Every port to choose."""
    ports = []
    for service in services:
        port = PORTS[service.name]
        ports += [Wanted(service.name, "address", port), Wanted(service.name, "metrics", port + METRICS_OFFSET)]
        if service.web:
            ports.append(Wanted(service.name, "web", WEB_PORTS[service.name]))
    return [*ports, Wanted("minio", "address", MINIO_PORT)] if minio else ports


def choose(ports: list[Wanted], last: Programs, running: set[str], output: Callable[[str], None]) -> Programs:
    """The addresses of every program. A port of the `last` start is kept while it is free or held by a program in
    `running`, so that a restarted service keeps its address. Every other choice is a line of `output`. Raises
    SystemExit when no port is free."""
    reserved = {port.default for port in ports}
    reserved |= {_port_of(old) for program in last.values() for old in (program.address, program.metrics, program.web)}
    chosen: Programs = {}
    used: set[int] = set()  # by names before this one, which may have taken its default when theirs was taken
    for port in ports:
        old = _port_of(getattr(last.get(port.name), port.purpose, ""))
        first = number = old or port.default
        if first in used or not ((old and port.name in running) or is_free(first)):
            free = (n for n in range(port.default, LAST_PORT + 1) if n not in reserved and is_free(n))
            number = next(free, 0)
            if not number:
                text = f"{port.name}: no free port between {port.default} and {LAST_PORT} for its {port.purpose}"
                raise SystemExit(text)
            output(f"{port.name}: port {first} ({port.purpose}) is taken by another program, using {number}")
        reserved.add(number)
        used.add(number)
        address: dict[str, Any] = {port.purpose: f"{HOST}:{number}"}
        chosen[port.name] = replace(chosen.get(port.name, Program("")), **address)
    return chosen


def is_free(port: int) -> bool:
    """True when a server could listen on `port`. Without SO_REUSEPORT, so that another gRPC server counts."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def holds(pid: int, address: str) -> bool:
    """True when a process listens at host:port: another program that answers there is no answer of this one.

    See proc(5): /proc/net/tcp names the inode of each listening socket, /proc/<pid>/fd those that a process holds.
    """
    port = f":{_port_of(address):04X}"
    try:
        rows = [row.split() for table in ("tcp", "tcp6") for row in _read(f"/proc/net/{table}").splitlines()[1:]]
        inodes = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == LISTEN}
        return any(str(file.readlink()) in inodes for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # another user's, or just gone
        return False


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:  # no IPv6
        return ""


def _port_of(address: str) -> int:
    """0 for no address."""
    return int(address.rpartition(":")[2] or 0)

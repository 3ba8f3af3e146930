"""One loopback port for each purpose: the remembered one, else its default, else the next free one."""

import socket
from collections.abc import Callable
from typing import Any

from luthier_local.catalogue import FIRST_METRICS_PORT, FIRST_PORT, MINIO_PORT, SERVICES, WEB_PORT, Program

HOST = "127.0.0.1"
LAST_PORT = 7999  # where the search for a free one ends


def is_free(port: int) -> bool:
    """Whether a server could listen on `port`. Without SO_REUSEPORT, so that another gRPC server counts."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def wanted(services: tuple[Program, ...], *, minio: bool) -> list[tuple[str, str, int]]:
    """(name, kind, default port) of every port to choose."""
    ports = []
    for service in services:
        index = SERVICES.index(service)
        ports.append((service.name, "address", FIRST_PORT + index))
        ports.append((service.name, "metrics", FIRST_METRICS_PORT + index))
        if service.web:
            ports.append((service.name, "web", WEB_PORT))
    return [*ports, ("minio", "address", MINIO_PORT)] if minio else ports


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def choose(
    ports: list[tuple[str, str, int]],
    remembered: dict[str, dict[str, Any]],
    running: set[str],
    say: Callable[[str], None],
) -> dict[str, dict[str, str]]:
    """{name: {kind: "127.0.0.1:port"}}. A remembered port is kept while it is free, or held by a program in
    `running`, so that a restarted service keeps its address. Every other choice is said through `say`."""
    reserved = {default for _, _, default in ports}
    reserved |= {
        port_of(old[kind]) for old in remembered.values() for kind in ("address", "metrics", "web") if kind in old
    }
    chosen: dict[str, dict[str, str]] = {}
    used: set[int] = set()  # by names before this one, who may have been moved onto its default once
    for name, kind, default in ports:
        old = remembered.get(name, {}).get(kind)
        first = port_of(old) if old else default
        if first not in used and ((old and name in running) or is_free(first)):
            port = first
        else:
            port = next((p for p in range(default, LAST_PORT + 1) if p not in reserved and is_free(p)), 0)
            if not port:
                raise SystemExit(f"{name}: no free port between {default} and {LAST_PORT} for its {kind}")
            say(f"{name}: port {first} ({kind}) is taken by another program, using {port}")
        reserved.add(port)
        used.add(port)
        chosen.setdefault(name, {})[kind] = f"{HOST}:{port}"
    return chosen

"""A PostgreSQL server of the tests: on loopback, in a folder of its own, not run by root, gone afterwards."""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import make_url, text

from luthier_curation.database import open_engine
from tests.support.services import missing

OPTIONS = "-c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=200"


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def program(name: str) -> str:
    """The path of a PostgreSQL program, the newest that Debian's packages brought; skips (fails in CI) without."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    path = str(found[-1]) if found else shutil.which(name)
    if not path:
        missing(f"PostgreSQL ({name}, Debian's package postgresql)")
    return str(path)


@contextmanager
def running_postgres(port: int = 0) -> Iterator[str]:
    """URL of a fresh server's database `postgres`; the server stops and its folder goes when the block ends."""
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    port = port or free_port()
    folder = Path(tempfile.mkdtemp(prefix="luthier-postgres-"))
    data, log = folder / "data", folder / "log"
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        _run(initdb, "-D", str(data), "-U", "luthier", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories= -p {port} {OPTIONS}"
        _run(pg_ctl, "-D", str(data), "-l", str(log), "-o", options, "-w", "-t", "60", "start")
        yield f"postgresql://luthier@127.0.0.1:{port}/postgres"
    finally:
        with suppress(subprocess.CalledProcessError):
            _run(pg_ctl, "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str) -> None:
    """A PostgreSQL program, which refuses to run as root."""
    before = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*before, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, cwd="/")


@contextmanager
def own_database(server: str, template: str = "template1") -> Iterator[str]:
    """URL of a new database of this server, a copy of `template`, dropped afterwards."""
    name = f"curation_{uuid.uuid4().hex}"
    engine = open_engine(server)
    admin = engine.execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()

"""Where the state of a local installation lies: `.luthier/` in the repository, or $LUTHIER_HOME."""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

LONGEST_SOCKET_PATH = 100  # bytes; sockaddr_un of Linux holds 108


@dataclass(frozen=True)
class Program:
    """An entry of services.json: where a program listens (`host:port`, "" = nowhere), and its process, 0 = none."""

    address: str
    metrics: str = ""
    web: str = ""
    pid: int = 0


Programs = dict[str, Program]
"""By name: a service, or `minio`."""


@dataclass(frozen=True)
class Home:
    """`root` is the repository, `path` the folder of the state. Every other path follows from the two."""

    root: Path
    path: Path

    @classmethod
    def find(cls, root: Path, environ: Mapping[str, str]) -> "Home":
        return cls(root.resolve(), Path(environ.get("LUTHIER_HOME") or root / ".luthier").resolve())

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def minio(self) -> Path:
        return self.path / "minio"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def services_file(self) -> Path:
        """Addresses and processes, for scripts and the command `luthier`."""
        return self.path / "services.json"

    @property
    def store_file(self) -> Path:
        """The settings that open the store, for the command `luthier`."""
        return self.path / "store.json"

    @property
    def configuration(self) -> Path:
        return self.path / "supervisord.conf"

    @property
    def pid_file(self) -> Path:
        return self.path / "supervisord.pid"

    @property
    def socket(self) -> Path:
        """supervisord's socket: in the home, or in a private temporary folder where that path is too long."""
        plain = self.path / "supervisord.sock"
        if len(os.fsencode(plain)) <= LONGEST_SOCKET_PATH:
            return plain
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"luthier-{os.getuid()}-{digest}" / "supervisord.sock"

    def python(self, service: str) -> Path:
        return self.root / "services" / service / ".venv" / "bin" / "python"

    def create(self) -> None:
        """Make the folders. The socket's must be this user's: whoever can write there controls the services."""
        for folder in (self.path, self.store, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        if self.socket.parent != self.path:
            self.socket.parent.mkdir(mode=0o700, exist_ok=True)
            if self.socket.parent.stat().st_uid != os.getuid():
                raise PermissionError(f"{self.socket.parent} belongs to another user")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one `up` or `down` at a time."""
        self.path.mkdir(parents=True, exist_ok=True)
        with _lock(self.path / "lock"):
            yield

    def programs(self) -> Programs:
        """What services.json holds; empty when there is none or a crash left half of one."""
        known = {field.name for field in fields(Program)}
        entries = _read_json(self.services_file)
        return {
            name: Program(**{key: value for key, value in entry.items() if key in known})
            for name, entry in entries.items()
            if isinstance(entry, dict)
        }

    @contextmanager
    def changed_programs(self) -> Iterator[Programs]:
        """What services.json holds, to be changed in place; written back at the end, by one process at a time."""
        with _lock(self.services_file.with_suffix(".lock")):
            programs = self.programs()
            yield programs
            entries = {
                name: {key: value for key, value in asdict(program).items() if value != ""}
                for name, program in programs.items()
            }
            _write_json(self.services_file, entries)

    def store_settings(self) -> dict[str, str]:
        """The settings that open the store; empty before the first `up`."""
        return {name: str(value) for name, value in _read_json(self.store_file).items()}

    def write_store_settings(self, settings: Mapping[str, str]) -> None:
        _write_json(self.store_file, settings)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_json(path: Path) -> Mapping[str, object]:
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return document if isinstance(document, dict) else {}


def _write_json(path: Path, document: Mapping[str, object]) -> None:
    """Replace `path` in one step, so that a reader sees the old or the new document, never a half."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(document, indent=2) + "\n")
    part.replace(path)

"""Where the state of a local installation lies: `.luthier/` in the repository, or $LUTHIER_HOME."""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST_SOCKET_PATH = 100  # bytes; sockaddr_un of Linux holds 108


@dataclass(frozen=True)
class Home:
    """`root` is the repository, `path` the folder of the state. Every other path follows from the two."""

    root: Path
    path: Path

    @classmethod
    def find(cls, root: Path, environ: dict[str, str]) -> "Home":
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
        return self.path / "services.json"

    @property
    def store_file(self) -> Path:
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
        """Make the folders. The socket's must be ours alone: who can write there commands the services."""
        for folder in (self.path, self.store, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        if self.socket.parent != self.path:
            self.socket.parent.mkdir(mode=0o700, exist_ok=True)
            if self.socket.parent.stat().st_uid != os.getuid():
                raise PermissionError(f"{self.socket.parent} belongs to somebody else")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one `up` or `down` at a time."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def read_json(path: Path) -> dict[str, Any]:
    """The document in `path`, or {} when there is none or a crash left half of one."""
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return document if isinstance(document, dict) else {}


@contextmanager
def amended(path: Path) -> Iterator[dict[str, Any]]:
    """The document in `path`, to be changed in place; written back at the end. One at a time."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        document = read_json(path)
        yield document
        write_json(path, document)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Replace `path` in one step, so that a reader sees the old or the new document, never a half."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(document, indent=2) + "\n")
    part.replace(path)

"""The whole system for tests: real processes, the real command, a store and ports of its own."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from luthier_kit.rpc import load
from luthier_kit.store import Store, StoreSettings, open_store

ROOT = Path(__file__).resolve().parents[1]
LUTHIER = ROOT / "services/pipeline/.venv/bin/luthier"
SONGS = 4  # of the songbook that the end-to-end tests take
LOCAL = ROOT / "deploy/local/.venv/bin/python"


@dataclass(frozen=True)
class Row:
    """A program as `make ps` shows it; addresses are `host:port`, "" = none."""

    address: str
    pid: int
    state: str
    serving: bool
    metrics: str = ""
    web: str = ""


@dataclass
class System:
    """A running system. `folder` is scratch space of the tests, `home` its state."""

    folder: Path
    environ: dict[str, str]

    @property
    def home(self) -> Path:
        return Path(self.environ["LUTHIER_HOME"])

    @property
    def services(self) -> dict[str, Row]:
        """Every program, as it is now."""
        command = [str(LOCAL), "-m", "luthier_local", "ps", "--json"]
        shown = json.loads(subprocess.run(command, env=self.environ, capture_output=True, check=False).stdout)
        return {name: Row(**row) for name, row in shown.items()}

    @property
    def store(self) -> Store:
        settings = json.loads((self.home / "store.json").read_text())
        return open_store(load(StoreSettings, settings))

    def channel(self, service: str) -> grpc.Channel:
        return grpc.insecure_channel(self.services[service].address)

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """`luthier …` in the background, in a process group of its own; Ctrl-C reaches it however the tests began."""
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits "ignored"
        return subprocess.Popen(
            [str(LUTHIER), *arguments, "--json"],
            env=self.environ,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def luthier(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """`luthier … --json`, which must end with `code`; the document of its last line."""
        process = self.begin(*arguments)
        out, err = process.communicate(timeout=900)
        assert process.returncode == code, (
            f"luthier {' '.join(arguments)} ended with {process.returncode}:\n{err}\n{out}"
        )
        answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1]) if out.strip() else {}
        return answer

    def kill(self, service: str) -> int:
        """kill -9 of a service; the pid that died."""
        pid = self.services[service].pid
        os.kill(pid, signal.SIGKILL)
        return pid


def songbook(folder: Path, keep: int | None = None) -> Path:
    """The songbook in a folder; only the first `keep` songs when a number is given."""
    python = LUTHIER.with_name("python")
    subprocess.run([str(python), "-m", "luthier_pipeline.songbook", str(folder)], check=True)
    for song in sorted(folder.rglob("*.mid"))[keep:] if keep else ():
        song.unlink()
    return folder


@contextmanager
def started(folder: Path, *only: str, **more: str) -> Iterator[System]:
    """Starts every service, or only some, and stops them afterwards."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LUTHIER_") or key == "LUTHIER_MINIO"}
    environ = {**kept, "LUTHIER_HOME": str(folder / "home"), "DEVICE": "cpu", **more}
    environ.setdefault("LUTHIER_CACHE", str(folder / "cache"))
    local = [str(LOCAL), "-m", "luthier_local"]
    up = subprocess.run(
        [*local, "up", *(["--only", *only] if only else [])],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        assert up.returncode == 0, f"the services did not start:\n{up.stdout}\n{up.stderr}"
        yield System(folder, environ)
    finally:
        subprocess.run([*local, "down"], env=environ, cwd=folder, capture_output=True, check=False)

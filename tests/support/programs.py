"""Services as programs of their own, by the environments of their projects. Imports nothing of Luthier: its users may
have none."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0
STOP_S = 30.0


@dataclass(frozen=True)
class Program:
    """A service that serves: where, over gRPC and HTTP ("" = not), its store's folder, and its log."""

    address: str
    web: str
    store: Path
    log: Path


def tiny_inference(folder: Path, **environ: str) -> AbstractContextManager[Program]:
    """The inference service with the tiny model, until the end of the block; skips without inference's environment."""
    own = {"DEVICE": "cpu", "LUTHIER_DEFAULT_MODEL": "tiny"}
    return _program("inference", "tests.inference.tiny_server", folder, {**own, **environ})


def curation(folder: Path, store: Path, **environ: str) -> AbstractContextManager[Program]:
    """The curation service over a store, with an empty database; skips without curation's environment."""
    own = {
        "LUTHIER_STORE_FOLDER": str(store),
        "LUTHIER_WEB_ADDRESS": "off",
        "LUTHIER_DATABASE_URL": f"sqlite:///{folder}/curation.sqlite3",
    }
    return _program("curation", "luthier_curation", folder, {**own, **environ})


@contextmanager
def _program(project: str, module: str, folder: Path, environ: Mapping[str, str]) -> Iterator[Program]:
    python = ROOT / f"services/{project}/.venv/bin/python"
    if not python.exists():
        text = f"services/{project}/.venv is missing: make services/{project}/.venv/.synced"
        pytest.fail(text) if os.environ.get("CI", "").lower() == "true" else pytest.skip(text)
    # compiled modules are kept, or every process compiles torch anew: 20 s of CPU each
    left = ("LUTHIER_", "PYTHONDONTWRITEBYTECODE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(left)}
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    own = {
        "LUTHIER_ADDRESS": "127.0.0.1:0",
        "LUTHIER_METRICS_ADDRESS": "127.0.0.1:0",
        "LUTHIER_STORE_FOLDER": str(folder / "store"),
        "LUTHIER_SCRATCH": str(folder / "scratch"),
        "LUTHIER_GRACE_S": "1",
        "PYTHONPATH": str(ROOT),
        **environ,
    }
    log = folder / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen([python, "-m", module], env={**kept, **own}, stderr=stderr, cwd=folder)
    try:
        told = _told(process, log)
        yield Program(told["serving"], told.get("page", ""), Path(own["LUTHIER_STORE_FOLDER"]), log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _told(process: "subprocess.Popen[bytes]", log: Path) -> dict[str, str]:
    """Addresses by the messages of the log that tell them, once the service serves."""
    found: dict[str, str] = {}
    for _ in range(int(START_S / 0.05)):
        lines = [
            line for line in log.read_text().splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")
        ]
        found = {line["message"]: line["address"] for line in map(json.loads, lines) if "address" in line}
        if "serving" in found:
            return found
        if process.poll() is not None:
            break
        threading.Event().wait(0.05)
    raise AssertionError(f"the service does not serve:\n{log.read_text()}")

"""Real servers of inference for the client, one open and one that asks for TLS and a token."""

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.programs import Program, tiny_inference

TOKEN = "a-token-that-only-this-test-knows"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with tiny_inference(tmp_path_factory.mktemp("open"), LUTHIER_SLOTS="2", LUTHIER_QUEUE="2") as program:
        yield program


@dataclass(frozen=True)
class Secured:
    """A server, the file of a token that it knows, and the authority of its certificate."""

    address: str
    token_file: Path
    authority: Path


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    certificate, key = folder / "server.crt", folder / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "callers").mkdir()
    (folder / "callers/shop").write_text(f"sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
    environ = {
        "LUTHIER_TLS_CERT": str(certificate),
        "LUTHIER_TLS_KEY": str(key),
        "LUTHIER_CALLERS": str(folder / "callers"),
        "LUTHIER_CALLER_QUOTAS": "shop=calls:1",
    }
    with tiny_inference(folder / "inference", **environ) as program:
        port = program.address.rpartition(":")[2]
        yield Secured(f"localhost:{port}", folder / "token", certificate)

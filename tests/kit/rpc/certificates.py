"""Authorities and certificates for tests, made with the openssl program."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.services import require_tool

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Pair:
    """Paths of a certificate and its key."""

    cert: Path
    key: Path

    def copy_to(self, other: "Pair") -> None:
        """Rotates: `other`'s files hold this pair."""
        for source, target in ((self.key, other.key), (self.cert, other.cert)):
            fresh = target.with_suffix(".fresh")
            fresh.write_bytes(source.read_bytes())
            fresh.replace(target)


def authority(folder: Path, name: str) -> Pair:
    """A certificate authority."""
    return _make(folder, name, f"/CN={name}", "-days", "2")


def issued(by: Pair, folder: Path, name: str, *, subject: str = "", san: str = "", expired: bool = False) -> Pair:
    """A certificate signed by `by`; expired ones end a day ago."""
    named = ("-addext", f"subjectAltName={san}") if san else ()
    if not expired:
        signer = ("-CA", str(by.cert), "-CAkey", str(by.key))
        return _make(folder, name, subject or f"/CN={name}", "-days", "2", *named, *signer)
    request = _make(folder, name, subject or f"/CN={name}", "-days", "2", *named)
    times = ("-startdate", "20200101000000Z", "-enddate", "20200102000000Z")
    (folder / "index.txt").touch()
    (folder / "ca.cnf").write_text(
        f"[ca]\ndefault_ca = d\n[d]\ndatabase = {folder}/index.txt\nnew_certs_dir = {folder}\nrand_serial = yes\n"
        "default_md = sha256\npolicy = p\ncopy_extensions = copy\n[p]\ncommonName = supplied\n"
    )
    signing = folder / f"{name}.csr"
    _openssl("x509", "-x509toreq", "-in", str(request.cert), "-signkey", str(request.key), "-out", str(signing),
             "-copy_extensions", "copyall")  # fmt: skip
    _openssl("ca", "-batch", "-config", str(folder / "ca.cnf"), "-cert", str(by.cert), "-keyfile", str(by.key),
             "-in", str(signing), "-out", str(request.cert), "-notext", *times)  # fmt: skip
    return request


def _make(folder: Path, name: str, subject: str, *more: str) -> Pair:
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    _openssl("req", "-x509", *CURVE, "-keyout", str(pair.key), "-out", str(pair.cert), "-subj", subject, *more)
    return pair


def _openssl(*arguments: str) -> None:
    done = subprocess.run([str(require_tool("openssl")), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""Authorities of certificates and of time (RFC 3161), as tests need them: made anew, on loopback."""

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from luthier_inference.credentials.certificate import Certificate

DOCUMENT_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
CLAIM_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
"""What C2PA's certificate policy 0.2 asks of a signer's certificate, beside document signing or e-mail protection."""
_NOT_USED: Final = dict.fromkeys(
    ("key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, with those above it, the issuer first."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple["Issued", ...] = ()

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def issue(
        self, name: str, uses: Sequence[x509.ObjectIdentifier] = (), *, authority: bool = False, valid_s: float = 3600
    ) -> "Issued":
        return _issued(name, self, uses, authority=authority, valid_s=valid_s)

    def stored(self, folder: Path) -> Certificate:
        """As files of an operator: the chain without the root, and the key."""
        folder.mkdir(parents=True, exist_ok=True)
        chain, key = folder / "tls.crt", folder / "tls.key"
        chain.write_bytes(self.pem + b"".join(each.pem for each in self.above[:-1]))
        key.write_bytes(self.key_pem)
        return Certificate(chain, key, "es256", "Acme Music")


def root(name: str) -> Issued:
    """An authority that stands for itself."""
    return _issued(name, None, (), authority=True, valid_s=3600)


def signer(above: Issued, *, valid_s: float = 3600) -> Issued:
    """A signer's certificate below an intermediate authority, by the profile of C2PA's certificate policy."""
    intermediate = above.issue("Test issuing authority", authority=True)
    return intermediate.issue("Acme Music", (DOCUMENT_SIGNING, CLAIM_SIGNING), valid_s=valid_s)


def _issued(
    name: str, by: Issued | None, uses: Sequence[x509.ObjectIdentifier], *, authority: bool, valid_s: float
) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([
        x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ])  # fmt: skip
    now, own = datetime.now(UTC), key.public_key()
    above = by.key.public_key() if by else own
    commits = not authority and ExtendedKeyUsageOID.TIME_STAMPING not in uses
    usage = x509.KeyUsage(
        digital_signature=not authority, content_commitment=commits, key_cert_sign=authority, crl_sign=authority,
        **_NOT_USED,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(own)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(seconds=valid_s))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
    )
    if uses:  # RFC 3161: an authority's must be critical
        critical = list(uses) == [ExtendedKeyUsageOID.TIME_STAMPING]
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=critical)
    signed = builder.sign(by.key if by else key, hashes.SHA256())
    return Issued(signed, key, (by, *by.above) if by else ())


class Answers(Enum):
    """What a time-stamping authority answers."""

    STAMPS = auto()
    GARBAGE = auto()
    FAULT = auto()
    REFUSAL = auto()
    STAMP_OF_OTHER_DATA = auto()
    NOTHING = auto()


@dataclass
class TimeStamping:
    """A time-stamping authority on loopback: openssl's, behind HTTP. `asked` counts its queries."""

    own: Issued
    folder: Path
    answers: Answers = Answers.STAMPS
    asked: int = 0
    address: str = ""
    closed: threading.Event = field(default_factory=threading.Event)

    def answer(self, query: bytes) -> bytes:
        """openssl's response to a query."""
        (self.folder / "query").write_bytes(query)
        command = ["openssl", "ts", "-reply", "-config", str(self.folder / "authority.cnf")]
        files = ["-queryfile", str(self.folder / "query"), "-out", str(self.folder / "reply")]
        subprocess.run([*command, *files], check=True, capture_output=True)
        return (self.folder / "reply").read_bytes()

    def other_query(self) -> bytes:
        """A query for other data."""
        done = subprocess.run(
            ["openssl", "ts", "-query", "-data", self.folder / "authority.cnf", "-sha256", "-cert"],
            check=True, capture_output=True,
        )  # fmt: skip
        return done.stdout


@contextmanager
def time_stamping(above: Issued, folder: Path, answers: Answers = Answers.STAMPS) -> Iterator[TimeStamping]:
    """An authority of time whose certificate is issued by `above`; its files lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    own = above.issue("Test time authority", (ExtendedKeyUsageOID.TIME_STAMPING,))
    (folder / "authority.crt").write_bytes(own.pem)
    (folder / "above.crt").write_bytes(above.pem)
    (folder / "authority.key").write_bytes(own.key_pem)
    (folder / "serial").write_text("01\n")
    (folder / "authority.cnf").write_text(
        "[tsa]\ndefault_tsa = own\n[own]\n"
        f"serial = {folder}/serial\nsigner_cert = {folder}/authority.crt\ncerts = {folder}/above.crt\n"
        f"signer_key = {folder}/authority.key\nsigner_digest = sha256\ndefault_policy = 1.2.3.4.1\n"
        "digests = sha256, sha384, sha512\ness_cert_id_alg = sha256\n"
    )
    authority = TimeStamping(own, folder, answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            authority.asked += 1
            query = self.rfile.read(int(self.headers["Content-Length"]))
            if authority.answers is Answers.NOTHING:
                authority.closed.wait()
                return
            if authority.answers is Answers.FAULT:
                self.send_error(503)
                return
            if authority.answers is Answers.GARBAGE:
                body = b"<html>It works!</html>"
            elif authority.answers is Answers.REFUSAL:
                body = authority.answer(b"0\x03\x02\x01\x07")  # no query: openssl rejects it as RFC 3161 says
            elif authority.answers is Answers.STAMP_OF_OTHER_DATA:
                body = authority.answer(authority.other_query())
            else:
                body = authority.answer(query)
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Not worth a line."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    authority.address = f"http://127.0.0.1:{server.server_port}/stamp"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield authority
    finally:
        authority.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()

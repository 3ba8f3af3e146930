"""Lists of certificates that are trusted: above one of them must be whoever signed, and whoever states the time."""

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from luthier_kit.rpc import SettingsError

MAX_BYTES: Final = 1 << 20
"""Of a list: C2PA's two have 67 kB together (August 2026)."""
MAX_CERTIFICATES: Final = 1000
SETTING: Final = "LUTHIER_CREDENTIALS_TRUST"


def anchors_of(pem: bytes) -> str:
    """The certificates of a list as PEM, and nothing else of it. ValueError says what is wrong with one.

    The library skips what it cannot read: a list with a damaged line would trust fewer than its author thinks.
    """
    if len(pem) > MAX_BYTES:
        raise ValueError(f"must have at most {MAX_BYTES} bytes, got {len(pem)}")
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError("must be one or more certificates as PEM, each whole") from None
    if len(certificates) > MAX_CERTIFICATES:
        raise ValueError(f"must have at most {MAX_CERTIFICATES} certificates, got {len(certificates)}")
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates).decode()


def operators_anchors(path: str) -> str:
    """Those of the operator's list, empty where there is none. SettingsError where it is none."""
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            return anchors_of(file.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{SETTING}: {text}") from None

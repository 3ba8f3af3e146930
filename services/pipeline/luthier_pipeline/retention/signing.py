"""Signatures of takedown records: Ed25519 (RFC 8032) over the record's protobuf JSON with sorted keys.

The private key is a PEM file of PKCS 8, as `openssl genpkey -algorithm ed25519` writes it. Its public key is a part of
what is signed. Whoever checks a record compares that with the key that he got from the operator by another way: a
record alone proves only that it was not changed since.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from luthier.pipeline.v1.pipeline_pb2 import TakedownRecord
from luthier_kit.rpc import Settings, SettingsError, load, setting
from luthier_kit.store import to_json

KEY = "LUTHIER_SIGNING_KEY"


@dataclass(frozen=True)
class SigningSettings(Settings):
    """The key that records are signed with."""

    key: str = setting(KEY, default="", secret=True, help="private key, Ed25519 as PEM, or a file of it by …_FILE")


class SignatureState(Enum):
    """What can be said of a record's signature."""

    UNSIGNED = "unsigned"
    BROKEN = "does not hold: it was changed since"
    OTHER_KEY = "holds, by another key"
    HOLDS = "holds"


class Signer:
    """Signs with one key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def sign(self, record: TakedownRecord) -> None:
        """Fills in `signature` and `public_key`."""
        record.public_key = self._key.public_key().public_bytes_raw()
        record.signature = self._key.sign(signed_bytes(record))


def load_signer(environ: Mapping[str, str]) -> Signer | None:
    """The signer of LUTHIER_SIGNING_KEY or of the file LUTHIER_SIGNING_KEY_FILE; None where neither is set.

    SettingsError for what is no such key.
    """
    text = load(SigningSettings, environ).key
    if not text:
        return None
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{KEY} must be an Ed25519 private key as PEM, without a password")
    return Signer(key)


def load_public_key(path: Path) -> bytes:
    """The 32 bytes of a public key, a PEM file. ValueError for what is none."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path} is no Ed25519 public key as PEM")
    return key.public_bytes_raw()


def state_of(record: TakedownRecord, public_key: bytes | None = None) -> SignatureState:
    """Whether a record is as it was signed, and with `public_key` whether by that key."""
    if not record.signature:
        return SignatureState.UNSIGNED
    try:
        Ed25519PublicKey.from_public_bytes(record.public_key).verify(record.signature, signed_bytes(record))
    except (InvalidSignature, ValueError):
        return SignatureState.BROKEN
    if public_key is not None and record.public_key != public_key:
        return SignatureState.OTHER_KEY
    return SignatureState.HOLDS


def signed_bytes(record: TakedownRecord) -> bytes:
    """What is signed: the record without its signature, as protobuf JSON with sorted keys and no spaces."""
    unsigned = TakedownRecord()
    unsigned.CopyFrom(record)
    unsigned.ClearField("signature")
    return to_json(unsigned)

"""The certificate that credentials are signed by: an operator's, or one for development that nobody trusts."""

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from luthier_inference.credentials.signing import SIGNERS_USES
from luthier_kit.rpc import SettingsError

log = logging.getLogger(__name__)
SOON: Final = timedelta(days=30)
"""Before it expires, a start of the service warns of it."""
_DAYS: Final = 365
_USES: Final = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass(frozen=True)
class Certificate:
    """Paths of PEM files: the chain, the signer's own certificate first, and the private key. `algorithm` as C2PA names
    it; `issuer`: who answers for it, by the certificate.
    """

    chain: Path
    key: Path
    algorithm: str
    issuer: str
    for_development: bool = False

    def expires_at(self) -> float:
        """When the signer's certificate expires, Unix time; it may have been renewed since the start. 0 for one that
        cannot be read, of which signing tells more."""
        try:
            own = x509.load_pem_x509_certificates(self.chain.read_bytes())[0]
        except (OSError, ValueError):
            return 0.0
        return own.not_valid_after_utc.timestamp()


def operators(chain: Path, key: Path) -> Certificate:
    """An operator's certificate. SettingsError where the files cannot be read or do not fit together, and for one that
    could sign nothing."""
    where = "LUTHIER_CREDENTIALS_CERTIFICATE"
    try:
        own = x509.load_pem_x509_certificates(chain.read_bytes())[0]
        where = "LUTHIER_CREDENTIALS_KEY"
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{where} cannot be read: {type(error).__name__}") from None  # an error may show the key
    if private.public_key() != own.public_key():
        raise SettingsError("LUTHIER_CREDENTIALS_KEY is not the key of LUTHIER_CREDENTIALS_CERTIFICATE")
    _check(own)
    return Certificate(chain, key, _algorithm(private), _issuer(own))


def _check(own: x509.Certificate) -> None:
    """SettingsError for a certificate that may not sign, now or at all: else every request would find it out."""
    where, now, until = "LUTHIER_CREDENTIALS_CERTIFICATE", datetime.now(UTC), own.not_valid_after_utc
    if not own.not_valid_before_utc <= now <= until:
        raise SettingsError(f"{where} is valid from {own.not_valid_before_utc} to {until}")
    try:
        uses = {use.dotted_string for use in own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value}
    except x509.ExtensionNotFound:
        uses = set()
    if uses.isdisjoint(SIGNERS_USES):
        raise SettingsError(
            f"{where} must be for claim signing, document signing or e-mail protection (extended key usage)"
        )
    if until - now < SOON:
        log.warning(
            "%s expires on %s: nothing is signed from then on, and no audio that should be is given away", where, until
        )


def for_development(folder: Path) -> Certificate:
    """A certificate of its own authority, made in a folder that only this user reads."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority, signer = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    by = authority.public_key()
    root = (
        _signed_for("Luthier development authority", by)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(authority, hashes.SHA256())
    )
    own = (
        _signed_for("Luthier development", signer.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by), critical=False)
        .sign(authority, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = signer.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain, key = folder / "development.crt", folder / "development.key"
    chain.write_bytes(own.public_bytes(pem) + root.public_bytes(pem))
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(secret)
    return Certificate(chain, key, _algorithm(signer), _issuer(own), for_development=True)


def _algorithm(private: object) -> str:
    """What a private key signs by, as C2PA names it. SettingsError for a key that C2PA has nothing for."""
    if isinstance(private, ec.EllipticCurvePrivateKey):
        curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if private.curve.name in curves:
            return curves[private.curve.name]
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    elif isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return "ps256"
    raise SettingsError("LUTHIER_CREDENTIALS_KEY must be of P-256, P-384, P-521, Ed25519, or RSA of 2048 bits or more")


def _signed_for(name: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    subject, issuer = (
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, who), x509.NameAttribute(NameOID.COMMON_NAME, who)])
        for who in (name, "Luthier development authority")
    )
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks of readers may be behind
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{each: each in uses for each in _USES})


def _issuer(own: x509.Certificate) -> str:
    """The organisation that a certificate names, else its common name."""
    for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME):
        if found := own.subject.get_attributes_for_oid(oid):
            return str(found[0].value)
    return own.subject.rfc4514_string()

"""TLS from files that may be rotated while the program runs.

Both sides read PEM files: the server its certificate, its key and, for mutual TLS, the authority of its clients; a
client the authority that it trusts and its own certificate.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import certifi
import grpc

from luthier_kit.reread import Reread
from luthier_kit.settings import SettingsError

T = TypeVar("T")


def server_credentials(certificate: str, key: str, client_authority: str) -> grpc.ServerCredentials | None:
    """TLS of a server, None when nothing is set. New connections get a rotated certificate and authority.

    With `client_authority` every client must show a certificate that it signed. Raises SettingsError.
    """
    _both("LUTHIER_TLS_CERT", certificate, "LUTHIER_TLS_KEY", key)
    if client_authority and not certificate:
        raise SettingsError("LUTHIER_TLS_CLIENT_CA needs LUTHIER_TLS_CERT and LUTHIER_TLS_KEY: mutual TLS is TLS")
    if not certificate:
        return None

    def read() -> grpc.ServerCertificateConfiguration:
        trusted = _authority(client_authority) if client_authority else None
        return grpc.ssl_server_certificate_configuration([_pair(certificate, key)], root_certificates=trusted)

    current = _reread([certificate, key, client_authority], read)
    return grpc.dynamic_ssl_server_credentials(current(), current, require_client_authentication=bool(client_authority))


def channel_credentials(authority: str, certificate: str, key: str) -> Reread[grpc.ChannelCredentials] | None:
    """TLS of a client, None when nothing is set; another object after the files were changed. Raises SettingsError.

    `authority` is a path, or `system` for what this machine trusts.
    """
    _both("LUTHIER_TLS_CLIENT_CERT", certificate, "LUTHIER_TLS_CLIENT_KEY", key)
    if certificate and not authority:
        raise SettingsError("LUTHIER_TLS_CLIENT_CERT needs LUTHIER_TLS_CA (a path or `system`), or there is no TLS")
    if not authority:
        return None
    trusted = authority
    if authority == "system":
        trusted = ssl.get_default_verify_paths().cafile or certifi.where()  # honours SSL_CERT_FILE

    def read() -> grpc.ChannelCredentials:
        own = _pair(certificate, key) if certificate else (None, None)
        return grpc.ssl_channel_credentials(_authority(trusted), *own)

    return _reread([trusted, certificate, key], read)


def _both(first: str, value: str, second: str, other: str) -> None:
    if bool(value) != bool(other):
        there, absent = (first, second) if value else (second, first)
        raise SettingsError(f"{there} is set and {absent} is missing: set both or neither")


def _reread(names: list[str], read: Callable[[], T]) -> Reread[T]:
    paths = [Path(name) for name in names if name]
    try:
        return Reread(lambda: paths, read)
    except (OSError, ValueError) as error:
        raise SettingsError(f"TLS cannot be set up: {error}") from None


def _pair(certificate: str, key: str) -> tuple[bytes, bytes]:
    """Key and certificate as PEM, once they are known to belong together."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise ValueError(f"{certificate} and {key} are no certificate and its key without password: {error}") from None
    return Path(key).read_bytes(), Path(certificate).read_bytes()


def _authority(path: str) -> bytes:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise ValueError(f"{path} holds no PEM certificates: {error}") from None
    return Path(path).read_bytes()

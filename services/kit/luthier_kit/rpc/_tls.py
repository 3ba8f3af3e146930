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

from luthier_kit.rpc._reread import Reread
from luthier_kit.rpc._settings import SettingsError

T = TypeVar("T")


def server_credentials(certificate: str, key: str, client_authority: str) -> grpc.ServerCredentials | None:
    """TLS of a server, None when nothing is set. New connections get a rotated certificate and authority.

    With `client_authority` every client must show a certificate that it signed. Raises SettingsError.
    """
    pair, authority = ("LUTHIER_TLS_CERT", "LUTHIER_TLS_KEY"), "LUTHIER_TLS_CLIENT_CA"
    _both(pair, certificate, key)
    if client_authority and not certificate:
        raise SettingsError(f"{authority} needs {pair[0]} and {pair[1]}: mutual TLS is TLS")
    if not certificate:
        return None

    def read() -> grpc.ServerCertificateConfiguration:
        trusted = _authority(authority, client_authority) if client_authority else None
        return grpc.ssl_server_certificate_configuration(
            [_key_and_certificate(pair, certificate, key)], root_certificates=trusted
        )

    current = _reread([certificate, key, client_authority], read)
    return grpc.dynamic_ssl_server_credentials(current(), current, require_client_authentication=bool(client_authority))


def channel_credentials(authority: str, certificate: str, key: str) -> Reread[grpc.ChannelCredentials] | None:
    """TLS of a client, None when nothing is set; another object after the files were changed. Raises SettingsError.

    `authority` is a path, or `system` for what this machine trusts.
    """
    pair = ("LUTHIER_TLS_CLIENT_CERT", "LUTHIER_TLS_CLIENT_KEY")
    _both(pair, certificate, key)
    if certificate and not authority:
        raise SettingsError(f"{pair[0]} needs LUTHIER_TLS_CA (a path or `system`), or there is no TLS")
    if not authority:
        return None
    trusted = authority
    if authority == "system":
        trusted = ssl.get_default_verify_paths().cafile or certifi.where()  # honours SSL_CERT_FILE

    def read() -> grpc.ChannelCredentials:
        own = _key_and_certificate(pair, certificate, key) if certificate else (None, None)
        return grpc.ssl_channel_credentials(_authority("LUTHIER_TLS_CA", trusted), *own)

    return _reread([trusted, certificate, key], read)


def _both(variables: tuple[str, str], certificate: str, key: str) -> None:
    if bool(certificate) != bool(key):
        there, absent = variables if certificate else reversed(variables)
        raise SettingsError(f"{there} is set and {absent} is missing: set both or neither")


def _reread(names: list[str], read: Callable[[], T]) -> Reread[T]:
    paths = [Path(name) for name in names if name]
    try:
        return Reread(lambda: paths, read)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from None


def _key_and_certificate(variables: tuple[str, str], certificate: str, key: str) -> tuple[bytes, bytes]:
    """Both as PEM, once they are known to belong together."""
    where = f"{variables[0]}={certificate} and {variables[1]}={key}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
        return Path(key).read_bytes(), Path(certificate).read_bytes()
    except ssl.SSLError as error:
        raise ValueError(f"{where} are no certificate and its key without password: {error}") from None
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror or error}") from None


def _authority(variable: str, path: str) -> bytes:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        return Path(path).read_bytes()
    except ssl.SSLError as error:
        raise ValueError(f"{variable}={path} holds no PEM certificates: {error}") from None
    except OSError as error:
        raise ValueError(f"{variable}={path} cannot be read: {error.strerror or error}") from None

"""What a client shows of itself (a token, a certificate) and whom it trusts. Read from the environment.

The files may be replaced while the program runs. A token goes over plaintext too: inside a cluster whose network is
trusted or encrypted that is the operator's choice, anywhere else set LUTHIER_TLS_CA.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import grpc

from luthier_kit.rpc import _tls as tls
from luthier_kit.rpc._reread import Reread
from luthier_kit.rpc._settings import ClientSettings, SettingsError, load


class Credentials:
    """The credentials of clients. Raises SettingsError for what cannot work."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        settings = load(ClientSettings, environ)
        self._tls = tls.channel_credentials(settings.tls_ca, settings.client_cert, settings.client_key)
        path = Path(settings.token_file)
        try:
            checked = _checked(settings.token) if settings.token or settings.token_file else ""
            self._token = Reread(lambda: [path], lambda: _checked(path.read_text())) if settings.token_file else None
        except (OSError, ValueError) as error:
            raise SettingsError(f"LUTHIER_TOKEN: {error}") from None
        self._fixed = checked

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        token = self._token() if self._token else self._fixed
        return (("authorization", f"Bearer {token}"),) if token else ()

    def secret(self) -> grpc.ChannelCredentials | None:
        """TLS for a new channel, None for plaintext; another object after the files were changed."""
        return self._tls() if self._tls else None


def _checked(text: str) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("a token must be printable ASCII without spaces, and not empty")
    return token

"""Who calls: named by a token, by a client certificate, or not at all; and how much each may have in flight.

Tokens: one file for each caller, named as the caller, with digests of its tokens. A line is `sha256:` and 64 hex
digits; several lines are several tokens, so that one can be replaced while both are good. Empty lines and comments
(`#`) are skipped, and so are files whose name starts with a dot.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from luthier.common.v1.common_pb2 import PERMISSION_GENERATE, PERMISSION_OPERATE, PERMISSION_READ, Permission
from luthier_kit.rpc import _telemetry as telemetry
from luthier_kit.rpc._errors import PermissionDenied, Unauthenticated
from luthier_kit.rpc._reread import Reread
from luthier_kit.rpc._settings import ServiceSettings, SettingsError

log = logging.getLogger(__name__)
TOKEN_KEY = "authorization"  # noqa: S105
SCHEME = "bearer"
ANY_CALLER = "*"
DEFAULT_PERMISSIONS: frozenset[int] = frozenset({PERMISSION_READ, PERMISSION_GENERATE})
"""Of callers that LUTHIER_CALLER_PERMISSIONS does not name: nothing that changes what others see."""
Metadata = Sequence[tuple[str, str | bytes]]
TOKEN_LINE = re.compile(r"sha256:([0-9a-fA-F]{64})")


class Tokens:
    """Knows callers by their tokens. The folder is read again when it is changed."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise SettingsError(f"LUTHIER_CALLERS {folder} is not a folder")
        try:
            faults = list(self._faults())
            self._known = Reread(self._watched, self._read)
        except (OSError, ValueError) as error:
            raise SettingsError(f"LUTHIER_CALLERS cannot be read: {error}") from None
        if faults:
            raise SettingsError("\n".join(f"LUTHIER_CALLERS {fault}" for fault in faults))
        if not self._known():
            log.warning("LUTHIER_CALLERS %s names no caller: every call will be refused", folder)

    def caller(self, token: str) -> str | None:
        """Name of the caller who has this token, None for an unknown one. All digests are compared in constant time."""
        digest, found = hashlib.sha256(token.encode()).digest(), None
        for known, name in self._known():
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _files(self) -> list[Path]:
        return sorted(p for p in self._folder.iterdir() if not p.name.startswith(".") and p.is_file())

    def _watched(self) -> list[Path]:
        return [self._folder, *self._files()] if self._folder.is_dir() else [self._folder]

    def _lines(self) -> Iterator[tuple[str, int, str]]:
        for path in self._files():
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if line.strip() and not line.startswith("#"):
                    yield path.name, number, line.strip()

    def _faults(self) -> Iterator[str]:
        """What is wrong, without the line itself: someone may have put the token there."""
        for name, number, line in self._lines():
            if not TOKEN_LINE.fullmatch(line):
                yield f"{name}, line {number}: must be sha256:<64 hex digits of the SHA-256 of a token>"

    def _read(self) -> list[tuple[bytes, str]]:
        """Digests and names. A line that is wrong does not keep what is right in it from counting (or from going)."""
        for fault in self._faults():
            log.error("LUTHIER_CALLERS %s", fault)
        found = ((TOKEN_LINE.fullmatch(line), name) for name, _, line in self._lines())
        return [(bytes.fromhex(match[1]), name) for match, name in found if match]


class Callers:
    """Names callers as the settings say.

    With LUTHIER_CALLERS a token names the caller, with LUTHIER_TLS_CLIENT_CA its certificate; with both a call that
    brings a token must bring a good one, and one without goes by its certificate.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._tokens = Tokens(settings.callers) if settings.callers else None
        self._certificates = bool(settings.tls_client_ca)
        self._allowed = frozenset(settings.callers_allowed)
        self.asked = bool(self._tokens or self._certificates)
        self._permissions = _permissions(settings.caller_permissions)
        if settings.caller_permissions and not self.asked:
            text = "needs LUTHIER_CALLERS or LUTHIER_TLS_CLIENT_CA: without them callers have no names"
            raise SettingsError(f"LUTHIER_CALLER_PERMISSIONS {text}")
        if self._allowed and not self.asked:
            text = "needs LUTHIER_CALLERS or LUTHIER_TLS_CLIENT_CA: without them nobody is asked for a name"
            raise SettingsError(f"LUTHIER_CALLERS_ALLOWED {text}")

    def name(self, metadata: Metadata, identity: Mapping[str, Iterable[bytes]]) -> str:
        """The caller's name, "" when callers need no name. `identity` is what TLS knows of the peer (`auth_context`).

        Raises Unauthenticated NO_CREDENTIALS or BAD_CREDENTIALS, PermissionDenied CALLER_NOT_ALLOWED.
        """
        if not self.asked:
            return ""
        caller = self._by_token(metadata) or (_by_certificate(identity) if self._certificates else "")
        if not caller:
            raise Unauthenticated("the call brings no credentials: send a token or show a certificate with a name",
                                  reason="NO_CREDENTIALS")  # fmt: skip
        if self._allowed and caller not in self._allowed:
            raise PermissionDenied(f"the caller {caller!r} may not call this service", reason="CALLER_NOT_ALLOWED")
        return caller

    def permit(self, caller: str, permission: int) -> None:
        """Raises PermissionDenied CALLER_NOT_PERMITTED when this caller may not call methods that ask for it.

        Where callers have no names everything is permitted: the network decides.
        """
        wanted = permission or PERMISSION_OPERATE
        if self.asked and wanted not in self._permissions.get(caller, self._permissions[ANY_CALLER]):
            name = Permission.Name(wanted).removeprefix("PERMISSION_").lower()
            text = f"the caller {caller!r} has no permission to {name} (LUTHIER_CALLER_PERMISSIONS)"
            raise PermissionDenied(text, reason="CALLER_NOT_PERMITTED", permission=name)

    def _by_token(self, metadata: Metadata) -> str:
        sent = [str(value) for key, value in metadata if key == TOKEN_KEY]
        if not self._tokens or not sent:
            return ""
        scheme, _, token = sent[0].partition(" ")
        caller = self._tokens.caller(token.strip()) if len(sent) == 1 and scheme.lower() == SCHEME else None
        if caller is None:
            raise Unauthenticated("the token in `authorization: Bearer ...` is nobody's", reason="BAD_CREDENTIALS")
        return caller


def _permissions(entries: tuple[str, ...]) -> dict[str, frozenset[int]]:
    """What each caller may do, from `name=read+generate`. SettingsError names the entry that is wrong."""
    known = {key.removeprefix("PERMISSION_").lower(): number for key, number in Permission.items() if number}
    found: dict[str, frozenset[int]] = {ANY_CALLER: DEFAULT_PERMISSIONS}
    for entry in entries:
        name, equals, listed = entry.partition("=")
        words = [word.strip() for word in listed.split("+") if word.strip()]
        if not (name.strip() and equals and known.keys() >= set(words)):
            text = f"must be name=permission+permission of {', '.join(known)}"
            raise SettingsError(f"LUTHIER_CALLER_PERMISSIONS {entry!r} {text}")
        found[name.strip()] = frozenset(known[word] for word in words)
    return found


def actor(claimed: str) -> str:
    """Who does something, for records: the authenticated caller, and whom it claims to act for.

    Where callers have no names it is the claim alone. Nothing is cut: who bounds names checks the claim, or all of it.
    """
    caller = telemetry.current_caller.get()
    if not caller or caller == claimed:
        return claimed
    return f"{caller} (as {claimed})" if claimed else caller


def _by_certificate(identity: Mapping[str, Iterable[bytes]]) -> str:
    """The common name, else the first DNS name, of the certificate that TLS has verified."""
    names = [*identity.get("x509_common_name", ()), *identity.get("peer_dns", ())]
    return next((name.decode(errors="replace") for name in names if name), "")


FORWARDED_KEY = "luthier-forwarded-for"  # metadata of a front's call: the peer that it is for


def forwarded(client: tuple[str, int] | None) -> tuple[tuple[str, str], ...]:
    """Metadata that names the client of a front's call, as gRPC would name it as a peer."""
    if client is None:
        return ()
    address, port = client
    peer = f"ipv6:%5B{address}%5D:{port}" if ":" in address else f"ipv4:{address}:{port}"
    return ((FORWARDED_KEY, peer),)


def peer_of(peer: str, metadata: Metadata) -> str:
    """Where a call comes from: its peer, and of the front of this process, which calls by a socket of its own, whom it
    calls for. Nobody else is believed."""
    if not peer.startswith("unix:"):
        return peer
    return next((str(value) for key, value in metadata if key == FORWARDED_KEY), peer)


def host(peer: str) -> str:
    """Where a call comes from, without the port: of `ipv4:10.0.0.7:4711` the `10.0.0.7`."""
    return peer.partition(":")[2].rpartition(":")[0]

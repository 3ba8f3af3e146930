"""Who calls: known by a token, by a client certificate, or not asked at all; and how much each may have in flight."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc

from luthier_kit import telemetry
from luthier_kit.errors import PermissionDenied, QuotaExceeded, Unauthenticated
from luthier_kit.settings import ServiceSettings, SettingsError
from luthier_kit.tokens import Tokens

TOKEN_KEY = "authorization"  # noqa: S105
SCHEME = "bearer"
CALLER_IN_FLIGHT = "CALLER_IN_FLIGHT"
Metadata = Sequence[tuple[str, str | bytes]]


class Callers:
    """Asks callers for their names as the settings say.

    With LUTHIER_CALLERS a token names the caller, with LUTHIER_TLS_CLIENT_CA its certificate; with both a call that
    brings a token must bring a good one, and one without goes by its certificate.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._tokens = Tokens(settings.callers) if settings.callers else None
        self._certificates = bool(settings.tls_client_ca)
        self._allowed = frozenset(settings.callers_allowed)
        self.asked = bool(self._tokens or self._certificates)
        if self._allowed and not self.asked:
            text = "needs LUTHIER_CALLERS or LUTHIER_TLS_CLIENT_CA: without them nobody is asked for a name"
            raise SettingsError(f"LUTHIER_CALLERS_ALLOWED {text}")

    def name(self, metadata: Metadata, context: grpc.ServicerContext) -> str:
        """The caller's name, "" when nobody is asked.

        Raises Unauthenticated NO_CREDENTIALS or BAD_CREDENTIALS, PermissionDenied CALLER_NOT_ALLOWED.
        """
        if not self.asked:
            return ""
        caller = self._by_token(metadata) or (_by_certificate(context) if self._certificates else "")
        if not caller:
            raise Unauthenticated("the call brings no credentials: send a token or show a certificate with a name",
                                  reason="NO_CREDENTIALS")  # fmt: skip
        if self._allowed and caller not in self._allowed:
            raise PermissionDenied(f"the caller {caller!r} may not call this service", reason="CALLER_NOT_ALLOWED")
        return caller

    def _by_token(self, metadata: Metadata) -> str:
        sent = [str(value) for key, value in metadata if key == TOKEN_KEY]
        if not self._tokens or not sent:
            return ""
        scheme, _, token = sent[0].partition(" ")
        caller = self._tokens.caller(token.strip()) if len(sent) == 1 and scheme.lower() == SCHEME else None
        if caller is None:
            raise Unauthenticated("the token in `authorization: Bearer ...` is nobody's", reason="BAD_CREDENTIALS")
        return caller


def _by_certificate(context: grpc.ServicerContext) -> str:
    """The common name, else the first DNS name, of the certificate that TLS has verified."""
    known = context.auth_context()
    names = [*known.get("x509_common_name", ()), *known.get("peer_dns", ())]  # type: ignore[misc]
    return next((name.decode(errors="replace") for name in names if name), "")


def host(context: grpc.ServicerContext) -> str:
    """Where a call comes from, without the port: of `ipv4:10.0.0.7:4711` the `10.0.0.7`."""
    return str(context.peer()).partition(":")[2].rpartition(":")[0]


class CallerLimit:
    """Bounds the calls of work, running and waiting, that one caller has in this process. 0 = no bound."""

    def __init__(self, service: str, bound: int) -> None:
        self.bound = bound
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._refused = telemetry.REFUSED_BY_CALLER_LIMIT.labels(service)

    @contextmanager
    def place(self, who: str) -> Iterator[None]:
        """For one call. Raises QuotaExceeded CALLER_IN_FLIGHT: later there is room again."""
        with self._lock:
            if self.bound and self._held[who] >= self.bound:
                self._refused.inc()
                text = f"{who} has {self.bound} calls of work in flight at this server, as many as a caller may have"
                raise QuotaExceeded(text, reason=CALLER_IN_FLIGHT, bound=str(self.bound))
            self._held[who] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[who] -= 1
                if not self._held[who]:
                    del self._held[who]

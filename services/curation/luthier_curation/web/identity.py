"""Who sends a change from the page, and what they may do: named by a proxy, by a token, or by their own word."""

from dataclasses import dataclass

from fastapi import Request

from luthier_curation.checking import MAX_REVIEWER_CHARS
from luthier_curation.settings import CurationSettings
from luthier_kit.rpc import PermissionDenied, SettingsError, Tokens, Unauthenticated

PROXY, TOKEN, CLAIM = "proxy", "token", "claim"


@dataclass(frozen=True)
class Person:
    """A name that is recorded beside changes, and whether its bearer is a curator: who decides about many clips,
    settles what reviewers disagree on, assigns, imports and exports."""

    name: str
    curator: bool

    def must_be_curator(self) -> "Person":
        """Themselves. PermissionDenied CURATOR_ONLY for a reviewer."""
        if not self.curator:
            text = f"{self.name!r} is a reviewer; curators do this (LUTHIER_WEB_CURATORS)"
            raise PermissionDenied(text, reason="CURATOR_ONLY")
        return self


class Identities:
    """Names people as the settings say. `way` is how: the header of a proxy, a token, or what the page claims."""

    def __init__(self, settings: CurationSettings) -> None:
        self._header, self._curators = settings.web_user_header, frozenset(settings.web_curators)
        if settings.web_tokens and not settings.callers:
            raise SettingsError("LUTHIER_WEB_TOKENS needs LUTHIER_CALLERS, whose tokens people show")
        if settings.web_tokens and self._header:
            raise SettingsError("LUTHIER_WEB_TOKENS and LUTHIER_WEB_USER_HEADER exclude each other")
        self._tokens = Tokens(settings.callers) if settings.web_tokens else None
        self.way = PROXY if self._header else TOKEN if self._tokens else CLAIM

    def person(self, request: Request, claimed: str) -> Person:
        """Who sends this request; `claimed` counts where neither a proxy nor a token says it. Unauthenticated NO_NAME,
        BAD_CREDENTIALS."""
        name = self._name(request, claimed)
        return Person(name, not self._curators or name in self._curators)

    def _name(self, request: Request, claimed: str) -> str:
        if self._header:
            return self._by_proxy(request)
        if self._tokens is None:
            return claimed
        sent = request.headers.getlist("authorization")
        if not sent:
            raise Unauthenticated("show your token first", reason="NO_CREDENTIALS")
        scheme, _, token = sent[0].partition(" ")
        name = self._tokens.caller(token.strip()) if len(sent) == 1 and scheme.lower() == "bearer" else None
        if name is None:
            raise Unauthenticated("the token is nobody's", reason="BAD_CREDENTIALS")
        return name

    def _by_proxy(self, request: Request) -> str:
        """Exactly one header: of two, one may be what a browser sent past the proxy."""
        sent = [value.encode("latin-1").decode(errors="replace").strip()
                for value in request.headers.getlist(self._header)]  # fmt: skip
        if len(sent) != 1 or not 0 < len(sent[0]) <= MAX_REVIEWER_CHARS:
            text = (
                f"the proxy must say who this is, in one header {self._header} of 1 to {MAX_REVIEWER_CHARS} characters"
            )
            raise Unauthenticated(text, reason="NO_NAME")
        return sent[0]

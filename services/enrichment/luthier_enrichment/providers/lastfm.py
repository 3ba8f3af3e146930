"""The Last.fm provider, by pylast: the best matching track, its tags, else its artist's tags at half weight.

About 5 requests per second are allowed per address; error 29 says that it was too much. The free tier is for
non-commercial use.
"""

import logging
from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

import pylast

from luthier_enrichment.findings import Finding, RawTag, State
from luthier_enrichment.limiter import TokenBucket
from luthier_enrichment.names import Name, score
from luthier_kit.rpc import retry_policy

T = TypeVar("T")
log = logging.getLogger(__name__)

HOST: Final = "ws.audioscrobbler.com"
RATE_HZ: Final = 5.0
WAIT_AT_MOST_S: Final = 20.0  # for the rate's next free moment
RATE_LIMITED: Final = "29"
NOT_FOUND: Final = "6"
BAD_KEY: Final = frozenset({"4", "10", "13", "26"})
RETRY_BUDGET_S: Final = 6.0  # after the first error 29; then it is given up for now
FIRST_PAUSE_S: Final = 1.0
MAX_TAGS: Final = 30


class _GivenUpError(Exception):
    """Last.fm does not answer for now."""


class _RateLimitedError(_GivenUpError):
    """Error 29: too many requests."""


class LastfmProvider:
    """Asks Last.fm; off without a key. Threads may share it."""

    name: ClassVar[str] = "lastfm"
    licence: ClassVar[str] = "Last.fm API terms of service: non-commercial use, attribution"
    is_remote: ClassVar[bool] = True
    version = "1"

    def __init__(
        self,
        api_key: str,
        min_score: float,
        *,
        host: str = HOST,
        rate_hz: float = RATE_HZ,
        retry_budget_s: float = RETRY_BUDGET_S,
        first_pause_s: float = FIRST_PAUSE_S,
        workers: int = 1,
    ) -> None:
        self._min_score, self._retry_budget_s, self._first_pause_s = min_score, retry_budget_s, first_pause_s
        self._bucket = TokenBucket(rate_hz, burst=2, workers=workers)
        self._network = pylast.LastFMNetwork(api_key=api_key) if api_key else None
        if self._network:
            self._network.ws_server = (host, "/2.0/")

    def off_because(self) -> str:
        return "" if self._network else "no key: set LUTHIER_LASTFM_API_KEY or LUTHIER_LASTFM_API_KEY_FILE"

    def find(self, song: Name, path: str) -> Finding:
        if self._network is None:
            return Finding(State.OFF, self.off_because())
        if not song.artist or not song.title:
            return Finding(State.NO_MATCH, "artist and title are needed")
        try:
            return self._look_up(song)
        except _GivenUpError as error:
            return Finding(State.FAILED, str(error))

    def _look_up(self, song: Name) -> Finding:
        search = pylast.TrackSearch(song.artist, song.title, self._network)
        tracks: list[Any] = self._ask(search.get_next_page, [])
        named = [(Name(str(t.artist or ""), str(t.title or "")), t) for t in tracks]
        name, track = max(named, key=lambda entry: score(song, entry[0]), default=(Name(), None))
        value = score(song, name)
        if track is None or value < self._min_score:
            return Finding(State.NO_MATCH, f"no track matches with {self._min_score:g}", value, name)
        tags = _tags(self._ask(lambda: track.get_top_tags(limit=MAX_TAGS), list[Any]()), 1.0)
        if not tags:
            tags = _tags(self._ask(lambda: track.artist.get_top_tags(limit=MAX_TAGS), list[Any]()), 0.5)
        return Finding(State.MATCHED, "" if tags else "matched, but it has no tags", value, name, tags)

    def _ask(self, request: Callable[[], T], nothing: T) -> T:
        """One request within the rate; error 29 pauses all threads, then it is asked again. Raises _GivenUpError."""

        def once() -> T:
            if not self._bucket.take(WAIT_AT_MOST_S):
                raise _GivenUpError("more songs wait than Last.fm's rate allows; retry later")
            try:
                return request()
            except pylast.WSError as error:
                code = str(error.status)
                if code == NOT_FOUND:
                    return nothing
                if code == RATE_LIMITED:
                    raise _RateLimitedError("Last.fm says rate limited (error 29); retry later") from None
                text = "refuses the key (error {})" if code in BAD_KEY else "answers error {}; retry later"
                raise _GivenUpError(f"Last.fm {text.format(code)}") from None
            except (pylast.NetworkError, pylast.MalformedResponseError, LookupError, AttributeError) as error:
                # pylast indexes into answers of another shape
                raise _GivenUpError(f"Last.fm cannot be reached ({type(error).__name__}); retry later") from None

        policy = retry_policy(
            self._retry_budget_s, _RateLimitedError, first_s=self._first_pause_s, sleep=self._bucket.pause, log=log
        )
        return policy(once)


def _tags(items: list[Any], factor: float) -> list[RawTag]:
    return [RawTag(str(item.item.name or ""), factor * _number(item.weight) / 100) for item in items]


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return 0.0

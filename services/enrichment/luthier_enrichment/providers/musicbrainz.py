"""The MusicBrainz provider, by its web service (ws/2): the best matching recording, its genres and its first release,
else the genres of its artist at half weight.

One request per second is allowed per address; 503 says that it was too much. The service refuses callers that do not
say who they are, so an operator names a contact. Names and dates are core data (CC0); genres are tags of its users,
which MusicBrainz gives away under CC BY-NC-SA 3.0.
"""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from typing import Any, ClassVar, Final

import requests
from urllib3.exceptions import HTTPError

from luthier_enrichment.findings import Fact, Finding, RawTag, State
from luthier_enrichment.limiter import TokenBucket
from luthier_enrichment.names import MAX_NAME_CHARS, Name, score
from luthier_kit.rpc import Unavailable, retry_policy

log = logging.getLogger(__name__)

URL: Final = "https://musicbrainz.org/ws/2/"
RATE_HZ: Final = 1.0
WAIT_AT_MOST_S: Final = 20.0  # for the rate's next free moment
TIMEOUT_S: Final = 10.0  # for one answer, whole
RETRY_BUDGET_S: Final = 10.0  # after the first 503; then it is given up for now
FIRST_PAUSE_S: Final = 2.0
MAX_BYTES: Final = 4 << 20  # of an answer; those of ten recordings have some 100 KiB
MAX_CANDIDATES: Final = 25  # a song has many recordings of one name, most of them without genres
MAX_COUNT: Final = 1_000_000  # of a tag's votes
CORE_LICENCE: Final = "CC0-1.0"


class _GivenUpError(Exception):
    """MusicBrainz does not answer for now."""


@dataclass(frozen=True)
class _Recording:
    """A recording that a search found; `votes` is how many of its users tagged it."""

    name: Name
    id: str
    artist_id: str
    votes: int
    year: str


class MusicbrainzProvider:
    """Asks MusicBrainz; off without a contact. Threads may share it."""

    name: ClassVar[str] = "musicbrainz"
    licence: ClassVar[str] = "MusicBrainz: genres are its users' tags, CC BY-NC-SA 3.0; names and dates CC0"
    is_remote: ClassVar[bool] = True
    version = "1"

    def __init__(
        self, contact: str, min_score: float, *, url: str = URL, rate_hz: float = RATE_HZ, timeout_s: float = TIMEOUT_S,
        retry_budget_s: float = RETRY_BUDGET_S, first_pause_s: float = FIRST_PAUSE_S, workers: int = 1,
    ) -> None:  # fmt: skip
        self._min_score, self._url, self._timeout_s = min_score, url.rstrip("/") + "/", timeout_s
        self._retry_budget_s, self._first_pause_s = retry_budget_s, first_pause_s
        self._bucket = TokenBucket(rate_hz, workers=workers)
        self._agent = f"Luthier/{version_of('luthier-enrichment')} ( {contact} )" if contact else ""

    def off_because(self) -> str:
        return "" if self._agent else "no contact: set LUTHIER_MUSICBRAINZ_CONTACT to an address of yours (mail or web)"

    def find(self, song: Name, path: str) -> Finding:
        if not self._agent:
            return Finding(State.OFF, self.off_because())
        if not song.artist or not song.title:
            return Finding(State.NO_MATCH, "artist and title are needed")
        try:
            return self._look_up(song)
        except (_GivenUpError, Unavailable) as error:
            return Finding(State.FAILED, str(error))

    def _look_up(self, song: Name) -> Finding:
        query = f"recording:{_quoted(song.title)} AND artist:{_quoted(song.artist)}"
        found = _recordings(self._ask("recording", {"query": query, "limit": str(MAX_CANDIDATES)}))
        best = max(found, key=lambda recording: (score(song, recording.name), recording.votes), default=None)
        value = score(song, best.name) if best else 0.0
        if best is None or value < self._min_score:
            name = best.name if best else Name()
            return Finding(State.NO_MATCH, f"no recording matches with {self._min_score:g}", value, name)
        tags = _genres(self._ask(f"recording/{best.id}", {"inc": "genres"}), 1.0)
        if not tags and best.artist_id:
            tags = _genres(self._ask(f"artist/{best.artist_id}", {"inc": "genres"}), 0.5)
        facts = [Fact("year", best.year, licence=CORE_LICENCE)] if best.year else []
        return Finding(State.MATCHED, "" if tags else "matched, but it has no genres", value, best.name, tags, facts)

    def _ask(self, path: str, parameters: Mapping[str, str]) -> Mapping[str, Any]:
        """One answer within the rate; 503 pauses all threads, then it is asked again.

        Raises Unavailable where 503 stays, and _GivenUpError for all else that is not an answer.
        """

        def once() -> Mapping[str, Any]:
            if not self._bucket.take(WAIT_AT_MOST_S):
                raise _GivenUpError("more songs wait than MusicBrainz's rate allows; retry later")
            try:
                return self._answer(path, parameters)
            except (requests.RequestException, HTTPError) as error:  # its text may quote the request
                raise _GivenUpError(f"MusicBrainz cannot be reached ({type(error).__name__}); retry later") from None

        policy = retry_policy(
            self._retry_budget_s, Unavailable, first_s=self._first_pause_s, sleep=self._bucket.pause, log=log
        )
        return policy(once)

    def _answer(self, path: str, parameters: Mapping[str, str]) -> Mapping[str, Any]:
        headers = {"User-Agent": self._agent, "Accept": "application/json"}
        ends_s = time.monotonic() + self._timeout_s
        with requests.get(
            self._url + path, {**parameters, "fmt": "json"}, headers=headers, timeout=self._timeout_s, stream=True
        ) as response:
            if response.status_code == requests.codes.service_unavailable:
                wait_s = response.headers.get("Retry-After", "")
                raise Unavailable(
                    "MusicBrainz says that it was asked too often (503); retry later",
                    retry_after_s=float(wait_s) if wait_s.isdecimal() else 0.0,
                )
            if response.status_code != requests.codes.ok:
                raise _GivenUpError(f"MusicBrainz answers {response.status_code}; retry later")
            body = bytearray()
            while part := response.raw.read1(64 << 10, decode_content=True):  # what has come: never waits for more
                body += part
                if len(body) > MAX_BYTES or time.monotonic() > ends_s:
                    raise _GivenUpError("MusicBrainz answers too slowly or too much; retry later")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise _GivenUpError("MusicBrainz answers what is not understood; retry later")
        return answer


def _recordings(answer: Mapping[str, Any]) -> list[_Recording]:
    found = []
    for item in _objects(answer.get("recordings")):
        credits_ = _objects(item.get("artist-credit"))
        names = [_text(credit.get("name")) + _text(credit.get("joinphrase")) for credit in credits_]
        artist = credits_[0].get("artist") if credits_ else None
        found.append(
            _Recording(
                Name("".join(names)[:MAX_NAME_CHARS], _text(item.get("title"))[:MAX_NAME_CHARS]),
                id=_id(item.get("id")),
                artist_id=_id(artist.get("id")) if isinstance(artist, dict) else "",
                votes=sum(_count(tag) for tag in _objects(item.get("tags"))),
                year=_year(item.get("first-release-date")),
            )
        )
    return [recording for recording in found if recording.id]


def _genres(answer: Mapping[str, Any], factor: float) -> list[RawTag]:
    """The genres of an answer; the one with most votes weighs the factor."""
    genres = _objects(answer.get("genres"))
    most = max((_count(genre) for genre in genres), default=0)
    return [
        RawTag(_text(genre.get("name")), factor * _count(genre) / most, "genre")
        for genre in genres
        if _count(genre) > 0
    ]


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(item: Mapping[str, Any]) -> int:
    count = item.get("count")
    return count if type(count) is int and 0 <= count <= MAX_COUNT else 0


def _id(value: Any) -> str:
    """An identifier of MusicBrainz (a UUID); empty for anything else, as it becomes part of a path."""
    text = _text(value)
    return text if len(text) == 36 and all(c in "0123456789abcdef-" for c in text) else ""


def _year(value: Any) -> str:
    year = _text(value)[:4]
    return year if len(year) == 4 and year.isdecimal() else ""


def _quoted(text: str) -> str:
    """A phrase of the search's query language (Lucene): nothing in it is an operator."""
    return '"' + text.replace("\\", " ").replace('"', " ") + '"'

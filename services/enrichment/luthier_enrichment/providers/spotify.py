"""The Spotify provider, by spotipy: album, year and the artist's genres. Off by default, and here is why.

Spotify closed audio features and audio analysis to new applications on 2024-11-27, so tempo, key and sections must
come from our own analysis; and its developer policy forbids training models on Spotify content. Who may use what is
left switches it on; every value carries the terms.
"""

import logging
from typing import Any, ClassVar, Final

import requests
import spotipy
from spotipy.oauth2 import SpotifyClientCredentials, SpotifyOauthError

from luthier_enrichment.findings import Fact, Finding, RawTag, State
from luthier_enrichment.limiter import TokenBucket
from luthier_enrichment.names import Name, score

log = logging.getLogger(__name__)

API_URL: Final = "https://api.spotify.com/v1/"
TOKEN_URL: Final = "https://accounts.spotify.com/api/token"  # noqa: S105 - an address, not a secret
OFF: Final = (
    "off by default: Spotify closed audio features and analysis to new applications (2024-11-27) and its developer "
    "policy forbids training models on its content; LUTHIER_SPOTIFY_ENABLED=1 switches it on"
)
RATE_HZ: Final = 5.0
WAIT_AT_MOST_S: Final = 20.0
TIMEOUT_S: Final = 10.0


class SpotifyProvider:
    """Asks Spotify; off unless it is switched on and has a client id and secret. Threads may share it."""

    name: ClassVar[str] = "spotify"
    licence: ClassVar[str] = "Spotify Developer Policy: not for training machine-learning models"
    is_remote: ClassVar[bool] = True
    version = "1"

    def __init__(
        self, enabled: bool, client_id: str, client_secret: str, min_score: float, *, api_url: str = API_URL,
        token_url: str = TOKEN_URL, timeout_s: float = TIMEOUT_S, workers: int = 1,
    ) -> None:  # fmt: skip
        self._enabled, self._min_score = enabled, min_score
        self._bucket = TokenBucket(RATE_HZ, burst=2, workers=workers)
        self._client = None
        if enabled and client_id and client_secret:
            login = SpotifyClientCredentials(
                client_id,
                client_secret,
                requests_timeout=timeout_s,
                cache_handler=spotipy.cache_handler.MemoryCacheHandler(),
            )
            login.OAUTH_TOKEN_URL = token_url
            self._client = spotipy.Spotify(
                auth_manager=login, requests_timeout=timeout_s, retries=0, status_retries=0, status_forcelist=()
            )
            self._client.prefix = api_url

    def off_because(self) -> str:
        if not self._enabled:
            return OFF
        return (
            "" if self._client else "no key: set LUTHIER_SPOTIFY_CLIENT_ID and LUTHIER_SPOTIFY_CLIENT_SECRET (or _FILE)"
        )

    def find(self, song: Name, path: str) -> Finding:
        if self._client is None:
            return Finding(State.OFF, self.off_because())
        if not song.artist or not song.title:
            return Finding(State.NO_MATCH, "artist and title are needed")
        if not self._bucket.take(WAIT_AT_MOST_S):
            return Finding(State.FAILED, "more songs wait than the rate allows; retry later")
        try:
            return self._look_up(self._client, song)
        except (SpotifyOauthError, spotipy.SpotifyException, requests.RequestException) as error:
            return Finding(State.FAILED, _failure(error))

    def _look_up(self, client: spotipy.Spotify, song: Name) -> Finding:
        query = f"track:{_quoted(song.title)} artist:{_quoted(song.artist)}"
        answer = client.search(q=query, type="track", limit=10)
        if not isinstance(answer, dict) or "tracks" not in answer:
            return Finding(State.FAILED, "Spotify answers what is not understood; retry later")
        named = [(_name(item), item) for item in answer["tracks"].get("items") or [] if item]
        name, track = max(named, key=lambda entry: score(song, entry[0]), default=(Name(), None))
        value = score(song, name)
        if track is None or value < self._min_score:
            return Finding(State.NO_MATCH, f"no track matches with {self._min_score:g}", value, name)
        artist_id = (track.get("artists") or [{}])[0].get("id")
        artist = (client.artist(artist_id) or {}) if artist_id and self._bucket.take(WAIT_AT_MOST_S) else {}
        tags = [RawTag(str(genre), 1.0, "genre") for genre in artist.get("genres") or ()]
        return Finding(State.MATCHED, "", value, name, tags, _facts(track))


def _failure(error: Exception) -> str:
    """A failure for people; the error's own text may quote the request."""
    if isinstance(error, SpotifyOauthError):
        return "Spotify refuses the client id and secret"
    if isinstance(error, spotipy.SpotifyException):
        return f"Spotify answers {error.http_status}; retry later"
    return f"Spotify cannot be reached ({type(error).__name__}); retry later"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', " ") + '"'


def _name(track: dict[str, Any]) -> Name:
    artists = track.get("artists") or [{}]
    return Name(str(artists[0].get("name") or ""), str(track.get("name") or ""))


def _facts(track: dict[str, Any]) -> list[Fact]:
    album = track.get("album") or {}
    year = str(album.get("release_date") or "")[:4]
    facts = [Fact("album", str(album["name"]))] if album.get("name") else []
    return facts + ([Fact("year", year)] if year.isdigit() else [])

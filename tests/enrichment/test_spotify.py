"""The Spotify provider: real spotipy against a server on loopback that speaks the API."""

import pytest

from luthier_enrichment.findings import State
from luthier_enrichment.names import Name
from luthier_enrichment.providers.spotify import SpotifyProvider

from .conftest import Answer, Spotify

SONG = Name("Toto", "Africa")
TRACK = {
    "name": "Africa",
    "artists": [{"name": "TOTO", "id": "a1"}],
    "album": {"name": "Toto IV", "release_date": "1982-04-08"},
}


def provider(site: Spotify, secret: str = "secret") -> SpotifyProvider:
    api_url, token_url = f"http://{site.host}/v1/", f"http://{site.host}/api/token"
    return SpotifyProvider(True, "id", secret, 0.85, api_url=api_url, token_url=token_url, timeout_s=3.0)


def test_it_is_off_by_default_and_says_why() -> None:
    why = SpotifyProvider(False, "id", "secret", 0.85).off_because()
    assert "closed audio features" in why
    assert "forbids training" in why


def test_switched_on_without_a_key_it_says_so() -> None:
    assert "LUTHIER_SPOTIFY_CLIENT_ID" in SpotifyProvider(True, "", "", 0.85).off_because()


def test_album_year_and_genres_come_with_the_score(spotify: Spotify) -> None:
    spotify.items, spotify.genres = (
        [{"name": "Africa", "artists": [{"name": "Weezer", "id": "w"}]}, TRACK],
        ["soft rock"],
    )
    found = provider(spotify).find(SONG, "")
    assert (found.state, found.score) == (State.MATCHED, 1.0)
    assert [(fact.name, fact.value) for fact in found.facts] == [("album", "Toto IV"), ("year", "1982")]
    assert [(tag.text, tag.kind) for tag in found.tags] == [("soft rock", "genre")]


def test_a_bad_match_is_not_accepted_but_its_score_is_kept(spotify: Spotify) -> None:
    spotify.items = [{"name": "Africa", "artists": [{"name": "Weezer"}]}]
    found = provider(spotify).find(SONG, "")
    assert (found.state, found.matched.artist) == (State.NO_MATCH, "Weezer")


@pytest.mark.parametrize(
    "answer", [(403, "application/json", "{}"), (429, "application/json", "{}"), (200, "text/plain", "x")]
)
def test_trouble_on_the_other_side_is_a_failure_for_now(spotify: Spotify, answer: Answer) -> None:
    speak = spotify.answer
    spotify.answer = lambda *args: speak(*args) if args[1] == "/api/token" else answer
    assert provider(spotify).find(SONG, "").state is State.FAILED


def test_a_refused_secret_is_named_but_not_shown(spotify: Spotify) -> None:
    found = provider(spotify, secret="wr0ng-secret").find(SONG, "")
    assert found.state is State.FAILED
    assert "refuses" in found.message
    assert "wr0ng-secret" not in found.message

"""The Last.fm provider: real pylast against a server on loopback that speaks the API."""

import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from luthier_enrichment.findings import State
from luthier_enrichment.names import Name
from luthier_enrichment.providers.lastfm import LastfmProvider

from .conftest import Answer, LastFm

SONG = Name("Metallica", "Enter Sandman")


def provider(host: str, key: str = "good-key", **options: float) -> LastfmProvider:
    return LastfmProvider(
        key, 0.85, workers=1, host=host, **{"rate_hz": 50.0, "retry_budget_s": 0.3, "first_pause_s": 0.05} | options
    )


def test_without_a_key_it_is_off_and_says_how_to_give_one() -> None:
    off = LastfmProvider("", 0.85)
    assert "LUTHIER_LASTFM_API_KEY_FILE" in off.off_because()
    assert off.find(SONG, "").state is State.OFF


def test_the_best_matching_track_gives_its_tags(lastfm: LastFm) -> None:
    lastfm.tracks = {
        ("Metallica", "Enter Sandman (live)"): [],
        ("Metallica", "Enter Sandman"): [("heavy metal", 100), ("Metal", 57), ("female vocalists", 3)],
        ("Some Band", "Enter Sandman"): [("pop", 100)],
    }
    found = provider(lastfm.host).find(SONG, "")
    assert (found.state, found.score, found.matched.artist) == (State.MATCHED, 1.0, "Metallica")


def test_weights_are_shares(lastfm: LastFm) -> None:
    lastfm.tracks = {("Metallica", "Enter Sandman"): [("heavy metal", 100), ("metal", 57)]}
    found = provider(lastfm.host).find(SONG, "")
    assert [(tag.text, tag.weight) for tag in found.tags] == [("heavy metal", 1.0), ("metal", 0.57)]


def test_without_tags_of_its_own_the_artists_count_half(lastfm: LastFm) -> None:
    lastfm.tracks = {("Metallica", "Enter Sandman"): []}
    lastfm.artists = {"Metallica": [("thrash metal", 100)]}
    found = provider(lastfm.host).find(SONG, "")
    assert [(tag.text, tag.weight) for tag in found.tags] == [("thrash metal", 0.5)]


def test_a_bad_match_is_not_accepted_but_its_score_is_kept(lastfm: LastFm) -> None:
    lastfm.tracks = {("Apocalyptica", "Enter Sandman"): [("cello", 100)]}
    found = provider(lastfm.host).find(SONG, "")
    assert (found.state, found.tags, found.matched.artist) == (State.NO_MATCH, (), "Apocalyptica")
    assert 0 < found.score < 0.85


def test_an_unknown_song_is_no_match(lastfm: LastFm) -> None:
    assert provider(lastfm.host).find(SONG, "").state is State.NO_MATCH


def test_error_29_is_waited_for_and_asked_again(lastfm: LastFm) -> None:
    lastfm.tracks = {("Metallica", "Enter Sandman"): [("metal", 100)]}
    speak, left = lastfm.answer, [lastfm.error(29)] * 2
    lastfm.answer = lambda *args: left.pop() if left else speak(*args)
    assert provider(lastfm.host).find(SONG, "").state is State.MATCHED


def test_error_29_that_stays_is_for_later(lastfm: LastFm) -> None:
    lastfm.answer = lambda *_: lastfm.error(29)
    found = provider(lastfm.host).find(SONG, "")
    assert found.state is State.FAILED
    assert "29" in found.message
    assert "retry later" in found.message
    assert 3 <= len(lastfm.calls) <= 6


@pytest.mark.parametrize(
    "answer",
    [
        11,
        (503, "text/plain", "busy"),
        (200, "text/plain", "not xml"),
        (200, "text/xml", "<a/>"),
    ],
)
def test_trouble_on_the_other_side_is_a_failure_for_now(lastfm: LastFm, answer: int | Answer) -> None:
    lastfm.answer = lambda *_: lastfm.error(answer) if isinstance(answer, int) else answer
    assert provider(lastfm.host).find(SONG, "").state is State.FAILED


def test_a_refused_key_is_named_but_not_shown(lastfm: LastFm) -> None:
    found = provider(lastfm.host, key="bad-key-123").find(SONG, "")
    assert found.state is State.FAILED
    assert "refuses the key" in found.message
    assert "bad-key-123" not in found.message


def test_a_server_that_is_down_is_a_failure_for_now(tls: ssl.SSLContext) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    found = provider(host).find(SONG, "")
    assert found.state is State.FAILED
    assert "cannot be reached" in found.message


def test_all_threads_share_one_rate(lastfm: LastFm) -> None:
    shared = provider(lastfm.host, rate_hz=20.0)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: shared.find(Name("A", f"Song {n}x"), ""), range(12)))
    assert len(lastfm.calls) == 12
    assert time.monotonic() - started >= (12 - 2) / 20

"""The MusicBrainz provider against a server on loopback that speaks its web service."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from luthier_enrichment.findings import Finding, State
from luthier_enrichment.names import Name
from luthier_enrichment.providers.musicbrainz import MusicbrainzProvider
from luthier_enrichment.registry import build_providers
from luthier_enrichment.settings import EnrichmentSettings

from .conftest import APOCALYPTICA, COVER, ENTER_SANDMAN, METALLICA, Answer, MusicBrainz

SONG = Name("Metallica", "Enter Sandman")


def provider(host: str, contact: str = "me@example.org", **options: float) -> MusicbrainzProvider:
    return MusicbrainzProvider(
        contact, 0.85, workers=1, url=f"http://{host}/ws/2/",
        **{"rate_hz": 50.0, "timeout_s": 3.0, "retry_budget_s": 0.3, "first_pause_s": 0.05} | options,
    )  # fmt: skip


def find(site: MusicBrainz, song: Name = SONG) -> Finding:
    return provider(site.host).find(song, "")


def test_without_a_contact_it_is_off_and_says_how_to_give_one() -> None:
    off = MusicbrainzProvider("", 0.85)
    assert "LUTHIER_MUSICBRAINZ_CONTACT" in off.off_because()
    assert off.find(SONG, "").state is State.OFF


def test_it_says_who_asks(musicbrainz: MusicBrainz) -> None:
    find(musicbrainz)
    assert all(agent.startswith("Luthier/") and "( me@example.org )" in agent for agent in musicbrainz.agents)


def test_the_best_matching_recording_gives_its_genres_by_share_of_votes(musicbrainz: MusicBrainz) -> None:
    musicbrainz.genres = {
        ENTER_SANDMAN: [("heavy metal", 8), ("thrash metal", 4), ("ballad", 0)],
        COVER: [("cello", 9)],
    }
    found = find(musicbrainz)
    assert (found.state, found.score, found.matched) == (State.MATCHED, 1.0, SONG)
    assert [(t.text, t.weight, t.kind) for t in found.tags] == [
        ("heavy metal", 1.0, "genre"), ("thrash metal", 0.5, "genre"),
    ]  # fmt: skip


def test_the_first_release_gives_the_year_which_is_core_data(musicbrainz: MusicBrainz) -> None:
    assert [(f.name, f.value, f.licence) for f in find(musicbrainz).facts] == [("year", "1991", "CC0-1.0")]


def test_without_genres_of_its_own_the_artists_count_half(musicbrainz: MusicBrainz) -> None:
    musicbrainz.genres = {METALLICA: [("thrash metal", 20), ("hard rock", 5)], APOCALYPTICA: [("cello rock", 9)]}
    assert [(t.text, t.weight) for t in find(musicbrainz).tags] == [("thrash metal", 0.5), ("hard rock", 0.125)]


def test_of_recordings_of_one_name_the_one_with_most_votes_speaks(musicbrainz: MusicBrainz) -> None:
    untagged = dict(musicbrainz.recordings[2], id="00000009-0000-4000-8000-000000000000", tags=[])
    musicbrainz.recordings.insert(0, untagged)
    musicbrainz.genres = {ENTER_SANDMAN: [("heavy metal", 1)]}
    assert [t.text for t in find(musicbrainz).tags] == ["heavy metal"]


def test_artists_that_are_credited_together_are_one_name(musicbrainz: MusicBrainz) -> None:
    both = musicbrainz.recordings[2]
    both["title"] = "Under Pressure"
    both["artist-credit"] = [
        {"name": "Queen", "joinphrase": " & ", "artist": {"id": METALLICA}},
        {"name": "David Bowie", "artist": {"id": APOCALYPTICA}},
    ]
    found = find(musicbrainz, Name("Queen and David Bowie", "Under Pressure"))
    assert (found.state, found.matched.artist) == (State.MATCHED, "Queen & David Bowie")


def test_a_bad_match_is_not_accepted_but_its_score_is_kept(musicbrainz: MusicBrainz) -> None:
    musicbrainz.recordings = musicbrainz.recordings[1:2]
    found = find(musicbrainz)
    assert (found.state, found.tags, found.matched.artist) == (State.NO_MATCH, (), "Apocalyptica")
    assert 0 < found.score < 0.85
    assert len(musicbrainz.calls) == 1


def test_an_unknown_song_is_no_match(musicbrainz: MusicBrainz) -> None:
    musicbrainz.recordings = []
    assert find(musicbrainz).state is State.NO_MATCH


def test_a_name_is_no_part_of_the_query_language(musicbrainz: MusicBrainz) -> None:
    find(musicbrainz, Name('AC"DC', "T.N.T.\\"))
    assert musicbrainz.calls[0][1]["query"] == 'recording:"T.N.T. " AND artist:"AC DC"'


def test_a_503_is_waited_for_and_asked_again(musicbrainz: MusicBrainz) -> None:
    speak, left = musicbrainz.answer, [(503, "application/json", "{}")] * 2
    musicbrainz.answer = lambda *args: left.pop() if left else speak(*args)
    assert find(musicbrainz).state is State.MATCHED


def test_a_503_that_stays_is_for_later(musicbrainz: MusicBrainz) -> None:
    musicbrainz.answer = lambda *_: (503, "application/json", "{}")
    found = find(musicbrainz)
    assert found.state is State.FAILED
    assert "503" in found.message
    assert "retry later" in found.message
    assert 3 <= len(musicbrainz.calls) <= 6


def test_the_servers_own_word_on_when_to_ask_again_is_kept(musicbrainz: MusicBrainz) -> None:
    speak, times = musicbrainz.answer, list[float]()

    def answer(*args: object) -> Answer:
        times.append(time.monotonic())
        musicbrainz.headers = {"Retry-After": "1"} if len(times) == 1 else {}
        return (503, "application/json", "{}") if len(times) == 1 else speak(*args)  # type: ignore[arg-type]

    musicbrainz.answer = answer
    assert provider(musicbrainz.host, retry_budget_s=5.0).find(SONG, "").state is State.MATCHED
    assert times[1] - times[0] >= 1.0


@pytest.mark.parametrize(
    "answer",
    [
        (500, "text/plain", "busy"),
        (403, "application/json", "{}"),
        (200, "text/html", "<html>"),
        (200, "application/json", "[]"),
        (200, "application/json", "[" * 100_000),
        (200, "application/json", "9" * 5_000),
        (200, "application/json", " " * (5 << 20)),
    ],
    ids=["500", "403", "html", "list", "deep", "digits", "large"],
)
def test_trouble_on_the_other_side_is_a_failure_for_now(musicbrainz: MusicBrainz, answer: Answer) -> None:
    musicbrainz.answer = lambda *_: answer
    assert find(musicbrainz).state is State.FAILED


@pytest.mark.parametrize(
    "item",
    [
        {}, {"id": 3}, {"id": "../artist"}, {"id": ENTER_SANDMAN, "title": None, "artist-credit": {"name": "x"}},
        {"id": ENTER_SANDMAN, "title": "Enter Sandman", "artist-credit": [3, {"name": 4, "artist": "x"}]},
        {"id": ENTER_SANDMAN, "title": "x" * 1_000_000, "artist-credit": [{"name": "Metallica" * 100_000}]},
    ],
)  # fmt: skip
def test_answers_of_another_shape_match_nothing(musicbrainz: MusicBrainz, item: object) -> None:
    musicbrainz.answer = lambda *_: (200, "application/json", json.dumps({"recordings": [item]}))
    assert find(musicbrainz).state is State.NO_MATCH


@pytest.mark.parametrize("count", [10**400, -1, True, 1.5, "9", None])
def test_a_count_that_is_none_is_no_vote(musicbrainz: MusicBrainz, count: object) -> None:
    musicbrainz.genres = {ENTER_SANDMAN: [("heavy metal", count), ("thrash metal", 2)]}  # type: ignore[list-item]
    assert [tag.text for tag in find(musicbrainz).tags] == ["thrash metal"]


def test_a_server_that_is_slow_is_a_failure_for_now(musicbrainz: MusicBrainz) -> None:
    def answer(*_: object) -> Answer:
        time.sleep(1.0)
        return 200, "application/json", "{}"

    musicbrainz.answer = answer
    found = provider(musicbrainz.host, timeout_s=0.2).find(SONG, "")
    assert (found.state, "cannot be reached" in found.message) == (State.FAILED, True)


@pytest.mark.parametrize(
    ("head", "byte"),
    [("Transfer-Encoding: chunked", b"1\r\n \r\n"), ("Content-Length: 1000", b" ")],
    ids=["chunked", "of a length"],
)
def test_a_server_that_sends_byte_by_byte_is_given_up(head: str, byte: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        pool.submit(_drip, listening, head, byte)
        started = time.monotonic()
        found = provider(host, timeout_s=0.5).find(SONG, "")
        took_s = time.monotonic() - started
    assert found.state is State.FAILED
    assert took_s < 3.0


def _drip(listening: socket.socket, head: str, byte: bytes) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode())
        for _ in range(100):  # at most 10 s
            try:
                connection.sendall(byte)
            except OSError:
                return
            time.sleep(0.1)


def test_a_server_that_is_down_is_a_failure_for_now() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    found = provider(host).find(SONG, "")
    assert (found.state, "cannot be reached" in found.message) == (State.FAILED, True)


def test_all_threads_share_one_rate(musicbrainz: MusicBrainz) -> None:
    musicbrainz.recordings = []
    shared = provider(musicbrainz.host, rate_hz=20.0)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: shared.find(Name("A", f"Song {n}x"), ""), range(10)))
    assert len(musicbrainz.calls) == 10
    assert time.monotonic() - started >= (10 - 1) / 20


def test_workers_behind_one_address_share_its_rate(musicbrainz: MusicBrainz) -> None:
    musicbrainz.recordings = []
    own = EnrichmentSettings(
        workers=4,
        musicbrainz_contact="me@example.org",
        musicbrainz_url=f"http://{musicbrainz.host}/ws/2/",
        musicbrainz_rate_hz=20.0,
    )
    workers = [build_providers(own)["musicbrainz"] for _ in range(4)]
    started = time.monotonic()
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda n: workers[n % 4].find(Name("A", f"Song {n}x"), ""), range(12)))
    assert len(musicbrainz.calls) == 12
    assert time.monotonic() - started >= (12 - 4) / 20  # each worker's first call is at once

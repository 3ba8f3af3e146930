"""The service over real gRPC, its store a folder."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypedDict, Unpack

import pytest

from luthier.common.v1 import common_pb2
from luthier.enrichment.v1 import enrichment_pb2 as pb
from luthier.enrichment.v1.enrichment_pb2_grpc import EnrichmentServiceStub
from luthier_enrichment.__main__ import build
from luthier_enrichment.settings import EnrichmentSettings
from luthier_kit.rpc import (
    Channel,
    Configuration,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    SettingsError,
)
from luthier_kit.store import open_store
from tests.support.services import running

from .conftest import ENTER_SANDMAN, LastFm, MusicBrainz

SHEET = """artist,title,tag,kind,weight,source,licence
Korp,Indigo,Hip-Hop,genre,100,book,CC0-1.0
Korp,Indigo,female vocalists,,90,book,CC0-1.0
Korp,Indigo,rap,,90,book,CC0-1.0
Korp,Indigo,seen live,,80,book,CC0-1.0
Korp,Indigo,chill,,70,,
Korp,Indigo,<b>ro\x01ck</b>,,60,,
"""


class Further(TypedDict, total=False):
    """The settings that the tests vary."""

    sheet: str
    lastfm_api_key: str
    lastfm_host: str
    lastfm_rate_hz: float
    musicbrainz_contact: str
    musicbrainz_url: str
    musicbrainz_rate_hz: float


class Serve(Protocol):
    """Starts the service with further settings; returns its stub."""

    def __call__(self, **more: Unpack[Further]) -> EnrichmentServiceStub: ...


def settings(folder: Path, **more: Unpack[Further]) -> EnrichmentSettings:
    return EnrichmentSettings(address="127.0.0.1:0", store_folder=folder / "store", create_bucket=True, **more)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts the service with further settings; returns its stub."""
    open_contexts: list[tuple[AbstractContextManager[str], Channel]] = []

    def start(**more: Unpack[Further]) -> EnrichmentServiceStub:
        own = settings(tmp_path, **more)
        context = running(build(own), own)
        channel = Channel(context.__enter__(), retry_budget_s=0)
        open_contexts.append((context, channel))
        return EnrichmentServiceStub(channel)

    yield start
    for context, channel in open_contexts:
        channel.close()
        context.__exit__(None, None, None)


def sheet_ref(tmp_path: Path, text: str = SHEET) -> common_pb2.ArtifactRef:
    return open_store(settings(tmp_path)).blobs.put_bytes("sheets", text.encode(), "csv", "text/csv")


def test_tags_come_normalised_with_source_and_licence_and_voices_are_counted(serve: Serve, tmp_path: Path) -> None:
    enrichment = serve()
    response = enrichment.EnrichSong(pb.EnrichSongRequest(path="Korp/Indigo.1.mid", sheet=sheet_ref(tmp_path)))
    assert [(t.text, t.kind, t.source) for t in response.tags] == [
        ("hip hop", "genre", "file:book"), ("relaxed", "mood", "file"), ("b rock b", "other", "file"),
    ]  # fmt: skip
    assert response.tags[0].licence == "CC0-1.0"
    assert response.tags[1].licence.startswith("unstated")
    assert response.dropped_vocal_tags == 2
    assert [(gone.text, gone.reason, gone.source) for gone in response.dropped] == [
        ("female vocalists", pb.DROP_REASON_VOCAL, "file:book"), ("rap", pb.DROP_REASON_VOCAL, "file:book"),
        ("seen live", pb.DROP_REASON_NOISE, "file:book"),
    ]  # fmt: skip
    assert (response.song.artist, response.song.title) == ("Korp", "Indigo")


def test_tags_that_came_with_the_song_are_merged_with_the_others_and_name_their_source(
    serve: Serve, tmp_path: Path
) -> None:
    own = [
        common_pb2.Tag(text="Acid Jazz", kind="genre", weight=1, source="audio-file"),
        common_pb2.Tag(text="hip-hop", weight=0.5, source="caption-file", licence="CC-BY-4.0"),
        common_pb2.Tag(text="female vocals", weight=1, source="caption-file"),
    ]
    request = pb.EnrichSongRequest(path="Korp/Indigo", sheet=sheet_ref(tmp_path), tags=own)
    enrichment = serve()
    response = enrichment.EnrichSong(request)
    assert [(t.text, t.source) for t in response.tags[:2]] == [
        ("acid jazz", "own:audio-file"), ("hip hop", "file:book"),
    ]  # fmt: skip
    assert response.dropped_vocal_tags == 3
    assert "own" in [status.provider for status in response.providers]
    del request.tags[:]
    assert not enrichment.EnrichSong(request).action.reused  # another question


@pytest.mark.parametrize(
    ("tag", "field"),
    [
        (common_pb2.Tag(text=" ", weight=1), "tags[0].text"),
        (common_pb2.Tag(text="x" * 65, weight=1), "tags[0].text"),
        (common_pb2.Tag(text="x", weight=2), "tags[0].weight"),
        (common_pb2.Tag(text="x", weight=float("nan")), "tags[0].weight"),
        (common_pb2.Tag(text="x", weight=1, kind="odd"), "tags[0].kind"),
        (common_pb2.Tag(text="x", weight=1, source="s" * 65), "tags[0].source"),
    ],
)
def test_a_tag_beyond_its_bounds_is_refused_by_field(serve: Serve, tag: common_pb2.Tag, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        serve().EnrichSong(pb.EnrichSongRequest(path="Korp/Indigo", tags=[tag]))
    assert [name for name, _ in refused.value.violations] == [field]


def test_the_licence_of_a_recording_is_that_of_just_this_song(serve: Serve, tmp_path: Path) -> None:
    rows = "artist,title,tag,audio_licence\nKorp,Indigo,jazz,\nKorp,Indigo,soul,CC-BY-4.0\nKorp,Indigoo,soul,CC0-1.0\n"
    enrichment, sheet = serve(), sheet_ref(tmp_path, rows)

    def licence(title: str) -> list[str]:
        response = enrichment.EnrichSong(pb.EnrichSongRequest(path=f"Korp/{title}", sheet=sheet))
        assert response.tags
        return [fact.value for fact in response.facts if fact.name == "audio_licence"]

    assert licence("Indigo") == ["CC-BY-4.0"]
    assert licence("Indigos") == []  # near enough for tags, but the licence would be another song's


def test_names_of_artist_title_and_guest_are_dropped_and_listed(serve: Serve, tmp_path: Path) -> None:
    rows = "".join(f"Santana,Smooth,{tag}\n" for tag in ("santana", "Smooth", "Rob Thomas", "latin rock"))
    request = pb.EnrichSongRequest(
        path="Santana/Smooth (feat. Rob Thomas).mid", sheet=sheet_ref(tmp_path, f"artist,title,tag\n{rows}")
    )
    response = serve().EnrichSong(request)
    assert [t.text for t in response.tags] == ["latin rock"]
    assert {(gone.text, gone.reason) for gone in response.dropped} == {
        (name, pb.DROP_REASON_NAME) for name in ("santana", "smooth", "rob thomas")
    }


def test_every_provider_says_what_it_did(serve: Serve, tmp_path: Path) -> None:
    enrichment = serve()
    response = enrichment.EnrichSong(pb.EnrichSongRequest(path="Korp/Indigo.mid", sheet=sheet_ref(tmp_path)))
    states = {p.provider: p.state for p in response.providers}
    assert states == {
        "path": pb.PROVIDER_STATE_MATCHED, "file": pb.PROVIDER_STATE_MATCHED,
        "lastfm": pb.PROVIDER_STATE_OFF, "musicbrainz": pb.PROVIDER_STATE_OFF, "spotify": pb.PROVIDER_STATE_OFF,
    }  # fmt: skip
    assert all(p.licence for p in response.providers)


def test_the_same_question_is_answered_from_the_record(serve: Serve, tmp_path: Path) -> None:
    enrichment, request = serve(), pb.EnrichSongRequest(path="Korp/Indigo.mid", sheet=sheet_ref(tmp_path))
    assert not enrichment.EnrichSong(request).action.reused
    assert enrichment.EnrichSong(request).action.reused


def test_the_servers_own_sheet_is_the_default(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text(SHEET)
    enrichment = serve(sheet=str(tmp_path / "tags.csv"))
    response = enrichment.EnrichSong(pb.EnrichSongRequest(song=common_pb2.SongName(artist="korp", title="indigo")))
    assert response.tags[0].text == "hip hop"


def test_a_failure_of_lastfm_is_told_and_not_remembered(serve: Serve, lastfm: LastFm) -> None:
    enrichment = serve(lastfm_api_key="good-key", lastfm_host=lastfm.host, lastfm_rate_hz=50.0)
    request = pb.EnrichSongRequest(path="Korp/Indigo.mid", providers=["lastfm"])
    speak, lastfm.answer = lastfm.answer, lambda *_: lastfm.error(11)
    assert enrichment.EnrichSong(request).providers[0].state == pb.PROVIDER_STATE_FAILED
    lastfm.answer, lastfm.tracks = speak, {("Korp", "Indigo"): [("electronic", 100), ("vocal", 20)]}
    response = enrichment.EnrichSong(request)
    assert [(t.text, t.source) for t in response.tags] == [("electronic", "lastfm")]
    assert response.providers[0].match_score == 1.0
    assert "non-commercial" in response.tags[0].licence


def test_the_genres_of_musicbrainz_come_with_their_licence(serve: Serve, musicbrainz: MusicBrainz) -> None:
    musicbrainz.genres = {ENTER_SANDMAN: [("heavy metal", 8)]}
    enrichment = serve(
        musicbrainz_contact="me@example.org", musicbrainz_url=f"http://{musicbrainz.host}/ws/2/", musicbrainz_rate_hz=50
    )
    response = enrichment.EnrichSong(
        pb.EnrichSongRequest(path="Metallica/Enter Sandman.mid", providers=["musicbrainz"])
    )
    assert [(t.text, t.kind, t.source) for t in response.tags] == [("metal", "genre", "musicbrainz")]
    assert "CC BY-NC-SA" in response.tags[0].licence
    assert [(f.name, f.value, f.licence) for f in response.facts] == [("year", "1991", "CC0-1.0")]


def test_a_contact_that_no_header_can_carry_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LUTHIER_MUSICBRAINZ_CONTACT"):
        build(settings(tmp_path, musicbrainz_contact="me\r\nX-Evil: 1"))


def test_spotify_is_off_with_the_reason(serve: Serve) -> None:
    listed = {p.provider: p for p in serve().ListProviders(pb.ListProvidersRequest()).providers}
    assert listed["spotify"].state == pb.PROVIDER_STATE_OFF
    assert "forbids training" in listed["spotify"].message
    assert set(listed) == {"path", "file", "lastfm", "musicbrainz", "spotify"}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.EnrichSongRequest(), "song.title"),
        (pb.EnrichSongRequest(song=common_pb2.SongName(artist="A")), "song.title"),
        (pb.EnrichSongRequest(path="x" * 1025), "path"),
        (pb.EnrichSongRequest(song=common_pb2.SongName(title="x" * 201)), "song.title"),
        (pb.EnrichSongRequest(path="a/b.mid", providers=["myspace"]), "providers[0]"),
        (pb.EnrichSongRequest(path="a/b.mid", sheet=common_pb2.ArtifactRef()), "sheet"),
    ],
)
def test_a_bad_request_is_told_the_field(serve: Serve, request_: pb.EnrichSongRequest, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        serve().EnrichSong(request_)
    assert field in [name for name, _ in caught.value.violations]


def test_a_bad_sheet_is_refused_with_its_line(serve: Serve, tmp_path: Path) -> None:
    bad = sheet_ref(tmp_path, "artist,title,tag\nA,,x\n")
    with pytest.raises(InvalidRequest, match="line 2"):
        serve().EnrichSong(pb.EnrichSongRequest(path="a/b.mid", sheet=bad))


def test_a_sheet_that_is_not_there_is_not_found(serve: Serve, tmp_path: Path) -> None:
    ref = sheet_ref(tmp_path)
    next((tmp_path / "store").rglob(ref.sha256 + "*")).unlink()
    with pytest.raises(NotFound):
        serve().EnrichSong(pb.EnrichSongRequest(path="a/b.mid", sheet=ref))


def test_a_bad_reference_to_a_sheet_that_is_held_is_refused(serve: Serve, tmp_path: Path) -> None:
    enrichment, ref = serve(), sheet_ref(tmp_path)
    enrichment.EnrichSong(pb.EnrichSongRequest(path="a/b.mid", sheet=ref))
    elsewhere, other = common_pb2.ArtifactRef(), common_pb2.ArtifactRef()
    elsewhere.MergeFrom(ref)
    elsewhere.bucket = "somebody-elses"
    other.MergeFrom(ref)
    other.key = f"sheets/{'0' * 64}.csv"
    for bad, refusal in ((elsewhere, PermissionDenied), (other, FailedPrecondition)):
        with pytest.raises(refusal):
            enrichment.EnrichSong(pb.EnrichSongRequest(path="a/b.mid", sheet=bad))


def test_the_server_does_not_start_with_a_sheet_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LUTHIER_ENRICHMENT_SHEET"):
        build(settings(tmp_path, sheet=str(tmp_path / "none.csv")))


def test_keys_are_not_shown() -> None:
    own = EnrichmentSettings(lastfm_api_key="k3y", spotify_client_secret="s3cret")
    assert "k3y" not in repr(own)
    assert "s3cret" not in repr(own)


def test_providers_are_in_the_configuration_and_those_elsewhere_age(
    serve: Serve, tmp_path: Path, lastfm: LastFm
) -> None:
    def configured(**more: Unpack[Further]) -> Configuration:
        return build(settings(tmp_path, **more)).configuration

    own_sheet = tmp_path / "own.csv"
    own_sheet.write_text(SHEET)
    asked = configured(lastfm_api_key="key", lastfm_host=lastfm.host)
    assert not configured().ages
    assert asked.ages
    assert len({configured().digest, asked.digest, configured(sheet=str(own_sheet)).digest}) == 3
    answer = serve().EnrichSong(pb.EnrichSongRequest(song=common_pb2.SongName(title="One")))
    assert answer.action.configuration == configured().digest

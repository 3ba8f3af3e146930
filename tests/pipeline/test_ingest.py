"""From a folder to a corpus: which files are found, and what is said of those that cannot be used."""

import os
from pathlib import Path
from typing import Any, Final

import pytest

from luthier.analysis.v1.analysis_pb2 import DecodeAudioResponse
from luthier.common.v1.common_pb2 import ActionInfo, Timeline
from luthier.enrichment.v1.enrichment_pb2 import EnrichSongResponse
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile, PartProgress
from luthier.rendering.v1.rendering_pb2 import InspectMidiRequest, InspectMidiResponse, NoteSignature, VoiceSignature
from luthier_kit.rpc import InvalidRequest, NotFound, Unavailable
from luthier_kit.store import Store
from luthier_pipeline.add_audio import RECORDINGS
from luthier_pipeline.corpus import Corpus, corpus_of, ingest_series, publish, put_manifest, read_manifest
from luthier_pipeline.ingest import inspect_folder, midi_files, skipped_files
from luthier_pipeline.run_status import ProgressPublisher
from luthier_pipeline.same_song import Earlier
from tests.pipeline.fakes import FakeClients, Stub, luthier


def renderer(**refused: Exception) -> Stub:
    """Inspects files by their bytes; `refused` maps those of a file to an error."""

    def inspect(request: InspectMidiRequest) -> InspectMidiResponse:
        return InspectMidiResponse(
            fingerprint="f" * 64, duration_s=61.2504, action=ActionInfo(reused=request.midi.size_bytes > 4)
        )

    return Stub(InspectMidi=[*refused.values(), inspect])


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"MThd" + b"x" * names.index(name))
    return folder


def test_midi_files_are_found_whatever_the_case_of_their_ending(tmp_path: Path) -> None:
    folder_of(tmp_path, "b/x.MID", "a/y.mid", "z.midi", "notes.txt")
    assert [path.name for path in midi_files(tmp_path)] == ["y.mid", "x.MID", "z.midi"]


def test_inspect_shows_every_file_and_keeps_its_field_names(store: Store, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "songs", "A/One.mid", "A/One.1.mid")
    document = luthier(["inspect", str(folder), "--json"], FakeClients(store, rendering=renderer())).document
    assert (document["files"], document["songs"], document["duplicates"], document["failed"]) == (2, 1, 1, 0)
    assert {row["path"]: (row["duplicate_of"], row["computed"]) for row in document["inspected"]} == {
        "A/One.1.mid": ("A/One.mid", False),
        "A/One.mid": ("", True),
    }
    assert set(document["inspected"][0]) == {
        "path", "artist", "title", "key", "sha256", "size_bytes", "fingerprint", "duration_s", "duplicate_of",
        "failure", "computed", "parts", "notes", "near_duplicate_of", "similarity", "related_fingerprints",
        "other_version_of", "music",
    }  # fmt: skip
    assert (document["inspected"][0]["size_bytes"], document["inspected"][0]["duration_s"]) == (5, 61.25)


def test_a_file_that_is_refused_is_a_row_and_a_service_that_is_away_ends_it(store: Store, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "songs", "A/One.mid")
    refused = InvalidRequest("it has no header", reason="MIDI_NOT_MIDI")
    document = luthier(
        ["ingest", str(folder), "--json"], FakeClients(store, rendering=renderer(first=refused))
    ).document
    assert document["failures"] == [
        {
            "path": "A/One.mid",
            "stage": "ingest",
            "reason": "MIDI_NOT_MIDI",
            "message": "it has no header",
            "variation": 0,
        }
    ]
    away = FakeClients(store, rendering=Stub(InspectMidi=Unavailable("no renderer", reason="UNREACHABLE")))
    done = luthier(["ingest", str(folder), "--collection", "book", "--json"], away)
    assert (done.code, done.document["error"]["reason"]) == (1, "UNREACHABLE")
    [(_, outcome)] = ingest_series(store, "book").entries()
    assert outcome.error.message == "no renderer"


def test_a_file_beyond_the_bound_is_refused_before_it_is_stored(store: Store, tmp_path: Path) -> None:
    (tmp_path / "big.mid").write_bytes(bytes((8 << 20) + 1))
    document = luthier(["inspect", str(tmp_path), "--json"], FakeClients(store, rendering=renderer())).document
    assert document["failures"][0]["reason"] == "MIDI_TOO_LARGE"
    assert document["inspected"][0]["key"] == ""


def test_an_ingest_is_announced_with_the_sheet_that_lies_beside_the_files(store: Store, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "songs", "A/One.mid")
    (folder / "tags.csv").write_text("artist,title,tag\n")
    line = ["ingest", str(folder), "--collection", "book", "--submission", "s1", "--licence", "CC0-1.0", "--json"]
    enrichment = Stub(EnrichSong=EnrichSongResponse())
    document = luthier(line, FakeClients(store, rendering=renderer(), enrichment=enrichment)).document
    [(_, outcome)] = ingest_series(store, "book").entries()
    assert (outcome.run, outcome.corpus.manifest.sha256) == ("s1", document["manifest"]["sha256"])
    assert store.blobs.read(outcome.corpus.sheet) == b"artist,title,tag\n"
    assert outcome.corpus.counts.songs == 1


def test_links_to_folders_are_not_followed_and_are_named(tmp_path: Path) -> None:
    outside = folder_of(tmp_path / "outside", "secret.mid", "below/other.mid")
    folder = folder_of(tmp_path / "songs", "Artist/Song.mid")
    (folder / "stolen.mid").symlink_to(outside / "secret.mid")
    (folder / "below").symlink_to(outside / "below", target_is_directory=True)
    (folder / "again.mid").symlink_to(folder / "Artist/Song.mid")
    assert [path.name for path in midi_files(folder)] == ["Song.mid", "again.mid", "stolen.mid"]
    assert [path.name for path in skipped_files(folder)] == ["below"]


def test_whatever_is_called_mid_and_cannot_be_used_has_its_line(store: Store, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "songs", "A/One.mid")
    (tmp_path / "outside.mid").write_bytes(b"secret")
    (folder / "outside.mid").symlink_to(tmp_path / "outside.mid")
    (folder / "dangling.mid").symlink_to(folder / "nowhere.mid")
    (folder / "loop.mid").symlink_to(folder / "loop.mid")
    (folder / "large.MIDI").write_bytes(bytes((8 << 20) + 1))
    os.mkfifo(folder / "pipe.mid")
    (folder / "A folder.mid").mkdir()
    expected = {
        "outside.mid": ("FILE_OUTSIDE_FOLDER", "it is a link to a file outside the folder: copy it"),
        "dangling.mid": ("FILE_UNREADABLE", "it is a link to a file that is not there"),
        "loop.mid": ("FILE_UNREADABLE", "cannot be read: Too many levels of symbolic links"),
        "large.MIDI": ("MIDI_TOO_LARGE", "midi: must have at most 8388608 bytes, got 8388609"),
        "pipe.mid": ("FILE_NOT_REGULAR", "it is no file but a pipe, a socket or a device"),
    }
    clients = FakeClients(store, rendering=renderer())
    document = luthier(["ingest", str(folder), "--json"], clients).document
    assert {f["path"]: (f["reason"], f["message"]) for f in document["failures"]} == expected
    for command in ("ingest", "inspect"):
        out = luthier([command, str(folder)], clients).out
        for path, (reason, message) in expected.items():
            assert any(path in line and f"{reason}: {message}" in line for line in out.splitlines()), (command, path)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    folder_of(tmp_path / "songs", "Artist/Song.mid")
    (tmp_path / "link").symlink_to(tmp_path / "songs", target_is_directory=True)
    assert [path.name for path in midi_files(tmp_path / "link")] == ["Song.mid"]


LIKE: Final = {b"MThd": range(0, 200), b"MThdx": range(0, 190), b"MThdxx": range(500, 700)}
"""Files by their bytes, and hashes of their notes: the first two are near-duplicates."""


def listening() -> Stub:
    """A renderer that hears LIKE."""

    def inspect(request: InspectMidiRequest) -> InspectMidiResponse:
        at = request.midi.size_bytes - 4
        voice = VoiceSignature(hashes=[*LIKE.values()][at])
        return InspectMidiResponse(
            fingerprint=f"{at}" * 64, duration_s=60, parts=5 - at, notes=100, signature=NoteSignature(voices=[voice]),
            action=ActionInfo(), timeline=Timeline(duration_s=63),
        )  # fmt: skip

    return Stub(InspectMidi=inspect)


def of_inspection(store: Store, folder: Path, *options: str) -> dict[str, Any]:
    return luthier(["inspect", str(folder), *options, "--json"], FakeClients(store, rendering=listening())).document


def test_of_near_duplicates_one_is_rendered_and_the_other_named(store: Store, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "songs", "A/One.mid", "B/One again.mid", "A/Two.mid")
    found = of_inspection(store, folder)
    assert (found["songs"], found["near_duplicates"]) == (2, 1)
    rows = {row["path"]: row for row in found["inspected"]}
    assert (rows["B/One again.mid"]["near_duplicate_of"], rows["B/One again.mid"]["similarity"]) == ("A/One.mid", 1.0)
    assert rows["A/One.mid"]["related_fingerprints"] == ["1" * 64]
    assert rows["A/Two.mid"]["related_fingerprints"] == []
    assert found["figures"]["groups"][0]["members"][0]["why_kept"] == "has more parts"


def test_near_duplicates_may_all_be_rendered(store: Store, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "songs", "A/One.mid", "B/One again.mid", "A/Two.mid")
    found = of_inspection(store, folder, "--near-duplicates", "keep")
    assert (found["songs"], found["near_duplicates"]) == (3, 0)
    assert {row["near_duplicate_of"] for row in found["inspected"]} == {"", "A/One.mid"}


def test_a_table_says_what_a_file_is(store: Store, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "songs", "A/One.mid", "B/One again.mid", "A/One.2.mid")
    out = luthier(["inspect", str(folder)], FakeClients(store, rendering=listening())).out
    assert "near-duplicate of A/One.mid (100% alike)" in out
    assert "by its name another version of A/One.mid" in out


def test_a_report_is_written_where_it_is_asked_for(store: Store, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "songs", "A/One.mid")
    clients, path = FakeClients(store, rendering=listening()), tmp_path / "new" / "report.html"
    (folder / "songs.zip").write_bytes(b"")
    out = luthier(["inspect", str(folder), "--report", str(path)], clients).out
    assert out.endswith(f"report {path}\n")
    assert "songs.zip: unpack it" in path.read_text()
    (tmp_path / "file").write_text("")
    refused = luthier(["inspect", str(folder), "--report", str(tmp_path / "file" / "report.html")], clients)
    assert (refused.code, "cannot be written" in refused.err) == (2, True)


def ingested(store: Store, folder: Path) -> Corpus:
    """What the newest ingest of a folder into one collection came to."""
    line = ["ingest", str(folder), "--collection", "book", "--json"]
    assert luthier(line, FakeClients(store, rendering=listening())).code == 0
    found = ingest_series(store, "book").latest()
    assert found
    return read_manifest(store, found[1].corpus.manifest)


def test_a_folder_that_grows_keeps_what_it_has(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    (folder / "A").mkdir(parents=True)
    (folder / "A/Worse.mid").write_bytes(b"MThdx")
    first = ingested(store, folder)
    assert [song.path for song in first.songs] == ["A/Worse.mid"]
    (folder / "A/Better.mid").write_bytes(b"MThd")
    second = ingested(store, folder)
    assert [song.path for song in second.songs] == ["A/Worse.mid"]
    assert list(second.songs[0].related_fingerprints) == ["0" * 64]
    assert put_manifest(store, ingested(store, folder)) == put_manifest(store, second)  # the same again is the same


def test_another_folder_of_the_collection_shares_splits_with_the_first(store: Store, tmp_path: Path) -> None:
    one, two, three = (tmp_path / name / "A" for name in ("one", "two", "three"))
    for folder, data in ((one, b"MThd"), (two, b"MThdxx"), (three, b"MThdx")):
        folder.mkdir(parents=True)
        (folder / "Song.mid").write_bytes(data)
    ingested(store, one.parent)
    assert [list(song.related_fingerprints) for song in ingested(store, two.parent).songs] == [[]]
    last = ingested(store, three.parent)  # the first folder is two ingests ago
    assert [list(song.related_fingerprints) for song in last.songs] == [["0" * 64]]
    assert [song.fingerprint for song in last.manifest.earlier] == ["0" * 64, "2" * 64]


def test_a_folder_that_grows_keeps_what_it_has_though_another_came_between(store: Store, tmp_path: Path) -> None:
    first, between = tmp_path / "first", tmp_path / "between"
    for path, data in ((first / "Worse.mid", b"MThdx"), (between / "Other.mid", b"MThdxx")):
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        ingested(store, path.parent)
    (first / "Better.mid").write_bytes(b"MThd")
    assert [song.path for song in ingested(store, first).songs] == ["Worse.mid"]


def test_earlier_songs_need_the_renderer_while_they_are_inspected(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, data in (("one", b"MThd"), ("two", b"MThdxx")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Song.mid").write_bytes(data)
    ingested(store, tmp_path / "one")
    said = list[tuple[int, int]]()

    def update(_: ProgressPublisher, progress: PartProgress) -> None:
        said.append((progress.ingest.inspected, progress.need_render))

    monkeypatch.setattr(ProgressPublisher, "update", update)
    ingested(store, tmp_path / "two")
    assert said == [(1, 0), (1, 1), (1, 0)]


def test_recordings_need_no_renderer_though_the_collection_has_midi(store: Store, tmp_path: Path) -> None:
    (tmp_path / "Song.mp3").write_bytes(b"ID3")
    decoded = DecodeAudioResponse(fingerprint="d" * 64, duration_s=60, action=ActionInfo())
    earlier = CorpusFile(path="A/One.mid", fingerprint="0" * 64, key="midi/0.mid", sha256="0" * 64)
    clients = FakeClients(
        store,
        analysis=Stub(DecodeAudio=decoded),
        rendering=Stub(InspectMidi=Unavailable("no renderer", reason="UNREACHABLE")),
    )
    corpus = inspect_folder(clients, tmp_path, "", earlier=Earlier([earlier]), source=RECORDINGS).corpus
    assert [song.path for song in corpus.songs] == ["Song.mp3"]
    assert [song.path for song in corpus.manifest.earlier] == ["A/One.mid"]


def test_an_earlier_song_that_was_taken_down_is_passed_over(store: Store, tmp_path: Path) -> None:
    earlier = CorpusFile(path="A/Gone.mid", fingerprint="9" * 64, key="midi/9.mid", sha256="9" * 64)
    publish(store, "book", "r", corpus_of([earlier], ""), None)
    folder, heard = folder_of(tmp_path / "songs", "A/One.mid"), listening()

    def inspect(request: InspectMidiRequest) -> InspectMidiResponse:
        if request.midi.sha256 == "9" * 64:
            raise NotFound("taken down", reason="ARTIFACT_TAKEN_DOWN")
        answer: InspectMidiResponse = heard.InspectMidi(request)
        return answer

    clients = FakeClients(store, rendering=Stub(InspectMidi=inspect))
    done = luthier(["ingest", str(folder), "--collection", "book", "--json"], clients)
    assert (done.code, done.document["songs"]) == (0, 1)

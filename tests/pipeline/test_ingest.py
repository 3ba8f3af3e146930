"""From a folder to a corpus: which files are found, and what is said of those that cannot be used."""

import os
from pathlib import Path

from luthier.common.v1.common_pb2 import ActionInfo
from luthier.enrichment.v1.enrichment_pb2 import EnrichSongResponse
from luthier.rendering.v1.rendering_pb2 import InspectMidiRequest, InspectMidiResponse
from luthier_kit.rpc import InvalidRequest, Unavailable
from luthier_kit.store import Store
from luthier_pipeline.corpus import ingest_series
from luthier_pipeline.ingest import midi_files, skipped_files
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
        "failure", "computed",
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

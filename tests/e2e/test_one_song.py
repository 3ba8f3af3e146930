"""One song is one song: what `luthier inspect` and an ingest say of variants of songs, with the real renderer."""

from pathlib import Path

import mido
from google.protobuf.json_format import ParseDict

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.pipeline.v1.pipeline_pb2 import CorpusManifest
from tests.system import System, songbook

DRUMS = 9  # the channel, counted from 0


def variant(path: Path, out: Path) -> None:
    """The song a semitone higher, with its last track dropped, in another resolution."""
    midi = mido.MidiFile(path)
    midi.tracks.pop()
    midi.ticks_per_beat *= 2
    for track in midi.tracks:
        for message in track:
            message.time *= 2
            if message.type in ("note_on", "note_off") and message.channel != DRUMS:
                message.note += 1
    out.parent.mkdir(parents=True, exist_ok=True)
    midi.save(out)


def test_near_duplicates_of_real_songs_are_found_and_named(system: System) -> None:
    folder = songbook(system.folder / "near-duplicates", keep=3)
    songs = sorted(folder.rglob("*.mid"))
    for number, path in enumerate(songs):
        variant(path, folder / "Elsewhere" / f"Unknown {number}.mid")
    report = system.folder / "corpus.html"
    found = system.luthier("inspect", str(folder), "--report", str(report))
    assert (found["files"], found["songs"], found["near_duplicates"]) == (6, 3, 3)
    originals = {f"Elsewhere/Unknown {n}.mid": path.relative_to(folder).as_posix() for n, path in enumerate(songs)}
    rows = {row["path"]: row["near_duplicate_of"] for row in found["inspected"]}
    assert rows == {**dict.fromkeys(originals.values(), ""), **originals}
    assert "Elsewhere/Unknown 2.mid" in report.read_text()

    manifest = ParseDict(system.luthier("ingest", str(folder))["manifest"], ArtifactRef())
    files = system.store.get(CorpusManifest, manifest, reason="MANIFEST_INVALID").files
    by_path = {file.path: file for file in files}
    for copy, original in originals.items():
        assert list(by_path[original].related_fingerprints) == [by_path[copy].fingerprint]

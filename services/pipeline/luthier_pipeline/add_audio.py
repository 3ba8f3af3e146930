"""add-audio: from a folder of recordings to clips in curation, as the subset `external`.

Recordings come without notes: they are decoded in place of rendered, cut by the audio alone, and their facts are
estimates. Everything else is as `luthier run` does it, resumable by the same action records.
"""

import re
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from luthier.analysis.v1.analysis_pb2 import DecodeAudioRequest
from luthier.pipeline.v1.pipeline_pb2 import NEAR_DUPLICATES_KEEP, CorpusFile, Recording
from luthier_pipeline.beside import MAX_LICENCE_CHARS, MAX_TAGS, beside, tag, tidy
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import plain
from luthier_pipeline.corpus import Shard, as_collection, as_name
from luthier_pipeline.ingest import Source, ingest_collection, midi_files
from luthier_pipeline.options import (
    ClipSeconds,
    InFlight,
    Json,
    Licence,
    Prompts,
    Styles,
    begin,
    prompts_for,
    styles_of,
)
from luthier_pipeline.run import Flight, RunSummary, default_in_flight, run_corpus
from luthier_pipeline.run_status import ProgressPublisher
from luthier_pipeline.song import (
    DECODE_TIMEOUT_S,
    MAX_NAME_CHARS,
    FileKind,
    IngestedFile,
    SongOptions,
    SongPipeline,
    ingest_as,
    original_of,
)

MEDIA_TYPES: Final = {
    ".aac": "audio/aac", ".aif": "audio/aiff", ".aifc": "audio/aiff", ".aiff": "audio/aiff", ".ape": "audio/x-ape",
    ".au": "audio/basic", ".caf": "audio/x-caf", ".flac": "audio/flac", ".m4a": "audio/mp4", ".m4b": "audio/mp4",
    ".mka": "audio/matroska", ".mp2": "audio/mpeg", ".mp3": "audio/mpeg", ".mp4": "audio/mp4", ".oga": "audio/ogg",
    ".ogg": "audio/ogg", ".opus": "audio/ogg", ".tta": "audio/x-tta", ".w64": "audio/x-w64", ".wav": "audio/wav",
    ".webm": "audio/webm", ".wma": "audio/x-ms-wma", ".wv": "audio/x-wavpack",
}  # fmt: skip
"""Media type by the ending of a file's name; files of other endings are not looked at."""
ORIGINALS: Final = FileKind("audio", 1 << 30, "AUDIO_TOO_LARGE")
AUDIO_FILE: Final = "audio-file"  # source of tags that stand in the recording's own file
SHOWN: Final = 10  # files that are named of those left out

_CREATIVE_COMMONS = re.compile(
    r"creativecommons\.org/(?:licenses/(?P<kind>by(?:-nc)?(?:-nd|-sa)?)/(?P<version>\d\.\d)|publicdomain/(?P<zero>zero)/1\.0)",
    re.IGNORECASE,
)


def add_audio(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Recordings, Artist/Title.mp3 or with tags.")],
    collection: Annotated[
        str, typer.Option(metavar="NAME", help="Collection in curation; default: the folder's name.")
    ] = "",
    in_flight: InFlight = None,
    clip_seconds: ClipSeconds = None,
    prompts: Prompts = None,
    styles: Styles = "",
    sheet: Annotated[
        str,
        typer.Option("--sheet", "--tags", metavar="FILE", help="Sheet of tags, CSV or JSON; default: FOLDER/tags.csv."),
    ] = "",
    licence: Licence = "unknown",
    json: Json = False,
) -> RunSummary:
    """Take a folder of recordings all the way into curation, as the subset external.

    MP3, AAC, ALAC, Ogg, Opus, FLAC, WAV, AIFF, WMA and others, 0.5 s to 30 min. Resumable as luthier run is.
    """
    context, began = begin(ctx, json), time.monotonic()
    name = as_collection(collection) if collection else as_name(folder.resolve().name)
    stored, inspected = ingest_collection(
        context, folder, name, licence, sheet, NEAR_DUPLICATES_KEEP, source=RECORDINGS
    )
    for path, notes in sorted(inspected.notes.items())[:SHOWN]:
        context.say(f"{path}: {'; '.join(notes)}")
    corpus, counts = stored.corpus, stored.corpus.counts
    summary = RunSummary(
        files=counts.files,
        duplicates=counts.duplicates,
        songs=counts.songs,
        computed=len(inspected.computed),
        reused=counts.files - counts.failed - len(inspected.computed),
        failures=corpus.failures,
    )
    if inspected.cpu_s:
        summary.cpu_s["decode"] = round(inspected.cpu_s, 3)
    options = SongOptions(
        name,
        licence=licence,
        clip_s=clip_seconds or 0.0,
        prompts=prompts or prompts_for(styles_of(styles)),
        styles=tuple(styles_of(styles)),
        sheet=stored.sheet,
    )
    flight = Flight(name, stored.run, Shard(), counts.songs, corpus.songs, summary)
    with ProgressPublisher(context.clients.store, flight.progress(None)) as publisher:
        pipeline = SongPipeline(context.clients, options)
        run_corpus(pipeline, flight, in_flight or default_in_flight(), publisher, began)
    document = {**summary.document(), "collection": name, "manifest": plain(stored.manifest)}
    by_path = {path: list(notes) for path, notes in inspected.notes.items()}
    context.answer({**document, "notes": by_path}, summary.text(name, f"{summary.rendered} recordings cut"))
    return summary


def audio_files(folder: Path) -> list[Path]:
    """All below a folder whose ending is that of audio and that is no folder, by name."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in MEDIA_TYPES and not path.is_dir())


def ingest_recording(clients: Clients, path: Path, folder: Path) -> IngestedFile:
    """Stores a recording of a folder, has it decoded, and reads what lies beside it. As `ingest_file` otherwise."""

    def decode(file: CorpusFile) -> IngestedFile:
        said = beside(path)
        request = DecodeAudioRequest(original=original_of(file))
        decoded = clients.analysis.DecodeAudio(request, timeout=DECODE_TIMEOUT_S)
        file.fingerprint, file.duration_s = decoded.fingerprint, round(decoded.duration_s, 3)
        own = {one.name: one.value for one in decoded.tags}
        named = own if own.get("artist") and own.get("title") else {}  # half a name is worse than the path's
        file.artist = (said.artist or named.get("artist", "") or file.artist)[:MAX_NAME_CHARS]
        file.title = (said.title or named.get("title", "") or file.title)[:MAX_NAME_CHARS]
        genres = re.split(r"[;,/]", own.get("genre", ""))
        tags = [found for genre in genres if (found := tag(genre, "genre", AUDIO_FILE))]
        recording = Recording(
            licence=said.licence or licence_of(own), tags=[*said.tags, *tags][:MAX_TAGS], captions=said.captions
        )
        file.recording.CopyFrom(recording)
        file.recording.SetInParent()
        return IngestedFile(file, decoded=decoded, notes=(*decoded.notes, *said.notes))

    return ingest_as(clients, path, folder, ORIGINALS, MEDIA_TYPES[path.suffix.lower()], decode)


def licence_of(tags: dict[str, str]) -> str:
    """The licence that a file's tags state: one of Creative Commons by its address, as an SPDX identifier, else what
    the licence's own tag says. A mere copyright line states none."""
    for text in tags.values():
        if found := _CREATIVE_COMMONS.search(text):
            return "CC0-1.0" if found["zero"] else f"CC-{found['kind'].upper()}-{found['version']}"
    return tidy(tags.get("licence", ""), MAX_LICENCE_CHARS)


def _skipped_text(folder: Path) -> str:
    midi = len(midi_files(folder))
    return f"skipped {midi} MIDI files: add-audio takes recordings alone, luthier run takes those" if midi else ""


RECORDINGS: Final = Source("audio", audio_files, ingest_recording, _skipped_text, needs_render=False)

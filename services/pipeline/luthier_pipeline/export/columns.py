"""What an exported data set says of each clip: the one table of columns that every format is written from.

Types are stated, never inferred: readers that infer them from JSON refuse a data set whose splits differ in what is
known, and take a title such as "1999-12-31" for a time (findings/audiofolder-metadata-types.sh). What is unknown is
null, and a list may be empty.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

import pyarrow as pa
from google.protobuf.json_format import MessageToDict

from luthier.common.v1.common_pb2 import (
    FACT_SOURCE_NOTES,
    FACT_SOURCE_TEMPO_MAP,
    VOICE_PRESENCE_HEARD,
    VOICE_PRESENCE_NONE,
    FactSource,
    KeyFact,
    Mode,
    TempoFact,
)
from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_kit.store import canonical_json

POLYPHONIC: Final = "polyphonic"
"""The subset of a clip that names none, as all clips were before there were subsets."""

VOICES: Final[dict[int, str]] = {VOICE_PRESENCE_NONE: "none", VOICE_PRESENCE_HEARD: "heard"}

Kind = Literal["text", "texts", "number", "flag"]
Value = str | list[str] | float | bool | None


@dataclass(frozen=True)
class Column:
    """A column of every format. `description` says unit and what null means."""

    name: str
    kind: Kind
    description: str
    of: Callable[[DatasetRow], Value]


def subset(row: DatasetRow) -> str:
    """`polyphonic`, `monophonic`, `external`, …"""
    return row.source.subset or POLYPHONIC


def key_name(key: KeyFact) -> str:
    """`C major`, `C` where the mode is unknown, empty where the key is."""
    mode = Mode.Name(key.mode).removeprefix("MODE_").lower() if key.mode else ""
    return f"{key.tonic} {mode}".strip() if key.tonic else ""


def genres(row: DatasetRow) -> list[str]:
    """Tags that name a genre."""
    return [tag.text for tag in row.tags if tag.kind == "genre"]


def audio_file_name(row: DatasetRow) -> str:
    """`clip-….flac`; see `folder.CLIP_FILE`."""
    return row.clip_id + PurePosixPath(row.audio.key).suffix


def _counted_quarters(tempo: TempoFact) -> float | None:
    if not tempo.tempo_bpm:
        return None
    if tempo.notated:
        return 1.0
    written = tempo.source in (FACT_SOURCE_NOTES, FACT_SOURCE_TEMPO_MAP)
    return tempo.beat_quarters or (1.0 if written else None)


def _source(source: FactSource) -> str | None:
    return FactSource.Name(source).removeprefix("FACT_SOURCE_").lower() if source else None


def _meter(row: DatasetRow) -> str | None:
    meter = row.facts.meter
    return f"{meter.numerator}/{meter.denominator}" if meter.numerator else None


def _voice(row: DatasetRow) -> str | None:
    if not row.facts.HasField("voice"):
        return "none" if row.source.midi_sha256 else None  # rendered from notes
    return VOICES.get(row.facts.voice.presence) if row.facts.voice.source else None


def _details(row: DatasetRow) -> str:
    return canonical_json(MessageToDict(row, preserving_proto_field_name=True)).decode()


COLUMNS: Final = (
    Column("clip_id", "text", "Id of the clip.", lambda row: row.clip_id),
    Column("split", "text", "train, validation or test; all clips of a song are in one.", lambda row: row.split),
    Column("subset", "text", "polyphonic (all parts of a song), monophonic (one part alone), external (audio that was "
           "not rendered from notes), or another name.", subset),
    Column("text", "text", "The first prompt.", lambda row: row.prompts[0] if row.prompts else None),
    Column("prompts", "texts", "All prompts that describe the clip.", lambda row: list(row.prompts)),
    Column("artist", "text", "Artist of the song; null = unknown.", lambda row: row.source.song.artist or None),
    Column("title", "text", "Title of the song; null = unknown.", lambda row: row.source.song.title or None),
    Column("variation", "number", "Number of the song's variation (other key, tempo, instruments); null = as written.",
           lambda row: float(row.source.variation.number) or None),
    Column("start_s", "number", "Start of the clip in the song, seconds.",
           lambda row: row.source.span.start_s if row.source.HasField("span") else None),
    Column("end_s", "number", "End of the clip in the song, seconds.",
           lambda row: row.source.span.end_s if row.source.HasField("span") else None),
    Column("duration_s", "number", "Length of the audio, seconds.", lambda row: row.facts.duration_s or None),
    Column("tempo_bpm", "number", "Beats per minute, the time-weighted mean where the tempo changes; null = unknown.",
           lambda row: row.facts.tempo.tempo_bpm or None),
    Column("tempo_beat_quarters", "number", "Length in quarter notes of the note value that tempo_bpm counts: 1 is the "
           "quarter note, 1.5 the dotted quarter of 6/8; null = unknown.",
           lambda row: _counted_quarters(row.facts.tempo)),
    Column("tempo_notated", "flag", "True where the meter does not tell the beat (7/8): tempo_bpm then counts notated "
           "quarter notes.", lambda row: row.facts.tempo.notated if row.facts.tempo.tempo_bpm else None),
    Column("tempo_changes", "flag", "True where the tempo changes within the clip; null = unknown.",
           lambda row: row.facts.tempo.changes if row.facts.tempo.tempo_bpm else None),
    Column("tempo_source", "text", "Who says the tempo: notes, tempo_map, audio (an estimator) or person.",
           lambda row: _source(row.facts.tempo.source)),
    Column("key", "text", "Tonic and mode, e.g. Eb minor; null = unknown.",
           lambda row: key_name(row.facts.key) or None),
    Column("key_source", "text", "Who says the key: notes, audio (an estimator) or person.",
           lambda row: _source(row.facts.key.source)),
    Column("meter", "text", "Meter of most of the clip, e.g. 4/4; null = unknown.", _meter),
    Column("instruments", "texts", "Instruments that sound in the clip, those that sound longest first.",
           lambda row: [fact.instrument for fact in row.facts.instruments]),
    Column("voice", "text", "none (nobody sings or speaks) or heard; null = unknown, of a recording.", _voice),
    Column("voice_source", "text", "Who says so: notes (a render has nothing else), audio (a detector) or person.",
           lambda row: _source(row.facts.voice.source) or ("notes" if _voice(row) else None)),
    Column("speech_share", "number", "Share of the clip in which a detector hears speech, 0 to 1; null = not checked.",
           lambda row: row.facts.voice.speech_share if row.facts.voice.HasField("speech_share") else None),
    Column("vocals_share", "number", "Share of the clip in which a model hears vocals, 0 to 1; null = not checked.",
           lambda row: row.facts.voice.vocals_share if row.facts.voice.HasField("vocals_share") else None),
    Column("genres", "texts", "Those of the tags that name a genre.", genres),
    Column("tags", "texts", "Tags of the song.", lambda row: [tag.text for tag in row.tags]),
    Column("loudness_lufs", "number", "Integrated loudness after BS.1770-4, LUFS; null = silence.",
           lambda row: row.facts.loudness_lufs if row.facts.HasField("loudness_lufs") else None),
    Column("licences", "texts", "Licences that bind the clip.", lambda row: list(row.licences)),
    Column("song_fingerprint", "text", "Content fingerprint of the song.", lambda row: row.song_fingerprint),
    Column("midi_sha256", "text", "SHA-256 of the MIDI file; null where there is none.",
           lambda row: row.source.midi_sha256 or None),
    Column("audio_sha256", "text", "SHA-256 of the audio file.", lambda row: row.audio.sha256),
    Column("details", "text", "The clip's row of the manifest as JSON: every fact with its source, tags with theirs, "
           "lineage, verdict.", _details),
)  # fmt: skip
"""In the order in which they are written."""

ARROW: Final[dict[Kind, pa.DataType]] = {
    "text": pa.string(), "texts": pa.list_(pa.string()), "number": pa.float64(), "flag": pa.bool_(),
}  # fmt: skip
SCHEMA: Final = pa.schema([pa.field(column.name, ARROW[column.kind]) for column in COLUMNS])


def values(row: DatasetRow) -> dict[str, Value]:
    """A clip as every format says it, by the names of COLUMNS."""
    return {column.name: column.of(row) for column in COLUMNS}

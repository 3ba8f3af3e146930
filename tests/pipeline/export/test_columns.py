"""Columns: what is known as the manifest has it, what is unknown null, lists never null."""

import json

import pyarrow as pa
import pytest

from luthier.common.v1.common_pb2 import (
    FACT_SOURCE_AUDIO,
    FACT_SOURCE_NOTES,
    FACT_SOURCE_PERSON,
    VOICE_PRESENCE_HEARD,
    VOICE_PRESENCE_NONE,
    ArtifactRef,
    TempoFact,
    VoiceFact,
)
from luthier_pipeline.export.columns import COLUMNS, SCHEMA, values
from tests.pipeline.export.hostile import BOLD, DATE, DOTTED, known, notated, unknown

AUDIO = ArtifactRef(key=f"clips/{'e' * 64}.flac", sha256="e" * 64, size_bytes=4)


def test_a_clip_of_which_everything_is_known() -> None:
    row = known("clip-1", "train", AUDIO)
    found = values(row)
    details = json.loads(str(found.pop("details")))
    assert found.pop("variation") == 7.0
    assert found == {
        "clip_id": "clip-1", "split": "train", "subset": "polyphonic", "text": "Jazz in C",
        "prompts": ["Jazz in C", "A trio"], "artist": DOTTED, "title": BOLD, "start_s": 30.5, "end_s": 30.6,
        "duration_s": 0.1, "tempo_bpm": 120.0, "tempo_beat_quarters": 1.5, "tempo_notated": False,
        "tempo_changes": False, "tempo_source": "tempo_map", "key": "Eb minor", "key_source": "notes", "meter": "6/8",
        "instruments": ["Fiddle", "Drums"], "voice": "none", "voice_source": "notes", "speech_share": None,
        "vocals_share": None, "genres": ["jazz"], "tags": ["jazz", "<b>calm</b>"], "loudness_lufs": -14.0,
        "licences": ["CC0-1.0", "MIT"], "song_fingerprint": "a" * 64, "midi_sha256": "c" * 64, "audio_sha256": "e" * 64,
    }  # fmt: skip
    assert details["source"]["song"] == {"artist": DOTTED, "title": BOLD}
    assert details["verdict"] == {"reviewer": "Ada"}
    assert details["lineage"]["versions"] == {"rendering": "3", "soundfont": "1" * 64, "spotify": "off: by default"}


def test_what_is_unknown_is_null_and_a_list_is_empty() -> None:
    found = values(unknown("clip-2", "train", AUDIO, DATE))
    empty = {name for name, value in found.items() if value is None}
    assert empty == {
        "artist", "start_s", "end_s", "tempo_bpm", "tempo_beat_quarters", "tempo_notated", "tempo_changes",
        "tempo_source", "key", "key_source", "meter", "loudness_lufs", "midi_sha256", "variation", "voice",
        "voice_source", "speech_share", "vocals_share",
    }  # fmt: skip
    assert [found[name] for name in ("instruments", "genres", "tags", "licences")] == [[], [], [], []]
    assert (found["title"], found["subset"]) == (DATE, "external")


@pytest.mark.parametrize(
    ("tempo", "quarters"),
    [
        (TempoFact(tempo_bpm=90, source=FACT_SOURCE_NOTES), 1.0),  # the contract: 0 is the quarter note there
        (TempoFact(tempo_bpm=90, source=FACT_SOURCE_AUDIO), None),  # and unknown here
        (TempoFact(tempo_bpm=90, beat_quarters=2, source=FACT_SOURCE_AUDIO), 2.0),
        (TempoFact(tempo_bpm=180, notated=True, source=FACT_SOURCE_AUDIO), 1.0),
    ],
)
def test_the_note_value_that_a_tempo_counts(tempo: TempoFact, quarters: float | None) -> None:
    row = known("clip-1", "train", AUDIO)
    row.facts.tempo.CopyFrom(tempo)
    assert values(row)["tempo_beat_quarters"] == quarters


@pytest.mark.parametrize(
    ("voice", "says"),
    [
        (VoiceFact(), (None, None, None, None)),
        (VoiceFact(speech_share=0.0), (None, None, 0.0, None)),
        (
            VoiceFact(presence=VOICE_PRESENCE_HEARD, source=FACT_SOURCE_AUDIO, speech_share=0.5, vocals_share=0.25),
            ("heard", "audio", 0.5, 0.25),
        ),
        (VoiceFact(presence=VOICE_PRESENCE_NONE, source=FACT_SOURCE_PERSON), ("none", "person", None, None)),
        (VoiceFact(presence=VOICE_PRESENCE_NONE), (None, None, None, None)),  # without a source it is unknown
    ],
)
def test_a_voice_in_a_recording(voice: VoiceFact, says: tuple[str | float | None, ...]) -> None:
    row = unknown("clip-2", "train", AUDIO, DATE)
    row.facts.voice.CopyFrom(voice)
    found = values(row)
    assert tuple(found[name] for name in ("voice", "voice_source", "speech_share", "vocals_share")) == says


def test_every_clip_fits_the_stated_types() -> None:
    rows = [known("clip-1", "train", AUDIO), unknown("clip-2", "train", AUDIO, DATE), notated("clip-3", "test", AUDIO)]
    table = pa.Table.from_pylist([values(row) for row in rows], SCHEMA)
    assert table.to_pylist() == [values(row) for row in rows]
    assert table.column_names == [column.name for column in COLUMNS]

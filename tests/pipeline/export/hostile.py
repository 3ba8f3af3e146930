"""A small data set with everything that readers and pages stumble over: splits in which nothing is known, lists that
are empty, titles that look like times, markup, YAML or names with dots."""

import io
from dataclasses import dataclass

import numpy as np
import soundfile

from luthier.common.v1.common_pb2 import (
    FACT_SOURCE_AUDIO,
    FACT_SOURCE_NOTES,
    FACT_SOURCE_TEMPO_MAP,
    MODE_MINOR,
    ArtifactRef,
    ClipFacts,
    ClipSource,
    InstrumentFact,
    KeyFact,
    Lineage,
    MeterChange,
    SongName,
    Span,
    Tag,
    TempoFact,
    Variation,
)
from luthier.curation.v1.curation_pb2 import ExportDatasetResponse, SplitSummary
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, DatasetVerdict, DatasetVersion
from luthier_kit.rpc import SPLITS
from luthier_kit.store import Store

SAMPLE_RATE_HZ = 8000
BOLD = "**Bold** | [here](javascript:alert(1)) <img src=x onerror=alert(1)>"
DATE = "1999-12-31"
FENCE = "---\nlicense: mit\n\u202egnp.exe"
DOTTED = "Mr. Big.take.2"


def tone(number: int) -> bytes:
    """A tenth of a second of FLAC; each number sounds different."""
    seconds = np.arange(SAMPLE_RATE_HZ // 10) / SAMPLE_RATE_HZ
    out = io.BytesIO()
    soundfile.write(out, 0.5 * np.sin(2 * np.pi * 220 * number * seconds), SAMPLE_RATE_HZ, format="FLAC")
    return out.getvalue()


def known(clip: str, split: str, audio: ArtifactRef) -> DatasetRow:
    """A clip of which everything is known."""
    return DatasetRow(
        clip_id=clip, split=split, audio=audio, prompts=["Jazz in C", "A trio"], composers=["grammar", "vllm"],
        tags=[
            Tag(text="jazz", kind="genre", weight=1, source="file", licence="CC0-1.0"),
            Tag(text="<b>calm</b>", kind="mood", weight=1, source="file", licence="CC0-1.0"),
        ],
        facts=ClipFacts(
            duration_s=0.1, loudness_lufs=-14, meter=MeterChange(numerator=6, denominator=8),
            tempo=TempoFact(tempo_bpm=120, beat_quarters=1.5, source=FACT_SOURCE_TEMPO_MAP),
            key=KeyFact(tonic="Eb", mode=MODE_MINOR, source=FACT_SOURCE_NOTES),
            instruments=[
                InstrumentFact(instrument="Fiddle", family="Strings", share=0.5),
                InstrumentFact(instrument="Drums", family="Drums", share=0.4),
            ],
        ),
        source=ClipSource(
            song_fingerprint="a" * 64, span=Span(start_s=30.5, end_s=30.6), midi_sha256="c" * 64,
            song=SongName(artist=DOTTED, title=BOLD), variation=Variation(number=7, transpose_semitones=-3),
        ),
        song_fingerprint="a" * 64, licences=["CC0-1.0", "MIT"], verdict=DatasetVerdict(reviewer="Ada"),
        lineage=Lineage(
            versions={"rendering": "3", "soundfont": "1" * 64, "spotify": "off: by default"}, licences=["MIT"]
        ),
    )  # fmt: skip


def unknown(clip: str, split: str, audio: ArtifactRef, title: str) -> DatasetRow:
    """A clip of which nothing is known but its length and a title."""
    return DatasetRow(
        clip_id=clip, split=split, audio=audio, prompts=["A sound"], composers=["person"], song_fingerprint="b" * 64,
        facts=ClipFacts(duration_s=0.1), source=ClipSource(song=SongName(title=title), subset="external"),
        verdict=DatasetVerdict(reviewer="Ada", automatic=True),
    )  # fmt: skip


def notated(clip: str, split: str, audio: ArtifactRef) -> DatasetRow:
    """A clip in 7/8 by an estimator."""
    row = known(clip, split, audio)
    row.facts.tempo.CopyFrom(TempoFact(tempo_bpm=180, notated=True, changes=True, source=FACT_SOURCE_AUDIO))
    row.facts.key.Clear()
    row.source.song.title = FENCE
    row.song_fingerprint = "d" * 64
    return row


@dataclass(frozen=True)
class Exported:
    """What curation answered, the manifest, and the audio by clip id."""

    answer: ExportDatasetResponse
    manifest: DatasetManifest
    audio: dict[str, bytes]


def hostile(store: Store) -> Exported:
    """`book@1`, registered: three clips to train on, one to validate, of which nothing is known, and one to test."""
    audio = {f"clip-{number}": tone(number) for number in range(1, 6)}
    refs = {name: store.blobs.put_bytes("clips", data, "flac", "audio/flac") for name, data in audio.items()}
    rows = [
        known("clip-1", "train", refs["clip-1"]),
        unknown("clip-2", "train", refs["clip-2"], "Plain"),
        known("clip-3", "train", refs["clip-3"]),
        unknown("clip-4", "validation", refs["clip-4"], DATE),
        notated("clip-5", "test", refs["clip-5"]),
    ]
    manifest = DatasetManifest(
        format="luthier.dataset.v1", name="book", collection="book", licences=["CC0-1.0", "MIT"], rows=rows
    )
    ref = store.put("manifests", manifest)
    splits = [SplitSummary(split=split, clips=sum(row.split == split for row in rows)) for split in SPLITS]
    entry = DatasetVersion(manifest=ref, collection="book", splits=splits, exported_by="Ada")
    entry.exported_at.FromJsonString("2026-11-29T07:00:00Z")
    version = store.series(DatasetVersion, "datasets/book").append(entry)
    return Exported(ExportDatasetResponse(name="book", version=version, manifest=ref, splits=splits), manifest, audio)

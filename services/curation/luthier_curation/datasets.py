"""Frozen data sets: the accepted clips of a collection as one canonical manifest, and AudioFolder metadata per split.

A manifest holds nothing but what was decided (no time, no exporter, no revision), its rows in order of clip id and its
JSON canonical: an unchanged collection exported again is the same bytes, so the same digest.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from luthier_curation.content import Json
from luthier_curation.splits import TEST, TRAIN, VALIDATION, Fractions, assign
from luthier_curation.tables import ACCEPTED, ClipRow
from luthier_kit.errors import FailedPrecondition

FORMAT = "luthier.dataset.v1"
SPLITS = (TRAIN, VALIDATION, TEST)


FROZEN = (
    ClipRow.clip_id, ClipRow.song_fingerprint, ClipRow.audio, ClipRow.prompts, ClipRow.facts, ClipRow.tags,
    ClipRow.source, ClipRow.lineage, ClipRow.reviewer, ClipRow.automatic,
)  # fmt: skip


@dataclass(frozen=True)
class Dataset:
    """A manifest as data: what it is of, how it was split, and its rows."""

    name: str
    collection: str
    fractions: Fractions
    moved_songs: list[str]
    rows: list[Json]

    def manifest(self) -> bytes:
        """The canonical JSON of the frozen manifest."""
        return canonical(
            {
                "format": FORMAT,
                "name": self.name,
                "collection": self.collection,
                "fractions": asdict(self.fractions),
                "moved_songs": self.moved_songs,
                "licences": sorted({name for row in self.rows for name in row["licences"]}),
                "rows": self.rows,
            }
        )

    def split(self, name: str) -> list[Json]:
        """Rows of one split."""
        return [row for row in self.rows if row["split"] == name]


@dataclass
class SplitSummary:
    """How much is in a split; the fractions are of songs, so clips may be shared unevenly."""

    split: str
    songs: int = 0
    clips: int = 0
    duration_s: float = 0.0
    metadata: Json = field(default_factory=dict)


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8, no NaN: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def freeze(session: Session, collection: str, name: str, fractions: Fractions) -> Dataset:
    """The accepted clips of a collection as they are now.

    FailedPrecondition when there are none, or one has no prompt.
    """
    query = select(*FROZEN).where(ClipRow.collection == collection, ClipRow.verdict == ACCEPTED)
    rows = session.execute(query.order_by(ClipRow.clip_id)).all()
    if not rows:
        text = f"collection {collection!r} has no accepted clip to export"
        raise FailedPrecondition(text, reason="NOTHING_ACCEPTED", collection=collection)
    if silent := [row.clip_id for row in rows if not row.prompts]:
        text = f"{len(silent)} accepted clip(s) have no prompt, {silent[0]} is one"
        raise FailedPrecondition(text, reason="PROMPT_MISSING", clip_id=silent[0])
    assignment = assign((row.song_fingerprint for row in rows), fractions)
    frozen = [_row(row, assignment.splits[row.song_fingerprint]) for row in rows]
    return Dataset(name, collection, fractions, sorted(assignment.moved), frozen)


def _row(row: Any, split: str) -> Json:
    licences = {*row.lineage.get("licences", []), *(tag.get("licence", "") for tag in row.tags)} - {""}
    return {
        "clip_id": row.clip_id,
        "split": split,
        "audio": row.audio,
        "prompts": [prompt["text"] for prompt in row.prompts],
        "composers": [prompt.get("composer", "") for prompt in row.prompts],
        "facts": row.facts,
        "tags": row.tags,
        "song_fingerprint": row.song_fingerprint,
        "source": row.source,
        "lineage": row.lineage,
        "licences": sorted(licences),
        "verdict": {"reviewer": row.reviewer, "automatic": row.automatic},
    }


def summaries(dataset: Dataset) -> list[SplitSummary]:
    """One summary per split, train, validation and test, empty ones included."""
    found = []
    for name in SPLITS:
        rows = dataset.split(name)
        seconds = sum(row["facts"].get("duration_s", 0.0) for row in rows)
        songs = len({row["song_fingerprint"] for row in rows})
        found.append(SplitSummary(name, songs, len(rows), round(seconds, 3)))
    return found


def file_name(row: Json) -> str:
    """Name of a row's audio inside its split's folder."""
    return f"{row['clip_id']}.{row['audio']['key'].rsplit('.', 1)[-1]}"


def audio_folder_metadata(rows: Iterable[Json]) -> bytes:
    """`metadata.jsonl` of a Hugging Face AudioFolder split: one line per clip, `text` being its first prompt."""
    lines = [
        canonical(
            {
                "file_name": file_name(row),
                "text": row["prompts"][0],
                "prompts": row["prompts"],
                "facts": row["facts"],
                "tags": row["tags"],
                "song_fingerprint": row["song_fingerprint"],
                "licences": row["licences"],
            }
        )
        for row in rows
    ]
    return b"".join(line + b"\n" for line in lines)

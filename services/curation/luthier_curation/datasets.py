"""Data sets: the accepted clips of a collection frozen as one manifest, registered as `datasets/<name>/<n>.json`.

A manifest holds nothing but what was decided (no time, no exporter, no revision), its rows in order of clip id: an
unchanged collection exported again is the same document, so the same digest and no new version. Beside it lies the
AudioFolder metadata of each split.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from luthier.common.v1.common_pb2 import FactSource, Mode, Prompt
from luthier.curation.v1.curation_pb2 import SplitSummary
from luthier.curation.v1.dataset_pb2 import (
    DatasetManifest,
    DatasetRow,
    DatasetVerdict,
    DatasetVersion,
    SplitFractions,
)
from luthier_curation.agreement import agreement
from luthier_curation.clips import is_kept_back, tempo_unit
from luthier_curation.splits import Fractions, assign, groups
from luthier_curation.tables import ACCEPTED, SILENCE_LUFS, ClipRow
from luthier_kit.rpc import (
    NAME_PATTERN,
    SPLITS,
    FailedPrecondition,
    LuthierError,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from luthier_kit.store import Series, Store, canonical_json

log = logging.getLogger(__name__)
FORMAT = "luthier.dataset.v1"
MAX_VERSION = 10**9


def freeze(session: Session, collection: str, name: str, fractions: Fractions) -> DatasetManifest:
    """The accepted clips of a collection as they are now.

    FailedPrecondition when there are none, or one has no prompt.
    """
    query = select(ClipRow).where(ClipRow.collection == collection, ClipRow.verdict == ACCEPTED)
    rows = session.scalars(query.order_by(ClipRow.clip_id)).all()
    if not rows:
        text = f"collection {collection!r} has no accepted clip to export"
        raise FailedPrecondition(text, reason="NOTHING_ACCEPTED", collection=collection)
    if without := [row.clip_id for row in rows if not _leaving(row)]:
        text = (
            f"{len(without)} accepted clip(s) have no prompt, or only captions that no check or person holds for true"
        )
        text += f"; {without[0]} is one"
        raise FailedPrecondition(text, reason="PROMPT_MISSING", clip_id=without[0])
    songs = {row.song_fingerprint for row in rows}
    group = groups((row.song_fingerprint, row.source.related_fingerprints) for row in rows)
    assignment = assign((group[song] for song in songs), fractions)
    frozen = [_row(row, assignment.splits[group[row.song_fingerprint]]) for row in rows]
    manifest = DatasetManifest(
        format=FORMAT,
        name=name,
        collection=collection,
        fractions=SplitFractions(train=fractions.train, validation=fractions.validation, test=fractions.test),
        moved_songs=sorted(
            {song for song in (row.song_fingerprint for row in rows) if group[song] in assignment.moved}
        ),
        licences=sorted({licence for row in frozen for licence in row.licences}),
        rows=frozen,
    )
    if (agreed := agreement(session, collection)).clips:
        manifest.agreement.CopyFrom(agreed)
    return manifest


def _row(row: ClipRow, split: str) -> DatasetRow:
    licences = {*row.lineage.licences, *(tag.licence for tag in row.tags)} - {""}
    prompts = _leaving(row)
    return DatasetRow(
        clip_id=row.clip_id,
        split=split,
        audio=row.audio,
        prompts=[prompt.text for prompt in prompts],
        composers=[prompt.composer for prompt in prompts],
        facts=row.facts,
        tags=row.tags,
        song_fingerprint=row.song_fingerprint,
        source=row.source,
        lineage=row.lineage,
        licences=sorted(licences),
        bad_passages=row.bad_passages,
        verdict=DatasetVerdict(
            reviewer=row.reviewer,
            automatic=row.automatic,
            rating=row.rating,
            reviewers=names if len(names := [opinion.reviewer for opinion in row.opinions]) > 1 else [],
        ),
    )


def _leaving(row: ClipRow) -> list[Prompt]:
    """The prompts that go into a data set. A caption that lay beside a recording was written of the whole song: where
    the clip's facts deny it, or were corrected since it was checked, it stays behind for people to see, until one of
    them settles the clip's prompts."""
    if "prompts" in row.edited_fields:
        return row.prompts
    return [prompt for prompt in row.prompts if not is_kept_back(prompt)]


@dataclass(frozen=True)
class Export:
    """A registered version of a data set; `unchanged` = it was registered before."""

    name: str
    version: int
    entry: DatasetVersion
    unchanged: bool = True

    @property
    def download_path(self) -> str:
        """Path below the web address that downloads it as a ZIP in AudioFolder layout."""
        return f"/datasets/{self.name}/{self.version}.zip"


def publish(store: Store, manifest: DatasetManifest, exported_by: str) -> Export:
    """Store the manifest and register it, unless the newest version already is this manifest."""
    series = _series(store, manifest.name)
    splits = [_summary(store, split, [row for row in manifest.rows if row.split == split]) for split in SPLITS]
    newest = series.latest()
    if newest is not None and _is_manifest(store, newest[1], manifest):
        number, entry = newest
        del entry.splits[:]  # an earlier Luthier wrote other metadata of the same rows
        entry.splits.extend(splits)
        return Export(manifest.name, number, entry)
    ref = store.put("manifests", manifest)
    entry = DatasetVersion(manifest=ref, collection=manifest.collection, splits=splits, exported_by=exported_by)
    entry.exported_at.GetCurrentTime()
    return Export(manifest.name, series.append(entry), entry, unchanged=False)


def _is_manifest(store: Store, entry: DatasetVersion, manifest: DatasetManifest) -> bool:
    """Whether a registered version is this manifest; one that was taken down or cannot be read is not."""
    try:
        return manifest_of(store, entry) == manifest
    except (Unavailable, PermissionDenied):
        raise
    except LuthierError as error:
        log.warning("the newest manifest of %s cannot be read: %s", manifest.name, error)
        return False


def _summary(store: Store, split: str, rows: list[DatasetRow]) -> SplitSummary:
    """The size of a split, and its AudioFolder metadata, stored."""
    return SplitSummary(
        split=split,
        songs=len({row.song_fingerprint for row in rows}),
        clips=len(rows),
        duration_s=round(sum(row.facts.duration_s for row in rows), 3),
        metadata=store.blobs.put_bytes("metadata", audio_folder_metadata(rows), "jsonl", "application/jsonl"),
    )


def find(store: Store, name: str, version: int) -> Export:
    """A version that was registered. NotFound."""
    possible = NAME_PATTERN.fullmatch(name) and 0 < version <= MAX_VERSION
    entry = _series(store, name).entry(version) if possible else None
    if entry is None:
        raise NotFound(f"no data set {name[:80]!r} version {version}", reason="DATASET_NOT_FOUND", name=name[:80])
    return Export(name, version, entry)


def newest_versions(store: Store) -> list[Export]:
    """The newest version of every data set, by name."""
    latest = ((name, _series(store, name).latest()) for name in store.names("datasets/"))
    return [Export(name, *newest) for name, newest in latest if newest is not None]


def manifest_of(store: Store, entry: DatasetVersion) -> DatasetManifest:
    """The manifest of a registered version, verified."""
    return store.get(DatasetManifest, entry.manifest)


def file_name(row: DatasetRow) -> str:
    """Name of a row's audio inside its split's folder."""
    return f"{row.clip_id}.{row.audio.key.rsplit('.', 1)[-1]}"


def audio_folder_metadata(rows: Iterable[DatasetRow]) -> bytes:
    """`metadata.jsonl` of a Hugging Face AudioFolder split: one line per clip.

    Its loader infers a column's type from the values of each split and refuses splits that differ. So every line has
    every key, no number is sometimes whole, and what may be empty is text and no list: `tags`, `licences` and
    `instruments` are separated by commas, unknown is 0 or empty text. `tempo_unit` says what `tempo_bpm` counts, as
    `clips.tempo_unit` does. `details` has the row of the manifest whole, as JSON in a text: song, span and subset,
    facts and tags with their sources, lineage. Names of songs are only there: where all titles of a split look like
    dates, a column of titles would be one of times.
    """
    return b"".join(canonical_json(_audio_folder_line(row)) + b"\n" for row in rows)


def _audio_folder_line(row: DatasetRow) -> dict[str, object]:
    facts = row.facts
    mode = Mode.Name(facts.key.mode).removeprefix("MODE_").lower() if facts.key.mode else ""
    meter = f"{facts.meter.numerator}/{facts.meter.denominator}" if facts.meter.numerator else ""
    return {
        "file_name": file_name(row),
        "text": row.prompts[0],
        "prompts": list(row.prompts),
        "facts": {
            "duration_s": facts.duration_s,
            "tempo_bpm": facts.tempo.tempo_bpm,
            "tempo_unit": tempo_unit(facts.tempo),
            "tempo_changes": facts.tempo.changes,
            "tempo_source": _source(facts.tempo.source),
            "key": f"{facts.key.tonic} {mode}".strip(),
            "key_source": _source(facts.key.source),
            "meter": meter,
            "instruments": ", ".join(fact.instrument for fact in facts.instruments),
            "loudness_lufs": facts.loudness_lufs if facts.HasField("loudness_lufs") else SILENCE_LUFS,
        },
        "tags": ", ".join(tag.text for tag in row.tags),
        "licences": ", ".join(row.licences),
        "song_fingerprint": row.song_fingerprint,
        "details": canonical_json(MessageToDict(row, preserving_proto_field_name=True)).decode(),
    }


def _source(source: FactSource) -> str:
    return FactSource.Name(source).removeprefix("FACT_SOURCE_").lower() if source else ""


def _series(store: Store, name: str) -> Series[DatasetVersion]:
    return store.series(DatasetVersion, f"datasets/{name}", _old_version)


def _old_version(value: Mapping[str, Any]) -> DatasetVersion:
    """Luthier 0.1: the time as a number of milliseconds."""
    known = {name: item for name, item in value.items() if name != "exported_at_ms"}
    version = DatasetVersion()
    ParseDict(known, version, ignore_unknown_fields=True)
    version.exported_at.FromMilliseconds(value["exported_at_ms"])
    return version

"""A frozen data set, as curation exports it: clips with prompts, in splits that share no song."""

import random
from collections.abc import Iterable

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, DatasetVersion
from luthier_kit.rpc import MAX_PROMPT_CHARS, TRAIN, VALIDATION, Checks, InvalidRequest
from luthier_kit.store import Store
from luthier_music.clip_facts import facts_of
from luthier_music.metadata import draw_metadata

FORMAT = "luthier.dataset.v1"
MAX_ROWS = 500_000
POLYPHONIC = "polyphonic"
"""The subset of a clip that names none, as `ClipSource.subset` says."""
REASON = "DATASET_INVALID"


def read_manifest(store: Store, ref: ArtifactRef) -> DatasetManifest:
    """The data set in an artifact, verified. InvalidRequest DATASET_INVALID when it is not one, naming the row that is
    wrong, when a split that training needs is empty, or when two splits share a song.
    """
    manifest = store.get(DatasetManifest, ref, reason=REASON)
    if manifest.format != FORMAT:
        raise InvalidRequest(f"the data set manifest must have format {FORMAT!r}", reason=REASON)
    if not 1 <= len(manifest.rows) <= MAX_ROWS:
        raise InvalidRequest(f"the data set manifest must have 1 to {MAX_ROWS} rows", reason=REASON)
    for index, row in enumerate(manifest.rows):
        checks = Checks(f"rows[{index}].")
        bound = f"must be one or more texts of 1 to {MAX_PROMPT_CHARS} characters"
        checks.that(bool(row.prompts) and all(map(_is_prompt, row.prompts)), "prompts", bound)
        checks.that(bool(row.audio.key and row.audio.sha256), "audio", "must be an artifact reference")
        for name, text in (("split", row.split), ("song_fingerprint", row.song_fingerprint)):
            checks.that(bool(text), name, "must be a text")
        checks.done(reason=REASON)
    songs = {split: {row.song_fingerprint for row in rows_of(manifest, split)} for split in (TRAIN, VALIDATION)}
    for split, found in songs.items():
        if not found:
            raise InvalidRequest(f"the data set has no clip in the {split} split", reason=REASON)
    if shared := sorted(songs[TRAIN] & songs[VALIDATION]):
        raise InvalidRequest(f"song {shared[0]} is in the train and the validation split", reason=REASON)
    related = {other for row in rows_of(manifest, VALIDATION) for other in row.source.related_fingerprints}
    if shared := sorted(songs[TRAIN] & related):
        raise InvalidRequest(f"song {shared[0]} is in the train split, a near-duplicate in validation", reason=REASON)
    return manifest


def check_metadata(manifests: Iterable[DatasetManifest]) -> None:
    """InvalidRequest DATASET_INVALID unless metadata can be drawn of a clip that is trained on."""
    rows = (row for manifest in manifests for row in rows_of(manifest, TRAIN))
    if not any(draw_metadata(facts_of(row.facts, row.tags), random.Random(0)) for row in rows):
        raise InvalidRequest("no clip of the train split has facts or tags that metadata could state", reason=REASON)


def rows_of(manifest: DatasetManifest, split: str) -> list[DatasetRow]:
    """The clips of a split, in the order of the manifest."""
    return [row for row in manifest.rows if row.split == split]


def subset_of(row: DatasetRow) -> str:
    """`polyphonic`, `monophonic`, `external`, …"""
    return row.source.subset or POLYPHONIC


def prompts_of(rows: Iterable[DatasetRow]) -> list[str]:
    """Every different prompt, in order of text."""
    return sorted({prompt for row in rows for prompt in row.prompts})


def registered_name(store: Store, name: str, sha256: str) -> str:
    """`name@n`, n being the first version with this manifest; the name alone when curation registered no such one."""
    if name not in store.names("datasets/"):
        return name
    versions = store.series(DatasetVersion, f"datasets/{name}").entries()
    first = next((number for number, version in versions if version.manifest.sha256 == sha256), None)
    return f"{name}@{first}" if first else name


def _is_prompt(text: str) -> bool:
    return bool(text.strip()) and len(text) <= MAX_PROMPT_CHARS

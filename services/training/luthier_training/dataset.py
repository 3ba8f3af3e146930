"""A frozen data set as its manifest (`luthier.dataset.v1`) tells it: clips with prompts, in splits without
leaks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import InvalidRequest

FORMAT = "luthier.dataset.v1"
TRAIN, VALIDATION = "train", "validation"
MAX_CLIPS = 500_000
MAX_PROMPT_CHARS = 2000
MAX_MANIFEST_BYTES = 1 << 30
REASON = "DATASET_INVALID"


@dataclass(frozen=True)
class Clip:
    """A clip with at least one prompt; `song` is the fingerprint that no two splits share."""

    id: str
    audio: ArtifactRef
    prompts: tuple[str, ...]
    split: str
    song: str


@dataclass(frozen=True)
class Dataset:
    """A data set. `name` may carry its version, `name@n`; `licences` bind what is made from it."""

    name: str
    clips: tuple[Clip, ...]
    licences: tuple[str, ...]

    def split(self, name: str) -> list[Clip]:
        return [clip for clip in self.clips if clip.split == name]


def prompts_of(clips: Iterable[Clip]) -> list[str]:
    """Every different prompt, in order of text."""
    return sorted({prompt for clip in clips for prompt in clip.prompts})


def parse(data: bytes) -> Dataset:
    """The data set in a manifest's bytes; InvalidRequest DATASET_INVALID names the row that is not one."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise InvalidRequest(f"the data set manifest is not JSON: {e}"[:300], reason=REASON) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidRequest(f"the data set manifest must have format {FORMAT!r}", reason=REASON)
    rows = document.get("rows")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_CLIPS:
        raise InvalidRequest(f"the data set manifest must have 1 to {MAX_CLIPS} rows", reason=REASON)
    clips = tuple(_clip(index, row) for index, row in enumerate(rows))
    dataset = Dataset(str(document.get("name", "")), clips, tuple(map(str, document.get("licences") or ())))
    _check_splits(dataset)
    return dataset


def registered_as(store: Artifacts, name: str, sha256: str) -> str:
    """`name@n`, n being the first version with this manifest; the name alone when curation registered no such one."""
    if name not in store.names("datasets/"):
        return name
    versions = (n for n, document in store.series(f"datasets/{name}") if document["manifest"]["sha256"] == sha256)
    first = next(versions, None)
    return f"{name}@{first}" if first else name


def _clip(index: int, row: Any) -> Clip:
    at = f"rows[{index}]"
    if not isinstance(row, Mapping):
        raise InvalidRequest(reason=REASON, violations=[(at, "must be an object")])
    prompts = row.get("prompts")
    good = isinstance(prompts, list) and prompts and all(_is_prompt(prompt) for prompt in prompts)
    if not good:
        bound = f"must be one or more texts of 1 to {MAX_PROMPT_CHARS} characters"
        raise InvalidRequest(reason=REASON, violations=[(f"{at}.prompts", bound)])
    audio = _audio(row.get("audio"))
    if not audio:
        raise InvalidRequest(reason=REASON, violations=[(f"{at}.audio", "must be an artifact reference")])
    texts = {name: row.get(name) for name in ("clip_id", "split", "song_fingerprint")}
    for name, text in texts.items():
        if not isinstance(text, str) or not text:
            raise InvalidRequest(reason=REASON, violations=[(f"{at}.{name}", "must be a text")])
    return Clip(row["clip_id"], audio, tuple(prompts or ()), row["split"], row["song_fingerprint"])


def _audio(document: Any) -> ArtifactRef | None:
    try:
        ref = ParseDict(document, ArtifactRef(), ignore_unknown_fields=True)
    except (ParseError, TypeError, AttributeError):
        return None
    return ref if ref.key and ref.sha256 else None


def _is_prompt(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip()) and len(text) <= MAX_PROMPT_CHARS


def _check_splits(dataset: Dataset) -> None:
    for name in (TRAIN, VALIDATION):
        if not dataset.split(name):
            raise InvalidRequest(f"the data set has no clip in the {name} split", reason=REASON)
    train = {clip.song for clip in dataset.split(TRAIN)}
    leaked = sorted(train & {clip.song for clip in dataset.split(VALIDATION)})
    if leaked:
        raise InvalidRequest(f"song {leaked[0]} is in the train and the validation split", reason=REASON)

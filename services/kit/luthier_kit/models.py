"""Model versions: `models/<name>/<n>.json`, an append-only series per name; the highest n is current.

An operator registers the base's weights, training registers its results, promotion appends, rollback appends an older
digest again. A version is named `name` (current), `name@n` or `sha256:<digest>`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.artifacts import Artifacts
from luthier_kit.artifacts.action import canonical_json
from luthier_kit.errors import DataLoss, InvalidRequest, NotFound

_NAME = re.compile(r"[a-z0-9_][a-z0-9._-]{0,63}")
_NAME_RULE = "must be 1 to 64 of a-z, 0-9, '-', '_', '.', not beginning with '-' or '.'"


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model.

    `text_encoder` pairs each file's name with its blob. `dataset` is the frozen manifest it was trained on,
    `evaluation` the id of the evaluation behind a promotion. `notes` are JSON facts (tiny, moving average, …).
    `n` and `created_at` are given at registration.
    """

    name: str
    checkpoint: ArtifactRef
    configuration: ArtifactRef
    text_encoder: Sequence[tuple[str, ArtifactRef]] = ()
    autoencoder_digest: str = ""
    dataset: ArtifactRef | None = None
    dataset_name: str = ""
    evaluation: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)
    created_by: str = ""
    reason: str = ""
    created_at: str = ""
    n: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 over what decides the sound: checkpoint, configuration and text encoder files."""
        files = sorted((name, ref.sha256) for name, ref in self.text_encoder)
        return hashlib.sha256(canonical_json([self.checkpoint.sha256, self.configuration.sha256, files])).hexdigest()

    @property
    def label(self) -> str:
        """`name@n`."""
        return f"{self.name}@{self.n}"


def register(store: Artifacts, version: ModelVersion) -> ModelVersion:
    """Append a version to its name's series and make it current; registering what is current again changes nothing.

    Raises InvalidRequest for a bad name, NotFound when one of its blobs is not stored.
    """
    if not _NAME.fullmatch(version.name):
        raise InvalidRequest(reason="MODEL_NAME_INVALID", violations=[("name", _NAME_RULE)])
    _check_blobs(store, version)
    series = _series(version.name)
    while True:
        number, current = store.latest(series) or (0, None)
        if current and _same(_from_document(version.name, number, current), version):
            return _from_document(version.name, number, current)
        created = replace(version, n=number + 1, created_at=datetime.now(UTC).isoformat(timespec="milliseconds"))
        if store.append_at(series, number + 1, _to_document(created)):
            return created


def resolve(store: Artifacts, model: str) -> ModelVersion:
    """The version that `name`, `name@n` or `sha256:<digest>` names; NotFound says what there is."""
    if model.startswith("sha256:"):
        found = _by_digest(store, model.removeprefix("sha256:"))
    else:
        name, at, number = model.partition("@")
        found = None
        if _NAME.fullmatch(name):
            found = _numbered(store, name, number) if at else _current(store, name)
    if found is None:
        known = ", ".join(_known(store)) or "none is registered"
        raise NotFound(f"no model {model[:128]!r}; known models: {known}", reason="MODEL_NOT_FOUND")
    return found


def versions(store: Artifacts, name: str) -> list[ModelVersion]:
    """All versions of a name, oldest first; empty for an unknown name."""
    if not _NAME.fullmatch(name):
        return []
    return [_from_document(name, number, document) for number, document in store.series(_series(name))]


def names(store: Artifacts) -> list[str]:
    """Names of all models, sorted."""
    return store.names("models/")


def _current(store: Artifacts, name: str) -> ModelVersion | None:
    newest = store.latest(_series(name))
    return _from_document(name, *newest) if newest else None


def _numbered(store: Artifacts, name: str, number: str) -> ModelVersion | None:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", number):
        return None
    document = store.entry(_series(name), int(number))
    return _from_document(name, int(number), document) if document else None


def _by_digest(store: Artifacts, digest: str) -> ModelVersion | None:
    matching = (v for name in names(store) for v in reversed(versions(store, name)) if v.digest == digest)
    return next(matching, None)


def _known(store: Artifacts) -> list[str]:
    current = (_current(store, name) for name in names(store))
    return [f"{version.name} (@1 to @{version.n})" for version in current if version]


def _check_blobs(store: Artifacts, version: ModelVersion) -> None:
    refs = [version.checkpoint, version.configuration, *(ref for _, ref in version.text_encoder)]
    for ref in [*refs, version.dataset] if version.dataset else refs:
        if not store.exists(ref):
            raise NotFound(f"model {version.name}: artifact {ref.key} is not stored", reason="ARTIFACT_NOT_FOUND")


def _series(name: str) -> str:
    return f"models/{name}"


def _same(current: ModelVersion, version: ModelVersion) -> bool:
    return _to_document(replace(current, created_at="")) == _to_document(replace(version, created_at=""))


def _to_document(version: ModelVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "digest": version.digest,
        "checkpoint": _ref(version.checkpoint),
        "configuration": _ref(version.configuration),
        "text_encoder": [{"file": name, "artifact": _ref(ref)} for name, ref in version.text_encoder],
        "autoencoder_digest": version.autoencoder_digest,
        "dataset": _ref(version.dataset) if version.dataset else None,
        "dataset_name": version.dataset_name,
        "evaluation": version.evaluation,
        "notes": dict(version.notes),
        "created_by": version.created_by,
        "reason": version.reason,
        "created_at": version.created_at,
    }


def _from_document(name: str, n: int, document: Mapping[str, Any]) -> ModelVersion:
    values = {key: value for key, value in document.items() if key in ModelVersion.__dataclass_fields__}
    values |= {key: _artifact(document[key]) for key in ("checkpoint", "configuration")}
    values["dataset"] = _artifact(document["dataset"]) if document["dataset"] else None
    values["text_encoder"] = tuple((f["file"], _artifact(f["artifact"])) for f in document["text_encoder"])
    version = ModelVersion(**{**values, "name": name, "n": n})
    if version.digest != document["digest"]:
        raise DataLoss(f"model {name}@{n}: its digest does not fit its files", reason="MODEL_CORRUPT")
    return version


def _ref(ref: ArtifactRef) -> dict[str, Any]:
    return MessageToDict(ref, preserving_proto_field_name=True)


def _artifact(document: Mapping[str, Any]) -> ArtifactRef:
    return ParseDict(dict(document), ArtifactRef(), ignore_unknown_fields=True)

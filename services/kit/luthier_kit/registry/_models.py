"""Model versions: `models/<name>/<n>.json`, an append-only series per name; the highest n is current.

An operator registers the base's weights, training registers its results, promotion appends, rollback appends an older
digest again. A version is named `name` (current), `name@n` or `sha256:<digest>`.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from luthier.common.v1.common_pb2 import ArtifactRef, ModelAdapter
from luthier.registry.v1 import registry_pb2
from luthier.registry.v1.registry_pb2 import AUDITED_ACTION_PROMOTE, AUDITED_ACTION_REGISTER
from luthier_kit.registry._audit import audit
from luthier_kit.rpc import DataLoss, FailedPrecondition, InvalidRequest, NotFound
from luthier_kit.store import Series, Store, digest_of

PROMOTED_FROM = "promoted_from"
"""Note of a version that came by promotion: the version that was promoted, `name@n`."""
OVERRULED = "overruled"
"""Note of a version that came by promotion: the clauses of the rule that did not hold, overruled by force."""
TRANSFORMER = "transformer"
"""Note on a version's transformer where it is not what its name suggests: RANDOM, or UNFIT."""
RANDOM = "random"
"""Of a version whose transformer has not been trained."""
UNFIT = "of another autoencoder"
"""Of a version whose encoder was trained since its transformer was: it would make noise."""
MAX_ADAPTERS = 8
"""Adapters of a version, each over the ones before it: each is read and merged whenever the version is loaded."""
MAX_WHOLE = 1 << 53
"""Beyond it a floating-point number, all that a Struct has, no longer tells one whole number from the next."""
_NAME = re.compile(r"[a-z0-9_][a-z0-9._-]{0,63}")
_NAME_RULE = "must be 1 to 64 of a-z, 0-9, '-', '_', '.', not beginning with '-' or '.'"


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model.

    `text_encoder` pairs each file's name with its blob. `adapters` change the checkpoint's weights, one after the other
    (at most MAX_ADAPTERS). `dataset` is the frozen manifest it was trained on, `evaluation` the id of the evaluation
    behind a promotion, `card` a document of what it was trained on. `notes` are JSON facts (tiny, moving average, …),
    stored as a Struct: a whole number is an int, also where a float was registered.
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
    card: ArtifactRef | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    created_by: str = ""
    reason: str = ""
    created_at: datetime | None = None
    n: int = 0
    adapters: Sequence[ModelAdapter] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over what decides the sound: checkpoint, configuration, text encoder files and adapters."""
        files = sorted((name, ref.sha256) for name, ref in self.text_encoder)
        decisive = [self.checkpoint.sha256, self.configuration.sha256, files]
        adapters = [adapter.artifact.sha256 for adapter in self.adapters]
        return digest_of([*decisive, adapters] if adapters else decisive)  # without: as before there were adapters

    @property
    def files(self) -> Sequence[ArtifactRef]:
        """All blobs that loading it takes."""
        text_encoder = (ref for _, ref in self.text_encoder)
        return [self.checkpoint, self.configuration, *text_encoder, *(adapter.artifact for adapter in self.adapters)]

    @property
    def label(self) -> str:
        """`name@n`."""
        return f"{self.name}@{self.n}"


def register(store: Store, version: ModelVersion, *, promotion: bool = False) -> ModelVersion:
    """Append a version to its name's series and make it current; registering what is current again changes nothing.

    Returns the version as it will be read; the audit trail tells of it. Raises InvalidRequest for a bad name and for
    notes that a Struct does not hold exactly (whole numbers beyond 2^53, NaN, what is no JSON), NotFound when one of
    its blobs is not stored, FailedPrecondition NAME_IS_PROMOTED when the name has a promoted version and this is not a
    `promotion`: what is served under such a name changes by promotion alone.
    """
    if not _NAME.fullmatch(version.name):
        raise InvalidRequest(reason="MODEL_NAME_INVALID", violations=[("name", _NAME_RULE)])
    violations = list(_unfit_notes("notes", version.notes))
    if violations:
        raise InvalidRequest(reason="MODEL_NOTES_INVALID", violations=violations)
    version = _comparable(version)
    if len(version.adapters) > MAX_ADAPTERS:
        bound = f"must be at most {MAX_ADAPTERS}, got {len(version.adapters)}"
        raise InvalidRequest(reason="TOO_MANY_ADAPTERS", violations=[("adapters", bound)])
    for ref in [*version.files, *filter(None, (version.dataset, version.card))]:
        if not store.blobs.exists(ref):
            raise NotFound(f"model {version.name}: artifact {ref.key} is not stored", reason="ARTIFACT_NOT_FOUND")
    series = _series(store, version.name)
    while True:
        number, current = series.latest() or (0, None)
        if current and replace(_from_message(number, current), created_at=None, n=0) == version:
            return _from_message(number, current)
        if current and not promotion:
            refuse_promoted(_from_message(number, current))
        created = replace(version, n=number + 1, created_at=datetime.now(UTC))
        if series.append_at(number + 1, _to_message(created)):
            _audit_registration(store, created, promotion=promotion)
            return created


def _audit_registration(store: Store, version: ModelVersion, *, promotion: bool) -> None:
    """Who did it is in the version, but for the results of training runs, which register themselves."""
    run = version.notes.get("run", "")
    audit(
        store,
        AUDITED_ACTION_PROMOTE if promotion else AUDITED_ACTION_REGISTER,
        actor=version.created_by or (f"run {run}" if run else "unknown"),
        subject=f"{version.label} sha256:{version.digest}",
        reason=version.reason,
        overruled=version.notes.get(OVERRULED, []) if promotion else (),
        document=f"models/{version.name}/{version.n}.json",
    )


def refuse_promoted(current: ModelVersion) -> None:
    """FailedPrecondition NAME_IS_PROMOTED when the current version of a name came by promotion.

    A name stays promoted: every later version of it is a promotion too.
    """
    if PROMOTED_FROM in current.notes:
        text = f"{current.name} is a promoted name: register under another name, then promote that version"
        raise FailedPrecondition(text, reason="NAME_IS_PROMOTED")


def refuse_unfit(version: ModelVersion) -> None:
    """FailedPrecondition TRANSFORMER_UNFIT when its transformer was not trained on its autoencoder's latents."""
    if version.notes.get(TRANSFORMER) == UNFIT:
        text = f"the encoder of {version.label} was trained, its transformer was not trained on the new latents"
        raise FailedPrecondition(f"{text}: fine-tune it, and take the result", reason="TRANSFORMER_UNFIT")


def resolve(store: Store, model: str) -> ModelVersion:
    """The version that `name`, `name@n` or `sha256:<digest>` names; NotFound lists the known ones."""
    if model.startswith("sha256:"):
        digest = model.removeprefix("sha256:")
        matching = (v for name in model_names(store) for v in reversed(versions(store, name)) if v.digest == digest)
        found = next(matching, None)
    else:
        name, at, number = model.partition("@")
        found = None
        if _NAME.fullmatch(name):
            found = _numbered(store, name, number) if at else current_version(store, name)
    if found is None:
        current = (current_version(store, name) for name in model_names(store))
        known = ", ".join(f"{version.name} (@1 to @{version.n})" for version in current if version)
        text = f"no model {model[:128]!r}; known models: {known or 'none is registered'}"
        raise NotFound(text, reason="MODEL_NOT_FOUND")
    return found


def versions(store: Store, name: str) -> list[ModelVersion]:
    """All versions of a name, oldest first; empty for an unknown name."""
    if not _NAME.fullmatch(name):
        return []
    return [_from_message(number, message) for number, message in _series(store, name).entries()]


def current_version(store: Store, name: str) -> ModelVersion | None:
    """The newest version of a name; None for an unknown one."""
    newest = _series(store, name).latest() if _NAME.fullmatch(name) else None
    return _from_message(*newest) if newest else None


def model_names(store: Store) -> list[str]:
    """Names of all models, sorted."""
    return store.names("models/")


def _numbered(store: Store, name: str, number: str) -> ModelVersion | None:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", number):
        return None
    message = _series(store, name).entry(int(number))
    return _from_message(int(number), message) if message else None


def _series(store: Store, name: str) -> Series[registry_pb2.ModelVersion]:
    return store.series(registry_pb2.ModelVersion, f"models/{name}", _old_version)


def _comparable(version: ModelVersion) -> ModelVersion:
    """As it will be read back: without what registration gives."""
    return replace(_from_message(0, _to_message(version)), created_at=None)


def _to_message(version: ModelVersion) -> registry_pb2.ModelVersion:
    message = registry_pb2.ModelVersion(
        name=version.name,
        digest=version.digest,
        checkpoint=version.checkpoint,
        configuration=version.configuration,
        text_encoder=[registry_pb2.TextEncoderFile(file=name, artifact=ref) for name, ref in version.text_encoder],
        autoencoder_digest=version.autoencoder_digest,
        dataset=version.dataset,
        dataset_name=version.dataset_name,
        evaluation=version.evaluation,
        card=version.card,
        created_by=version.created_by,
        reason=version.reason,
        adapters=version.adapters,
    )
    message.notes.update(version.notes)
    if version.created_at:
        message.created_at.FromDatetime(version.created_at)
    return message


def _from_message(n: int, message: registry_pb2.ModelVersion) -> ModelVersion:
    version = ModelVersion(
        name=message.name,
        checkpoint=message.checkpoint,
        configuration=message.configuration,
        text_encoder=tuple((item.file, item.artifact) for item in message.text_encoder),
        autoencoder_digest=message.autoencoder_digest,
        dataset=message.dataset if message.HasField("dataset") else None,
        dataset_name=message.dataset_name,
        evaluation=message.evaluation,
        card=message.card if message.HasField("card") else None,
        notes=_with_whole_numbers(MessageToDict(message.notes)),
        created_by=message.created_by,
        reason=message.reason,
        created_at=message.created_at.ToDatetime(UTC) if message.HasField("created_at") else None,
        n=n,
        adapters=tuple(message.adapters),
    )
    if version.digest != message.digest:
        raise DataLoss(f"model {version.label}: its digest does not fit its files", reason="MODEL_CORRUPT")
    return version


def _unfit_notes(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Field and rule of each value in notes that would not be read back as it is."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _unfit_notes(f"{path}.{name}", item)
            if not isinstance(name, str):
                yield f"{path}.{name}", "must have a text as its name"
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _unfit_notes(f"{path}[{number}]", item)
    elif isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > MAX_WHOLE:
            yield path, f"must be within {MAX_WHOLE} (2^53) of 0; write it as text"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, "must be a finite number"
    elif value is not None and not isinstance(value, str | bool):
        yield path, f"must be JSON, got a {type(value).__name__}"


def _with_whole_numbers(value: Any) -> Any:
    """Struct has only floating-point numbers: what was registered as 8 is 8 again, and not 8.0."""
    if isinstance(value, dict):
        return {key: _with_whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_WHOLE else value


def _old_version(value: Mapping[str, Any]) -> registry_pb2.ModelVersion:
    """Luthier 0.1: the same names, but null for an absent data set and a time of its own form."""
    known = {key: item for key, item in value.items() if item is not None and key != "created_at"}
    message = ParseDict(known, registry_pb2.ModelVersion(), ignore_unknown_fields=True)
    message.created_at.FromDatetime(datetime.fromisoformat(value["created_at"]))
    return message

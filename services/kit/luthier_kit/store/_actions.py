"""Actions: one run of one stage, named by everything that decides its result, and the record of what came out.

The record is written last and only if absent. A rerun finds it and does nothing; two workers that race commit once.
This is the whole of resume, caching, incremental rebuild and exactly-once.
"""

import functools
import json
import logging
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from luthier.common.v1.common_pb2 import ActionInfo, ArtifactRef, Lineage
from luthier.store.v1.store_pb2 import ActionRecord
from luthier_kit.bounded_json import read_json
from luthier_kit.rpc import (
    BY_CODE,
    DataLoss,
    FailedPrecondition,
    InvalidRequest,
    LuthierError,
    PermissionDenied,
    error_of,
    ref_violations,
    status_of,
)
from luthier_kit.store._blobs import Blobs
from luthier_kit.store._documents import canonical_json, digest_of
from luthier_kit.store._objects import ObjectStore
from luthier_kit.store._tombstones import Tombstones

log = logging.getLogger(__name__)
M = TypeVar("M", bound=Message)
MAX_RECORD_BYTES = 64 << 20
_STAGE = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_REFUSALS = {kind.__name__: kind for kind in BY_CODE.values() if kind.permanent}


@dataclass(frozen=True, eq=False)
class Action:
    """What a stage is about to do.

    `inputs` are digests, in an order that matters; `parameters` are JSON values; `version` is the stage's own, raised
    whenever its code gives other results; `tools` maps plugins, SoundFonts and models to their digests or versions.
    `licences` bind the result and are no part of its name.
    """

    stage: str
    inputs: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    version: str = "1"
    tools: Mapping[str, str] = field(default_factory=dict)
    licences: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not _STAGE.fullmatch(self.stage):
            raise ValueError(f"not a stage name: {self.stage!r}")
        if isinstance(self.inputs, str) or not all(isinstance(i, str) and i for i in self.inputs):
            raise ValueError(f"inputs of {self.stage} must be digests, got {self.inputs!r}")

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of what names the action; ValueError for NaN and what JSON cannot say."""
        return digest_of(
            {
                "stage": self.stage,
                "inputs": list(self.inputs),
                "parameters": dict(self.parameters),
                "seed": self.seed,
                "version": self.version,
                "tools": dict(self.tools),
            }
        )

    def key(self, generation: int) -> str:
        """Key of the record: `actions/<stage>/<digest>.json`, from the second generation on `….<n>.json`."""
        suffix = "" if generation == 1 else f".{generation}"
        return f"actions/{self.stage}/{self.digest}{suffix}.json"

    @property
    def lineage(self) -> Lineage:
        """The action as its record and its response tell it."""
        return Lineage(
            inputs=self.inputs,
            versions={self.stage: self.version, **self.tools},
            parameters_json=canonical_json(dict(self.parameters)).decode(),
            seed=self.seed,
            licences=self.licences,
        )


class Actions:
    """Runs actions of one bucket, each once. Threads may share it."""

    def __init__(self, objects: ObjectStore, blobs: Blobs, tombstones: Tombstones) -> None:
        self._objects, self._blobs, self._tombstones = objects, blobs, tombstones
        self.configuration = ""
        """Digest of the configuration of the server whose actions these are; responses name it."""
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}  # by digest, with the number of its users

    def run(
        self, action: Action, kind: type[M], compute: Callable[[], M], *, max_age_s: float | None = None
    ) -> tuple[M, bool]:
        """The response of an action: (found, True), or (computed and committed now, False).

        The newest record answers when its blobs are stored with the right sizes and it is not older than `max_age_s`;
        otherwise `compute` runs and the next generation is committed, last and only if absent; a racing winner's is
        adopted. A permanent refusal (InvalidRequest, FailedPrecondition) is recorded and raised again; other failures
        leave nothing behind. The same action runs once at a time in this process. What was taken down is NotFound.
        """
        self._check_inputs(action)
        with self._holding(action.digest):
            found, generation = self._newest(action, kind)
            if found and self._holds(found, max_age_s):
                return self._response(action.key(generation), found, kind, reused=True), True
            record = ActionRecord(stage=action.stage, digest=action.digest, lineage=action.lineage)
            try:
                _put_result(record, compute())
            except LuthierError as error:
                if not _is_permanent(error):
                    raise
                record.refusal.CopyFrom(status_of(error, action.stage))
            self._check_inputs(action)  # a takedown may have come while it was computed
            return self._commit(action, kind, generation + 1, record)

    def record(self, action: Action, kind: type[M]) -> ActionRecord | None:
        """The newest valid record of an action, None when it must be computed."""
        found, _ = self._newest(action, kind)
        return found if found and self._holds(found, None) else None

    def _check_inputs(self, action: Action) -> None:
        for digest in action.inputs:
            self._tombstones.check(self._objects, digest)

    def _newest(self, action: Action, kind: type[Message]) -> tuple[ActionRecord | None, int]:
        """The newest record (None when void) and the number of generations."""
        found, generation = None, 0
        while (data := self._read(action.key(generation + 1))) is not None:
            generation += 1
            found = parse_record(data, kind)
        return found, generation

    def _read(self, key: str) -> bytes | None:
        try:
            return self._objects.get(key, MAX_RECORD_BYTES)
        except DataLoss:
            return b""  # void

    def _holds(self, found: ActionRecord, max_age_s: float | None) -> bool:
        """Whether a record may answer: young enough, and its blobs are there."""
        age = datetime.now(UTC) - found.created_at.ToDatetime(UTC)
        if max_age_s is not None and age > timedelta(seconds=max_age_s):
            return False
        missing = [ref.key for ref in found.blobs if not self._is_stored(ref)]
        if missing:
            text = "record %s/%s is void: %d blobs missing or cut, first %s"
            log.warning(text, found.stage, found.digest, len(missing), missing[0])
        return not missing

    def _is_stored(self, ref: ArtifactRef) -> bool:
        try:
            return self._blobs.exists(ref)
        except (PermissionDenied, FailedPrecondition) as error:
            if error.reason.startswith("STORE_"):  # the store does not let this service look: it may well be there
                raise
            return False  # no reference that we would have written

    def _commit(self, action: Action, kind: type[M], generation: int, record: ActionRecord) -> tuple[M, bool]:
        while True:
            key = action.key(generation)
            record.generation, record.commit = generation, uuid.uuid4().hex
            record.created_at.GetCurrentTime()
            if self._objects.create(key, encode_record(record)):
                return self._response(key, record, kind, reused=False), False
            theirs = parse_record(self._read(key) or b"", kind)
            if theirs and self._holds(theirs, None):
                log.info("record %s was committed by another worker first; adopted", key)
                return self._response(key, theirs, kind, reused=True), True
            generation += 1

    def _response(self, key: str, record: ActionRecord, kind: type[M], *, reused: bool) -> M:
        """The response that a record holds; raises the refusal when it holds one."""
        if record.HasField("refusal"):
            raise error_of(record.refusal)
        message = kind()
        record.result.Unpack(message)
        if "action" in kind.DESCRIPTOR.fields_by_name:
            told = ActionInfo(action_key=key, reused=reused, lineage=record.lineage, configuration=self.configuration)
            message.action.CopyFrom(told)  # type: ignore[attr-defined]
        return message

    @contextmanager
    def _holding(self, digest: str) -> Iterator[None]:
        """Serialises the work on one action within this process."""
        with self._guard:
            lock, users = self._locks.get(digest, (threading.Lock(), 0))
            self._locks[digest] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                users = self._locks[digest][1] - 1
                if users:
                    self._locks[digest] = (lock, users)
                else:
                    del self._locks[digest]


def encode_record(record: ActionRecord) -> bytes:
    """A record as it is stored: protobuf JSON, a line for each field. (`indent` would take twenty times as long: with
    it Python's encoder is not the one in C.)
    """
    fields = MessageToDict(record, preserving_proto_field_name=True)
    lines = (f'"{name}": {json.dumps(value, ensure_ascii=False, allow_nan=False)}' for name, value in fields.items())
    return ("{\n " + ",\n ".join(lines) + "\n}").encode()


def parse_record(data: bytes, kind: type[Message]) -> ActionRecord | None:
    """The record in `data` whose result, if it has one, is a `kind`; None when it is not one (void)."""
    try:
        value = read_json(data, max_bytes=MAX_RECORD_BYTES)
        record = _old_record(value, kind) if "refusal" in value and "blobs" in value and "inputs" in value else None
        record = record or ParseDict(value, ActionRecord(), ignore_unknown_fields=True)
    except (ValueError, KeyError, TypeError, AttributeError, ParseError, OverflowError):
        return None
    whole = record.commit and record.HasField("created_at") and record.HasField("lineage")
    if record.HasField("refusal"):
        fits = error_of(record.refusal).permanent
    else:
        fits = record.result.TypeName() == kind.DESCRIPTOR.full_name
    return record if whole and fits and not any(map(ref_violations, record.blobs)) else None


def artifacts_in(message: Message) -> Iterator[ArtifactRef]:
    """Every ArtifactRef in a message that names something, at any depth."""
    if isinstance(message, ArtifactRef):
        if message.key:
            yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if descriptor.message_type.GetOptions().map_entry:
            items = [item for item in value.values() if isinstance(item, Message)]
        else:
            items = value if descriptor.is_repeated else [value]
        for item in items:
            yield from artifacts_in(item)


def _put_result(record: ActionRecord, result: Message) -> None:
    """Every ArtifactRef in a result is one of the record's blobs; its `action` field is left out."""
    stored = type(result)()
    stored.CopyFrom(result)
    if "action" in stored.DESCRIPTOR.fields_by_name:
        stored.ClearField("action")
    record.result.Pack(stored)
    record.blobs.extend({ref.key: ref for ref in artifacts_in(stored)}.values())


def _is_permanent(error: LuthierError) -> bool:
    """True when the same action would be refused again.

    What the store says about a reference (`ARTIFACT_…`) is not: another caller may name the same bytes correctly.
    """
    return error.permanent and not error.reason.startswith(("ARTIFACT_", "STORE_"))


def _old_record(value: Mapping[str, Any], kind: type[Message]) -> ActionRecord:
    """Luthier 0.1: a JSON object of its own, with refusals by class name."""
    record = ActionRecord(stage=value["stage"], digest=value["digest"])
    ParseDict(value["lineage"], record.lineage, ignore_unknown_fields=True)
    record.created_at.FromDatetime(datetime.fromisoformat(value["created_at"]))
    record.generation, record.commit = value["generation"], value["commit"]
    record.blobs.extend(ParseDict(blob, ArtifactRef(), ignore_unknown_fields=True) for blob in value["blobs"])
    refusal = value["refusal"]
    if not refusal:
        record.result.Pack(ParseDict(value["result"], kind(), ignore_unknown_fields=True))
        return record
    error_type, more = _REFUSALS[refusal["error"]], dict(refusal["metadata"])
    if error_type is InvalidRequest:
        more["violations"] = [(name, bound) for name, bound in refusal["violations"]]
    record.refusal.CopyFrom(status_of(error_type(refusal["message"], reason=refusal["reason"], **more), value["stage"]))
    return record

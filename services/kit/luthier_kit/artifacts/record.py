"""Action records: what a stage did, as JSON that people can read and programs can trust."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from luthier.common.v1.common_pb2 import ActionInfo, ArtifactRef, Lineage
from luthier_kit.artifacts.action import Action, canonical_json
from luthier_kit.errors import BY_CODE, InvalidRequest, LuthierError

M = TypeVar("M", bound=Message)
MAX_RECORD_BYTES = 64 << 20
_REFUSALS = {kind.__name__: kind for kind in BY_CODE.values() if kind.permanent}


@dataclass(frozen=True)
class Record:
    """A committed record: where it is and what it says."""

    key: str
    generation: int
    document: dict[str, Any]

    @property
    def created_at(self) -> datetime:
        return datetime.fromisoformat(self.document["created_at"])

    @property
    def blobs(self) -> list[ArtifactRef]:
        """The artifacts without which the record is void."""
        return [ParseDict(blob, ArtifactRef(), ignore_unknown_fields=True) for blob in self.document["blobs"]]

    def response(self, kind: type[M], *, reused: bool) -> M:
        """The response that the record holds; raises the refusal when it holds one."""
        refusal = self.document.get("refusal")
        if refusal:
            raise _refusal(refusal)
        message = ParseDict(self.document["result"], kind(), ignore_unknown_fields=True)
        if "action" in kind.DESCRIPTOR.fields_by_name:
            message.action.CopyFrom(self._info(reused))  # type: ignore[attr-defined]
        return message

    def _info(self, reused: bool) -> ActionInfo:
        lineage = ParseDict(self.document["lineage"], Lineage(), ignore_unknown_fields=True)
        return ActionInfo(action_key=self.key, reused=reused, lineage=lineage)


def decode(data: bytes) -> dict[str, Any]:
    """The document in a record that this process wrote."""
    document: dict[str, Any] = json.loads(data)
    return document


def parse(key: str, generation: int, data: bytes) -> Record | None:
    """The record in `data`, or None when it is not one (void)."""
    try:
        record = Record(key, generation, json.loads(data))
        _ = record.created_at, record.blobs, record.document["lineage"], record.document["commit"]
        if not record.document.get("refusal"):
            _ = record.document["result"]
    except (ValueError, KeyError, TypeError, AttributeError, ParseError):
        return None
    return record


def of_result(action: Action, generation: int, commit: str, result: Message) -> bytes:
    """The record of a result; every ArtifactRef in it is one of its blobs, and its `action` field is left out."""
    stored = type(result)()
    stored.CopyFrom(result)
    if "action" in stored.DESCRIPTOR.fields_by_name:
        stored.ClearField("action")
    blobs = {ref.key: _to_dict(ref) for ref in artifacts_in(stored)}
    outcome = {"result": _to_dict(stored), "blobs": list(blobs.values()), "refusal": None}
    return _encode(action, generation, commit, outcome)


def of_refusal(action: Action, generation: int, commit: str, error: LuthierError) -> bytes:
    """The record of a permanent refusal."""
    refusal = {
        "error": BY_CODE[error.code].__name__,
        "reason": error.reason,
        "message": str(error),
        "violations": [list(v) for v in getattr(error, "violations", ())],
        "metadata": error.metadata,
    }
    return _encode(action, generation, commit, {"result": None, "blobs": [], "refusal": refusal})


def is_permanent(error: LuthierError) -> bool:
    """True when the same action would be refused again.

    What the store says about a reference (`ARTIFACT_…`) is not: another caller may name the same bytes correctly.
    """
    return error.permanent and not error.reason.startswith(("ARTIFACT_", "STORE_"))


def artifacts_in(message: Message) -> Iterator[ArtifactRef]:
    """Every ArtifactRef in a message that names something, at any depth."""
    if message.DESCRIPTOR.full_name == ArtifactRef.DESCRIPTOR.full_name:
        if message.key:  # type: ignore[attr-defined]
            yield message  # type: ignore[misc]
        return
    for field, value in message.ListFields():
        for item in _messages(field, value):
            yield from artifacts_in(item)


def _messages(field: Any, value: Any) -> Iterator[Message]:
    if field.message_type is None:
        return
    if field.message_type.GetOptions().map_entry:
        yield from (item for item in value.values() if isinstance(item, Message))
    elif field.is_repeated:
        yield from value
    else:
        yield value


def _encode(action: Action, generation: int, commit: str, outcome: dict[str, Any]) -> bytes:
    document = {
        **action.document(),
        "digest": action.digest,
        **outcome,
        "lineage": _to_dict(_lineage(action)),
        "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "generation": generation,
        "commit": commit,
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _lineage(action: Action) -> Lineage:
    return Lineage(
        inputs=action.inputs,
        versions={action.stage: action.version, **action.tools},
        parameters_json=canonical_json(dict(action.parameters)).decode(),
        seed=action.seed,
        licences=action.licences,
    )


def _to_dict(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def _refusal(refusal: dict[str, Any]) -> LuthierError:
    kind = _REFUSALS[refusal["error"]]
    extra: dict[str, Any] = dict(refusal["metadata"])
    if kind is InvalidRequest:
        extra["violations"] = [(field, bound) for field, bound in refusal["violations"]]
    return kind(refusal["message"], reason=refusal["reason"], **extra)

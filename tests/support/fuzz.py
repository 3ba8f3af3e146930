"""Hostile requests to every RPC of a service, and what must be answered: a status of the table, a reason, a field."""

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from luthier.common.v1.common_pb2 import ArtifactRef

TIMEOUT_S = 60.0
_REASON = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
_TABLE = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE,
}  # fmt: skip
_FLOATS = {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
_NOT_UTF8 = "\x01\x02\x03"  # stands for a lone surrogate until the message is serialised: no string field takes one
_LONE_SURROGATE = b"\xed\xa0\x80"
_KEYS = ("../../etc/passwd", "midi/nowhere.mid", "midi/" + "0" * 64 + ".mid", "actions/" + "0" * 64 + ".json", "\x00")

Change = Callable[[Message, FieldDescriptor, random.Random], bool]
"""Spoils one field of a message; False when it does not apply to it."""
Example: TypeAlias = Message | Callable[[], Message]


def _number(*values: float) -> Change:
    def change(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
        if field.cpp_type not in _FLOATS:
            return False
        _set(message, field, chance.choice(values))
        return True

    return change


def _integer(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    if field.cpp_type not in _INTEGERS:
        return False
    _set(message, field, chance.choice(_INTEGERS[field.cpp_type]))
    return True


def _enum(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    if field.cpp_type != FieldDescriptor.CPPTYPE_ENUM:
        return False
    _set(message, field, chance.choice((-1, 9_999, (1 << 31) - 1)))
    return True


def _text(*values: str) -> Change:
    def change(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
        if field.type != FieldDescriptor.TYPE_STRING:
            return False
        _set(message, field, chance.choice(values))
        return True

    return change


def _artifact(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    if not isinstance(message, ArtifactRef):
        return False
    spoiled: Mapping[str, Sequence[Any]] = {
        "key": _KEYS,
        "sha256": ("0" * 64, "F" * 64, "abc", "\x00" * 64),
        "size_bytes": (-1, 1, (1 << 63) - 1),
        "bucket": ("somebody-elses", "..", "\x00"),
    }
    if field.name not in spoiled:
        return False
    setattr(message, field.name, chance.choice(spoiled[field.name]))
    return True


def _many(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    del chance
    if not field.is_repeated or _is_map(field):
        return False
    items = getattr(message, field.name)
    for _ in range(5000):
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            items.add()
        else:
            items.append("x" if field.type == FieldDescriptor.TYPE_STRING else 0)
    return True


def _absent(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    del chance
    if field.is_repeated or not message.IsInitialized():
        return False
    message.ClearField(field.name)
    return True


CLASSES: Mapping[str, Change] = {
    "absent": _absent,
    "absurd": _number(-1e300, 1e300, -1.0, 1e-300, 0.0),
    "NaN": _number(math.nan),
    "infinite": _number(math.inf, -math.inf),
    "integers' limits": _integer,
    "unknown enum": _enum,
    "NUL": _text("\x00", "a\x00b", "\x00" * 300),
    "long text": _text("x" * 100_000, "é" * 30_000, "\U0001f3b8" * 20_000),
    "strange text": _text("", " ", "../..", "%00", "\u202e", "\ufffe", "'; drop table clips; --", "{{7*7}}"),
    "lone surrogate": _text(_NOT_UTF8),
    "wrong digest": _artifact,
    "many items": _many,
}


@dataclass(frozen=True)
class Hostile:
    """A request as bytes, and how it was made."""

    what: str
    data: bytes


@dataclass(frozen=True)
class Answer:
    """What a service said."""

    code: grpc.StatusCode
    reason: str
    fields: tuple[str, ...]
    message: str


def hostile(fresh: Example, seed: int, per_class: int | None = None) -> Iterator[Hostile]:
    """Requests like a valid example, each with a field spoiled; without `per_class` each field once in each class."""
    yield Hostile("empty message", b"")
    example = _made(fresh)
    name = example.DESCRIPTOR.full_name
    for what, data in _no_messages():
        yield Hostile(f"{what}", data)
    chance = random.Random(f"{name} {seed}")
    for title, change in CLASSES.items():
        count = len(list(_places(example)))
        for number in range(count if per_class is None else per_class):
            spoiled = type(example)()
            spoiled.CopyFrom(_made(fresh))
            places = list(_places(spoiled))
            chosen = [places[number]] if per_class is None else chance.sample(places, min(len(places), 3))
            done = [place for place, message, field in chosen if change(message, field, chance)]
            if done or per_class is not None:
                data = spoiled.SerializeToString().replace(_NOT_UTF8.encode(), _LONE_SURROGATE)
                yield Hostile(f"{title} in {', '.join(done)}", data)


def _no_messages() -> Iterator[tuple[str, bytes]]:
    yield "not protobuf", b"\xff" * 40
    yield "cut", b"\x0a\xff\xff\xff\x7fabc"
    yield "nested groups", b"\x0b" * 20_000
    yield "field of the wrong type", b"\x09" + b"\x00" * 8 + b"\x0d" + b"\xff" * 4


def ask(channel: grpc.Channel, method: MethodDescriptor, data: bytes) -> Answer:
    """Sends bytes as a request."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    response = GetMessageClass(method.output_type)
    try:
        if method.server_streaming:
            call = channel.unary_stream(path, request_serializer=bytes, response_deserializer=response.FromString)
            for _ in call(data, timeout=TIMEOUT_S):
                pass
        else:
            channel.unary_unary(path, request_serializer=bytes, response_deserializer=response.FromString)(
                data, timeout=TIMEOUT_S
            )
    except grpc.RpcError as error:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        status = rpc_status.from_call(cast(Any, error))  # a failed call is its own error
        for detail in status.details if status else ():
            detail.Unpack(info)
            detail.Unpack(bad)
        fields = tuple(violation.field for violation in bad.field_violations)
        return Answer(error.code(), info.reason, fields, error.details() or "")
    return Answer(grpc.StatusCode.OK, "", (), "")


def faults(method: MethodDescriptor, data: bytes, answer: Answer) -> list[str]:
    """What is wrong with an answer; empty when nothing is."""
    found = []
    if answer.code not in _TABLE:
        found.append(f"{answer.code.name} is no status of the table for this")
    if answer.code is not grpc.StatusCode.OK and not _REASON.fullmatch(answer.reason):
        found.append(f"{answer.code.name} without a stable reason: {answer.reason!r}")
    if answer.code is grpc.StatusCode.INVALID_ARGUMENT:
        known = {"request"} | {name for item in (method.input_type,) for name in _names(item)}
        strange = [field for field in answer.fields if re.split(r"[.\[]", field)[0] not in known]
        if not answer.fields:
            found.append(f"INVALID_ARGUMENT {answer.reason} names no field")
        elif strange:
            found.append(f"INVALID_ARGUMENT {answer.reason} names {strange[0]!r}, which the request does not have")
        try:
            GetMessageClass(method.input_type).FromString(data)
        except DecodeError:
            if answer.reason != "REQUEST_UNDECODABLE":
                found.append(f"what cannot be decoded is {answer.reason}")
    return found


def attack(
    address: str, contract: ServiceDescriptor, examples: Mapping[str, Example], per_class: int | None = None
) -> None:
    """Sends hostile requests to every method of a service, and asserts that each answer is right.

    `examples` has a valid request for every method, or makes a new one for each try. `per_class` requests of each
    class; None: every field once.
    """
    assert set(examples) == {method.name for method in contract.methods}, "an example for every method"
    wrong: dict[str, str] = {}
    with grpc.insecure_channel(address) as channel:
        for method in contract.methods:
            sent = hostile(examples[method.name], seed=9, per_class=per_class)
            for request in sent:
                answer = ask(channel, method, request.data)
                for fault in faults(method, request.data, answer):
                    wrong.setdefault(f"{method.name}: {fault}", f"{request.what} -> {answer.message[:200]}")
            answer = ask(channel, method, b"\x0a\x80\xad\xe2\x04" + b"x" * 10_000_000)  # field 1, 10 MB
            if answer.code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                wrong[f"{method.name}: a message of 10 MB is {answer.code.name}"] = answer.message
    assert not wrong, "\n" + "\n".join(f"{fault}\n    by {example}" for fault, example in wrong.items())


def _made(example: Example) -> Message:
    return example if isinstance(example, Message) else example()


def _places(message: Message, path: str = "") -> Iterator[tuple[str, Message, Any]]:
    """Every field of a message and of the messages that it holds."""
    fields: list[Any] = list(message.DESCRIPTOR.fields)
    for field in fields:
        place = f"{path}{field.name}"
        yield place, message, field
        if field.type != FieldDescriptor.TYPE_MESSAGE or _is_map(field):
            continue
        value = getattr(message, field.name)
        if field.is_repeated:
            for index, item in enumerate(value[:1]):
                yield from _places(item, f"{place}[{index}].")
        elif message.HasField(field.name):
            yield from _places(value, f"{place}.")


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _names(descriptor: Any) -> set[str]:
    return {field.name for field in descriptor.fields} | {oneof.name for oneof in descriptor.oneofs}

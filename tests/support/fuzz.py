"""Hostile requests to every RPC of a service, and what must be answered: a status of the table, a reason, a field.

The service runs in a process of its own. Each answer is held against `CPU_S`, the memory of the service and of the
processes that it began against `MEMORY_BYTES` beyond what they had once every method had been called.
"""

import dataclasses
import math
import random
import re
import struct
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from luthier.common.v1.common_pb2 import ArtifactRef
from tests.support.hostile_bytes import damaged
from tests.support.measure import ProcessTree
from tests.support.own_process import OwnProcess

TIMEOUT_S = 60.0
CPU_S = 2.0
"""Most CPU time of one answer."""
MEMORY_BYTES = 512 << 20
QUIET_S = 0.5  # a service that takes no CPU for so long has started whole
LARGEST_TEXT = 4_000_000  # a message of it is just below what gRPC takes
_TAKEN_BYTES = 4 << 20
_REASON = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
_DEATH = re.compile(r"CRASHED|KILLED|NOT_STARTED|TOO_SLOW")
_TABLE = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}  # fmt: skip
"""UNAVAILABLE is not for a caller who sends one call after the other: a slot was lost, or the process ended."""
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


def _number(draw: Callable[[random.Random], float]) -> Change:
    def change(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
        if field.cpp_type not in _FLOATS:
            return False
        _set(message, field, draw(chance))
        return True

    return change


def _absurd(chance: random.Random) -> float:
    usual = (-1e300, 1e300, -1.0, -0.0, 0.0, 1e-300, 5e-324)
    of_any_size = math.ldexp(chance.uniform(-1, 1), chance.randint(-1000, 1000))
    return chance.choice((*usual, of_any_size, struct.unpack("<f", chance.randbytes(4))[0]))


def _limit(end: int) -> Change:
    def change(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
        del chance
        if field.cpp_type not in _INTEGERS:
            return False
        _set(message, field, _INTEGERS[field.cpp_type][end])
        return True

    return change


def _integer(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    if field.cpp_type not in _INTEGERS:
        return False
    low, high = _INTEGERS[field.cpp_type]
    power = 1 << chance.randint(0, 64)
    near = chance.choice((low, high, low + 1, high - 1, 0, power, power - 1, -power))
    _set(message, field, min(max(near, low), high))
    return True


def _enum(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    if field.cpp_type != FieldDescriptor.CPPTYPE_ENUM:
        return False
    _set(message, field, chance.choice((-1, 9_999, (1 << 31) - 1, chance.randint(-(1 << 31), -1))))
    return True


def _flag(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    del chance
    if field.cpp_type != FieldDescriptor.CPPTYPE_BOOL:
        return False
    _set(message, field, True)
    return True


def _text(draw: Callable[[random.Random], str]) -> Change:
    def change(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
        if field.type != FieldDescriptor.TYPE_STRING:
            return False
        _set(message, field, draw(chance))
        return True

    return change


def _with_nul(chance: random.Random) -> str:
    before, after = "a" * chance.choice((0, 0, 1, 5, 60)), "b" * chance.choice((0, 0, 1, 5, 60))
    return before + "\x00" * chance.choice((1, 1, 300)) + after


def _long(chance: random.Random) -> str:
    characters = ("x", "é", "\U0001f3b8", " ", "\n", "{", '"', "a, ", "120 BPM ", "../", "F# minor and ")
    return chance.choice(characters) * chance.randint(200, 30_000)


def _strange(chance: random.Random) -> str:
    usual = (
        "",
        " ",
        "../..",
        "%00",
        "\u202e",
        "\ufffe",
        "'; drop table clips; --",
        "{{7*7}}",
        "-",
        ".",
        "\n\t",
        "%s%n",
    )
    planes = [chr(chance.choice((chance.randint(1, 0xD7FF), chance.randint(0xE000, 0x10FFFF)))) for _ in range(12)]
    return chance.choice((*usual, "".join(planes)))


def _artifact(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    if not isinstance(message, ArtifactRef):
        return False
    some = chance.randbytes(32).hex()
    spoiled: Mapping[str, Sequence[Any]] = {
        "key": (*_KEYS, f"midi/{some}.mid", message.key[:-1], message.key.replace("/", "//"), message.key.upper()),
        "sha256": ("0" * 64, "F" * 64, "abc", "\x00" * 64, some, some[:63]),
        "size_bytes": (-1, 1, (1 << 63) - 1, message.size_bytes + 1, 0),
        "bucket": ("somebody-elses", "..", "\x00", some),
    }
    if field.name not in spoiled:
        return False
    setattr(message, field.name, chance.choice(spoiled[field.name]))
    return True


def _many(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    if not field.is_repeated or _is_map(field):
        return False
    items, count = getattr(message, field.name), chance.choice((20, 400, 5000, 20_000))
    if field.message_type is not None:
        items.extend([GetMessageClass(field.message_type)()] * count)
    else:
        items.extend(["x" if field.type == FieldDescriptor.TYPE_STRING else 0] * count)
    return True


def _absent(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    del chance
    if not field.is_repeated and field.has_presence and not message.HasField(field.name):
        return False
    message.ClearField(field.name)
    return True


def _empty(message: Message, field: FieldDescriptor, chance: random.Random) -> bool:
    del chance
    if field.type != FieldDescriptor.TYPE_MESSAGE or _is_map(field):
        return False
    message.ClearField(field.name)
    value = getattr(message, field.name)
    if field.is_repeated:
        value.add()
    else:
        value.SetInParent()
    return True


CLASSES: Mapping[str, Change] = {
    "absent": _absent,
    "empty": _empty,
    "absurd": _number(_absurd),
    "NaN": _number(lambda _: math.nan),
    "infinite": _number(lambda chance: chance.choice((math.inf, -math.inf))),
    "lowest integer": _limit(0),
    "highest integer": _limit(1),
    "near integers' limits": _integer,
    "unknown enum": _enum,
    "flag": _flag,
    "NUL": _text(_with_nul),
    "long text": _text(_long),
    "strange text": _text(_strange),
    "lone surrogate": _text(lambda _: _NOT_UTF8),
    "wrong digest": _artifact,
    "many items": _many,
    "largest text": _text(lambda chance: chance.choice("x\n ") * LARGEST_TEXT),
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


def hostile(example: Example, seed: int, least: Mapping[str, int]) -> Iterator[tuple[str, Iterator[Hostile]]]:
    """Requests like a valid example, spoiled, class by class: each field once, and at least so many of a class."""
    own = _made(example)
    chance = random.Random(f"{own.DESCRIPTOR.full_name} {seed}")
    yield "no message", _no_messages()
    for title, change in CLASSES.items():
        yield title, _spoiled(example, title, change, chance, least.get(title, 0))
    yield "damaged", _damaged(example, chance, least.get("damaged", 10))
    yield "as many items as a message holds", _full(own)
    text = _delimited(1, b"x" * 10_000_000)
    yield "10 MB", (Hostile("10 MB", text) for _ in range(least.get("10 MB", 1)))


def _least(examples: Mapping[str, Example], per_class: int) -> Mapping[str, int]:
    """How many of each class a method gets, so that there are `per_class` over all methods to which it applies."""
    chance = random.Random(0)
    sharing = Counter(
        title for example in examples.values() for title in CLASSES if _spoilable(example, CLASSES[title], chance)
    )
    sharing.update({"damaged": len(examples), "10 MB": len(examples)})
    return {title: math.ceil(per_class / methods) for title, methods in sharing.items()}


def _spoilable(example: Example, change: Change, chance: random.Random) -> list[int]:
    """The places of an example to which a change applies."""
    places = enumerate(_places(_made(example)))
    return [number for number, (_, message, field) in places if change(_copied(message), field, chance)]


def _spoiled(example: Example, title: str, change: Change, chance: random.Random, least: int) -> Iterator[Hostile]:
    apply = _spoilable(example, change, chance)
    for turn in range(max(least, len(apply)) if apply else 0):
        request = _copied(_made(example))
        places = list(_places(request))
        few = min(len(apply), chance.choice((1, 1, 1, 2, 3)))
        some = [apply[turn]] if turn < len(apply) else chance.sample(apply, few)
        for number in some:
            change(*places[number][1:], chance)
        data = request.SerializeToString().replace(_NOT_UTF8.encode(), _LONE_SURROGATE)
        yield Hostile(f"{title} in {', '.join(places[number][0] for number in some)}", data)


def _damaged(example: Example, chance: random.Random, count: int) -> Iterator[Hostile]:
    for _ in range(count):
        data = damaged(_made(example).SerializeToString(), chance)
        yield Hostile(f"damaged: {data[:60]!r}", data)


def _full(example: Message) -> Iterator[Hostile]:
    """For each repeated field of the request and of what it holds: empty items, to the size of the largest message."""
    data = example.SerializeToString()
    for place, numbers, item in _repeated(example.DESCRIPTOR):
        for size in (LARGEST_TEXT, 900_000):  # some bound a part of the message
            items = item * ((size - len(data)) // len(item))
            for number in reversed(numbers):  # a message twice is the same as one that holds both
                items = _delimited(number, items)
            yield Hostile(f"{size:,} bytes of {place}", data + items)


def _repeated(descriptor: Any, path: str = "", above: tuple[int, ...] = ()) -> Iterator[tuple[str, list[int], bytes]]:
    """Where a repeated field is, the numbers of the fields that lead there, and an empty item of it as bytes."""
    for field in descriptor.fields:
        numbers = [*above, field.number]
        if field.is_repeated and field.cpp_type in (FieldDescriptor.CPPTYPE_MESSAGE, FieldDescriptor.CPPTYPE_STRING):
            yield f"{path}{field.name}", numbers[:-1], _delimited(field.number, b"")
        elif field.is_repeated:
            yield f"{path}{field.name}", numbers, b"\x00" * 8  # packed: eight integers, two floats or a double
        if field.message_type is not None and len(numbers) < 5:  # a message may hold its own kind
            yield from _repeated(field.message_type, f"{path}{field.name}.", tuple(numbers))


def _delimited(number: int, data: bytes) -> bytes:
    """A field of bytes, text or a message in protobuf's wire format."""
    encoded = bytearray()
    for value in (number << 3 | 2, len(data)):
        left = value
        while left > 0x7F:
            encoded.append(left & 0x7F | 0x80)
            left >>= 7
        encoded.append(left)
    return bytes(encoded) + data


def _no_messages() -> Iterator[Hostile]:
    yield Hostile("empty message", b"")
    yield Hostile("not protobuf", b"\xff" * 40)
    yield Hostile("cut", b"\x0a\xff\xff\xff\x7fabc")
    yield Hostile("nested groups", b"\x0b" * 20_000)
    yield Hostile("field of the wrong type", b"\x09" + b"\x00" * 8 + b"\x0d" + b"\xff" * 4)


def ask(channel: grpc.Channel, method: MethodDescriptor, data: bytes) -> Answer:
    """Sends bytes as a request."""
    answer = _asked(channel, method, data)
    if answer.code is grpc.StatusCode.UNAVAILABLE and "max_age" in answer.message:  # the connection was old: ours
        answer = _asked(channel, method, data)
    return answer


def _asked(channel: grpc.Channel, method: MethodDescriptor, data: bytes) -> Answer:
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
        try:
            status = rpc_status.from_call(cast(Any, error))  # a failed call is its own error
        except ValueError:  # the transport's own status in place of the service's
            status = None
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
    if len(data) > _TAKEN_BYTES:
        return (
            found
            if answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            else [*found, f"more than 4 MiB are {answer.code.name}"]
        )
    if answer.code is not grpc.StatusCode.OK and not _REASON.fullmatch(answer.reason):
        found.append(f"{answer.code.name} without a stable reason: {answer.reason!r}")
    if _DEATH.search(answer.reason):
        found.append(f"{answer.reason}: a process ended of it")
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


@dataclass
class Outcome:
    """What an attack saw."""

    calls: Counter[str] = dataclasses.field(default_factory=Counter)  # by class
    codes: Counter[str] = dataclasses.field(default_factory=Counter)
    seconds: float = 0.0
    worst_cpu_s: float = 0.0
    worst: str = ""
    base_bytes: int = 0
    grown_bytes: int = 0
    grown: str = ""
    wrong: dict[str, str] = dataclasses.field(default_factory=dict)  # what is wrong: by which request

    def __str__(self) -> str:
        codes = ", ".join(f"{code} {count:,}" for code, count in self.codes.most_common())
        return (
            f"{self.calls.total():,} calls in {self.seconds:.0f} s ({codes}); most CPU of an answer "
            f"{self.worst_cpu_s:.2f} s ({self.worst}); {self.base_bytes >> 20} MiB resident, at most "
            f"{self.grown_bytes >> 20} MiB more ({self.grown})"
        )


class Attack:
    """Hostile requests to a running service, and what came of them."""

    def __init__(self, service: OwnProcess, channel: grpc.Channel) -> None:
        self.outcome = Outcome()
        self._channel, self._tree = channel, ProcessTree(service.pid)

    def warm_up(self, methods: Iterable[tuple[MethodDescriptor, Example]], refused: Collection[str] = ()) -> None:
        """Calls each method once, so that what is loaded once is loaded; then memory is counted. Those named in
        `refused` are FAILED_PRECONDITION."""
        for method, example in methods:
            answer = ask(self._channel, method, _made(example).SerializeToString())
            expected = grpc.StatusCode.FAILED_PRECONDITION if method.name in refused else grpc.StatusCode.OK
            assert answer.code is expected, f"the example of {method.name} is refused: {answer.message}"
        while self._tree.cpu_of(lambda: time.sleep(QUIET_S))[0] > QUIET_S / 5:
            self._tree.look()
        self.outcome.base_bytes = self._tree.resident_bytes()

    def volley(
        self,
        method: MethodDescriptor,
        title: str,
        requests: Iterable[Hostile],
        cpu_s: float = CPU_S,
        work_cpu_s: float | None = None,
    ) -> None:
        """One class of requests to one method. Answers take at most `cpu_s`, those of requests that are valid after all
        at most `work_cpu_s`."""
        outcome, tree = self.outcome, self._tree
        tree.look()
        tree.begin_peak()
        where = f"{method.name}, {title}"
        for request in requests:
            taken_s, answer = tree.cpu_of(partial(ask, self._channel, method, request.data))
            outcome.calls[title] += 1
            outcome.codes[answer.code.name] += 1
            if taken_s > outcome.worst_cpu_s:
                outcome.worst_cpu_s, outcome.worst = taken_s, where
            found = faults(method, request.data, answer)
            bound_s = work_cpu_s if work_cpu_s and answer.code is grpc.StatusCode.OK else cpu_s
            if taken_s > bound_s:
                found.append(f"more than {bound_s:g} s of CPU")
            for fault in found:
                by = f"{request.what} -> {answer.code.name} {answer.message[:200]} ({taken_s:.2f} s of CPU)"
                outcome.wrong.setdefault(f"{method.name}: {fault}", by)
            if answer.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                break  # a minute for each of the others would say the same
        grown_bytes = tree.peak_bytes() - outcome.base_bytes
        if grown_bytes > outcome.grown_bytes:
            outcome.grown_bytes, outcome.grown = grown_bytes, where
        if grown_bytes > MEMORY_BYTES:
            outcome.wrong[f"{method.name}: {grown_bytes >> 20} MiB more than at first"] = title

    def files(
        self,
        method: MethodDescriptor,
        title: str,
        make: Callable[[random.Random], bytes],
        count: int,
        request: Callable[[bytes], Message],
        cpu_s: float = CPU_S,
    ) -> None:
        """One class of files, each sent by a request of its own."""
        chance = random.Random(title)
        requests = (request(make(chance)).SerializeToString() for _ in range(count))
        self.volley(method, title, (Hostile(f"{title} {n}", data) for n, data in enumerate(requests)), cpu_s)


@contextmanager
def attacking(service: OwnProcess, title: str) -> Iterator[Attack]:
    """What the block sends is judged at its end: asserts that every answer was right."""
    began = time.monotonic()
    with grpc.insecure_channel(service.address) as channel:
        own = Attack(service, channel)
        yield own
    outcome = own.outcome
    outcome.seconds = time.monotonic() - began
    print(f"{title}: {outcome}")  # shown by pytest -rP
    assert not outcome.wrong, "\n" + "\n".join(f"{fault}\n    by {by}" for fault, by in outcome.wrong.items())


def attack(
    service: OwnProcess,
    contract: ServiceDescriptor,
    examples: Mapping[str, Example],
    per_class: int = 0,
    work_cpu_s: float | None = None,
    refused: Collection[str] = (),
) -> None:
    """Sends hostile requests to every method of a service, and asserts that each answer is right.

    `examples` has a valid request for every method, or makes a new one for each try (where each needs a request id of
    its own, say). Every field is spoiled once in each class; in all there are `per_class` requests of each.
    `work_cpu_s` as in `Attack.volley`. `refused` names methods whose valid request lacks what a test cannot bring.
    """
    assert set(examples) == {method.name for method in contract.methods}, "an example for every method"
    least = _least(examples, per_class) if per_class else {}
    with attacking(service, contract.name) as own:
        own.warm_up(((method, examples[method.name]) for method in contract.methods), refused)
        for method in contract.methods:
            for title, requests in hostile(examples[method.name], 9, least):
                own.volley(method, title, requests, work_cpu_s=work_cpu_s)


def _made(example: Example) -> Message:
    return example if isinstance(example, Message) else example()


def _copied(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


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

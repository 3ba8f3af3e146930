"""The body of `POST /v1/audio/generate` as a `GenerateRequest`, and in which form the caller wants the answer.

The names are vLLM-Omni's (docs/serving/audio_generate_api.md of vllm-project/vllm-omni), and beside them every field of
`GenerateRequest` by its own name: a field that the contract gains is taken here without new code.
"""

import difflib
import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.json_format import ParseDict, ParseError

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.audio import FLAC, FORMATS, MP3, OPUS, VORBIS, WAV
from luthier_inference.service import OUTPUT_FORMAT_ENUMS
from luthier_kit.bounded_json import read_json
from luthier_kit.rpc import Checks, InvalidRequest, Violation

MAX_BODY_BYTES: Final = 64 << 10
MAX_MEMBERS: Final = 100  # of the body; each that is unknown is compared with those that are known
MAX_VALUES: Final = 4096  # at any depth
MAX_NAME_CHARS: Final = 80  # of a name that is told again
MAX_TIMEOUT_S: Final = 3600.0
DEFAULT_TIMEOUT_S: Final = 1740.0  # a minute less than the chart's grace: a Pod that stops ends none of them
VLLM_NAMES: Final = {
    "input": "prompt",
    "audio_length": "seconds_total",
    "audio_start": "seconds_start",
    "num_inference_steps": "steps",
}
"""vLLM-Omni's names of fields that the contract names otherwise."""
OWN_NAMES: Final = {own: name for name, own in VLLM_NAMES.items()}
JSON: Final = "json"
RESPONSE_FORMATS: Final = {**{name: name for name in FORMATS}, "opus": OPUS}
"""Values of `response_format`, beside `json`: the names of formats."""
STREAM_FORMATS: Final = ("audio", "sse")
MEDIA_TYPES: Final = {
    "audio/flac": FLAC, "audio/x-flac": FLAC, "audio/wav": WAV, "audio/x-wav": WAV, "audio/wave": WAV,
    "audio/mpeg": MP3, "audio/ogg": VORBIS, "audio/opus": OPUS,
}  # fmt: skip
"""Formats by the media type in Accept."""
_FIELDS: Final = {each.name: each for each in pb.GenerateRequest.DESCRIPTOR.fields}
_BY_NAME: Final = {each.json_name: each.name for each in _FIELDS.values()} | {name: name for name in _FIELDS}
_HERE: Final = ("response_format", "stream_format", "speed", "timeout_s")
_AT: Final = re.compile(r"at ['\"]?GenerateRequest\.([\w.\[\]]+)")
_UNKNOWN: Final = re.compile(r"has no field named \"([^\"]*)\"")


class Answer(enum.Enum):
    """What a caller gets."""

    AUDIO = "audio"  # the bytes of the file
    JSON = "json"  # a `GenerateResponse`
    EVENTS = "sse"  # progress, the response, the audio as server-sent events


@dataclass(frozen=True)
class Asked:
    """A request, the answer wanted, how long the caller waits in seconds, and by which names it said the fields."""

    request: pb.GenerateRequest
    answer: Answer
    timeout_s: float = DEFAULT_TIMEOUT_S
    said: Mapping[str, str] = field(default_factory=dict)

    def named(self, error: InvalidRequest) -> InvalidRequest:
        """A refusal of this request, its violations by the names that the caller knows."""
        violations = [(self._name(path), bound) for path, bound in error.violations]
        text = "" if violations else str(error)
        return InvalidRequest(text, reason=error.reason, violations=violations, **error.metadata)

    def _name(self, path: str) -> str:
        path = path.removeprefix("request.")  # of StreamGenerateRequest
        name = re.match(r"\w*", path)[0]  # type: ignore[index]  # it matches everything
        return self.said.get(name, OWN_NAMES.get(name, name)) + path[len(name) :]


def read_body(body: bytes, accept: str = "") -> Asked:
    """The request in a JSON body, which `accept` (the header) says the wanted answer of.

    InvalidRequest BODY_NOT_JSON, or INVALID_REQUEST with every field that is unknown, of another type or said twice.
    What the fields hold is for the gRPC server to check.
    """
    try:
        told = read_json(body, max_bytes=MAX_BODY_BYTES, max_values=MAX_VALUES, unique_names=True)
    except ValueError as error:
        raise InvalidRequest(reason="BODY_NOT_JSON", violations=[("body", str(error))]) from None
    if not isinstance(told, dict):
        raise InvalidRequest(reason="BODY_NOT_JSON", violations=[("body", "must be a JSON object")])
    if len(told) > MAX_MEMBERS:
        raise InvalidRequest(violations=[("body", f"must have at most {MAX_MEMBERS} members, got {len(told)}")])
    told = {name: value for name, value in told.items() if value is not None}
    request, said, checks = pb.GenerateRequest(), dict[str, str](), Checks()
    for name, value in told.items():
        if name in _HERE:
            continue
        own = VLLM_NAMES.get(name, _BY_NAME.get(name, ""))
        if not own:
            checks.that(False, name[:MAX_NAME_CHARS], f"is no field of a generation{_meant(name)}")
        elif checks.that(own not in said, name, f"says the same as {said.get(own)}: only one of them may be there"):
            said[own] = name
            checks.violations += _set(request, own, name, value)
    wanted = _ranked(accept)
    answer = _answer(told, wanted, checks)
    _format(request, told, wanted, said, checks)
    speed = told.get("speed", 1)
    checks.that(_is_number(speed) and speed == 1, "speed", "must be 1: audio is made at the speed of the prompt")
    timeout_s = told.get("timeout_s", DEFAULT_TIMEOUT_S)
    if checks.that(_is_number(timeout_s), "timeout_s", "must be a number of seconds"):
        checks.above("timeout_s", timeout_s, 0, MAX_TIMEOUT_S)
    checks.done()
    return Asked(request, answer, timeout_s, said)


def _set(request: pb.GenerateRequest, own: str, name: str, value: object) -> Iterator[Violation]:
    """Sets a field to a value as protobuf's JSON mapping has it; what is wrong with it, by its path."""
    described = _FIELDS[own]
    if not isinstance(value, list if described.is_repeated else dict) and (
        described.is_repeated or described.message_type
    ):
        yield name, f"must be {_kind_of(own)}, got {str(value)[:80]!r}"  # protobuf takes a text for a list of names
        return
    if described.enum_type:
        value = next((each.name for each in described.enum_type.values if short_name(each) == value), value)
    try:
        ParseDict({own: value}, request)
    except (ParseError, ValueError, TypeError, RecursionError) as error:
        text = str(error)
        place = _AT.search(text)
        within = place[1].strip(".")[len(own) :] if place and place[1].startswith(own) else ""
        if unknown := _UNKNOWN.search(text):
            yield f"{name}{within}.{unknown[1][:80]}", "is no field of it"
        else:
            got = "" if within else f", got {str(value)[:80]!r}"
            yield name + within, f"must be {_kind_of(own + within)}{got}"


def short_name(value: Any) -> str:
    """An enum's value, by its descriptor, without the enum's name: `int8` of `PRECISION_INT8`."""
    enum_name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(value.type.name)).upper()
    return str(value.name).removeprefix(f"{enum_name}_").lower()


def _kind_of(path: str) -> str:
    """What a field holds, in words. `path` is protobuf's of it, such as `keep[0].start_s`."""
    message: Any = pb.GenerateRequest.DESCRIPTOR
    for part in path.split("."):
        name, _, index = part.partition("[")
        described = next(each for each in message.fields if name in (each.name, each.json_name))
        message = described.message_type
    if described.is_repeated and not index:
        return "a list"
    if described.message_type:
        return "an object"
    if described.enum_type:
        return f"one of {', '.join(short_name(value) for value in described.enum_type.values[1:])}"
    kinds = {described.CPPTYPE_STRING: "a text", described.CPPTYPE_BOOL: "true or false"}
    unsigned = described.cpp_type in (described.CPPTYPE_UINT32, described.CPPTYPE_UINT64)
    number = "a finite number" if described.cpp_type in (described.CPPTYPE_DOUBLE, described.CPPTYPE_FLOAT) else ""
    bits = 64 if described.cpp_type in (described.CPPTYPE_INT64, described.CPPTYPE_UINT64) else 32
    whole = f"a whole number from 0, below 2^{bits}" if unsigned else f"a whole number of {bits} bits"
    return kinds.get(described.cpp_type, number or whole)


def _meant(name: str) -> str:
    near = difflib.get_close_matches(name[:MAX_NAME_CHARS], [*VLLM_NAMES, *_HERE, *_FIELDS], 1)
    return f"; did you mean {near[0]}?" if near else ""


def _ranked(accept: str) -> list[str]:
    """The media types in an Accept header (RFC 9110), the best first, without those that are refused."""
    ranked = []
    for place, part in enumerate(accept.split(",")[:32]):
        media_type, *parameters = (each.strip().lower() for each in part.split(";"))
        quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        try:
            ranked.append((-float(quality), place, media_type))
        except ValueError:
            continue
    return [media_type for quality, _, media_type in sorted(ranked) if quality < 0]


def _answer(told: Mapping[str, object], wanted: list[str], checks: Checks) -> Answer:
    """`stream_format` goes before `response_format`, which goes before Accept; audio where nobody says."""
    if "stream_format" in told:
        checks.one_of("stream_format", str(told["stream_format"]), STREAM_FORMATS)
        return Answer.EVENTS if told["stream_format"] == "sse" else Answer.AUDIO
    if told.get("response_format") == JSON:
        return Answer.JSON
    for media_type in wanted:
        if media_type == "application/json":
            return Answer.JSON
        if media_type == "text/event-stream":
            return Answer.EVENTS
        if media_type.startswith(("audio/", "*/", "application/octet-stream")):
            return Answer.AUDIO
    return Answer.AUDIO


def _format(
    request: pb.GenerateRequest, told: Mapping[str, object], wanted: list[str], said: Mapping[str, str], checks: Checks
) -> None:
    """The format of the audio: of `output_format` or `response_format`, else by Accept, else WAV as in vLLM-Omni."""
    asked = told.get("response_format", JSON)
    if asked != JSON:  # which leaves the format of the audio open
        own = said.get("output_format")
        checks.that(not own, "response_format", f"says the same as {own}: only one of them may be there")
        if checks.one_of("response_format", str(asked), [*RESPONSE_FORMATS, JSON]):
            request.output_format = OUTPUT_FORMAT_ENUMS[RESPONSE_FORMATS[str(asked)]]
    elif "output_format" not in said:
        by_type = next((MEDIA_TYPES[each] for each in wanted if each in MEDIA_TYPES), WAV)
        request.output_format = OUTPUT_FORMAT_ENUMS[by_type]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

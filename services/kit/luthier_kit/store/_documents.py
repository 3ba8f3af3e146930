"""Stored documents: messages as protobuf JSON under the field names of the .proto, one spelling per message.

A manifest of a data set has a row for each clip, and as Python's objects a row takes ten times its bytes. So documents
above `LARGE_BYTES` are read, and those with more than `LARGE_ROWS` rows written, row by row, where a row is an item of
a repeated message of the document: the bytes are the same, and what is held beside document and message is one row.
"""

import codecs
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from luthier_kit.bounded_json import MAX_VALUES, check_json, read_json, refuse_constant, refuse_half_pairs
from luthier_kit.rpc import FailedPrecondition

M = TypeVar("M", bound=Message)
MAX_DOCUMENT_BYTES = 256 << 20
"""The longest stored document: the manifest of a data set of some 60,000 rows of 4.4 kB. Reading it takes 2.5 times its
bytes (tests/bench/documents.py), so a process with 1 GiB, the chart's default limit, survives one."""
MAX_DOCUMENT_VALUES = 16 * MAX_VALUES
"""A row of a manifest has some 150 values."""
LARGE_BYTES, LARGE_ROWS = 1 << 20, 200
_PIECE_BYTES = 1 << 20  # of a document that is read row by row; decoded at a time
_MAX_ROW_CHARS = 16 << 20
_NOT_READABLE = (ParseError, KeyError, TypeError, AttributeError, RecursionError)
OldForm = Callable[[Mapping[str, Any]], M | None]
"""Reads a document that was stored before documents were messages; None when it is in today's form.

ValueError, KeyError or TypeError when it is neither.
"""


def canonical_json(value: Any) -> bytes:
    """One spelling of a JSON value: sorted keys, no spaces, UTF-8, no NaN. ValueError for what JSON cannot say."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def to_json(message: Message, max_bytes: int | None = None) -> bytes:
    """The protobuf JSON of a message: the same bytes for equal messages.

    FailedPrecondition DOCUMENT_TOO_LARGE beyond `max_bytes`, before what is beyond it is written.
    """
    # by rows and not by ByteSize, which serialises the whole message to count
    large = any(_has_rows(field) and len(value) > LARGE_ROWS for field, value in message.ListFields())
    written = io.BytesIO()
    for piece in _row_by_row(message) if large else [canonical_json(_plain(message))]:
        written.write(piece)
        if max_bytes is not None and written.tell() > max_bytes:
            text = f"a stored document has at most {max_bytes} bytes, this {type(message).__name__} has more"
            raise FailedPrecondition(text, reason="DOCUMENT_TOO_LARGE")
    return written.getvalue()


def from_json(kind: type[M], data: bytes, old_form: OldForm[M] | None = None) -> M:
    """The message in `data`; fields that this version does not know are left out.

    `old_form` reads what was stored before documents were messages. Raises ValueError when it cannot be read.
    """
    rows = any(_has_rows(field) for field in kind.DESCRIPTOR.fields)
    if len(data) <= LARGE_BYTES or old_form or not rows:
        value = read_json(data, max_bytes=MAX_DOCUMENT_BYTES, max_values=MAX_DOCUMENT_VALUES)
        return from_value(kind, value, old_form)
    check_json(data, max_bytes=MAX_DOCUMENT_BYTES, max_values=MAX_DOCUMENT_VALUES)
    try:
        return _read_row_by_row(kind, _Text(data))
    except _NOT_READABLE as error:
        raise ValueError(f"not a {kind.__name__}: {str(error)[:300]}") from None


def from_value(kind: type[M], value: Any, old_form: OldForm[M] | None = None) -> M:
    """As `from_json`, of a JSON value."""
    if not isinstance(value, dict):
        raise ValueError(f"not a {kind.__name__}: must be an object")
    try:
        old = old_form(value) if old_form else None
        return ParseDict(value, kind(), ignore_unknown_fields=True) if old is None else old
    except _NOT_READABLE as error:
        raise ValueError(f"not a {kind.__name__}: {str(error)[:300]}") from None


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value's canonical spelling, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _plain(message: Message) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True)


def _has_rows(field: Any) -> bool:
    """Whether a field (its descriptor) is a list of messages."""
    message = field.message_type
    return bool(field.is_repeated and message is not None and not message.GetOptions().map_entry)


def _row_by_row(message: Message) -> Iterator[bytes]:
    """`canonical_json` of a message in pieces."""
    rest = type(message)()
    for field, value in message.ListFields():
        if _has_rows(field):
            continue
        if field.is_repeated:
            getattr(rest, field.name).MergeFrom(value)
        elif field.message_type is not None:
            getattr(rest, field.name).SetInParent()  # an empty one is there, too
            getattr(rest, field.name).MergeFrom(value)
        else:
            setattr(rest, field.name, value)
    plain = _plain(rest)
    rows = {field.name: value for field, value in message.ListFields() if _has_rows(field)}
    before = b"{"
    for name in sorted(plain.keys() | rows.keys()):
        yield before + canonical_json(name) + b":"
        before = b","
        if name in plain:
            yield canonical_json(plain[name])
            continue
        yield b"["
        for number, row in enumerate(rows[name]):
            yield (b"," if number else b"") + canonical_json(_plain(row))
        yield b"]"
    yield b"}"


def _read_row_by_row(kind: type[M], text: "_Text") -> M:
    """`from_value` of the object in a text. ValueError, or one of `_NOT_READABLE`, when it is none."""
    message, rest = kind(), dict[str, Any]()
    fields = {name: field for field in kind.DESCRIPTOR.fields for name in (field.name, field.json_name)}
    seen: set[str] = set()
    more = text.take("{") and text.next() != "}"
    while more:
        name = text.value()
        text.take(":")
        if not isinstance(name, str) or name in seen:
            raise ValueError(f"not JSON: the name {str(name)[:80]!r} stands twice, or is none")
        seen.add(name)
        if name in fields and _has_rows(fields[name]) and text.next() == "[":
            rows = getattr(message, fields[name].name)
            more = text.take("[") and text.next() != "]"
            while more:
                ParseDict(text.value(), rows.add(), ignore_unknown_fields=True)
                more = text.next() != "]" and text.take(",") == ","
            text.take("]")
        else:
            rest[name] = text.value()
        more = text.next() != "}" and text.take(",") == ","
    text.take("}")
    text.end()
    return ParseDict(rest, message, ignore_unknown_fields=True)


class _Text:
    """A JSON text that is decoded a piece at a time. Methods raise ValueError where it is no JSON."""

    _decoder = json.JSONDecoder(parse_constant=refuse_constant)

    def __init__(self, data: bytes) -> None:
        self._data, self._read_to = data, 3 if data.startswith(codecs.BOM_UTF8) else 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at = "", 0

    def next(self) -> str:
        """The next character that is no space; it is not consumed. Empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, character: str) -> str:
        """Consumes this character, which must be the next."""
        if (found := self.next()) != character:
            raise ValueError(f"not JSON: {character!r} must come, got {found!r}")
        self._at += 1
        return character

    def value(self) -> Any:
        """Consumes the next value: an object, a list, a text, a number, …"""
        self.next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError as error:
                if not self._more():
                    raise ValueError(f"not JSON: {error}"[:300]) from None
                continue
            if end < len(self._text) or not self._more():  # what ends a piece may go on in the next
                refuse_half_pairs(value, self._text, self._at, end)
                self._at = end
                return value

    def end(self) -> None:
        """Nothing may follow."""
        if found := self.next():
            raise ValueError(f"not JSON: {found!r} follows its end")

    def _more(self) -> bool:
        """Decodes another piece; False at the end."""
        if self._read_to >= len(self._data):
            return False
        if len(self._text) - self._at > _MAX_ROW_CHARS:
            raise ValueError(f"a value of a list must be at most {_MAX_ROW_CHARS} characters long, or it is not JSON")
        piece = self._data[self._read_to : self._read_to + _PIECE_BYTES]
        self._read_to += len(piece)
        try:
            self._text = self._text[self._at :] + self._utf8.decode(piece, self._read_to >= len(self._data))
        except UnicodeDecodeError as error:
            raise ValueError(f"not JSON: {error}") from None
        self._at = 0
        return True

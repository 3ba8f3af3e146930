"""Stored documents: messages as protobuf JSON under the field names of the .proto, one spelling per message."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from luthier_kit.bounded_json import MAX_VALUES, read_json

M = TypeVar("M", bound=Message)
MAX_DOCUMENT_BYTES = 256 << 20
"""The longest stored document: a manifest of a data set with some 200,000 rows stays below."""
MAX_DOCUMENT_VALUES = 16 * MAX_VALUES
"""A row of a manifest has some 60 values."""
OldForm = Callable[[Mapping[str, Any]], M | None]
"""Reads a document that was stored before documents were messages; None when it is in today's form.

ValueError, KeyError or TypeError when it is neither.
"""


def canonical_json(value: Any) -> bytes:
    """One spelling of a JSON value: sorted keys, no spaces, UTF-8, no NaN. ValueError for what JSON cannot say."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def to_json(message: Message) -> bytes:
    """The protobuf JSON of a message: the same bytes for equal messages."""
    return canonical_json(MessageToDict(message, preserving_proto_field_name=True))


def from_json(kind: type[M], data: bytes, old_form: OldForm[M] | None = None) -> M:
    """The message in `data`; fields that this version does not know are left out.

    `old_form` reads what was stored before documents were messages. Raises ValueError when it cannot be read.
    """
    value = read_json(data, max_bytes=MAX_DOCUMENT_BYTES, max_values=MAX_DOCUMENT_VALUES)
    return from_value(kind, value, old_form)


def from_value(kind: type[M], value: Any, old_form: OldForm[M] | None = None) -> M:
    """As `from_json`, of a JSON value."""
    if not isinstance(value, dict):
        raise ValueError(f"not a {kind.__name__}: must be an object")
    try:
        old = old_form(value) if old_form else None
        return ParseDict(value, kind(), ignore_unknown_fields=True) if old is None else old
    except (ParseError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a {kind.__name__}: {str(error)[:300]}") from None


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value's canonical spelling, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()

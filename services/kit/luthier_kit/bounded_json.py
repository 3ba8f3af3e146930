"""JSON from outside, bounded before it is decoded.

A decoder makes some twenty bytes of objects of one byte of hostile JSON and follows nesting by recursion, so a text is
scanned first: its length, how deep it nests and how many values it holds. The scan keeps one piece of the text at a
time.
"""

import json
import re
from collections import Counter
from typing import Any

MAX_DEPTH = 64  # ours nest to about ten
MAX_VALUES = 1_000_000  # items of arrays and members of objects: at most some 200 MB once decoded
_PIECE_BYTES = 1 << 20
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))


def read_json(
    data: bytes,
    *,
    max_bytes: int,
    max_depth: int = MAX_DEPTH,
    max_values: int = MAX_VALUES,
    unique_names: bool = False,
) -> Any:
    """The value in a JSON text (RFC 8259: UTF-8, no NaN, no half of a surrogate pair). ValueError when it is none, or
    beyond a bound: then nothing of it was decoded.

    `unique_names`: an object that says a name twice is refused, too; where others wrote the text, the last need not be
    the one they meant. Costs a third of the time more.
    """
    check_json(data, max_bytes=max_bytes, max_depth=max_depth, max_values=max_values)
    try:
        text = data.decode("utf-8-sig")  # UTF-16, which the decoder would take, hides brackets from the scan
        value = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=_unique if unique_names else None)
        refuse_half_pairs(value, text, 0, len(text))
        return value
    except RecursionError:
        raise ValueError("not JSON that can be read: it nests too deep") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}"[:300]) from None


def check_json(data: bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH, max_values: int = MAX_VALUES) -> None:
    """ValueError naming the bound that a JSON text breaks. Whether it is JSON is not looked at."""
    if len(data) > max_bytes:
        raise ValueError(f"must be at most {max_bytes} bytes, got {len(data)}")
    depth, values, begins = 0, 1, b""
    for first in range(0, len(data), _PIECE_BYTES):
        piece = begins + data[first : first + _PIECE_BYTES]
        escapes = len(piece) - len(piece.rstrip(b"\\"))
        held = b"\\" if escapes % 2 else b""  # it escapes the first character of the next piece
        bare = piece[: len(piece) - len(held)].replace(b"\\\\", b"").replace(b'\\"', b"")
        begins = (b'"' if bare.count(b'"') % 2 else b"") + held
        structure = b"".join(bare.split(b'"')[::2]).translate(None, _NOT_STRUCTURE)
        values += len(structure) - structure.count(b"]") - structure.count(b"}")
        if values > max_values:
            raise ValueError(f"must hold at most {max_values} values")
        for bracket in structure.replace(b",", b""):
            depth += 1 if bracket in b"[{" else -1
            if depth > max_depth:
                raise ValueError(f"must nest at most {max_depth} deep")


def refuse_half_pairs(value: Any, text: str, start: int, end: int) -> None:
    """ValueError where a value, decoded from `text[start:end]`, holds half of a surrogate pair.

    JSON can spell it, but no text that is stored or sent can hold it; as a name it is a SystemError in protobuf.
    """
    if _SURROGATE.search(text, start, end):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a surrogate pair is no character") from None


def refuse_constant(name: str) -> None:
    """For `parse_constant` of Python's decoder, which takes NaN and Infinity."""
    raise ValueError(f"{name} is no number")


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        twice, _ = Counter(name for name, _ in members).most_common(1)[0]
        raise ValueError(f"the name {twice[:80]!r} stands twice in an object")
    return found

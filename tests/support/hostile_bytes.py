"""Files that are not what they should be, made of ones that are."""

import copy
import json
import math
import random
from typing import Any

_ABSURD: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 31, 1 << 63, -(1 << 63), 10**400, 1e308, 1e-320, math.nan, math.inf, "", "x", "x" * 100_000,
    "\x00", "../../etc/passwd", [], {}, [[]], [0] * 10_000, {"a": {"b": {}}}, "\ud800",
)  # fmt: skip


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Some bytes are others, left out, repeated or new."""
    data = bytearray(whole) or bytearray(b"\x08\x01")
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(data)), chance.randint(1, 8)
        match chance.randrange(4):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at:at] = chance.randbytes(length)
            case 2:
                data[at:at] = data[at : at + length] * chance.choice((1, 50))
            case _:
                del data[at : at + length]
        data = data or bytearray(b"\xff")
    return bytes(data[: chance.randint(0, len(data))] if chance.random() < 0.1 else data)


def absurd_json(document: Any, chance: random.Random) -> bytes:
    """One to three values of a JSON document are others, or nested too deep to be read."""
    spoiled = copy.deepcopy(document)
    for _ in range(chance.randint(1, 3)):
        inner: Any = spoiled
        parents: list[tuple[Any, Any]] = []
        while isinstance(inner, dict | list) and inner and (not parents or chance.random() < 0.8):
            key = chance.choice(list(inner)) if isinstance(inner, dict) else chance.randrange(len(inner))
            parents.append((inner, key))
            inner = inner[key]
        if not parents:
            return json.dumps(chance.choice(_ABSURD)).encode()
        holder, key = parents[-1]
        match chance.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[f"{key}x"] = holder.pop(key)
            case _:
                holder[key] = copy.deepcopy(chance.choice(_ABSURD))
    text = json.dumps(spoiled)
    if chance.random() < 0.05:
        text = text.replace("[", "[" * chance.choice((50, 5000, 200_000)), 1)
    return text.encode()

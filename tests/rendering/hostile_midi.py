"""MIDI files that are damaged, lie about themselves or are absurd, by class."""

import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from .midi_making import OFF, ON, chunk, header

_WHOLE = [path.read_bytes() for path in sorted((Path(__file__).parent / "cases").glob("*.mid"))]
LARGE_BYTES = 2_000_000


def _damaged(chance: random.Random) -> bytes:
    """Some bytes are others, and the end may be missing."""
    data = bytearray(chance.choice(_WHOLE))
    for _ in range(chance.randint(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.randint(0, len(data))] if chance.random() < 0.3 else data)


def _shifted(chance: random.Random) -> bytes:
    """Pieces are repeated, left out, or come from another file."""
    data, other = bytearray(chance.choice(_WHOLE)), chance.choice(_WHOLE)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(data)), chance.randint(1, 80)
        match chance.randrange(3):
            case 0:
                data[at:at] = data[at : at + length] * chance.choice((1, 1, 200))
            case 1:
                del data[at : at + length]
            case _:
                begin = chance.randrange(len(other))
                data[at:at] = other[begin : begin + length]
        data = data or bytearray(b"M")
    return bytes(data)


def _false_lengths(chance: random.Random) -> bytes:
    """Chunks are longer or shorter than they say."""
    data = bytearray(chance.choice(_WHOLE))
    places = [at for at in range(len(data) - 8) if bytes(data[at : at + 4]) in (b"MThd", b"MTrk")]
    for at in chance.sample(places, chance.randint(1, len(places))):
        length = int.from_bytes(data[at + 4 : at + 8])
        false = (0, 1, length - 1, length + 1, length * 2, (1 << 31) - 1, (1 << 32) - 1, chance.getrandbits(32))
        struct.pack_into(">I", data, at + 4, max(0, chance.choice(false)))
    return bytes(data)


def _header(chance: random.Random) -> bytes:
    """A format, a number of tracks and a division that no song has."""
    division = chance.choice((0, 1, 0x7FFF, 0x8000, 0xE728, 0xE700, 0xFFFF, chance.getrandbits(16)))
    tracks = chance.choice((0, 1, 2, 0xFFFF, chance.getrandbits(16)))
    return header(chance.choice((0, 1, 2, 3, 0xFFFF)), tracks, division) + chunk(ON + OFF) * chance.randint(0, 3)


def _metas(chance: random.Random) -> bytes:
    """Meta events of values and lengths that they must not have."""
    events = b""
    for _ in range(chance.randint(1, 12)):
        kind = chance.choice((0x00, 0x01, 0x03, 0x20, 0x21, 0x2F, 0x51, 0x54, 0x58, 0x59, 0x7F, chance.randrange(128)))
        usual = {0x51: 3, 0x58: 4, 0x59: 2, 0x2F: 0}.get(kind, 3)
        length = chance.choice((usual, usual, usual, 0, 1, 127, 300))
        content = chance.choice((b"\x00" * length, b"\xff" * length, chance.randbytes(length)))
        events += _delta(chance) + bytes([0xFF, kind]) + variable(chance.choice((length, length, 1 << 27))) + content
    return header() + chunk(events + ON + OFF)


def _events(chance: random.Random) -> bytes:
    """Any events, at any times."""
    tracks = []
    for _ in range(chance.randint(1, 6)):
        events = b""
        for _ in range(chance.randint(1, 300)):
            status = chance.choice((0x80, 0x90, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0)) | chance.randrange(16)
            if chance.random() < 0.03:
                status = chance.randrange(0x100)
            data = bytes(chance.randrange(128) for _ in range(1 if status & 0xE0 == 0xC0 else 2))
            events += _delta(chance) + bytes([status]) + data
        tracks.append(chunk(events))
    return header(chance.choice((0, 1, 1, 2)), len(tracks)) + b"".join(tracks)


def _large(chance: random.Random) -> bytes:
    """Two megabytes of one kind of event, in one track or in many."""
    number = bytes([chance.choice((0, 1, 6, 7, 10, 11, 32, 38, 64, 66, 98, 100, 101, 120, 121, 123))])
    on = bytes([0x90 | chance.randrange(16)])
    events: dict[str, Callable[[], bytes]] = {
        "controllers": lambda: b"\xb0" + number + bytes([chance.randrange(128)]),
        "bends": lambda: b"\xe0" + bytes([chance.randrange(128), chance.randrange(128)]),
        "programs": lambda: bytes([0xC0 | chance.randrange(16), chance.randrange(128)]),
        "notes": lambda: on + bytes([chance.randrange(128), 64]),
        "tempos": lambda: b"\xff\x51\x03" + chance.randbytes(3),
        "meters": lambda: b"\xff\x58\x04" + bytes([chance.randint(1, 12), chance.randrange(5), 24, 8]),
        "names": lambda: b"\xff\x03\x05" + chance.randbytes(5),
        "exclusives": lambda: b"\xf0\x05\x7e\x7f\x09\x01\xf7",
        "modes": lambda: b"\xf0\x0a\x41\x10\x42\x12\x40\x00\x7f\x00\x41\xf7",
    }  # fmt: skip
    make = events[chance.choice(list(events))]
    step = chance.choice((b"\x00", b"\x01", b"\x60"))
    some = b"".join(step + make() for _ in range(500))
    tracks = chance.choice((1, 1, 16, 95, 250))
    filled = chunk(some * (LARGE_BYTES // tracks // len(some) or 1) + ON + OFF)
    return header(1, tracks) + filled * tracks


CLASSES: Mapping[str, Callable[[random.Random], bytes]] = {
    "damaged": _damaged,
    "shifted": _shifted,
    "false lengths": _false_lengths,
    "absurd header": _header,
    "absurd metas": _metas,
    "any events": _events,
    "large": _large,
}


def variable(value: int) -> bytes:
    """A variable-length quantity of up to four bytes."""
    found = bytearray([value & 0x7F])
    while value := value >> 7:
        found.insert(0, value & 0x7F | 0x80)
    return bytes(found)


def _delta(chance: random.Random) -> bytes:
    return variable(
        chance.choice((0, 0, 1, 60, 480, 480, chance.randrange(5000), (1 << 28) - 1 if chance.random() < 0.02 else 0))
    )

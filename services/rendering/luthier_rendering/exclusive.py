"""What system exclusive does to the parts of a sound module: resets, rhythm parts, levels, tunings, channels.

Sources: General MIDI 1 (RP-003) and 2 (RP-024), device control (RP-004, CA-025, CA-026); Roland GS and Yamaha XG for
their resets and the parameters of their parts.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from luthier_rendering import smf
from luthier_rendering.controllers import BANK, BANK_LSB, PAN, VOLUME

DRUM_PART: Final = 9  # the tenth, counted from 0
PARTS: Final = 16  # of a port; part n receives channel n after a reset
GM, GM2, GS, XG = range(1, 5)  # what decides the meaning of banks; 0 = no reset message was sent
RESET, RHYTHM, MASTER_VOLUME, MASTER_BALANCE, MASTER_TUNING, KEY_SHIFT, PART_SHIFT, BEND_RANGE_SET, RECEIVE = range(
    0x100, 0x109
)  # kinds of events beside those of smf: what system exclusive does to a part
_MEANT: Final = (b"\x7e", b"\x7f", b"\x41", b"\x43")  # first bytes of universal messages, Roland's and Yamaha's


class Effect(NamedTuple):
    """What system exclusive does to a part (None = to all): a kind of event with its two values."""

    part: int | None
    kind: int
    first: int
    second: int


@lru_cache(maxsize=4096)
def meaning(data: bytes) -> tuple[Effect, ...]:
    """What a system exclusive message does, nothing for most."""
    return tuple(_effects(data)) if data[:1] in _MEANT else ()


def _effects(data: bytes) -> Iterator[Effect]:
    match list(data):
        case [0x7E, _, 0x09, what]:
            yield Effect(None, RESET, 0, {1: GM, 3: GM2}.get(what, 0))
        case [0x7F, _, 0x04, 1 | 2 as what, _, high]:
            yield Effect(None, MASTER_VOLUME if what == 1 else MASTER_BALANCE, 0, high)
        case [0x7F, _, 0x04, 3, low, high]:
            yield Effect(None, MASTER_TUNING, 0, round(((high << 7 | low) / 8192 - 1) * 1000))
        case [0x7F, _, 0x04, 4, _, high]:
            yield Effect(None, KEY_SHIFT, 0, high - 64)
        case [0x41, _, 0x42, 0x12, 0x40 | 0, 0, 0x7F, *_]:
            yield Effect(None, RESET, 0, GS)
        case [0x41, _, 0x42, 0x12, 0x40, 0, low, *values, _] if values:
            yield from _master(low, {0: MASTER_TUNING, 4: MASTER_VOLUME, 5: KEY_SHIFT}, values)
        case [0x41, _, 0x42, 0x12, 0x40, block, low, *values, _] if block >> 4 in (1, 2):
            number = block & 15
            part = DRUM_PART if number == 0 else number - (number < DRUM_PART + 1)  # block 0 is the tenth part
            for address, value in enumerate(values, (block >> 4) << 8 | low):
                yield from _parameter(part, GS, address, value)
        case [0x43, _, 0x4C, 0, 0, 0x7E | 0x7F, *_]:
            yield Effect(None, RESET, 0, XG)
        case [0x43, _, 0x4C, 0, 0, low, *values] if values:
            yield from _master(low, {0: MASTER_TUNING, 4: MASTER_VOLUME, 6: KEY_SHIFT}, values)
        case [0x43, _, 0x4C, 8, part, low, *values] if part < PARTS:
            for address, value in enumerate(values, low):
                yield from _parameter(part, XG, address, value)


def _master(address: int, kinds: dict[int, int], values: list[int]) -> Iterator[Effect]:
    """A master parameter of GS or XG; the tuning is four nibbles of 0.1 cents, 0x400 = none."""
    kind = kinds.get(address)
    if kind == MASTER_TUNING and len(values) >= 4:
        tuning = sum((nibble & 15) << 4 * (3 - at) for at, nibble in enumerate(values[:4])) - 1024
        yield Effect(None, kind, 0, tuning)
    elif kind in (MASTER_VOLUME, KEY_SHIFT):
        yield Effect(None, kind, 0, values[0] - 64 * (kind == KEY_SHIFT))


# By standard and address: a controller, a program or a kind of effect. GS has two blocks of addresses for each part.
_PARAMETERS: Final = {
    GS: {
        0x100: (smf.CONTROL, BANK), 0x101: (smf.PROGRAM, 0), 0x102: (RECEIVE, 0), 0x115: (RHYTHM, GS),
        0x116: (PART_SHIFT, 0), 0x119: (smf.CONTROL, VOLUME), 0x11C: (smf.CONTROL, PAN), 0x210: (BEND_RANGE_SET, 0),
    },
    XG: {
        0x01: (smf.CONTROL, BANK), 0x02: (smf.CONTROL, BANK_LSB), 0x03: (smf.PROGRAM, 0), 0x04: (RECEIVE, 0),
        0x07: (RHYTHM, XG), 0x08: (PART_SHIFT, 0), 0x0B: (smf.CONTROL, VOLUME), 0x0E: (smf.CONTROL, PAN),
        0x23: (BEND_RANGE_SET, 0),
    },
}  # fmt: skip


def _parameter(part: int, standard: int, address: int, value: int) -> Iterator[Effect]:
    """One parameter of a part; what follows in a message goes to the addresses that follow."""
    kind, first = _PARAMETERS[standard].get(address, (0, 0))
    if kind == smf.PROGRAM:
        yield Effect(part, kind, value, 0)
    elif kind == RHYTHM:
        yield Effect(part, kind, standard, int(value > 0))
    elif kind in (PART_SHIFT, BEND_RANGE_SET):
        yield Effect(part, kind, 0, value - 64 if kind == PART_SHIFT else abs(value - 64))
    elif kind:
        yield Effect(part, kind, first, value)

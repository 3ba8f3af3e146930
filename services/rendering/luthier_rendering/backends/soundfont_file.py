"""What presets a SoundFont has, read from its index alone: an .sf3 takes seconds and hundreds of megabytes to decode.

Source: SoundFont Technical Specification 2.04, sections 4 (RIFF structure) and 7.2 (PHDR).
"""

import struct
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

_HEADER: Final = struct.Struct("<4sI")
_PRESET: Final = struct.Struct("<20sHHHIII")  # name, program, bank, and what finds its zones
_MAX_PRESETS: Final = 1 << 17  # every bank and program, twice over


class Preset(NamedTuple):
    """Where a preset of a SoundFont is: bank 0..128 (128 = drum kits), program 0..127."""

    bank: int
    program: int


def read_presets(path: Path) -> dict[Preset, str]:
    """The presets of a file and their names, by bank and program. ValueError when it is no whole SoundFont, OSError."""
    with path.open("rb") as file:
        size = path.stat().st_size
        kind, length = _header(file)
        if kind != b"RIFF" or file.read(4) != b"sfbk":
            raise ValueError("it is no RIFF file of the type sfbk")
        if length + 8 > size:
            raise ValueError(f"it ends after {size} bytes, its header says {length + 8}")
        for start, end in _lists(file, length + 8):
            file.seek(start)
            if file.read(4) == b"pdta":
                return dict(sorted(_presets(file, end)))
    raise ValueError("it has no list of presets")


def _header(file: BinaryIO) -> tuple[bytes, int]:
    data = file.read(_HEADER.size)
    if len(data) < _HEADER.size:
        raise ValueError("it ends within a header")
    kind, length = _HEADER.unpack(data)
    return kind, length


def _lists(file: BinaryIO, end: int) -> list[tuple[int, int]]:
    """Where the lists of the file's top level start and end, behind their headers."""
    found, at = [], 12
    while at + _HEADER.size <= end:
        file.seek(at)
        kind, length = _header(file)
        at += _HEADER.size
        if kind == b"LIST":
            found.append((at, at + length))
        at += length  # chunks of .sf3 files have odd lengths, and no byte that fills them up, as RIFF has it
    return found


def _presets(file: BinaryIO, end: int) -> list[tuple[Preset, str]]:
    while file.tell() + _HEADER.size <= end:
        kind, length = _header(file)
        if kind == b"phdr":
            if length % _PRESET.size or length // _PRESET.size > _MAX_PRESETS:
                raise ValueError(f"its list of presets has {length} bytes")
            data = file.read(length)
            rows = [_PRESET.unpack_from(data, at) for at in range(0, len(data) - _PRESET.size, _PRESET.size)]
            return [(Preset(bank, program), _text(name)) for name, program, bank, *_ in rows]
        file.seek(length, 1)
    raise ValueError("it has no list of presets")


def _text(name: bytes) -> str:
    return "".join(char for char in name.split(b"\0")[0].decode("latin-1") if char.isprintable()).strip()

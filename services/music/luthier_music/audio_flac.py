"""FLAC as encoders write it to a pipe: the header does not say how long it is, and libsndfile can neither seek in it
nor read it to its end.

The form is RFC 9639's. STREAMINFO holds the number of samples, 0 where it is unknown (8.2). Every frame says where it
begins and how many samples it holds (9.1) and ends with a CRC-16 (9.3), so the last frame says how long the stream is.
"""

import mmap
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

_MARKER: Final = b"fLaC"
_ID3_HEADER_BYTES: Final = 10
_STREAMINFO_END: Final = 42  # marker, head of the block, 34 bytes
_LENGTH: Final = slice(21, 26)  # 40 bits, of which the lowest 36 are the number of samples
_LENGTH_BITS: Final = 36
_TAILS_BYTES: Final = (1 << 16, 1 << 22)  # looked through for the last frame: nearly all, and the largest there can be
_CRC_16: Final = 0x18005
_CRC_16_PERIOD: Final = 32_767  # of x modulo that polynomial: (x + 1) (x^15 + x + 1)
_CRC_8: Final = 0x107
_HIGHEST_HEADER_BYTES: Final = 16


class CutStream(ValueError):
    """The stream does not end with a whole frame."""


@dataclass(frozen=True)
class _Frame:
    """What a frame's header says: its number (of the sample where `variable`, else of the frame) and its samples."""

    number: int
    samples: int
    variable: bool


def with_length(file: BinaryIO) -> mmap.mmap | None:
    """The file with the length in its header, a copy in memory of the pages that differ.

    None when it is no FLAC or says its length. CutStream when it does not end with a whole frame. Decodes nothing.
    """
    head = file.read(_ID3_HEADER_BYTES)
    begin = 0
    if head[:3] == b"ID3":  # a tag before the stream, its length in bytes of seven bits
        begin = _ID3_HEADER_BYTES + sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[:5:-1]))
    file.seek(begin)
    info = file.read(_STREAMINFO_END)
    if len(info) < _STREAMINFO_END or info[:4] != _MARKER:
        return None
    field = int.from_bytes(info[_LENGTH], "big")
    if field & (1 << _LENGTH_BITS) - 1:
        return None
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    try:
        samples = _samples(data, begin, largest_block=int.from_bytes(info[10:12], "big"))
        data[begin + _LENGTH.start : begin + _LENGTH.stop] = (field | samples).to_bytes(5, "big")
    except BaseException:
        data.close()
        raise
    return data


def _samples(data: mmap.mmap, begin: int, largest_block: int) -> int:
    """Samples per channel of the stream that begins there, by its last frame."""
    for size in _TAILS_BYTES:
        tail = data[max(begin + _STREAMINFO_END, len(data) - size) :]
        for place in np.flatnonzero(_crc_16_of_endings(tail) == 0)[::-1].tolist():
            if frame := _frame(tail[place : place + _HIGHEST_HEADER_BYTES]):
                before = frame.number if frame.variable else frame.number * largest_block
                if before + frame.samples < 1 << _LENGTH_BITS:
                    return before + frame.samples
    raise CutStream("it is a streamed FLAC that does not end with a whole frame: it was cut off")


def _frame(header: bytes) -> _Frame | None:
    """A frame's header (9.1), None when these bytes are none."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xFE != 0xF8:
        return None
    number, end = _coded_number(header)
    sizes, rates = header[2] >> 4, header[2] & 15
    size_bytes = {6: 1, 7: 2}.get(sizes, 0)
    rate_bytes = {12: 1, 13: 2, 14: 2}.get(rates, 0)
    crc = end + size_bytes + rate_bytes
    if number is None or sizes == 0 or rates == 15 or crc >= len(header) or _crc_8(header[:crc]) != header[crc]:
        return None
    if size_bytes:
        samples = int.from_bytes(header[end : end + size_bytes], "big") + 1
    else:
        samples = 192 if sizes == 1 else 144 << sizes if sizes < 6 else 1 << sizes
    return _Frame(number, samples, variable=bool(header[1] & 1))


def _coded_number(header: bytes) -> tuple[int | None, int]:
    """The number from byte 4 on, coded as UTF-8 codes characters but up to 36 bits, and where it ends."""
    first = header[4]
    length = 8 - (first ^ 0xFF).bit_length()  # ones that the first byte begins with
    if length == 0:
        return first, 5
    following = header[5 : 4 + length]
    if length == 1 or length > 7 or any(byte & 0xC0 != 0x80 for byte in following):
        return None, 4
    number = first & 0x7F >> length
    for byte in following:
        number = number << 6 | byte & 0x3F
    return number, 4 + length


def _crc_8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (_CRC_8 if crc & 0x80 else 0)
    return crc


def _crc_16_of_endings(data: bytes) -> NDArray[np.uint16]:
    """(n,): for each byte, 0 where the CRC-16 of the bytes from it to the end is 0, which is where frames begin.

    A CRC is linear: each bit adds a power of x that its distance from the end gives. So one pass does for all endings.
    """
    backwards = np.frombuffer(data, np.uint8)[::-1]
    powers, crcs = _powers_of_x(), np.zeros(len(backwards), np.uint16)
    for bit in range(8):
        places = np.arange(bit, bit + 8 * len(backwards), 8) % _CRC_16_PERIOD
        crcs ^= np.where(backwards >> bit & 1, powers[places], np.uint16(0))
    return np.bitwise_xor.accumulate(crcs)[::-1]


@cache
def _powers_of_x() -> NDArray[np.uint16]:
    """x^n modulo the polynomial of the CRC-16, for all n."""
    found, power = np.empty(_CRC_16_PERIOD, np.uint16), 1
    for n in range(_CRC_16_PERIOD):
        found[n] = power
        power = power << 1 ^ (_CRC_16 if power & 0x8000 else 0)
    return found

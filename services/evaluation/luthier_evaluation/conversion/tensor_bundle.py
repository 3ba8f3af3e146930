"""Checkpoints of TensorFlow 1 and 2 ("tensor bundles") without TensorFlow.

A bundle is an index, `NAME.index`, and the numbers, `NAME.data-00000-of-00001`. The index is a sorted string table as
LevelDB writes it (its format.h and block_builder.cc; TensorFlow's lib/io/format.cc): blocks of entries whose keys share
prefixes, an index of the blocks, a footer of 48 bytes. Its values are protobuf messages of tensor_bundle.proto, wire
format version 3: of the empty key a `BundleHeaderProto`, of each tensor's name a `BundleEntryProto`.

Bytes from outside are held against their bounds before anything is allocated: every offset and length against the
file, every tensor against its shape, every block and tensor against its CRC-32C (RFC 3720, masked as LevelDB does).
Bundles in several files, of tensors in slices, and compressed indexes are refused; TensorFlow writes them only where it
is told to.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_INDEX_BYTES: Final = 4 << 20  # of MAX_TENSORS with names of 300 characters
MAX_DATA_BYTES: Final = 256 << 20
MAX_TENSORS: Final = 10_000
MAX_NAME_CHARS: Final = 500
MAX_RANK: Final = 8

_FOOTER_BYTES: Final = 48
_MAGIC: Final = 0xDB4775248B80FB57
_TRAILER_BYTES: Final = 5  # after each block: one of its compression, four of its CRC
_MASK_DELTA: Final = 0xA282EAD8  # LevelDB's, so that a CRC over data that holds its own CRC is no constant
_POLYNOMIAL: Final = 0x82F63B78  # Castagnoli's, bits reversed
_MAX_VARINT_BYTES: Final = 10

TYPES: Final[Mapping[int, np.dtype[np.generic]]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
    19: np.dtype("<f2"),
}
"""Number formats that are read, by their number in types.proto."""


class BundleError(ValueError):
    """These bytes are no tensor bundle, or one that is damaged or beyond a bound."""


@dataclass(frozen=True)
class Entry:
    """Where a bundle holds a tensor: `dtype` is its number in types.proto, `offset` and `size` are bytes of the data,
    `crc` the masked CRC-32C over them.
    """

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int
    crc: int


class TensorBundle:
    """The tensors of a bundle: `entries` by name, `tensor` gives one. `index` and `data` are the two files' bytes.

    BundleError when they are no bundle.
    """

    def __init__(self, index: bytes, data: bytes) -> None:
        for what, given, most in (("index", index, MAX_INDEX_BYTES), ("data", data, MAX_DATA_BYTES)):
            if len(given) > most:
                raise BundleError(f"the {what} has {len(given)} bytes, at most {most} are read")
        self._data = data
        self.entries: Mapping[str, Entry] = _entries(index, len(data))

    def tensor(self, name: str) -> NDArray[np.generic]:
        """A tensor's numbers in their own format. KeyError for a name that is not in the bundle, BundleError for a
        format that is not read and where the bytes are not those that were written.
        """
        entry = self.entries[name]
        kind = TYPES.get(entry.dtype)
        if kind is None:
            raise BundleError(f"tensor {name} has TensorFlow's number format {entry.dtype}; read are {sorted(TYPES)}")
        if entry.size != math.prod(entry.shape) * kind.itemsize:
            raise BundleError(f"tensor {name} of shape {list(entry.shape)} cannot have {entry.size} bytes")
        piece = memoryview(self._data)[entry.offset : entry.offset + entry.size]
        if masked(crc32c(piece)) != entry.crc:
            raise BundleError(f"tensor {name} is damaged: its CRC is not the one that the index states")
        return np.frombuffer(piece, dtype=kind).reshape(entry.shape)


def _entries(index: bytes, data_bytes: int) -> dict[str, Entry]:
    """All tensors that an index names, each checked against the size of the data."""
    entries: dict[str, Entry] = {}
    header = False
    for key, value in _table(index):
        if not key:
            header = _check_header(value)
            continue
        if not header:
            raise BundleError("the index has no header")
        try:
            name = key.decode()
        except UnicodeDecodeError:
            raise BundleError("a tensor's name is not UTF-8") from None
        if len(name) > MAX_NAME_CHARS:
            raise BundleError(f"a tensor's name has {len(name)} characters, at most {MAX_NAME_CHARS} are read")
        entries[name] = entry = _entry(name, value)
        if entry.offset + entry.size > data_bytes:
            end = entry.offset + entry.size
            raise BundleError(f"tensor {name} ends at byte {end} of the data, which has {data_bytes}")
        if len(entries) > MAX_TENSORS:
            raise BundleError(f"the index names more than {MAX_TENSORS} tensors")
    if not entries:
        raise BundleError("the index names no tensors")
    return entries


def _check_header(message: bytes) -> bool:
    fields = dict(_fields(message))  # BundleHeaderProto
    shards, endianness = fields.get(1, 0), fields.get(2, 0)
    if shards != 1:
        raise BundleError(f"the bundle has {shards!r} files of data, only bundles of one are read")
    if endianness != 0:
        raise BundleError("the bundle was written by a big-endian machine")
    return True


def _entry(name: str, message: bytes) -> Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}  # dtype, shard, offset, size, CRC of BundleEntryProto; absent = 0
    shape: tuple[int, ...] = ()
    for field, value in _fields(message):
        if field == 2 and isinstance(value, bytes):
            shape = _shape(name, value)
        elif field in numbers and isinstance(value, int):
            numbers[field] = value
        elif field == 7:
            raise BundleError(f"tensor {name} lies in slices, which are not read")
    if numbers[3]:
        raise BundleError(f"tensor {name} lies in file {numbers[3]} of a bundle of one")
    return Entry(numbers[1], shape, numbers[4], numbers[5], numbers[6])


def _shape(name: str, message: bytes) -> tuple[int, ...]:
    sizes = []
    for field, value in _fields(message):  # TensorShapeProto
        if field == 2 and isinstance(value, bytes):
            size = dict(_fields(value)).get(1, 0)
            if not isinstance(size, int) or size > MAX_DATA_BYTES:
                raise BundleError(f"tensor {name} has a dimension of {size!r}, at most {MAX_DATA_BYTES} is read")
            sizes.append(size)
            if len(sizes) > MAX_RANK:
                raise BundleError(f"tensor {name} has more than {MAX_RANK} dimensions")
        elif field == 3 and value:
            raise BundleError(f"tensor {name} has no stated shape")
    return tuple(sizes)


def _table(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a sorted string table, in order."""
    if len(index) < _FOOTER_BYTES or struct.unpack("<Q", index[-8:])[0] != _MAGIC:
        raise BundleError("the index is no sorted string table: its last 8 bytes are not the format's mark")
    footer = index[-_FOOTER_BYTES:]
    _, at = _handle(footer, 0)  # of a block of statistics, which TensorFlow leaves empty
    blocks, _ = _handle(footer, at)
    last: bytes | None = None
    for _, handle in _block(index, blocks):
        at_block, _ = _handle(handle, 0)
        for key, value in _block(index, at_block):
            if last is not None and key <= last:
                raise BundleError("the index is damaged: its keys are not in order")
            last = key
            yield key, value


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Offset and length of a block, and where its handle ends."""
    offset, at = _varint(data, at)
    length, at = _varint(data, at)
    return (offset, length), at


def _block(index: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block, after its CRC held."""
    offset, length = handle
    end = offset + length
    if end + _TRAILER_BYTES > len(index) - _FOOTER_BYTES or length < 4:
        raise BundleError(f"the index is damaged: a block of {length} bytes at {offset} does not fit {len(index)}")
    if index[end] != 0:
        raise BundleError("the index is compressed; TensorFlow writes it plain")
    if masked(crc32c(index[offset : end + 1])) != struct.unpack_from("<I", index, end + 1)[0]:
        raise BundleError("the index is damaged: the CRC of a block is not the one stated")
    (restarts,) = struct.unpack_from("<I", index, end - 4)
    stop = end - 4 - 4 * restarts
    if stop < offset:
        raise BundleError("the index is damaged: a block has more restarts than bytes")
    key, at = b"", offset
    while at < stop:
        shared, at = _varint(index, at)
        added, at = _varint(index, at)
        size, at = _varint(index, at)
        if shared > len(key) or at + added + size > stop:
            raise BundleError("the index is damaged: an entry ends behind its block")
        key = key[:shared] + index[at : at + added]
        yield key, index[at + added : at + added + size]
        at += added + size


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protobuf message, in order: whole numbers, or bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            length, at = _varint(message, at)
        if length is None or at + length > len(message):
            raise BundleError("the index is damaged: a message has a field that is none, or that ends behind it")
        piece = message[at : at + length]
        yield tag >> 3, piece if kind == 2 else int.from_bytes(piece, "little")
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and where it ends."""
    value = 0
    for number, byte in enumerate(data[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            return value, at + number + 1
    raise BundleError("the index is damaged: a number does not end")


def masked(crc: int) -> int:
    """A CRC as LevelDB and TensorFlow store it."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


_LANES: Final = 1024  # pieces that are worked through side by side
_FEW_BYTES: Final = 4096  # for which that is no gain


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32C (RFC 3720) of bytes.

    Many equal pieces are worked through at once, one byte of each at a time; then neighbours are joined: the CRC of two
    pieces is the CRC of the first, pushed by the length of the second, xor that of the second.
    """
    if len(data) < _FEW_BYTES:
        return _bytewise(bytes(data))
    given = np.frombuffer(data, dtype=np.uint8)
    length = -(-given.size // _LANES)
    lanes = np.zeros(_LANES * length, dtype=np.uint8)  # zeros before the data change no CRC that begins at 0
    start = lanes.size - given.size
    lanes[start:] = given
    lanes[start : start + 4] ^= 0xFF  # to begin at all ones is to begin at 0 with the first four bytes inverted
    crcs = np.zeros(_LANES, dtype=np.uint32)
    table = _byte_table()
    for column in np.ascontiguousarray(lanes.reshape(_LANES, length).T):
        crcs = table[(crcs ^ column) & 0xFF] ^ (crcs >> 8)
    push = _zeros_operator(length)
    while crcs.size > 1:
        crcs = _apply(push, crcs[::2]) ^ crcs[1::2]
        push = _apply(push, push)
    return int(crcs[0]) ^ 0xFFFFFFFF


def _bytewise(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, _byte_list()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _byte_table() -> NDArray[np.uint32]:
    """The CRC of each byte, from 0."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


@cache
def _byte_list() -> list[int]:
    numbers: list[int] = _byte_table().tolist()
    return numbers


def _zeros_operator(length: int) -> NDArray[np.uint32]:
    """What so many zero bytes make of each single bit of a CRC [32]; the operation is linear over these bits."""
    power = np.uint32(1) << np.arange(32, dtype=np.uint32)  # of no byte
    step = _byte_table()[power & 0xFF] ^ (power >> 8)  # of one byte
    while length:
        if length & 1:
            power = _apply(step, power)
        step = _apply(step, step)
        length >>= 1
    return power


def _apply(operator: NDArray[np.uint32], crcs: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """An operator [32] on CRCs [n]."""
    found = np.zeros_like(crcs)
    for bit in range(32):
        found ^= np.where((crcs >> np.uint32(bit)) & np.uint32(1), operator[bit], np.uint32(0)).astype(np.uint32)
    return found

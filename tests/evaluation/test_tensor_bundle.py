"""TensorFlow's checkpoints, read without it: held against TensorFlow, and against bundles written here."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from luthier_evaluation.conversion.tensor_bundle import BundleError, TensorBundle, crc32c

REFERENCE = np.load(Path(__file__).parent / "musicnn_reference.npz")
FLOAT, INT64 = 1, 9


# The checks of RFC 3720, B.4, and the usual one of CRC catalogues.
@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
        (b"a", 0xC1D04330),
    ],
)
def test_crc_is_that_of_the_standard(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


@pytest.mark.parametrize("length", [3, 4095, 4096, 4097, 10_000])
def test_crc_of_any_length_is_that_of_a_bytewise_reading(length: int) -> None:
    data = np.random.default_rng(length).bytes(length)

    assert crc32c(data) == bytewise(data)


def bytewise(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("name", ["MSD_musicnn", "MTT_musicnn"])
def test_a_published_checkpoint_is_read_as_tensorflow_reads_it(name: str) -> None:
    folder = Path(str(metadata.distribution("musicnn").locate_file(f"musicnn/{name}")))
    bundle = TensorBundle((folder / ".index").read_bytes(), (folder / ".data-00000-of-00001").read_bytes())

    assert sorted(bundle.entries) == REFERENCE[f"{name}/names"].tolist()
    sums = [np.abs(bundle.tensor(one).astype(np.float64)).sum() for one in sorted(bundle.entries)]
    np.testing.assert_allclose(sums, REFERENCE[f"{name}/sums"], rtol=1e-12)


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protobuf message of whole numbers and bytes; CRCs (field 6) are fixed 32 bits."""
    parts = []
    for number, value in fields:
        if isinstance(value, bytes):
            parts.append(varint(number << 3 | 2) + varint(len(value)) + value)
        elif number == 6:
            parts.append(varint(number << 3 | 5) + struct.pack("<I", value))
        else:
            parts.append(varint(number << 3) + varint(value))
    return b"".join(parts)


def masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def block(entries: list[tuple[bytes, bytes]], compression: int = 0) -> bytes:
    body, last = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), min(len(last), len(key)))
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    body += struct.pack("<II", 0, 1) + bytes([compression])
    return body + struct.pack("<I", masked(bytewise(body)))


def table(entries: list[tuple[bytes, bytes]], compression: int = 0) -> bytes:
    data = block(entries, compression)
    pointed = block([(entries[-1][0], varint(0) + varint(len(data) - 5))])
    footer = varint(0) + varint(8) + varint(len(data)) + varint(len(pointed) - 5)
    return data + pointed + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


@dataclass
class Written:
    """A bundle of two tensors; each field is one that a test may write wrongly."""

    first: np.ndarray = field(default_factory=lambda: np.arange(6, dtype="<f4").reshape(2, 3))
    second: np.ndarray = field(default_factory=lambda: np.array(7, "<i8"))
    header: tuple[tuple[int, int | bytes], ...] = ((1, 1), (3, message((1, 1))))
    more: tuple[tuple[int, int | bytes], ...] = ()
    dtype: int = FLOAT
    shape: tuple[int, ...] = (2, 3)
    offset: int = 0
    size: int = 24
    compression: int = 0

    def files(self) -> tuple[bytes, bytes]:
        data = self.first.tobytes() + self.second.tobytes()
        dimensions = b"".join(message((2, message((1, size)))) for size in self.shape)
        crcs = [masked(bytewise(tensor.tobytes())) for tensor in (self.first, self.second)]
        first: list[tuple[int, int | bytes]] = [
            (1, self.dtype),
            (2, dimensions),
            *self.more,
            (4, self.offset),
            (5, self.size),
            (6, crcs[0]),
        ]
        second: list[tuple[int, int | bytes]] = [(1, INT64), (2, b""), (4, 24), (5, 8), (6, crcs[1])]
        entries = [(b"", message(*self.header)), (b"dense/bias", message(*first)), (b"dense/step", message(*second))]
        return table(entries, self.compression), data


def test_tensors_come_out_as_they_were_written() -> None:
    bundle = TensorBundle(*Written().files())

    assert bundle.tensor("dense/bias").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert bundle.tensor("dense/step").tolist() == 7


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def opened(index: bytes, data: bytes) -> None:
    bundle = TensorBundle(index, data)
    for name in bundle.entries:
        bundle.tensor(name)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (Written(offset=9), "ends at byte 33 of the data, which has 32"),
        (Written(size=1 << 60), "of the data, which has 32"),
        (Written(shape=(2, 4)), r"of shape \[2, 4\] cannot have 24 bytes"),
        (Written(shape=(1 << 40,)), "has a dimension of 1099511627776"),
        (Written(shape=(1,) * 9), "more than 8 dimensions"),
        (Written(dtype=7), "number format 7"),
        (Written(offset=4), "its CRC is not the one"),
        (Written(header=((1, 2),)), "has 2 files of data"),
        (Written(header=((1, 1), (2, 1))), "big-endian"),
        (Written(more=((3, 1),)), "lies in file 1"),
        (Written(more=((7, message((1, b""))),)), "lies in slices"),
        (Written(compression=1), "is compressed"),
    ],
)
def test_what_is_beyond_a_bound_is_refused_by_name(written: Written, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        opened(*written.files())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (lambda index, data: (index[:-1], data), "not the format's mark"),
        (lambda index, data: (b"", data), "not the format's mark"),
        (lambda index, data: (flipped(index, 10), data), "the CRC of a block"),
        (lambda index, data: (index, flipped(data, 3)), "tensor dense/bias is damaged"),
        (lambda index, data: (index, data[:-1]), "tensor dense/step ends at byte 32"),
        (lambda index, data: (index + bytes(5 << 20), data), "at most 4194304 are read"),
    ],
)
def test_damaged_files_are_refused(changed: Callable[[bytes, bytes], tuple[bytes, bytes]], says: str) -> None:
    with pytest.raises(BundleError, match=says):
        opened(*changed(*Written().files()))


def test_any_damage_to_the_bytes_is_an_error_of_this_reader() -> None:
    """Blocks with CRCs that hold, so that what lies behind the check is reached: random bytes where entries belong."""
    dice = np.random.default_rng(0)
    entries = [(b"", message((1, 1))), (b"dense/bias", message((1, 1), (4, 0), (5, 4), (6, 0)))]
    whole = block(entries)[:-5]
    unread = 0
    for _ in range(1000):
        body = bytearray(whole)
        for at in dice.integers(0, len(body), dice.integers(1, 6)):
            body[at] = dice.integers(0, 256)
        data = bytes(body) + b"\0" + struct.pack("<I", masked(bytewise(bytes(body) + b"\0")))
        pointed = block([(b"z", varint(0) + varint(len(data) - 5))])
        footer = varint(0) + varint(8) + varint(len(data)) + varint(len(pointed) - 5)
        try:
            opened(data + pointed + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57), bytes(4))
        except BundleError:
            unread += 1

    assert unread > 900

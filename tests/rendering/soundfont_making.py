"""Small SoundFonts for tests: one looped sine for each preset (SoundFont Technical Specification 2.04, section 7)."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RATE = 44_100
PERIODS = 100
KEY_RANGE, INSTRUMENT, SAMPLE_ID, SAMPLE_MODES = 43, 41, 53, 54


class Tone(NamedTuple):
    """A preset whose key 69 is a sine of `hz`; it has samples for `keys` only."""

    bank: int
    program: int
    name: str
    hz: float = 440.0
    keys: tuple[int, int] = (0, 127)
    amplitude: float = 0.5


def soundfont_bytes(tones: Sequence[Tone]) -> bytes:
    """A SoundFont 2 file of these presets."""
    samples, headers, at = b"", b"", 0
    for tone in tones:
        length = round(PERIODS * RATE / tone.hz)
        wave = tone.amplitude * np.sin(2 * np.pi * np.arange(length) * PERIODS / length)
        samples += (wave * 32767).astype("<i2").tobytes() + bytes(2 * 46)
        place = (at, at + length, at, at + length, RATE, 69, 0, 0, 1)
        headers += struct.pack("<20s5IBbHH", tone.name.encode(), *place)
        at += length + 46
    headers += struct.pack("<20s5IBbHH", b"EOS", *[0] * 9)
    count = len(tones)
    presets = b"".join(
        struct.pack("<20sHHHIII", one.name.encode(), one.program, one.bank, i, 0, 0, 0) for i, one in enumerate(tones)
    )
    presets += struct.pack("<20sHHHIII", b"EOP", 0, 0, count, 0, 0, 0)
    instruments = b"".join(struct.pack("<20sH", one.name.encode(), i) for i, one in enumerate(tones))
    instruments += struct.pack("<20sH", b"EOI", count)
    preset_generators = b"".join(struct.pack("<HH", INSTRUMENT, i) for i in range(count)) + bytes(4)
    zones = b"".join(
        struct.pack("<HBBHHHH", KEY_RANGE, *one.keys, SAMPLE_MODES, 1, SAMPLE_ID, i) for i, one in enumerate(tones)
    )
    pdta = [
        (b"phdr", presets),
        (b"pbag", b"".join(struct.pack("<HH", i, 0) for i in range(count + 1))),
        (b"pmod", bytes(10)),
        (b"pgen", preset_generators),
        (b"inst", instruments),
        (b"ibag", b"".join(struct.pack("<HH", 3 * i, 0) for i in range(count + 1))),
        (b"imod", bytes(10)),
        (b"igen", zones + bytes(4)),
        (b"shdr", headers),
    ]
    info = [(b"ifil", struct.pack("<HH", 2, 4)), (b"isng", b"EMU8000\0"), (b"INAM", b"tones\0")]
    lists = b"".join(
        _chunk(b"LIST", kind + b"".join(_chunk(*one) for one in chunks))
        for kind, chunks in ((b"INFO", info), (b"sdta", [(b"smpl", samples)]), (b"pdta", pdta))
    )
    return _chunk(b"RIFF", b"sfbk" + lists)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

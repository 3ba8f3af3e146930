"""What a file claims about itself beside its notes: tempo, meter, key signature, names, ports."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from luthier_rendering import smf
from luthier_rendering.limits import refuse
from luthier_rendering.tempo_map import MAX_TEMPO_BPM, TempoMap, tempo_map

Meter = tuple[int, int, int]  # tick, beats in a bar (1..64), note value of a beat (1..64, a power of two)

_MAJOR: Final = ["Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#"]
_MINOR: Final = ["Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#", "G#", "D#", "A#"]
_NAME_CHARS: Final = 200


@dataclass(frozen=True)
class Claims:
    """`meters` starts at tick 0 (4/4 where nothing is said); `key` is as written, e.g. `Eb major`, or empty."""

    tempo: TempoMap
    tempo_is_default: bool
    meters: tuple[Meter, ...]
    key: str
    names: tuple[str, ...]
    ports: tuple[int, ...]


def read_claims(file: smf.Smf, faults: Counter[str]) -> Claims:
    """Collect the meta events of all tracks. InvalidRequest MIDI_BAD_TEMPO; lesser faults are counted."""
    metas = sorted((meta for track in file.tracks for meta in track.metas), key=lambda meta: meta[0])
    tempos = [(tick, _us_per_beat(tick, data)) for tick, kind, data in metas if kind == smf.META_TEMPO]
    faults["TEMPO_IS_DEFAULT"] += not tempos
    faults["NO_END_OF_TRACK"] += sum(not track.ended for track in file.tracks)
    faults["TRAILING_BYTES"] += file.trailing_bytes > 0
    return Claims(
        tempo_map(file.ticks_per_beat, tempos),
        not tempos,
        _meters([(tick, data) for tick, kind, data in metas if kind == smf.META_METER], faults),
        _key([data for _, kind, data in metas if kind == smf.META_KEY], faults),
        tuple(_text(_first(track, smf.META_TRACK_NAME)) for track in file.tracks),
        tuple(int.from_bytes(_first(track, smf.META_PORT)[:1], "big") for track in file.tracks),
    )


def _us_per_beat(tick: int, data: bytes) -> int:
    us = int.from_bytes(data[:3], "big")
    if len(data) != 3 or us < 60e6 / MAX_TEMPO_BPM:
        tempo = f"{60e6 / us:.0f} BPM" if us else "0 microseconds per beat"
        refuse("MIDI_BAD_TEMPO", f"the tempo at tick {tick} is {tempo}: it must be 3.6 to {MAX_TEMPO_BPM:g} BPM")
    return us


def _meters(found: list[tuple[int, bytes]], faults: Counter[str]) -> tuple[Meter, ...]:
    meters: dict[int, Meter] = {0: (0, 4, 4)}
    for tick, data in found:
        if len(data) < 2 or not 1 <= data[0] <= 64 or data[1] > 6:
            faults["METER_INVALID"] += 1
        else:
            meters[tick] = (tick, data[0], 2 ** data[1])
    ordered = [meters[tick] for tick in sorted(meters)]
    return (ordered[0], *(b for a, b in pairwise(ordered) if a[1:] != b[1:]))


def _key(found: list[bytes], faults: Counter[str]) -> str:
    """The first key signature as written. A claim: most files say C major by default, whatever they play."""
    valid = [data for data in found if len(data) == 2 and -7 <= _signed(data[0]) <= 7 and data[1] <= 1]
    faults["KEY_SIGNATURE_INVALID"] += len(found) - len(valid)
    faults["KEY_SIGNATURE_IS_A_CLAIM"] += len(valid)
    if not valid:
        return ""
    fifths, minor = _signed(valid[0][0]), valid[0][1]
    return f"{(_MINOR if minor else _MAJOR)[fifths + 7]} {'minor' if minor else 'major'}"


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _text(data: bytes) -> str:
    """A name as UTF-8 or, as most old files are, Latin-1; without control characters."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return "".join(char for char in text if char.isprintable()).strip()


def _first(track: smf.Track, kind: int) -> bytes:
    data = next((data for _, found, data in track.metas if found == kind), b"")
    return data[:_NAME_CHARS]

"""Standard MIDI files: bytes to events, every bound checked while the bytes are walked.

Source: Standard MIDI Files 1.0 (MMA RP-001). A file is untrusted: nothing is allocated that a bound does not cover, and
what is malformed is refused by name, the first fault found, with the track and byte. Where only one reading makes sense
and other readers take it (running status after a meta event, a data byte above 127, a status byte of the wire, an RMID
wrapper), the file is read and the fault listed.

Why not a library: others get wrong what decides a song. `tests/bench/midi_readers.py FOLDER` times them and shows it
case by case (82 songs, 3.1 MB; in ms a song on one core; ours takes 3 to events, 16 to notes).

* symusic 0.6 (0.15): notes by track and program, without channels, ports or raw events: so program, volume and bends
  that another track of the channel sets are lost and cannot be put back. It reads format 2 as one song, tempo 0 as
  infinite and 0 ticks per beat as NaN, checks no bound and reports no fault.
* pretty_midi 0.2.11 (52): loses the same state; ends all open notes of a key at once; takes a note's program when it
  ends; takes tempo from the first track only, which 37 of the 82 songs have elsewhere.
* mido 1.3 (38, to events): neither notes nor state; accepts tempo 0, and three days of music in 40 bytes.

Reading takes less than half a percent of the time of rendering, so symusic's speed would change nothing. pretty_midi
and mido check this reader on real songs, where they are right (`tests/rendering/test_independent_readers.py`).
"""

from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Final, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from luthier_kit.rpc import InvalidRequest

META_TRACK_NAME, META_PORT, META_END, META_TEMPO, META_METER, META_KEY = 0x03, 0x21, 0x2F, 0x51, 0x58, 0x59
_READ_METAS: Final = frozenset({META_TRACK_NAME, META_PORT, META_END, META_TEMPO, META_METER, META_KEY})
NOTE_OFF, NOTE_ON, CONTROL, PROGRAM, BEND = 0x80, 0x90, 0xB0, 0xC0, 0xE0  # kinds of channel events
EXCLUSIVE: Final = 0xF0
_ONE_DATA_BYTE: Final = (PROGRAM, 0xD0)  # program change and channel pressure; all other kinds have two
_CONTINUED, _META = 0xF7, 0xFF
_STRAY_DATA_BYTES: Final = {0xF1: 1, 0xF2: 2, 0xF3: 1}  # of messages of the wire; those that are not named have none
_MAX_EXCLUSIVE_BYTES: Final = 64  # what is longer is a dump of sounds and steers no player
_BATCH_EVENTS: Final = 4096  # walked between two looks at the bounds


@dataclass(frozen=True)
class MidiLimits:
    """Upper bounds of a MIDI file; the defaults hold every song of a real corpus several times over."""

    size_bytes: int = 8 << 20
    tracks: int = 256
    events: int = 500_000
    notes: int = 200_000
    ticks: int = 100_000_000
    duration_s: float = 1200.0
    bars: int = 10_000
    stems: int = 96
    stem_s: float = 4 * 3600.0  # stems times length: what is synthesised and kept on scratch
    tempos: int = 50_000  # changes of tempo: a megabyte of every response that holds the song's timeline

    def changed(self) -> dict[str, float]:
        """The bounds that are not the default: they belong to the name of an action, as they decide refusals."""
        default = asdict(MidiLimits())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


def refuse(reason: str, message: str) -> NoReturn:
    """Raise InvalidRequest for the field `midi` with a stable UPPER_SNAKE reason."""
    raise InvalidRequest(message, reason=reason, violations=[("midi", message)])


def within(reason: str, what: str, value: float, bound: float) -> None:
    """Refuse a value above its bound, naming both."""
    if value > bound:
        refuse(reason, f"the file holds {value:.10g} {what}, the bound is {bound:.10g}")


class Columns(NamedTuple):
    """Events as columns of equal length [n]: `status` is a kind with its channel 0..15, or EXCLUSIVE; `first` and
    `second` are data bytes 0..127, 0 where there is none."""

    tick: NDArray[np.int64]
    status: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]


class MetaEvent(NamedTuple):
    """`kind` is META_TRACK_NAME … META_KEY."""

    tick: int
    kind: int
    data: bytes


@dataclass(frozen=True)
class Track:
    """One track's events in file order.

    `events` [n] are the channel events and system exclusive, each one number of 8 bytes: a file of half a million takes
    4 MB, where an object for each would take 100. `columns` takes them apart. `exclusives` are the messages of those
    with the status EXCLUSIVE, without F0 and F7. `metas` are those whose kinds are named above.
    """

    events: NDArray[np.int64]
    exclusives: list[bytes]
    metas: list[MetaEvent]
    ended: bool  # with an end-of-track event

    @property
    def columns(self) -> Columns:
        """The events taken apart."""
        events = self.events
        return Columns(events >> 24, events >> 16 & 0xFF, events >> 8 & 0xFF, events & 0xFF)


@dataclass(frozen=True)
class Smf:
    """A file's header and tracks; `trailing_bytes` follow the last track; `faults` counts what was read all the same:
    DATA_BYTE_INVALID, RMID_WRAPPER, RUNNING_STATUS_INTERRUPTED, STRAY_STATUS."""

    format: int
    ticks_per_beat: int
    tracks: list[Track]
    trailing_bytes: int = 0
    faults: Counter[str] = field(default_factory=Counter)


def read_smf(data: bytes, limits: MidiLimits) -> Smf:
    """Read a whole file. InvalidRequest with a MIDI_* reason for what is malformed or beyond a bound."""
    if not data:
        refuse("MIDI_EMPTY", "the file is empty: a MIDI file starts with an MThd chunk")
    within("MIDI_TOO_LARGE", "bytes", len(data), limits.size_bytes)
    faults: Counter[str] = Counter()
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        data, faults["RMID_WRAPPER"] = _unwrapped(data), 1
    if data[:4] != b"MThd"[: len(data)]:
        refuse("MIDI_NOT_MIDI", f"the file starts with {data[:4]!r}: a MIDI file starts with b'MThd'")
    length = int.from_bytes(data[4:8], "big")
    if len(data) < 14 or 8 + length > len(data):
        refuse("MIDI_TRUNCATED", f"the header needs {8 + max(length, 6)} bytes, the file has {len(data)}")
    if length < 6:
        refuse("MIDI_BAD_HEADER", f"the header is {length} bytes long: at least 6 are needed")
    form, declared, division = (int.from_bytes(data[at : at + 2], "big") for at in (8, 10, 12))
    if form > 1:
        what = "holds independent sequences" if form == 2 else "is unknown"
        refuse("MIDI_FORMAT", f"format {form} {what}: only formats 0 and 1 are one song")
    if division & 0x8000:
        refuse("MIDI_SMPTE_DIVISION", "time is counted in SMPTE frames: only ticks per beat (1..32767) have bars")
    if division == 0:
        refuse("MIDI_NO_TICKS", "ticks per beat must be 1..32767, got 0")
    within("MIDI_TOO_MANY_TRACKS", "tracks", declared, limits.tracks)
    chunks, rest = _track_chunks(data, 8 + length, declared)
    walk = _Walk(limits, faults)
    return Smf(form, division, [walk.track(chunk, number) for number, chunk in enumerate(chunks)], rest, faults)


def _unwrapped(data: bytes) -> bytes:
    """The Standard MIDI file inside a RIFF file of the form RMID (MMA RP-029): its first `data` chunk."""
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    refuse("MIDI_TRUNCATED", "the RMID file holds no data chunk")


def _track_chunks(data: bytes, start: int, declared: int) -> tuple[list[bytes], int]:
    """The declared MTrk chunks, and how many bytes follow them. Chunks of other types are stepped over."""
    chunks: list[bytes] = []
    while len(chunks) < declared:
        if start + 8 > len(data):
            refuse("MIDI_TRUNCATED", f"{declared} tracks are declared, the file ends in or after track {len(chunks)}")
        length = int.from_bytes(data[start + 4 : start + 8], "big")
        first, last = start + 8, start + 8 + length
        if last > len(data):
            have = len(data) - first
            refuse("MIDI_TRUNCATED", f"a chunk says {length} bytes, the file has {have} left (track {len(chunks)})")
        if data[start : start + 4] == b"MTrk":
            chunks.append(data[first:last])
        start = last
    return chunks, len(data) - start


class _Walk:
    """Walks the tracks of one file and counts what it meets against the bounds."""

    def __init__(self, limits: MidiLimits, faults: Counter[str]) -> None:
        self._limits, self._faults, self._events, self._notes = limits, faults, 0, 0

    def track(self, chunk: bytes, number: int) -> Track:
        """The events of one track, up to its end-of-track event or its last byte."""
        events = array("Q")  # tick << 24 | status << 16 | first << 8 | second
        exclusives: list[bytes] = []
        metas: list[MetaEvent] = []
        try:
            self._events_of(chunk, number, events, exclusives, metas)
        except IndexError:
            refuse("MIDI_TRUNCATED", f"track {number} ends in the middle of an event")
        ended = bool(metas) and metas[-1].kind == META_END
        return Track(np.array(events, dtype=np.int64), exclusives, metas, ended)

    def _events_of(  # noqa: PLR0912  (one loop: a call for each event would double its time)
        self, chunk: bytes, number: int, events: "array[int]", exclusives: list[bytes], metas: list[MetaEvent]
    ) -> None:
        """Append what the chunk holds. IndexError at its end."""
        at = tick = running = walked = note_ons = 0
        size, ended, interrupted = len(chunk), False, False
        begun = b""  # system exclusive of which packets are to come
        while at < size and not ended:
            delta, at = chunk[at], at + 1
            if delta > 0x7F:
                delta, at = _variable_length(chunk, at - 1, number)
            tick += delta
            status = chunk[at]
            if status >= 0x80:
                at += 1
            elif running:
                status = running
                self._faults["RUNNING_STATUS_INTERRUPTED"] += interrupted
            else:
                refuse("MIDI_NO_RUNNING_STATUS", f"track {number}, byte {at}: a data byte without a status before it")
            if status < 0xF0:
                running, interrupted, kind = status, False, status & 0xF0
                first, second, at = chunk[at], 0, at + 1
                if kind not in _ONE_DATA_BYTE:
                    second, at = chunk[at], at + 1
                if first > 127 or second > 127:
                    self._faults["DATA_BYTE_INVALID"] += 1
                    first, second = min(first, 127), min(second, 127)  # as mido does with clip=True
                events.append(tick << 24 | status << 16 | first << 8 | second)
                note_ons += kind == NOTE_ON and second > 0
            elif status in (EXCLUSIVE, _CONTINUED, _META):
                interrupted = True
                meta, start, at = _other_event(chunk, at, status, number)
                if meta is None:
                    data = chunk[start:at] if at - start <= _MAX_EXCLUSIVE_BYTES else b""
                    message, begun = _exclusive(status, begun, data)
                    if message:
                        events.append(tick << 24 | EXCLUSIVE << 16)
                        exclusives.append(message)
                elif meta in _READ_METAS:
                    metas.append(MetaEvent(tick, meta, chunk[start:at]))
                    ended = meta == META_END
            else:
                self._faults["STRAY_STATUS"] += 1
                at += _STRAY_DATA_BYTES.get(status, 0)
            walked += 1
            if walked == _BATCH_EVENTS:
                self._count(walked, note_ons, tick)
                walked = note_ons = 0
        self._count(walked, note_ons, tick)

    def _count(self, events: int, notes: int, tick: int) -> None:
        self._events += events
        self._notes += notes
        within("MIDI_TOO_MANY_TICKS", "ticks", tick, self._limits.ticks)  # so that a tick has less than 40 bits
        within("MIDI_TOO_MANY_NOTES", "notes", self._notes, self._limits.notes)
        within("MIDI_TOO_MANY_EVENTS", "events", self._events, self._limits.events)


def _other_event(chunk: bytes, at: int, status: int, number: int) -> tuple[int | None, int, int]:
    """Where the data of a meta event (with its kind) or of system exclusive (None) starts and ends."""
    kind = chunk[at] if status == _META else None
    length, start = _variable_length(chunk, at + (status == _META), number)
    if start + length > len(chunk):
        left = len(chunk) - start
        refuse("MIDI_TRUNCATED", f"track {number}: an event says {length} bytes, the track has {left} left")
    return kind, start, start + length


def _exclusive(status: int, begun: bytes, data: bytes) -> tuple[bytes, bytes]:
    """What a packet makes of the packets before it: (a whole message, what is begun), each empty where there is none.

    F0 begins a message, F7 goes on where no end byte came; without one begun, it is a message if it holds F0 itself.
    """
    if status == _CONTINUED and not begun and not data.startswith(b"\xf0"):
        return b"", b""
    packet = data if status == EXCLUSIVE else begun + data
    if packet.endswith(b"\xf7"):
        return packet[:-1].removeprefix(b"\xf0"), b""
    return b"", packet if len(packet) <= _MAX_EXCLUSIVE_BYTES else b""


def _variable_length(chunk: bytes, at: int, number: int) -> tuple[int, int]:
    """A variable-length quantity of at most four bytes, and where it ends."""
    value = 0
    for end in range(at + 1, at + 5):
        byte = chunk[end - 1]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, end
    refuse("MIDI_BAD_LENGTH", f"track {number}, byte {at}: a variable-length number has more than 4 bytes")

"""Reading bytes: what hurts other readers is named, and what is sound reads as mido reads it."""

import random
from pathlib import Path

import mido
import pytest

from luthier_kit.rpc import InvalidRequest
from luthier_rendering.midi import load_song
from luthier_rendering.smf import EXCLUSIVE, MidiLimits, Track, read_smf
from luthier_rendering.timeline import timeline
from tests.support.services import shared

from .midi_making import OFF, ON, TICKS, chunk, control, header, meter, midi_bytes, note, notes, tempo

GOOD = header() + chunk(ON + OFF)
RIFF = b"RIFF\x00\x00\x00\x00RMID"
TEMPO_0 = b"\x00\xff\x51\x03\x00\x00\x00"
FAR = b"\x84\xa5\xa8\x40"  # 9,000,000 ticks as a variable-length number

HOSTILE = {
    "empty": (b"", "MIDI_EMPTY"),
    "not MIDI": (b"RIFF" + bytes(100), "MIDI_NOT_MIDI"),
    "text": (b"hello, I am a song", "MIDI_NOT_MIDI"),
    "cut in the header": (GOOD[:9], "MIDI_TRUNCATED"),
    "header only": (GOOD[:14], "MIDI_TRUNCATED"),
    "cut in a track": (GOOD[:-6], "MIDI_TRUNCATED"),
    "a track of 4 GB": (header() + b"MTrk\xff\xff\xff\xff" + ON + OFF, "MIDI_TRUNCATED"),
    "a header of 4 GB": (b"MThd\xff\xff\xff\xff" + bytes(20), "MIDI_TRUNCATED"),
    "an event that runs out of its track": (header() + chunk(ON + b"\x00\x90\x3c", end=False), "MIDI_TRUNCATED"),
    "a meta event that runs out": (header() + chunk(ON + b"\x00\xff\x01\x7f", end=False), "MIDI_TRUNCATED"),
    "a header that is too short": (b"MThd\x00\x00\x00\x02\x00\x01\x00\x01\x00\x60", "MIDI_BAD_HEADER"),
    "no status to run on": (header() + chunk(b"\x00\x3c\x64" + OFF), "MIDI_NO_RUNNING_STATUS"),
    "a delta of five bytes": (header() + chunk(b"\x81\x81\x81\x81\x01" + ON[1:] + OFF), "MIDI_BAD_LENGTH"),
    "tempo 0": (header() + chunk(TEMPO_0 + ON + OFF), "MIDI_BAD_TEMPO"),
    "0 ticks per beat": (header(division=0) + chunk(ON + OFF), "MIDI_NO_TICKS"),
    "SMPTE division": (header(division=0xE728) + chunk(ON + OFF), "MIDI_SMPTE_DIVISION"),
    "tempo of four bytes": (header() + chunk(b"\x00\xff\x51\x04\x07\xa1\x20\x00" + ON + OFF), "MIDI_BAD_TEMPO"),
    "an RMID wrapper without a file": (b"RIFF\x10\x00\x00\x00RMIDLIST\x04\x00\x00\x00INFO", "MIDI_TRUNCATED"),
    "format 29697": (header(form=29697) + chunk(ON + OFF), "MIDI_FORMAT"),
    "60,000 tempos": (
        header() + chunk(ON + b"".join(b"\x01\xff\x51\x03\x07\xa1" + bytes([n % 2]) for n in range(60_000)) + OFF),
        "MIDI_TOO_MANY_TEMPOS",
    ),
    "20,000 meters after the music": (
        header()
        + chunk(ON + OFF + b"".join(b"\x01\xff\x58\x04" + bytes([3 + n % 2, 2, 24, 8]) for n in range(20_000))),
        "MIDI_TOO_MANY_BARS",
    ),
    "volume 0": (midi_bytes([control(7, 0), *note(60)]), "MIDI_SILENT"),
    "format 2": (header(form=2) + chunk(ON + OFF), "MIDI_FORMAT"),
    "four hours": (midi_bytes(note(60) + note(60, 4 * 3600 * 2)), "MIDI_TOO_LONG"),
    "9e6 ticks in a tiny file": (header() + chunk(ON + FAR + OFF[1:]), "MIDI_TOO_LONG"),
    "too many ticks": (header() + chunk((FAR + ON[1:] + OFF) * 20), "MIDI_TOO_MANY_TICKS"),
    "20,000 tracks": (header(tracks=20_000) + chunk(ON + OFF) * 20_000, "MIDI_TOO_MANY_TRACKS"),
    "10^6 notes": (header() + chunk(ON + (b"\x00\x3c\x64" + b"\x00\x3c\x00") * 10**6), "MIDI_TOO_MANY_NOTES"),
    "600,000 bends": (header() + chunk(b"\x00\xe0\x00\x40" + b"\x00\x01\x40" * 600_000), "MIDI_TOO_MANY_EVENTS"),
    "9 MB": (header() + chunk(bytes(9 << 20)), "MIDI_TOO_LARGE"),
    "no notes": (header() + chunk(b""), "MIDI_NO_NOTES"),
    "only unmatched notes": (header() + chunk(ON * 3), "MIDI_NO_NOTES"),
    "only notes of no length": (header() + chunk(ON + b"\x00\x80\x3c\x00"), "MIDI_NO_NOTES"),
    "no tracks": (header(tracks=0), "MIDI_NO_NOTES"),
    "a hundred players": (midi_bytes(*[note(60)] * 100), "MIDI_TOO_MANY_STEMS"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_hurts_is_refused_by_name(case: str) -> None:
    data, reason = HOSTILE[case]
    with pytest.raises(InvalidRequest) as refusal:
        load_song(data)
    assert refusal.value.reason == reason
    assert refusal.value.violations[0][0] == "midi"


def test_bars_without_end_are_refused() -> None:
    data = midi_bytes([meter(1, 64), *note(60), *note(60, 2000)], ticks_per_beat=TICKS)
    with pytest.raises(InvalidRequest) as refusal:
        timeline(load_song(data))
    assert refusal.value.reason == "MIDI_TOO_MANY_BARS"


def test_a_bound_is_named_in_its_refusal() -> None:
    with pytest.raises(InvalidRequest, match=r"holds 3 notes, the bound is 2"):
        read_smf(midi_bytes(notes([60, 62, 64])), MidiLimits(notes=2))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (header() + chunk(b"\x00\xff\x59\x02\x0c\x00" + ON + OFF), "KEY_SIGNATURE_INVALID"),
        (header() + chunk(b"\x00\xff\x58\x04\x00\x02\x18\x08" + ON + OFF), "METER_INVALID"),
        (header() + chunk(ON + OFF, end=False), "NO_END_OF_TRACK"),
        (GOOD + b"rubbish", "TRAILING_BYTES"),
        (header() + chunk(ON + OFF + OFF), "UNMATCHED_NOTES"),
        (header() + chunk(ON + b"\x00\x80\x3c\x00" + ON + OFF), "ZERO_LENGTH_NOTES"),
        (GOOD, "TEMPO_IS_DEFAULT"),
        (header() + chunk(b"\x00\x90\x3c\xe4" + OFF), "DATA_BYTE_INVALID"),
        (header() + chunk(b"\x00\xfe" + ON + OFF), "STRAY_STATUS"),
        (header() + chunk(ON + b"\x00\xfc" + OFF), "STRAY_STATUS"),
        (header() + chunk(ON + b"\x00\xf2\x01\x02" + OFF), "STRAY_STATUS"),
        (header() + chunk(ON + b"\x00\xff\x01\x02la\x60\x3c\x00"), "RUNNING_STATUS_INTERRUPTED"),
        (header() + chunk(ON + b"\x00\xf0\x05\x41\x10\x42\x12\xf7\x60\x3c\x00"), "RUNNING_STATUS_INTERRUPTED"),
        (RIFF + b"data" + len(GOOD).to_bytes(4, "little") + GOOD, "RMID_WRAPPER"),
        (RIFF + b"INFO\x03\x00\x00\x00abc\x00data" + len(GOOD).to_bytes(4, "little") + GOOD, "RMID_WRAPPER"),
    ],
)
def test_lesser_faults_are_counted_and_the_song_is_read(data: bytes, fault: str) -> None:
    song = load_song(data)
    assert len(song.notes) == 1
    assert song.faults[fault] == 1


def test_unknown_chunks_and_empty_tracks_are_stepped_over() -> None:
    data = header(tracks=3) + b"XFIH\x00\x00\x00\x04abcd" + chunk(b"") + chunk(ON + OFF) + chunk(b"")
    assert len(load_song(data).notes) == 1


def test_what_is_wrong_with_a_format_or_a_tempo_is_said_as_it_is() -> None:
    with pytest.raises(InvalidRequest, match=r"format 29697 is unknown"):
        load_song(header(form=29697) + chunk(ON + OFF))
    with pytest.raises(InvalidRequest, match=r"tempo event at tick 0 holds 4 bytes"):
        load_song(header() + chunk(b"\x00\xff\x51\x04\x07\xa1\x20\x00" + ON + OFF))


def test_system_exclusive_is_kept_whole_also_from_several_packets() -> None:
    begins, ends, escaped = b"\x00\xf0\x03\x7e\x7f\x09", b"\x10\xf7\x02\x01\xf7", b"\x00\xf7\x03\xf0\x7e\xf7"
    (track,) = read_smf(header() + chunk(ON + begins + ends + OFF + escaped), MidiLimits()).tracks
    assert track.exclusives == [b"\x7e\x7f\x09\x01", b"\x7e"]
    assert (track.columns.tick.tolist(), track.columns.status.tolist()) == ([0, 16, 112, 112], [0x90, 0xF0, 0x80, 0xF0])


@pytest.mark.parametrize("number", range(0, 82, 17))
def test_real_files_read_as_mido_reads_them(number: int) -> None:
    path = corpus()[number]
    ours = read_smf(path.read_bytes(), MidiLimits())
    theirs = mido.MidiFile(path)
    assert ours.ticks_per_beat == theirs.ticks_per_beat
    assert [_ours(track) for track in ours.tracks] == [_theirs(track) for track in theirs.tracks]


def corpus() -> list[Path]:
    return sorted(shared("corpus", "clean_midi").rglob("*.mid"))


def _ours(track: Track) -> list[tuple[int, ...]]:
    return [row for row in zip(*(column.tolist() for column in track.columns), strict=True) if row[1] != EXCLUSIVE]


def _theirs(track: mido.MidiTrack) -> list[tuple[int, ...]]:
    tick = 0
    found: list[tuple[int, ...]] = []
    for message in track:
        tick += message.time
        if not message.is_meta and message.type != "sysex":
            status, first, *second = message.bytes()
            found.append((tick, status, first, second[0] if second else 0))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(seed: int) -> None:
    damage = random.Random(seed)
    whole = midi_bytes([meter(3, 4), tempo(97), *notes([60, 64, 67, 72] * 6)], notes([36, 38] * 8, channel=9))
    reasons = {_outcome(_damaged(whole, damage)) for _ in range(250)}
    assert all(reason.startswith("MIDI_") for reason in reasons - {"read"})
    assert len(reasons) > 3


def _damaged(whole: bytes, damage: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(damage.randint(1, 6)):
        data[damage.randrange(len(data))] = damage.randrange(256)
    return bytes(data[: damage.randint(0, len(data))] if damage.random() < 0.3 else data)


def _outcome(data: bytes) -> str:
    try:
        timeline(load_song(data))
    except InvalidRequest as refusal:
        return refusal.reason
    return "read"

"""Readers of MIDI files side by side: how fast they are on a folder of songs, and what each makes of files that differ.

    cd services/rendering && uv run --frozen --group bench python ../../tests/bench/midi_readers.py FOLDER

The first table is CPU seconds of one process for all songs of the folder: reading bytes to events (ours: smf.py, and
mido) and to notes (ours: midi.py, pretty_midi and symusic). The second is what each reader answers to small files whose
right answer is known from the standard: they are made here, byte by byte or by mido.
"""

import argparse
import importlib.metadata
import io
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido
import pretty_midi

from luthier_kit.rpc import InvalidRequest
from luthier_rendering.midi import load_song
from luthier_rendering.smf import MidiLimits, read_smf

try:
    import symusic
except ImportError:
    symusic = None  # in the dependency group `bench` only

warnings.filterwarnings("ignore", "Tempo, Key", RuntimeWarning)  # pretty_midi, of a tempo in a later track


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="MIDI files, at any depth")
    files = [path.read_bytes() for path in sorted(parser.parse_args().folder.rglob("*.mid"))]
    songs = [data for data in files if not ours(data).startswith("refused")]
    refused = len(files) - len(songs)
    print(f"{len(songs)} songs, {sum(map(len, songs)) / 1e6:.1f} MB; ours refuses {refused} further files")
    costs_s = {name: cpu_s(read, songs) for name, read in READERS.items()}
    for name, seconds in costs_s.items():
        print(
            f"{name:34} {1e3 * seconds / len(songs):7.2f} ms a song, {seconds / costs_s[OURS]:5.2f} times ours to notes"
        )
    for case, (data, right) in CASES.items():
        print(f"\n{case}; right is: {right}")
        for name, answer in ANSWERS.items():
            try:
                said = answer(data)
            except Exception as error:  # what readers raise is part of the answer
                said = f"{type(error).__name__}: {str(error)[:60]}"
            print(f"    {name:12} {said}")


def cpu_s(read: Callable[[bytes], object], songs: list[bytes]) -> float:
    """CPU seconds of reading all songs once: the best of three."""
    seconds = []
    for _ in range(3):
        began = time.process_time()
        for data in songs:
            read(data)
        seconds.append(time.process_time() - began)
    return min(seconds)


def version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


OURS = "ours, to notes"
READERS: dict[str, Callable[[bytes], object]] = {
    "ours, to events": lambda data: read_smf(data, MidiLimits()),
    OURS: load_song,
    f"{version('mido')}, to events": lambda data: mido.MidiFile(file=io.BytesIO(data)),
    f"{version('pretty_midi')}, to notes": lambda data: pretty_midi.PrettyMIDI(io.BytesIO(data)),
}


def ours(data: bytes) -> str:
    try:
        song = load_song(data)
    except InvalidRequest as refusal:
        return f"refused: {refusal.reason}"
    starts, ends = song.tempo.to_seconds(song.notes.start_tick), song.tempo.to_seconds(song.notes.end_tick)
    notes = [
        (song.parts[p].instrument.name, round(float(a), 3), round(float(b), 3))
        for p, a, b in zip(song.notes.part, starts, ends, strict=True)
    ]
    steered = {len(events) for events in song.steering.values()}
    return f"{notes} controls {sorted(steered)} faults {sorted(song.faults.elements())}"


def of_mido(data: bytes) -> str:
    file = mido.MidiFile(file=io.BytesIO(data))
    return f"format {file.type}, {sum(map(len, file.tracks))} messages, {file.length:.3f} s (no notes, no state)"


def of_pretty_midi(data: bytes) -> str:
    song = pretty_midi.PrettyMIDI(io.BytesIO(data))
    notes = [
        (who(one.program, one.is_drum), round(float(note.start), 3), round(float(note.end), 3))
        for one in song.instruments
        for note in one.notes
    ]
    controls = sorted({len(one.control_changes) + len(one.pitch_bends) for one in song.instruments})
    return f"{notes} controls {controls}"


def of_symusic(data: bytes) -> str:
    song = symusic.Score.from_midi(data).to("second")
    notes = [
        (who(track.program, track.is_drum), round(note.time, 3), round(note.time + note.duration, 3))
        for track in song.tracks
        for note in track.notes
    ]
    controls = sorted({len(track.controls) + len(track.pitch_bends) for track in song.tracks})
    return f"{notes} controls {controls}"


def who(program: int, is_drum: bool) -> str:
    return "Drums" if is_drum else str(pretty_midi.program_to_instrument_name(program))


ANSWERS: dict[str, Callable[[bytes], str]] = {"ours": ours, "mido": of_mido, "pretty_midi": of_pretty_midi}
if symusic is not None:
    READERS[f"{version('symusic')}, to notes"] = symusic.Score.from_midi
    ANSWERS["symusic"] = of_symusic


def made(*tracks: list[Any], form: int = 1) -> bytes:
    """A file of tracks of messages, their `time` in ticks since the one before; 480 ticks a beat."""
    file = mido.MidiFile(type=form, ticks_per_beat=480)
    file.tracks.extend(mido.MidiTrack(messages) for messages in tracks)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def chunk(events: bytes) -> bytes:
    return b"MTrk" + struct.pack(">I", len(events) + 4) + events + b"\x00\xff\x2f\x00"


M = mido.Message
HEADER = b"MThd" + struct.pack(">IHHH", 6, 1, 1, 480)
NOTE = [M("note_on", note=60, velocity=100), M("note_off", note=60, time=480)]
ON, OFF = b"\x00\x90\x3c\x64", b"\x83\x60\x80\x3c\x00"
CASES: dict[str, tuple[bytes, str]] = {
    "program set in another track of the channel": (
        made([M("program_change", program=8)], NOTE),
        "Celesta from 0 to 0.5",
    ),
    "volume and bend set in another track of the channel": (
        made([M("control_change", control=7, value=30), M("pitchwheel", pitch=4096)], NOTE),
        "a piano steered by 2 events",
    ),
    "overlapping notes of one key": (
        made(
            [
                M("note_on", note=60, velocity=100),
                M("note_on", note=60, velocity=100, time=480),
                M("note_off", note=60, time=240),
                M("note_off", note=60, time=720),
            ]
        ),
        "two notes, the first ends first: 0 to 0.75 and 0.5 to 1.5",
    ),
    "tempo in a later track": (
        made([*NOTE, *NOTE], [mido.MetaMessage("set_tempo", tempo=1_000_000)]),
        "60 BPM: 0 to 1 and 1 to 2",
    ),
    "drum bank on channel 1": (
        made([M("control_change", control=0, value=120), M("program_change", program=0), *NOTE]),
        "Drums",
    ),
    "format 2, independent sequences": (made(NOTE, NOTE, form=2), "not one song"),
    "tempo 0": (HEADER + chunk(b"\x00\xff\x51\x03\x00\x00\x00" + ON + OFF), "malformed"),
    "0 ticks per beat": (HEADER[:-2] + b"\x00\x00" + chunk(ON + OFF), "malformed"),
    "a status of the wire inside a track": (
        HEADER + chunk(b"\x00\xf8" + ON + OFF),
        "one note, and a fault that says so",
    ),
    "a note that never ends": (HEADER + chunk(ON + OFF + ON), "one note, and a fault that says so"),
    "two hours in 40 bytes": (HEADER + chunk(ON + b"\xff\xff\xff\x7f\x80\x3c\x00"), "beyond any bound of a song"),
}

if __name__ == "__main__":
    main()

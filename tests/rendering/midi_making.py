"""MIDI files for tests, made by mido, so that our reader is not tested by our writer."""

import io
import struct
from collections.abc import Sequence

import mido

TICKS = 480  # per beat
BEAT_S = 0.5  # at 120 BPM, the default


def midi_bytes(*tracks: Sequence[mido.Message | mido.MetaMessage], ticks_per_beat: int = TICKS, form: int = 1) -> bytes:
    """A file of tracks whose messages carry absolute ticks in `time`."""
    file = mido.MidiFile(type=form, ticks_per_beat=ticks_per_beat)
    for messages in tracks:
        track, last = mido.MidiTrack(), 0
        for message in sorted(messages, key=lambda one: one.time):
            track.append(message.copy(time=message.time - last))
            last = message.time
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def note(
    pitch: int, beat: float = 0.0, beats: float = 1.0, *, channel: int = 0, velocity: int = 100, ticks: int = TICKS
) -> list[mido.Message]:
    """A note's two messages."""
    start, end = round(beat * ticks), round((beat + beats) * ticks)
    return [
        mido.Message("note_on", note=pitch, velocity=velocity, channel=channel, time=start),
        mido.Message("note_off", note=pitch, velocity=0, channel=channel, time=end),
    ]


def notes(pitches: Sequence[int], *, channel: int = 0, beats: float = 1.0) -> list[mido.Message]:
    """One note after the other."""
    return [message for i, p in enumerate(pitches) for message in note(p, i * beats, beats, channel=channel)]


def program(number: int, beat: float = 0.0, *, channel: int = 0) -> mido.Message:
    return mido.Message("program_change", program=number, channel=channel, time=round(beat * TICKS))


def control(number: int, value: int, beat: float = 0.0, *, channel: int = 0) -> mido.Message:
    return mido.Message("control_change", control=number, value=value, channel=channel, time=round(beat * TICKS))


def bend(value: int, beat: float = 0.0, *, channel: int = 0) -> mido.Message:
    """Pitch wheel from -8192 to 8191."""
    return mido.Message("pitchwheel", pitch=value, channel=channel, time=round(beat * TICKS))


def tempo(bpm: float, beat: float = 0.0) -> mido.MetaMessage:
    return mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm), time=round(beat * TICKS))


def meter(numerator: int, denominator: int, beat: float = 0.0) -> mido.MetaMessage:
    return mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator, time=round(beat * TICKS))


def name(text: str) -> mido.MetaMessage:
    return mido.MetaMessage("track_name", name=text, time=0)


def header(form: int = 1, tracks: int = 1, division: int = TICKS) -> bytes:
    return b"MThd" + struct.pack(">IHHH", 6, form, tracks, division)


def chunk(events: bytes, *, end: bool = True) -> bytes:
    """An MTrk chunk of raw events, with an end-of-track event."""
    body = events + (b"\x00\xff\x2f\x00" if end else b"")
    return b"MTrk" + struct.pack(">I", len(body)) + body


ON, OFF = b"\x00\x90\x3c\x64", b"\x60\x80\x3c\x00"  # a note of 96 ticks

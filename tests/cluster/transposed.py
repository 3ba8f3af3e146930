"""The songbook transposed by some semitones: songs that are not in the store yet."""

from pathlib import Path

import mido

from tests.system import songbook

DRUMS = 9


def transposed(folder: Path, semitones: int, keep: int | None = None) -> None:
    """Writes the songbook, or its first `keep` songs, into a folder, transposed except for drums."""
    for path in sorted(songbook(folder, keep).rglob("*.mid")):
        midi = mido.MidiFile(path)
        for track in midi.tracks:
            for message in track:
                if message.type in ("note_on", "note_off") and message.channel != DRUMS:
                    message.note = min(127, max(0, message.note + semitones))
        midi.save(path)

"""What a MIDI file says, without a sound: the job of a worker process, as a hostile file costs a second of it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from luthier.common.v1.common_pb2 import FACT_SOURCE_NOTES, MODE_MAJOR, MODE_MINOR, KeyFact, Timeline
from luthier.rendering.v1.rendering_pb2 import NoteSignature
from luthier_music.keys import fit_key
from luthier_rendering.fingerprint import fingerprint
from luthier_rendering.midi import Song, load_song
from luthier_rendering.signature import signature
from luthier_rendering.smf import MidiLimits
from luthier_rendering.timeline import timeline

KEY_ESTIMATOR: Final = "profile/krumhansl-temperley-albrecht"  # as analysis calls it


@dataclass(frozen=True)
class SongFacts:
    """`duration_s` is the music's, without its tail; `notes` are those that are heard; `faults` counts what FAULTS in
    midi.py names."""

    fingerprint: str
    duration_s: float
    tracks: int
    notes: int
    timeline: Timeline
    faults: Counter[str]
    format: int
    ticks_per_beat: int


def facts(song: Song) -> SongFacts:
    """The facts of a song. InvalidRequest MIDI_TOO_MANY_BARS beyond the bound."""
    return SongFacts(
        fingerprint(song),
        song.music_end_s,
        song.tracks,
        len(song.notes),
        timeline(song),
        song.faults,
        song.format,
        song.tempo.ticks_per_beat,
    )


@dataclass(frozen=True)
class InspectedFile:
    """What a MIDI file says, and what its near-duplicates are found by. `parts` are those that sound; `key` is None
    where no key of the whole song leads by enough."""

    facts: SongFacts
    parts: int
    key: KeyFact | None
    signature: NoteSignature


def inspect_file(midi: Path, limits: MidiLimits) -> InspectedFile:
    """A MIDI file without a sound. InvalidRequest MIDI_* for one that cannot be rendered."""
    song = load_song(midi.read_bytes(), limits)
    found = facts(song)
    return InspectedFile(found, len(song.parts), key_of(found.timeline), signature(song))


def key_of(song: Timeline) -> KeyFact | None:
    """The key of all the notes of a song, where it leads by the margin of `luthier_music.keys`."""
    weights = np.array([bar.pitch_class_weights for bar in song.bars]).reshape(-1, 12).sum(axis=0)
    fit = fit_key(weights.tolist())
    if fit is None or not fit.sure():
        return None
    mode = MODE_MAJOR if fit.key.mode == "major" else MODE_MINOR
    return KeyFact(
        tonic=fit.key.tonic_name, mode=mode, strength=min(1.0, fit.margin), source=FACT_SOURCE_NOTES,
        estimator=KEY_ESTIMATOR,
    )  # fmt: skip

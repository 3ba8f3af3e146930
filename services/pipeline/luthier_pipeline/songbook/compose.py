"""Composes the songbook: MIDI files, their known truth, the sheet of tags.

The same arguments give the same bytes.
"""

import random
from collections.abc import Sequence
from pathlib import Path

from luthier_pipeline.songbook.midi_file import Track, write_midi
from luthier_pipeline.songbook.parts import CRASH, KICK, Bar, Note, Section, drums, ending, play
from luthier_pipeline.songbook.plan import FORM, SONGS, SongPlan, plans
from luthier_pipeline.songbook.theory import Chord, bars, chord
from luthier_pipeline.songbook.truth import SongTruth, truth_of, write_sheet, write_truth

MAX_SONGS = 1000
DRUM_CHANNEL = 9


def compose(folder: Path, count: int = len(SONGS), seed: int = 0) -> list[SongTruth]:
    """Writes the first `count` songs (1 to 1000). Raises ValueError for a count out of bounds."""
    if not 1 <= count <= MAX_SONGS:
        raise ValueError(f"count must be between 1 and {MAX_SONGS}, got {count}")
    return write_songs(folder, plans(count), seed)


def write_songs(folder: Path, songs: Sequence[SongPlan], seed: int = 0) -> list[SongTruth]:
    """Writes `Artist/Title.mid` for each plan, truth.json and tags.csv into `folder`.

    The seed changes melodies and touch, not the plans.
    """
    truths = []
    for song in songs:
        path = folder / song.artist / f"{song.title}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_midi(path, song, _tracks(song, random.Random(f"{seed}/{song.artist}/{song.title}")))
        truths.append(truth_of(song, path.relative_to(folder)))
    write_truth(folder / "truth.json", truths)
    write_sheet(folder / "tags.csv", songs)
    return truths


def _tracks(song: SongPlan, dice: random.Random) -> list[Track]:
    sections, last = _layout(song)
    channels = (channel for channel in range(16) if channel != DRUM_CHANNEL)
    tracks = []
    for part in song.parts:
        seeds = {letter: dice.random() for letter in sorted(set(FORM))}
        notes: list[Note] = []
        for number, (letter, section) in enumerate(zip(FORM, sections, strict=True)):
            if number in part.where:
                notes += play(part, letter, section, song.key, random.Random(seeds[letter]))
        tracks.append(Track(next(channels), part.program, part.name, part.volume, part.pan, notes + ending(part, last)))
    return [*tracks, Track(DRUM_CHANNEL, 0, "Drums", 100, 64, _drum_track(song, sections, last, dice))]


def _drum_track(song: SongPlan, sections: list[Section], last: Bar, dice: random.Random) -> list[Note]:
    notes = [Note(last.start, 1, pitch, 100) for pitch in (KICK, CRASH)]
    for number, (letter, section) in enumerate(zip(FORM, sections, strict=True)):
        notes += drums(song.drums_a if letter == "A" else song.drums_b, section, opening=number > 0, dice=dice)
    return notes


def _layout(song: SongPlan) -> tuple[list[Section], Bar]:
    """The bars of each section of FORM, and the closing bar on the tonic chord."""
    chords = [bars(song.a if letter == "A" else song.b, song.key) for letter in FORM]
    tonic = chord("I" if song.key.mode == "major" else "i", song.key)
    flat: list[list[Chord]] = [bar for section in chords for bar in section] + [[tonic]]
    beats = song.beats_per_bar
    filled = [Bar(i * beats, beats, bar, flat[i + 1][0]) for i, bar in enumerate(flat[:-1])]
    sections, start = [], 0
    for section in chords:
        sections.append(filled[start : start + len(section)])
        start += len(section)
    return sections, Bar(start * beats, beats, [tonic], tonic)

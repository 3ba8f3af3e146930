"""What is known about a song because we wrote it, and the two files that say so."""

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier_pipeline.songbook.plan import FORM, SongPlan

LICENCE = "Apache-2.0"
SOURCE = "luthier songbook"
SHEET_COLUMNS = ("artist", "title", "tag", "kind", "weight", "source", "licence")


@dataclass(frozen=True)
class TruthInstrument:
    """A GM program (0 to 127) and its GM name; drums are program -1, name "Drums"."""

    program: int
    name: str


@dataclass(frozen=True)
class TruthSection:
    """A section of the form (label A or B), in seconds from the song's start, with the tempo inside it."""

    label: str
    start_s: float
    end_s: float
    tempo_bpm: float


@dataclass(frozen=True)
class SongTruth:
    """`path` is relative to the songbook's folder; `tempo_bpm` is the first section's.

    `tempo_changes` says whether a later section has another tempo; `tonic` is spelled as in theory.TONICS.
    """

    path: str
    artist: str
    title: str
    genre: str
    moods: tuple[str, ...]
    tempo_bpm: float
    tempo_changes: bool
    tonic: str
    mode: str
    beats_per_bar: int
    duration_s: float
    instruments: tuple[TruthInstrument, ...]
    sections: tuple[TruthSection, ...]
    licence: str = LICENCE


def truth_of(song: SongPlan, path: Path) -> SongTruth:
    """The truth of one plan."""
    sections = _sections(song)
    return SongTruth(
        path=path.as_posix(),
        artist=song.artist,
        title=song.title,
        genre=song.genre,
        moods=song.moods,
        tempo_bpm=float(song.tempo_bpm),
        tempo_changes=bool(song.last_tempo_bpm),
        tonic=song.key.tonic,
        mode=song.key.mode,
        beats_per_bar=song.beats_per_bar,
        duration_s=sections[-1].end_s,
        instruments=_instruments(song),
        sections=sections,
    )


def _instruments(song: SongPlan) -> tuple[TruthInstrument, ...]:
    named = {part.program: part.name for part in song.parts}
    return (
        *(TruthInstrument(program, name) for program, name in sorted(named.items())),
        TruthInstrument(-1, "Drums"),
    )


def _sections(song: SongPlan) -> tuple[TruthSection, ...]:
    sections, start = [], 0.0
    for number, letter in enumerate(FORM):
        count = len((song.a if letter == "A" else song.b).split()) + (number == len(FORM) - 1)  # + the closing bar
        tempo = song.section_tempo_bpm(number)
        end = start + count * song.beats_per_bar * 60 / tempo
        sections.append(TruthSection(letter, round(start, 6), round(end, 6), float(tempo)))
        start = end
    return tuple(sections)


def write_truth(path: Path, truths: Iterable[SongTruth]) -> None:
    """truth.json: a list of songs, sorted keys."""
    songs = [asdict(truth) for truth in truths]
    path.write_text(json.dumps(songs, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_truth(path: Path) -> list[SongTruth]:
    """The songs of a truth.json."""
    songs = []
    for row in json.loads(path.read_text(encoding="utf-8")):
        instruments = tuple(TruthInstrument(**each) for each in row.pop("instruments"))
        sections = tuple(TruthSection(**each) for each in row.pop("sections"))
        songs.append(
            SongTruth(**row | {"moods": tuple(row["moods"]), "instruments": instruments, "sections": sections})
        )
    return songs


def write_sheet(path: Path, songs: Iterable[SongPlan]) -> None:
    """tags.csv, the sheet that enrichment's file provider reads: one row per tag."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SHEET_COLUMNS)
        for song in songs:
            rows = [
                ("genre", song.genre, 100),
                *(("mood", m, 80) for m in song.moods),
                *(("", t, 50) for t in song.tags),
            ]
            writer.writerows(
                (song.artist, song.title, tag, kind, weight, SOURCE, LICENCE) for kind, tag, weight in rows
            )

"""Clips of rendered music of which the instruments and genres are known, for `tests/bench/tagger_accuracy.py`.

    services/rendering/.venv/bin/python tests/bench/tagger_clips.py OUT SONGBOOK [FOLDER ...] [--soundfont FILE]

SONGBOOK is what `python -m luthier_pipeline.songbook` wrote. Each song of it, and of the further folders of MIDI files,
is rendered with its stems by the product's code: OUT gets clips of 10 s of stems in which that instrument plays, and of
mixes. Besides, lines of the songbook are played by every General MIDI program of their register, each alone: a corpus
has few flutes. OUT/clips.json says of each clip its song, which programs (-1 = drums) sound in it, which sound for less
than two seconds, so that nothing follows from them, and the genre that the songbook states.
"""

import argparse
import csv
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import mido
import numpy as np

from luthier.common.v1.common_pb2 import InstrumentActivity
from luthier_kit.rpc import LuthierError
from luthier_music.audio import peak, read_audio, write_audio
from luthier_music.instruments import DRUM_PROGRAM
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.render import RenderParameters, render_file
from luthier_rendering.smf import MidiLimits

CLIP_S: Final = 10.0
SOUNDING_S: Final = 2.0  # in a mix, less of an instrument proves neither that it is heard nor that it is not
PLAYING: Final = 0.8  # of a stem's clip
SILENT_BELOW: Final = 10 ** (-60 / 20)  # of full scale
CLIPS_OF_STEM, CLIPS_OF_MIX = 2, 3
PROGRAMS: Final = range(112)  # percussive ones and sound effects play no lines
BASSES: Final = (*range(32, 40), 43, 58, 67, 70)  # programs of low register, which play the songs' bass lines
LINES: Final = 2  # that each program plays
DRUM_CHANNEL: Final = 9


@dataclass(frozen=True)
class Clip:
    """A file of OUT. `kind`: stem, mix or line. `genre`: empty = unknown; `tags`: what else the songbook says of it."""

    file: str
    song: str
    kind: str
    programs: list[int]
    unsure: list[int]
    genre: str
    tags: list[str]


def program_of(who: InstrumentActivity) -> int:
    return DRUM_PROGRAM if who.is_drum else int(who.program)


def sounding_s(who: InstrumentActivity, start_s: float) -> float:
    """How long an instrument sounds in the clip from `start_s` on."""
    return sum(max(0.0, min(span.end_s, start_s + CLIP_S) - max(span.start_s, start_s)) for span in who.spans)


def starts_of(length_s: float) -> list[float]:
    """Where clips of a song may begin."""
    return np.arange(0.0, length_s - CLIP_S, CLIP_S / 2).tolist()


def spread(found: Sequence[float], most: int) -> list[float]:
    """At most so many, from all over the song, and none that overlap."""
    alone: list[float] = []
    for start in found:
        if not alone or start >= alone[-1] + CLIP_S:
            alone.append(start)
    return [alone[i] for i in sorted({round(x) for x in np.linspace(0, len(alone) - 1, most)})] if alone else []


def song_clips(out: Path, config: BackendConfig, song: tuple[Path, str, list[str]]) -> list[Clip]:
    """Clips of the stems and of the mix of a MIDI file, of this genre and with these tags."""
    midi, genre, tags = song
    name = hashlib.sha256(midi.read_bytes()).hexdigest()[:12]
    with tempfile.TemporaryDirectory(dir=out) as folder:
        try:
            done = render_file(midi, MidiLimits(), config, RenderParameters("soundfont", seed=1), Path(folder))
        except LuthierError as error:
            print(f"{midi.name}: {error}", flush=True)
            return []
        heard = [(done.activities[stem.part], stem.file) for stem in done.result.stems if stem.loudness_lufs]
        clips, starts = [], starts_of(done.facts.duration_s)
        for who, file in heard:
            playing = [start for start in starts if sounding_s(who, start) >= PLAYING * CLIP_S]
            for start in spread(playing, CLIPS_OF_STEM):
                assert file
                clip = Clip(f"{name}-{len(clips)}.flac", name, "stem", [program_of(who)], [], genre, tags)
                clips += cut(file, start, out, clip)
        for start in spread(starts, CLIPS_OF_MIX):
            lengths = {program_of(who): 0.0 for who, _ in heard}
            for who, _ in heard:
                lengths[program_of(who)] += sounding_s(who, start)
            sure = sorted(program for program, length in lengths.items() if length >= SOUNDING_S)
            unsure = sorted(program for program, length in lengths.items() if 0 < length < SOUNDING_S)
            clip = Clip(f"{name}-{len(clips)}.flac", name, "mix", sure, unsure, genre, tags)
            clips += cut(done.result.mix, start, out, clip)
    return clips


def cut(file: Path, start_s: float, out: Path, clip: Clip) -> list[Clip]:
    """The clip, written; nothing where it is silent: a note may sound on paper long after it has died away."""
    samples, rate = read_audio(file, start_s=start_s, duration_s=CLIP_S)
    if peak(samples) < SILENT_BELOW:
        return []
    write_audio(out / clip.file, samples, rate)
    return [clip]


def lines_of(songbook: Path) -> Iterator[tuple[str, mido.MidiFile, int]]:
    """The melodic tracks of the songbook: digest of the song, file, number of the track."""
    for path in sorted(songbook.rglob("*.mid")):
        file = mido.MidiFile(path)
        for number, track in enumerate(file.tracks):
            channels = {message.channel for message in track if message.type == "note_on"}
            if channels and DRUM_CHANNEL not in channels:
                yield hashlib.sha256(path.read_bytes()).hexdigest()[:12], file, number


def is_bass(file: mido.MidiFile, number: int) -> bool:
    return any(message.type == "program_change" and 32 <= message.program < 40 for message in file.tracks[number])


def line_clip(out: Path, config: BackendConfig, line: tuple[int, str, mido.MidiFile, int]) -> list[Clip]:
    """A track of a song, played by another program alone."""
    program, song, file, number = line
    alone = mido.MidiFile(type=1, ticks_per_beat=file.ticks_per_beat)
    for index, track in enumerate(file.tracks):
        kept = mido.MidiTrack(m.copy(program=program) if m.type == "program_change" else m for m in track)
        if index == number or not any(m.type == "note_on" for m in track):
            alone.tracks.append(kept)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        midi = Path(folder) / "line.mid"
        alone.save(midi)
        done = render_file(
            midi, MidiLimits(), config, RenderParameters("soundfont", seed=1, mix_only=True), Path(folder)
        )
        who = done.activities[0]
        playing = [s for s in starts_of(done.facts.duration_s) if sounding_s(who, s) >= PLAYING * CLIP_S]
        clip = Clip(f"line-{program}-{song}-{number}.flac", song, "line", [program], [], "", [])
        return cut(done.result.mix, playing[0], out, clip) if playing else []


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("songbook", type=Path)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--soundfont", default="", help="an .sf2 or .sf3; default: TimGM6mb, as the product's")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    config = BackendConfig(soundfont=options.soundfont)
    stated = json.loads((options.songbook / "truth.json").read_text(encoding="utf-8"))
    with (options.songbook / "tags.csv").open(encoding="utf-8", newline="") as sheet:
        tags = [(row["artist"], row["title"], row["tag"]) for row in csv.DictReader(sheet)]
    songs = [
        (
            options.songbook / song["path"],
            song["genre"],
            [tag for artist, title, tag in tags if (artist, title) == (song["artist"], song["title"])],
        )
        for song in stated
    ]
    songs += [(path, "", []) for folder in options.folders for path in sorted(folder.rglob("*.mid"))]
    lines = list(lines_of(options.songbook))
    played = []
    for program in PROGRAMS:
        fitting = [line for line in lines if is_bass(*line[1:]) == (program in BASSES)]
        chosen = np.random.default_rng(program).choice(len(fitting), LINES, replace=False)
        played += [(program, *fitting[index]) for index in chosen]
    clips: list[Clip] = []
    with ProcessPoolExecutor(2) as pool:
        for done, found in enumerate(pool.map(partial(song_clips, options.out, config), songs), start=1):
            clips += found
            print(f"song {done} of {len(songs)}, {len(clips)} clips", flush=True)
        for found in pool.map(partial(line_clip, options.out, config), played):
            clips += found
    document = {"soundfont": Path(options.soundfont).name or "TimGM6mb.sf2", "clips": [asdict(clip) for clip in clips]}
    (options.out / "clips.json").write_text(json.dumps(document, indent=0), encoding="utf-8")
    print(f"{len(clips)} clips of {len({clip.song for clip in clips})} songs")


if __name__ == "__main__":
    main()

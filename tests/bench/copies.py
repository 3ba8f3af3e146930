"""How many training clips are found in outputs that hold them, how many outputs without one are flagged, and the cost.

    services/rendering/.venv/bin/python tests/bench/copies.py OUT FOLDER [FOLDER ...] [--clips 10000] [--swapped]

Each FOLDER (MIDI files that are different songs) is rendered into OUT by `truth_songs.py`; what is there is kept. One
half of the songs is trained on, the other half is the music that holds no training clip and lies over the copies in
mixes; with --swapped the halves change places. The songbook's further songs are variations of its twelve plans, so it
is halved by plan (its artist). Of each song two clips of 30 s are copied in each kind: pitched by 0.5 to 1.5 semitones,
up or down, and stretched by 1.5 to 4 % by Rubber Band (pedalboard), 6 dB (RMS) below another half's clip, a random 5 s,
and together; up to four more clips are copied 6 dB below clips of four other songs. The other half's clips go the same
ways; one that is flagged is a false alarm. The index is filled up to --clips with the trained clips' landmarks moved by
3 to 11 semitones and 10 to 30 % of time, far beyond what is searched. CPU seconds of one thread.

Songs are also halved by a hash of what they are variations of: a threshold is taken from the outputs of one half, the
score that 1 % of those without a clip reach in the folder where that is highest, and rates are of the other half.
"""

import argparse
import hashlib
import platform
import resource
import statistics
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Final

import numpy as np
import pedalboard
import soundfile

sys.path.append(str(Path(__file__).parents[2] / "services" / "evaluation"))  # of which only this package is needed
sys.path.append(str(Path(__file__).parent))

from truth_songs import made

from luthier_evaluation.copies import COPY_SCORE, Copy, Heard, Index, Landmarks, heard, landmarks_of, search
from luthier_evaluation.copies.landmarks import BINS, BINS_PER_SEMITONE, Floats
from luthier_music.audio_rate import mean_of_channels

RATE_HZ: Final = 44_100
CLIP_S: Final = 30
SHORTEST_S: Final = 15  # a song's last clip
CUT_S: Final = 5
LONG_S: Final = 190
MIX: Final = 10 ** (-6 / 20)
FALSE_ALARMS: Final = 0.01


@dataclass(frozen=True)
class Song:
    """A rendered song: its mix, and of what it is a variation."""

    mix: Path
    family: str
    folder: str

    @property
    def has_clips(self) -> bool:
        return bool(soundfile.info(self.mix).duration >= SHORTEST_S)

    @property
    def is_reported(self) -> bool:
        """Of the half that the tables are of; the threshold is of the other."""
        return hashlib.sha256(f"reported {self.family}".encode()).digest()[0] % 2 == 1


@dataclass(frozen=True)
class Kind:
    """What is done to a clip before it is an output."""

    name: str
    pitched: bool = False
    stretched: bool = False
    mixed: bool = False
    cut: bool = False


KINDS: Final = (
    Kind("as it is"),
    Kind("pitched", pitched=True),
    Kind("stretched", stretched=True),
    Kind("at -6 dB in a mix", mixed=True),
    Kind("cut to 5 s", cut=True),
    Kind("pitched, stretched", pitched=True, stretched=True),
    Kind("pitched, stretched, cut to 5 s", pitched=True, stretched=True, cut=True),
    Kind("pitched, in a mix", pitched=True, mixed=True),
    Kind("stretched, in a mix", stretched=True, mixed=True),
    Kind("pitched, stretched, in a mix", pitched=True, stretched=True, mixed=True),
    Kind("in a mix, cut to 5 s", mixed=True, cut=True),
)
MORE: Final = Kind("at -6 dB in a mix, more clips", mixed=True)
MORE_CLIPS: Final = 4  # of a song
ALONE: Final = 5  # of them are one manipulation at most


@dataclass(frozen=True)
class Material:
    """Landmarks of a song's clips, and the outputs that are made of them, by kind."""

    clips: list[Landmarks]
    outputs: list[tuple[str, Heard]]


@lru_cache(maxsize=8)
def clips_of(song: Song) -> list[Floats]:
    samples = mean_of_channels(soundfile.read(song.mix, dtype="float32", always_2d=True)[0])
    cut = [samples[at : at + CLIP_S * RATE_HZ] for at in range(0, len(samples), CLIP_S * RATE_HZ)]
    return [clip for clip in cut if len(clip) >= SHORTEST_S * RATE_HZ]


def changed(clip: Floats, path: Path, stretch: float, semitones: float) -> Floats:
    """By Rubber Band; kept as a file, since it takes as long as all the rest."""
    if not path.exists():
        done = pedalboard.time_stretch(clip[None], float(RATE_HZ), stretch, semitones)[0]
        soundfile.write(path.with_suffix(".part"), done, RATE_HZ, format="FLAC", subtype="PCM_16")
        path.with_suffix(".part").replace(path)
    samples: Floats = soundfile.read(path, dtype="float32")[0]
    return samples


def material(song: Song, trained: bool, others: list[Song]) -> Material:
    """`others`: the songs that lie over the copies in mixes, the first over the two clips of each kind. Outputs that no
    table is made of are left out."""
    clips = clips_of(song)
    chance = np.random.default_rng(int(song.mix.stem[:8], 16))
    told = KINDS if song.is_reported else () if trained else KINDS[:ALONE]
    outputs = []
    two = sorted({0, len(clips) // 2}) if clips else []
    for number in two:
        clip = clips[number]
        semitones = float(chance.choice([-1, 1]) * chance.uniform(0.5, 1.5))
        stretch = float(1 + chance.choice([-1, 1]) * chance.uniform(0.015, 0.04))
        start = chance.uniform(0, 0.8)
        ways: dict[tuple[bool, bool], Floats] = {(False, False): clip}
        for name, way in (("pitch", (True, False)), ("stretch", (False, True)), ("both", (True, True))):
            path = song.mix.with_name(f"{song.mix.stem}-{number}-{name}.flac")
            ways[way] = changed(clip, path, stretch if way[1] else 1.0, semitones if way[0] else 0.0)
        for kind in told:
            output = ways[kind.pitched, kind.stretched]
            if kind.mixed:
                output = mixed(output, others[0], number)
            if kind.cut:
                at = int(start * (len(output) - CUT_S * RATE_HZ))
                output = output[at : at + CUT_S * RATE_HZ]
            outputs.append((kind.name, heard(output, RATE_HZ)))
    more = [number for number in range(len(clips)) if number not in two and song.is_reported]
    chosen = sorted(chance.permutation(more)[:MORE_CLIPS].tolist())
    for number, other in zip(chosen, others[1:], strict=False):
        outputs.append((MORE.name, heard(mixed(clips[number], other, number), RATE_HZ)))
    return Material([landmarks_of(clip, RATE_HZ) for clip in clips], outputs)


def mixed(copy: Floats, other: Song, number: int) -> Floats:
    """The copy 6 dB below a clip of another song."""
    clips = clips_of(other)
    over = clips[number % len(clips)]
    frames = min(len(copy), len(over))
    gain = MIX * rms(over) / max(rms(copy), 1e-9)
    return copy[:frames] * np.float32(gain) + over[:frames]


def rms(samples: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def moved(clip: Landmarks, chance: np.random.Generator) -> Landmarks:
    """Another clip to search among: a trained one in another key and at another tempo."""
    semitones = chance.choice([-1, 1]) * chance.integers(3, 12)
    stretch = float(chance.uniform(1.1, 1.3) ** chance.choice([-1, 1]))
    bins = clip.bins + np.float32(semitones * BINS_PER_SEMITONE)
    kept = (bins > 1) & (bins < BINS - 2)
    frames = np.floor(clip.frames[kept] * stretch).astype(np.uint16)
    return Landmarks(frames, bins[kept], clip.ranks[kept], clip.levels[kept], clip.duration_s * stretch)


def songs_of(folder: Path, out: Path, most: int) -> list[Song]:
    out.mkdir(parents=True, exist_ok=True)
    files = {hashlib.sha256(path.read_bytes()).hexdigest()[:16]: path for path in sorted(folder.rglob("*.mid"))}
    files = dict(sorted(files.items())[:most])
    with ProcessPoolExecutor() as pool:
        list(pool.map(made, files.values(), repeat(out)))
    by_plan = (folder / "truth.json").exists()
    songs = [
        Song(out / f"{name}.flac", path.parent.name if by_plan else name, folder.name) for name, path in files.items()
    ]
    return [song for song in songs if song.mix.exists()]


def best(found: list[Copy], clips: set[int] | None = None) -> float:
    return max((one.score for one in found if clips is None or one.clip in clips), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--songs", type=int, default=1000, help="of a folder, at most")
    parser.add_argument("--swapped", action="store_true", help="train the half that is else the other music")
    options = parser.parse_args()

    songs, others, trained = list[Song](), list[list[Song]](), list[bool]()
    for folder in options.folders:
        of_folder = songs_of(folder, options.out, options.songs)
        families = sorted({song.family for song in of_folder})
        is_trained = [families.index(song.family) % 2 == options.swapped for song in of_folder]
        untrained = [song for song, known in zip(of_folder, is_trained, strict=True) if not known and song.has_clips]
        for number, song in enumerate(of_folder):
            over = [one for one in untrained if one.family != song.family]
            others.append([over[(number + step) % len(over)] for step in range(1 + MORE_CLIPS)])
        songs, trained = songs + of_folder, trained + is_trained
    with ProcessPoolExecutor() as pool:
        materials = list(pool.map(material, songs, trained, others))

    clips, clips_of_family = list[Landmarks](), defaultdict[str, set[int]](set)
    for song, known, made_of in zip(songs, trained, materials, strict=True):
        if known:
            clips_of_family[song.family] |= set(range(len(clips), len(clips) + len(made_of.clips)))
            clips += made_of.clips
    real, chance = len(clips), np.random.default_rng(0)
    while len(clips) < options.clips:
        clips.append(moved(clips[chance.integers(real)], chance))
    began = time.process_time()
    index = Index.of(clips)
    indexed_s = time.process_time() - began

    scores: defaultdict[tuple[str, str, bool, bool], list[float]] = defaultdict(list)
    cost_ms: defaultdict[str, list[float]] = defaultdict(list)
    for song, known, made_of in zip(songs, trained, materials, strict=True):
        for kind, output in made_of.outputs:
            began = time.process_time()
            found = search(index, output)
            cost_ms[kind].append(1000 * (time.process_time() - began))
            of_song = clips_of_family[song.family] if known else None
            scores[song.folder, kind, known, song.is_reported].append(best(found, of_song))

    hours = sum(clip.duration_s for clip in clips) / 3600
    stored_kb = statistics.median(len(clip.to_bytes()) for clip in clips[:real]) / 1000
    print(
        f"index: {len(clips)} clips, {hours:.0f} h, {real} of them rendered; {index.size_bytes / 1e6:.0f} MB,"
        f" {indexed_s:.0f} CPU s; {stored_kb:.1f} kB stored a clip;"
        f" peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB; {platform.machine()}\n"
    )
    own = 0.0
    for folder in options.folders:
        alone = [score for kind in KINDS[:ALONE] for score in scores[folder.name, kind.name, False, False]]
        own = max(own, float(np.quantile(alone, 1 - FALSE_ALARMS, method="higher")))
        print(f"{folder.name}, the other half: 1 % of {len(alone)} outputs without a clip reach {own:.3f} or less")
    for folder in options.folders:
        alone = [score for kind in KINDS[:ALONE] for score in scores[folder.name, kind.name, False, True]]
        print(
            f"\n{folder.name}: of {len(alone)} outputs without a clip {np.mean(np.array(alone) >= COPY_SCORE):.1%}"
            f" reach COPY_SCORE {COPY_SCORE}, {np.mean(np.array(alone) > own):.1%} exceed the other half's {own:.3f}\n"
        )
        print(
            "| output | copies | caught | outputs without | false alarms | highest | caught by the other half's | ms |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for kind in (*KINDS, MORE):
            copies, without = (np.array(scores[folder.name, kind.name, known, True]) for known in (True, False))
            if not (copies.size and without.size):  # few songs have more than two clips
                continue
            print(
                f"| {kind.name} | {len(copies)} | {np.mean(copies >= COPY_SCORE):.1%} | {len(without)} "
                f"| {np.mean(without >= COPY_SCORE):.1%} | {without.max():.2f} | {np.mean(copies > own):.1%} "
                f"| {statistics.median(cost_ms[kind.name]):.0f} |"
            )
        print()

    audio = np.concatenate([clip for song in songs[: LONG_S // CLIP_S + 1] for clip in clips_of(song)[:1]])
    for seconds in (CUT_S, CLIP_S, 47, LONG_S):
        output = np.stack([audio[: seconds * RATE_HZ]] * 2, axis=1)
        costs = []
        for _ in range(5):
            began = time.process_time()
            listened_to = heard(output, RATE_HZ)
            listened = time.process_time()
            search(index, listened_to)
            costs.append((1000 * (listened - began), 1000 * (time.process_time() - listened)))
        listening, searching = np.median(costs, axis=0)
        duration_s = len(output) / RATE_HZ
        print(f"a stereo output of {duration_s:.0f} s: search {searching:.0f} ms, landmarks {listening:.0f} ms")


if __name__ == "__main__":
    main()

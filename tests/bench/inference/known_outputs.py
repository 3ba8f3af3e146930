"""How many excerpts of logged outputs are known again, how many others are taken for one, and what it costs.

    OMP_NUM_THREADS=1 uv run --project services/inference --frozen --with av==18.1.0 --with pyacoustid==1.3.1 \
      python -m tests.bench.inference.known_outputs OUT FOLDER [FOLDER ...] [--part shown] [--pieces N]

OUT has the mixes of the MIDI files in each FOLDER, as `make bench-copies COPIES=OUT` leaves them. Songs are cut to
pieces of 47.6 s, as outputs are. One half of the songs is logged, then the other, by families where a folder states
them (`truth.json`: the songbook, whose songs are variations of a plan). Of logged pieces an excerpt of 10 s at a random
place is looked for: as it is, through each codec at 128 kbit/s, at other rates, and 6 dB (RMS) below an excerpt of the
other half. Of the other half --others excerpts a piece are false alarms when they are told, as they are and mixed with
each other; these are cut of the mean of the channels at the fingerprint's rate, as a search begins with it.
"Known" is an output of the excerpt's own song: songs repeat themselves. --part takes songs of some authors alone: those
that the constants of the search were chosen on, or those that they were not.

With --chromaprint beside it (libchromaprint 1.5.1 by pyacoustid), with the most that can be done with its
fingerprint: each excerpt is laid on every place of every piece, and counts as known where fewer bits differ than
anywhere of any excerpt of the other half.
"""

import argparse
import dataclasses
import hashlib
import math
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Final

import chromaprint
import numpy as np
import soundfile
from numpy.typing import NDArray

from luthier_inference.known_outputs import index as search
from luthier_inference.known_outputs.fingerprint import RATE_HZ as LOG_RATE_HZ
from luthier_inference.known_outputs.fingerprint import fingerprint_of, mono_of
from luthier_inference.known_outputs.index import KNOWN_SCORE, Index
from luthier_music.audio_rate import resampled
from tests.bench.inference.lossy import CODECS, RATE_HZ, Floats, through_codec

PIECE_S: Final = 47.6
SHORTEST_S: Final = 20.0  # a song's last piece
EXCERPT_S: Final = 10.0
SILENT: Final = 1e-3
CHROMA_RATE_HZ: Final = 11_025
CHOSEN_ON: Final = (
    "Discoholic", "Goji", "Jeremy Vandalorian Emerson", "Julian Julian Hope Aubourg", "Lola BlueWorrior Harvey",
    "Mark TheMisterCat McGill-Smith", "Matzu", "Ralph Ralphis Vickers", "Tyler Picklehammer P.", "continuum",
    "rostuhan", "Corner Store Symphony", "Eight Bit Bakery", "Island Post", "Pale Meridian", "The Blue Lantern Trio",
    "Velvet Circuit",
)  # fmt: skip
"""How the folders of authors begin whose songs the constants of the search were chosen on."""


@dataclass(frozen=True)
class Piece:
    """A part of a rendered song that begins at `first` samples."""

    song: Path
    family: str
    first: int
    logged: bool

    @property
    def name(self) -> str:
        return f"{self.song.stem}-{self.first}"

    @property
    def frames(self) -> int:
        return min(int(PIECE_S * RATE_HZ), soundfile.info(self.song).frames - self.first)

    def read(self, first: int = 0, frames: int = -1) -> Floats:
        """Samples from `first` on, to the end of the piece or so many."""
        count = self.frames - first if frames < 0 else frames
        samples: Floats = soundfile.read(self.song, count, self.first + first, dtype="float32", always_2d=True)[0]
        return samples


def pieces_of(folder: Path, out: Path, part: str = "all") -> list[Piece]:
    """Of the songs of a part; every other song or family is `logged`."""
    by_plan = (folder / "truth.json").exists()
    songs = {
        hashlib.sha256(path.read_bytes()).hexdigest()[:16]: path
        for path in sorted(folder.rglob("*.mid"))
        if part == "all" or path.parent.name.startswith(CHOSEN_ON) == (part == "chosen")
    }
    families = sorted({path.parent.name if by_plan else name for name, path in songs.items()})
    pieces = []
    for name, path in sorted(songs.items()):
        mix = out / f"{name}.flac"
        if not mix.exists():
            continue
        family, frames = path.parent.name if by_plan else name, soundfile.info(mix).frames
        size = int(PIECE_S * RATE_HZ)
        pieces += [
            Piece(mix, family, first, families.index(family) % 2 == 0)
            for first in range(0, frames, size)
            if min(frames - first, size) >= SHORTEST_S * RATE_HZ
        ]
    return pieces


def rms(samples: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def excerpt(piece: Piece, chance: np.random.Generator) -> tuple[Floats, float] | None:
    """Of a random place, and where, seconds; None where the piece is silent there."""
    size = int(EXCERPT_S * RATE_HZ)
    first = int(chance.integers(0, piece.frames - size))
    part = piece.read(first, size)
    return (part, first / RATE_HZ) if rms(part) > SILENT else None


def mixed(samples: Floats, over: Floats) -> Floats:
    mix = samples * np.float32(10 ** (-6 / 20) * rms(over) / rms(samples)) + over
    return (mix * min(1.0, 0.99 / float(np.abs(mix).max()))).astype(np.float32)


def chroma_of(samples: Floats, rate_hz: int) -> NDArray[np.uint32]:
    mono = resampled(samples.mean(axis=1), rate_hz, CHROMA_RATE_HZ)
    printer = chromaprint.Fingerprinter()
    printer.start(CHROMA_RATE_HZ, 1)
    printer.feed((mono.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return np.array(chromaprint.decode_fingerprint(printer.finish())[0], np.int64).astype(np.uint32)


@dataclass(frozen=True)
class Shared:
    """What every process has: the log, chromaprint's where it is asked for, and by its number each piece that is not
    logged as a search hears it, (frames, 1) at LOG_RATE_HZ."""

    index: Index
    chroma: NDArray[np.uint32]
    of: NDArray[np.int64]  # the piece of each word
    pieces: list[Piece]
    heard: dict[int, Floats]


_shared: list[Shared] = []


def prepare(pieces: list[Piece], chroma: bool) -> None:
    """What the processes that are forked after it share."""
    search.KNOWN_SCORE = 0.0  # type: ignore[misc]  # so that scores below it are seen, too
    index, words, of = Index(1 << 30), [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)]
    heard: dict[int, Floats] = {}
    for number, piece in enumerate(pieces):
        sound = piece.read()
        if not piece.logged:
            heard[number] = mono_of(sound, RATE_HZ)[:, None]
        elif fingerprint := fingerprint_of(sound, RATE_HZ):
            index.add(str(number), fingerprint)
            if chroma:
                words.append(chroma_of(sound, RATE_HZ))
                of.append(np.full(len(words[-1]), number))
    _shared[:] = [Shared(index, np.concatenate(words), np.concatenate(of), pieces, heard)]


@dataclass(frozen=True)
class Answer:
    """Of one excerpt: what was done to it, whether it is of a logged song, the best score of its own song and of any,
    how far from its true place, seconds; and chromaprint's share of bits that differ, where it is least, and whether
    that is its own song. Milliseconds of CPU of the search."""

    way: str
    logged: bool
    own: float
    best: float
    off_s: float
    chroma: float
    chroma_own: bool
    cpu_ms: float


def ask(way: str, samples: Floats, rate_hz: int, number: int, at_s: float, *, chroma: bool = True) -> Answer:
    shared = _shared[0]
    piece = shared.pieces[number]
    began = time.process_time()
    found = shared.index.search(samples, rate_hz)
    cpu_ms = 1000 * (time.process_time() - began)
    own = [one for one in found if shared.pieces[int(one.output)].song == piece.song]
    same = [abs(one.output_at_s - one.at_s - at_s) for one in found if int(one.output) == number]
    apart, is_own = 1.0, False
    if chroma and len(shared.chroma):
        words = chroma_of(samples, rate_hz)
        places = len(shared.chroma) - len(words) + 1
        differ = np.zeros(places, np.int32)
        for at, word in enumerate(words):
            differ += np.bitwise_count(shared.chroma[at : at + places] ^ word)
        least = int(np.argmin(differ))
        apart, is_own = (
            float(differ[least]) / (32 * len(words)),
            shared.pieces[int(shared.of[least])].song == piece.song,
        )
    return Answer(
        way, piece.logged, max((one.score for one in own), default=0.0), max((one.score for one in found), default=0.0),
        min(same, default=np.inf), apart, is_own, cpu_ms,
    )  # fmt: skip


def treated(part: Floats, over: Floats) -> dict[str, tuple[Floats, int]]:
    """What may have been done to a part of an output, with the rate of each."""
    mix = mixed(part, over)
    ways = {"as it is": (part, RATE_HZ), "-14 dB": (part * np.float32(0.2), RATE_HZ)}
    ways |= {f"{name}, 128 kbit/s": (through_codec(part, name), RATE_HZ) for name in CODECS}
    ways["44.1 to 48 kHz and back"] = resampled(resampled(part, RATE_HZ, 48_000), 48_000, RATE_HZ), RATE_HZ
    ways["22.05 kHz"] = resampled(part, RATE_HZ, 22_050), 22_050
    return ways | {"6 dB below other music": (mix, RATE_HZ), "the same, MP3": (through_codec(mix, "MP3"), RATE_HZ)}


def known(number: int, seed: int) -> list[Answer]:
    """A logged piece's excerpt in every way."""
    pieces = _shared[0].pieces
    piece, chance = pieces[number], np.random.default_rng([number, seed, 1])
    others = [one for one in pieces if not one.logged and one.family != piece.family]
    taken, over = excerpt(piece, chance), None
    while over is None:
        over = excerpt(others[int(chance.integers(len(others)))], chance)
    if taken is None:
        return []
    ways = treated(taken[0], over[0])
    return [ask(way, samples, rate_hz, number, taken[1]) for way, (samples, rate_hz) in ways.items()]


def unknown(number: int, count: int, seed: int) -> list[Answer]:
    """Excerpts of a piece that is not logged, alone and below another."""
    pieces = _shared[0].pieces
    chance, answers = np.random.default_rng([number, seed]), list[Answer]()
    others = [at for at, one in enumerate(pieces) if not one.logged]

    def part(of: int) -> Floats | None:
        samples, size = _shared[0].heard[of], int(EXCERPT_S * LOG_RATE_HZ)
        first = int(chance.integers(0, len(samples) - size))
        return samples[first : first + size] if rms(samples[first : first + size]) > SILENT else None

    for each in range(count):
        taken, over = part(number), part(others[int(chance.integers(len(others)))])
        if taken is not None and over is not None:
            answers.append(ask("alone", taken, LOG_RATE_HZ, number, 0.0, chroma=each == 0))
            answers.append(ask("mixed", mixed(taken, over), LOG_RATE_HZ, number, 0.0, chroma=each == 0))
    return answers


def highest_rate(alarms: int, tries: int) -> float:
    """Upper end of the one-sided 95 % interval of a rate (Clopper and Pearson 1934)."""

    def as_few(rate: float) -> float:
        terms = [math.lgamma(tries + 1) - math.lgamma(k + 1) - math.lgamma(tries - k + 1) + k * math.log(rate)
                 + (tries - k) * math.log1p(-rate) for k in range(alarms + 1)]  # fmt: skip
        return math.fsum(math.exp(each) for each in terms)

    low, high = 1e-9, 1 - 1e-9
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if as_few(middle) > 0.05 else (low, middle)
    return high


def both_halves(pieces: list[Piece]) -> list[list[Piece]]:
    """The pieces with one half logged, and with the other."""
    return [pieces, [dataclasses.replace(each, logged=not each.logged) for each in pieces]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--part", choices=("all", "chosen", "shown"), default="all")
    parser.add_argument("--pieces", type=int, default=0, help="of each half that are looked for; 0 = all")
    parser.add_argument("--chromaprint", action="store_true")
    parser.add_argument("--others", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1, help="of places and mixes")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    every = [piece for folder in options.folders for piece in pieces_of(folder, options.out, options.part)]
    answers, others = list[Answer](), list[Answer]()
    for pieces in both_halves(every):
        prepare(pieces, options.chromaprint)
        logged, rest = ([at for at, one in enumerate(pieces) if one.logged is half] for half in (True, False))
        print(f"{len(logged)} pieces of {PIECE_S:g} s logged; {os.cpu_count()} cores, {platform.machine()}")
        looked_for = logged[:: max(1, len(logged) // options.pieces)] if options.pieces else logged
        with ProcessPoolExecutor(options.jobs) as pool:
            for done, some in enumerate(pool.map(unknown, rest, repeat(options.others), repeat(options.seed)), 1):
                others += some
                if done % 20 == 0 or done == len(rest):
                    scores = [one.best for one in others]
                    count = sum(score >= KNOWN_SCORE for score in scores)
                    print(f"{count} of {len(scores)} others told so far, highest {max(scores):.2f}", flush=True)
            answers += [each for some in pool.map(known, looked_for, repeat(options.seed)) for each in some]
    sound, costs = every[0].read(), list[float]()
    for _ in range(7):
        began = time.process_time()
        made = fingerprint_of(sound, RATE_HZ)
        costs.append(1000 * (time.process_time() - began))
    assert made is not None
    print(f"fingerprint: {statistics.median(costs):.0f} ms of CPU, {len(made.to_bytes())} bytes;"
          f" search of 10 s: {statistics.median(one.cpu_ms for one in others):.0f} ms")  # fmt: skip
    false = sum(one.best >= KNOWN_SCORE for one in others)
    highest = max(one.best for one in others)
    songs = len({piece.song for piece in every})
    bound = highest_rate(false, len(others))
    print(f"false alarms: {false} of {len(others)} (at most {bound:.1e}, 95 %), of {songs} songs;"
          f" highest score {highest:.2f}, told from {KNOWN_SCORE:g} on")  # fmt: skip
    least = min(one.chroma for one in others)
    by_way = defaultdict[str, list[Answer]](list)
    for one in answers:
        by_way[one.way].append(one)
    print(
        "\n| excerpt of 10 s | known | lowest score | within 50 ms of its place | chromaprint |\n|---|---|---|---|---|"
    )
    for way, some in by_way.items():
        told = np.mean([one.own >= KNOWN_SCORE for one in some])
        near = np.mean([one.off_s < 0.05 for one in some])
        theirs = np.mean([one.chroma_own and one.chroma < least for one in some])
        lowest = min(one.own for one in some)
        print(f"| {way} | {told:.1%} of {len(some)} | {lowest:.2f} | {near:.1%} | {theirs:.1%} |")
    if options.chromaprint:
        print(f"\nchromaprint: at least {least:.3f} of the bits differ of excerpts of the other half")


if __name__ == "__main__":
    sys.exit(main())

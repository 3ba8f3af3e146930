"""How many excerpts of outputs other programs know again, beside the log of outputs, on the same pieces.

    OMP_NUM_THREADS=1 uv run --project services/inference --frozen --with av==18.1.0 --with pyacoustid==1.3.1 \
      --with scipy==1.17.1 --with psutil==7.2.2 python -m tests.bench.inference.known_peers OUT FOLDER [FOLDER ...] \
      --audfprint FOLDER --olaf PROGRAM [--pieces N] [--others N]

OUT and FOLDER as for `known_outputs`, whose songs, pieces and treatments these are: --pieces of the part "shown" are
logged, evenly spread, and an excerpt of 10 s of each is looked for; --others excerpts of each of as many others, as
they are and mixed, are false alarms where they are told. Each program is used as it comes:

* audfprint (github.com/dpwe/audfprint, MIT): its classes with the defaults of its command line (20 hashes a second,
  matched at four shifts); told is what it returns, 5 common landmarks in line and more.
* Olaf (github.com/JorenSix/Olaf, AGPL-3): `make compile_core` makes the program `bin/olaf_core`; told is what it
  prints, 6 matches in line and more.

In brackets: what is known at a threshold above all scores of others.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Protocol

import numpy as np

from luthier_inference.known_outputs import index as search
from luthier_inference.known_outputs.fingerprint import fingerprint_of
from luthier_inference.known_outputs.index import KNOWN_SCORE, Index
from luthier_music.audio_rate import resampled
from tests.bench.inference.known_outputs import Piece, excerpt, mixed, pieces_of, treated
from tests.bench.inference.lossy import RATE_HZ, Floats


class Program(Protocol):
    """Keeps sounds (frames, 2) by name, and tells in which of them another is, with a score; `told_from` is its own
    threshold."""

    name: str
    told_from: float

    def add(self, name: str, samples: Floats) -> None: ...

    def ask(self, samples: Floats, rate_hz: int) -> dict[str, float]: ...


class Ours:
    name: str = "log of outputs"
    told_from: float = KNOWN_SCORE

    def __init__(self) -> None:
        search.KNOWN_SCORE = 0.0  # type: ignore[misc]  # so that scores below it are seen, too
        self._index = Index(1 << 30)

    def add(self, name: str, samples: Floats) -> None:
        if made := fingerprint_of(samples, RATE_HZ):
            self._index.add(name, made)

    def ask(self, samples: Floats, rate_hz: int) -> dict[str, float]:
        return {each.output: each.score for each in self._index.search(samples, rate_hz)}


class Audfprint:
    name: str = "audfprint"
    told_from: float = 5
    RATE_HZ: Final = 11_025

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        self._analyze = importlib.import_module("audfprint_analyze")
        self._matcher = importlib.import_module("audfprint_match").Matcher()
        self._matcher.window, self._matcher.max_returns = 2, 100
        self._table = importlib.import_module("hash_table").HashTable()
        self._sound: Any = None
        self._analyze.audio_read = SimpleNamespace(audio_read=lambda *_, **__: (self._sound, self.RATE_HZ))
        self._analyzers = {shifts: self._analyze.Analyzer(20.0) for shifts in (1, 4)}
        for shifts, analyzer in self._analyzers.items():
            analyzer.maxpksperframe, analyzer.maxpairsperpeak, analyzer.f_sd = 5, 3, 30.0
            analyzer.shifts, analyzer.target_sr, analyzer.n_fft, analyzer.n_hop = shifts, self.RATE_HZ, 512, 256

    def _read(self, samples: Floats, rate_hz: int) -> None:
        self._sound = resampled(samples.mean(axis=1), rate_hz, self.RATE_HZ)

    def add(self, name: str, samples: Floats) -> None:
        self._read(samples, RATE_HZ)
        self._analyzers[1].ingest(self._table, name)

    def ask(self, samples: Floats, rate_hz: int) -> dict[str, float]:
        self._read(samples, rate_hz)
        hashes = self._analyzers[4].wavfile2hashes("excerpt")
        if not len(hashes):
            return {}
        told = defaultdict[str, float](float)
        for number, in_line, *_ in self._matcher.match_hashes(self._table, hashes):
            name = self._table.names[number]
            told[name] = max(told[name], float(in_line))
        return told


class Olaf:
    name: str = "Olaf"
    told_from: float = 6
    RATE_HZ: Final = 16_000

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program.resolve(), folder
        (folder / ".olaf" / "db").mkdir(parents=True)

    def _run(self, command: str, name: str, samples: Floats, rate_hz: int) -> str:
        raw = self._folder / "sound.raw"
        resampled(samples.mean(axis=1), rate_hz, self.RATE_HZ).astype("<f4").tofile(raw)
        return subprocess.run(
            [self._program, command, raw, name],
            env={"HOME": str(self._folder)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def add(self, name: str, samples: Floats) -> None:
        self._run("store", name, samples, RATE_HZ)

    def ask(self, samples: Floats, rate_hz: int) -> dict[str, float]:
        told = defaultdict[str, float](float)
        for line in self._run("query", "excerpt", samples, rate_hz).splitlines():
            matches, _, _, name, *_ = (part.strip() for part in line.split(","))
            if name:
                told[name] = max(told[name], float(matches))
        return told


@dataclass
class Results:
    """Of a program: by treatment the scores of the excerpt's own song; of what was not logged the highest; CPU s."""

    own: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    others: list[float] = field(default_factory=list)
    cpu_s: float = 0.0


def cpu_s() -> float:
    """Of this process and those that it ran."""
    return sum(os.times()[:4])


def spread(pieces: list[Piece], count: int) -> list[Piece]:
    return pieces[:: max(1, len(pieces) // count)][:count]


def known_ones(pieces: list[Piece], others: list[Piece]) -> Iterator[tuple[str, Piece, Floats, int]]:
    """Treatment, piece, excerpt and its rate."""
    for number, piece in enumerate(pieces):
        chance, over = np.random.default_rng([number, 2]), None
        taken = excerpt(piece, chance)
        while over is None:
            over = excerpt(others[int(chance.integers(len(others)))], chance)
        if taken:
            for way, (samples, rate_hz) in treated(taken[0], over[0]).items():
                yield way, piece, samples, rate_hz


def unknown_ones(others: list[Piece], count: int) -> Iterator[Floats]:
    for number, piece in enumerate(others):
        chance = np.random.default_rng([number, 3])
        for _ in range(count):
            taken, over = excerpt(piece, chance), excerpt(others[int(chance.integers(len(others)))], chance)
            if taken and over:
                yield taken[0]
                yield mixed(taken[0], over[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--audfprint", type=Path, help="folder of its sources")
    parser.add_argument("--olaf", type=Path, help="its program olaf_core")
    parser.add_argument("--pieces", type=int, default=60)
    parser.add_argument("--others", type=int, default=4)
    options = parser.parse_args()
    every = [piece for folder in options.folders for piece in pieces_of(folder, options.out, "shown")]
    pieces, others = (spread([each for each in every if each.logged is half], options.pieces) for half in (True, False))
    by_name = {piece.name: piece for piece in pieces}
    with tempfile.TemporaryDirectory() as folder:
        programs: list[Program] = [Ours()]
        programs += [Audfprint(options.audfprint)] if options.audfprint else []
        programs += [Olaf(options.olaf, Path(folder))] if options.olaf else []
        for piece in pieces:
            for program in programs:
                program.add(piece.name, piece.read())
        results = {program.name: Results() for program in programs}
        for way, piece, samples, rate_hz in known_ones(pieces, others):
            for program in programs:
                told = program.ask(samples, rate_hz)
                same = [score for name, score in told.items() if by_name[name].song == piece.song]
                results[program.name].own[way].append(max(same, default=0.0))
        for samples in unknown_ones(others, options.others):
            for program in programs:
                began = cpu_s()
                told = program.ask(samples, RATE_HZ)
                results[program.name].cpu_s += cpu_s() - began
                results[program.name].others.append(max(told.values(), default=0.0))
    print(f"{len(pieces)} pieces logged, {time.strftime('%Y-%m-%d')}\n")
    print("| | " + " | ".join(results) + " |\n|---|" + "---|" * len(results))
    for way in results[Ours.name].own:
        row = []
        for program in programs:
            own, highest = np.array(results[program.name].own[way]), max(results[program.name].others)
            row.append(f"{np.mean(own >= program.told_from):.1%} ({np.mean(own > highest):.1%})")
        print(f"| {way} | " + " | ".join(row) + " |")
    alarms = [sum(one >= program.told_from for one in results[program.name].others) for program in programs]
    print(f"| told of {len(results[Ours.name].others)} others | " + " | ".join(str(each) for each in alarms) + " |")
    costs = [1000 * each.cpu_s / len(each.others) for each in results.values()]
    print("| CPU ms of a search | " + " | ".join(f"{each:.0f}" for each in costs) + " |")
    highest = [f"{max(each.others):g}" for each in results.values()]
    print("| highest score of others | " + " | ".join(highest) + " |")


if __name__ == "__main__":
    main()

"""What a run costs where all or nearly all is done: CPU seconds of the command and of the five services that it asks.

    python -m tests.bench.reruns again FOLDER [OPTION of luthier run ...]
    python -m tests.bench.reruns more [--songs 50 400] [--new 10]

by `services/pipeline/.venv/bin/python`, beside services that `make up` started (LUTHIER_HOME), which nobody else calls.

`again` runs a folder into a collection of its own, then twice more: the first run against those that find all done.
`more` runs small songs (three parts, eight bars) that it makes, a collection for each number of them. Then it adds one
at a time to each in turn and runs after each, once with it and once with nothing to do: the difference is what a new
song costs among so many.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mido

from luthier_pipeline.clients import Clients

ASKED: Final = ("rendering", "analysis", "enrichment", "prompting", "curation")
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
LUTHIER: Final = Path(sys.executable).with_name("luthier")
BARS, STEPS = 8, 8  # of a small song; notes of a bar
PARTS: Final = {0: (0, 60, 84), 1: (33, 28, 48), 2: (48, 55, 79)}  # by channel: program, lowest and highest key


@dataclass(frozen=True)
class Cost:
    """CPU seconds of the command and of the services, and wall clock; `said` is what the run came to."""

    command_s: float
    services_s: float
    wall_s: float
    said: dict[str, Any]

    @property
    def cpu_s(self) -> float:
        return self.command_s + self.services_s

    def __str__(self) -> str:
        done = f"{self.said['computed']} actions computed, {self.said['reused']} found done"
        parts = f"{self.command_s:.2f} + {self.services_s:.2f} CPU s"
        return f"{self.said['songs']} songs, {self.said['clips']} clips, {done}: {parts}, {self.wall_s:.1f} s"


def cost_of(folder: Path, collection: str, options: list[str]) -> Cost:
    """Runs the command once."""
    services, own, began = services_s(), os.times(), time.monotonic()
    command = [LUTHIER, "run", folder, "--collection", collection, "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall_s, after = time.monotonic() - began, os.times()
    command_s = after.children_user + after.children_system - own.children_user - own.children_system
    said = json.loads(done.stdout.splitlines()[-1])
    assert not said["failures"], said["failures"]
    return Cost(command_s, services_s() - services, wall_s, said)


def services_s() -> float:
    """CPU seconds of the services so far: their processes, and the workers that these have replaced."""
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            spent[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS_PER_S
    written = Clients()._written("services")  # what `make up` wrote down

    def of_tree(pid: int) -> float:
        return spent.get(pid, 0.0) + sum(map(of_tree, children.get(pid, [])))

    return sum(of_tree(written[name]["pid"]) for name in ASKED)


def again(folder: Path, options: list[str]) -> None:
    """The same run three times."""
    collection = f"bench-{time.time_ns():x}"
    first = cost_of(folder, collection, options)
    print(f"first  {first}", flush=True)
    for _ in range(2):
        run = cost_of(folder, collection, options)
        shares = f"{run.cpu_s / first.cpu_s:.2%} of its CPU s, {run.wall_s / first.wall_s:.2%} of its time"
        print(f"again  {run}: {shares}", flush=True)


class Growing:
    """A collection of so many small songs, to which one is added at a time."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.made = folder / f"{count}", 0
        self.folder.mkdir()
        self.collection = f"bench-{time.time_ns():x}"
        for _ in range(count):
            self.write()
        cost_of(self.folder, self.collection, ["--in-flight", "4"])
        self.idle_s = [self.nothing()]
        self.costs = list[float]()

    def write(self) -> None:
        write_song(self.folder, self.collection, self.made)
        self.made += 1

    def nothing(self) -> float:
        """CPU seconds of a run that finds all done."""
        run = cost_of(self.folder, self.collection, [])
        assert run.said["computed"] == 0
        return run.cpu_s

    def add(self) -> None:
        """One new song, then nothing new."""
        self.write()
        added = cost_of(self.folder, self.collection, [])
        assert added.said["computed"] > 0
        self.idle_s.append(self.nothing())
        self.costs.append(added.cpu_s - self.idle_s[-1])


def more(counts: list[int], new: int) -> None:
    """New songs among so many, one at a time, in turn among few and among many."""
    with tempfile.TemporaryDirectory() as name:
        grown = [Growing(Path(name), count - new // 2) for count in sorted(counts)]  # `count` is the middle
        for _ in range(new):
            for one in grown:
                one.add()
    for count, one in zip(sorted(counts), grown, strict=True):
        mean, spread = statistics.mean(one.costs), statistics.stdev(one.costs) / new**0.5
        idle_s = statistics.mean(one.idle_s)
        print(f"among {count}: a new song {mean:.3f} ± {spread:.3f} CPU s; nothing to do {idle_s:.3f}")
    few, many = (statistics.mean(one.costs) for one in (grown[0], grown[-1]))
    print(f"ratio {many / few:.3f}")


def write_song(folder: Path, collection: str, number: int) -> None:
    """A song of its own, that no other collection has."""
    draw = random.Random(f"{collection}/{number}")
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(draw.randint(90, 140)))]))
    for channel, (program, lowest, highest) in PARTS.items():
        track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
        for _ in range(BARS * STEPS):
            key = draw.randint(lowest, highest)
            track.append(mido.Message("note_on", channel=channel, note=key, velocity=draw.randint(60, 110)))
            track.append(mido.Message("note_off", channel=channel, note=key, time=1920 // STEPS))
        file.tracks.append(track)
    path = folder / f"Artist {number % 7}" / f"Song {number:04}.mid"
    path.parent.mkdir(exist_ok=True)
    file.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("again")
    one.add_argument("folder", type=Path)
    other = kinds.add_parser("more")
    other.add_argument("--songs", type=int, nargs="+", default=[50, 400])
    other.add_argument("--new", type=int, default=10)
    options, rest = parser.parse_known_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    if options.kind == "again":
        again(options.folder, rest)
    else:
        more(options.songs, options.new)


if __name__ == "__main__":
    main()

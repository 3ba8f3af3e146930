"""CPU seconds of analysis per minute of audio, by feature, and CutClips of whole files in children side by side.

    services/analysis/.venv/bin/python tests/bench/analysis.py FILE.flac [FILE.flac ...]

Prints one line per feature (median over the files), then songs through CutClips with 1 and 2 children: wall seconds,
CPU seconds and audio minutes per wall minute. The files must last 0.5 s to 30 min; real songs give real numbers.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from luthier_analysis import jobs
from luthier_analysis.features.options import Options
from luthier_analysis.features.registry import DESCRIPTORS, FEATURES
from luthier_analysis.results import Plan
from luthier_analysis.sound import Sound, load
from luthier_analysis.workers import Workers


class Call:
    """A call without deadline or caller."""

    def time_remaining(self) -> None:
        return None

    def add_callback(self, callback: Callable[[], object]) -> bool:
        del callback
        return True


def cpu_per_minute(measure: Callable[[Sound], Any], paths: list[Path]) -> float:
    """Median CPU seconds per audio minute; decoding and resampling left out."""
    costs = []
    for path in paths:
        sound = load(path)
        _ = sound.mono, sound.levels_dbfs
        started = time.process_time()
        measure(sound)
        costs.append((time.process_time() - started) / sound.duration_s * 60)
    return statistics.median(costs)


def decode_cost(paths: list[Path]) -> float:
    costs = []
    for path in paths:
        started = time.process_time()
        sound = load(path)
        _ = sound.mono
        costs.append((time.process_time() - started) / sound.duration_s * 60)
    return statistics.median(costs)


def cut_all(paths: list[Path], children: int) -> tuple[float, float]:
    """Wall and CPU seconds of cutting every file, `children` at a time, as the service does it."""
    workers = Workers(children)
    workers.warm_up()

    def one(path: Path) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return workers.run(Call(), jobs.cut, path, None, Plan(), Options(), Path(folder))[1]  # type: ignore[arg-type]

    started = time.monotonic()
    with ThreadPoolExecutor(children) as threads:
        cpu_s = sum(threads.map(one, paths))
    wall_s = time.monotonic() - started
    workers.close()
    return wall_s, cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    paths = parser.parse_args().files
    minutes = sum(load(path).duration_s for path in paths) / 60
    print(f"{len(paths)} files, {minutes:.1f} min of audio, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'decode':<28}{decode_cost(paths):7.3f} CPU s per audio minute")
    for name, feature in FEATURES.items():
        print(f"{name:<28}{cpu_per_minute(lambda s, f=feature: f(s, Options()), paths):7.3f}")
    for descriptor in DESCRIPTORS:
        print(f"  {descriptor.__module__.rpartition('.')[2]:<26}{cpu_per_minute(descriptor, paths):7.3f}")
    for children in (1, 2):
        wall_s, cpu_s = cut_all(paths, children)
        speed = f"{cpu_s / minutes:.3f} CPU s per audio minute, {minutes * 60 / wall_s:.0f} x real time"
        print(f"CutClips, {children} at a time: {wall_s:.1f} s wall, {speed}")


if __name__ == "__main__":
    main()

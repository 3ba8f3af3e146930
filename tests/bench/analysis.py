"""CPU seconds of analysis per minute of audio, by feature, and CutClips of whole files in processes side by side.

    services/analysis/.venv/bin/python tests/bench/analysis.py FILE.flac [FILE.flac ...]

Prints one line per feature (median over the files), then songs through CutClips with 1 and 2 processes: wall seconds,
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
from luthier_analysis.features import FEATURES
from luthier_analysis.features.descriptors import DESCRIPTORS
from luthier_analysis.service import workers
from luthier_analysis.settings import Options
from luthier_analysis.sound import Sound, load


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


def cut_all(paths: list[Path], processes: int) -> tuple[float, float]:
    """Wall and CPU seconds of cutting every file, `processes` at a time, as the service does it."""
    pool = workers(processes)
    pool.start()

    def one(path: Path) -> float:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            return pool.run(None, folder, jobs.cut, path, None, jobs.CutPlan(), Options(), folder).cpu_s

    began = time.monotonic()
    with ThreadPoolExecutor(processes) as threads:
        cpu_s = sum(threads.map(one, paths))
    wall_s = time.monotonic() - began
    pool.close()
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
        print(f"  {descriptor.__name__:<26}{cpu_per_minute(descriptor, paths):7.3f}")
    for processes in (1, 2):
        wall_s, cpu_s = cut_all(paths, processes)
        speed = f"{cpu_s / minutes:.3f} CPU s per audio minute, {minutes * 60 / wall_s:.0f} x real time"
        print(f"CutClips, {processes} at a time: {wall_s:.1f} s wall, {speed}")


if __name__ == "__main__":
    main()

"""CPU seconds of rendering songs with stems, of this build against another checkout's, song by song in turn.

    services/rendering/.venv/bin/python tests/bench/render_builds.py OTHER_CHECKOUT SONG.mid ...

Each build has a process of its own with its own environment (`uv sync --frozen` in its services/rendering), and renders
one song before any that counts, as a worker of the service has. Prints whether the samples of the files are equal, too.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile

HERE = Path(__file__).parents[2]
WORKER = """
import resource, sys
from pathlib import Path
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.render import RenderParameters, render_file
from luthier_rendering.smf import MidiLimits
for line in sys.stdin:
    midi, out = line.rstrip("\\n").split("\\t")
    done = render_file(Path(midi), MidiLimits(), BackendConfig(), RenderParameters("soundfont", seed=1), Path(out))
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(done.cpu_s, done.facts.duration_s, len(done.result.stems), highest, flush=True)
"""


class Build:
    """A checkout whose rendering runs in a process of its own."""

    def __init__(self, checkout: Path) -> None:
        python = checkout / "services" / "rendering" / ".venv" / "bin" / "python"
        alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as in the service's workers
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen([python, "-c", WORKER], env=alone, text=True, **pipes)
        self.cpu_s, self.highest_kb = 0.0, 0

    def render(self, midi: Path, out: Path) -> tuple[float, float, int]:
        """CPU seconds, seconds of audio and stems of a song that was rendered into the folder `out`."""
        assert self._process.stdin
        assert self._process.stdout
        print(midi.resolve(), out, sep="\t", file=self._process.stdin, flush=True)
        cpu_s, audio_s, stems, self.highest_kb = map(float, self._process.stdout.readline().split())
        return cpu_s, audio_s, int(stems)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def differences(one: Path, other: Path) -> tuple[int, int, int]:
    """Files of two folders, of them those that differ, and by how many steps of 16 bits at most."""
    files = sorted(path.name for path in one.glob("*.flac"))
    assert files == sorted(path.name for path in other.glob("*.flac"))
    apart = []
    for name in files:
        (a, _), (b, _) = (soundfile.read(folder / name, dtype="int16") for folder in (one, other))
        apart.append(int(abs(a.astype(int) - b).max()) if (a != b).any() else 0)
    return len(files), sum(map(bool, apart)), max(apart)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("songs", nargs="+", type=Path)
    options = parser.parse_args()
    songs = options.songs
    here, there = Build(HERE), Build(options.other.resolve())
    audio_s, stems, files, differ, most, ratios = 0.0, 0, 0, 0, 0, []
    for number, song in enumerate([songs[0], *songs]):
        spent_s = {}
        with tempfile.TemporaryDirectory() as name:
            for build in (here, there) if number % 2 else (there, here):
                out = Path(name, str(build is here))
                out.mkdir()
                spent_s[build], seconds, parts = build.render(song, out)
            if number == 0:
                continue
            counted, differing, steps = differences(Path(name, "True"), Path(name, "False"))
        files, differ, most = files + counted, differ + differing, max(most, steps)
        for build, cpu_s in spent_s.items():
            build.cpu_s += cpu_s
        audio_s, stems = audio_s + seconds, stems + parts
        ratios.append(spent_s[here] / spent_s[there])
        print(f"\r{number} of {len(songs)} songs", end="", file=sys.stderr, flush=True)
    for build in (here, there):
        build.close()
    minutes = audio_s / 60
    machine = f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}"
    print(f"\n{len(songs)} songs, {minutes:.1f} min, {stems} stems; {machine}")
    print(f"CPU s per minute: {there.cpu_s / minutes:.3f} there, {here.cpu_s / minutes:.3f} here: ratio", end=" ")
    print(f"{here.cpu_s / there.cpu_s:.3f}, of single songs {min(ratios):.2f} to {max(ratios):.2f}")
    print(f"most memory: {there.highest_kb / 1024:.0f} MiB there, {here.highest_kb / 1024:.0f} MiB here")
    print(f"{files} files, {differ} with other samples, by {most} steps of 16 bits at most")


if __name__ == "__main__":
    main()

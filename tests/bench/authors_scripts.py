r"""Rendering against plain scripts that render track by track (`plain_rendering.py`), song by song in turn.

    uv run --project services/rendering --frozen --group bench python -m tests.bench.authors_scripts SONG.mid ... \
        --vst3 FOLDER

What is known of the scripts of the paper, a script written anew from public packages does here: no stems, drums as
a piano, all tracks in memory. Effects are left out on both sides. With a SoundFont it has two forms: the command
`fluidsynth` for each track (left out where it is not on the PATH), and the synthesiser that the service uses itself.
With `--vst3`, a folder with mda-vst3.vst3, plugins play every track there; here every part but drums, by the same three
plugins, with the same parameters drawn. The service's side writes stems, too; `mix only` does what the script does.

Each side is a process of its own and renders one song before any that counts. Printed: audio seconds per CPU second,
children included, and each process's peak memory.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pretty_midi
import yaml

from tests.bench.plain_rendering import PLUGINS

BUNDLE: Final = "mda-vst3.vst3"
HERE: Final = """
import os, sys
from pathlib import Path
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.render import RenderParameters, render_file
from luthier_rendering.smf import MidiLimits
backend, vst3, instruments, mix_only = sys.argv[1:]
answers = os.fdopen(os.dup(1), "w")  # plugins print
os.dup2(2, 1)
config = BackendConfig(vst3_path=vst3, instrument_map=instruments)
for number, line in enumerate(sys.stdin):
    midi, out = map(Path, line.rstrip("\\n").split("\\t"))
    parameters = RenderParameters(backend, seed=number, mix_only=bool(mix_only))
    done = render_file(midi, MidiLimits(), config, parameters, out)
    status = dict(one.split(":", 1) for one in Path("/proc/self/status").read_text().splitlines())
    print(done.cpu_s, done.facts.duration_s, status["VmHWM"].split()[0], file=answers, flush=True)
"""


class Side:
    """A process that renders songs, and what it spent."""

    def __init__(self, name: str, *arguments: str | Path) -> None:
        alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as in the service's workers
        command = [sys.executable, *arguments]
        self._process = subprocess.Popen(
            command, env=alone, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.name, self.peak_kib = name, 0
        self.songs: list[tuple[float, float]] = []  # CPU seconds, seconds of audio

    def render(self, midi: Path) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with tempfile.TemporaryDirectory() as out:
            print(midi.resolve(), out, sep="\t", file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline().split()
        if not answer:
            raise SystemExit(f"{self.name} failed on {midi}: exit status {self._process.wait()}")
        cpu_s, audio_s, self.peak_kib = float(answer[0]), float(answer[1]), int(answer[2])
        self.songs.append((cpu_s, audio_s))

    @property
    def rates(self) -> list[float]:
        """Seconds of audio per CPU second, of each song that counts."""
        return [audio_s / cpu_s for cpu_s, audio_s in self.songs[1:]]

    @property
    def rate(self) -> float:
        """Seconds of audio per CPU second."""
        cpu_s, audio_s = map(sum, zip(*self.songs[1:], strict=True))
        return audio_s / cpu_s

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def instruments() -> str:
    """An instrument map of the plugins that the script plays."""
    entries = []
    for plugin, drawn, programs in PLUGINS:
        parameters = {parameter: {"uniform": [0.2, 0.8]} for parameter in drawn}
        candidate = {"vst3": BUNDLE, "plugin": plugin, "parameters": parameters}
        entries.append({"for": list(programs), "candidates": [candidate]})
    return str(yaml.safe_dump({"instruments": entries}))


def compare(title: str, here: list[Side], scripts: list[Side], songs: list[Path]) -> None:
    """Render the songs by all sides in turn and print what each took."""
    sides = [*here, *scripts]
    for number, song in enumerate([songs[0], *songs]):
        for side in sides if number % 2 else reversed(sides):
            side.render(song)
        print(f"\r{title}: {number} of {len(songs)} songs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for side in sides:
        side.close()
        minutes = sum(audio_s for _, audio_s in side.songs[1:]) / 60
        print(f"{title}, {side.name}: {minutes:.1f} min, {side.rate:.1f} audio s per CPU s, ", end="")
        print(f"at most {side.peak_kib / 1024:.0f} MiB")
    for script in scripts:
        for side in here:
            single = [ours / theirs for ours, theirs in zip(side.rates, script.rates, strict=True)]
            print(
                f"  {side.name} against {script.name}: {side.rate / script.rate:.2f} times as fast, single songs ",
                end="",
            )
            print(f"{min(single):.2f} to {max(single):.2f}; {side.peak_kib / script.peak_kib:.2f} of its memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", nargs="+", type=Path)
    parser.add_argument("--vst3", type=Path, help=f"folder of {BUNDLE}; without it, SoundFonts alone")
    options = parser.parse_args()
    print(f"{len(options.songs)} songs; {os.cpu_count()} cores, {platform.machine()}")
    script = Path(__file__).with_name("plain_rendering.py")
    font = Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")
    players = ["tinysoundfont"]
    if shutil.which("fluidsynth"):
        players.append("fluidsynth")
    both = {"stems and mix": "", "mix only": "yes"}
    here = [Side(name, "-c", HERE, "soundfont", "", "", only) for name, only in both.items()]
    compare("SoundFont", here, [Side(one, script, one, font) for one in players], options.songs)
    if options.vst3:
        here = [Side(name, "-c", HERE, "map", options.vst3, instruments(), only) for name, only in both.items()]
        scripts = [Side("pedalboard", script, "pedalboard", options.vst3 / BUNDLE)]
        compare("VST3", here, scripts, options.songs)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

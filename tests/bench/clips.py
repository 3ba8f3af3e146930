"""CPU seconds of CutClips with timelines, of this build against another checkout's, song by song in turn.

    services/analysis/.venv/bin/python tests/bench/clips.py FOLDER OTHER_CHECKOUT [--songs 8]

FOLDER is what `tests/bench/truth_songs.py` wrote. Each song is cut by both in processes of their own, one at a time.
"""

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

from luthier_music.audio import audio_info

HERE = Path(__file__).parents[2]
CUT = """
import sys, tempfile
from pathlib import Path
from luthier.common.v1.common_pb2 import Timeline as Message
from luthier_analysis import clips  # imported before the clock of the job starts
from luthier_analysis.jobs import CutPlan, cut
from luthier_analysis.settings import Options
from luthier_analysis.timeline import Timeline
path = Path(sys.argv[1])
timeline = Timeline(Message.FromString(path.read_bytes()))
with tempfile.TemporaryDirectory() as folder:
    print(cut(path.with_suffix(".flac"), timeline, CutPlan(), Options(), Path(folder)).cpu_s)
"""


def cut_cpu_s(checkout: Path, timeline: Path) -> float:
    python = checkout / "services" / "analysis" / ".venv" / "bin" / "python"
    threads = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as in the service's workers
    done = subprocess.run([python, "-c", CUT, timeline], env=threads, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--songs", type=int, default=8)
    options = parser.parse_args()
    timelines = sorted(options.folder.glob("*.timeline"))
    here_s, there_s, audio_s = 0.0, 0.0, 0.0
    for number, timeline in enumerate(timelines[:: max(1, len(timelines) // options.songs)][: options.songs]):
        for checkout in (HERE, options.other) if number % 2 else (options.other, HERE):
            spent_s = cut_cpu_s(checkout, timeline)
            if checkout == HERE:
                here_s += spent_s
            else:
                there_s += spent_s
        audio_s += audio_info(timeline.with_suffix(".flac")).duration_s
        print(f"\r{number + 1} songs", end="", file=sys.stderr, flush=True)
    minutes = audio_s / 60
    print(f"\n{minutes:.1f} min of songs; {os.cpu_count()} cores, {platform.machine()}")
    print(f"CPU s per minute: {there_s / minutes:.3f} there, {here_s / minutes:.3f} here: ratio {here_s / there_s:.2f}")


if __name__ == "__main__":
    main()

"""CPU seconds of AnalyzeAudio's work against essentia scripts, one per feature, each in a process of its own.

    services/analysis/.venv/bin/python tests/bench/essentia_scripts.py FILE.flac [FILE.flac ...]

A script is what one writes to get a feature: load the file, one algorithm (for the descriptors one each), print. The
other side is one process that decodes once and measures the same features by `luthier_analysis.jobs.analyze`, as a
worker of the service does. For each file both run in turn, the order changing, for all features and for tempo and key
alone. Printed is the ratio of CPU seconds of whole processes, and without the time until imports are done, which a
script over many files spends once. Perceptual descriptors are left out: essentia has none without models of its own.
"""

import argparse
import os
import platform
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

IMPORTED: Final = "import time; imported_s = time.process_time()\n"
SPENT: Final = "import time; print('CPU', imported_s, time.process_time())\n"
LOADED: Final = f"""
import sys
from essentia import standard as es
{IMPORTED}
mono = es.MonoLoader(filename=sys.argv[1])()
"""
SCRIPTS: Final = {
    "tempo": f"{LOADED}print(es.RhythmExtractor2013(method='multifeature')(mono)[0])\n",
    "key": f"{LOADED}print(es.KeyExtractor(profileType='bgate')(mono))\n",
    "loudness": f"""
import sys
from essentia import standard as es
{IMPORTED}
stereo, rate_hz, *_ = es.AudioLoader(filename=sys.argv[1])()
print(es.LoudnessEBUR128(sampleRate=rate_hz)(stereo)[2])
""",
    "sections": f"""
import numpy as np
{LOADED}
window, spectrum, mfcc = es.Windowing(type="hann"), es.Spectrum(), es.MFCC(inputSize=1025)
frames = es.FrameGenerator(mono, frameSize=2048, hopSize=1024)
features = np.array([mfcc(spectrum(window(frame)))[1] for frame in frames])
print(es.SBic(cpw=1.5, inc1=60, inc2=20, size1=300, size2=200)(np.ascontiguousarray(features.T)) * 1024 / 44100)
""",
    "descriptors": f"""
import numpy as np
{LOADED}
window, spectrum, centroid = es.Windowing(type="hann"), es.Spectrum(), es.Centroid(range=22050)
print(np.median([centroid(spectrum(window(frame))) for frame in es.FrameGenerator(mono, frameSize=4096, hopSize=4096)]))
print(es.OnsetRate()(mono)[1], es.DynamicComplexity()(mono)[0], es.Danceability()(mono)[0])
""",
    "beats": f"{LOADED}print(es.BeatTrackerDegara()(mono))\n",
}
OURS: Final = f"""
import sys
from pathlib import Path
from luthier_analysis import features, jobs
from luthier_analysis.settings import Options
{IMPORTED}
print(jobs.analyze(Path(sys.argv[1]), tuple(sys.argv[2:]), None, Options()))
"""
SETS: Final = {"all features": tuple(SCRIPTS), "tempo and key": ("tempo", "key")}


def cpu_s(script: str, *arguments: str) -> tuple[float, float]:
    """CPU seconds of a script until its imports are done, and of all of it."""
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as in the service's workers
    code = f"{script}\n{SPENT}"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=one_thread, capture_output=True, text=True, check=True
    )
    _, imported_s, all_s = done.stdout.splitlines()[-1].split()
    return float(imported_s), float(all_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    files = parser.parse_args().files
    whole_s: defaultdict[tuple[str, str], float] = defaultdict(float)
    warm_s: defaultdict[tuple[str, str], float] = defaultdict(float)

    def run(side: str, name: str, script: str, *arguments: str) -> None:
        imported_s, all_s = cpu_s(script, *arguments)
        whole_s[side, name] += all_s
        warm_s[side, name] += all_s - imported_s

    for number, path in enumerate(files):
        sides = ["scripts", "ours"]
        for side in sides if number % 2 else reversed(sides):
            if side == "scripts":
                for name, script in SCRIPTS.items():
                    run(side, name, script, str(path))
            else:
                for name, features in SETS.items():
                    run(side, name, OURS, str(path), *features)
        print(f"\r{number + 1} of {len(files)} files", end="", file=sys.stderr, flush=True)

    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    print(f"\n{len(files)} files; {machine}; CPU seconds, without imports in brackets")
    for name in SCRIPTS:
        print(f"  script: {name:<14}{whole_s['scripts', name]:8.1f} ({warm_s['scripts', name]:.1f})")
    for name, features in SETS.items():
        theirs, theirs_warm = (sum(spent["scripts", one] for one in features) for spent in (whole_s, warm_s))
        ours, ours_warm = whole_s["ours", name], warm_s["ours", name]
        print(
            f"{name}: {theirs:.1f} ({theirs_warm:.1f}) in scripts, {ours:.1f} ({ours_warm:.1f}) here: "
            f"{theirs / ours:.2f} ({theirs_warm / ours_warm:.2f}) times as fast"
        )


if __name__ == "__main__":
    main()

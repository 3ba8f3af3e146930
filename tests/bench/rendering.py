"""CPU seconds per minute of audio, by stage, of rendering MIDI files.

    services/rendering/.venv/bin/python tests/bench/rendering.py [OPTION...] [SONG.mid...]

Without files it takes eight of the shared corpus. One process, one song at a time: on N cores as many songs render at
once as the service has slots.
"""

import argparse
import os
import platform
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from luthier_rendering.backends import BACKENDS
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.fingerprint import fingerprint
from luthier_rendering.midi import load_song
from luthier_rendering.render import RenderParameters, render_song
from luthier_rendering.timeline import timeline

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "clean_midi"


def main() -> None:
    options = arguments()
    config = BackendConfig(vst3_path=options.vst3, instrument_map=options.map.read_text() if options.map else "")
    backend = BACKENDS[options.backend](config)
    stages: defaultdict[str, float] = defaultdict(float)
    audio_s, stems = 0.0, 0
    for path in options.songs or sorted(CORPUS.rglob("*.mid"))[::10]:
        began = time.process_time()
        song = load_song(path.read_bytes())
        found = timeline(song)
        fingerprint(song)
        stages["read + timeline"] += time.process_time() - began
        with tempfile.TemporaryDirectory() as out:
            parameters = RenderParameters(options.backend, seed=1, mix_only=options.mix_only)
            result = render_song(song, backend, parameters, Path(out))
        for stage, seconds in result.stages_s.items():
            stages[stage] += seconds
        audio_s += found.duration_s
        stems += len(result.stems)
        print(f"{path.name:40.40} {found.duration_s:6.1f} s  {len(result.stems):2} stems  {result.cpu_s:6.2f} CPU s")
    report(stages, audio_s, stems)


def report(stages: dict[str, float], audio_s: float, stems: int) -> None:
    minutes = audio_s / 60
    print(f"\n{minutes:.1f} min of audio, {stems} stems; {os.cpu_count()} cores, {platform.processor() or 'x86_64'}")
    for stage, seconds in stages.items():
        print(f"{stage:16} {seconds / minutes:7.3f} CPU s per minute")
    total = sum(stages.values())
    print(f"{'all':16} {total / minutes:7.3f} CPU s per minute: {audio_s / total:.1f} times real time on one core")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", nargs="*", type=Path, help="MIDI files")
    parser.add_argument("--backend", choices=BACKENDS, default="soundfont")
    parser.add_argument("--mix-only", action="store_true", help="no stems")
    parser.add_argument("--vst3", default="", help="folder of VST3 bundles")
    parser.add_argument("--map", type=Path, help="an instrument map")
    return parser.parse_args()


if __name__ == "__main__":
    main()

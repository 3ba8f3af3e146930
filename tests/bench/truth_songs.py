"""Mixes of MIDI files, and beside each what its notes prove: what `tests/bench/truth.py` measures estimators on.

    services/rendering/.venv/bin/python tests/bench/truth_songs.py OUT FOLDER [FOLDER ...]

Files that are in OUT already are left as they are.
"""

import argparse
import hashlib
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from luthier_kit.rpc import InvalidRequest
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.render import RenderParameters, render_file
from luthier_rendering.smf import MidiLimits


def made(midi: Path, out: Path) -> str:
    """Render a file to OUT/<digest>.flac and .timeline (a luthier.common.v1.Timeline); what to say of it."""
    name = hashlib.sha256(midi.read_bytes()).hexdigest()[:16]
    if (out / f"{name}.timeline").exists():
        return f"{midi.name}: there already"
    with tempfile.TemporaryDirectory(dir=out) as folder:
        try:
            done = render_file(
                midi, MidiLimits(), BackendConfig(), RenderParameters("soundfont", seed=1, mix_only=True), Path(folder)
            )
        except InvalidRequest as error:
            return f"{midi.name}: {error}"
        done.result.mix.replace(out / f"{name}.flac")
    (out / f"{name}.timeline").write_bytes(done.facts.timeline.SerializeToString())
    return f"{midi.name}: {done.facts.duration_s:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    songs = sorted(path for folder in options.folders for path in folder.rglob("*.mid"))
    with ProcessPoolExecutor() as pool:
        for number, line in enumerate(pool.map(made, songs, [options.out] * len(songs)), start=1):
            print(f"{number}/{len(songs)} {line}", flush=True)


if __name__ == "__main__":
    main()

"""Mixes of MIDI files, and beside each what its notes prove: what `tests/bench/truth.py` measures estimators on.

    services/rendering/.venv/bin/python tests/bench/truth_songs.py OUT FOLDER [FOLDER ...]

Of each song OUT has <digest>.flac, <digest>.timeline (a luthier.common.v1.Timeline) and, where its form is known,
<digest>.sections (JSON: a list of label, start_s, end_s). The form is known of the songbook, which states it
(`truth.json` in its folder), and of files whose markers name its parts. Nothing else proves one: where instruments
enter or a melody comes back is a hint that estimators hear as well. Mixes that are in OUT already are kept.
"""

import argparse
import hashlib
import json
import re
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Final, TypedDict

import mido

from luthier_kit.rpc import InvalidRequest
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.midi import load_song
from luthier_rendering.render import RenderParameters, render_file
from luthier_rendering.smf import MidiLimits

PARTS_OF_A_FORM: Final = re.compile(
    r"(pre|post)?\W*(intro(duction)?|verse|chorus|refrain|bridge|interlude|elision|break(down)?|solo|theme|coda|outro"
    r"|ending|conclusion)\b",
    re.IGNORECASE,
)
MIN_MARKERS: Final = 4  # fewer are marks of something else, such as a loop's start and end
NAMED_SHARE: Final = 0.6  # of the markers, that must name a part of a form


class Section(TypedDict):
    """A part of a song's form: its name without a number, start and end in seconds."""

    label: str
    start_s: float
    end_s: float


def form_of(midi: Path) -> list[Section]:
    """The form that the songbook or the file's markers state; empty = unknown."""
    for folder in midi.parents:
        if (folder / "truth.json").exists():
            songs = {song["path"]: song for song in json.loads((folder / "truth.json").read_text(encoding="utf-8"))}
            stated = songs[midi.relative_to(folder).as_posix()]["sections"]
            return [Section(label=one["label"], start_s=one["start_s"], end_s=one["end_s"]) for one in stated]
    return marked_form(midi)


def marked_form(midi: Path) -> list[Section]:
    """The form by the file's markers (meta event 6), by a reader that is not ours; empty where they state none."""
    tick, markers = 0, []
    try:
        for message in mido.merge_tracks(mido.MidiFile(midi, clip=True).tracks):
            tick += message.time
            if message.type == "marker":
                markers.append((tick, message.text.strip()))
    except (OSError, ValueError, EOFError, KeyError, IndexError):  # what mido raises for files that it cannot read
        return []
    named = sum(bool(PARTS_OF_A_FORM.match(text)) for _, text in markers)
    if named < MIN_MARKERS or named < NAMED_SHARE * len(markers):
        return []
    song = load_song(midi.read_bytes(), MidiLimits())
    starts_s = song.tempo.to_seconds([tick for tick, _ in markers]).tolist()
    if markers[-1][1].lower() != "end":
        markers.append((tick, "end"))
        starts_s.append(song.music_end_s)
    return [
        Section(label=re.sub(r"[\d\s]+$", "", text).lower(), start_s=start, end_s=end)
        for (_, text), (start, end) in zip(markers, pairwise(starts_s), strict=False)
        if end > start
    ]


def made(midi: Path, out: Path) -> str:
    """Render a file into OUT, with what is known of it; what to say of it."""
    name = hashlib.sha256(midi.read_bytes()).hexdigest()[:16]
    if form := form_of(midi):
        (out / f"{name}.sections").write_text(json.dumps(form), encoding="utf-8")
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

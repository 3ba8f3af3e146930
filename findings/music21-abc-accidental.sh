#!/usr/bin/env bash
# In ABC an accidental holds to the end of its bar, as on paper. music21 applies it to the one note that carries it: "^F F F F" in C is
# read as F# F F F, "=F F" in D as F F#. A change of key inside a line, [K:D], is not heard at all. Most expect the best known reader
# of scores to play what the bar says; symusic, which asks abc2midi, does.
# Hurt: melodies, keys and chords taken from folk tune collections: blue notes and leading notes turn back in mid bar, modulating tunes
# lose their second key, and models trained on one reader are scored with the other.
# Printed:
#   "^FFFF|" in C: music21 10.5.1 [66, 65, 65, 65], symusic 0.6.0 [66, 66, 66, 66]
#   "=FFFF|" in D: music21 10.5.1 [65, 66, 66, 66], symusic 0.6.0 [65, 65, 65, 65]
#   "CFCF|[K:D]CFCF|" in C: music21 10.5.1 [60, 65, 60, 65, 60, 65, 60, 65], symusic 0.6.0 [60, 65, 60, 65, 61, 66, 61, 66]
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get music21==10.5.1 symusic==0.6.0
cd "$t" && v/bin/python -W ignore - <<'PY'
import contextlib, os, music21, symusic
from importlib.metadata import version
def by_music21(tune):
    return [note.pitch.midi for note in music21.converter.parse(tune, format="abc", forceSource=True).recurse().notes]
def by_symusic(tune):
    open("tune.abc", "w").write(tune)
    return [note.pitch for track in symusic.Score("tune.abc", fmt="abc").tracks for note in sorted(track.notes, key=lambda note: note.time)]
cases = {
    ("^FFFF|", "C"): ([66, 65, 65, 65], [66, 66, 66, 66]),
    ("=FFFF|", "D"): ([65, 66, 66, 66], [65, 65, 65, 65]),
    ("CFCF|[K:D]CFCF|", "C"): ([60, 65, 60, 65, 60, 65, 60, 65], [60, 65, 60, 65, 61, 66, 61, 66]),
}
for (body, key), expected in cases.items():
    tune = f"X:1\nT:tune\nM:4/4\nL:1/4\nK:{key}\n{body}\n"
    found = by_music21(tune), by_symusic(tune)
    print(f'"{body}" in {key}: music21 {version("music21")} {found[0]}, symusic {version("symusic")} {found[1]}', flush=True)
    assert found == expected, found
PY

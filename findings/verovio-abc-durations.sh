#!/usr/bin/env bash
# verovio reads ABC, but a triplet "(3GAB" sounds as three whole beats instead of thirds of two, and a length written after a chord,
# "[GBd]2", is dropped: the chord lasts one unit and all that follows comes early. No warning (other gaps of its reader are logged).
# Most expect what is engraved and played from a standard format to keep its rhythm, or to say that it does not.
# Hurt: MIDI and audio made from ABC collections: bars that do not add up, onsets that leave the beat, tempo and meter truth that is none.
# Printed (seconds at which notes begin, 120 quarters a minute):
#   triplet, then a quarter: verovio 6.4.1 [0.0, 0.5, 1.0, 1.5], music21 10.5.1 [0.0, 0.33, 0.67, 1.0]
#   chord of two quarters, then two notes: verovio 6.4.1 [0.0, 0.5, 1.0], music21 10.5.1 [0.0, 1.0, 1.5]
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get verovio==6.4.1 music21==10.5.1 mido==1.3.3
cd "$t" && v/bin/python -W ignore - <<'PY'
import base64, mido, music21, verovio
from importlib.metadata import version
def starts(path):
    now, found = 0.0, set()
    for message in mido.MidiFile(path):
        now += message.time
        if message.type == "note_on" and message.velocity:
            found.add(round(now, 2))
    return sorted(found)
def by_verovio(tune):
    toolkit = verovio.toolkit()
    toolkit.setInputFrom("abc")
    toolkit.loadData(tune)
    open("v.mid", "wb").write(base64.b64decode(toolkit.renderToMIDI()))
    return starts("v.mid")
def by_music21(tune):
    music21.converter.parse(tune, format="abc", forceSource=True).write("midi", "m.mid")
    return starts("m.mid")
head = "X:1\nT:tune\nM:4/4\nL:1/4\nK:G\n"
triplet, chord = head + "(3GAB G z|\n", head + "[GBd]2 A B|\n"
found = [by_verovio(triplet), by_music21(triplet), by_verovio(chord), by_music21(chord)]
v, m = (f"{name} {version(name)}" for name in ("verovio", "music21"))
print(f"triplet, then a quarter: {v} {found[0]}, {m} {found[1]}")
print(f"chord of two quarters, then two notes: {v} {found[2]}, {m} {found[3]}")
assert found == [[0.0, 0.5, 1.0, 1.5], [0.0, 0.33, 0.67, 1.0], [0.0, 0.5, 1.0], [0.0, 1.0, 1.5]], found
PY

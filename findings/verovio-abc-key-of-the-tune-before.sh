#!/usr/bin/env bash
# An ABC tune in C major or A minor that verovio reads keeps the key signature of the tune read before it in the same process, in a
# toolkit of its own as well: C D E F becomes C# D E F# after a tune in A major. The result depends on the order of the files and on how
# they are dealt out to workers. Most expect a new toolkit to know nothing of the last tune.
# Hurt: whoever converts a folk tune collection in one process: about every tune in C or A minor comes out in a wrong key, and a single
# file tried by hand is right, so the error cannot be found by trying.
# Printed:
#   verovio 6.4.1: C first [60, 62, 64, 65]
#   verovio 6.4.1: C after A major [61, 62, 64, 66]
#   verovio 6.4.1: A minor after E flat major [60, 62, 63, 65]
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get verovio==6.4.1 mido==1.3.3
cd "$t" && v/bin/python -W ignore - <<'PY'
import base64, io, mido, verovio
from importlib.metadata import version
def play(key):
    toolkit = verovio.toolkit()  # a new one for each tune
    toolkit.setInputFrom("abc")
    toolkit.loadData(f"X:1\nT:tune\nM:4/4\nL:1/4\nK:{key}\nCDEF|\n")
    midi = mido.MidiFile(file=io.BytesIO(base64.b64decode(toolkit.renderToMIDI())))
    return [message.note for message in midi if message.type == "note_on" and message.velocity]
first = play("C")
play("A")
after_a = play("C")
play("Eb")
after_e_flat = play("Am")
name = f"verovio {version('verovio')}"
print(f"{name}: C first {first}")
print(f"{name}: C after A major {after_a}")
print(f"{name}: A minor after E flat major {after_e_flat}")
assert first == [60, 62, 64, 65] and after_a == [61, 62, 64, 66] and after_e_flat == [60, 62, 63, 65]
PY

#!/usr/bin/env bash
# rapidfuzz's process.extract scores with WRatio, which weighs a title that is contained in another with 0.9, but with 0.6 once the
# other is eight times as long. So the live version of the very song loses to another song that merely starts with the same letters,
# and a long remaster note alone moves a right match from 90 to 60, below every usual cutoff. Most expect a longer bracket to cost less than
# another title.
# Hurt: matching MIDI file names to the titles of a music catalogue: short titles get the tempo, genre and year of another song.
# Printed:
#   rapidfuzz 3.14.6: 'Creep' -> 'Creeping Death' 90, 'Creep (Live at the Astoria, London, May 1994)' 60
#   rapidfuzz 3.14.6: 'Hurt' -> 'Hurting Kind' 90, 'Hurt (Live at the Long Beach Arena)' 60
#   rapidfuzz 3.14.6: 'One' -> 'One More Time' 90, 'One (Remastered 2018, Single Version)' 60
#   rapidfuzz 3.14.6: 'Hurt' -> 'Hurt (Live at Long Beach)' 90
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get rapidfuzz==3.14.6
cd "$t" && v/bin/python -W ignore - <<'PY'
from importlib.metadata import version
from rapidfuzz import process
cases = {
    "Creep": ["Creep (Live at the Astoria, London, May 1994)", "Creeping Death"],
    "Hurt": ["Hurt (Live at the Long Beach Arena)", "Hurting Kind"],
    "One": ["One (Remastered 2018, Single Version)", "One More Time"],
}
name = f"rapidfuzz {version('rapidfuzz')}"
for query, titles in cases.items():
    ranked = process.extract(query, titles)
    print(f"{name}: {query!r} -> " + ", ".join(f"{title!r} {score:.0f}" for title, score, _ in ranked))
    assert [title for title, _, _ in ranked] == titles[::-1] and [score for _, score, _ in ranked] == [90, 60], ranked
title, score, _ = process.extractOne("Hurt", ["Hurt (Live at Long Beach)"])
print(f"{name}: 'Hurt' -> {title!r} {score:.0f}")
assert score == 90
PY

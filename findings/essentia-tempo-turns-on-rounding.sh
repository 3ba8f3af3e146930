#!/usr/bin/env bash
# essentia's RhythmExtractor2013 (multifeature) hears another tempo when an offset or noise of -140 dBFS is added, less than the last of
# 24 bits: clicks of 180 BPM over digital silence read 184.6 BPM, over that floor 89.9. Most expect a beat tracker to depend on what can
# be heard. Clicks of 150 BPM move by 2 BPM likewise; 120 stays. `degara` stays at 184.6.
# Hurt: tempo facts of rendered or edited audio, which is silent to the bit between notes: dither, a lossy copy, a DC offset or another order of
# summing channels halves the tempo, so re-analysis disagrees with the data set's labels, and caches by content see two songs.
# Printed:
#   essentia 2.1b6.dev1389, clicks of 180 BPM: as they are 184.6, offset of 1e-7 89.9, noise of 1e-7 89.9
#   essentia 2.1b6.dev1389, clicks of 150 BPM: as they are 152.0, offset of 1e-7 150.0, noise of 1e-7 150.0
#   essentia 2.1b6.dev1389, clicks of 120 BPM: as they are 120.0, offset of 1e-7 119.9, noise of 1e-7 119.9
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 essentia==2.1b6.dev1389
cd "$t" && v/bin/python -W ignore - <<'PY'
import numpy as np, essentia
essentia.log.infoActive = essentia.log.warningActive = False
import essentia.standard
from importlib.metadata import version
RATE = 44100
time = np.arange(round(0.08 * RATE)) / RATE
def clicks(bpm):
    """20 s of clicks of 80 ms, each fourth one higher; zeros between them."""
    track = np.zeros(20 * RATE)
    for beat, start in enumerate(np.arange(0.1, 19.8, 60 / bpm)):
        click = 0.5 * np.sin(2 * np.pi * (1500 if beat % 4 else 2200) * time) * np.exp(-60 * time) * np.minimum(1, time / 0.003)
        track[round(start * RATE):][: len(click)] += click
    return track
def heard(track):
    return float(essentia.standard.RhythmExtractor2013(method="multifeature")(track.astype(np.float32))[0])
noise, found = np.random.default_rng(0).standard_normal(20 * RATE), {}
for bpm in (180, 150, 120):
    track = clicks(bpm)
    found[bpm] = [heard(track), heard(track + 1e-7), heard(track + 1e-7 * noise)]
    text = "as they are {:.1f}, offset of 1e-7 {:.1f}, noise of 1e-7 {:.1f}".format(*found[bpm])
    print(f"essentia {version('essentia')}, clicks of {bpm} BPM: {text}")
assert found[180][0] > 175 and all(abs(tempo - 90) < 1 for tempo in found[180][1:]), found
assert all(abs(tempo - 120) < 1 for tempo in found[120]), found
PY

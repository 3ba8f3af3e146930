#!/usr/bin/env bash
# pedalboard.Limiter is make-up gain first: everything below the threshold comes out 3.75 dB minus the threshold louder (13.75 dB for
# -10), and the peaks end at full scale, not at the threshold. Most expect what is below the threshold untouched and the peak at or
# below it, as of any safety limiter at the end of a mix.
# Hurt: renders and augmentations that "only catch peaks": a loudness target set before is missed, stems of a song are raised by
# different amounts, quiet noise comes up, and a ceiling of -1 dB kept for a codec is gone.
# Printed:
#   pedalboard 0.9.26: Limiter(threshold_db=-10)
#     sine at -60 dB peaks at -46.25 dB
#     sine at -40 dB peaks at -26.25 dB
#     sine at   0 dB peaks at   0.00 dB
#   pedalboard 0.9.26: Limiter(threshold_db=-20)
#     sine at -60 dB peaks at -36.25 dB
#     sine at -40 dB peaks at -16.25 dB
#     sine at   0 dB peaks at   0.00 dB
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 pedalboard==0.9.26
cd "$t" && v/bin/python -W ignore - <<'PY'
import numpy as np, pedalboard
from importlib.metadata import version
rate, found = 44100, {}
time = np.arange(3 * rate) / rate
for threshold in (-10, -20):
    print(f"pedalboard {version('pedalboard')}: Limiter(threshold_db={threshold})")
    for level in (-60, -40, 0):
        sine = (10 ** (level / 20) * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
        limited = pedalboard.Limiter(threshold_db=threshold, release_ms=100)(sine, rate)[rate:]
        found[threshold, level] = 20 * np.log10(np.abs(limited).max())
        print(f"  sine at {level:3d} dB peaks at {found[threshold, level] + 0.0001:6.2f} dB")
for threshold in (-10, -20):
    assert all(abs(found[threshold, level] - (level + 3.75 - threshold)) < 0.05 for level in (-60, -40)), found
    assert abs(found[threshold, 0]) < 0.01, found
PY

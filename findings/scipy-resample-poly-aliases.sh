#!/usr/bin/env bash
# scipy.signal.resample_poly says that it applies an anti-aliasing filter. By default that filter is 6 dB down at the new Nyquist
# frequency and needs a fifth of the band more to be gone: from 48 to 44.1 kHz a tone of 23 kHz comes back as one of 21.1 kHz, 11 dB
# down, and 20 kHz is 0.8 dB low already. Most expect what cannot be held to be gone. torchaudio 2.11's resample does the same (-9 dB).
# Hurt: data sets from 48 kHz masters: cymbals and "air" are folded into the top of the band, inharmonic, and models learn it.
# Printed (level of a full-scale sine after resampling from 48 to 44.1 kHz):
#   scipy 1.17.1 resample_poly:   1 kHz    0.0 dB, 20 kHz   -0.8 dB, 23 kHz  -11.1 dB at 21100 Hz
#   soxr 1.1.0 HQ:                1 kHz   -0.0 dB, 20 kHz   -0.0 dB, 23 kHz -135.1 dB
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 scipy==1.17.1 soxr==1.1.0
cd "$t" && v/bin/python -W ignore - <<'PY'
import numpy as np, scipy.signal, soxr
from importlib.metadata import version
def heard(resample, hertz):
    """Level in dB over the sine that went in, and the frequency of what came out; the edges left out."""
    sine = np.sin(2 * np.pi * hertz * np.arange(4 * 48000) / 48000).astype(np.float32)
    out = resample(sine)[44100:-44100].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(out * np.hanning(len(out))))
    return 20 * np.log10(np.sqrt(2 * np.mean(out**2)) + 1e-12), np.argmax(spectrum) * 44100 / len(out)
found = {}
for name, resample in ((f"scipy {version('scipy')} resample_poly", lambda x: scipy.signal.resample_poly(x, 147, 160)),
                       (f"soxr {version('soxr')} HQ", lambda x: soxr.resample(x, 48000, 44100, quality="HQ"))):
    found[name] = levels = {hertz: heard(resample, hertz) for hertz in (1000, 20000, 23000)}
    text = ", ".join(f"{hertz // 1000:2d} kHz {level:6.1f} dB" for hertz, (level, _) in levels.items())
    print(f"{name + ':':28} {text}" + (f" at {levels[23000][1]:.0f} Hz" if levels[23000][0] > -60 else ""))
scipys, soxrs = found.values()
assert -13 < scipys[23000][0] < -7 and abs(scipys[23000][1] - 21100) < 5 and scipys[20000][0] < -0.4
assert soxrs[23000][0] < -100 and abs(soxrs[20000][0]) < 0.02
PY

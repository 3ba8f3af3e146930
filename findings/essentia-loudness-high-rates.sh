#!/usr/bin/env bash
# essentia's LoudnessEBUR128 takes a sample rate, but its weighting filter is numerically unstable above 64 kHz: at 96 kHz everything
# measures -70 LUFS (as silence does; the blocks are NaN), at 88.2 kHz a bass note reads 8 LU low, at 176.4 kHz a tone of -23 reads +14.
# No warning. Most expect an implementation of BS.1770 that accepts a rate to be right at it; pyloudnorm is, at all of these.
# Hurt: high resolution masters and stems: loud songs are dropped as silent, or pushed by 50 dB by a loudness normaliser.
# Printed (LUFS of a stereo sine of -23 dB, pyloudnorm in brackets; the last line varies with rounding):
#   essentia 2.1b6.dev1389 at  44100 Hz: 1 kHz -22.99 [-23.04], 100 Hz -24.99 [-24.86]
#   essentia 2.1b6.dev1389 at  48000 Hz: 1 kHz -22.99 [-23.03], 100 Hz -24.76 [-24.86]
#   essentia 2.1b6.dev1389 at  88200 Hz: 1 kHz -23.01 [-23.03], 100 Hz -32.63 [-24.86]
#   essentia 2.1b6.dev1389 at  96000 Hz: 1 kHz -70.00 [-23.03], 100 Hz -70.00 [-24.86]
#   essentia 2.1b6.dev1389 at 176400 Hz: 1 kHz 13.54 [-23.03], 100 Hz 25.26 [-24.86]
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 essentia==2.1b6.dev1389 pyloudnorm==0.2.0
cd "$t" && v/bin/python -W ignore - <<'PY'
import numpy as np, pyloudnorm, essentia
essentia.log.infoActive = essentia.log.warningActive = False
import essentia.standard
from importlib.metadata import version
found = {}
for rate in (44100, 48000, 88200, 96000, 176400):
    line = []
    for hertz, name in ((1000, "1 kHz"), (100, "100 Hz")):
        sine = 10 ** (-23 / 20) * np.sin(2 * np.pi * hertz * np.arange(20 * rate) / rate)
        stereo = np.stack([sine, sine], axis=1).astype(np.float32)
        loudness = essentia.standard.LoudnessEBUR128(sampleRate=rate)(stereo)[2]
        reference = pyloudnorm.Meter(rate).integrated_loudness(stereo.astype(np.float64))
        found[rate, hertz] = loudness - reference
        line.append(f"{name} {loudness:.2f} [{reference:.2f}]")
    print(f"essentia {version('essentia')} at {rate:6d} Hz: {', '.join(line)}")
assert all(abs(found[rate, hertz]) < 0.2 for rate in (44100, 48000) for hertz in (1000, 100)), found
assert found[88200, 100] < -5 and found[96000, 1000] < -40 and min(found[176400, hertz] for hertz in (100, 1000)) > 15, found
PY

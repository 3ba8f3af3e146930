#!/usr/bin/env bash
# Samples of 16 bit that are written to a file are those that are read from it, but for what the codec loses: people expect so of
# soundfile.write, whose MP3 writer (libsndfile by LAME) takes float32, float64, int16 and int32. Stereo int16 comes out as loud
# noise at full scale; mono int16, and stereo of the other types, as what they are. No error, no warning.
# Hurt: whoever converts 16-bit recordings to MP3 to share or to augment a data set; a tone's own share of the spectrum falls to 1 %.
# Our own code (inference's MP3, and tests/e2e/test_external.py, which makes some to be decoded) writes floats.
# Printed:
#   soundfile 0.14.0, libsndfile 1.2.2
#   1 channels, float32: peak 0.256, share of the tone 0.87
#   1 channels, int16: peak 0.256, share of the tone 0.87
#   2 channels, float32: peak 0.253, share of the tone 0.90
#   2 channels, int16: peak 1.235, share of the tone 0.01 (another peak each time)
#   2 channels, int32: peak 0.253, share of the tone 0.90
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 soundfile==0.14.0
cd "$t" && v/bin/python -W ignore - <<'PY'
import numpy as np, soundfile
print(f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}".replace(", ", ", libsndfile "))
tone = 0.25 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
shares = {}
for channels, kind in ((1, "float32"), (1, "int16"), (2, "float32"), (2, "int16"), (2, "int32")):
    scale = np.iinfo(kind).max if kind.startswith("int") else 1
    soundfile.write("tone.mp3", np.repeat((tone * scale).astype(kind)[:, None], channels, axis=1), 44100)
    read, _ = soundfile.read("tone.mp3", always_2d=True)
    spectrum = np.abs(np.fft.rfft(read[:44100, 0]))
    shares[channels, kind] = share = spectrum[435:446].sum() / spectrum.sum()
    print(f"{channels} channels, {kind}: peak {np.abs(read).max():.3f}, share of the tone {share:.2f}")
noise = shares.pop((2, "int16"))
assert noise < 0.1 and min(shares.values()) > 0.8
PY

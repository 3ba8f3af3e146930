#!/usr/bin/env bash
# torchaudio's loudness (BS.1770) weights by biquads that, as all of torchaudio's, cut their output to [-1, 1]. The weighting raises
# treble by 4 dB, so loud bright audio is cut inside the meter though no sample of it is above full scale; float audio beyond full scale,
# as models give it, is cut to a square. No warning. Most expect a meter of float audio to follow a gain: 12 dB more read 12 LU more.
# Hurt: loudness normalisation of generated audio (that of several music models is this meter): what reads low is turned up, the more so
# the louder and brighter it was, and of two takes with equal readings one is audibly louder.
# Printed (LUFS; pyloudnorm in brackets):
#   torchaudio 2.11.0, pyloudnorm 0.2.0
#   sine of 8 kHz: at half scale -2.72 [-2.72], at full scale 0.56 [3.31]
#   white noise: at half scale -4.68 [-4.68], at full scale -0.26 [1.34]
#   sine of 1 kHz: at half scale -6.06 [-6.06], at four times full scale 1.64 [12.01]
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get torch==2.11.0 torchaudio==2.11.0 pyloudnorm==0.2.0 numpy==2.4.6
cd "$t" && v/bin/python -W ignore - <<'PY'
import numpy as np, pyloudnorm, torch, torchaudio
from importlib.metadata import version
rate = 48000
seconds = np.arange(5 * rate) / rate
stereo = lambda side: np.stack([side, side], axis=1)
def read(audio):
    """LUFS of float32 audio [sample, channel] by torchaudio, by pyloudnorm."""
    audio = audio.astype(np.float32)
    return (torchaudio.functional.loudness(torch.from_numpy(audio.T.copy()), rate).item(),
            float(pyloudnorm.Meter(rate).integrated_loudness(audio.astype(float))))
print(f"torchaudio {version('torchaudio').split('+')[0]}, pyloudnorm {version('pyloudnorm')}")
for name, audio, gain, words, low in (
    ("sine of 8 kHz", stereo(np.sin(2 * np.pi * 8000 * seconds)), 1, "full scale", 2.5),
    ("white noise", np.random.default_rng(0).uniform(-1, 1, (seconds.size, 2)), 1, "full scale", 1.3),
    ("sine of 1 kHz", stereo(np.sin(2 * np.pi * 1000 * seconds)), 4, "four times full scale", 10),
):
    (half, half_other), (loud, other) = read(0.5 * audio), read(gain * audio)
    print(f"{name}: at half scale {half:.2f} [{half_other:.2f}], at {words} {loud:.2f} [{other:.2f}]")
    assert abs(half - half_other) < 0.1 and other - loud > low, (half, half_other, loud, other)
    assert abs(other - half_other - 20 * np.log10(2 * gain)) < 0.1, (half_other, other)  # closed form: a gain is a gain
PY

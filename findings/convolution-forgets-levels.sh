#!/usr/bin/env bash
# Convolution with an impulse response that is one single sample should return its input, and a response half as strong half of it.
# pedalboard scales every response to one energy (a unit impulse comes out 18.06 dB down, whatever its height); audiomentations sets the
# peak of every result to 0.5, whatever the level of the input. Most expect plain convolution.
# Hurt: sets of room responses whose near and far levels carry the distance (all rooms become equally loud), stems that are convolved
# one by one and then mixed (their balance is lost), augmentation that was meant to leave loudness alone.
# Printed:
#   pedalboard 0.9.26: sine of 0.10 through an impulse of 1.0 -> 0.0125, through an impulse of 0.5 -> 0.0125
#   audiomentations 0.43.1: through an impulse of 0.5, sine of 0.10 -> 0.500, sine of 0.01 -> 0.500
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 pedalboard==0.9.26 audiomentations==0.43.1
cd "$t" && v/bin/python -W ignore - <<'PY'
import numpy as np, pedalboard, wave
from audiomentations import ApplyImpulseResponse
from importlib.metadata import version
rate = 44100
def impulse(height):
    samples = np.zeros(1000, np.int16)
    samples[0] = round(height * 32767)
    with wave.open(f"impulse-{height}.wav", "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(rate), file.writeframes(samples.tobytes())
    return f"impulse-{height}.wav"
sine = np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate).astype(np.float32)
peak = lambda audio: float(np.abs(audio[rate // 2:]).max())
board = [peak(pedalboard.Convolution(impulse(height), mix=1.0)(0.1 * sine, rate)) for height in (1.0, 0.5)]
augmented = [peak(ApplyImpulseResponse(impulse(0.5), p=1.0)(level * sine, rate)) for level in (0.1, 0.01)]
name = f"pedalboard {version('pedalboard')}"
print(f"{name}: sine of 0.10 through an impulse of 1.0 -> {board[0]:.4f}, through an impulse of 0.5 -> {board[1]:.4f}")
name = f"audiomentations {version('audiomentations')}"
print(f"{name}: through an impulse of 0.5, sine of 0.10 -> {augmented[0]:.3f}, sine of 0.01 -> {augmented[1]:.3f}")
assert all(abs(value - 0.0125) < 1e-4 for value in board), board
assert all(abs(value - 0.5) < 1e-3 for value in augmented), augmented
PY

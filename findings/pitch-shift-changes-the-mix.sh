#!/usr/bin/env bash
# Shifting pitch or stretching time is taken to leave levels alone. librosa's phase vocoder takes 3 to 5 LU from drums and noise and under
# one from tones; pedalboard's (Rubber Band) takes about 2 from drums and adds 1.7 to a tone. librosa's stretched drum hits also move
# off their places by up to 23 ms, to both sides. Most expect at most a decibel and a few milliseconds.
# Hurt: augmentation of stems: with either library one key change sets the drums about 4 LU back against the bass, so mixes made again
# from shifted stems have another balance and loudness labels no longer hold; onset truth scaled by the rate misses a window of 20 ms.
# Printed (LU against the input):
#   librosa 0.11.0: 4 semitones up: drums -4.4, tone -0.6; at 1.25 times the speed: drums -3.6, tone 0.0
#   pedalboard 0.9.26: 4 semitones up: drums -2.0, tone 1.7; at 1.25 times the speed: drums -1.1, tone 0.0
#   librosa 0.11.0: clicks stretched to 1.25 of their length are off by up to 23 ms
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 librosa==0.11.0 pedalboard==0.9.26 pyloudnorm==0.2.0
cd "$t" && v/bin/python -W ignore - <<'PY'
import librosa, numpy as np, pedalboard, pyloudnorm
from importlib.metadata import version
rate = 44100
time = np.arange(4 * rate) / rate
drums = (0.3 * np.random.default_rng(0).standard_normal(4 * rate) * np.exp(-30 * (time % 0.25))).astype(np.float32)
tone = sum(0.1 / partial * np.sin(2 * np.pi * 220 * partial * time) for partial in range(1, 8)).astype(np.float32)
meter = pyloudnorm.Meter(rate)
def change(after, before):
    return meter.integrated_loudness(np.squeeze(after).astype(np.float64)) - meter.integrated_loudness(before.astype(np.float64))
tools = {
    "librosa": (lambda audio: librosa.effects.pitch_shift(audio, sr=rate, n_steps=4),
                lambda audio: librosa.effects.time_stretch(audio, rate=1.25)),
    "pedalboard": (lambda audio: pedalboard.time_stretch(audio, rate, 1.0, 4.0),
                   lambda audio: pedalboard.time_stretch(audio, rate, 1.25)),
}
found = {}
for name, (shift, stretch) in tools.items():
    found[name] = [change(effect(audio), audio) for effect in (shift, stretch) for audio in (drums, tone)]
    up, faster = ("drums {:.1f}, tone {:.1f}".format(*(round(value, 1) + 0.0 for value in pair)) for pair in (found[name][:2], found[name][2:]))
    print(f"{name} {version(name)}: 4 semitones up: {up}; at 1.25 times the speed: {faster}")
clicks = np.zeros(4 * rate, np.float32)
places = [1000 + beat * rate // 2 for beat in range(8)]
for place in places:
    clicks[place:place + 10] = 0.8
stretched = np.abs(librosa.effects.time_stretch(clicks, rate=0.8))
off = 0.0
for place in places[1:7]:
    due = round(place / 0.8)
    off = max(off, abs(int(np.argmax(stretched[due - 4000:due + 4000])) - 4000) / rate * 1000)
print(f"librosa {version('librosa')}: clicks stretched to 1.25 of their length are off by up to {off:.0f} ms")
assert found["librosa"][0] < -3.5 and found["librosa"][1] > -1 and found["librosa"][2] < -2.5, found
assert found["pedalboard"][0] < -1.3 and found["pedalboard"][1] > 1.2 and off > 15, (found, off)
PY

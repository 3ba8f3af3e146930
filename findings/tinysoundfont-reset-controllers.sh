#!/usr/bin/env bash
# "Reset all controllers" (controller 121) has a recommended practice of its own (MMA RP-015): bend, expression, modulation and
# pedals go back; volume, pan, bank and the range of the bend stay as they are. TinySoundFont turns it round: volume, pan and the
# range of the bend are reset, and the bend, which should be centred, stays.
# Hurt: sequencers send 121 at every stop and loop point, so it stands in many files. From there on a quiet part plays 34 dB too loud,
# everything sits in the middle, and a part whose bend was left off centre is out of tune: rendered data sets get other mixes than
# their MIDI files say, and nothing warns.
# Printed:
#   tinysoundfont 0.3.7: before and after reset all controllers
#     volume 30, pan left:  -63.1 dB left,  -89.9 dB right; then  -28.9,  -29.3 (should stay)
#     bend half way up:     467.0 Hz; then  466.9 (should be 440.0)
#     range 12, 121, bend:  467.0 Hz (should be 622.3: the range stays)
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6
get --no-deps tinysoundfont==0.3.7 pretty_midi==0.2.11.post0  # the first wants an audio device, the second brings a SoundFont
cd "$t" && v/bin/python -W ignore - <<'PY'
import glob, numpy as np, tinysoundfont
from importlib.metadata import version
rate = 44100
def organ(before, after=()):
    """Level in dB left and right and pitch in Hz of a held organ note (A4), once `before` was sent, and once `after` was sent, too."""
    synth = tinysoundfont.Synth(samplerate=rate)
    synth.program_select(0, synth.sfload(glob.glob("v/lib/*/site-packages/pretty_midi/*.sf2")[0]), 0, 19)
    for message in before: message(synth)
    synth.noteon(0, 69, 100)
    heard = []
    for messages in ((), after):
        for message in messages: message(synth)
        sound = np.frombuffer(synth.generate(2 * rate), np.float32).reshape(-1, 2)[rate:].astype(float)
        left, right = (10 * np.log10(np.mean(side**2) + 1e-9) for side in sound.T)
        spectrum = np.abs(np.fft.rfft(sound.sum(axis=1) * np.hanning(rate), 8 * rate))
        at = np.arange(spectrum.size) / 8
        near = (at > 380) & (at < 560)
        heard.append((left, right, at[near][spectrum[near].argmax()]))
    return heard
control = lambda number, value: lambda synth: synth.control_change(0, number, value)
bend = lambda synth: synth.pitchbend(0, 12288)  # half way up
reset = [control(121, 0)]
print(f"tinysoundfont {version('tinysoundfont')}: before and after reset all controllers")
quiet, loud = organ([control(7, 30), control(10, 0)], reset)
print(f"  volume 30, pan left: {quiet[0]:6.1f} dB left, {quiet[1]:6.1f} dB right; then {loud[0]:6.1f}, {loud[1]:6.1f} (should stay)")
(_, _, bent), (_, _, still) = organ([bend], reset)
print(f"  bend half way up:    {bent:6.1f} Hz; then {still:6.1f} (should be 440.0)")
wide = [control(101, 0), control(100, 0), control(6, 12), *reset, bend]
(_, _, ranged), _ = organ(wide)
print(f"  range 12, 121, bend: {ranged:6.1f} Hz (should be {440 * 2 ** 0.5:.1f}: the range stays)")
assert loud[0] - quiet[0] > 20 and quiet[0] - quiet[1] > 20 and abs(loud[0] - loud[1]) < 1, (quiet, loud)
assert abs(bent - still) < 1 and bent > 460, (bent, still)
assert abs(ranged - bent) < 2, (ranged, bent)
PY

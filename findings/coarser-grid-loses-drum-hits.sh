#!/usr/bin/env bash
# Drum hits are written short, a few ticks of 480 a beat. Brought to 24 steps a beat, the usual grid of models, by muspy's
# adjust_resolution or by symusic's resample, they get a length of 0; the MIDI file written then reads full in one library and without
# them in another: pretty_midi leaves notes of length 0 out. Most expect a note to last at least one step.
# Hurt: symbolic data sets and renders by way of a grid: whole hi-hat parts are gone, and which ones depends on who reads.
# Printed (hi-hats of 8 ticks and kicks of 232, 8 of each):
#   muspy 0.5.0: lengths [0, 12]; the written file read by symusic 16 notes, by pretty_midi 8
#   symusic 0.6.0: lengths [0, 12]; the written file read by symusic 16 notes, by pretty_midi 8
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get muspy==0.5.0 symusic==0.6.0 pretty_midi==0.2.11.post0 mido==1.3.3 numpy==2.4.6
cd "$t" && v/bin/python -W ignore - <<'PY'
import mido, muspy, pretty_midi, symusic
from importlib.metadata import version
track = mido.MidiTrack()
for _ in range(8):
    for key, length in ((42, 8), (36, 232)):
        track += [mido.Message("note_on", channel=9, note=key, velocity=90, time=0), mido.Message("note_off", channel=9, note=key, time=length)]
mido.MidiFile(ticks_per_beat=480, tracks=[track]).save("drums.mid")
assert sum(len(part.notes) for part in pretty_midi.PrettyMIDI("drums.mid").instruments) == 16
music = muspy.read_midi("drums.mid")
music.adjust_resolution(24)
muspy.write_midi("muspy.mid", music)
score = symusic.Score("drums.mid").resample(24)
score.dump_midi("symusic.mid")
lengths = {"muspy": {note.duration for note in music.tracks[0].notes}, "symusic": {note.duration for note in score.tracks[0].notes}}
for name, found in lengths.items():
    full = sum(len(part.notes) for part in symusic.Score(f"{name}.mid").tracks)
    heard = sum(len(part.notes) for part in pretty_midi.PrettyMIDI(f"{name}.mid").instruments)
    print(f"{name} {version(name)}: lengths {sorted(found)}; the written file read by symusic {full} notes, by pretty_midi {heard}")
    assert min(found) == 0 and full == 16 and heard == 8
PY

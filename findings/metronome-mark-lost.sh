#!/usr/bin/env bash
# A metronome mark says which note is the beat. "Dotted quarter = 80" is 120 quarters a minute; verovio plays it at 106.7 (and dotted
# half = 60 at 160 instead of 180). partitura reads no mark at all where there is no <sound tempo> beside it: quarter = 100 becomes 120.
# No warning. Most expect the mark to be plain arithmetic that all readers share.
# Hurt: tempo labels and durations of scores, in 6/8, 9/8 and 12/8 above all (jigs, ballads): 11 to 20 percent off, past any tolerance
# that tempo scores use.
# Printed (quarters per minute in the MIDI written):
#   dotted quarter = 80 in MusicXML (is 120): verovio 6.4.1 106.7
#   dotted half = 60 in MusicXML (is 180): verovio 6.4.1 160.0
#   quarter = 100 in MusicXML (is 100): verovio 6.4.1 100.0, music21 10.5.1 100.0, partitura 1.9.0 120.0
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 mido==1.3.3 music21==10.5.1 partitura==1.9.0 verovio==6.4.1
cd "$t" && v/bin/python -W ignore - <<'PY'
import base64, io, mido, music21, partitura, verovio
from importlib.metadata import version
def musicxml(unit, dotted, per_minute):
    note = "<note><pitch><step>C</step><octave>5</octave></pitch><duration>3</duration><voice>1</voice><type>quarter</type><dot/></note>"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">
<score-partwise version="4.0"><part-list><score-part id="P1"><part-name>Flute</part-name></score-part></part-list><part id="P1">
<measure number="1"><attributes><divisions>2</divisions><key><fifths>0</fifths></key><time><beats>6</beats><beat-type>8</beat-type></time>
<clef><sign>G</sign><line>2</line></clef></attributes><direction placement="above"><direction-type><metronome><beat-unit>{unit}</beat-unit>
{"<beat-unit-dot/>" if dotted else ""}<per-minute>{per_minute}</per-minute></metronome></direction-type></direction>{note}{note}</measure>
</part></score-partwise>"""
def tempo(path):
    return round(next(mido.tempo2bpm(message.tempo) for message in mido.MidiFile(path) if message.type == "set_tempo"), 1)
def by_verovio(data):
    toolkit = verovio.toolkit()
    toolkit.loadData(data)
    open("v.mid", "wb").write(base64.b64decode(toolkit.renderToMIDI()))
    return tempo("v.mid")
def by_music21(data):
    music21.converter.parse(data, format="musicxml", forceSource=True).write("midi", "m.mid")
    return tempo("m.mid")
def by_partitura(data):
    open("p.musicxml", "w").write(data)
    partitura.save_score_midi(partitura.load_score("p.musicxml"), "p.mid")
    return tempo("p.mid")
v, m, p = (f"{name} {version(name)}" for name in ("verovio", "music21", "partitura"))
plain = musicxml("quarter", False, 100)
found = [by_verovio(musicxml("quarter", True, 80)), by_verovio(musicxml("half", True, 60)),
         by_verovio(plain), by_music21(plain), by_partitura(plain)]
print(f"dotted quarter = 80 in MusicXML (is 120): {v} {found[0]}")
print(f"dotted half = 60 in MusicXML (is 180): {v} {found[1]}")
print(f"quarter = 100 in MusicXML (is 100): {v} {found[2]}, {m} {found[3]}, {p} {found[4]}")
assert found == [106.7, 160.0, 100.0, 100.0, 120.0], found
PY

#!/usr/bin/env bash
# MusicXML counts MIDI programs from 1, MIDI from 0. muspy takes the number as it stands: every instrument of a MusicXML score becomes
# the next one of General MIDI (a flute a recorder, an acoustic bass a fingered electric one, a distorted guitar harmonics), also in the
# MIDI that it writes. A part whose notes name their instrument, as drum parts do, is refused with an error. Most expect the reader
# of a format to know where it counts from, as music21 and verovio do.
# Hurt: instrument labels and renders of score data sets read by muspy; the neighbours are plausible, so nobody hears an error.
# Printed:
#   MusicXML says 74 (General MIDI's flute, program 73 in a MIDI file)
#   muspy 0.5.0: program 74 (Recorder)
#   music21 10.5.1: program 73
#   verovio 6.4.1: program 73
#   muspy 0.5.0: notes that name their instrument: MusicXMLError
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 muspy==0.5.0 music21==10.5.1 verovio==6.4.1 mido==1.3.3
cd "$t" && v/bin/python -W ignore - <<'PY'
import base64, mido, music21, muspy, verovio
from importlib.metadata import version
def score(note_instrument=""):
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">
<score-partwise version="4.0"><part-list><score-part id="P1"><part-name>Flute</part-name>
<score-instrument id="P1-I1"><instrument-name>Flute</instrument-name></score-instrument>
<midi-instrument id="P1-I1"><midi-channel>1</midi-channel><midi-program>74</midi-program></midi-instrument></score-part></part-list>
<part id="P1"><measure number="1"><attributes><divisions>1</divisions><key><fifths>0</fifths></key><time><beats>4</beats>
<beat-type>4</beat-type></time><clef><sign>G</sign><line>2</line></clef></attributes><note><pitch><step>C</step><octave>5</octave></pitch>
<duration>4</duration>{note_instrument}<voice>1</voice><type>whole</type></note></measure></part></score-partwise>"""
open("flute.musicxml", "w").write(score())
open("named.musicxml", "w").write(score('<instrument id="P1-I1"/>'))
def program(path):
    return next(message.program for message in mido.MidiFile(path) if message.type == "program_change")
muspy.write_midi("muspy.mid", muspy.read_musicxml("flute.musicxml"))
music21.converter.parse("flute.musicxml", forceSource=True).write("midi", "music21.mid")
toolkit = verovio.toolkit()
toolkit.loadData(score())
open("verovio.mid", "wb").write(base64.b64decode(toolkit.renderToMIDI()))
found = {name: program(f"{name}.mid") for name in ("muspy", "music21", "verovio")}
print("MusicXML says 74 (General MIDI's flute, program 73 in a MIDI file)")
for name, number in found.items():
    print(f"{name} {version(name)}: program {number}" + (" (Recorder)" if number == 74 else ""))
try:
    muspy.read_musicxml("named.musicxml")
    refusal = "read"
except Exception as error:
    refusal = type(error).__name__
print(f"muspy {version('muspy')}: notes that name their instrument: {refusal}")
assert found == {"muspy": 74, "music21": 73, "verovio": 73} and refusal == "MusicXMLError"
PY

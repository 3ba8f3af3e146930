#!/usr/bin/env bash
# A clarinet in B flat is written a tone above what it sounds; MusicXML says so in <transpose>. Of four converters to MIDI, music21 and
# partitura write the written pitch (72 sounds, 74 is written), without a word; muspy and verovio write the sounding one. Most expect
# MIDI to hold what is heard.
# Hurt: rendered scores and the keys and chords taken from them: clarinets, trumpets, saxophones and horns play 2, 9 or 7 semitones off
# against the strings, and one score gives two truths in two data sets. (music21 has toSoundingPitch, to be called first.)
# Printed:
#   music21 10.5.1: [74, 76]
#   partitura 1.9.0: [74, 76]
#   muspy 0.5.0: [72, 74]
#   verovio 6.4.1: [72, 74]
#   music21 after toSoundingPitch: [72, 74]
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 mido==1.3.3 music21==10.5.1 partitura==1.9.0 muspy==0.5.0 verovio==6.4.1
cd "$t" && v/bin/python -W ignore - <<'PY'
import base64, io, mido, music21, muspy, partitura, verovio
from importlib.metadata import version
note = "<note><pitch><step>{}</step><octave>5</octave></pitch><duration>2</duration><voice>1</voice><type>half</type></note>"
score = f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">
<score-partwise version="4.0"><part-list><score-part id="P1"><part-name>Clarinet in Bb</part-name>
<score-instrument id="P1-I1"><instrument-name>Clarinet in Bb</instrument-name></score-instrument></score-part></part-list>
<part id="P1"><measure number="1"><attributes><divisions>1</divisions><key><fifths>2</fifths></key><time><beats>4</beats>
<beat-type>4</beat-type></time><clef><sign>G</sign><line>2</line></clef>
<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose></attributes>
{note.format("D")}{note.format("E")}</measure></part></score-partwise>"""
open("clarinet.musicxml", "w").write(score)
def pitches(path):
    return [message.note for message in mido.MidiFile(path) if message.type == "note_on" and message.velocity]
def with_verovio():
    toolkit = verovio.toolkit()
    toolkit.loadData(score)
    open("verovio.mid", "wb").write(base64.b64decode(toolkit.renderToMIDI()))
music21.converter.parse("clarinet.musicxml", forceSource=True).write("midi", "music21.mid")
partitura.save_score_midi(partitura.load_score("clarinet.musicxml"), "partitura.mid")
muspy.write_midi("muspy.mid", muspy.read_musicxml("clarinet.musicxml"))
with_verovio()
found = {name: pitches(f"{name}.mid") for name in ("music21", "partitura", "muspy", "verovio")}
for name, heard in found.items():
    print(f"{name} {version(name)}: {heard}")
music21.converter.parse("clarinet.musicxml", forceSource=True).toSoundingPitch().write("midi", "sounding.mid")
print(f"music21 after toSoundingPitch: {pitches('sounding.mid')}")
assert found == {"music21": [74, 76], "partitura": [74, 76], "muspy": [72, 74], "verovio": [72, 74]}
assert pitches("sounding.mid") == [72, 74]
PY

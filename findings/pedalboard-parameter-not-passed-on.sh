#!/usr/bin/env bash
# A parameter of a plugin in pedalboard reads back the value that was set, so most expect the plugin to play with it. It is
# passed on only where it differs from what pedalboard last read of the plugin: a parameter that was set to 0.9 and is set
# back to the plugin's default, 0.803, reads that and sounds as 0.9 when the next render resets the plugin. After a preset is
# loaded parameters read what they were before it, and setting one to that is lost as well; the preset itself does nothing
# until something was rendered with reset=False. What helps: after setting, render a moment of silence with reset=False;
# where a parameter already reads the value, set another one first and do the same.
# Hurt: data sets with randomised plugin parameters; the record says 0.803 and the sound is another one's.
# Argument: mda-vst3.vst3, as built from Steinberg's vst3sdk (Debian's vst3sdk-plugins). Printed:
#   pedalboard 0.9.26, mda Piano: muffling_filter reads 0.5 and sounds as 0.9; with a silent render between it sounds as 0.5
#   a preset with muffling_filter 0.2 sounds as the default; with a silent render after loading it sounds as 0.2, and reads 0.5
set -euo pipefail
bundle=$(realpath "${1:-$(dirname "$0")/../../shared/vst3/mda-vst3.vst3}")
[ -d "$bundle" ] || { echo "needs the path of mda-vst3.vst3"; exit 2; }
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 pedalboard==0.9.26
cd "$t" && v/bin/python - "$bundle" <<'PY'
import sys
import numpy as np
from importlib.metadata import version
from pedalboard import VST3Plugin

NOTES = [(bytes([0x90, key, 100]), 0.1 + 0.2 * i) for i, key in enumerate((60, 64, 67))]

def plugin(**values):
    made = VST3Plugin(sys.argv[1], plugin_name="mda Piano", initialization_timeout=0.5)
    for name, value in values.items():
        made.parameters[name].raw_value = value
    return made

def play(made):
    return made(NOTES, duration=1.5, sample_rate=44100, num_channels=2, buffer_size=512, reset=True)

def silence(made):
    made([], duration=0.1, sample_rate=44100, num_channels=2, buffer_size=512, reset=False)

default = plugin().parameters["muffling_filter"].raw_value
fresh = {round(value, 3): play(plugin(muffling_filter=value)) for value in (0.2, default, 0.9)}
sounds_as = lambda made: [value for value, sound in fresh.items() if np.array_equal(play(made), sound)]
used = plugin(muffling_filter=0.9)
play(used)
used.parameters["muffling_filter"].raw_value = default
reads, lost = round(used.parameters["muffling_filter"].raw_value, 3), sounds_as(used)
used.parameters["muffling_filter"].raw_value = 0.9
silence(used)
used.parameters["muffling_filter"].raw_value = default
silence(used)
kept = sounds_as(used)
print(f"pedalboard {version('pedalboard')}, mda Piano: muffling_filter reads {reads} and sounds as {lost[0]}; "
      f"with a silent render between it sounds as {kept[0]}")
assert (reads, lost, kept) == (0.803, [0.9], [0.803])

maker = plugin(muffling_filter=0.2)
silence(maker)
open("dull.vstpreset", "wb").write(maker.preset_data)
at_once, later = plugin(), plugin()
at_once.load_preset("dull.vstpreset")
later.load_preset("dull.vstpreset")
silence(later)
first, second = sounds_as(at_once), sounds_as(later)
reads = round(later.parameters["muffling_filter"].raw_value, 3)
print(f"a preset with muffling_filter 0.2 sounds as the default; with a silent render after loading it sounds as {second[0]}, "
      f"and reads {reads}")
assert (first, second, reads) == ([0.803], [0.2], 0.803)
PY

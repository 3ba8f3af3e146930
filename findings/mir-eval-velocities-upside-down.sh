#!/usr/bin/env bash
# mir_eval.transcription_velocity scores notes with their dynamics: a note counts when its velocity is within a tenth of the reference's
# range, after a linear regression of the estimates on the reference, so that scale and offset do not count. Nothing keeps
# the slope above zero. Most expect a transcription that plays the loud notes softly and the soft ones loudly to fail: it is perfect.
# So is one whose accents are all on the notes between (two velocities always lie on a line); one that is flat gets next to nothing.
# Hurt: scores of piano transcription, and of the dynamics that a model renders: an inverted curve or a wrong sign is not found.
# Printed:
#   mir_eval 0.8.2, 60 notes at their right times and pitches
#     velocities as they are: F 1.000
#     140 minus the velocity: F 1.000
#     a tenth of it: F 1.000
#     all 64: F 0.150
#   accents on every other note, estimated on the notes between: F 1.000
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get mir_eval==0.8.2 numpy==2.4.6 scipy==1.17.1
cd "$t" && v/bin/python -W ignore - <<'PY'
import numpy as np
from importlib.metadata import version
from mir_eval.transcription_velocity import precision_recall_f1_overlap
draw, count = np.random.default_rng(0), 60
begin = np.arange(count) * 0.5
notes = np.stack([begin, begin + 0.4], axis=1), 440 * 2 ** (draw.integers(-24, 24, count) / 12)
def score(reference, estimated):
    """F-measure of the same notes with other velocities (0 to 127)."""
    return float(precision_recall_f1_overlap(*notes, reference, *notes, estimated)[2])
velocity = draw.integers(20, 120, count).astype(float)
print(f"mir_eval {version('mir_eval')}, {count} notes at their right times and pitches")
found = {}
for name, estimated in (("velocities as they are", velocity), ("140 minus the velocity", 140 - velocity),
                        ("a tenth of it", velocity / 10), ("all 64", np.full(count, 64.0))):
    found[name] = score(velocity, estimated)
    print(f"  {name}: F {found[name]:.3f}")
accents = np.tile([110.0, 50.0], count // 2)
wrong = score(accents, accents[::-1])
print(f"accents on every other note, estimated on the notes between: F {wrong:.3f}")
assert found["velocities as they are"] == found["140 minus the velocity"] == found["a tenth of it"] == wrong == 1.0
assert found["all 64"] < 0.3
PY

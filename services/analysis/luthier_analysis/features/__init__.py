"""What can be measured. A new feature is one file here, one line in FEATURES and one test; a new descriptor is a
function in `descriptors.py`, a line in its DESCRIPTORS and a test.

A feature takes a Sound (and Options where it has any) and returns facts; None = cannot be said of this sound. Nothing
is computed unless it is asked for.
"""

from collections.abc import Callable
from typing import Any, Final

from luthier_analysis.features import beats, descriptors, key, loudness, perceptual, sections, tempo
from luthier_analysis.settings import Options
from luthier_analysis.sound import Sound

FEATURES: Final[dict[str, Callable[[Sound, Options], Any]]] = {
    "tempo": tempo.measure,
    "key": lambda sound, _: key.measure(sound),
    "loudness": lambda sound, _: loudness.measure(sound),
    "sections": lambda sound, _: sections.structure(sound).sections,
    "descriptors": lambda sound, _: descriptors.measure(sound),
    "beats": beats.measure,
    "perceptual": lambda sound, _: perceptual.measure(sound),
}
"""By the name of the field of `jobs.Measurements` that each fills."""

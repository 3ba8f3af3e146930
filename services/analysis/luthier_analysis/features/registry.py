"""What can be measured. A new feature or descriptor is one file here, one line below and one test.

A feature takes a Sound and Options and returns facts; a descriptor takes a Sound and returns a Descriptor or None
(None = cannot be said of this sound). Neither is computed unless it is asked for.
"""

from collections.abc import Callable
from typing import Any

from luthier_analysis.facts import Descriptor
from luthier_analysis.features import brightness, danceability, dynamics, key, loudness, onset_rate, sections, tempo
from luthier_analysis.features.options import Options
from luthier_analysis.sound import Sound

DESCRIPTORS: tuple[Callable[[Sound], Descriptor | None], ...] = (
    brightness.measure,
    onset_rate.measure,
    dynamics.measure,
    danceability.measure,
)


def describe(sound: Sound, options: Options) -> tuple[Descriptor, ...]:  # noqa: ARG001
    """All descriptors that can be said of the sound."""
    return tuple(found for measure in DESCRIPTORS if (found := measure(sound)) is not None)


FEATURES: dict[str, Callable[[Sound, Options], Any]] = {
    "tempo": tempo.measure,
    "key": key.measure,
    "loudness": loudness.measure,
    "sections": sections.measure,
    "descriptors": describe,
}

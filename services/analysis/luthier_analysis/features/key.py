"""Key and mode by essentia's KeyExtractor with its default profile for popular music (bgate, Faraldo 2016)."""

from typing import Final

from luthier.common.v1.common_pb2 import FACT_SOURCE_AUDIO
from luthier_analysis.engine import algorithms
from luthier_analysis.facts import KeyFound
from luthier_analysis.sound import Sound
from luthier_music.keys import Key, parse_pitch_class

PROFILE: Final = "bgate"
ESTIMATOR: Final = f"essentia/KeyExtractor/{PROFILE}"
MIN_S: Final = 1.0


def measure(sound: Sound) -> KeyFound | None:
    """Key with its strength (correlation with the profile, 0..1); None for silence or what is too short."""
    if sound.duration_s < MIN_S or sound.mostly_silent:
        return None
    tonic, mode, strength = algorithms.KeyExtractor(profileType=PROFILE)(sound.mono)
    if strength <= 0:
        return None
    key = Key(parse_pitch_class(tonic), "major" if mode == "major" else "minor")
    return KeyFound(key, min(1.0, float(strength)), FACT_SOURCE_AUDIO, ESTIMATOR)

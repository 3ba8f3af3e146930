"""Key and mode by essentia's KeyExtractor with its default profile for popular music (bgate, Faraldo 2016)."""

from luthier_analysis.engine import algorithms
from luthier_analysis.facts import KeyFound, Source
from luthier_analysis.features.options import Options
from luthier_analysis.sound import Sound
from luthier_music.keys import Key, parse_pitch_class

PROFILE = "bgate"
ESTIMATOR = f"essentia/KeyExtractor/{PROFILE}"
MIN_S = 1.0


def measure(sound: Sound, options: Options) -> KeyFound | None:  # noqa: ARG001
    """Key with its strength (correlation with the profile, 0..1); None for silence or what is too short."""
    if sound.duration_s < MIN_S or sound.mostly_silent:
        return None
    tonic, mode, strength = algorithms.KeyExtractor(profileType=PROFILE)(sound.mono)
    if strength <= 0:
        return None
    key = Key(parse_pitch_class(tonic), "major" if mode == "major" else "minor")
    return KeyFound(key, min(1.0, float(strength)), Source.AUDIO, ESTIMATOR)

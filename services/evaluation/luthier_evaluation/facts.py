"""Keys between the contract's KeyFact and the music library's Key."""

from luthier.common.v1.common_pb2 import MODE_MAJOR, MODE_MINOR, KeyFact
from luthier_music.keys import Key, Mode, parse_pitch_class

_MODES: dict[int, Mode] = {MODE_MAJOR: "major", MODE_MINOR: "minor"}


def key_of(fact: KeyFact) -> Key | None:
    """The key, None when tonic or mode is unknown. ValueError for a tonic that is no pitch class."""
    mode = _MODES.get(fact.mode)
    return Key(parse_pitch_class(fact.tonic), mode) if fact.tonic and mode else None


def key_fact(key: Key) -> KeyFact:
    """The fact without a source."""
    return KeyFact(tonic=key.tonic_name, mode=MODE_MAJOR if key.mode == "major" else MODE_MINOR)

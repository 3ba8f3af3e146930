"""Keys as messages of luthier.common.v1 hold them."""

from luthier.common.v1.common_pb2 import MODE_MAJOR, MODE_MINOR, KeyFact
from luthier_music.keys import Key, parse_pitch_class


def key_of(fact: KeyFact) -> Key | None:
    """The key, None when tonic or mode is unknown. ValueError for a tonic that is no pitch class."""
    if not fact.tonic or fact.mode not in (MODE_MAJOR, MODE_MINOR):
        return None
    return Key(parse_pitch_class(fact.tonic), "major" if fact.mode == MODE_MAJOR else "minor")


def key_fact(key: Key) -> KeyFact:
    """The fact without a source."""
    return KeyFact(tonic=key.tonic_name, mode=MODE_MAJOR if key.mode == "major" else MODE_MINOR)

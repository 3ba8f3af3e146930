"""Variations of a song: which ones there are follows from its fingerprint and their numbers, on every machine alike.

The rule does not depend on how many are asked for: variation 7 of a song is the same among 10 as among 100, so a run
that asks for more finds the first ones done. What a song cannot take (a note beyond an instrument's range) the renderer
lessens, and says so.
"""

import math
import random
from typing import Final

from luthier.common.v1.common_pb2 import Variation

MAX_VARIATIONS: Final = 100
TRANSPOSITIONS: Final = range(-5, 7)
"""Semitones: every key once, by the nearer way."""
TEMPO_FACTORS: Final = (0.8, 1.25)
"""Lowest and highest, each the other's inverse. Beyond them a song is another kind of music at best."""


def variation_of(fingerprint: str, number: int) -> Variation:
    """Variation `number` (1 or more) of a song.

    Twelve in a row are in twelve keys, in an order drawn for the song; the song's own comes last among the first
    twelve. Tempo factors are drawn uniformly in their logarithm, so that songs become slower as often as faster.
    """
    round_, place = divmod(number - 1, len(TRANSPOSITIONS))
    keys = list(TRANSPOSITIONS)
    random.Random(f"{fingerprint}/transpositions/{round_}").shuffle(keys)
    if not round_:
        keys.sort(key=lambda semitones: semitones == 0)
    low, high = map(math.log, TEMPO_FACTORS)
    drawn = math.exp(random.Random(f"{fingerprint}/tempo/{number}").uniform(low, high))
    return Variation(number=number, transpose_semitones=keys[place], tempo_factor=round(drawn, 4))

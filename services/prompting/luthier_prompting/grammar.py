"""The grammar composer: prompts of every style made from the facts alone, decided by a seeded generator.

What it writes is `luthier_music.grammar`'s, which inference shares.
"""

import random

from luthier_music.clip_facts import Facts
from luthier_music.grammar import VERSION, sentence, short, tags
from luthier_music.metadata import draw_metadata
from luthier_prompting.styles import Style


def rng_of(facts: Facts, seed: str) -> random.Random:
    """A generator of the seed and the facts: clips with equal seeds would otherwise all read alike."""
    return random.Random(f"{seed}/{facts}")


class Grammar:
    """The default composer; needs no model and answers at once."""

    name = "grammar"
    version = VERSION
    styles = frozenset(Style)

    def draft(self, facts: Facts, seed: str, style: Style) -> str:
        """A prompt of this style, decided by the facts and the seed; a sentence where a list has nothing to hold, as of
        a meter alone.
        """
        write = {Style.SENTENCE: sentence, Style.SHORT: short, Style.TAGS: tags, Style.METADATA: draw_metadata}[style]
        rng = rng_of(facts, seed)
        return write(facts, rng) or sentence(facts, rng)

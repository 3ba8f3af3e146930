"""The styles of prompts, and what each must state.

LP-MusicCaps (Doh et al. 2023) has a language model write, summarise, paraphrase and predict attributes. Here a caption
is written from facts, not from a caption: `SENTENCE` is its write; another seed of it, with other words and another
order, is its paraphrase; `SHORT` is its summary; what it starts from is `TAGS`. Attribute prediction guesses what is
not known, so there is none. `METADATA` is how Stable Audio Open (Evans et al. 2024) makes prompts in training.
"""

from enum import StrEnum

from luthier_music.grammar import MAX_SHORT_WORDS


class Style(StrEnum):
    """How a prompt reads."""

    SENTENCE = "sentence"  # one or two sentences that state all that is required
    SHORT = "short"  # a few words: genre, one or two instruments, and a part of the rest
    TAGS = "tags"  # all that is required, as a list between commas
    METADATA = "metadata"  # a random subset, with type names and bars or without and with commas

    @property
    def allows_subset(self) -> bool:
        """Whether required facts may stay unstated."""
        return self in (Style.SHORT, Style.METADATA)

    @property
    def must_name(self) -> bool:
        """Whether a genre or an instrument must be named though facts may stay unstated."""
        return self is Style.SHORT

    @property
    def max_words(self) -> int | None:
        """Words that a prompt may have; None = no bound but that of all prompts."""
        return MAX_SHORT_WORDS if self is Style.SHORT else None


class CutOff(Exception):
    """A draft that does not come to an end: `text` is what there is of it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

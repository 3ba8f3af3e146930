"""Composing captions: the styles, the composer that needs no model, and how a prompt is composed: drafted, held against
the facts, returned.

LP-MusicCaps (Doh et al. 2023) has a language model write, summarise, paraphrase and predict attributes. Here a caption
is written from facts, not from a caption: `SENTENCE` is its write; another seed of it, with other words and another
order, is its paraphrase; `SHORT` is its summary; what it starts from is `TAGS`. Attribute prediction guesses what is
not known, so there is none. `METADATA` is how Stable Audio Open (Evans et al. 2024) makes prompts in training.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from luthier_music.captions import CUT_OFF, Disagreement, check
from luthier_music.clip_facts import Facts
from luthier_music.grammar import MAX_SHORT_WORDS, VERSION, sentence, short, tags
from luthier_music.metadata import draw_metadata

ATTEMPTS = 5  # drafts per prompt


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


class Composer(Protocol):
    """Writes drafts. `name` is `grammar`, `vllm`, …; `version` changes whenever its drafts may.

    `styles` are those that it writes; the grammar writes the others.
    """

    name: str
    version: str
    styles: frozenset[Style]

    def draft(self, facts: Facts, seed: str, style: Style) -> str:
        """One prompt of the facts; another seed gives another wording. Raises Unavailable when a model is down, CutOff
        when it does not come to an end."""
        ...


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


def writer_of(style: Style, asked: Composer) -> Composer:
    """Who writes a prompt of this style: the composer that was asked for, or the grammar where a model adds nothing."""
    return asked if style in asked.styles else Grammar()


@dataclass(frozen=True)
class Checked:
    """A prompt, who wrote it, and all in which it differs from the facts; passed when in nothing."""

    text: str
    composer: str
    composer_version: str
    disagreements: tuple[Disagreement, ...] = ()


@dataclass(frozen=True)
class Composed:
    """The prompts asked for, and how many drafts failed the check and were thrown away."""

    prompts: tuple[Checked, ...]
    rejected_drafts: int


def compose(
    composer: Composer, facts: Facts, *, count: int, seed: int, styles: Sequence[Style] = (Style.SENTENCE,)
) -> Composed:
    """`count` prompts of the styles by turns, distinct where the facts allow it, the same for the same seed.

    Each is drafted up to ATTEMPTS times; when none is true the last draft comes back with its disagreements.
    """
    prompts: list[Checked] = []
    rejected = 0
    for number in range(count):
        style = styles[number % len(styles)]
        writer = writer_of(style, composer)
        prompt, failed = _prompt(writer, facts, style, f"{seed}/{number}", {p.text for p in prompts})
        prompts.append(prompt)
        rejected += failed
    return Composed(tuple(prompts), rejected)


def version_of(composer: Composer, style: Style) -> str:
    """The version that is recorded with a prompt: it names every style but sentences."""
    return composer.version if style is Style.SENTENCE else f"{style}/{composer.version}"


def _prompt(composer: Composer, facts: Facts, style: Style, seed: str, taken: set[str]) -> tuple[Checked, int]:
    """A new true prompt; else a repeated true one; else the last untrue one. And the drafts thrown away."""
    repeated: Checked | None = None
    untrue: list[Checked] = []
    for attempt in range(ATTEMPTS):
        try:
            text = composer.draft(facts, f"{seed}/{attempt}", style)
            found = check(
                text, facts, allow_subset=style.allows_subset, must_name=style.must_name, max_words=style.max_words
            )
        except CutOff as error:
            text, found = error.text, [Disagreement("form", CUT_OFF, error.text[-40:])]
        checked = Checked(text, composer.name, version_of(composer, style), tuple(found))
        if checked.disagreements:
            untrue.append(checked)
        elif text not in taken:
            return checked, len(untrue)
        else:
            repeated = checked
    return (repeated, len(untrue)) if repeated else (untrue[-1], len(untrue) - 1)


def style_of(composer_version: str) -> Style:
    """The style that a recorded version names, see `version_of`."""
    named = composer_version.partition("/")[0]
    return Style(named) if named in set(Style) else Style.SENTENCE

"""Genres, moods, eras and energy: words of the vocabulary that a prompt may use only when tags or facts carry them."""

import re
from collections.abc import Iterable, Iterator

from luthier_music.captions.draft import Draft
from luthier_music.captions.instruments import begins_longer, names_instrument, phrases, plays_much, squeezed
from luthier_music.captions.report import Report
from luthier_music.clip_facts import Facts
from luthier_music.vocabulary import GENRE_WORDS, MOOD_WORDS, era, implied_genres

# Words that in a sentence mostly mean something else: they count where they are true, and are no claim elsewhere.
_AMBIGUOUS = {
    "alternative", "bop", "breaks", "children's music", "drone", "electro", "kids", "march",
    "minimalist", "musical", "noise", "world", "prog", "moving", "touching", "space", "power", "grand", "rich", "raw",
    "party", "summer", "dance", "dancing", "groove", "heavy", "atmosphere", "tension", "romance", "rough",
    "minimal", "drifting", "floating", "relax", "peace", "mystery", "darkness", "adventure", "soft", "fusion", "cold",
    "spirited", "confident", "funny", "sacred",
    "acid", "african", "andean", "appalachian", "arabic", "asian", "balearic", "balkan", "ballad", "ballads",
    "ballet", "banda", "bass music", "beat music", "belly dance", "bounce", "broadway", "bubblegum", "cabaret",
    "cadence", "caribbean", "compas", "computer music", "concerto", "concertos", "crust", "drill",
    "ethnic", "etude", "expressionism", "field recording", "field recordings", "freestyle", "fugue", "full on",
    "glitch", "go go", "goth", "gothic", "halftime", "hands up", "impressionism", "jig", "jug band", "juke", "jump up",
    "leftfield", "light music", "live electronics", "lowercase", "lullabies", "lullaby", "medieval", "minuet", "mod",
    "nocturne", "old time", "plena", "prelude", "punta", "rave", "reel", "rhapsody", "sega", "shanties", "shanty",
    "sludge", "snap", "son", "sonata", "sound art", "sound collage", "soundscape", "space music", "square dance",
    "stride", "symphony", "twist", "two step", "western", "wonky",
}  # fmt: skip

_ENERGY = re.compile(
    r"\b(?P<level>low|high|medium|moderate)[ -](?:in )?energy\b|\benergy:? (?P<label>low|high|medium|moderate)\b", re.I
)

_GENRES = phrases(set(GENRE_WORDS) - _AMBIGUOUS)
# Of more than one word, which name an instrument or an energy: "orchestra" alone is an instrument first.
_COMPOUND_GENRES = phrases(
    {
        "big band",
        *(word for word in GENRE_WORDS if not word.isalpha() and (names_instrument(word) or _ENERGY.search(word))),
    }
)
_DESCRIBING = frozenset({"acoustic", "cello", "harmonica", "piano"})
"""First words of genres that also describe a piece of the genre behind them: rock with a piano is piano rock. Not so
synth and bass: pop with a synthesizer is no synth pop."""
_AMBIGUOUS_WORDS = phrases(_AMBIGUOUS)
_MOODS = phrases(set(MOOD_WORDS) - _AMBIGUOUS)
_GENRE_OF = {squeezed(word): genre for word, genre in GENRE_WORDS.items()}
_MOOD_OF = {squeezed(word): mood for word, mood in MOOD_WORDS.items()}
_ERA = re.compile(r"\b(?:(?:19|20)\d\ds?|'?\d0'?s|(?:twen|thir|for|fif|six|seven|eigh|nine)ties|noughties)(?!\w)", re.I)
_VERBS = re.compile(
    r"\b(?:swing(?:s|ing)? (?:into|back)|swings\b|rock(?:s|ing|ed)\b|pop(?:s|ping|ped)\b|houses\b|trapped\b)|"
    r"(?<=\x00 )swing(?= (?:under|over|along|through|together|beneath|behind|against|hard|at|in)\b)",  # "drums swing"
    re.I,
)


def check(draft: Draft, facts: Facts, report: Report) -> None:
    """Reads every genre, mood, era and word of energy."""
    for _ in draft.take(_VERBS):
        pass
    _ambiguous(draft, facts, report)
    _energy(draft, facts, report)
    _eras(draft, facts, report)
    _genres(draft, facts, report, draft.take(_GENRES))
    for match in draft.take(_MOODS):
        true = _MOOD_OF[squeezed(match["phrase"])] in facts.moods
        denied = draft.denied(match.start())
        report.hold("mood", match["phrase"], true=true, expected=", ".join(facts.moods), denied=denied)


def genre_of(phrase: str) -> str:
    """The canonical genre of a phrase that `check` has read."""
    return _GENRE_OF[squeezed(phrase)]


def compounds(draft: Draft, facts: Facts, report: Report) -> None:
    """Reads the genres whose names hold those of instruments or an energy; goes before the readers of these."""
    _genres(draft, facts, report, _compounds(draft))


def _compounds(draft: Draft) -> Iterator[re.Match[str]]:
    for match in _COMPOUND_GENRES.finditer(draft.left):
        if not begins_longer(draft.left, match):
            draft.hide(match)
            yield match


def _genres(draft: Draft, facts: Facts, report: Report, matches: Iterable[re.Match[str]]) -> None:
    true_genres = frozenset[str]().union(*(implied_genres(genre) for genre in facts.genres))
    for match in matches:
        genre, denied = _GENRE_OF[squeezed(match["phrase"])], draft.denied(match.start())
        if not denied and genre not in true_genres and _proven_by_facts(genre, facts):
            continue  # true, but it is not the genre that a caption must state
        if not denied and genre not in true_genres and (programs := _described(match["phrase"], true_genres, facts)):
            report.stated.add("genre")
            if "acoustic" not in match["phrase"].lower():  # it names no instrument
                report.programs |= programs
            continue
        report.hold(
            "genre", match["phrase"], true=genre in true_genres, expected=", ".join(facts.genres), denied=denied
        )


def _described(phrase: str, true_genres: frozenset[str], facts: Facts) -> frozenset[int]:
    """What plays, where a phrase is a true word before a true genre ("acoustic pop" of pop on a guitar); else empty."""
    first, _, genre = phrase.lower().replace("-", " ").partition(" ")
    described = first in _DESCRIBING and _GENRE_OF.get(squeezed(genre)) in true_genres
    return plays_much(first, facts) if described else frozenset()


def _ambiguous(draft: Draft, facts: Facts, report: Report) -> None:
    true_genres = frozenset[str]().union(*(implied_genres(genre) for genre in facts.genres))
    for match in _AMBIGUOUS_WORDS.finditer(draft.left):
        word = squeezed(match["phrase"])
        if draft.denied(match.start()):
            continue
        if _GENRE_OF.get(word) in true_genres:
            report.stated.add("genre")
        if _MOOD_OF.get(word) in facts.moods:
            report.stated.add("mood")


def _proven_by_facts(genre: str, facts: Facts) -> bool:
    """Whether the facts alone prove the word: a waltz by its meter, "electronic" by its instruments."""
    if genre == "waltz":
        return facts.meter is not None and facts.meter[0] == 3
    return genre == "electronic" and facts.acousticness() == "electronic"


def _energy(draft: Draft, facts: Facts, report: Report) -> None:
    for match in draft.take(_ENERGY):
        level = (match["level"] or match["label"]).lower().replace("medium", "moderate")
        true = level == facts.energy() or (level == "high" and "energetic" in facts.moods)
        report.hold("energy", match[0], true=true, expected=facts.energy(), denied=draft.denied(match.start()))


def _eras(draft: Draft, facts: Facts, report: Report) -> None:
    for match in draft.take(_ERA):
        if era(match[0]) not in facts.eras:
            report.against("era", match[0], ", ".join(facts.eras))

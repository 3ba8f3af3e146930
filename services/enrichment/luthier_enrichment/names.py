"""Names of songs: read from a path, cleaned, compared.

Corpora name songs `Artist/Title.mid`, with `.1`, `.2` for duplicates, features in brackets, underscores and odd
spelling. All of it is untrusted text.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rapidfuzz import fuzz

from luthier_music.vocabulary import clean

MAX_NAME_CHARS: Final = 200
_MIN_HELD_CHARS: Final = 4  # of an artist or title inside a longer tag: "One" is also in "one of the best"
NUMBERS_DIFFER: Final = 0.5  # the most that "Part 1" and "Part 2" can score

_SUFFIX = re.compile(r"\.(?:midi?|kar|smf)$", re.IGNORECASE)
_DOT_NUMBER = re.compile(r"(?<!\d)\.\d{1,2}$")  # a duplicate: "Title.1.mid"
_FEATURE = re.compile(
    r"\s*[(\[{]\s*(?:feat|ft|featuring|with)\b\.?\s*(?P<who>[^)\]}]*)[)\]}]|\s+(?:feat|ft|featuring)\b\.?\s+(?P<bare>.+)$",
    re.IGNORECASE,
)
_YEAR = re.compile(r"[(\[]\s*(?P<year>19\d\d|20\d\d)\s*[)\]]")
_BRACKETS = re.compile(r"\s*[(\[{][^)\]}]*[)\]}]")
_TRACK_NUMBER = re.compile(r"^\d{1,2}\s*[.)-]\s+(?=\S)")
_ARTICLE_LAST = re.compile(r"^(?P<name>.+),\s*(?P<article>the|a|an|los|las|les|die|der|das)$", re.IGNORECASE)
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9"}


@dataclass(frozen=True)
class Name:
    """Artist and title, each at most MAX_NAME_CHARS characters; empty = unknown."""

    artist: str = ""
    title: str = ""


@dataclass(frozen=True)
class PathName:
    """What a path says: the name, the year in brackets (or 0), and who is featured."""

    name: Name
    year: int = 0
    featured: str = ""


def from_path(path: str) -> PathName:
    """Reads `…/Artist/Title.mid`; a path without a folder names no artist, unless it is `Artist - Title.mid`."""
    parts = [part for part in re.split(r"[/\\]+", clean(path, 1024)) if part not in ("", ".", "..")]
    stem = _DOT_NUMBER.sub("", _SUFFIX.sub("", parts[-1])) if parts else ""
    artist = parts[-2] if len(parts) > 1 else ""
    if not artist and " - " in stem:
        artist, _, stem = stem.partition(" - ")
    year, featured = _YEAR.search(stem), _FEATURE.search(_spaced(stem))
    who = (featured["who"] or featured["bare"] or "").strip() if featured else ""
    name = Name(clean_artist(artist), clean_title(stem, artist))
    return PathName(name, int(year["year"]) if year else 0, who[:MAX_NAME_CHARS])


def clean_artist(artist: str) -> str:
    """An artist as people write it: blanks for underscores, the article in front."""
    text = _FEATURE.sub("", _spaced(clean(artist, MAX_NAME_CHARS)))
    if match := _ARTICLE_LAST.match(text):
        text = f"{match['article'].capitalize()} {match['name']}"
    return text.strip()


def clean_title(title: str, artist: str = "") -> str:
    """A title without track number, duplicate number, features, years and the artist's own name before it."""
    text = _spaced(_DOT_NUMBER.sub("", _SUFFIX.sub("", clean(title, MAX_NAME_CHARS))))
    text = _YEAR.sub("", _FEATURE.sub("", _TRACK_NUMBER.sub("", text)))
    own = clean_artist(artist)
    if own and fold(text).startswith(fold(own) + " ") and " - " in text:
        text = text.partition(" - ")[2]
    if match := _ARTICLE_LAST.match(text.strip()):
        text = f"{match['article'].capitalize()} {match['name']}"
    return " ".join(text.split()).strip(" -")


def fold(text: str) -> str:
    """A name for comparing: no accents, case, brackets, punctuation or leading article; "&" is "and"."""
    bare = _BRACKETS.sub(" ", text) if _BRACKETS.sub("", text).strip() else text
    decomposed = unicodedata.normalize("NFKD", bare.casefold().replace("&", " and "))
    plain = "".join(c for c in decomposed if not unicodedata.combining(c)).replace("'", "").replace("’", "")
    words = re.sub(r"[^\w]+|_", " ", plain).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("the", "a", "an") else words)


def score(asked: Name, found: Name) -> float:
    """How well two names match, 0 to 1: the worse of artist and title. An unknown artist never scores above 0.7."""
    title = _similar(fold(asked.title), fold(found.title))
    if not asked.artist or not found.artist:
        return 0.7 * title
    return min(title, _similar(fold(asked.artist), fold(found.artist)))


def is_name(text: str, names: Iterable[Name]) -> bool:
    """Whether a text is the whole artist or title, or both: "the beatles", "yesterday", "beatles yesterday"."""
    folded = fold(text)
    wholes = [(fold(name.artist), fold(name.title)) for name in names]
    return bool(folded) and any(
        folded in {artist, title, f"{artist} {title}", f"{title} {artist}"} for artist, title in wholes
    )


def holds_name(text: str, names: Iterable[Name]) -> bool:
    """Whether a text holds the whole artist or the whole title among other words: "beatles cover"."""
    words = fold(text).split()
    wholes = [fold(whole).split() for name in names for whole in (name.artist, name.title)]
    return any(_holds(words, whole) for whole in wholes if len("".join(whole)) >= _MIN_HELD_CHARS)


def is_of_names(text: str, names: Iterable[Name]) -> bool:
    """Whether all words of a text are words of one artist and title: "mccartney", "brubeck quartet"."""
    words = set(fold(text).split())
    return bool(words) and any(words <= {*fold(name.artist).split(), *fold(name.title).split()} for name in names)


def _holds(words: Sequence[str], part: Sequence[str]) -> bool:
    """Whether the words of a part follow one another in these words."""
    return any(words[start : start + len(part)] == part for start in range(len(words) - len(part) + 1))


def _similar(one: str, other: str) -> float:
    """Similarity of two folded texts; words may change places, numbers may not differ."""
    if not one or not other:
        return 0.0
    value = (
        max(fuzz.ratio(one, other), fuzz.token_sort_ratio(one, other), fuzz.ratio(_joined(one), _joined(other))) / 100
    )
    return value if _numbers(one) == _numbers(other) else min(value, NUMBERS_DIFFER)


def _joined(text: str) -> str:
    return text.replace(" ", "")


def _numbers(text: str) -> list[str]:
    words = [_ROMAN.get(word, word) for word in text.split()]
    return [str(int(number)) for number in re.findall(r"\d+", " ".join(words))]


def _spaced(text: str) -> str:
    """Underscores, and hyphens in a text without blanks, are blanks."""
    text = text.replace("_", " ")
    return text if " " in text.strip() else text.replace("-", " ")

"""A prompt being read: canonical text, words already understood, and what is denied."""

import re
import unicodedata
from collections.abc import Iterator

from luthier_prompting.checker.numerals import digits

TAKEN = "\x00"

_CANONICAL = str.maketrans(
    {"♯": "#", "♭": "b", "’": "'", "‘": "'", "“": '"', "”": '"', "\u2010": "-", "\u2011": "-", "–": "-", "—": " - ",
     "−": "-", "𝄪": "##", "𝄫": "bb", "\u00ad": "", "\u200b": "", "\u200d": "", "\ufeff": ""}
)  # fmt: skip

_NEGATOR = re.compile(
    r"\b(?:no(?!-)|not|without|lacking|lacks?|devoid of|free of|free from|absence of|minus|sans|neither|nor|never|"
    r"isn't|aren't|doesn't|don't|instead of|rather than|excluding|except(?: for)?)\b(?! (?:only|just|merely|simply)\b)",
    re.IGNORECASE,
)
_STOP = re.compile(
    r"[.;|!?:]|,|\b(?:but|with|featuring|features|while|at|in|over|yet|just|only|though|backed|driven|plays?)\b", re.I
)
_GOES_ON = re.compile(r",\s*(?:or|nor)\b|,[\w -]{1,30}?(?:,|\s)\s*(?:or|nor)\b", re.IGNORECASE)
_SUFFIXED = re.compile(r"\b[a-z]+-(?:free|less)\b", re.IGNORECASE)
_LESS = re.compile(r"\b(drum|bass|guitar|piano|voice|vocal|beat)(?=less\b)", re.IGNORECASE)


class Draft:
    """`text` is the whole prompt in canonical form; `left` the same with all understood words blanked out."""

    def __init__(self, prompt: str) -> None:
        plain = unicodedata.normalize("NFKC", prompt).translate(_CANONICAL)
        visible = "".join(c for c in plain if c.isspace() or unicodedata.category(c)[0] != "C")
        self.text = digits(_LESS.sub(r"\1-", re.sub(r"[^\S\n]+", " ", visible))).strip()
        self.left = self.text
        self._denied = [self._scope(match) for match in _NEGATOR.finditer(self.text)]
        self._denied += [match.span() for match in _SUFFIXED.finditer(self.text)]

    def take(self, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        """Every match in what is left, blanked out as it is handed over."""
        for match in pattern.finditer(self.left):
            self.hide(match)
            yield match

    def hide(self, match: re.Match[str]) -> None:
        start, end = match.span()
        self.left = self.left[:start] + TAKEN * (end - start) + self.left[end:]

    def denied(self, start: int) -> bool:
        """Whether the word at this place lies in the scope of a "no", "without" and the like."""
        return any(low <= start < high for low, high in self._denied)

    def fills_field(self, match: re.Match[str]) -> bool:
        """Whether the match is a whole field of metadata: between commas, bars, colons or the ends."""
        before, after = self.text[: match.start()].rstrip(), self.text[match.end() :].lstrip()
        return (not before or before[-1] in ",|:;") and (not after or after[0] in ",|;")

    def starts_sentence(self, start: int) -> bool:
        """Whether the place is the first word of a sentence."""
        before = self.text[:start].rstrip(" \n\"'(")
        return not before or before[-1] in ".!?:;\n"

    def _scope(self, negator: re.Match[str]) -> tuple[int, int]:
        """From the denial to the end of its clause, over a list that "or" closes."""
        first_word = re.compile(r"\s*(?:(?:any|a|an|the|in|at|with)\s+)*\S+?(?=[\s,.;|!?:]|$)").match(
            self.text, negator.end()
        )
        position = first_word.end() if first_word else negator.end()
        while stop := _STOP.search(self.text, position):
            if stop[0] != "," or not _GOES_ON.match(self.text, stop.start()):
                return negator.start(), stop.start()
            position = stop.end()
        return negator.start(), len(self.text)

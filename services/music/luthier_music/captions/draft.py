"""A prompt being read: canonical text, words already understood, and what is denied."""

import re
import unicodedata
from collections.abc import Iterator

TAKEN = "\x00"

_CANONICAL = str.maketrans(
    {"♯": "#", "♭": "b", "’": "'", "‘": "'", "“": '"', "”": '"', "\u2010": "-", "\u2011": "-", "–": "-", "—": " - ",
     "ı": "i", "İ": "I", "−": "-", "𝄪": "##", "𝄫": "bb", "\u00ad": "", "\u200b": "", "\u200d": "", "\ufeff": ""}
)  # fmt: skip

_NEGATOR = re.compile(
    r"\b(?:no(?!-| wave\b)|not|without|lacking|lacks?|devoid of|free of|free from|absence of|minus|sans|neither|nor|"
    r"never|nobody|nothing|anything but|isn't|aren't|doesn't|don't|instead of|rather than|excluding|except(?: for)?)\b"
    r"(?! (?:only|just|merely|simply)\b)",
    re.IGNORECASE,
)
_STOP = re.compile(
    r"[.;|!?:]|,|\b(?:but|with|featuring|features|while|at|in|over|yet|just|only|though|backed|driven|plays?)\b", re.I
)
_GOES_ON = re.compile(r",\s*(?:or|nor)\b|,[\w -]{1,30}?(?:,|\s)\s*(?:or|nor)\b", re.IGNORECASE)
# "The bass is missing": what stands before it, back to the end of the clause before.
_MISSING = re.compile(
    r"(?:^|[.,;|!?:])(?P<clause>[^.,;|!?:]*?)\b(?:is|are|was|were) (?:missing|absent|left out)\b", re.I
)
_SUFFIXED = re.compile(r"\b[a-z]+-(?:free|less)\b", re.IGNORECASE)
_LESS = re.compile(r"\b(drum|bass|guitar|piano|voice|vocal|beat)(?=less\b)", re.IGNORECASE)


# Numbers written in words become digits: "one hundred and twenty-five" is 125.
_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
_ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS = {word: value for value, word in enumerate(_SMALL.split())}
_TENS = {word: 10 * value for value, word in enumerate(_ROUND.split(), start=2)}
_WORD = "|".join([*_TENS, *sorted(_UNITS, key=len, reverse=True), "hundred"])
_BIG = "|".join([*_TENS, "hundred"])
_PHRASE = re.compile(
    rf"\b(?=(?:(?:{_WORD}|a)[ -]+(?:and )?){{0,3}}(?:{_BIG})\b)"
    rf"(?:a(?= hundred)|{_WORD})(?:(?:[ -]+| and |-and-)(?:{_WORD}))*\b",
    re.IGNORECASE,
)


def _with_digits(text: str) -> str:
    """The text with numbers of twenty and more in digits; smaller number words are left alone."""
    return _PHRASE.sub(lambda match: _number(match[0]) or _range(match[0]) or match[0], text)


def _range(phrase: str) -> str:
    """ "one hundred and one hundred and twenty" is "100 and 120", as after "between"; empty when it is not two."""
    for joint in re.finditer(r" and ", phrase):
        low, high = _number(phrase[: joint.start()]), _number(phrase[joint.end() :])
        if low and high and int(low) < int(high):
            return f"{low} and {high}"
    return ""


def _number(phrase: str) -> str:
    """The digits of a number phrase. "one twenty" is 120, as musicians say it; empty when it is not one number."""
    total = 0
    for word in re.split(r"[ -]+", phrase.lower()):
        if word == "hundred":
            if total >= 100:
                return ""
            total = max(1, total) * 100
        elif word in _TENS:
            if total % 100 and total >= 10:
                return ""
            total = (total * 100 if 0 < total < 10 else total) + _TENS[word]
        elif word in _UNITS:
            if total % 10 or (total and _UNITS[word] >= 10 and total % 100):
                return ""
            total += _UNITS[word]
        elif word == "a":
            total = 1
    return str(total)


class Draft:
    """`text` is the whole prompt in canonical form; `left` the same with all understood words blanked out."""

    def __init__(self, prompt: str) -> None:
        plain = unicodedata.normalize("NFKC", prompt).translate(_CANONICAL)
        visible = "".join(c for c in plain if c.isspace() or unicodedata.category(c)[0] != "C")
        self.text = _with_digits(_LESS.sub(r"\1-", re.sub(r"[^\S\n]+", " ", visible))).strip()
        self.left = self.text
        self._denied = [self._scope(match) for match in _NEGATOR.finditer(self.text)]
        self._denied += [match.span() for match in _SUFFIXED.finditer(self.text)]
        self._denied += [match.span("clause") for match in _MISSING.finditer(self.text)]

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

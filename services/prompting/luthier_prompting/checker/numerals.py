"""Numbers written in words become digits: "one hundred and twenty-five" is 125."""

import re

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


def digits(text: str) -> str:
    """The text with numbers of twenty and more in digits; smaller number words are left alone."""
    return _PHRASE.sub(lambda match: _value(match[0]) or match[0], text)


def _value(phrase: str) -> str:
    """The digits of a number phrase. "one twenty" is 120, as musicians say it; empty when it is not one number."""
    total = 0
    for word in re.split(r"[ -]+", phrase.lower()):
        if word == "hundred":
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

"""Meter, length, loudness, names of people, and every number that nothing else has explained."""

import re

from luthier_music.captions.draft import Draft
from luthier_music.captions.report import NOT_IN_FACTS, Report
from luthier_music.clip_facts import Facts

_METER = re.compile(
    r"(?<![\w/.])(?P<numerator>\d{1,2})\s?/\s?(?P<denominator>1|2|4|8|16|32)\b(?: time\b| meter\b| metre\b)?"
)
_METER_CHANGES = re.compile(
    r"\b(?:chang\w+|shift\w+|alternat\w+|mixed|var(?:y|ying|iable|ied)) (?:its )?(?:met(?:er|re)|time signature)s?\b|"
    r"\b(?:met(?:er|re)s?|time signatures?) (?:that |which |is )?(?:chang|shift|alternat|var)\w*",
    re.I,
)
_METER_WORDS = (
    (re.compile(r"\bcommon time\b", re.I), 4),
    (re.compile(r"\b(?:waltz time|triple (?:meter|metre|time)|three[ -]four|in three\b)", re.I), 3),
    (re.compile(r"\bfour[ -]four\b", re.I), 4),
    (re.compile(r"\bfive[ -](?:four|eight)\b", re.I), 5),
    (re.compile(r"\bsix[ -]eight\b", re.I), 6),
    (re.compile(r"\bseven[ -](?:four|eight)\b", re.I), 7),
    (re.compile(r"\bnine[ -]eight\b", re.I), 9),
    (re.compile(r"\b(?:twelve|12)[ -]eight\b", re.I), 12),
    (re.compile(r"\b(?:duple (?:meter|metre|time)|cut time)\b", re.I), 2),
)
_SMALL = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "eight": 8, "ten": 10, "fifteen": 15}
_DECADE = r"(?![5-9]0s|(?:19|20)\d\ds)(?<!the )"
_SECONDS = re.compile(
    rf"(?<![\w.]){_DECADE}(?P<n>\d+(?:\.\d+)?|{'|'.join(_SMALL)})[ -]?(?P<unit>s|secs?|seconds?|min|mins|minutes?)\b",
    re.I,
)
_LUFS = re.compile(r"(?P<n>-?\d+(?:\.\d+)?)\s?(?:LUFS|LKFS)\b", re.I)
_ARTIST = re.compile(
    r"\b(?:in the (?:style|manner|vein|spirit) of|reminiscent of|inspired by|similar to|sounds? like|à la|a la|"
    r"covers? of|composed by|performed by|written by|produced by|recorded by|music by|remix)\b[^,.;|]*",
    re.I,
)
_NAME_AFTER_BY = re.compile(r"\b(?:by|like|from) (?:the |The )?[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)?(?![\w])|(?<![\w.])\d+(?:st|nd|rd|th|-\w+)\b")


def check(draft: Draft, facts: Facts, report: Report) -> None:
    """Reads meter, length, loudness and names."""
    for match in draft.take(_ARTIST):
        report.differs("artist", NOT_IN_FACTS, match[0])
    beats = facts.meter[0] if facts.meter else 0
    for match in draft.take(_METER_CHANGES):
        denied = draft.denied(match.start())
        report.hold("meter", match[0], true=facts.meter_changes, expected=_meter(facts), denied=denied)
    for match in draft.take(_METER):
        true = (int(match["numerator"]), int(match["denominator"])) == facts.meter
        report.hold("meter", match[0], true=true, expected=_meter(facts), denied=draft.denied(match.start()))
    for pattern, stated in _METER_WORDS:
        for match in draft.take(pattern):
            denied = draft.denied(match.start())
            report.hold("meter", match[0], true=stated == beats, expected=_meter(facts), denied=denied)
    for match in draft.take(_LUFS):
        near = facts.loudness_lufs is not None and abs(float(match["n"]) - facts.loudness_lufs) <= 0.5
        report.hold("loudness", match[0], true=near, expected=_with_unit(facts.loudness_lufs, "LUFS"))
    for match in draft.take(_SECONDS):
        length_s = facts.duration_s or 0.0
        near = abs(_stated_s(match) - length_s) <= max(0.5, 0.02 * length_s)
        report.hold("duration", match[0], true=near, expected=_with_unit(facts.duration_s, "seconds"))


def leftovers(draft: Draft, report: Report) -> None:
    """Reports every name after "by" and "like" and every number that no other reader understood."""
    for match in draft.take(_NAME_AFTER_BY):
        report.differs("artist", NOT_IN_FACTS, match[0])
    for match in draft.take(_NUMBER):
        report.differs("number", NOT_IN_FACTS, match[0])


def _stated_s(match: re.Match[str]) -> float:
    number = float(_SMALL.get(match["n"].lower(), 0) or match["n"])
    return number * (60 if match["unit"].lower().startswith("min") else 1)


def _meter(facts: Facts) -> str:
    meter = f"{facts.meter[0]}/{facts.meter[1]}" if facts.meter else ""
    return f"changing meter, mostly {meter}" if meter and facts.meter_changes else meter


def _with_unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.1f} {unit}"

"""Key and mode: "F# minor", "e-flat major", "key of G", "Am" beside the word key, "in a minor key", church modes.

Enharmonic names are equal; aeolian is minor and ionian is major; other church modes are in no fact.
The word "a" before minor or major is a tonic only where the sentence says so.
"""

import re

from luthier_music.captions.draft import Draft
from luthier_music.captions.report import Report
from luthier_music.clip_facts import Facts
from luthier_music.keys import Key

_LETTERS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_MODES = {"major": "major", "maj": "major", "ionian": "major"}
_MODES |= dict.fromkeys(("minor", "min", "m", "aeolian"), "minor")

_CHURCH = "ionian|aeolian|dorian|phrygian|lydian|mixolydian|locrian"
_TONIC = (
    r"(?<![\w#])(?P<letter>[A-Ga-g])(?P<accidental>[ -]?(?:double[ -])?(?:sharps?|flats?)\b| ?##?|bb?(?![a-ln-z])|)"
)
_KEY_NOUN = r"[ -](?:key|keyed|mode|tonality|scale|feel|sound|harmon\w+)\b"
_NO_KEY = re.compile(
    r"\ba (?:major|minor) (?:role|part|hit|step|change|tweak|influence|shift|force|difference|player|presence|"
    r"component|element|factor|detail|interval|second|third|sixth|seventh)\b",
    re.I,
)
_CHORD = r"(?![ -]?(?:chords?|triads?|thirds?|seconds?|sixths?|sevenths?|ninths?|7|9|6)\b)"

_SCALE = r"(?:(?:natural|harmonic|melodic|blues|pentatonic)[ -])?"
_FULL = re.compile(rf"{_TONIC}[ -]?{_SCALE}(?P<mode>major|minor|maj|min|{_CHURCH})\b{_CHORD}", re.I)
_SHORT = re.compile(r"(?<![\w#])(?P<letter>[A-G])(?P<accidental>#|b|)(?P<mode>m)(?![\w#])")
_SHORT_CONTEXT = re.compile(r"(?:\bin|\bkey|\bkey of|\bkey:|\bkey is|\bscale:)\s*$", re.I)
_TONIC_ONLY = re.compile(
    rf"\b(?:key(?:[ -](?:center|centre|signature))?\s?(?:of|is|:|=)?\s?|rooted in |cent(?:ered|red) (?:on|around) |"
    rf"tonic\s?(?:of|is|:)?\s?){_TONIC}(?![\w#'-])",
    re.I,
)
_IN_TONIC = re.compile(
    r"\b[Ii]n (?P<letter>[A-G])(?P<accidental>#|b|[ -](?:sharp|flat)|)"
    r"(?=[,.;|]|$| (?:at|with|and|for|featuring)\b)"
)
_MODE_ONLY = re.compile(
    rf"(?<![\w#])(?P<mode>major|minor|{_CHURCH})(?={_KEY_NOUN})|"
    rf"\bin (?:the |a )?(?P<in>major|minor)\b(?! (?:third|key))|"
    rf"\b(?:mode|scale|tonality)\s?(?:is|:|=)?\s?(?P<label>major|minor|{_CHURCH})\b|\b(?P<church>{_CHURCH})\b",
    re.I,
)
_FIELD_MODE = re.compile(r"\b(?P<mode>major|minor)\b", re.I)


def check(draft: Draft, facts: Facts, report: Report) -> None:
    """Reads every statement about key and mode and holds it against the facts."""
    for _ in draft.take(_NO_KEY):
        pass
    for match in _FULL.finditer(draft.left):
        reading = _article(draft, match)
        draft.hide(match)
        if reading == "mode" or (reading == "either" and not _tonic_fits(match, facts)):
            _mode(draft, match, match["mode"], facts, report)
        else:
            _key(draft, match, facts, report)
    for match in _SHORT.finditer(draft.left):
        if _SHORT_CONTEXT.search(draft.text[: match.start()]) or draft.fills_field(match) or _key_follows(draft, match):
            draft.hide(match)
            _key(draft, match, facts, report)
    for pattern in (_TONIC_ONLY, _IN_TONIC):
        for match in draft.take(pattern):
            _tonic(draft, match, facts, report)
    for match in draft.take(_MODE_ONLY):
        _mode(draft, match, next(m for m in match.groups() if m), facts, report)
    for match in _FIELD_MODE.finditer(draft.left):
        if draft.fills_field(match):
            _mode(draft, match, match["mode"], facts, report)


def key_of(statement: str) -> Key | None:
    """The key in words that `check` has read; None for a tonic alone, and for church modes that no fact has."""
    match = _FULL.match(statement) or _SHORT.match(statement)
    mode = _MODES.get(match["mode"].lower()) if match else None
    if match is None or mode is None:
        return None
    return Key(pitch_class(match["letter"], match["accidental"]), "major" if mode == "major" else "minor")


def pitch_class(letter: str, accidental: str) -> int:
    """0 to 11 of a spelled note: ("E", "-flat") is 3."""
    mark = accidental.lower().strip(" -")
    steps = {"": 0, "#": 1, "##": 2, "b": -1, "bb": -2}.get(mark)
    if steps is None:
        steps = (2 if mark.startswith("double") else 1) * (1 if "sharp" in mark else -1)
    return (_LETTERS[letter.lower()] + steps) % 12


def _article(draft: Draft, match: re.Match[str]) -> str:
    """How to read an "a" before minor or major: "key", "mode", or "either" where the sentence leaves it open."""
    if match["letter"] not in "aA" or match["accidental"] or match[0][1] == "-":
        return "key"
    if re.match(_KEY_NOUN, draft.text[match.end() :], re.I):
        return "mode"
    before = draft.text[: match.start()]
    if re.search(r"\b(?:in|of|key|key:|is|to|from)\s*$", before, re.I) or draft.fills_field(match):
        return "key"
    shouting = draft.text.upper() == draft.text
    return "either" if match["letter"] == "a" or shouting or draft.starts_sentence(match.start()) else "key"


def _key_follows(draft: Draft, match: re.Match[str]) -> bool:
    return bool(re.match(r" (?:key|scale)\b", draft.text[match.end() :], re.I))


def _tonic_fits(match: re.Match[str], facts: Facts) -> bool:
    if not facts.tonic:
        return False
    return pitch_class(match["letter"], match["accidental"]) == pitch_class(facts.tonic[0], facts.tonic[1:])


def _mode_fits(mode: str, facts: Facts) -> bool:
    return bool(facts.mode) and _MODES.get(mode.lower()) == facts.mode


def _key(draft: Draft, match: re.Match[str], facts: Facts, report: Report) -> None:
    _tonic(draft, match, facts, report)
    if not draft.denied(match.start("letter")) and (_tonic_fits(match, facts) or (facts.mode and not facts.tonic)):
        _mode(draft, match, match["mode"], facts, report)


def _tonic(draft: Draft, match: re.Match[str], facts: Facts, report: Report) -> None:
    denied = draft.denied(match.start("letter"))
    report.hold("key", match[0], true=_tonic_fits(match, facts), expected=in_words(facts), denied=denied)


def _mode(draft: Draft, match: re.Match[str], mode: str, facts: Facts, report: Report) -> None:
    denied = draft.denied(match.start())
    if denied and facts.mode and mode.lower() in _MODES and not _mode_fits(mode, facts):
        return  # "not in a major key" of a minor key: there is no third
    report.hold("mode", match[0], true=_mode_fits(mode, facts), expected=facts.mode or "", denied=denied)


def in_words(facts: Facts) -> str:
    """The key in words, as far as it is known."""
    return " ".join(part for part in (facts.tonic, facts.mode) if part)

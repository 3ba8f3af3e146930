"""Tempo: numbers with BPM, ranges, "changes tempo", and words of pace.

A whole number must be the fact rounded; with "around" it may lie 2 % off (Accuracy 1 of Gouyon 2006). A number of a
note value ("180 quarter notes per minute", "dotted quarter = 120") is held against the beat's length, where that is
known. Where the meter does not tell its beat, the facts count notated quarter notes: then a number without a note value
("180 BPM") and words of pace state what nobody knows.
"""

import re

from luthier_music.captions.draft import Draft
from luthier_music.captions.report import CONTRADICTS_FACTS, NEGATED, NOT_IN_FACTS, Report
from luthier_music.clip_facts import Facts

HEDGED_SHARE = 0.02
LOWEST_BPM, HIGHEST_BPM = 20.0, 400.0  # of facts
WIDEST_RANGE = 0.1  # of the tempo; a wider range tells of another piece

_N = r"(?P<low>\d{1,4}(?:\.\d+)?)(?:\s?(?:-|to|and|/)\s?(?P<high>\d{1,4}(?:\.\d+)?))?"
_QUARTERS = {"half": 2.0, "minim": 2.0, "quarter": 1.0, "crotchet": 1.0, "♩": 1.0, "eighth": 0.5, "quaver": 0.5}
_NOTE = rf"(?:dotted[ -])?(?:{'|'.join(_QUARTERS)})s?(?:[ -]notes?)?"
_BPM = r"(?:b\.?\s?p\.?\s?m\b\.?|beats?[ -](?:per|a|/)[ -]?min(?:ute)?s?)"
_BY_NOTE = rf",?\s?(?:(?:by|to|on) the {_NOTE}|\(\s?{_NOTE}\s?\))"
_UNIT = rf"(?:{_BPM}(?:{_BY_NOTE})?|{_NOTE} (?:per|a) min(?:ute)?)"
_FILLER = (
    r"(?:\s|:|=|-|\b(?:is|of|at|around|about|approximately|approx\.?|roughly|exactly|set|near|a|steady|just|under)\b)*"
)
NUMBERS = (
    re.compile(rf"{_NOTE}\.?\s?(?:=|equals|is)\s?{_N}(?:\s?-?\s?{_BPM})?", re.I),
    re.compile(rf"(?<![\w.]){_N}\s?-?\s?{_UNIT}", re.I),
    re.compile(rf"\b{_UNIT}{_FILLER}{_N}(?![\w/.])(?:{_BY_NOTE})?", re.I),
    re.compile(rf"\b(?:tempos?|metronome(?: marking)?|pace){_FILLER}{_N}(?!\w|/|\.\d)", re.I),
    re.compile(rf"(?<![\w.]){_N}[ -]tempo\b", re.I),
    re.compile(
        rf"\bat (?:a |an |around |about |roughly |exactly )*{_N}(?=[\s,.;|]|$)(?![ -](?:s|sec|min|Hz|%|dB|LUFS))", re.I
    ),
)
_NOTE_VALUE = re.compile(rf"(?P<dotted>dotted[ -])?(?P<value>{'|'.join(_QUARTERS)})", re.I)
_HEDGE = re.compile(
    r"\b(?:around|about|approximately|approx\.?|roughly|near|nearly|almost|circa|some|averag\w+|mean|between)\b|~", re.I
)
_STEADY = re.compile(
    r"\b(?:steady|constant|unchanging|fixed)(?= (?:tempo|pace|\d))|"
    r"\b(?:tempo|pace) (?:stays|remains|is|holds|keeps) (?:the same|steady|constant|unchanged|fixed)\b",
    re.I,
)
_CHANGING = re.compile(
    r"\b(?:chang\w+|vary\w*|variable|shift\w+|fluctuat\w+|unsteady|accelerating) (?:its )?tempos?\b|"
    r"\btempos?[ -](?:(?:that|which|is|map) )*(?:chang|shift|vari|vary|fluctuat)\w*|"
    r"\b(?:speeds?|slow(?:s|ing)) (?:up|down)\b|"
    r"\baccelerand[oi]\b|\britardand[oi]\b|\brallentando\b|\brubato\b|\bpick(?:s|ing) up speed\b|"
    r"\b(?:gets?|grow(?:s|ing)|becom(?:es|ing)) (?:faster|slower)\b",
    re.I,
)
_NOUN = (
    r"(?! (?:attack|decay|release|build|fade|sweep|swell|vibrato|bend|arpeggi|runs?\b|lick|fill|pick|strum|burn)\w*)"
)
_PACE = (
    (
        re.compile(rf"\b(?:slow(?:-paced| paced|-tempo| tempo)?|sluggish|leisurely|unhurried)\b(?!-){_NOUN}", re.I),
        0,
        100,
    ),
    (re.compile(rf"\b(?:fast(?:-paced| paced|-tempo| tempo)?|rapid|quick|breakneck)\b(?!-){_NOUN}", re.I), 112, 999),
    (re.compile(r"\b(?:up-?tempo|up tempo|brisk)\b", re.I), 104, 999),
    (re.compile(r"\b(?:(?:mid|medium|moderate)[ -]?tempo|moderate(?:ly)? pace[d]?|mid-?paced)\b", re.I), 80, 136),
    (re.compile(r"\b(?:largo|grave|lento)\b", re.I), 0, 72),
    (re.compile(r"\badagio\b", re.I), 50, 85),
    (re.compile(r"\bandante\b", re.I), 60, 112),
    (re.compile(r"\bmoderato\b", re.I), 80, 126),
    (re.compile(r"\ballegretto\b", re.I), 92, 136),
    (re.compile(r"\ballegro\b", re.I), 108, 180),
    (re.compile(r"\bvivace\b", re.I), 126, 999),
    (re.compile(r"\b(?:presto|prestissimo)\b", re.I), 150, 999),
)


def beats_of(statement: str) -> tuple[float, float] | None:
    """Lowest and highest BPM in words that `check` has read; None for words of pace, and for note values that may be no
    beat.
    """
    note = _NOTE_VALUE.search(statement)
    if note and (note["dotted"] or _QUARTERS[note["value"].lower()] != 1.0):
        return None
    match = next(filter(None, (pattern.search(statement) for pattern in NUMBERS)), None)
    if match is None:
        return None
    low, high = float(match["low"]), float(match["high"] or match["low"])
    return (low, high) if LOWEST_BPM <= low <= high <= HIGHEST_BPM else None


def check(draft: Draft, facts: Facts, report: Report) -> None:
    """Reads every statement about tempo and holds it against the facts."""
    changing = list(draft.take(_CHANGING))
    for match in changing:
        if draft.denied(match.start()) == facts.tempo_changes:
            report.differs("tempo", CONTRADICTS_FACTS, match[0], in_words(facts) or "no tempo change is known")
        elif facts.tempo_changes:
            report.stated.add("tempo")
    for match in draft.take(_STEADY):
        if facts.tempo_changes and not draft.denied(match.start()):
            report.differs("tempo", CONTRADICTS_FACTS, match[0], in_words(facts))
    for pattern in NUMBERS:
        for match in draft.take(pattern):
            _number(draft, match, facts, report, stated_changing=bool(changing))
    for pattern, low, high in _PACE:
        for match in draft.take(pattern):
            _pace(draft, match, (low, high), facts, report)


def _number(draft: Draft, match: re.Match[str], facts: Facts, report: Report, *, stated_changing: bool) -> None:
    low, high = float(match["low"]), float(match["high"] or match["low"])
    hedged = bool(_HEDGE.search(match[0]) or _HEDGE.search(draft.text[max(0, match.start() - 24) : match.start()]))
    truth = _truth(match[0], facts)
    if draft.denied(match.start()):
        report.differs("tempo", NEGATED, match[0], in_words(facts))
    elif truth is None:
        report.differs("tempo", NOT_IN_FACTS, match[0], in_words(facts) if facts.tempo_bpm else "")
    elif not _holds(match, low, high, truth, hedged or stated_changing) or high - low > WIDEST_RANGE * truth:
        report.against("tempo", match[0], in_words(facts))
    elif stated_changing or not facts.tempo_changes:
        report.stated.add("tempo")
    else:
        report.differs("tempo", CONTRADICTS_FACTS, match[0], in_words(facts))


def _truth(statement: str, facts: Facts) -> float | None:
    """The number that a statement must give: of its note value, or of beats where it names none. None = unknown."""
    if facts.tempo_bpm is None:
        return None
    if not (note := _NOTE_VALUE.search(statement)):
        return None if facts.notated else facts.tempo_bpm
    if facts.beat_quarters is None:
        return None
    dotted = note["dotted"] or statement[note.end() :].startswith(".")
    return facts.tempo_bpm * facts.beat_quarters / (_QUARTERS[note["value"].lower()] * (1.5 if dotted else 1.0))


def _holds(match: re.Match[str], low: float, high: float, truth: float, hedged: bool) -> bool:
    """Whether the number, or the range, is the true one."""
    decimals = len(match["low"].partition(".")[2])
    margin = HEDGED_SHARE * truth if hedged else 0.5 * 10**-decimals
    return low - margin - 1e-6 <= truth <= high + margin + 1e-6


def _pace(draft: Draft, match: re.Match[str], bounds: tuple[int, int], facts: Facts, report: Report) -> None:
    """Words of pace must not be wrong; they do not state the tempo that a caption must state."""
    known = facts.tempo_bpm is not None and not facts.notated
    denied = draft.denied(match.start())
    if denied and known and not bounds[0] <= (facts.tempo_bpm or 0) <= bounds[1]:
        return  # "anything but slow" at 212 BPM
    if denied:
        report.differs("tempo", NEGATED, match[0], in_words(facts))
    elif facts.tempo_bpm is None or not known:  # without a beat nobody knows how fast it is
        report.differs("tempo", NOT_IN_FACTS, match[0], in_words(facts) if facts.tempo_bpm else "")
    elif not bounds[0] <= facts.tempo_bpm <= bounds[1]:
        report.against("tempo", match[0], in_words(facts))


def in_words(facts: Facts) -> str:
    """The tempo in words; empty = unknown."""
    if facts.tempo_bpm is None:
        return "changing tempo" if facts.tempo_changes else ""
    number = f"changing tempo around {facts.tempo_bpm:.0f}" if facts.tempo_changes else f"{facts.tempo_bpm:.4g}"
    return f"{number} {facts.tempo_unit()}"

"""Instruments and voices: every phrase that names one must be true of something that sounds, and so must "no drums"."""

import re
from collections.abc import Iterable

from luthier_music.captions.draft import Draft
from luthier_music.captions.report import CONTRADICTS_FACTS, NOT_IN_FACTS, Report
from luthier_music.clip_facts import ACOUSTIC, SYNTHETIC, Facts, Voice
from luthier_music.instrument_words import PHRASES, UNKNOWN, VOICES, WHERE_TRUE, name_of


def phrases(words: Iterable[str]) -> re.Pattern[str]:
    """One pattern for many phrases, longest first; blanks and hyphens are equal, a plural s may follow."""
    # Grouped by their first character, which alone decides at most places of a text: a thousand phrases one after the
    # other would take ten times as long.
    rests: dict[str, list[str]] = {}
    for word in sorted(words, key=len, reverse=True):
        rest = re.escape(word[1:]).replace(r"\ ", "[ -]?").replace(r"\-", "[ -]?")
        rests.setdefault(re.escape(word[0]), []).append(rest)
    alternatives = "|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in rests.items())
    return re.compile(rf"(?<![\w&])(?:the )?(?P<phrase>{alternatives})(?:e?s)?(?![\w&])", re.I)


def squeezed(text: str) -> str:
    """A phrase without blanks and hyphens, lower case: how spellings are compared."""
    return re.sub(r"[ -]", "", text.lower())


# "keys" of a tonality and "synth pop" name no instrument; "bass drum" is in the table, "bass-heavy" claims a bass.
_NO_INSTRUMENT = re.compile(
    r"\b(?:(?:major|minor|relative|parallel|different|distant|of) keys?\b|keys? (?:of|change|signature|cent)|"
    r"synth[ -](?:pop|wave|punk)|(?:steel|brass) city|strings? of|key\b|organic\w*|winds? (?:up|down)|horn of)",
    re.I,
)
_KNOWN, _TRUE, _UNKNOWN = phrases(PHRASES), phrases(WHERE_TRUE), phrases(UNKNOWN)
_PROGRAMS = {squeezed(phrase): programs for phrase, programs in PHRASES.items()}
_TRUE_PROGRAMS = {squeezed(phrase): programs for phrase, programs in WHERE_TRUE.items()}
_ACOUSTIC = re.compile(
    r"\b(?:(?:fully|purely|mostly|largely|all|entirely|partly|semi)[ -])?(?:acoustic|unplugged)\b", re.I
)
_SYNTHETIC = re.compile(
    r"\b(?:fully|purely|mostly|largely|all|entirely)[ -](?:electronic|synthetic|synthesized)\b", re.I
)
# That a part is alone: "solo cello", "cello alone"; but "a saxophone solo over drums" is a passage.
_SOLO = re.compile(
    r"\bsolo[ -](?=\x00)|\bformat:? solo\b|\bunaccompanied\b|(?<!let )\balone\b|\b(?:on its own|by itself)\b", re.I
)
_LONE_WORD = re.compile(r"\bsolo\b", re.I)
_COMPANY = re.compile(r"\b(?:bands?|ensembles?|accompan(?:ied|iment|ying|ies)|backing|rhythm section)\b", re.I)
_GROUP = re.compile(r"\b(duo|duet|trio|quartet|quintet|sextet)\b(?P<of> of )?", re.I)
_PLAYERS = re.compile(r"\b(?P<count>two|three|four|five|six) (?=\x00)", re.I)
_SIZES = {"duo": 2, "duet": 2, "trio": 3, "quartet": 4, "quintet": 5, "sextet": 6}
_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_INSTRUMENTAL = re.compile(r"\b(?:instrumentals?|non-vocal)\b", re.I)
_VOICE = re.compile(
    r"\b(?:[a-z]+ )?(?:vocals?|vocalists?|vocali[sz]\w+|vox|voices?|voiced|singers?|sings?|singing|sung|lyrics?|"
    r"choirs?|choral|chorale|chants?|chanting|rap(?:per|pers|ping|ped|s)?|mcs?|a cappella|acapella|humming|hums|"
    r"beatbox\w*|spoken word|speech|narrat\w+|screams?|screaming|growls?|growled|falsetto|crooning|croon\w*|"
    r"whisper\w*|vocoder|vocoded|talk ?box|"
    r"sopranos?|altos?|tenors?|baritones?|backup singers?|frontman|frontwoman|yodel\w*|scat)\b",
    re.I,
)
_ANY_VOICE = re.compile(r"\b(?:vocals?|voices?|vocalists?|singers?)\b", re.I)
_SINGING = re.compile(r"(?<=\x00 )(?:sings|singing)\b", re.I)  # "the violin sings": an instrument, read before
_CHORUS = re.compile(r"\b(?:voices?|choirs?|choral)\b", re.I)


def programs_of(phrase: str) -> frozenset[int]:
    """The programs of which a phrase that `check` has read may be true; empty for an instrument that no program is."""
    return _PROGRAMS.get(squeezed(phrase), frozenset())


def instrument_of(words: str) -> frozenset[int]:
    """The programs that words are a name of, and nothing else: "Drums", "the violins", "jazz guitar"; empty = none."""
    for pattern, programs in ((_KNOWN, _PROGRAMS), (_TRUE, _TRUE_PROGRAMS)):
        if match := pattern.fullmatch(words.strip()):
            return programs[squeezed(match["phrase"])]
    return frozenset()


def names_instrument(phrase: str) -> bool:
    """Whether the readers below would read an instrument, or its kind, in this phrase."""
    return any(pattern.search(phrase) for pattern in (_KNOWN, _TRUE, _UNKNOWN, _ACOUSTIC, _SYNTHETIC))


def begins_longer(text: str, match: re.Match[str]) -> bool:
    """Whether a longer name of an instrument begins where another reader's match begins ("honky tonk piano")."""
    named = _KNOWN.match(text, match.start())
    return named is not None and named.end() > match.end()


def plays_much(word: str, facts: Facts) -> frozenset[int]:
    """The programs heard most of which a word is true: the name of an instrument, or "acoustic" where at least half of
    what plays is. Empty = it is not true.
    """
    if word == "acoustic":
        return facts.pitched() & ACOUSTIC if _share(facts, ACOUSTIC) >= 0.5 else frozenset()
    return _PROGRAMS[word] & {heard.program for heard in facts.required_instruments() if heard.program is not None}


def check(draft: Draft, facts: Facts, report: Report) -> None:
    """Reads every instrument and holds it against what sounds."""
    for match in draft.take(_UNKNOWN):
        if not draft.denied(match.start()):
            report.differs("instrument", NOT_IN_FACTS, match["phrase"], _sounding(facts))
    for match in _TRUE.finditer(draft.left):
        programs = _TRUE_PROGRAMS[squeezed(match["phrase"])] & facts.programs()
        if programs and not draft.denied(match.start()):
            draft.hide(match)
            report.programs |= programs
    hidden = [match.span() for match in _NO_INSTRUMENT.finditer(draft.left)]
    for match in _KNOWN.finditer(draft.left):
        if not any(low < match.end() and match.start() < high for low, high in hidden):
            _compare(draft, match, facts, report)
    _acousticness(draft, facts, report)
    _size(draft, facts, report)


def _compare(draft: Draft, match: re.Match[str], facts: Facts, report: Report) -> None:
    programs = _PROGRAMS[squeezed(match["phrase"])]
    true_of = programs & facts.programs()
    if programs <= VOICES and not true_of:
        return  # left to `check_voices`
    draft.hide(match)
    if draft.denied(match.start()):
        if true_of:
            report.differs("instrument", CONTRADICTS_FACTS, f"no {match['phrase']}", _sounding(facts))
    elif true_of:
        report.programs |= true_of
    else:
        report.differs("instrument", NOT_IN_FACTS, match["phrase"], _sounding(facts))


def _acousticness(draft: Draft, facts: Facts, report: Report) -> None:
    """The word acoustic needs a majority of acoustic instruments, "fully acoustic" all; so for electronic."""
    for pattern, kind in ((_ACOUSTIC, ACOUSTIC), (_SYNTHETIC, SYNTHETIC)):
        for match in draft.take(pattern):
            if draft.denied(match.start()):
                continue
            share = _share(facts, kind)
            needed = 1.0 if re.match(r"fully|purely|all|entirely", match[0], re.I) else 0.5
            if share < needed:
                report.against("acousticness", match[0], _sounding(facts))


def _share(facts: Facts, kind: frozenset[int]) -> float:
    """The share of pitched instruments that are of a kind; 0 where there are none."""
    return len(facts.pitched() & kind) / len(facts.pitched()) if facts.pitched() else 0.0


def _size(draft: Draft, facts: Facts, report: Report) -> None:
    """ "A trio" counts all instruments, "a duet of strings" and "two guitarists" those of that name."""
    everyone = len(facts.instruments)
    _alone(draft, facts, report)
    sizes = []
    for match in draft.take(_GROUP):
        named = _KNOWN.match(draft.text, match.end()) if match["of"] else None
        if named and re.match(r",| and\b| &", draft.text[named.end() :]):
            named = None  # "a duo of guitar and flute" lists everyone
        sizes.append((match, _SIZES[match[1].lower()], _playing(named, facts) if named else everyone))
    for match in draft.take(_PLAYERS):
        named = _KNOWN.match(draft.text, match.end())
        if named and named.end() > named.end("phrase"):  # "two guitars", not "two bass notes"
            sizes.append((match, _COUNTS[match["count"].lower()], _playing(named, facts)))
    for match, size, count in sizes:
        if size != count:
            report.against("ensemble", match[0], f"{count} instruments" if count else "")


def _playing(named: re.Match[str], facts: Facts) -> int:
    return len(_PROGRAMS[squeezed(named["phrase"])] & facts.programs())


def _alone(draft: Draft, facts: Facts, report: Report) -> None:
    """That one part plays alone is true where the facts say so: a mix with one instrument may have two players."""
    count = f"{len(facts.instruments)} instruments" if facts.instruments else ""
    claims = list(draft.take(_SOLO)) + [match for match in _LONE_WORD.finditer(draft.left) if draft.fills_field(match)]
    for match in claims:
        if draft.denied(match.start()) == facts.solo:
            report.against("ensemble", match[0], "one part alone" if facts.solo else count)


def check_company(draft: Draft, facts: Facts, report: Report) -> None:
    """Nobody plays beside a part that is alone; goes after the reader of genres, which knows brass bands."""
    for match in draft.take(_COMPANY) if facts.solo else ():
        if not draft.denied(match.start()):
            report.differs("ensemble", CONTRADICTS_FACTS, match[0], "one part alone")


def check_voices(draft: Draft, facts: Facts, report: Report) -> None:
    """Where nothing but notes was rendered, any voice but a General MIDI choir is untrue, and "no vocals" is true.

    Of a recording, "instrumental" and "no vocals" are true when it is known that nobody sings or speaks, and a mere
    "voice" or "vocals" when it is known that somebody does. Whose voice it is and what it does, nobody knows.
    """
    for match in draft.take(_INSTRUMENTAL):
        if facts.voice is not Voice.NONE:
            report.against("vocals", match[0], facts.voice.value)
    for _ in draft.take(_SINGING):
        pass
    for match in draft.take(_VOICE):
        choir = bool(_CHORUS.search(match[0])) and bool(VOICES & facts.programs())
        denied = draft.denied(match.end() - 1) or draft.denied(match.start())
        heard = facts.voice is Voice.HEARD
        if denied and facts.voice is not Voice.NONE:
            report.against("vocals", f"no {match[0]}", facts.voice.value)
        elif not choir and not denied and not (heard and _ANY_VOICE.search(match[0])):
            report.against("vocals", match[0], facts.voice.value if not heard else "")


def missing(facts: Facts, report: Report) -> list[str]:
    """The names of required instruments that no phrase covered."""
    return [heard.name for heard in facts.required_instruments() if heard.program not in report.programs]


def _sounding(facts: Facts) -> str:
    return ", ".join(name_of(program) for program in sorted(facts.programs()))

"""Voices: renders are instrumental, so any voice that is not a General MIDI choir is untrue; "no vocals" is true."""

import re

from luthier_prompting.checker.draft import Draft
from luthier_prompting.checker.report import CONTRADICTS_FACTS, Report
from luthier_prompting.facts import VOICES, Facts

_INSTRUMENTAL = re.compile(r"\b(?:instrumentals?|non-vocal)\b", re.I)
_VOICE = re.compile(
    r"\b(?:[a-z]+ )?(?:vocals?|vocalists?|vocali[sz]\w+|vox|voices?|voiced|singers?|sings?|singing|sung|lyrics?|"
    r"choirs?|choral|chorale|chants?|chanting|rap(?:per|pers|ping|ped|s)?|mcs?|a cappella|acapella|humming|hums|"
    r"beatbox\w*|spoken word|speech|narrat\w+|screams?|screaming|growls?|growled|falsetto|crooning|croon\w*|"
    r"whisper\w*|vocoder|vocoded|talk ?box|"
    r"sopranos?|altos?|tenors?|baritones?|backup singers?|frontman|frontwoman|yodel\w*|scat)\b",
    re.I,
)
_CHORUS = re.compile(r"\b(?:voices?|choirs?|choral)\b", re.I)


def check(draft: Draft, facts: Facts, report: Report) -> None:
    """Reads every mention of a voice."""
    for _ in draft.take(_INSTRUMENTAL):
        pass
    for match in draft.take(_VOICE):
        choir = bool(_CHORUS.search(match[0])) and bool(VOICES & facts.programs())
        if not choir and not draft.denied(match.end() - 1) and not draft.denied(match.start()):
            report.differs("vocals", CONTRADICTS_FACTS, match[0], "instrumental")

"""Holds a prompt against the facts of its clip.

Every statement that it can read must be in the facts, and every required fact must be stated: tempo, key, mode, the
main instruments, one genre and one mood, as far as they are known. Readers go from the specific to the general, and
each blanks out the words it has understood, so that "jazz guitar" or "120 BPM" are not read twice. English only;
words outside the vocabularies ("shimmering", "wall of sound") state nothing that a fact could prove, and pass.
"""

from luthier_music.captions import form, instruments, key, measures, tempo, words
from luthier_music.captions.draft import Draft
from luthier_music.captions.report import CUT_OFF, REQUIRED_BUT_MISSING, Disagreement, Report
from luthier_music.clip_facts import Facts

VERSION = "luthier-checker/6"

__all__ = ["CUT_OFF", "VERSION", "Disagreement", "check", "held", "required"]


def check(
    prompt: str, facts: Facts, *, allow_subset: bool = False, must_name: bool = False, max_words: int | None = None
) -> list[Disagreement]:
    """All disagreements between the prompt and the facts, none when it passes. prompt: at most 2000 characters.

    `allow_subset`: required facts may stay unstated (metadata and short style); `must_name`: but a genre or an
    instrument must be named where one is required (short style); `max_words`: more are a fault of form.
    """
    report = held(prompt, facts, max_words)
    if not allow_subset:
        _missing(facts, report)
    nothing_named = "genre" not in report.stated and not report.programs
    if must_name and nothing_named and (facts.genres or facts.required_instruments()):
        report.differs("instrument", REQUIRED_BUT_MISSING, "", "a genre or an instrument")
    return report.disagreements


def held(prompt: str, facts: Facts, max_words: int | None = None) -> Report:
    """Every statement of a prompt held against the facts: what is truly stated, and where they differ."""
    draft, report = Draft(prompt), Report()
    form.check(draft, report, max_words)
    measures.check(draft, facts, report)
    words.compounds(draft, facts, report)
    tempo.check(draft, facts, report)
    key.check(draft, facts, report)
    instruments.check(draft, facts, report)
    instruments.check_voices(draft, facts, report)
    words.check(draft, facts, report)
    instruments.check_company(draft, facts, report)
    measures.leftovers(draft, report)
    return report


def required(facts: Facts) -> dict[str, str]:
    """What a full caption must state: subject to the fact in words. Instruments are apart."""
    tempo_fact = tempo.in_words(facts)
    wanted = {"tempo": tempo_fact, "key": key.in_words(facts) if facts.tonic else "", "mode": facts.mode}
    wanted |= {"genre": ", ".join(facts.genres), "mood": ", ".join(facts.moods)}
    return {subject: fact for subject, fact in wanted.items() if fact}


def _missing(facts: Facts, report: Report) -> None:
    wrong = {found.subject for found in report.disagreements}
    if "key" in wrong:
        wrong.add("mode")  # a wrong key was not read for its mode
    if facts.tonic and "key" not in report.stated:
        wrong.add("mode")  # a missing key is one fault, not two
    for subject, fact in required(facts).items():
        if subject not in report.stated | wrong:
            report.differs(subject, REQUIRED_BUT_MISSING, "", fact)
    for name in instruments.missing(facts, report):
        report.differs("instrument", REQUIRED_BUT_MISSING, "", name)

"""What a check finds: where a prompt and the facts differ, and which facts the prompt states."""

from dataclasses import dataclass, field
from typing import Final

NOT_IN_FACTS: Final = "NOT_IN_FACTS"  # the facts are silent, so nothing proves it
CONTRADICTS_FACTS: Final = "CONTRADICTS_FACTS"  # the facts say otherwise
REQUIRED_BUT_MISSING: Final = "REQUIRED_BUT_MISSING"  # a known fact is not stated
INSTRUCTION: Final = "INSTRUCTION"  # the prompt tells someone to do something
QUESTION: Final = "QUESTION"  # the prompt asks
NOT_ONLY_THE_PROMPT: Final = "NOT_ONLY_THE_PROMPT"  # talk, markup, labels or links around it
CUT_OFF: Final = "CUT_OFF"  # the language model did not come to an end
TOO_LONG: Final = "TOO_LONG"  # more words than its style allows
NEGATED: Final = "NEGATED"  # denies what only a positive statement can prove


@dataclass(frozen=True)
class Disagreement:
    """One difference.

    subject: tempo, key, mode, instrument, genre, mood, era, meter, vocals, form, …; reason: one of the constants above;
    stated: the prompt's words; expected: what the facts say, empty = unknown.
    """

    subject: str
    reason: str
    stated: str = ""
    expected: str = ""


@dataclass
class Report:
    """Collects disagreements in the order in which they are found, and the subjects that are truly stated."""

    disagreements: list[Disagreement] = field(default_factory=list)
    stated: set[str] = field(default_factory=set)
    programs: set[int] = field(default_factory=set)

    def differs(self, subject: str, reason: str, stated: str = "", expected: str = "") -> None:
        found = Disagreement(subject, reason, stated.strip(), expected)
        if found not in self.disagreements:
            self.disagreements.append(found)

    def against(self, subject: str, stated: str, expected: str) -> None:
        """Something untrue: contradicted where the facts speak, else not in them."""
        self.differs(subject, CONTRADICTS_FACTS if expected else NOT_IN_FACTS, stated, expected)

    def hold(self, subject: str, words: str, *, true: bool, expected: str, denied: bool = False) -> None:
        """One statement held against the facts: denied, untrue, or truly stated."""
        if denied:
            self.differs(subject, NEGATED, words, expected)
        elif true:
            self.stated.add(subject)
        else:
            self.against(subject, words, expected)

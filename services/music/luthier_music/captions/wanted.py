"""Music that is asked for by number and name beside a prompt: what the prompt says against it, and the prompt
completed.

A prompt is read as a caption is checked, against a clip of just this music. What it states already is not said again;
the rest is written by the grammar that captions clips (`luthier_music.grammar`), so that it reads as the captions that
a model was trained on.
"""

from dataclasses import dataclass, replace
from typing import Final

from luthier_music.captions import Disagreement, held
from luthier_music.captions.instruments import instrument_of
from luthier_music.captions.report import CONTRADICTS_FACTS, NEGATED, Report
from luthier_music.clip_facts import Facts, Heard
from luthier_music.grammar import completed
from luthier_music.instrument_words import name_of
from luthier_music.instruments import caption_name
from luthier_music.keys import Key
from luthier_music.meter import beat_quarters

_FIELDS: Final = {
    "tempo": "tempo_bpm", "key": "key", "mode": "key", "meter": "meter", "instrument": "instruments",
    "duration": "bars",
}  # fmt: skip
"""The field of `Wanted` that decides each subject of a caption."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for; None or empty = not asked for.

    `tempo_bpm` 20 to 400 counts beats of the meter, or quarter notes where the meter does not tell its beat; `meter` is
    numerator and denominator; `bars` of them last `duration_s`; `instruments` are words of which `instrument_of` knows
    programs.
    """

    tempo_bpm: float | None = None
    key: Key | None = None
    meter: tuple[int, int] | None = None
    bars: int | None = None
    duration_s: float | None = None
    instruments: tuple[str, ...] = ()

    def in_words(self) -> dict[str, str]:
        """Each field that is asked for, and what is asked."""
        found = {
            "tempo_bpm": "" if self.tempo_bpm is None else f"{self.tempo_bpm:g} BPM",
            "key": str(self.key or ""),
            "meter": "{}/{}".format(*self.meter) if self.meter else "",
            "bars": "" if self.bars is None else f"{self.bars} bars",
            "instruments": ", ".join(self.instruments),
        }
        return {field: words for field, words in found.items() if words}

    def facts(self) -> Facts:
        """The facts of a clip of this music and nothing else; each instrument as the captions of the data call it."""
        beat = beat_quarters(*self.meter) if self.meter else None
        notated = self.meter is not None and beat is None
        return Facts(
            duration_s=self.duration_s,
            tempo_bpm=self.tempo_bpm,
            tonic=self.key.tonic_name if self.key else None,
            mode=self.key.mode if self.key else None,
            meter=self.meter,
            beat_quarters=1.0 if notated else beat,
            notated=notated,
            instruments=tuple(_heard(words) for words in self.instruments),
        )


@dataclass(frozen=True)
class Contradiction:
    """`stated` in the prompt is not what `field` asks for, which is `asked`."""

    field: str
    stated: str
    asked: str


def contradictions(prompt: str, wanted: Wanted) -> list[Contradiction]:
    """Where a prompt of at most 2000 characters says something else than is asked for, or denies what is."""
    asked, found = wanted.in_words(), []
    for one in _read(prompt, wanted).disagreements:
        if (field := _FIELDS.get(one.subject, "")) not in asked:
            continue
        if one.reason == CONTRADICTS_FACTS:
            found.append(Contradiction(field, one.stated, asked[field]))
        elif one.reason == NEGATED and _holds(one, wanted):
            found.append(Contradiction(field, f"not {one.stated}", asked[field]))
    return list(dict.fromkeys(found))


def completed_prompt(prompt: str, wanted: Wanted) -> str:
    """The prompt with all that is asked for and that it does not state yet."""
    report, facts = _read(prompt, wanted), wanted.facts()
    keyed = {"key", "mode"} <= report.stated
    unsaid = Facts(
        tempo_bpm=None if "tempo" in report.stated else facts.tempo_bpm,
        notated=facts.notated,
        tonic=None if keyed else facts.tonic,
        mode=None if keyed else facts.mode,
        meter=None if "meter" in report.stated else facts.meter,
        instruments=tuple(_heard(words) for words in wanted.instruments if not instrument_of(words) & report.programs),
    )
    return completed(prompt, unsaid)


def _read(prompt: str, wanted: Wanted) -> Report:
    """A prompt held against all that its instruments may be: a jazz guitar is the guitar that is asked for."""
    programs = sorted(frozenset[int]().union(*map(instrument_of, wanted.instruments)))
    heard = tuple(Heard(name_of(program)) for program in programs)
    return held(prompt, replace(wanted.facts(), instruments=heard))


def _holds(denied: Disagreement, wanted: Wanted) -> bool:
    """Whether what a prompt denies is just what is asked for: "not in a minor key" of D minor, but not of D major."""
    return not any(one.subject == denied.subject for one in _read(denied.stated, wanted).disagreements)


def _heard(words: str) -> Heard:
    """An instrument by the name that captions give it; one that may be several programs by the words themselves."""
    programs = sorted(instrument_of(words))
    alone = len(programs) == 1 or words.lower() == caption_name(programs[0])
    return Heard(name_of(programs[0]), called="" if alone else " ".join(words.lower().split()).removeprefix("the "))

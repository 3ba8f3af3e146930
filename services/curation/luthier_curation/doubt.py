"""How doubtful a clip is: what should be judged first, and how far the estimators are from the facts."""

from typing import Final

from luthier.common.v1.common_pb2 import (
    MODE_MAJOR,
    MODE_MINOR,
    VOICE_PRESENCE_UNSPECIFIED,
    ClipFacts,
    KeyFact,
    Prompt,
)
from luthier_music.keys import Key, key_score, parse_pitch_class
from luthier_music.tempo import accuracy_1, accuracy_2

OTHER_OCTAVE: Final = 0.5
OTHER_TEMPO: Final = 1.0
FAILED_CHECK: Final = 1.0
VOICE_UNKNOWN: Final = 0.5
CONFLICT: Final = 4.0
"""More than all other doubts of a clip together."""
BEATS_OF_NOTATED: Final = (1.0, 1.5, 2 / 3)
"""What may be the beat where a tempo counts notated quarter notes: the quarter, the dotted quarter of 7/8 and its
like."""


def tempo_disagreement(facts: ClipFacts) -> float:
    """0 = the estimate is within 2 % of the fact, or one of them is unknown; 0.5 = at 2, 1/2, 3 or 1/3 of it (Accuracy
    2, Gouyon 2006); 1 = another tempo. A fact whose beat is unknown is met by an estimate that any beat of it meets."""
    fact, estimate = facts.tempo.tempo_bpm, facts.estimated_tempo.tempo_bpm
    if fact <= 0 or estimate <= 0:
        return 0.0
    if facts.tempo.notated:
        met = any(accuracy_2(fact * beat, estimate) for beat in BEATS_OF_NOTATED)
        return 0.0 if met else OTHER_TEMPO
    if accuracy_1(fact, estimate):
        return 0.0
    return OTHER_OCTAVE if accuracy_2(fact, estimate) else OTHER_TEMPO


def key_disagreement(facts: ClipFacts) -> float:
    """1 less the MIREX score of the estimate against the fact, 0 to 1; 0 where one of them is unknown."""
    fact, estimate = _key(facts.key), _key(facts.estimated_key)
    return 1.0 - key_score(fact, estimate) if fact and estimate else 0.0


def doubt(facts: ClipFacts, prompts: list[Prompt]) -> float:
    """How doubtful a clip is that nobody has judged, 0 to 3.5: the disagreements, a prompt that failed its check, a
    recording of which nobody knows whether a voice is heard."""
    failed = any(prompt.HasField("check") and not prompt.check.passed for prompt in prompts)
    voice_unknown = facts.HasField("voice") and facts.voice.presence == VOICE_PRESENCE_UNSPECIFIED
    return (
        tempo_disagreement(facts)
        + key_disagreement(facts)
        + (FAILED_CHECK if failed else 0.0)
        + (VOICE_UNKNOWN if voice_unknown else 0.0)
    )


def priority(doubt: float, conflict: bool) -> float:
    """Place in the order to judge in, highest first: what reviewers differ about, then doubtful before plain."""
    return doubt + (CONFLICT if conflict else 0.0)


def _key(fact: KeyFact) -> Key | None:
    """The key, where tonic and mode are known."""
    try:
        tonic = parse_pitch_class(fact.tonic)
    except ValueError:
        return None
    modes = {MODE_MAJOR: "major", MODE_MINOR: "minor"}
    return Key(tonic, "major" if fact.mode == MODE_MAJOR else "minor") if fact.mode in modes else None

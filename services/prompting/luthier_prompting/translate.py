"""Messages of luthier.common.v1 to domain facts and back. What a source does not vouch for is unknown."""

from collections.abc import Iterable

from luthier.common.v1 import common_pb2
from luthier_kit.checks import Checks
from luthier_music.vocabulary import classify, is_noise, is_vocal
from luthier_prompting.checker import VERSION, Disagreement
from luthier_prompting.facts import Facts, Heard

MAX_TAGS, MAX_INSTRUMENTS = 200, 129
TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_MODES = {common_pb2.MODE_MAJOR: "major", common_pb2.MODE_MINOR: "minor"}


def check_facts(checks: Checks, facts: common_pb2.ClipFacts, tags: Iterable[common_pb2.Tag]) -> None:
    """Holds the message against its bounds."""
    if facts.tempo.tempo_bpm:
        checks.within("facts.tempo.tempo_bpm", facts.tempo.tempo_bpm, 20, 400)
    if facts.key.tonic:
        checks.one_of("facts.key.tonic", facts.key.tonic, TONICS)
    checks.count("facts.instruments", facts.instruments, 0, MAX_INSTRUMENTS)
    for number, heard in enumerate(facts.instruments):
        checks.text(f"facts.instruments[{number}].instrument", heard.instrument, max_chars=64, blank=False)
        checks.within(f"facts.instruments[{number}].share", heard.share, 0, 1)
    if facts.duration_s:
        checks.above("facts.duration_s", facts.duration_s, 0, 3600)
    if facts.HasField("loudness_lufs"):
        checks.finite("facts.loudness_lufs", facts.loudness_lufs)
    for number, descriptor in enumerate(facts.descriptors):
        checks.finite(f"facts.descriptors[{number}].value", descriptor.value)
    tags = list(tags)
    checks.count("tags", tags, 0, MAX_TAGS)
    for number, tag in enumerate(tags):
        checks.text(f"tags[{number}].text", tag.text, max_chars=64)


def facts_of(facts: common_pb2.ClipFacts, tags: Iterable[common_pb2.Tag]) -> Facts:
    """What may be said. Tags count as far as the vocabulary knows them: strangers' text never reaches a prompt."""
    trusted_tempo = facts.tempo.source != common_pb2.FACT_SOURCE_UNSPECIFIED
    trusted_key = facts.key.source != common_pb2.FACT_SOURCE_UNSPECIFIED
    words = [
        classify(t.text) for t in sorted(tags, key=lambda t: -t.weight) if not is_noise(t.text) and not is_vocal(t.text)
    ]
    onsets = [d.value for d in facts.descriptors if d.name == "onset_rate_hz"]
    return Facts(
        duration_s=facts.duration_s or None,
        tempo_bpm=(facts.tempo.tempo_bpm or None) if trusted_tempo else None,
        tempo_changes=facts.tempo.changes and trusted_tempo,
        tonic=(facts.key.tonic or None) if trusted_key else None,
        mode=_MODES.get(facts.key.mode) if trusted_key else None,
        instruments=tuple(Heard(i.instrument, i.share) for i in sorted(facts.instruments, key=lambda i: -i.share)),
        meter=(facts.meter.numerator, facts.meter.denominator) if facts.meter.numerator else None,
        loudness_lufs=facts.loudness_lufs if facts.HasField("loudness_lufs") else None,
        onset_rate_hz=onsets[0] if onsets else None,
        genres=tuple(dict.fromkeys(word.text for word in words if word.kind == "genre")),
        moods=tuple(dict.fromkeys(word.text for word in words if word.kind == "mood")),
        eras=tuple(dict.fromkeys(word.text for word in words if word.kind == "era")),
    )


def check_message(disagreements: Iterable[Disagreement]) -> common_pb2.PromptCheck:
    """The outcome as a message."""
    found = [
        common_pb2.Disagreement(subject=d.subject, reason=d.reason, stated=d.stated, expected=d.expected)
        for d in disagreements
    ]
    return common_pb2.PromptCheck(passed=not found, disagreements=found, checker=VERSION)

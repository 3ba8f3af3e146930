"""What can be said about an excerpt of music, each fact with its source, and how it is said in messages.

None = unknown: the message is there and empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.common.v1 import common_pb2 as common
from luthier_music.keys import Key

_MODES = {"major": common.MODE_MAJOR, "minor": common.MODE_MINOR}


@dataclass(frozen=True)
class Tempo:
    """Beats per minute, as FACT_SOURCE_… gives it.

    `beat_quarters` is the beat's length in quarter notes, 0 = unknown; `notated`: the meter does not tell what the beat
    is, so notated quarter notes are counted.
    `changes`: not steady, `tempo_bpm` is the time-weighted mean. `confidence` is 0..1, 0 = not given. `note` says why
    another estimator than the one asked for was used.
    """

    tempo_bpm: float
    source: common.FactSource
    estimator: str = ""
    confidence: float = 0.0
    changes: bool = False
    note: str = ""
    beat_quarters: float = 0.0
    notated: bool = False


@dataclass(frozen=True)
class KeyFound:
    """A key with the strength (audio) or margin (notes) that its source states, 0..1."""

    key: Key
    strength: float
    source: common.FactSource
    estimator: str


@dataclass(frozen=True)
class Loudness:
    """Integrated loudness (BS.1770-4) and sample peak."""

    loudness_lufs: float
    peak_dbfs: float


@dataclass(frozen=True)
class Section:
    """A section; sections that sound alike share a label. boundary_strength 0..1 is that of its start."""

    start_s: float
    end_s: float
    label: str
    boundary_strength: float


@dataclass(frozen=True)
class Beats:
    """Beats in seconds, ascending, each with whether it begins a bar; who found them, and who the bars ("" = nobody).

    `confidence` is 0..1, 0 = not given. `note` says why another estimator than the one asked for was used, or why there
    are no downbeats.
    """

    times_s: tuple[float, ...]
    downbeats: tuple[bool, ...]
    estimator: str
    downbeat_estimator: str = ""
    confidence: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Descriptor:
    """A scalar; the unit is in the name. `source`: what it was measured on."""

    name: str
    value: float
    estimator: str
    source: common.FactSource = common.FACT_SOURCE_AUDIO


@dataclass(frozen=True)
class Perceptual:
    """What a listener would say of the sound, as far as an estimator does; `note` says why nothing was computed."""

    descriptors: tuple[Descriptor, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class InstrumentShare:
    """An instrument and the share of the span in which it sounds, 0..1."""

    instrument: str
    family: str
    share: float


@dataclass(frozen=True)
class MeterFound:
    """The meter of most of a span; `changes`: another one is in force for a good part of it."""

    numerator: int
    denominator: int
    changes: bool = False


@dataclass(frozen=True)
class Voice:
    """Whether somebody sings or speaks, as VOICE_PRESENCE_… and FACT_SOURCE_… give it; as it stands, unknown.

    `speech` and `vocals` are what detectors heard; None = not checked. `note` says why vocals were not.
    """

    presence: common.VoicePresence = common.VOICE_PRESENCE_UNSPECIFIED
    source: common.FactSource = common.FACT_SOURCE_UNSPECIFIED
    speech: "HeardShare | None" = None
    vocals: "HeardShare | None" = None
    note: str = ""


@dataclass(frozen=True)
class HeardShare:
    """The share of a clip in which a detector hears something, 0..1."""

    share: float
    estimator: str


@dataclass(frozen=True)
class ClipFacts:
    """The facts of one clip's own span; `tempo` and `key` are those to use, the estimates are kept beside them.

    `note` says what was not computed and why; `solo`: one part of a song plays alone.
    `voice` is None where nothing but notes was rendered, so that there is none.
    """

    duration_s: float
    tempo: Tempo | None
    estimated_tempo: Tempo | None
    key: KeyFound | None
    estimated_key: KeyFound | None
    instruments: tuple[InstrumentShare, ...]
    loudness: Loudness | None
    descriptors: tuple[Descriptor, ...]
    meter: MeterFound | None
    voice: Voice | None = None
    note: str = ""
    solo: bool = False


def tempo_message(fact: Tempo | None) -> common.TempoFact:
    if fact is None:
        return common.TempoFact()
    return common.TempoFact(
        tempo_bpm=fact.tempo_bpm,
        changes=fact.changes,
        source=fact.source,
        estimator=fact.estimator,
        confidence=fact.confidence,
        beat_quarters=0.0 if fact.beat_quarters == 1.0 else fact.beat_quarters,
        notated=fact.notated,
    )


def key_message(fact: KeyFound | None) -> common.KeyFact:
    if fact is None:
        return common.KeyFact()
    return common.KeyFact(
        tonic=fact.key.tonic_name,
        mode=_MODES[fact.key.mode],
        strength=fact.strength,
        source=fact.source,
        estimator=fact.estimator,
    )


def beats_message(fact: Beats | None) -> pb.Beats:
    if fact is None:
        return pb.Beats()
    return pb.Beats(
        beats=[
            pb.Beat(time_s=time_s, downbeat=downbeat)
            for time_s, downbeat in zip(fact.times_s, fact.downbeats, strict=True)
        ],
        estimator=fact.estimator,
        downbeat_estimator=fact.downbeat_estimator,
        confidence=fact.confidence,
    )


def section_messages(sections: Sequence[Section]) -> list[pb.Section]:
    return [
        pb.Section(
            span=common.Span(start_s=one.start_s, end_s=one.end_s),
            label=one.label,
            boundary_strength=one.boundary_strength,
        )
        for one in sections
    ]


def descriptor_messages(descriptors: Sequence[Descriptor]) -> list[common.Descriptor]:
    return [
        common.Descriptor(name=one.name, value=one.value, estimator=one.estimator, source=one.source)
        for one in descriptors
    ]


def _meter_message(fact: MeterFound | None) -> common.MeterChange | None:
    return common.MeterChange(numerator=fact.numerator, denominator=fact.denominator) if fact else None


def _voice_message(fact: Voice | None) -> common.VoiceFact | None:
    if fact is None:
        return None
    return common.VoiceFact(
        presence=fact.presence,
        source=fact.source,
        speech_share=fact.speech.share if fact.speech else None,
        speech_estimator=fact.speech.estimator if fact.speech else "",
        vocals_share=fact.vocals.share if fact.vocals else None,
        vocals_estimator=fact.vocals.estimator if fact.vocals else "",
    )


def clip_message(facts: ClipFacts) -> common.ClipFacts:
    return common.ClipFacts(
        duration_s=facts.duration_s,
        tempo=tempo_message(facts.tempo),
        estimated_tempo=tempo_message(facts.estimated_tempo),
        key=key_message(facts.key),
        estimated_key=key_message(facts.estimated_key),
        instruments=[
            common.InstrumentFact(instrument=one.instrument, family=one.family, share=one.share)
            for one in facts.instruments
        ],
        descriptors=descriptor_messages(facts.descriptors),
        loudness_lufs=facts.loudness.loudness_lufs if facts.loudness else None,
        meter=_meter_message(facts.meter),
        meter_changes=facts.meter is not None and facts.meter.changes,
        voice=_voice_message(facts.voice),
        solo=facts.solo,
    )

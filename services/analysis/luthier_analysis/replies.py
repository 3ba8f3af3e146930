"""Facts as messages."""

from luthier_kit.store import Store
from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.common.v1 import common_pb2 as common
from luthier_analysis.facts import ClipFacts, Descriptor, KeyFound, Section, Source, Tempo
from luthier_analysis.results import Analysis, Clip, Plan, SongCut

SOURCES = {
    Source.NOTES: common.FACT_SOURCE_NOTES,
    Source.TEMPO_MAP: common.FACT_SOURCE_TEMPO_MAP,
    Source.AUDIO: common.FACT_SOURCE_AUDIO,
}
MODES = {"major": common.MODE_MAJOR, "minor": common.MODE_MINOR}


def analyzed(result: Analysis) -> pb.AnalyzeAudioResponse:
    """What was measured; a feature that was not asked for stays unset, an unknown one is set and empty."""
    found = result.found
    response = pb.AnalyzeAudioResponse(
        duration_s=result.duration_s, sample_rate_hz=result.sample_rate_hz, channels=result.channels
    )
    if "tempo" in found:
        response.tempo.CopyFrom(tempo(found["tempo"]))
        if found["tempo"] and found["tempo"].note:
            response.notes.append(found["tempo"].note)
    if "key" in found:
        response.key.CopyFrom(key(found["key"]))
    if found.get("loudness"):
        response.loudness_lufs = found["loudness"].loudness_lufs
        response.peak_dbfs = found["loudness"].peak_dbfs
    response.sections.extend(map(section, found.get("sections", ())))
    response.descriptors.extend(map(descriptor, found.get("descriptors", ())))
    return response


def cut(result: SongCut, cpu_s: float, plan: Plan, store: Store) -> pb.CutClipsResponse:
    """The clips, their audio stored."""
    return pb.CutClipsResponse(
        clips=[_clip(clip, store) for clip in result.clips],
        sections=map(section, result.sections),
        notes=result.notes,
        cpu_s=cpu_s,
        target_s=plan.target_s,
        min_s=plan.min_s,
        max_s=plan.max_s,
    )


def tempo(fact: Tempo | None) -> common.TempoFact:
    """Empty = unknown."""
    if fact is None:
        return common.TempoFact()
    return common.TempoFact(
        tempo_bpm=fact.tempo_bpm,
        changes=fact.changes,
        source=SOURCES[fact.source],
        estimator=fact.estimator,
        confidence=fact.confidence,
    )


def key(fact: KeyFound | None) -> common.KeyFact:
    """Empty = unknown."""
    if fact is None:
        return common.KeyFact()
    return common.KeyFact(
        tonic=fact.key.tonic_name,
        mode=MODES[fact.key.mode],
        strength=fact.strength,
        source=SOURCES[fact.source],
        estimator=fact.estimator,
    )


def section(one: Section) -> pb.Section:
    """As it is."""
    span = common.Span(start_s=one.start_s, end_s=one.end_s)
    return pb.Section(span=span, label=one.label, boundary_strength=one.boundary_strength)


def descriptor(one: Descriptor) -> common.Descriptor:
    """As it is."""
    return common.Descriptor(name=one.name, value=one.value, estimator=one.estimator)


def _clip(clip: Clip, store: Store) -> pb.Clip:
    return pb.Clip(
        audio=store.blobs.put_file("clips", clip.path, "audio/flac"),
        span=common.Span(start_s=clip.start_s, end_s=clip.end_s),
        facts=_facts(clip.facts),
        section=clip.section,
        on_bar_lines=clip.on_bar_lines,
    )


def _facts(facts: ClipFacts) -> common.ClipFacts:
    message = common.ClipFacts(
        duration_s=facts.duration_s,
        tempo=tempo(facts.tempo),
        estimated_tempo=tempo(facts.estimated_tempo),
        key=key(facts.key),
        estimated_key=key(facts.estimated_key),
        instruments=[
            common.InstrumentFact(instrument=one.instrument, family=one.family, share=one.share)
            for one in facts.instruments
        ],
        descriptors=map(descriptor, facts.descriptors),
    )
    if facts.loudness:
        message.loudness_lufs = facts.loudness.loudness_lufs
    if facts.meter:
        message.meter.CopyFrom(common.MeterChange(numerator=facts.meter[0], denominator=facts.meter[1]))
    return message

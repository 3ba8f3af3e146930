"""Clips: the facts of each span, and its audio as a file."""

from pathlib import Path

import numpy as np

from luthier_analysis.cutting import cut
from luthier_analysis.facts import ClipFacts, KeyFound, Source, Tempo
from luthier_analysis.features import key, loudness, tempo
from luthier_analysis.features.options import Options
from luthier_analysis.features.registry import describe
from luthier_analysis.results import Clip, Plan, SongCut
from luthier_analysis.segmentation import structure
from luthier_analysis.sound import Sound
from luthier_analysis.timeline import Span, Timeline
from luthier_music.audio import write_audio

NOTE_KEY_ESTIMATOR = "profile/krumhansl-temperley-albrecht"
LEANING_MARGIN = 0.03  # of notes that are not sure, but agree with what is heard
MIN_KEY_STRENGTH = 0.6  # of what is heard
MIN_TEMPO_CONFIDENCE = 1.0 / 5.32  # essentia calls what lies below "very low"
FADE_IN_S, FADE_OUT_S = 0.002, 0.02  # too short to soften an onset on the bar line; long enough not to click
CUT_LEVEL = 1e-3  # -60 dBFS: quieter edges need no fade


def cut_song(sound: Sound, timeline: Timeline | None, plan: Plan, options: Options, directory: Path) -> SongCut:
    """Cut a song and write each clip as a FLAC file into `directory`."""
    shape = structure(sound)
    cuts = cut(sound, shape, timeline, plan)
    clips = []
    for number, span in enumerate(cuts.spans):
        part = sound.part(*span)
        path = directory / f"clip-{number:03d}.flac"
        write_audio(path, faded(part.samples, sound.sample_rate_hz), sound.sample_rate_hz)
        facts = facts_of(part, timeline, span, options)
        section = next(one.label for one in reversed(shape.sections) if one.start_s <= span[0] + 0.5)
        on_bar_lines = timeline is not None and timeline.trusted() and timeline.on_bar_lines(span)
        clips.append(Clip(path, *span, facts, section, on_bar_lines))
    fallbacks = {one.facts.estimated_tempo.note for one in clips if one.facts.estimated_tempo}
    return SongCut(tuple(clips), shape.sections, (*cuts.notes, *sorted(filter(None, fallbacks))))


def facts_of(part: Sound, timeline: Timeline | None, span: Span, options: Options) -> ClipFacts:
    """Facts of a span: notes and tempo map where they prove something, the audio where they do not, else unknown."""
    heard_tempo, heard_key = tempo.measure(part, options), key.measure(part, options)
    return ClipFacts(
        duration_s=part.duration_s,
        tempo=(timeline and timeline.tempo_in(span)) or _sure_tempo(heard_tempo),
        estimated_tempo=heard_tempo,
        key=_key(timeline, span, heard_key),
        estimated_key=heard_key,
        instruments=timeline.instruments_in(span) if timeline else (),
        loudness=loudness.measure(part, options),
        descriptors=describe(part, options),
        meter=timeline.meter_in(span) if timeline else None,
    )


def faded(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """(frames, channels) with a raised-cosine fade at each edge that cuts into sound; a copy only then."""
    out = samples
    for reverse, length_s in ((False, FADE_IN_S), (True, FADE_OUT_S)):
        count = min(round(length_s * sample_rate_hz), len(samples) // 2)
        edge = slice(len(samples) - count, None) if reverse else slice(count)
        if np.abs(samples[edge]).max(initial=0.0) < CUT_LEVEL:
            continue
        if out is samples:
            out = samples.copy()
        ramp = (0.5 - 0.5 * np.cos(np.pi * np.arange(count) / count)).astype(np.float32)[:, None]
        out[edge] *= ramp[::-1] if reverse else ramp
    return out


def _sure_tempo(heard: Tempo | None) -> Tempo | None:
    return heard if heard and heard.confidence >= MIN_TEMPO_CONFIDENCE else None


def _key(timeline: Timeline | None, span: Span, heard: KeyFound | None) -> KeyFound | None:
    """The notes' key when they are sure, or when they lean to what is heard; what is heard alone without notes.

    Ears alone call E minor, whose notes lead by 0.06, G major with a strength of 0.84, and hear a major third in the
    overtones of power chords.
    """
    fit = timeline.key_fit(span) if timeline else None
    if fit and fit.sure():
        return KeyFound(fit.key, min(1.0, fit.margin), Source.NOTES, NOTE_KEY_ESTIMATOR)
    if heard is None or heard.strength < MIN_KEY_STRENGTH:
        return None
    agreed = fit is not None and fit.key == heard.key and fit.margin >= LEANING_MARGIN
    return heard if agreed or timeline is None else None

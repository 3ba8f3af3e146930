"""What a worker process does with one decoded file, its parameters and its results: plain data.

The service names these functions and never loads essentia or SciPy, which hold the GIL and memory: so the imports of
what does the work stand inside.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from luthier_analysis.facts import Beats, ClipFacts, Descriptor, KeyFound, Loudness, Perceptual, Section, Tempo
from luthier_analysis.settings import Options
from luthier_analysis.timeline import Span, Timeline
from luthier_kit.workers import step


@dataclass(frozen=True)
class Measurements:
    """What was looked at and what was found; a feature that was not asked for is as if unknown."""

    duration_s: float
    sample_rate_hz: int
    channels: int
    tempo: Tempo | None = None
    key: KeyFound | None = None
    loudness: Loudness | None = None
    sections: tuple[Section, ...] = ()
    descriptors: tuple[Descriptor, ...] = ()
    beats: Beats | None = None
    perceptual: Perceptual | None = None


@dataclass(frozen=True)
class CutPlan:
    """Lengths of clips in seconds, min_s <= target_s <= max_s, and the most clips of a song."""

    target_s: float = 30.0
    min_s: float = 20.0
    max_s: float = 32.0
    max_clips: int = 40


@dataclass(frozen=True)
class Clip:
    """A clip: its file, its place in the song, the facts of this place, the label of the section it starts in."""

    path: Path
    start_s: float
    end_s: float
    facts: ClipFacts
    section: str
    on_bar_lines: bool


@dataclass(frozen=True)
class SongCut:
    """The clips and sections of a song, notes on what was left out and why, the CPU seconds that it took."""

    clips: tuple[Clip, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    cpu_s: float = 0.0


@dataclass(frozen=True)
class DecodedAudio:
    """An audio file decoded to FLAC: that file, and what the original was and says of itself (`tags`, untrusted).

    `fingerprint` is that of the samples; `gain_db` is 0 or less.
    """

    path: Path
    duration_s: float
    fingerprint: str
    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    bit_rate_bps: int
    tags: Mapping[str, str]
    gain_db: float
    notes: tuple[str, ...]
    cpu_s: float = 0.0


def decode(path: Path, directory: Path) -> DecodedAudio:
    """Decode a file of any usual format to FLAC in `directory`. AudioError for what cannot be."""
    from luthier_analysis import decoding

    began = time.process_time()
    step("decoding")
    return replace(decoding.decode(path, directory), cpu_s=time.process_time() - began)


def analyze(path: Path, features: tuple[str, ...], span: Span | None, options: Options) -> Measurements:
    """Measure the features named, and no others. AudioError for what cannot be decoded."""
    from luthier_analysis.features import FEATURES
    from luthier_analysis.sound import load

    step("decoding")
    sound = load(path, span)
    found = {}
    for name in features:
        step(f"measuring {name}")
        found[name] = FEATURES[name](sound, options)
    return Measurements(sound.duration_s, sound.sample_rate_hz, sound.channels, **found)


def cut(path: Path, timeline: Timeline | None, plan: CutPlan, options: Options, directory: Path) -> SongCut:
    """Cut a song into FLAC files in `directory`. AudioError for what cannot be decoded."""
    from luthier_analysis.clips import cut_song
    from luthier_analysis.sound import load

    began = time.process_time()
    step("decoding")
    result = cut_song(load(path), timeline, plan, options, directory)
    return replace(result, cpu_s=time.process_time() - began)


def cut_spans(
    path: Path, timeline: Timeline | None, spans: tuple[Span, ...], options: Options, directory: Path
) -> SongCut:
    """Cut exactly these spans into FLAC files in `directory`. AudioError for what cannot be decoded."""
    from luthier_analysis.clips import cut_exactly

    began = time.process_time()
    result = cut_exactly(path, timeline, spans, options, directory)
    return replace(result, cpu_s=time.process_time() - began)

"""A clip's song and facts in words, for people who judge it in another tool."""

from dataclasses import dataclass

from luthier.common.v1.common_pb2 import MODE_MAJOR, MODE_MINOR, ClipFacts
from luthier.curation.v1.curation_pb2 import CuratedClip
from luthier_pipeline.console import clock


@dataclass(frozen=True)
class Described:
    """Artist, title and span; and the facts, one a line."""

    title: str
    text: str


def described(clip: CuratedClip) -> Described:
    """What is known of a clip."""
    song, span = clip.source.song, clip.source.span
    title = f"{song.artist or 'Unknown artist'} - {song.title or 'Untitled'}"
    lines = [*_facts(clip.facts), *([", ".join(tag.text for tag in clip.tags)] if clip.tags else [])]
    return Described(f"{title}, {clock(span.start_s)} to {clock(span.end_s)}", "\n".join(lines) or "nothing is known")


def _facts(facts: ClipFacts) -> list[str]:
    found = []
    if facts.tempo.tempo_bpm:
        found.append(f"{facts.tempo.tempo_bpm:.1f} BPM")
    if facts.key.tonic:
        mode = {MODE_MAJOR: " major", MODE_MINOR: " minor"}.get(facts.key.mode, "")
        found.append(facts.key.tonic + mode)
    if facts.meter.numerator:
        found.append(f"{facts.meter.numerator}/{facts.meter.denominator}")
    if facts.instruments:
        found.append(", ".join(fact.instrument for fact in facts.instruments))
    return found

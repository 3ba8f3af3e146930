"""The facts and tags of a request, against their bounds."""

from collections.abc import Sequence
from typing import Final

from luthier.common.v1 import common_pb2
from luthier_kit.rpc import Checks
from luthier_music.keys import TONICS

MAX_TAGS: Final = 200
MAX_INSTRUMENTS: Final = 129
MAX_DESCRIPTORS: Final = 256
MAX_TAG_CHARS: Final = 64
MAX_NAME_CHARS: Final = 500


def check_facts(checks: Checks, facts: common_pb2.ClipFacts, tags: Sequence[common_pb2.Tag]) -> None:
    """Checks a request's facts and tags against their bounds."""
    if facts.tempo.tempo_bpm:
        checks.within("facts.tempo.tempo_bpm", facts.tempo.tempo_bpm, 20, 400)
    checks.within("facts.tempo.beat_quarters", facts.tempo.beat_quarters, 0, 8)
    for name in ("tempo", "estimated_tempo", "key", "estimated_key"):  # facts are kept with the prompts, whole
        checks.text(f"facts.{name}.estimator", getattr(facts, name).estimator, max_chars=MAX_NAME_CHARS)
    checks.text("facts.estimated_key.tonic", facts.estimated_key.tonic, max_chars=MAX_NAME_CHARS)
    if facts.key.tonic:
        checks.one_of("facts.key.tonic", facts.key.tonic, TONICS)
    for at, heard in checks.items("facts.instruments", facts.instruments, 0, MAX_INSTRUMENTS):
        checks.text(f"{at}.instrument", heard.instrument, max_chars=64, blank=False)
        checks.text(f"{at}.family", heard.family, max_chars=MAX_NAME_CHARS)
        checks.within(f"{at}.share", heard.share, 0, 1)
    if facts.duration_s:
        checks.above("facts.duration_s", facts.duration_s, 0, 3600)
    if facts.HasField("loudness_lufs"):
        checks.finite("facts.loudness_lufs", facts.loudness_lufs)
    for at, descriptor in checks.items("facts.descriptors", facts.descriptors, 0, MAX_DESCRIPTORS):
        checks.finite(f"{at}.value", descriptor.value)
        checks.text(f"{at}.name", descriptor.name, max_chars=MAX_NAME_CHARS)
        checks.text(f"{at}.estimator", descriptor.estimator, max_chars=MAX_NAME_CHARS)
    for at, tag in checks.items("tags", tags, 0, MAX_TAGS):
        checks.text(f"{at}.text", tag.text, max_chars=MAX_TAG_CHARS)
        for name in ("kind", "source", "licence"):
            checks.text(f"{at}.{name}", getattr(tag, name), max_chars=MAX_NAME_CHARS)

"""Clips and history as templates show them: labels for people, nothing decided here."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from luthier.common.v1 import common_pb2 as common
from luthier_curation.tables import ChangeRow, ClipRow, ClipValues

MODES: dict[int, str] = {common.MODE_MAJOR: "major", common.MODE_MINOR: "minor"}
SOURCES: dict[int, str] = {
    common.FACT_SOURCE_NOTES: "from the notes",
    common.FACT_SOURCE_TEMPO_MAP: "from the tempo map, confirmed by the onsets",
    common.FACT_SOURCE_AUDIO: "estimated by {estimator}",
    common.FACT_SOURCE_PERSON: "stated by a person",
}


@dataclass(frozen=True)
class PromptView:
    """A prompt and what its check said: `passed`, `failed` or `unchecked`."""

    text: str
    state: str
    composer: str
    note: str


def clip_view(row: ClipRow) -> dict[str, Any]:
    """What the template of a clip's card shows."""
    tempo, key = row.facts.tempo, row.facts.key
    return {
        "clip_id": row.clip_id,
        "collection": row.collection,
        "revision": row.revision,
        "artist": row.source.song.artist or "Unknown artist",
        "title": row.source.song.title or "Untitled",
        "span": f"{clock(row.start_ms)} – {clock(row.end_ms)}",
        "duration_s": row.duration_s,
        "audio_tag": row.audio.sha256[:16],
        "verdict": row.verdict,
        "reviewer": row.reviewer,
        "automatic": row.automatic,
        "remark": row.remark,
        "prompts": [_prompt(prompt) for prompt in row.prompts],
        "tempo_bpm": tempo.tempo_bpm,
        "tempo": tempo_label(tempo),
        "tempo_source": source_label(tempo),
        "tonic": key.tonic,
        "mode": common.Mode.Name(key.mode) if key.mode in MODES else "",
        "key": key_label(key),
        "key_source": source_label(key),
        "instruments": [{"name": fact.instrument, "share": fact.share} for fact in row.facts.instruments],
        "loudness": f"{row.facts.loudness_lufs:.1f} LUFS" if row.facts.HasField("loudness_lufs") else "silent",
        "tags": row.tags,
        "edited": row.edited_fields,
        "updated": moment(row.updated_at_ms),
    }


def _prompt(prompt: common.Prompt) -> PromptView:
    if not prompt.HasField("check"):
        return PromptView(prompt.text, "unchecked", prompt.composer, "not checked against the facts")
    if prompt.check.passed:
        return PromptView(prompt.text, "passed", prompt.composer, "checked: states nothing but the facts")
    notes = []
    for item in prompt.check.disagreements:
        stated = f" says “{item.stated}”" if item.stated else " is not stated"
        expected = f", the facts say “{item.expected}”" if item.expected else ""
        notes.append(f"{item.subject or 'something'}{stated}{expected}")
    return PromptView(prompt.text, "failed", prompt.composer, "; ".join(notes) or "failed its check")


def tempo_label(tempo: common.TempoFact) -> str:
    """`120 BPM`, `about 118 BPM, changes`, or that it is unknown."""
    if not tempo.tempo_bpm:
        return "tempo unknown"
    number = f"{tempo.tempo_bpm:.1f}".removesuffix(".0")
    return f"about {number} BPM, changes" if tempo.changes else f"{number} BPM"


def key_label(key: common.KeyFact) -> str:
    """`Eb minor`, or that it is unknown."""
    return f"{key.tonic} {MODES.get(key.mode, '')}".strip() if key.tonic else "key unknown"


def source_label(fact: common.TempoFact | common.KeyFact) -> str:
    """Where a fact comes from."""
    text = SOURCES.get(fact.source, "source unknown")
    return text.format(estimator=fact.estimator or "an estimator")


def clock(milliseconds: int) -> str:
    """`1:02` of a song."""
    seconds = milliseconds // 1000
    return f"{seconds // 60}:{seconds % 60:02d}"


def moment(milliseconds: int) -> str:
    """`2026-03-01 12:00:00Z`."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def change_view(change: ChangeRow) -> dict[str, Any]:
    """What a line of history shows: each changed field before and after, as text."""
    before, after = _words(change.before), _words(change.after)
    return {
        "revision": change.revision,
        "kind": change.kind,
        "who": change.who,
        "automatic": change.automatic,
        "at": moment(change.at_ms),
        "fields": [{"name": name, "before": before.get(name, ""), "after": text} for name, text in after.items()],
    }


def _words(values: ClipValues) -> dict[str, str]:
    """The fields that history shows, in words."""
    found: dict[str, str | None] = {
        "audio": f"{values.audio.sha256[:12]}…" if values.audio else None,
        "prompts": None if values.prompts is None else "\n".join(prompt.text for prompt in values.prompts),
        "facts": _facts_text(values.facts) if values.facts else None,
        "tags": None if values.tags is None else ", ".join(tag.text for tag in values.tags),
        "name": f"{values.source.song.artist} – {values.source.song.title}" if values.source else None,
        "lineage": ", ".join(" ".join(item) for item in values.lineage.versions.items()) if values.lineage else None,
        "verdict": values.verdict,
        "remark": values.remark,
    }
    return {name: text for name, text in found.items() if text is not None}


def _facts_text(facts: common.ClipFacts) -> str:
    names = ", ".join(fact.instrument for fact in facts.instruments)
    return f"{tempo_label(facts.tempo)} · {key_label(facts.key)} · {names or 'no instrument'}"

"""Clips and history as templates show them: labels for people, nothing decided here."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from luthier_curation.content import Json
from luthier_curation.tables import ChangeRow, ClipRow

MODES = {"MODE_MAJOR": "major", "MODE_MINOR": "minor"}
SOURCES = {
    "FACT_SOURCE_NOTES": "from the notes",
    "FACT_SOURCE_TEMPO_MAP": "from the tempo map, confirmed by the onsets",
    "FACT_SOURCE_AUDIO": "heard by {estimator}",
    "FACT_SOURCE_PERSON": "a person says so",
}
FIELDS = {
    "audio": "audio",
    "prompts": "prompts",
    "facts": "facts",
    "tags": "tags",
    "source": "name",
    "lineage": "lineage",
    "verdict": "verdict",
    "remark": "remark",
}


@dataclass(frozen=True)
class PromptView:
    """A prompt and what its check said: `passed`, `failed` or `unchecked`."""

    text: str
    state: str
    composer: str
    note: str


def clip_view(row: ClipRow) -> dict[str, Any]:
    """What a clip's card shows."""
    song = row.source.get("song", {})
    tempo, key = row.facts.get("tempo", {}), row.facts.get("key", {})
    return {
        "clip_id": row.clip_id,
        "collection": row.collection,
        "revision": row.revision,
        "artist": song.get("artist", "") or "Unknown artist",
        "title": song.get("title", "") or "Untitled",
        "span": f"{clock(row.start_ms)} – {clock(row.end_ms)}",
        "duration_s": row.duration_s,
        "audio_tag": row.audio["sha256"][:16],
        "verdict": row.verdict,
        "reviewer": row.reviewer,
        "automatic": row.automatic,
        "remark": row.remark,
        "prompts": [_prompt(prompt) for prompt in row.prompts],
        "tempo_bpm": tempo.get("tempo_bpm", 0.0),
        "tempo": tempo_label(tempo),
        "tempo_source": source_label(tempo),
        "tonic": key.get("tonic", ""),
        "mode": key.get("mode", ""),
        "key": key_label(key),
        "key_source": source_label(key),
        "instruments": [
            {"name": fact.get("instrument", ""), "share": fact.get("share", 0.0)}
            for fact in row.facts.get("instruments", [])
        ],
        "loudness": f"{row.facts['loudness_lufs']:.1f} LUFS" if "loudness_lufs" in row.facts else "silent",
        "tags": [{"text": tag.get("text", ""), "kind": tag.get("kind", "")} for tag in row.tags],
        "edited": row.edited_fields,
        "updated": moment(row.updated_at_ms),
    }


def _prompt(prompt: Json) -> PromptView:
    check = prompt.get("check")
    composer = prompt.get("composer", "")
    if check is None:
        return PromptView(prompt["text"], "unchecked", composer, "not checked against the facts")
    if check.get("passed"):
        return PromptView(prompt["text"], "passed", composer, "checked: says nothing but the facts")
    notes = [_disagreement(item) for item in check.get("disagreements", [])]
    return PromptView(prompt["text"], "failed", composer, "; ".join(notes) or "failed its check")


def _disagreement(item: Json) -> str:
    stated = f" says “{item['stated']}”" if item.get("stated") else " is not stated"
    expected = f", the facts say “{item['expected']}”" if item.get("expected") else ""
    return f"{item.get('subject', 'something')}{stated}{expected}"


def tempo_label(tempo: Json) -> str:
    """`120 BPM`, `about 118 BPM, changes`, or that it is unknown."""
    if not tempo.get("tempo_bpm"):
        return "tempo unknown"
    number = f"{tempo['tempo_bpm']:.1f}".removesuffix(".0")
    return f"about {number} BPM, changes" if tempo.get("changes") else f"{number} BPM"


def key_label(key: Json) -> str:
    """`Eb minor`, or that it is unknown."""
    return f"{key['tonic']} {MODES.get(key.get('mode', ''), '')}".strip() if key.get("tonic") else "key unknown"


def source_label(fact: Json) -> str:
    """Who says so."""
    text = SOURCES.get(fact.get("source", ""), "source unknown")
    return text.format(estimator=fact.get("estimator") or "an estimator")


def clock(milliseconds: int) -> str:
    """`1:02` of a song."""
    seconds = milliseconds // 1000
    return f"{seconds // 60}:{seconds % 60:02d}"


def moment(milliseconds: int) -> str:
    """`2026-03-01 12:00:00Z`."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def change_view(change: ChangeRow) -> dict[str, Any]:
    """What a line of history shows: each changed field before and after, as text."""
    fields = [
        {
            "name": label,
            "before": field_text(name, change.before.get(name)),
            "after": field_text(name, change.after.get(name)),
        }
        for name, label in FIELDS.items()
        if name in change.after
    ]
    return {
        "revision": change.revision,
        "kind": change.kind,
        "who": change.who,
        "automatic": change.automatic,
        "at": moment(change.at_ms),
        "fields": fields,
    }


def field_text(name: str, value: Any) -> str:
    """A field's value in words."""
    if value is None:
        return ""
    return WORDS[name](value) if name in WORDS else str(value)


def _facts_text(facts: Json) -> str:
    names = ", ".join(fact.get("instrument", "") for fact in facts.get("instruments", []))
    return f"{tempo_label(facts.get('tempo', {}))} · {key_label(facts.get('key', {}))} · {names or 'no instrument'}"


def _song_text(source: Json) -> str:
    song = source.get("song", {})
    return f"{song.get('artist', '')} – {song.get('title', '')}"


WORDS: dict[str, Callable[[Any], str]] = {
    "prompts": lambda prompts: "\n".join(prompt["text"] for prompt in prompts),
    "facts": _facts_text,
    "audio": lambda audio: f"{audio['sha256'][:12]}…",
    "tags": lambda tags: ", ".join(tag.get("text", "") for tag in tags),
    "source": _song_text,
    "lineage": lambda lineage: ", ".join(f"{name} {version}" for name, version in lineage.get("versions", {}).items()),
}

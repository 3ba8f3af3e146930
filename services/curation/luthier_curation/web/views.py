"""Clips and history as templates show them: labels for people, nothing decided here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1.curation_pb2 import BadPassage, Opinion
from luthier_curation.clips import tempo_unit
from luthier_curation.differences import key_difference, tempo_difference
from luthier_curation.tables import REASON_NAMES, VERDICT_NAMES, ChangeRow, ClipRow, ClipValues

MODES: dict[int, str] = {common.MODE_MAJOR: "major", common.MODE_MINOR: "minor"}
VOICES: dict[int, str] = {common.VOICE_PRESENCE_NONE: "no voice", common.VOICE_PRESENCE_HEARD: "voice heard"}
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


@dataclass(frozen=True)
class ClipView:
    """A clip's card. Tempo, key, their sources, loudness, span and moments are words; `tempo_bpm` (0 = unknown) with
    what it counts, `tonic` and `mode` (empty = unknown), `voice_stated` (empty = no recording) are what the editor
    starts with; `duration_s` in seconds, `loudness_lufs` None for silence. `tempo_differs` and `key_differs` say what
    the audio's estimate says instead, empty where it agrees."""

    clip_id: str
    revision: int
    artist: str
    title: str
    span: str
    duration_s: float
    audio_tag: str
    verdict: str
    reviewer: str
    automatic: bool
    remark: str
    prompts: list[PromptView]
    tempo_bpm: float
    tempo_unit: str
    tempo_changes: bool
    tempo: str
    tempo_source: str
    tempo_differs: str
    tonic: str
    mode: str
    key: str
    key_source: str
    key_differs: str
    voice: str
    voice_stated: str
    voice_source: str
    instruments: Sequence[common.InstrumentFact]
    solo: bool
    loudness: str
    loudness_lufs: float | None
    tags: Sequence[common.Tag]
    tags_json: str
    bad_passages: int
    reason: str
    rating: int
    conflict: bool
    opinions: list["OpinionView"]
    assigned_to: list[str]
    skipped_by: list[str]
    edited: Sequence[str]
    collection: str
    similarity: str


def clip_view(row: ClipRow, similarity: float | None = None) -> ClipView:
    """What the template of a clip's card shows; its similarity (-1 to 1) where it was searched for by sound."""
    tempo, key = row.facts.tempo, row.facts.key
    return ClipView(
        clip_id=row.clip_id,
        revision=row.revision,
        artist=row.source.song.artist or "Unknown artist",
        title=row.source.song.title or "Untitled",
        span=f"{clock(row.start_ms)} – {clock(row.end_ms)}",
        duration_s=row.duration_s,
        audio_tag=row.audio.sha256[:16],
        verdict=row.verdict,
        reviewer=row.reviewer,
        automatic=row.automatic,
        remark=row.remark,
        prompts=[_prompt(prompt) for prompt in row.prompts],
        tempo_bpm=tempo.tempo_bpm,
        tempo_unit=tempo_unit(tempo),
        tempo_changes=tempo.changes,
        tempo=tempo_label(tempo),
        tempo_source=source_label(tempo),
        tempo_differs=tempo_difference(tempo, row.facts.estimated_tempo, "the estimate"),
        tonic=key.tonic,
        mode=common.Mode.Name(key.mode) if key.mode in MODES else "",
        key=key_label(key),
        key_source=source_label(key),
        key_differs=key_difference(key, row.facts.estimated_key, "the estimate"),
        voice=voice_label(row.facts),
        voice_stated=common.VoicePresence.Name(row.facts.voice.presence) if row.facts.HasField("voice") else "",
        voice_source=voice_source(row.facts.voice),
        instruments=row.facts.instruments,
        solo=row.facts.solo,
        loudness=f"{row.facts.loudness_lufs:.1f} LUFS" if row.facts.HasField("loudness_lufs") else "silent",
        loudness_lufs=row.facts.loudness_lufs if row.facts.HasField("loudness_lufs") else None,
        tags=row.tags,
        bad_passages=len(row.bad_passages),
        tags_json=json.dumps([[tag.text, tag.kind] for tag in row.tags], ensure_ascii=False, separators=(",", ":")),
        reason=row.reason,
        rating=row.rating,
        conflict=row.conflict,
        opinions=[_opinion(opinion) for opinion in row.opinions],
        assigned_to=row.assigned_to,
        skipped_by=[skip.reviewer for skip in row.skips],
        edited=row.edited_fields,
        collection=row.collection,
        similarity="" if similarity is None else f"{similarity:.2f}",
    )


@dataclass(frozen=True)
class OpinionView:
    """A reviewer's opinion; `reason` empty and `rating` 0 = not said."""

    reviewer: str
    verdict: str
    reason: str
    rating: int
    remark: str


def _opinion(opinion: Opinion) -> OpinionView:
    verdict, reason = VERDICT_NAMES[opinion.verdict], REASON_NAMES[opinion.reason]
    return OpinionView(opinion.reviewer, verdict, reason, opinion.rating, opinion.remark)


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
    """`120 BPM`, `120 BPM by the dotted quarter`, `about 118 BPM, changes`, or that it is unknown."""
    if not tempo.tempo_bpm:
        return "tempo unknown"
    number = f"{tempo.tempo_bpm:.1f}".removesuffix(".0")
    text = f"{number} {tempo_unit(tempo)}"
    return f"about {text}, changes" if tempo.changes else text


def key_label(key: common.KeyFact) -> str:
    """`Eb minor`, or that it is unknown."""
    return f"{key.tonic} {MODES.get(key.mode, '')}".strip() if key.tonic else "key unknown"


def voice_label(facts: common.ClipFacts) -> str:
    """`no voice`, `voice heard`, or that it is unknown; empty where notes were rendered, so that there is none."""
    if not facts.HasField("voice"):
        return ""
    return VOICES.get(facts.voice.presence, "voice unknown") if facts.voice.source else "voice unknown"


def voice_source(voice: common.VoiceFact) -> str:
    """Who says whether a voice is heard, and what detectors heard."""
    speech = (
        f"speech in {voice.speech_share:.0%} of the clip" if voice.HasField("speech_share") else "speech not checked"
    )
    vocals = f"vocals in {voice.vocals_share:.0%}" if voice.HasField("vocals_share") else "vocals not checked"
    by_person = ["stated by a person"] if voice.source == common.FACT_SOURCE_PERSON else []
    return "; ".join([*by_person, speech, vocals])


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


@dataclass(frozen=True)
class FieldChange:
    """A field before and after, as text; empty = nothing."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class ChangeView:
    """A line of a clip's history; `kind` is created, edited, reviewed…, `at` a moment in words."""

    revision: int
    kind: str
    who: str
    automatic: bool
    at: str
    fields: list[FieldChange]


def change_view(change: ChangeRow) -> ChangeView:
    """What a line of history shows: each changed field before and after, as text."""
    before, after = _words(change.before), _words(change.after)
    return ChangeView(
        revision=change.revision,
        kind=change.kind,
        who=change.who,
        automatic=change.automatic,
        at=moment(change.at_ms),
        fields=[FieldChange(name, before.get(name, ""), text) for name, text in after.items()],
    )


def _words(values: ClipValues) -> dict[str, str]:
    """The fields that history shows, in words."""
    found: dict[str, str | None] = {
        "audio": f"{values.audio.sha256[:12]}…" if values.audio else None,
        "prompts": None if values.prompts is None else "\n".join(prompt.text for prompt in values.prompts),
        "facts": _facts_text(values.facts) if values.facts else None,
        "tags": None if values.tags is None else ", ".join(tag.text for tag in values.tags),
        "name": f"{values.source.song.artist} – {values.source.song.title}" if values.source else None,
        "lineage": ", ".join(" ".join(item) for item in values.lineage.versions.items()) if values.lineage else None,
        "bad passages": None if values.bad_passages is None else "; ".join(map(_passage_text, values.bad_passages)),
        "verdict": values.verdict,
        "remark": values.remark,
        "reason": None if values.reason is None else values.reason.replace("_", " "),
        "rating": None if values.rating is None else f"{values.rating} of 5" if values.rating else "",
        "skipped": None
        if values.skipped_at_ms is None
        else moment(values.skipped_at_ms)
        if values.skipped_at_ms
        else "",
        "skipped by": None if values.skips is None else ", ".join(skip.reviewer for skip in values.skips),
        "opinions": None if values.opinions is None else "\n".join(map(_opinion_text, values.opinions)),
    }
    return {name: text for name, text in found.items() if text is not None}


def _opinion_text(opinion: Opinion) -> str:
    view = _opinion(opinion)
    parts = [view.reason.replace("_", " "), f"{view.rating} of 5" if view.rating else "", view.remark]
    return f"{view.reviewer}: {', '.join([view.verdict, *filter(None, parts)])}"


def _passage_text(passage: BadPassage) -> str:
    return f"{passage.span.start_s:.2f} to {passage.span.end_s:.2f} s {passage.note}".strip()


def _facts_text(facts: common.ClipFacts) -> str:
    names = ", ".join(fact.instrument for fact in facts.instruments)
    parts = [tempo_label(facts.tempo), key_label(facts.key), names or "no instrument", voice_label(facts)]
    return " · ".join(filter(None, parts))

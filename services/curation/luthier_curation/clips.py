"""Clips: what names one, how the pipeline's values and people's edits meet, and the history of every change.

Facts, prompts, tags and references are the contract's messages (`common.proto` says what each field means).
"""

import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from luthier.common.v1.common_pb2 import (
    FACT_SOURCE_NOTES,
    FACT_SOURCE_PERSON,
    FACT_SOURCE_TEMPO_MAP,
    ClipFacts,
    ClipSource,
    InstrumentFact,
    KeyFact,
    Prompt,
    SongName,
    Tag,
    TempoFact,
    VoiceFact,
    VoicePresence,
)
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation import terms, vectors
from luthier_curation.doubt import doubt, key_disagreement, priority, tempo_disagreement
from luthier_curation.mending import mended
from luthier_curation.tables import NEVER, OPEN, SILENCE_LUFS, ChangeRow, ClipRow, ClipValues
from luthier_kit.rpc import InvalidRequest
from luthier_music.instruments import DRUMS, PROGRAM_NAMES, family_of, program_of
from luthier_music.vocabulary import normalise

POLYPHONIC = "polyphonic"
"""The subset of a clip that names none."""
ALL_PARTS = -1
PERSON = "person"
CAPTION = "file"
"""Composer of a caption that lay beside a recording."""
PIPELINE = "pipeline"
STAMPS_AT_ONCE = 500
"""Ids in one question to the database."""
CREATED, REVISED, EDITED, REVIEWED, UNDONE = "created", "revised", "edited", "reviewed", "undone"
SKIPPED, IMPORTED, CUT = "skipped", "imported", "cut"
DERIVED = 1
"""Version of `_derive`: rows of an earlier one are derived again by `derive_again`."""
CONTENT = {"source", "facts", "tags", "prompts"}
"""Fields that columns are derived from."""
OPEN_AGAIN: dict[str, Any] = {
    "verdict": OPEN, "reviewer": "", "automatic": False, "reason": "", "rating": 0, "conflict": False, "settled": False,
    "skipped_at_ms": NEVER, "opinions": [], "skips": [],
}  # fmt: skip
"""Values of a clip that nobody has judged. The remark stays."""
UNCUT = "taken away: its cut was undone"
"""Remark of a part whose cut was undone; it is rejected."""
EDITABLE_FACTS = ("instruments", "tempo", "key", "voice")
NOTE_VALUES: dict[float, str] = {
    0.25: "sixteenth", 0.375: "dotted sixteenth", 0.5: "eighth", 0.75: "dotted eighth", 1.5: "dotted quarter",
    2.0: "half note", 3.0: "dotted half", 4.0: "whole note", 6.0: "dotted whole",
}  # fmt: skip
"""A beat's length in quarter notes and its name, where it is no quarter note."""


# --- identity and order


@dataclass(frozen=True)
class Identity:
    """What makes a clip that clip. The span in the song is in milliseconds; `part` -1 = all parts, `variation` 0 = the
    song as written."""

    collection: str
    song_fingerprint: str
    start_ms: int
    end_ms: int
    subset: str = POLYPHONIC
    part: int = ALL_PARTS
    variation: int = 0

    @classmethod
    def of(cls, collection: str, source: ClipSource) -> "Identity":
        """The identity of a clip of a collection."""
        return cls(
            collection,
            source.song_fingerprint,
            round(source.span.start_s * 1000),
            round(source.span.end_s * 1000),
            source.subset or POLYPHONIC,
            source.part if source.HasField("part") else ALL_PARTS,
            source.variation.number,
        )

    @property
    def clip_id(self) -> str:
        """`clip-` and 24 hexadecimal digits of the digest of the identity."""
        return "clip-" + hashlib.sha256(json.dumps(self._values()).encode()).hexdigest()[:24]

    def sort_key(self, song: SongName) -> str:
        """Collection, artist, title, song, time: the order of every list, unique per clip."""
        collection, fingerprint, start_ms, end_ms, *rest = map(str, self._values())
        times = (start_ms.zfill(12), end_ms.zfill(12))
        return "\x1f".join((collection, song.artist.lower(), song.title.lower(), fingerprint, *times, *rest))

    def _values(self) -> tuple[str | int, ...]:
        """Mixes of all parts as written are named as by Luthier 0.1, which knew nothing else."""
        plain = (self.collection, self.song_fingerprint, self.start_ms, self.end_ms)
        more = (self.subset, self.part, self.variation)
        return plain if more == (POLYPHONIC, ALL_PARTS, 0) else plain + more


# --- prompts and facts of people


def is_kept_back(prompt: Prompt) -> bool:
    """Whether a prompt is a caption of a whole song that the clip's facts deny, or have not been held against."""
    denied = any(found.reason == "CONTRADICTS_FACTS" for found in prompt.check.disagreements)
    return prompt.composer == CAPTION and (denied or not prompt.HasField("check"))


def edited_prompts(texts: Iterable[str], current: Iterable[Prompt]) -> list[Prompt]:
    """A person's list of prompts: a text that was there keeps its origin and check; a person's own come first."""
    known = {prompt.text: prompt for prompt in current}
    prompts = [known.get(text) or Prompt(text=text, composer=PERSON) for text in dict.fromkeys(texts)]
    return sorted(prompts, key=lambda prompt: prompt.composer != PERSON)


def tempo_by_person(stated: TempoFact, before: TempoFact) -> TempoFact:
    """A tempo as a person states it; 0 BPM = unknown.

    The number counts what `stated` says by `beat_quarters` or `notated`. One that says neither counts what the clip's
    number counted `before`: that is the note value which the person saw beside it.
    """
    tempo = TempoFact(tempo_bpm=stated.tempo_bpm, changes=stated.changes, source=FACT_SOURCE_PERSON)
    if not stated.tempo_bpm:
        return tempo
    counted = stated if stated.beat_quarters or stated.notated else before
    written = counted.notated or counted.source in (FACT_SOURCE_NOTES, FACT_SOURCE_TEMPO_MAP)
    if counted.tempo_bpm:
        tempo.notated = counted.notated
        tempo.beat_quarters = counted.beat_quarters or (1.0 if written else 0.0)
    return tempo


def tempo_unit(tempo: TempoFact) -> str:
    """What the number of a tempo counts: `BPM`, `BPM by the dotted quarter`, or `quarter notes per minute` where the
    meter does not tell its beat; empty when the tempo is unknown.
    """
    if not tempo.tempo_bpm:
        return ""
    if tempo.notated:
        return "quarter notes per minute"
    value = NOTE_VALUES.get(tempo.beat_quarters)
    return f"BPM by the {value}" if value else "BPM"


def key_by_person(key: KeyFact) -> KeyFact:
    """A key as a person states it; without a tonic = unknown."""
    return KeyFact(tonic=key.tonic, mode=key.mode, source=FACT_SOURCE_PERSON)


def voice_by_person(stated: VoicePresence, before: VoiceFact) -> VoiceFact:
    """Whether a voice is heard, as a person states it; unspecified = unknown. What detectors heard stays beside it."""
    voice = VoiceFact()
    voice.CopyFrom(before)
    voice.presence, voice.source = stated, FACT_SOURCE_PERSON
    return voice


def instruments_by_person(named: Iterable[tuple[str, float]]) -> list[InstrumentFact]:
    """Instruments (name, share of the clip) in their General MIDI spelling; an unknown name is left for the checks."""
    found = []
    for name, share in named:
        try:
            family = family_of(name)
            spelled = DRUMS if family == DRUMS else PROGRAM_NAMES[program_of(name)]
        except KeyError:
            spelled, family = name, ""
        found.append(InstrumentFact(instrument=spelled, family=family, share=share))
    return found


def tags_by_person(named: Iterable[tuple[str, str]], before: Iterable[Tag]) -> list[Tag]:
    """Tags (text, kind) as a person lists them: those that were there keep weight, source and licence."""
    known = {(tag.text, tag.kind): tag for tag in before}
    wanted = dict.fromkeys((normalise(text), kind) for text, kind in named)
    return [known.get(name) or Tag(text=name[0], kind=name[1], weight=1.0, source=PERSON) for name in wanted]


def with_fact(facts: ClipFacts, name: str, source: ClipFacts) -> ClipFacts:
    """`facts` with one of EDITABLE_FACTS as `source` has it."""
    result = ClipFacts()
    result.CopyFrom(facts)
    result.ClearField(name)
    if name == "instruments":
        result.instruments.extend(source.instruments)
    elif source.HasField(name):
        getattr(result, name).CopyFrom(getattr(source, name))
    return result


# --- changes


@dataclass(frozen=True)
class Author:
    """Who makes a change of which kind, in which batch (the changes of one call, undone together)."""

    kind: str
    who: str
    automatic: bool = False
    batch_id: str = field(default_factory=lambda: uuid.uuid4().hex)


def change(session: Session, row: ClipRow, values: ClipValues, author: Author, *, always: bool = False) -> bool:
    """Give the clip these values: one revision more and a line of history with before and after.

    False when it has them all already and nothing was written; with `always` a line is written then, too.
    """
    wanted = {item.name: getattr(values, item.name) for item in fields(values)}
    after = {name: new for name, new in wanted.items() if new is not None and new != getattr(row, name)}
    if not after and not always:
        return False
    before = ClipValues(**{name: getattr(row, name) for name in after})
    if after.get("audio", row.audio).sha256 != row.audio.sha256:
        vectors.forget(session, row.clip_id)
    for name, value in after.items():
        setattr(row, name, value)
    if after.keys() & CONTENT:
        _derive(session, row)
    row.priority = priority(row.doubt, row.conflict)
    row.revision += 1
    _record(session, row, before, ClipValues(**after), author)
    return True


def _record(session: Session, row: ClipRow, before: ClipValues, after: ClipValues, author: Author) -> None:
    row.updated_at_ms = time.time_ns() // 1_000_000
    session.add(
        ChangeRow(
            clip_id=row.clip_id,
            revision=row.revision,
            batch_id=author.batch_id,
            kind=author.kind,
            who=author.who,
            automatic=author.automatic,
            at_ms=row.updated_at_ms,
            before=before,
            after=after,
        )
    )


def _derive(session: Session, row: ClipRow) -> None:
    """Sets the columns to filter and to sort by, and the terms, that follow from the content."""
    instruments = [name for fact in row.facts.instruments for name in (fact.instrument, fact.family)]
    words = [
        row.source.song.artist,
        row.source.song.title,
        *(prompt.text for prompt in row.prompts),
        *(tag.text for tag in row.tags),
        *dict.fromkeys(instruments),
    ]
    row.checked = bool(row.prompts) and all(prompt.check.passed for prompt in row.prompts)
    row.tempo_bpm = row.facts.tempo.tempo_bpm or None
    row.duration_s = row.facts.duration_s
    row.instruments = "|" + "|".join(dict.fromkeys(name.lower() for name in instruments)) + "|"
    row.search = "\n".join(words).lower()
    row.loudness_lufs = row.facts.loudness_lufs if row.facts.HasField("loudness_lufs") else SILENCE_LUFS
    row.disagreement = tempo_disagreement(row.facts) + key_disagreement(row.facts)
    row.doubt = doubt(row.facts, row.prompts)
    row.priority = priority(row.doubt, row.conflict)
    row.derived = DERIVED
    terms.wait(session, row)


def derive_again(session: Session, after: str, size: int) -> str:
    """Derive what an earlier version derived, or none, for up to `size` clips behind the id `after`: the last id that
    was looked at, empty when there are no more."""
    query = select(ClipRow).where(ClipRow.clip_id > after, ClipRow.derived < DERIVED).order_by(ClipRow.clip_id)
    rows = list(session.scalars(query.limit(size).with_for_update()))
    for row in rows:
        _derive(session, row)
    return rows[-1].clip_id if len(rows) == size else ""


# --- clips from the pipeline


def identities(collection: str, clips: Iterable[pb.NewClip]) -> list[Identity]:
    """Which clips of a collection these are, in their order."""
    return [Identity.of(collection, clip.source) for clip in clips]


def upsert(
    session: Session, collection: str, clips: Sequence[pb.NewClip], who: str = PIPELINE
) -> tuple[list[str], Counter[str]]:
    """Ids in the order of the clips, and how many were `created`, `revised`, `unchanged`; `who` brought them.

    A revision keeps every field that a person edited, and opens the verdict again when what was judged changed: the
    audio, the facts or the prompts. InvalidRequest when two of the clips are the same one.
    """
    named = identities(collection, clips)
    ids = [identity.clip_id for identity in named]
    if len(set(ids)) < len(ids):
        twice = next(index for index, name in enumerate(ids) if name in ids[:index])
        violation = (f"clips[{twice}].source", f"must be another clip than clips[{ids.index(ids[twice])}]")
        raise InvalidRequest("the same clip twice", reason="DUPLICATE_CLIP", violations=[violation])
    present = select(ClipRow).options(undefer(ClipRow.incoming)).where(ClipRow.clip_id.in_(ids))
    present = present.order_by(ClipRow.clip_id).with_for_update()
    rows = {row.clip_id: row for row in session.scalars(present)}
    author, outcomes = Author(REVISED, who), Counter[str]()
    for name, identity, clip in zip(ids, named, clips, strict=True):
        row = rows.get(name)
        if row is None:
            _create(session, identity, clip, author)
            outcomes["created"] += 1
        else:
            outcomes["revised" if _revise(session, row, clip, author) else "unchanged"] += 1
    return ids, outcomes


def stamps(session: Session, ids: Sequence[str]) -> list[str]:
    """Of each clip what names its newest revision that came from the pipeline; empty where there is no such clip."""
    newest: dict[str, tuple[int, int]] = {}
    for first in range(0, len(ids), STAMPS_AT_ONCE):
        asked = select(ChangeRow.clip_id, ChangeRow.revision, ChangeRow.at_ms).where(
            ChangeRow.clip_id.in_(ids[first : first + STAMPS_AT_ONCE]), ChangeRow.kind.in_((CREATED, REVISED))
        )
        for clip_id, revision, at_ms in session.execute(asked):
            newest[clip_id] = max(newest.get(clip_id, (0, 0)), (revision, at_ms))
    return [f"{newest[clip_id][0]}.{newest[clip_id][1]}" if clip_id in newest else "" for clip_id in ids]


def _create(session: Session, identity: Identity, clip: pb.NewClip, author: Author) -> None:
    row = ClipRow(
        **vars(identity),
        clip_id=identity.clip_id,
        revision=1,
        source=clip.source,
        audio=clip.audio,
        facts=clip.facts,
        tags=list(clip.tags),
        prompts=list(clip.prompts),
        lineage=clip.lineage,
        incoming=ClipValues(facts=clip.facts, prompts=list(clip.prompts)),
        edited_fields=[],
        bad_passages=[],
        verdict=OPEN,
        reviewer="",
        automatic=False,
        remark="",
        reason="",
        rating=0,
        conflict=False,
        settled=False,
        skipped_at_ms=NEVER,
        sort_key=identity.sort_key(clip.source.song),
        created_at_ms=time.time_ns() // 1_000_000,
        updated_at_ms=0,
    )
    _derive(session, row)
    session.add(row)
    session.flush()
    after = ClipValues(audio=clip.audio, facts=clip.facts, prompts=list(clip.prompts))
    _record(session, row, ClipValues(), after, Author(CREATED, author.who, batch_id=author.batch_id))


def _revise(session: Session, row: ClipRow, clip: pb.NewClip, author: Author) -> bool:
    """New values under a person's edits: every edited field keeps the value that the person gave it.

    Prompts are mended where they were made of, or checked against, other facts or tags than those that hold now.
    """
    incoming = ClipValues(facts=clip.facts, prompts=list(clip.prompts))
    tags = row.tags if "tags" in row.edited_fields else list(clip.tags)
    facts, prompts = row.facts, row.prompts
    if incoming != row.incoming or tags != row.tags:
        facts = clip.facts
        for name in EDITABLE_FACTS:
            if f"facts.{name}" in row.edited_fields:
                facts = with_fact(facts, name, row.facts)
        by_person = "prompts" in row.edited_fields
        prompts = row.prompts if by_person else list(clip.prompts)
        if (facts, tags) != ((row.facts, row.tags) if by_person else (clip.facts, list(clip.tags))):
            prompts = mended(row.clip_id, prompts, facts, tags)
    judged_anew = (clip.audio.sha256, facts, prompts) != (row.audio.sha256, row.facts, row.prompts)
    row.incoming = incoming
    row.sort_key = Identity.of(row.collection, clip.source).sort_key(clip.source.song)
    values = ClipValues(
        source=clip.source,
        audio=clip.audio,
        facts=facts,
        tags=tags,
        prompts=prompts,
        lineage=clip.lineage,
        bad_passages=[] if clip.audio.sha256 != row.audio.sha256 else None,
        **(OPEN_AGAIN if judged_anew else {}),
    )
    return change(session, row, values, author)

"""Clips come in from the pipeline: created, revised, or already there."""

from collections import Counter
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from luthier_curation import changes
from luthier_curation.changes import Author
from luthier_curation.content import HEARD, NewClip, clip_id, derived, merged, sort_key
from luthier_curation.tables import OPEN, ClipRow
from luthier_kit.errors import InvalidRequest


def upsert(session: Session, collection: str, clips: list[NewClip]) -> tuple[list[str], Counter[str]]:
    """Ids in the order of the clips, and how many were `created`, `revised`, `unchanged`.

    A revision keeps every field that a person edited, and opens the verdict again when what was judged changed: the
    audio, the facts or the prompts. InvalidRequest when two of the clips are the same one.
    """
    ids = [clip_id(collection, clip.source["song_fingerprint"], clip.start_ms, clip.end_ms) for clip in clips]
    if len(set(ids)) < len(ids):
        twice = next(index for index, name in enumerate(ids) if name in ids[:index])
        violation = (f"clips[{twice}].source", f"must be another clip than clips[{ids.index(ids[twice])}]")
        raise InvalidRequest("the same clip twice", reason="DUPLICATE_CLIP", violations=[violation])
    present = select(ClipRow).where(ClipRow.clip_id.in_(ids)).order_by(ClipRow.clip_id).with_for_update()
    rows = {row.clip_id: row for row in session.scalars(present)}
    author, outcomes = Author(changes.REVISED, changes.PIPELINE), Counter[str]()
    for name, clip in zip(ids, clips, strict=True):
        row = rows.get(name)
        outcomes["created" if row is None else _revise(session, row, clip, author)] += 1
        if row is None:
            _create(session, collection, name, clip, author)
    return ids, outcomes


def _create(session: Session, collection: str, name: str, clip: NewClip, author: Author) -> None:
    row = ClipRow(
        clip_id=name,
        collection=collection,
        song_fingerprint=clip.source["song_fingerprint"],
        start_ms=clip.start_ms,
        end_ms=clip.end_ms,
        revision=1,
        **_content(clip),
        incoming=clip.incoming(),
        edited_fields=[],
        verdict=OPEN,
        reviewer="",
        automatic=False,
        remark="",
        **derived(clip.source, clip.facts, clip.tags, clip.prompts),
        sort_key=sort_key(collection, clip.source, clip.start_ms, clip.end_ms),
        updated_at_ms=changes.now_ms(),
    )
    session.add(row)
    session.flush()
    created = Author(changes.CREATED, author.who, batch_id=author.batch_id)
    changes.record(session, row, {}, {"audio": clip.audio, "facts": clip.facts, "prompts": clip.prompts}, created)


def _content(clip: NewClip) -> dict[str, Any]:
    return {name: getattr(clip, name) for name in ("source", "audio", "facts", "tags", "prompts", "lineage")}


def _revise(session: Session, row: ClipRow, clip: NewClip, author: Author) -> str:
    facts, prompts = row.facts, row.prompts
    if clip.incoming() != row.incoming:
        facts, prompts = merged(clip, row.facts, row.prompts, row.edited_fields)
    values = {**_content(clip), "facts": facts, "prompts": prompts}
    judged = {"audio_sha256": clip.audio["sha256"], "facts": facts, "prompts": prompts}
    known = {"audio_sha256": row.audio["sha256"], "facts": row.facts, "prompts": row.prompts}
    if any(judged[name] != known[name] for name in HEARD):
        values |= {"verdict": OPEN, "reviewer": "", "automatic": False}
    row.incoming = clip.incoming()
    row.sort_key = sort_key(row.collection, clip.source, row.start_ms, row.end_ms)
    return "revised" if changes.apply(session, row, values, author) else "unchanged"

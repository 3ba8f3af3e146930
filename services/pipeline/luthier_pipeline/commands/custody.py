"""gc, takedown, lineage: what may go, what must go, and where a file came from."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from luthier.curation.v1 import curation_pb2 as curation
from luthier_kit.errors import NotFound
from luthier_pipeline.commands.context import PATIENCE_S, Context
from luthier_pipeline.custody.ancestry import trace
from luthier_pipeline.custody.ledger import Ledger
from luthier_pipeline.custody.sweep import Rule, Swept, sweep
from luthier_pipeline.custody.takedown import SETTLED_S, Reach, reach, take_down
from luthier_pipeline.resources import table

HOUR_S = 3600.0
CLIPS_A_PAGE = 500


def gc(context: Context) -> None:
    """Sweeps the store."""
    arguments = context.arguments
    rule = Rule(arguments.older_than * HOUR_S, arguments.generated_older_than * HOUR_S)
    clips = {clip.audio.sha256 for clip in _clips(context)}
    swept = sweep(context.place.store, rule, clips, dry_run=arguments.dry_run)
    document = {"blobs": swept.blobs, "bytes": swept.size_bytes, "kept": swept.kept, "went": swept.went}
    context.answer({**document, "dry_run": arguments.dry_run}, _told(swept, dry_run=arguments.dry_run))


def takedown(context: Context) -> None:
    """Writes tombstones over a file and what was made from it alone, and rejects its clips in curation."""
    arguments, store = context.arguments, context.place.store
    ledger = Ledger(store)
    found = reach(ledger, _digest(arguments.ref, ledger.file))
    if not arguments.dry_run:
        context.say(f"looking every {SETTLED_S:.0f} s for what running work still makes of it, until nothing is new")
        found = take_down(store, found, by=arguments.reviewer, reason=arguments.reason)
    clips = [
        clip
        for clip in _clips(context)
        if clip.audio.sha256 in found.derived or clip.source.midi_sha256 == found.digest
    ]
    if not arguments.dry_run:
        _reject(context, clips)
    document = {**found.document(), "clips": [clip.clip_id for clip in clips], "dry_run": arguments.dry_run}
    context.answer(document, _reached(found, len(clips), dry_run=arguments.dry_run))


def lineage(context: Context) -> None:
    """Shows everything behind a file."""
    ledger = Ledger(context.place.store)
    found = trace(ledger, _digest(context.arguments.ref, ledger.digest))
    context.answer(found.document(), found.tree())


def _digest(name: str, known: Callable[[str], str]) -> str:
    """The digest of a file here, or of what is so `known` in the store."""
    path = Path(name)
    if not path.is_file():
        return known(name)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        return known(digest)
    except NotFound:
        raise NotFound(f"the store knows no file with the bytes of {name}", reason="ARTIFACT_NOT_FOUND") from None


def _clips(context: Context) -> Iterator[curation.CuratedClip]:
    """Every clip of every collection."""
    request = curation.ListClipsRequest(page_size=CLIPS_A_PAGE)
    while True:
        page = context.place["curation"].call("ListClips", request, patience_s=PATIENCE_S)
        yield from page.clips
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _reject(context: Context, clips: list[curation.CuratedClip]) -> None:
    for first in range(0, len(clips), CLIPS_A_PAGE):
        request = curation.ReviewClipsRequest(
            verdict=curation.VERDICT_REJECTED,
            reviewer=context.arguments.reviewer,
            remark=f"taken down: {context.arguments.reason}"[:2000],
        )
        for clip in clips[first : first + CLIPS_A_PAGE]:
            request.clips.add(clip_id=clip.clip_id)
        context.place["curation"].call("ReviewClips", request, patience_s=PATIENCE_S)


def _told(swept: Swept, *, dry_run: bool) -> str:
    rows = [
        [reason, kind, str(blobs), f"{size_bytes / 1e6:.1f} MB"]
        for reason, kinds in swept.went.items()
        for kind, (blobs, size_bytes) in sorted(kinds.items())
    ]
    said = "would go" if dry_run else "went"
    total = f"{swept.blobs} blobs ({swept.size_bytes / 1e6:.1f} MB) {said}, {swept.kept} stay"
    return f"{table(rows, ['why', 'kind', 'blobs', 'size'])}\n{total}" if rows else total


def _reached(found: Reach, clips: int, *, dry_run: bool) -> str:
    said = "would be taken down" if dry_run else "taken down"
    lines = [f"{said}: {len(found.derived)} files; {clips} clips in curation {'to reject' if dry_run else 'rejected'}"]
    lines += [f"  {key}" for key in sorted(found.derived.values())]
    lines += [f"model that goes with its checkpoint: {name}" for name in found.unserved]
    lines += [f"left, for it was also made without it (luthier lineage shows of what): {key}" for key in found.shared]
    left = {"data set": found.datasets, "model": found.models, "run": found.runs, "generated": found.generated}
    lines += [f"{kind} that it is in or behind: {name}" for kind, names in left.items() for name in names]
    if any(left.values()):
        lines.append("these are left as they are: export and train again without it, then remove them")
    return "\n".join(lines)

"""takedown: refuses files and what was made of them alone to every reader from now on, and records it.

What is asked for (`asked`) leads to files, and these to what comes from them (`reach`). What falls is packed into sets
of tombstones. Two signed records of it are entries of the series `takedowns` (`records`): one that says what is about
to fall, before anything does, and one of what fell, after all did. Where the second is missing, the takedown was cut
off; the same command finishes it.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

import typer

from luthier.curation.v1.curation_pb2 import (
    VERDICT_REJECTED,
    ClipFilter,
    ClipRevision,
    CuratedClip,
    ReviewClipsRequest,
)
from luthier.pipeline.v1.pipeline_pb2 import TAKEDOWN_KIND_FILE, TAKEDOWN_KIND_LICENCE
from luthier_kit.rpc import Unavailable
from luthier_kit.store import FRESH_S, Digests
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import UsageError
from luthier_pipeline.curate import PAGE_SIZE, clips
from luthier_pipeline.lineage import LineageIndex, open_index
from luthier_pipeline.lineage.command import digest_of_ref
from luthier_pipeline.options import USER, Json, Reviewer, begin
from luthier_pipeline.retention.asked import Asked, asked_for
from luthier_pipeline.retention.reach import Reach, reach
from luthier_pipeline.retention.records import Decision, Records
from luthier_pipeline.retention.signing import load_signer

SETTLED_S: Final = FRESH_S + 15.0
"""Until every worker honours a tombstone, and a record that one was writing then is written (S3's retry budget)."""
LOOKS: Final = 10
"""Each finds what was in flight from what the one before found: more than the stages from MIDI to latents."""
MAX_REMARK_CHARS: Final = 2000
SHOWN: Final = 20  # names of one kind that are printed; the JSON has all
ASKED_OF_CURATION: Final = 10  # questions of PAGE_SIZE digests each, above which all clips are listed


@dataclass
class Fallen:
    """What was taken down: all that comes from what was asked for, and the sets of tombstones that were written."""

    found: Reach
    sets: list[int] = field(default_factory=list)

    @property
    def digests(self) -> Digests:
        return Digests.of(bytes.fromhex(digest) for digest in self.found.derived)


def take_down(index: LineageIndex, asked: Asked, found: Reach, *, by: str, reason: str) -> Fallen:
    """Tombstones over what is derived, the roots among the first, again until work in flight adds nothing.

    Raises Unavailable TAKEDOWN_UNFINISHED when it still does after `LOOKS`.
    """
    store, fallen = index.store, Fallen(replace(found, derived={}))
    for _ in range(LOOKS):
        fresh = {digest: name for digest, name in found.derived.items() if digest not in fallen.found.derived}
        if not fresh:
            return fallen
        fallen.sets += store.tombstones.add(store.objects, map(bytes.fromhex, fresh), by=by, reason=reason)
        fallen.found = replace(found, derived=fallen.found.derived | fresh)
        time.sleep(SETTLED_S)
        index.update()
        found = reach(index, asked.roots(index))
    text = f"running work still makes files of {asked}: stop it, then take it down again"
    raise Unavailable(text, reason="TAKEDOWN_UNFINISHED")


def takedown(
    ctx: typer.Context,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, kept in the record.")],
    ref: Annotated[
        str,
        typer.Argument(metavar="[REF]", help="Key, sha256, file, or path in a corpus; no name@n.", show_default=False),
    ] = "",
    artist: Annotated[str, typer.Option(metavar="NAME", help="All songs of an artist.")] = "",
    song: Annotated[str, typer.Option(metavar="ARTIST/TITLE", help="All files of a song.")] = "",
    plugin: Annotated[str, typer.Option(metavar="NAME|SHA256", help="All that a plugin or its preset played.")] = "",
    soundfont: Annotated[str, typer.Option(metavar="NAME|SHA256", help="All that a SoundFont played.")] = "",
    licence: Annotated[str, typer.Option(metavar="ID", help="All that a licence binds.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what comes from it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    reviewer: Reviewer = USER,
    json: Json = False,
) -> None:
    """Refuse files, and what was made from them, to every reader: a file, or all of an artist, a song, a plugin, a
    SoundFont or a licence.

    Its clips in curation are rejected. Data sets, models and generated audio are named, for a person to decide about,
    and so are near-duplicates. Try it with --dry-run first.
    """
    context = begin(ctx, json)
    asked = asked_for(ref, artist=artist, song=song, plugin=plugin, soundfont=soundfont, licence=licence)
    store = context.clients.store
    records = Records(store, load_signer(context.clients.environ))
    index = open_index(store, context.clients.environ, context.say)
    if asked.kind == TAKEDOWN_KIND_FILE:
        asked = Asked(asked.kind, digest_of_ref(ref, index.resolve_file), ref)
    found = reach(index, asked.found(index))
    if asked.kind == TAKEDOWN_KIND_LICENCE:
        found.models = sorted({*found.models, *index.granted(licence)})
    made = list(_clips_of(context.clients, found))
    document = {**found.document(), "asked": str(asked), "clips": [clip.clip_id for clip in made], "dry_run": dry_run}
    if dry_run:
        context.answer(document, "\n".join(_lines(found, len(made), asked, done=False)))
        return
    if not yes:
        context.say("\n".join(_lines(found, len(made), asked, done=False)))
        _confirm(asked)
    decision = Decision(asked, by=reviewer, reason=reason)
    started = records.started(decision, found)
    context.say(f"looking every {SETTLED_S:.0f} s for what running work still makes of it, until nothing is new")
    fallen = take_down(index, asked, found, by=reviewer, reason=reason)
    made = list(_clips_of(context.clients, fallen.found))
    _reject(context.clients, made, reviewer, reason)
    kept = records.done(decision, fallen.found, fallen.digests, fallen.sets, len(made), started)
    signed = bool(kept.record.signature)
    lines = _lines(fallen.found, len(made), asked, done=True)
    lines.append(f"record {kept.key}, {'signed' if signed else 'unsigned (LUTHIER_SIGNING_KEY)'}")
    more = {"clips": [clip.clip_id for clip in made], "record": kept.number, "signed": signed}
    context.answer({**document, **fallen.found.document(), **more}, "\n".join(lines))


def has_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()


def _confirm(asked: Asked) -> None:
    """Asks on a terminal. UsageError where there is none, and for a no."""
    if not has_terminal():
        raise UsageError("a takedown cannot be undone: look at it with --dry-run, then say --yes")
    if not typer.confirm(f"take down {asked}? It cannot be undone", err=True):
        raise UsageError("nothing was taken down")


def _clips_of(clients: Clients, found: Reach) -> Iterator[CuratedClip]:
    """Clips in curation whose audio goes or whose song does. A reach of few files asks for these, a large one looks
    through all."""
    roots = set(found.roots)
    audio = [digest for digest, name in found.derived.items() if name.startswith("clips/")]
    questions = [ClipFilter(midi_sha256=part) for part in _parts(found.roots)]
    questions += [ClipFilter(audio_sha256=part) for part in _parts(audio)]
    if len(questions) > ASKED_OF_CURATION:
        questions = [ClipFilter()]
    seen: set[str] = set()
    for question in questions:
        for clip in clips(clients, question):
            goes = clip.audio.sha256 in found.derived or clip.source.midi_sha256 in roots
            if goes and clip.clip_id not in seen:
                seen.add(clip.clip_id)
                yield clip


def _parts(digests: Sequence[str]) -> list[Sequence[str]]:
    return [digests[first : first + PAGE_SIZE] for first in range(0, len(digests), PAGE_SIZE)]


def _reject(clients: Clients, made: Sequence[CuratedClip], reviewer: str, reason: str) -> None:
    for first in range(0, len(made), PAGE_SIZE):
        request = ReviewClipsRequest(
            clips=[ClipRevision(clip_id=clip.clip_id) for clip in made[first : first + PAGE_SIZE]],
            verdict=VERDICT_REJECTED,
            reviewer=reviewer,
            remark=f"taken down: {reason}"[:MAX_REMARK_CHARS],
        )
        clients.curation.ReviewClips(request)


def _lines(found: Reach, clips_in_curation: int, asked: Asked, *, done: bool) -> list[str]:
    """For people: what falls by kind, then names of each kind, SHOWN of them."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.by_kind.items()))
    lines = [
        f"{'taken down' if done else 'would be taken down'} ({asked}): {len(found.derived)} files ({kinds}); "
        f"{clips_in_curation} clips in curation {'rejected' if done else 'to reject'}"
    ]
    lists = {
        "  {}": sorted(found.derived.values()),
        "model that goes with its weights: {}": found.unserved,
        "left, for it was also made without it (luthier lineage shows of what): {}": found.shared,
        "data set that it is in or behind: {}": found.datasets,
        "model that it is in or behind: {}": found.models,
        "run that it is in or behind: {}": found.runs,
        "generated that it is in or behind: {}": found.generated,
        "near-duplicate that is left (take it down by its path): {}": found.near,
    }
    for form, names in lists.items():
        lines += [form.format(name) for name in names[:SHOWN]]
        if len(names) > SHOWN:
            lines.append(form.format(f"… and {len(names) - SHOWN} more (--json has all)"))
    if found.datasets or found.models or found.runs or found.generated:
        lines.append("these are left as they are: export and train again without it, then remove them")
    return lines

"""takedown: refuses a song (or any file) and what was made of it alone to every reader from now on.

A model goes with its weights: its checkpoint, an adapter, or what lies beneath one. What was frozen from many songs or
trained on them (data sets, other models, audio that models generated), and what was also made without it, is named, for
a person to decide about.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

import typer

from luthier.curation.v1.curation_pb2 import VERDICT_REJECTED, ClipRevision, ReviewClipsRequest
from luthier_kit.rpc import Unavailable
from luthier_kit.store import FRESH_S, Store
from luthier_pipeline.curate import PAGE_SIZE, clips
from luthier_pipeline.lineage import ACTION, DATASET, MODEL, RUN, LineageIndex, Step, digest_of_ref
from luthier_pipeline.options import USER, Json, Reviewer, begin

SETTLED_S: Final = FRESH_S + 15.0
"""Until every worker honours a tombstone, and a record that one was writing then is written (S3's retry budget)."""
LOOKS: Final = 10
"""Each finds what was in flight from what the one before found: more than the stages from MIDI to latents."""
MAX_REMARK_CHARS: Final = 2000


@dataclass
class Reach:
    """What comes from a digest.

    `derived` names, the digest itself first, what goes with it: files that actions made of it alone, and versions of
    models (by digest) whose checkpoint or an adapter goes; their names are `unserved`. `shared` are files made of it
    and also without it.
    """

    digest: str
    derived: dict[str, str] = field(default_factory=dict)
    shared: list[str] = field(default_factory=list)
    unserved: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)

    def document(self) -> Mapping[str, object]:
        """Plain JSON."""
        return {
            "sha256": self.digest,
            "derived": sorted(self.derived.values()),
            "shared": self.shared,
            "unserved": self.unserved,
            "datasets": self.datasets,
            "models": self.models,
            "runs": self.runs,
            "generated": self.generated,
        }


def reach(index: LineageIndex, digest: str) -> Reach:
    """Everything that comes from a digest."""

    def name(one: str) -> str:
        return index.blobs.get(one, f"sha256:{one}")

    made_alone, shared = _made_of(index, digest)
    datasets = [step for one in made_alone for step in index.makers.get(one, []) if step.kind == DATASET]
    weights = set(made_alone)
    versions = [
        step for step in index.steps if step.kind == MODEL and not weights.isdisjoint((*step.outputs, *step.beneath))
    ]
    holders = [*datasets, *versions]
    derived = dict.fromkeys([*made_alone, *(step.outputs[0] for step in versions)])
    everything, later = _closure(index, [*derived, *(one for step in holders for one in step.outputs)])
    names = {kind: {step.name for step in (*holders, *later) if step.kind == kind} for kind in (DATASET, MODEL, RUN)}
    unserved = {step.name for step in versions}
    beyond = (index.blobs.get(one, "") for one in everything if one not in derived)
    return Reach(
        digest,
        derived={one: name(one) for one in derived},
        shared=sorted(name(one) for one in shared),
        unserved=sorted(unserved),
        datasets=sorted(names[DATASET]),
        models=sorted(names[MODEL] - unserved),
        runs=sorted(names[RUN]),
        generated=sorted(key for key in beyond if key.startswith("generated/")),
    )


def take_down(store: Store, found: Reach, *, by: str, reason: str) -> Reach:
    """Tombstones over what is derived, the digest itself first, again until work in flight adds nothing.

    Raises Unavailable TAKEDOWN_UNFINISHED when it still does after `LOOKS`.
    """
    down: dict[str, str] = {}
    for _ in range(LOOKS):
        fresh = {digest: name for digest, name in found.derived.items() if digest not in down}
        if not fresh:
            return replace(found, derived=down)
        for digest in fresh:
            store.blobs.take_down(digest, by=by, reason=reason)
        down |= fresh
        time.sleep(SETTLED_S)
        found = reach(LineageIndex(store), found.digest)
    text = f"running work still makes files of {found.digest}: stop it, then take it down again"
    raise Unavailable(text, reason="TAKEDOWN_UNFINISHED")


def _made_of(index: LineageIndex, digest: str) -> tuple[list[str], set[str]]:
    """What actions made of a digest alone, itself first; and what they made of it that others made without it."""
    shared: set[str] = set()
    while True:
        digests, steps = _closure(index, [digest], ACTION, without=shared)
        names = {step.name for step in steps}
        more = {
            one
            for one in digests
            if one != digest
            and any(maker.kind == ACTION and maker.name not in names for maker in index.makers.get(one, []))
        }
        if not more - shared:
            return [one for one in digests if one not in shared], shared & digests.keys()
        shared |= more


def _closure(
    index: LineageIndex, begin: Iterable[str], only: str = "", without: Collection[str] = ()
) -> tuple[dict[str, None], list[Step]]:
    """Digests (`begin` first) and steps that follow, through steps of one kind or of all, not past `without`."""
    digests = dict.fromkeys(begin)
    waiting = list(digests)
    steps: dict[str, Step] = {}
    while waiting:
        for step in index.users.get(waiting.pop(), []):
            if step.name in steps or (only and step.kind != only):
                continue
            steps[step.name] = step
            fresh = [one for one in dict.fromkeys(step.outputs) if one not in digests]
            digests.update(dict.fromkeys(fresh))
            waiting += [one for one in fresh if one not in without]
    return digests, list(steps.values())


def takedown(
    ctx: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="REF", help="Key, sha256, file, or path in a corpus; no name@n.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, kept in the tombstones.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what comes from it.")] = False,
    reviewer: Reviewer = USER,
    json: Json = False,
) -> None:
    """Refuse a MIDI file or blob, and the audio made from it, to every reader.

    Its clips in curation are rejected. Data sets, models and generated audio are named, for a person to decide about.
    """
    context = begin(ctx, json)
    store, curation = context.clients.store, context.clients.curation
    index = LineageIndex(store)
    found = reach(index, digest_of_ref(ref, index.resolve_file))
    if not dry_run:
        context.say(f"looking every {SETTLED_S:.0f} s for what running work still makes of it, until nothing is new")
        found = take_down(store, found, by=reviewer, reason=reason)
    made = [
        clip
        for clip in clips(context.clients)
        if clip.audio.sha256 in found.derived or clip.source.midi_sha256 == found.digest
    ]
    for first in range(0, 0 if dry_run else len(made), PAGE_SIZE):
        request = ReviewClipsRequest(
            clips=[ClipRevision(clip_id=clip.clip_id) for clip in made[first : first + PAGE_SIZE]],
            verdict=VERDICT_REJECTED,
            reviewer=reviewer,
            remark=f"taken down: {reason}"[:MAX_REMARK_CHARS],
        )
        curation.ReviewClips(request)

    lines = [
        f"{'would be taken down' if dry_run else 'taken down'}: {len(found.derived)} files; "
        f"{len(made)} clips in curation {'to reject' if dry_run else 'rejected'}"
    ]
    lines += [f"  {key}" for key in sorted(found.derived.values())]
    lines += [f"model that goes with its weights: {name}" for name in found.unserved]
    lines += [f"left, for it was also made without it (luthier lineage shows of what): {key}" for key in found.shared]
    left = {"data set": found.datasets, "model": found.models, "run": found.runs, "generated": found.generated}
    lines += [f"{kind} that it is in or behind: {name}" for kind, names in left.items() for name in names]
    if any(left.values()):
        lines.append("these are left as they are: export and train again without it, then remove them")
    document = {**found.document(), "clips": [clip.clip_id for clip in made], "dry_run": dry_run}
    context.answer(document, "\n".join(lines))

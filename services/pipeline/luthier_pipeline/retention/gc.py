"""gc: deletes blobs that nothing reaches.

A blob is reached when a document names its digest: an action record, an entry of a series (models, data sets, runs,
corpora), a manifest that is reached itself, or a clip in curation. Documents are searched for digests, whatever their
form. Documents of other buckets are not read. Of a training or an evaluation the newest entry counts, which holds all
that the run keeps: checkpoints that only earlier ones name were let go.

Running work is safe: what is younger than the grace stays, and a blob that is written again is young again. Each age is
read just before the blob goes, and what is reached is looked at again before each batch. Generated audio is held by
documents that give it to others: the records of an evaluation's rows, and data sets. What else names it does not hold
it: neither the record of its making, which is void without it (asked again, it is made again), nor what was measured.
What a request id asked first (`requests/`) is kept as long as the audio, and a day at least; what callers had of their
quotas (`quotas/`) for 90 days.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer

from luthier.registry.v1.registry_pb2 import AUDITED_ACTION_DELETE
from luthier_kit.quotas import PREFIX as QUOTAS
from luthier_kit.registry import AUDIT, REQUESTS, audit
from luthier_kit.rpc import NotFound
from luthier_kit.store import Store, Stored, is_blob_key
from luthier_pipeline.console import table
from luthier_pipeline.curate import clips
from luthier_pipeline.lineage import READS_AT_ONCE, RUNS, digest_in_key, digests_in, newest_entries
from luthier_pipeline.options import USER, Json, Reviewer, begin, within

GENERATED: Final = "generated/"
MAKING: Final = "actions/generate/"
MANIFESTS: Final = ("audio-sets/", "manifests/", "evaluations/")  # blobs that name other blobs
HOLDING: Final = ("actions/evaluation-row/", "datasets/")
"""Documents that hold generated audio; what they name below MANIFESTS does, too."""
NO_DOCUMENTS: Final = (
    AUDIT, "heartbeats/", "proofs/", "quarantine/", QUOTAS, REQUESTS, "songs/", "takedowns/", "tombstones/",
)  # fmt: skip
"""Notes of songs (`songs/`) name what records of actions name, and hold nothing beyond."""
BATCH: Final = 1000  # blobs deleted between two looks, some seconds of deletes
DIGEST_CHARS: Final = 64
HOUR_S: Final = 3600.0
REQUEST_S: Final = 24 * HOUR_S  # the least life of a request id: a call is tried again for minutes, and lasts an hour
SPENDING_S: Final = 90 * 24 * HOUR_S  # of callers' spending, which counts for a day and is looked at afterwards
MIN_HOURS, MAX_HOURS = 1, 87660  # within an hour of a blob's writing, work in flight has recorded it; ten years


@dataclass(frozen=True)
class Rule:
    """What may go: unreached blobs older than `grace_s`, generated audio older than `generated_s`; seconds. Request ids
    as generated audio, but none younger than a day."""

    grace_s: float
    generated_s: float


@dataclass
class Amount:
    """A number of blobs and their bytes."""

    blobs: int = 0
    size_bytes: int = 0


@dataclass
class Collected:
    """What went, by reason (`taken down`, `unreferenced`, `expired`) and kind of blob, and how many blobs stay;
    how many request ids and notes of callers' spending went."""

    kept: int = 0
    requests: int = 0
    spending: int = 0
    went: dict[str, dict[str, Amount]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Amount)))

    def count(self, reason: str, blob: Stored) -> None:
        amount = self.went[reason][blob.key.split("/", 1)[0]]
        amount.blobs += 1
        amount.size_bytes += blob.size_bytes

    @property
    def total(self) -> Amount:
        amounts = [amount for kinds in self.went.values() for amount in kinds.values()]
        return Amount(sum(amount.blobs for amount in amounts), sum(amount.size_bytes for amount in amounts))


class Reached:
    """Digests that documents name. Documents never change, so each is read once; `update` reads the new ones.

    `held` are digests that are held whatever documents say. With `generated_only` nothing is read but what can hold
    generated audio.
    """

    def __init__(self, store: Store, held: Iterable[str] = (), *, generated_only: bool = False) -> None:
        self.store = store
        self._folders = (*HOLDING, *MANIFESTS) if generated_only else ("",)
        self._named = set(held)
        self._holding = set(self._named)  # digests that hold generated audio
        self._made: set[str] = set()  # digests that records of generating name
        self._read: set[str] = set()

    def holds(self, key: str) -> bool:
        """Whether the blob must stay."""
        digest = digest_in_key(key)
        if key.startswith(GENERATED):
            return digest in self._holding
        return digest in self._named or digest in self._made

    def update(self) -> None:
        """Read every document that was not read yet."""
        keys = [key for folder in self._folders for key in self.store.objects.keys(folder)]
        runs = set(newest_entries(keys))
        documents = (key for key in keys if not is_blob_key(key) and not key.startswith((*NO_DOCUMENTS, ".")))
        self._add(key for key in documents if not key.startswith(RUNS) or key in runs)
        manifests = [key for key in keys if key.startswith(MANIFESTS)]
        while named := [key for key in manifests if key not in self._read and digest_in_key(key) in self._named]:
            self._add(named)

    def _add(self, keys: Iterable[str]) -> None:
        new = [key for key in keys if key not in self._read]
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            for key, found in zip(new, pool.map(self._digests, new), strict=True):
                (self._made if key.startswith(MAKING) else self._named).update(found)
                if key.startswith((*HOLDING, *MANIFESTS)):
                    self._holding.update(found)
        self._read.update(new)

    def _digests(self, key: str) -> set[str]:
        found: set[str] = set()
        rest = b""
        try:
            for chunk in self.store.objects.chunks(key):
                text = rest + chunk
                found.update(digests_in(text))
                rest = text[-DIGEST_CHARS - 1 :]
        except NotFound:  # deleted or moved since it was listed
            return set()
        return found


def collect(
    store: Store, rule: Rule, held: Iterable[str] = (), *, dry_run: bool = False, generated_only: bool = False
) -> Collected:
    """Deletes what nothing reaches and what was taken down. `held` are digests of clips in curation.

    With `generated_only` only generated audio goes, and what is read does not grow with the rest of the store: nothing
    where no audio is old, else the documents that can hold it.
    """
    blobs = [found for found in store.objects.stored(GENERATED if generated_only else "") if is_blob_key(found.key)]
    reached = Reached(store, held, generated_only=generated_only)

    def due(blob: Stored) -> str:
        """Why a blob goes unless something holds it; empty when it stays."""
        if store.tombstones.names(store.objects, digest_in_key(blob.key)):
            return "taken down"
        why, grace_s = "unreferenced", rule.grace_s
        if blob.key.startswith(GENERATED):
            why, grace_s = "expired", rule.generated_s
        return why if time.time() - blob.written_at > grace_s else ""

    def reason(blob: Stored) -> str:
        """Why a blob may go; empty when it stays."""
        why = due(blob)
        return "" if why and why != "taken down" and reached.holds(blob.key) else why

    def delete(key: str) -> tuple[str, Stored] | None:
        blob = store.objects.stat(key)
        why = reason(blob) if blob else ""
        if not blob or not why:
            return None
        store.objects.delete(key)
        return why, blob

    collected = Collected(kept=len(blobs))
    if any(map(due, blobs)):
        reached.update()
    candidates = [(why, blob) for blob in blobs if (why := reason(blob))]
    for first in range(0, len(candidates), BATCH):
        batch = candidates[first : first + BATCH]
        if not dry_run:
            reached.update()
            with ThreadPoolExecutor(READS_AT_ONCE) as pool:
                batch = [done for done in pool.map(delete, [blob.key for _, blob in batch]) if done]
        for why, blob in batch:
            collected.count(why, blob)
    collected.kept -= collected.total.blobs
    collected.requests = _forget(store, REQUESTS, max(rule.generated_s, REQUEST_S), dry_run=dry_run)
    collected.spending = _forget(store, QUOTAS, SPENDING_S, dry_run=dry_run)
    return collected


def _forget(store: Store, prefix: str, age_s: float, *, dry_run: bool) -> int:
    """Deletes the documents below a prefix that are older than `age_s` seconds; their number."""

    def delete(key: str) -> bool:
        found = store.objects.stat(key)  # the listing may be old: a request id may have been forgotten and used again
        if found is None or time.time() - found.written_at <= age_s:
            return False
        store.objects.delete(key)
        return True

    old = [found.key for found in store.objects.stored(prefix) if time.time() - found.written_at > age_s]
    if dry_run:
        return len(old)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        return sum(pool.map(delete, old))


def _told(collected: Collected) -> str:
    """What went, in words."""
    parts = (
        f"{amount.blobs} {kind} {reason}"
        for reason, kinds in collected.went.items()
        for kind, amount in sorted(kinds.items())
    )
    return f"{collected.total.size_bytes / 1e6:.1f} MB: {', '.join(parts)}"


def _hours(value: float) -> float:
    return within(value, MIN_HOURS, MAX_HOURS, "hours")


def gc(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    older_than: Annotated[
        float, typer.Option(metavar="HOURS", callback=_hours, help="Grace of unreached blobs, 1 or more.")
    ] = 24.0,
    generated_older_than: Annotated[
        float, typer.Option(metavar="HOURS", callback=_hours, help="Life of generated audio and request ids.")
    ] = 168.0,
    generated: Annotated[bool, typer.Option("--generated", help="Only generated audio and request ids.")] = False,
    reviewer: Reviewer = USER,
    json: Json = False,
) -> None:
    """Delete blobs that no manifest, model, run, record or curation clip reaches.

    Safe beside running work, but not for a bucket whose blobs the documents of another one name
    (LUTHIER_BUCKETS_ALLOWED): only its own are read.
    """
    context = begin(ctx, json)
    rule = Rule(older_than * HOUR_S, generated_older_than * HOUR_S)
    # curation refuses clips of generated audio, and need not be up for it to expire
    held = set() if generated else {clip.audio.sha256 for clip in clips(context.clients)}
    collected = collect(context.clients.store, rule, held, dry_run=dry_run, generated_only=generated)
    total = collected.total
    if total.blobs and not dry_run:
        audit(context.clients.store, AUDITED_ACTION_DELETE, actor=reviewer, subject=_told(collected))
    went: Mapping[str, object] = {
        reason: {kind: [amount.blobs, amount.size_bytes] for kind, amount in kinds.items()}
        for reason, kinds in collected.went.items()
    }
    document = {
        "blobs": total.blobs, "bytes": total.size_bytes, "kept": collected.kept, "went": went,
        "requests": collected.requests, "spending": collected.spending, "dry_run": dry_run,
    }  # fmt: skip
    rows = [
        [reason, kind, str(amount.blobs), f"{amount.size_bytes / 1e6:.1f} MB"]
        for reason, kinds in collected.went.items()
        for kind, amount in sorted(kinds.items())
    ]
    text = f"{total.blobs} blobs ({total.size_bytes / 1e6:.1f} MB) {'would go' if dry_run else 'went'}"
    text += f", {collected.kept} stay"
    text += f"; {collected.requests} request ids {'would go' if dry_run else 'went'}" if collected.requests else ""
    context.answer(document, f"{table(rows, ['why', 'kind', 'blobs', 'size'])}\n{text}" if rows else text)

"""Records of takedowns: one before anything falls, one after all did, both signed where there is a key.

They are entries of the series `takedowns`. A takedown that is cut off by a crash, a signal or a store that is away has
fallen in part, and has a record of the first kind alone; when it is run again, the record of the second kind names it.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from luthier.pipeline.v1.pipeline_pb2 import (
    TAKEDOWN_KIND_FILE,
    TAKEDOWN_STATE_DONE,
    TAKEDOWN_STATE_STARTED,
    TakedownRecord,
)
from luthier.registry.v1.registry_pb2 import AUDITED_ACTION_TAKE_DOWN
from luthier_kit.registry import audit
from luthier_kit.store import Digests, Series, Store
from luthier_pipeline.retention.asked import KIND_NAMES, Asked
from luthier_pipeline.retention.reach import Reach
from luthier_pipeline.retention.signing import Signer

TAKEDOWNS: Final = "takedowns"
"""The series of records."""
MAX_LISTED: Final = 1000
"""Names of one kind in a record."""
MAX_NAME_CHARS: Final = 1000


@dataclass(frozen=True)
class Kept:
    """A record and its number in the series."""

    number: int
    record: TakedownRecord

    @property
    def key(self) -> str:
        return f"{TAKEDOWNS}/{self.number}.json"


@dataclass(frozen=True)
class Decision:
    """What is taken down, by whom and why."""

    asked: Asked
    by: str
    reason: str


def takedowns(store: Store) -> Series[TakedownRecord]:
    """The records, oldest first."""
    return store.series(TakedownRecord, TAKEDOWNS)


def unfinished(records: Sequence[Kept]) -> list[Kept]:
    """Those that say that a takedown was begun, and that no other completes."""
    completed = {number for kept in records for number in kept.record.completes}
    return [kept for kept in records if kept.record.state == TAKEDOWN_STATE_STARTED and kept.number not in completed]


def command_that_finishes(record: TakedownRecord) -> str:
    """The command line that takes down the rest of what a record says was begun."""
    what = (
        [record.file_sha256]
        if record.kind == TAKEDOWN_KIND_FILE
        else [f"--{KIND_NAMES.get(record.kind, 'unknown')}", record.name]
    )
    return shlex.join(["luthier", "takedown", *what, "--reason", record.reason, "--as", record.taken_down_by])


class Records:
    """Writes records, signed where there is a signer."""

    def __init__(self, store: Store, signer: Signer | None) -> None:
        self._store, self._signer, self._series = store, signer, takedowns(store)

    def started(self, decision: Decision, found: Reach) -> list[Kept]:
        """Records that this is about to fall, unless that is recorded and was cut off: those records, then."""
        records = [Kept(number, record) for number, record in self._series.entries()]
        open_ones = [kept for kept in unfinished(records) if _same(kept.record, decision.asked)]
        if open_ones:
            return open_ones
        record = _record(decision, found, Digests.of(map(bytes.fromhex, found.derived)))
        record.state = TAKEDOWN_STATE_STARTED
        record.sets_before = self._store.tombstones.newest(self._store.objects)
        return [self._append(record, after=records[-1].number if records else 0)]

    def done(
        self, decision: Decision, found: Reach, fell: Digests, sets: Sequence[int], rejected: int, started: list[Kept]
    ) -> Kept:
        """Records that all of it fell, in the audit trail, too. `sets` are those that were written since; of what was
        begun and cut off before, those that hold what fell are looked up."""
        before = min((kept.record.sets_before for kept in started), default=0)
        earlier = self._store.tombstones.sets_with(self._store.objects, fell, after=before, but=sets)
        record = _record(decision, found, fell)
        more = TakedownRecord(
            state=TAKEDOWN_STATE_DONE,
            completes=[kept.number for kept in started],
            rejected_clips=rejected,
            sets=sorted({*sets, *earlier}),
        )
        record.MergeFrom(more)
        kept = self._append(record, after=started[-1].number if started else 0)
        audit(
            self._store,
            AUDITED_ACTION_TAKE_DOWN,
            actor=record.taken_down_by,
            subject=f"{Asked(record.kind, record.name)}: {record.files} files, {record.clips} clips",
            reason=record.reason,
            document=kept.key,
        )
        return kept

    def _append(self, record: TakedownRecord, after: int) -> Kept:
        record.taken_down_at.GetCurrentTime()
        if self._signer:
            self._signer.sign(record)
        return Kept(self._series.append(record, after=after), record)


def _record(decision: Decision, found: Reach, fell: Digests) -> TakedownRecord:
    """Of what was found to fall, without its state; not signed yet."""
    asked = decision.asked
    return TakedownRecord(
        kind=asked.kind,
        name=(asked.told or asked.name)[:MAX_NAME_CHARS],
        file_sha256=asked.name if asked.kind == TAKEDOWN_KIND_FILE else "",
        taken_down_by=decision.by,
        reason=decision.reason,
        files=len(fell),
        clips=found.clips,
        digests_sha256=fell.sha256,
        unserved=found.unserved[:MAX_LISTED],
        datasets=found.datasets[:MAX_LISTED],
        models=found.models[:MAX_LISTED],
        runs=found.runs[:MAX_LISTED],
        outputs=found.generated[:MAX_LISTED],
        output_count=len(found.generated),
        near_duplicates=found.near[:MAX_LISTED],
        near_duplicate_count=len(found.near),
    )


def _same(record: TakedownRecord, asked: Asked) -> bool:
    """Whether a record is of what is asked for: of files the bytes count, whatever they were called."""
    if record.kind != asked.kind:
        return False
    if asked.kind == TAKEDOWN_KIND_FILE:
        return record.file_sha256 == asked.name
    return record.name == asked.name[:MAX_NAME_CHARS]

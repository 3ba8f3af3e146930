"""Artifacts: everything a service keeps, over any object store."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from luthier_kit.artifacts import record as records
from luthier_kit.artifacts.action import Action
from luthier_kit.artifacts.blobs import Blobs
from luthier_kit.artifacts.locks import KeyLocks
from luthier_kit.artifacts.objects import ObjectStore
from luthier_kit.artifacts.proof import prove_conditional_create
from luthier_kit.artifacts.record import M, Record
from luthier_kit.artifacts.series import Series
from luthier_kit.errors import DataLoss, LuthierError

log = logging.getLogger(__name__)


class Artifacts(Blobs, Series):
    """Blobs, series and action records of one bucket. Threads may share it."""

    def __init__(self, objects: ObjectStore, allowed_buckets: frozenset[str] = frozenset()) -> None:
        super().__init__(objects, allowed_buckets)
        self._locks = KeyLocks()

    def prove(self, *, create_bucket: bool) -> None:
        """Refuse a store that is not there, or that does not keep the first of racing writers."""
        self.objects.ensure_bucket(create=create_bucket)
        prove_conditional_create(self.objects)

    def run(
        self, action: Action, kind: type[M], compute: Callable[[], M], *, max_age_s: float | None = None
    ) -> tuple[M, bool]:
        """The response of an action: (found, True), or (computed and committed now, False).

        The newest record answers when its blobs are stored with the right sizes and it is not older than `max_age_s`;
        otherwise `compute` runs and the next generation is committed, last and only if absent; a racing winner's is
        adopted. A permanent refusal (InvalidRequest, FailedPrecondition) is recorded and raised again; other failures
        leave nothing behind. The same action runs once at a time in this process. What was taken down is NotFound.
        """
        self._check_inputs(action)
        with self._locks.holding(action.digest):
            found, generation = self._newest_record(action)
            if found and self._holds(found, max_age_s):
                return found.response(kind, reused=True), True
            encode = self._outcome(action, compute)
            self._check_inputs(action)  # a takedown may have come while it was computed
            return self._commit(action, kind, generation + 1, encode)

    def record(self, action: Action) -> Record | None:
        """The newest valid record of an action, None when it must be computed."""
        found, _ = self._newest_record(action)
        return found if found and self._holds(found, None) else None

    def _check_inputs(self, action: Action) -> None:
        for digest in action.inputs:
            self._tombstones.check(self.objects, digest)

    def _newest_record(self, action: Action) -> tuple[Record | None, int]:
        """The newest record (None when void) and the number of generations."""
        found, generation = None, 0
        while (data := self._record_bytes(action.key(generation + 1))) is not None:
            generation += 1
            found = records.parse(action.key(generation), generation, data)
        return found, generation

    def _record_bytes(self, key: str) -> bytes | None:
        try:
            return self.objects.get(key, records.MAX_RECORD_BYTES)
        except DataLoss:
            return b""  # void

    def _holds(self, found: Record, max_age_s: float | None) -> bool:
        if max_age_s is not None and datetime.now(UTC) - found.created_at > timedelta(seconds=max_age_s):
            return False
        missing = [ref.key for ref in found.blobs if not self.exists(ref)]
        if missing:
            log.warning("record %s is void: %d blobs missing or cut, first %s", found.key, len(missing), missing[0])
        return not missing

    def _outcome(self, action: Action, compute: Callable[[], M]) -> Callable[[int, str], bytes]:
        """Compute, and return what writes the record for a generation and a commit id."""
        try:
            result = compute()
        except LuthierError as error:
            if not records.is_permanent(error):
                raise
            refused = error
            return lambda generation, commit: records.of_refusal(action, generation, commit, refused)
        return lambda generation, commit: records.of_result(action, generation, commit, result)

    def _commit(
        self, action: Action, kind: type[M], generation: int, encode: Callable[[int, str], bytes]
    ) -> tuple[M, bool]:
        while True:
            key, data = action.key(generation), encode(generation, uuid.uuid4().hex)
            if self.objects.create(key, data):
                committed = Record(key, generation, records.decode(data))
                return committed.response(kind, reused=False), False
            theirs = records.parse(key, generation, self._record_bytes(key) or b"")
            if theirs and self._holds(theirs, None):
                log.info("record %s was committed by another worker first; adopted", key)
                return theirs.response(kind, reused=True), True
            generation += 1

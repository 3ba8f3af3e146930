"""Verdicts and undos of many clips in the background: a transaction for each chunk, progress beside it, resumed by
whoever finds them after a restart.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation import listing, reviews
from luthier_curation.clips import REVIEWED, UNDONE, Author
from luthier_curation.database import Repository, derive_missing
from luthier_curation.reviews import Chunk
from luthier_curation.tables import REASON_NAMES, REASON_NUMBERS, VERDICT_NAMES, VERDICT_NUMBERS, BatchRow, ChangeRow
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import LuthierError, Unavailable

log = logging.getLogger(__name__)
RUNNING, DONE, FAILED = "running", "done", "failed"
EMBEDDING = "embedding"
"""Runs, too, but is not worked at here: see `embedding_work`."""
STATES: Final = {
    RUNNING: pb.BATCH_STATE_RUNNING,
    EMBEDDING: pb.BATCH_STATE_RUNNING,
    DONE: pb.BATCH_STATE_DONE,
    FAILED: pb.BATCH_STATE_FAILED,
}
REVIEW, UNDO = "review", "undo"
LOOK_S: Final = 10.0
"""Between looks for batches that another replica began and left."""
STOP_S: Final = 20.0
"""For the chunk that is under way when the service ends."""
MAX_ERROR_CHARS: Final = 500


def decision_of(request: pb.ReviewClipsRequest) -> Decision:
    """What a request decides; its reviewer is the one that is recorded."""
    return Decision(
        verdict=VERDICT_NAMES[request.verdict],
        reviewer=request.reviewer,
        automatic=request.automatic,
        remark=request.remark,
        reason=REASON_NAMES[request.reason],
        rating=request.rating,
        settle=request.settle,
    )


def request_of(which: pb.ClipFilter, decision: Decision) -> pb.ReviewClipsRequest:
    """The request that decides so about all that match; as it is stored."""
    return pb.ReviewClipsRequest(
        filter=which,
        verdict=VERDICT_NUMBERS[decision.verdict],
        reviewer=decision.reviewer,
        automatic=decision.automatic,
        remark=decision.remark,
        reason=REASON_NUMBERS[decision.reason],
        rating=decision.rating,
        settle=decision.settle,
        background=True,
    )


def message(row: BatchRow) -> pb.Batch:
    """A batch as the contract has it."""
    return pb.Batch(
        batch_id=row.batch_id,
        state=STATES[row.state],
        seen=row.seen,
        total=row.total,
        changed=row.changed,
        unchanged=row.seen - row.changed,
        error=row.error,
    )


def get(session: Session, batch_id: str) -> pb.Batch:
    """How far a batch has come. One that was no background work is done. NotFound."""
    if "\x00" in batch_id or len(batch_id) > listing.MAX_ID_CHARS:
        raise reviews.unknown_batch("")
    if row := session.get(BatchRow, batch_id):
        return message(row)
    changed = session.scalar(select(func.count()).where(ChangeRow.batch_id == batch_id)) or 0
    if not changed:
        raise reviews.unknown_batch(batch_id)
    return pb.Batch(batch_id=batch_id, state=pb.BATCH_STATE_DONE, seen=changed, total=changed, changed=changed)


def is_background(session: Session, batch_id: str) -> bool:
    """Whether a batch is, or was, work in the background."""
    return session.get(BatchRow, batch_id) is not None


class Batches:
    """Background work over one database; one thread of this process works at it, in the order in which it was asked
    for."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def review(self, request: pb.ReviewClipsRequest) -> pb.Batch:
        """Begin to decide about all that match the request's filter."""

        def begin(session: Session) -> pb.Batch:
            total = listing.count(session, request.filter, None).clips
            return _begin(session, REVIEW, request, total, "")

        return self._begun(begin)

    def undo(self, batch_id: str, reviewer: str) -> pb.Batch:
        """Begin to take back a batch. NotFound; FailedPrecondition for the pipeline's own changes."""

        def begin(session: Session) -> pb.Batch:
            kinds = select(ChangeRow.kind, func.count()).where(ChangeRow.batch_id == batch_id).group_by(ChangeRow.kind)
            found = {row[0]: row[1] for row in session.execute(kinds)}
            if not found:
                raise reviews.unknown_batch(batch_id)
            reviews.check_undoable(found)
            request = pb.ReviewClipsRequest(reviewer=reviewer)
            return _begin(session, UNDO, request, sum(found.values()), batch_id)

        return self._begun(begin)

    def _begun(self, begin: Callable[[Session], pb.Batch]) -> pb.Batch:
        batch = self._repository.write(begin)
        self.start()
        self._wake.set()
        return batch

    def start(self) -> None:
        """Work at what is there, and at what comes, in a thread."""
        with self._lock:
            if self._thread is None:
                self._stop.clear()
                self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread behind its chunk; the rest is done after the next start."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
            self._thread = None

    def _work(self) -> None:
        try:
            derive_missing(self._repository)  # of a version before that wrote until its last Pod was replaced
        except Unavailable as error:
            log.warning("clips of another version wait: %s", error)
        while not self._stop.is_set():
            try:
                while not self._stop.is_set() and self.advance():
                    pass
            except Unavailable as error:
                log.warning("background work waits: %s", error)
            self._wake.wait(LOOK_S)
            self._wake.clear()

    def advance(self) -> bool:
        """Do one chunk of the oldest batch that runs and nobody else works at; False = there is none. Unavailable."""
        try:
            return self._repository.write(_advance)
        except Unavailable:
            raise
        except Exception as error:
            log.exception("background work failed")
            text = str(error) if isinstance(error, LuthierError) else "an error of the service; its log says which"
            return self._repository.write(lambda session: _fail(session, text))


def _begin(session: Session, kind: str, request: pb.ReviewClipsRequest, total: int, undoes: str) -> pb.Batch:
    now = time.time_ns() // 1_000_000
    row = BatchRow(
        batch_id=uuid.uuid4().hex, kind=kind, request=request, undoes=undoes, state=RUNNING, total=total, seen=0,
        changed=0, last_clip_id="", error="", begun_at_ms=now, updated_at_ms=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return message(row)


def _oldest(session: Session) -> BatchRow | None:
    """The oldest batch that runs, locked; others' locks are passed over."""
    query = select(BatchRow).where(BatchRow.state == RUNNING).order_by(BatchRow.begun_at_ms, BatchRow.batch_id)
    return session.scalars(query.limit(1).with_for_update(skip_locked=True)).first()


def _advance(session: Session) -> bool:
    row = _oldest(session)
    if row is None:
        return False
    batch_id, request, undoes = row.batch_id, row.request, row.undoes
    chunk: Chunk | None
    if row.kind == UNDO:
        author = Author(UNDONE, request.reviewer, batch_id=batch_id)
        chunk = reviews.undo_chunk(session, undoes, author, row.last_clip_id)
    else:
        author = Author(REVIEWED, request.reviewer, request.automatic, batch_id)
        chunk = reviews.review_chunk(session, request.filter, decision_of(request), author, row.last_clip_id)
    row = session.get_one(BatchRow, batch_id)  # an undo lets go of every object
    if chunk is None:
        row.state, row.total = DONE, row.seen
    else:
        row.seen, row.changed = row.seen + chunk.seen, row.changed + chunk.changed
        row.total, row.last_clip_id = max(row.total, row.seen), chunk.last_clip_id
    row.updated_at_ms = time.time_ns() // 1_000_000
    return True


def _fail(session: Session, error: str) -> bool:
    if row := _oldest(session):
        row.state, row.error = FAILED, error[:MAX_ERROR_CHARS]
    return row is not None

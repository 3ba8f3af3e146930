"""Clips' vectors in the background: a row of `batches`, some clips at a time, by whichever replica has claimed it.

    clips without a vector ─ EmbedAudio of evaluation ─▶ vectors, if the clips still have that audio

No transaction is open while evaluation listens, which takes about a second a clip. Who claims a batch has it for
`CLAIM_MS` from its last clips on; a replica that died loses it then. The state of such a batch is not `running`: a
version before would take it for a verdict about many clips.
"""

import logging
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation import batches, similar, vectors
from luthier_curation.batches import DONE, EMBEDDING, FAILED, MAX_ERROR_CHARS
from luthier_curation.database import Repository
from luthier_curation.embedding import AUDIO_TIMEOUT_S, RETRY_BUDGET_S, Embedder, Heard
from luthier_curation.tables import BatchRow, ClipRow
from luthier_curation.vectors import Embedded
from luthier_kit.rpc import DeadlineExceeded, LuthierError, Unavailable

log = logging.getLogger(__name__)
EMBED: Final = "embed"
AT_ONCE: Final = 16
"""Clips in a request: seconds of work, so that progress is seen and little is lost."""
CLAIM_MS: Final = round(1000 * (AUDIO_TIMEOUT_S + RETRY_BUDGET_S + 30))
LOOK_S: Final = 10.0
"""Between looks for batches that another replica left, and between tries while evaluation is away."""
STOP_S: Final = 5.0
WAITS: Final = (Unavailable, DeadlineExceeded)
"""What passes: it is tried again."""


@dataclass(frozen=True)
class Claim:
    """A batch that this process works at, behind which clip."""

    batch_id: str
    filter: pb.ClipFilter
    last_clip_id: str


class EmbeddingWork:
    """One thread of this process, which embeds clips in the order in which it was asked for."""

    def __init__(self, repository: Repository, embedder: Embedder) -> None:
        self._repository, self._embedder = repository, embedder
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._mine = ""  # the batch that is claimed

    def begin(self, which: pb.ClipFilter, reviewer: str) -> pb.Batch:
        """Begin to embed all that match and have no vector by the weights that count now. FailedPrecondition where
        there are none; Unavailable where evaluation is away."""
        weights_sha256 = self._embedder.weights_sha256()

        def add(session: Session) -> pb.Batch:
            row = BatchRow(
                batch_id=uuid.uuid4().hex, kind=EMBED, request=pb.ReviewClipsRequest(filter=which, reviewer=reviewer),
                undoes="", state=EMBEDDING, total=similar.count_without(session, which, weights_sha256), seen=0,
                changed=0, last_clip_id="", error="", begun_at_ms=_now_ms(), updated_at_ms=0,
            )  # fmt: skip
            session.add(row)
            session.flush()
            return batches.message(row)

        batch = self._repository.write(add)
        self.start()
        self._wake.set()
        return batch

    def start(self) -> None:
        """Work at what is there, and at what comes, in a thread; nothing where no evaluation service is known."""
        with self._lock:
            if self._thread is None and self._embedder.known:
                self._stop.clear()
                self._thread = threading.Thread(target=self._work, name="embedding", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread, what it asks evaluation for, and its claim; the rest is done after the next start."""
        self._stop.set()
        self._wake.set()
        self._embedder.close()
        if self._thread is not None:
            self._thread.join(STOP_S)
            self._thread = None

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                while not self._stop.is_set() and self.advance():
                    pass
            except WAITS as error:
                log.warning("embedding waits: %s", error)
            self._wake.wait(LOOK_S)
            self._wake.clear()
        if self._mine:
            try:
                self._repository.write(self._release)
            except Unavailable as error:
                log.warning("a claimed batch waits until its claim ends: %s", error)

    def advance(self) -> bool:
        """Embed some clips of the oldest batch that nobody else has claimed; False = there is none. Raises WAITS."""
        claim = self._repository.write(self._claim)
        if claim is None:
            return False
        try:
            weights_sha256 = self._embedder.weights_sha256()
            asked = self._repository.read(lambda session: _next(session, claim, weights_sha256))
            heard = self._embedder.audio([audio for _, audio in asked]) if asked else Heard([], weights_sha256)
            self._repository.write(lambda session: _took(session, claim, self._embedder.name, asked, heard))
        except WAITS:
            raise
        except Exception as error:
            if self._stop.is_set():  # the call was ended
                return False
            log.exception("embedding failed")
            text = str(error) if isinstance(error, LuthierError) else "an error of the service; its log says which"
            self._repository.write(lambda session: _fail(session, claim.batch_id, text))
        return True

    def _claim(self, session: Session) -> Claim | None:
        query = select(BatchRow).where(BatchRow.state == EMBEDDING).order_by(BatchRow.begun_at_ms, BatchRow.batch_id)
        now = _now_ms()
        for row in session.scalars(query.with_for_update(skip_locked=True)):
            if row.batch_id == self._mine or row.updated_at_ms < now - CLAIM_MS:
                row.updated_at_ms, self._mine = now, row.batch_id
                return Claim(row.batch_id, row.request.filter, row.last_clip_id)
        self._mine = ""
        return None

    def _release(self, session: Session) -> None:
        row = session.get(BatchRow, self._mine, with_for_update=True)
        if row is not None and row.state == EMBEDDING:
            row.updated_at_ms = 0


def _next(session: Session, claim: Claim, weights_sha256: str) -> list[tuple[str, ArtifactRef]]:
    """The next clips of a batch without a vector by these weights, with their audio."""
    query = select(ClipRow.clip_id, ClipRow.audio).where(
        *similar.without_vector(session, claim.filter, weights_sha256), ClipRow.clip_id > claim.last_clip_id
    )
    return [(row.clip_id, row.audio) for row in session.execute(query.order_by(ClipRow.clip_id).limit(AT_ONCE))]


def _took(session: Session, claim: Claim, embedder: str, asked: list[tuple[str, ArtifactRef]], heard: Heard) -> None:
    """Write what was heard, and how far the batch is; nothing where another replica has gone on with it."""
    row = session.get(BatchRow, claim.batch_id, with_for_update=True)
    if row is None or row.state != EMBEDDING or row.last_clip_id != claim.last_clip_id:
        return
    if not asked:
        row.state, row.total = DONE, row.seen
        return
    found = [
        Embedded(clip_id, audio.sha256, vector)
        for (clip_id, audio), vector in zip(asked, heard.vectors, strict=True)
        if vector is not None
    ]
    row.changed += vectors.keep(session, embedder, heard.weights_sha256, found)
    row.seen += len(asked)
    row.total, row.last_clip_id, row.updated_at_ms = max(row.total, row.seen), asked[-1][0], _now_ms()


def _fail(session: Session, batch_id: str, error: str) -> None:
    row = session.get(BatchRow, batch_id, with_for_update=True)
    if row is not None and row.state == EMBEDDING:
        row.state, row.error = FAILED, error[:MAX_ERROR_CHARS]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""Work in the background: progress, what a restart leaves, undo, failures."""

import threading

import pytest

from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation import reviews
from luthier_curation.batches import Batches
from luthier_curation.curation import Curation
from luthier_curation.reviews import Edit
from luthier_curation.tables import OPEN, REJECTED
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, NotFound

from .builders import clip

WHICH = pb.ClipFilter(collection="demo", verdict=pb.VERDICT_OPEN)
DULL = Decision(REJECTED, "Ada", reason="dull")


@pytest.fixture
def ids(curation: Curation, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Seven clips; chunks of three."""
    monkeypatch.setattr(reviews, "CHUNK", 3)
    monkeypatch.setattr(Batches, "start", lambda _: None)  # a test goes on step by step
    return curation.upsert("demo", [clip(curation.store, song=song) for song in range(7)])[0]


def test_a_batch_goes_on_chunk_by_chunk_and_says_how_far_it_is(curation: Curation, ids: list[str]) -> None:
    batch = curation.review_in_background(WHICH, DULL)
    seen = []
    while curation.batches.advance():
        now = curation.batch(batch.batch_id)
        seen.append((now.seen, now.total, pb.BatchState.Name(now.state)))
    assert seen == [
        (3, 7, "BATCH_STATE_RUNNING"),
        (6, 7, "BATCH_STATE_RUNNING"),
        (7, 7, "BATCH_STATE_RUNNING"),
        (7, 7, "BATCH_STATE_DONE"),
    ]
    rows = [curation.clip(name) for name in ids]
    assert {(row.verdict, row.reviewer, row.reason, row.revision) for row in rows} == {(REJECTED, "Ada", "dull", 2)}


def test_another_replica_goes_on_where_one_ended(curation: Curation, ids: list[str]) -> None:
    batch = curation.review_in_background(WHICH, DULL)
    curation.batches.advance()
    other = Batches(curation.repository)
    while other.advance():
        pass
    assert curation.batch(batch.batch_id).changed == 7
    assert [len(curation.history(name)) for name in ids] == [2] * 7


def test_a_batch_is_undone_and_leaves_what_was_changed_since(curation: Curation, ids: list[str]) -> None:
    batch = curation.review_in_background(WHICH, DULL)
    while curation.batches.advance():
        pass
    curation.edit(ids[0], 2, "Bob", Edit(prompts=["By hand"]))
    undone = curation.undo_in_background(batch.batch_id, "Ada")
    while curation.batches.advance():
        pass
    done = curation.batch(undone.batch_id)
    assert (done.state, done.changed, done.unchanged) == (pb.BATCH_STATE_DONE, 6, 1)
    assert [curation.clip(name).verdict for name in ids] == [REJECTED] + [OPEN] * 6
    assert curation.clip(ids[1]).opinions == []


def test_what_fails_says_why_and_does_not_hold_up_the_next(
    curation: Curation, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = curation.review_in_background(WHICH, DULL)
    curation.batches.advance()

    def broken(*_: object) -> None:
        raise RuntimeError("secret of the code")

    with monkeypatch.context() as patch:
        patch.setattr(reviews, "review_chunk", broken)
        curation.batches.advance()
    failed = curation.batch(batch.batch_id)
    assert (failed.state, failed.seen, "secret" in failed.error) == (pb.BATCH_STATE_FAILED, 3, False)
    again = curation.review_in_background(WHICH, DULL)
    while curation.batches.advance():
        pass
    assert curation.batch(again.batch_id).changed == 4


def test_the_thread_does_the_work_and_is_ended(curation: Curation) -> None:
    curation.upsert("demo", [clip(curation.store, song=song) for song in range(3)])
    batch = curation.review_in_background(WHICH, DULL)
    waited = threading.Event()
    for _ in range(600):
        if curation.batch(batch.batch_id).state == pb.BATCH_STATE_DONE:
            break
        waited.wait(0.05)
    assert curation.batch(batch.batch_id).changed == 3
    curation.batches.stop()
    assert "batches" not in {thread.name for thread in threading.enumerate()}


def test_a_verdict_by_id_is_a_batch_that_is_done(curation: Curation, ids: list[str]) -> None:
    done = curation.review({ids[0]: 0}, Decision(REJECTED, "Ada"))
    batch = curation.batch(done.batch_id)
    assert (batch.state, batch.changed) == (pb.BATCH_STATE_DONE, 1)


@pytest.mark.parametrize("batch_id", ["none", "x\x00", "x" * 200])
def test_an_unknown_batch_is_not_found(curation: Curation, batch_id: str) -> None:
    with pytest.raises(NotFound):
        curation.batch(batch_id)


def test_what_cannot_be_begun_is_refused_at_once(curation: Curation, ids: list[str]) -> None:
    with pytest.raises(InvalidRequest, match=r"filter\.collection"):
        curation.review_in_background(pb.ClipFilter(), DULL)
    with pytest.raises(InvalidRequest, match="reason"):
        curation.review_in_background(WHICH, Decision(REJECTED, "Ada", reason="because"))
    with pytest.raises(FailedPrecondition):
        curation.undo_in_background(curation.history(ids[0])[0].batch_id, "Ada")
    with pytest.raises(NotFound):
        curation.undo_in_background("none", "Ada")

"""What Luthier 0.1 stored is still read: `stored_0_1` is a store that its code wrote (at commit 5aa81e1).

It holds two models and three evaluations: one that finished, one that failed, and one that was created and whose only
row had been done when its service stopped.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Platform

from luthier.common.v1.common_pb2 import MODE_MINOR
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_kit.registry import resolve
from luthier_kit.rpc import FailedPrecondition
from luthier_kit.store import Store
from tests.support.services import temp_store

FINISHED = "evaluation-05343e9845302eb730fa9d18ac7b28d5"
FAILED = "evaluation-5d28a90f4498a81461efbaf6f628a19d"
CREATED = "evaluation-6719bb48b23d621f6efc9fa2a42614f9"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    shutil.copytree(Path(__file__).parent / "stored_0_1", tmp_path / "store")
    with temp_store(tmp_path / "store") as opened:
        yield opened


def suite() -> pb.Suite:
    row = pb.SuiteRow(prompt="A song in A minor at 100 BPM.", seconds_total=2, seed=9000, tempo_bpm=100)
    row.key.tonic, row.key.mode = "A", MODE_MINOR
    return pb.Suite(name="mine", rows=[row, pb.SuiteRow(prompt="Noise.", seconds_total=2, seed=9001)])


def test_a_finished_evaluation_is_read_as_it_was(platform: Platform) -> None:
    evaluation = platform.get(FINISHED)

    assert evaluation.state == pb.EVALUATION_STATE_SUCCEEDED
    assert (evaluation.done, evaluation.total, evaluation.failed_rows, evaluation.sequence) == (4, 4, 0, 4)
    assert (evaluation.candidate, evaluation.baseline) == ("tuned@1", "base@1")
    assert evaluation.request.suite == suite()
    assert (evaluation.request.steps, evaluation.request.created_by) == (100, "ada")
    assert evaluation.report.media_type == "text/html"
    assert evaluation.created_at.ToJsonString().startswith("2026-11-28T23:18:")


def test_its_scores_are_the_numbers_of_today(platform: Platform) -> None:
    again = platform.done("again", suite_name=None, suite=suite(), seconds_total=None)

    stored = platform.get(FINISHED).scores
    today = {(score.metric, score.model): score for score in again.scores}
    assert len(stored) == 27
    for old in stored:
        new = today[old.metric, old.model]
        assert old.n == new.n
        assert old.note == new.note or not new.HasField("value")  # why it was not computed may be said in other words
        for field in ("value", "chance", "low", "high", "p"):
            assert old.HasField(field) == new.HasField(field)
            assert getattr(old, field) == pytest.approx(getattr(new, field), abs=1e-12)


def test_a_failed_one_says_why(platform: Platform) -> None:
    evaluation = platform.get(FAILED)

    assert evaluation.state == pb.EVALUATION_STATE_FAILED
    assert evaluation.error.code == 9  # FAILED_PRECONDITION
    assert "every row of tuned@1 failed" in evaluation.error.message


def test_one_that_was_begun_goes_on_without_doing_its_rows_again(platform: Platform) -> None:
    evaluation = platform.wait(CREATED)

    assert (evaluation.state, evaluation.done) == (pb.EVALUATION_STATE_SUCCEEDED, 1)
    assert platform.inference.calls == []


def test_a_repeated_request_is_the_stored_evaluation(platform: Platform) -> None:
    again = platform.create("finished", suite_name=None, suite=suite(), seconds_total=None, created_by="ada")

    assert again.evaluation_id == FINISHED
    assert platform.inference.calls == []


def test_without_its_results_it_supports_no_promotion_but_by_force(platform: Platform) -> None:
    with pytest.raises(FailedPrecondition, match="not in the store any more"):
        platform.promote(evaluation_id=FINISHED)
    platform.promote(evaluation_id=FINISHED, force=True)

    assert resolve(platform.store, "current").evaluation == FINISHED

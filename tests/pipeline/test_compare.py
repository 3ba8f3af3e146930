"""luthier compare: what stands beside what."""

from pathlib import Path

from luthier.evaluation.v1.evaluation_pb2 import (
    EVALUATION_STATE_RUNNING,
    EVALUATION_STATE_SUCCEEDED,
    CreateEvaluationRequest,
    Evaluation,
    GetEvaluationRequest,
    GetEvaluationResponse,
    Score,
    Suite,
)
from luthier_kit.store import Store
from tests.pipeline.fakes import FakeClients, Stub, luthier

TEMPO = "tempo_accuracy_1"


def score(metric: str, model: str, value: float | None = None) -> Score:
    if value is None:
        return Score(metric=metric, model=model, note="not computed")
    return Score(metric=metric, model=model, value=value, low=value - 0.1, high=value + 0.1, n=8)


SEEN = Evaluation(
    evaluation_id="evaluation-aaaa1", state=EVALUATION_STATE_SUCCEEDED, candidate="tuned@1", baseline="base@1",
    request=CreateEvaluationRequest(suite=Suite(name="way@1 train")),
    scores=[score(TEMPO, "base@1", 0.25), score(TEMPO, "tuned@1", 0.75), score(TEMPO, "tuned@1 - base@1", 0.5)],
)  # fmt: skip
UNSEEN = Evaluation(
    evaluation_id="evaluation-bbbb2", state=EVALUATION_STATE_SUCCEEDED, candidate="audio:<truth>",
    request=CreateEvaluationRequest(suite_name="quick"),
    scores=[score(TEMPO, "audio:<truth>", 0.5), score("key_exact", "audio:<truth>", 0.9), score("fd", "audio:<truth>")],
)  # fmt: skip


def clients(store: Store, *evaluations: Evaluation) -> FakeClients:
    known = {one.evaluation_id: one for one in evaluations}
    for name in known:
        store.objects.create(f"runs/{name}/1.json", b"{}")

    def get(request: GetEvaluationRequest) -> GetEvaluationResponse:
        return GetEvaluationResponse(evaluation=known[request.evaluation_id])

    return FakeClients(store, evaluation=Stub(GetEvaluation=get))


def test_each_system_of_each_evaluation_has_a_column_with_its_suite(store: Store) -> None:
    done = luthier("compare evaluation-aaaa evaluation-bbbb", clients(store, SEEN, UNSEEN))

    header, tempo, key = (line.split("  ") for line in done.out.splitlines())
    assert [cell.strip() for cell in header if cell] == [
        "metric", "base@1 on way@1 train", "tuned@1 on way@1 train", "audio:<truth> on quick",
    ]  # fmt: skip
    assert [cell.strip() for cell in tempo if cell] == [
        TEMPO, "0.250 [0.150, 0.350], n 8", "0.750 [0.650, 0.850], n 8", "0.500 [0.400, 0.600], n 8",
    ]  # fmt: skip
    assert [cell.strip() for cell in key if cell] == ["key_exact", "–", "–", "0.900 [0.800, 1.000], n 8"]


def test_the_page_escapes_what_others_named(store: Store, tmp_path: Path) -> None:
    luthier(f"compare evaluation-aaaa evaluation-bbbb --report {tmp_path / 'c.html'}", clients(store, SEEN, UNSEEN))

    page = (tmp_path / "c.html").read_text()
    assert "audio:&lt;truth&gt;" in page
    assert "<truth>" not in page


def test_one_that_has_no_scores_and_one_alone_are_wrong_usage(store: Store) -> None:
    running = Evaluation(evaluation_id="evaluation-cccc3", state=EVALUATION_STATE_RUNNING)
    known = clients(store, SEEN, running)

    unfinished, alone = (
        luthier("compare evaluation-aaaa evaluation-cccc", known),
        luthier("compare evaluation-aaaa", known),
    )

    assert (unfinished.code, "evaluation-cccc3 has no scores" in unfinished.err) == (2, True)
    assert (alone.code, "two evaluations or more" in alone.err) == (2, True)

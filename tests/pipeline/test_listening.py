"""listening: what is asked of curation follows from an evaluation, and what comes back is told and written."""

import csv
import io
from pathlib import Path

import pytest
from google.rpc.status_pb2 import Status

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1 import listening_pb2 as pb
from luthier.evaluation.v1.evaluation_pb2 import (
    EVALUATION_STATE_FAILED,
    EVALUATION_STATE_SUCCEEDED,
    EvaluatedModel,
    Evaluation,
    EvaluationPlan,
    EvaluationResults,
    EvaluationState,
    GetEvaluationRequest,
    GetEvaluationResponse,
    RowResult,
    Suite,
    SuiteRow,
)
from luthier_kit.rpc import NotFound
from luthier_kit.store import Action, Store
from luthier_pipeline.retention.gc import Rule, collect
from tests.pipeline.fakes import FakeClients, Stub, luthier

OURS, OTHERS = "evaluation-" + "a" * 32, "evaluation-" + "b" * 32
LINE = f"listening create --name heard --evaluation {OURS} --as ann"
TEST = pb.ListeningTest(
    test_id="listening-" + "c" * 24,
    name="heard",
    kind=pb.LISTENING_KIND_MOS,
    systems=["base@1", "ours@2"],
    trials=2,
    listeners=3,
    finished=2,
    path="/listening/listening-" + "c" * 24,
    results_path="/listening/listening-" + "c" * 24 + "/results",
)


def audio(store: Store, row: int, model: str) -> ArtifactRef:
    return store.blobs.put_bytes("generated", f"{row} of {model}".encode(), "flac", "audio/flac")


def evaluated(store: Store, name: str, *models: str, failed: tuple[int, ...] = (), suite: str = "s") -> Evaluation:
    """A run of an evaluation of four rows, in the store; rows of `failed` have no audio of the last model."""
    rows = [SuiteRow(prompt=f"Prompt {row}", seconds_total=5) for row in range(4)]
    plan = EvaluationPlan(suite=Suite(rows=rows), models=[EvaluatedModel(model=model) for model in models])
    found = EvaluationResults(plan=plan, suite_sha256=suite)
    for row in range(4):
        for model in models:
            if row in failed and model == models[-1]:
                found.rows.append(RowResult(row=row, model=model, error=Status(code=13)))
            else:
                found.rows.append(RowResult(row=row, model=model, audio=audio(store, row, model)))
    store.objects.create(f"runs/{name}/1.json", b"{}")
    return Evaluation(evaluation_id=name, state=EVALUATION_STATE_SUCCEEDED, results=store.put("evaluations", found))


def clients(store: Store, *evaluations: Evaluation, created: object = None) -> FakeClients:
    """A curation that creates the test TEST, and an evaluation service that knows these."""
    known = {found.evaluation_id: found for found in evaluations}

    def get(request: GetEvaluationRequest) -> GetEvaluationResponse:
        return GetEvaluationResponse(evaluation=known[request.evaluation_id])

    answer = created or pb.CreateListeningTestResponse(test=TEST, results_key="sesame")
    return FakeClients(store, curation=Stub(CreateListeningTest=answer), evaluation=Stub(GetEvaluation=get))


def asked(made: FakeClients) -> pb.CreateListeningTestRequest:
    [request] = made.requests("CreateListeningTest")
    assert isinstance(request, pb.CreateListeningTestRequest)
    return request


def test_a_test_has_every_models_audio_of_the_first_rows(store: Store) -> None:
    made = clients(store, evaluated(store, OURS, "base@1", "ours@2"))
    told = luthier(f"{LINE} --rows 2", made)
    request = asked(made)
    assert (request.name, request.kind, request.created_by) == ("heard", pb.LISTENING_KIND_MOS, "ann")
    assert [trial.prompt for trial in request.trials] == ["Prompt 0", "Prompt 1"]
    assert [[(s.system, s.audio) for s in trial.stimuli] for trial in request.trials] == [
        [(model, audio(store, row, model)) for model in ("base@1", "ours@2")] for row in range(2)
    ]
    assert list(request.questions) == [1, 2, 3, 4]
    assert (request.loudness_lufs, request.make_anchor) == (-23.0, False)
    assert TEST.path in told.out
    assert "luthier listening results heard" in told.out


def test_rows_without_audio_of_every_model_are_left_out_and_that_is_said(store: Store) -> None:
    made = clients(store, evaluated(store, OURS, "base@1", "ours@2", failed=(0, 2)))
    told = luthier(f"{LINE} --rows 4", made)
    assert [trial.prompt for trial in asked(made).trials] == ["Prompt 1", "Prompt 3"]
    assert "2 of 4 rows" in told.err


def test_models_of_a_further_evaluation_are_heard_beside(store: Store) -> None:
    made = clients(store, evaluated(store, OURS, "base@1", "ours@2"), evaluated(store, OTHERS, "base@1", "theirs@1"))
    luthier(f"{LINE} --baseline {OTHERS}", made)
    assert [stimulus.system for stimulus in asked(made).trials[0].stimuli] == ["base@1", "ours@2", "theirs@1"]


def test_evaluations_of_other_prompts_are_refused(store: Store) -> None:
    made = clients(store, evaluated(store, OURS, "ours@2"), evaluated(store, OTHERS, "theirs@1", suite="other"))
    refused = luthier(f"{LINE} --baseline {OTHERS}", made)
    assert refused.code == 2
    assert "of one suite" in refused.err


def test_references_are_files_named_by_row_and_make_an_anchor(store: Store, tmp_path: Path) -> None:
    for name in ("1.flac", "3.wav", "notes.txt", "other.flac"):
        (tmp_path / name).write_bytes(name.encode())
    made = clients(store, evaluated(store, OURS, "ours@2"))
    luthier(f"{LINE} --kind mushra --reference {tmp_path} --questions audio-quality", made)
    request = asked(made)
    assert [trial.prompt for trial in request.trials] == ["Prompt 1", "Prompt 3"]
    assert [store.blobs.read(trial.reference) for trial in request.trials] == [b"1.flac", b"3.wav"]
    assert all(trial.reference.key.startswith("audio/") for trial in request.trials)
    assert request.make_anchor


def test_practice_rows_come_on_top(store: Store) -> None:
    made = clients(store, evaluated(store, OURS, "ours@2"))
    luthier(f"{LINE} --rows 2 --training 1", made)
    assert [trial.training for trial in asked(made).trials] == [True, False, False]


def test_the_same_arguments_are_the_same_request_id(store: Store) -> None:
    ids = []
    for line in (LINE, LINE, f"{LINE} --rows 1"):
        made = clients(store, evaluated(store, OURS, "ours@2"))
        luthier(line, made)
        ids.append(asked(made).request_id)
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--questions loudness", "audio-quality"),
        ("--questions stereo,stereo", "each once"),
        ("--reference /nowhere", "must be a folder"),
    ],
)
def test_wrong_usage_is_said(store: Store, more: str, said: str) -> None:
    refused = luthier(f"{LINE} {more}", clients(store, evaluated(store, OURS, "ours@2")))
    assert refused.code == 2
    assert said in refused.err


@pytest.mark.parametrize("state", [EVALUATION_STATE_FAILED, 0])
def test_an_evaluation_without_results_is_said(store: Store, state: EvaluationState) -> None:
    found = evaluated(store, OURS, "ours@2")
    found.state = state
    refused = luthier(LINE, clients(store, found))
    assert refused.code == 2
    assert "has no results" in refused.err


def test_audio_that_has_expired_is_said_with_what_to_do(store: Store) -> None:
    gone = NotFound("no artifact generated/x", reason="ARTIFACT_NOT_FOUND")
    refused = luthier(LINE, clients(store, evaluated(store, OURS, "ours@2"), created=gone))
    assert refused.code == 1
    assert "luthier evaluate" in refused.err


def test_gc_leaves_the_copies_and_takes_generated_audio_that_they_were_made_of(store: Store) -> None:
    source = audio(store, 0, "ours@2")
    copy = store.blobs.put_bytes("listening", b"the samples alone", "flac", "audio/flac")
    made = Action("listening-sound", [source.sha256])  # as curation records it
    store.actions.run(made, pb.KeptStimulus, lambda: pb.KeptStimulus(audio=copy))
    collect(store, Rule(grace_s=0, generated_s=0))
    assert store.blobs.exists(copy)
    assert not store.blobs.exists(source)


QUALITY, MUSICALITY = pb.LISTENING_QUESTION_AUDIO_QUALITY, pb.LISTENING_QUESTION_MUSICALITY
SYSTEM = pb.LISTENING_ROLE_SYSTEM
RESULTS = pb.GetListeningResultsResponse(
    test=TEST,
    scores=[
        pb.ListeningScore(
            question=QUALITY, condition="ours@2", role=SYSTEM, mean=4.25, low=3.5, high=5, listeners=2, ratings=8
        ),
        pb.ListeningScore(question=MUSICALITY, condition="ours@2", role=SYSTEM, mean=3, listeners=1, ratings=4),
    ],
    differences=[
        pb.ListeningDifference(
            question=QUALITY, condition="ours@2", compared_with="base@1", mean=1.25, low=0.5, high=2, p=0.0125,
            p_adjusted=0.025, listeners=2, pairs=8,
        )
    ],
    listeners=[pb.Listener(name="Eve", screened_trials=4, low_reference_trials=3, excluded=True)],
    csv="question,condition\r\naudio_quality,ours@2\r\n",
    results_key="sesame",
)  # fmt: skip


def test_results_are_told_with_intervals_and_who_was_excluded(store: Store, tmp_path: Path) -> None:
    made = FakeClients(store, curation=Stub(GetListeningResults=RESULTS))
    file = tmp_path / "new" / "heard.csv"
    told = luthier(f"listening results heard --csv {file}", made)
    [request] = made.requests("GetListeningResults")
    assert (request.test, request.include_excluded) == ("heard", False)
    lines = [line.split() for line in told.out.splitlines()]
    assert ["audio-quality", "ours@2", "4.25", "[3.50,", "5.00]", "2", "8"] in lines
    assert ["musicality", "ours@2", "3.00", "1", "4"] in lines
    assert ["audio-quality", "ours@2", "-", "base@1", "+1.25", "[0.50,", "2.00]", "0.0125", "0.0250"] in lines
    assert "excluded: Eve, hidden reference below 90 in 3 of 4 trials" in told.out
    assert list(csv.reader(io.StringIO(file.read_text()))) == [["question", "condition"], ["audio_quality", "ours@2"]]


def test_json_has_it_all(store: Store) -> None:
    made = FakeClients(store, curation=Stub(GetListeningResults=RESULTS))
    document = luthier("listening results heard --json --include-excluded", made).document
    assert document["differences"][0]["p_adjusted"] == 0.025
    assert made.requests("GetListeningResults")[0].include_excluded


def test_tests_are_listed_page_by_page(store: Store) -> None:
    second = pb.ListeningTest(name="older", kind=pb.LISTENING_KIND_MUSHRA)
    pages = [
        pb.ListListeningTestsResponse(tests=[TEST], next_page_token="more"),
        pb.ListListeningTestsResponse(tests=[second]),
    ]
    told = luthier("listening list", FakeClients(store, curation=Stub(ListListeningTests=pages)))
    lines = told.out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["heard", "MOS"], ["older", "MUSHRA"]]
    assert "2 of 3" in lines[1]

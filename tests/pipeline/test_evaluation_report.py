"""report: the stored report, with what listeners said of the evaluation's audio and of no other's."""

import base64
import re
from pathlib import Path

import pytest

from luthier.curation.v1 import listening_pb2 as pb
from luthier.evaluation.v1.evaluation_pb2 import EVALUATION_STATE_RUNNING, Evaluation, GetEvaluationResponse
from luthier_kit.store import Store
from tests.pipeline.fakes import FakeClients, Stub, luthier
from tests.pipeline.test_listening import OURS, audio, evaluated

QUALITY, MUSICALITY = pb.LISTENING_QUESTION_AUDIO_QUALITY, pb.LISTENING_QUESTION_MUSICALITY
SYSTEM, REFERENCE = pb.LISTENING_ROLE_SYSTEM, pb.LISTENING_ROLE_REFERENCE
STORED = (
    "<html><main>\n<section>\n<h2>Scores</h2>\n</section>\n\n<section>\n<h2>Listen</h2>\n</section>\n</main></html>"
)
CSV = "question,condition\r\naudio_quality,ours@2\r\n"
RESULTS = pb.GetListeningResultsResponse(
    test=pb.ListeningTest(name="spring", kind=pb.LISTENING_KIND_MUSHRA, trials=4, listeners=3, finished=2),
    scores=[
        pb.ListeningScore(
            question=QUALITY, condition="base@1", role=SYSTEM, mean=50, low=40, high=60, listeners=2, ratings=8
        ),
        pb.ListeningScore(
            question=QUALITY, condition="ours@2", role=SYSTEM, mean=75, low=70, high=80, listeners=2, ratings=8
        ),
        pb.ListeningScore(question=QUALITY, condition="theirs@1", role=SYSTEM, mean=20, listeners=1, ratings=4),
        pb.ListeningScore(
            question=QUALITY, condition="reference", role=REFERENCE, mean=99, low=98, high=100, listeners=2, ratings=8
        ),
    ],
    differences=[
        pb.ListeningDifference(
            question=QUALITY, condition="base@1", compared_with="ours@2", mean=-25, low=-31.5, high=-18.5, p=0.001,
            p_adjusted=0.003, listeners=2, pairs=8,
        ),
        pb.ListeningDifference(
            question=QUALITY, condition="theirs@1", compared_with="base@1", mean=-30, listeners=1, pairs=4
        ),
        pb.ListeningDifference(
            question=QUALITY, condition="ours@2", compared_with="theirs@1", mean=55, listeners=1, pairs=4
        ),
        pb.ListeningDifference(
            question=MUSICALITY, condition="ours@2", compared_with="base@1", mean=99, listeners=1, pairs=4
        ),
    ],
    listeners=[pb.Listener(name="Eve-the-listener", excluded=True), pb.Listener(name="Ada-the-listener")],
    csv=CSV,
    results_key="sesame",
)  # fmt: skip


def reported(store: Store, stored: str = STORED) -> Evaluation:
    """An evaluation of `base@1` and `ours@2` that has this report."""
    found = evaluated(store, OURS, "base@1", "ours@2")
    found.baseline, found.candidate = "base@1", "ours@2"
    found.report.CopyFrom(store.blobs.put_bytes("reports", stored.encode(), "html", "text/html"))
    return found


def trial(store: Store, *systems: str) -> pb.ListeningTrial:
    """The first row as these systems made it; see `evaluated`."""
    return pb.ListeningTrial(
        stimuli=[pb.ListeningStimulus(system=system, audio=audio(store, 0, system)) for system in systems]
    )


def clients(store: Store, evaluation: Evaluation, **tests: pb.ListeningTrial) -> FakeClients:
    """A curation that has these tests, of one trial each, and RESULTS for all of them."""

    def get(request: pb.GetListeningTestRequest) -> pb.GetListeningTestResponse:
        return pb.GetListeningTestResponse(trials=[tests[request.test]])

    names = [pb.ListeningTest(name=name) for name in tests]
    return FakeClients(
        store,
        curation=Stub(
            ListListeningTests=pb.ListListeningTestsResponse(tests=names),
            GetListeningTest=get,
            GetListeningResults=RESULTS,
        ),
        evaluation=Stub(GetEvaluation=GetEvaluationResponse(evaluation=evaluation)),
    )


def page_of(store: Store, file: Path, *systems: str) -> str:
    """The report with a test of these systems' audio."""
    made = clients(store, reported(store), spring=trial(store, *systems))
    assert luthier(f"report {OURS} --out {file}", made).code == 0
    return file.read_text(encoding="utf-8")


def rows(page: str) -> list[str]:
    """The text of the rows of all tables, without markup."""
    found = re.findall(r"<tr>.*?</tr>", page, re.S)
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in found]


def test_it_shows_the_tests_of_its_own_audio_and_no_others(store: Store, tmp_path: Path) -> None:
    made = clients(
        store,
        reported(store),
        spring=trial(store, "ours@2"),
        theirs=trial(store, "theirs@1"),
        both=trial(store, "base@1"),
    )
    told = luthier(f"report {OURS} --out {tmp_path / 'new' / 'report.html'}", made)
    assert [request.test for request in made.requests("GetListeningResults")] == ["spring", "both"]
    assert "listening test spring: 2 of 3 listeners finished" in told.out


def test_a_condition_has_its_mean_interval_listeners_and_difference_from_the_baseline(
    store: Store, tmp_path: Path
) -> None:
    header, base, ours, theirs, reference = rows(page_of(store, tmp_path / "r.html", "base@1", "ours@2"))
    assert header.endswith("Difference from base@1, paired")
    assert base == "Audio quality base@1 50.00 40.00 to 60.00 2 8 ratings –"
    assert ours == "ours@2 75.00 70.00 to 80.00 2 8 ratings +25.00 +18.50 to +31.50, p = 0.003, 2 listeners"
    assert theirs == "theirs@1 of another evaluation 20.00 – (one listener) 1 4 ratings −30.00"
    assert reference.startswith("reference hidden among the others 99.00")


def test_without_the_baselines_audio_the_others_are_compared_with_the_candidate(store: Store, tmp_path: Path) -> None:
    header, base, _, theirs, _ = rows(page_of(store, tmp_path / "r.html", "ours@2", "theirs@1"))
    assert header.endswith("Difference from ours@2, paired")
    assert "−25.00 −31.50 to −18.50" in base
    assert theirs.endswith("−55.00")


def test_a_mean_lies_on_the_scale_where_its_value_does(store: Store, tmp_path: Path) -> None:
    page = page_of(store, tmp_path / "r.html", "base@1", "ours@2")
    middles = [float(x) for x in re.findall(r'<circle cx="([^"]+)"', page)]
    left, right = map(float, re.findall(r'<line x1="([^"]+)" x2="([^"]+)" [^>]*stroke="#e3e7ee"', page)[0])
    assert [round((x - left) / (right - left), 2) for x in middles] == [0.5, 0.75, 0.2, 0.99]


def test_the_csv_is_in_the_page_and_neither_names_nor_the_key_are(store: Store, tmp_path: Path) -> None:
    page = page_of(store, tmp_path / "r.html", "base@1")
    [(name, data)] = re.findall(r'download="([^"]+)" href="data:text/csv;charset=utf-8;base64,([^"]+)"', page)
    assert name == "listening-spring.csv"
    assert base64.b64decode(data).decode() == CSV
    assert "1 not counted" in page
    assert not re.search("sesame|the-listener", page)


@pytest.mark.parametrize(
    ("stored", "before", "after"),
    [(STORED, "<h2>Scores</h2>", "<h2>Listen</h2>"), ("<main><p>0</p></main>", "<p>0</p>", "</main>")],
)
def test_results_stand_before_the_audio_else_at_the_end(
    store: Store, tmp_path: Path, stored: str, before: str, after: str
) -> None:
    file = tmp_path / "r.html"
    luthier(f"report {OURS} --out {file}", clients(store, reported(store, stored), spring=trial(store, "ours@2")))
    page = file.read_text(encoding="utf-8")
    assert page.index(before) < page.index("<h2>Listening tests</h2>") < page.index(after)
    assert re.sub(r"<section>\n<h2>Listening tests.*?</section>\n\n?", "", page, count=1, flags=re.S) == stored


def test_without_a_test_the_report_is_what_was_stored(store: Store, tmp_path: Path) -> None:
    told = luthier(f"report {OURS} --out {tmp_path / 'r.html'}", clients(store, reported(store)))
    assert (tmp_path / "r.html").read_text() == STORED
    assert f"luthier listening create --evaluation {OURS}" in told.out


def test_a_test_that_is_asked_for_must_have_its_audio(store: Store, tmp_path: Path) -> None:
    made = clients(store, reported(store), spring=trial(store, "ours@2"), theirs=trial(store, "theirs@1"))
    line = f"report {OURS} --out {tmp_path / 'r.html'}"
    assert luthier(f"{line} --listening spring --json", made).document["listening"] == ["spring"]
    refused = luthier(f"{line} --listening spring --listening theirs", made)
    assert refused.code == 2
    assert "--listening theirs has no audio" in refused.err


def test_an_evaluation_that_is_not_done_has_no_report(store: Store, tmp_path: Path) -> None:
    found = reported(store)
    found.state = EVALUATION_STATE_RUNNING
    refused = luthier(f"report {OURS} --out {tmp_path / 'r.html'}", clients(store, found))
    assert refused.code == 2
    assert "has no results" in refused.err

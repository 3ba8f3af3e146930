"""Listening tests over real gRPC, and sessions as the page makes them: on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from luthier.curation.v1 import listening_pb2 as pb
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from luthier_curation.__main__ import service_of
from luthier_curation.curation import Curation
from luthier_curation.listening import Listening
from luthier_curation.listening.checking import MAX_TRIALS
from luthier_kit.rpc import Aborted, Channel, FailedPrecondition, InvalidRequest, LuthierError, NotFound
from luthier_kit.store import Store
from tests.support.services import running

from .listening_builders import MOS, MUSHRA, MUSICALITY, PROMPT, QUALITY, STEREO, create, noise, put

SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""for what is refused before any database is asked."""


@pytest.fixture
def client(curation: Curation) -> Iterator[CurationServiceStub]:
    """A client of a running service."""
    with running(service_of(curation)) as address, Channel(address) as channel:
        yield CurationServiceStub(channel)


@pytest.fixture
def listening(curation: Curation) -> Listening:
    """What the page uses."""
    return Listening(curation.repository, curation.store)


def listen(listening: Listening, test_id: str, name: str, say: Callable[[str], int], steps: int = 10_000) -> str:
    """A session to its end, or for so many steps; `say` answers by the name of a condition. The token."""
    token = listening.join(test_id, name)
    plan = listening.plan(test_id)
    while steps:
        place = listening.place(test_id, token)
        if place.step is None:
            break
        for index, condition in enumerate(place.step.conditions):
            for question in place.step.questions:
                value = say(plan.trials[place.step.trial].stimuli[condition].condition)
                listening.rate(test_id, token, place.number, (index, question, value))
        listening.finish_step(test_id, token, place.number)
        steps -= 1
    return token


def test_a_test_is_created_listed_and_found(client: CurationServiceStub, store: Store, tmp_path: Path) -> None:
    made = client.CreateListeningTest(create(store, tmp_path, training=1, trials=3))
    test = made.test
    assert (test.name, test.kind, list(test.questions)) == ("ours-vs-base", MUSHRA, [QUALITY, PROMPT])
    assert (list(test.systems), test.trials, test.training_trials) == (["secret-model@1", "base@2"], 2, 1)
    assert (test.has_reference, test.has_anchor, test.listeners) == (True, True, 0)
    assert test.path == f"/listening/{test.test_id}"
    assert "secret" not in test.path + test.results_path
    for name in (test.name, test.test_id):
        assert client.GetListeningTest(pb.GetListeningTestRequest(test=name)).test == test
    assert len(made.results_key) >= 32


def test_a_test_says_whose_audio_it_was_made_of(client: CurationServiceStub, store: Store, tmp_path: Path) -> None:
    request = create(store, tmp_path, training=1, trials=3)
    client.CreateListeningTest(request)
    found = client.GetListeningTest(pb.GetListeningTestRequest(test=request.name)).trials
    assert [trial.training for trial in found] == [True, False, False]
    assert [[(s.system, s.audio) for s in trial.stimuli] for trial in found] == [
        [(s.system, s.audio) for s in trial.stimuli] for trial in request.trials
    ]
    assert [trial.reference for trial in found] == [trial.reference for trial in request.trials]
    assert not any(trial.prompt for trial in found)


def test_the_same_request_is_the_same_test(client: CurationServiceStub, store: Store, tmp_path: Path) -> None:
    request = create(store, tmp_path)
    first = client.CreateListeningTest(request)
    assert client.CreateListeningTest(request) == first
    other = create(store, tmp_path, trials=1)
    with pytest.raises(FailedPrecondition) as reused:
        client.CreateListeningTest(other)
    assert reused.value.reason == "REQUEST_ID_REUSED"
    other.request_id = "another"
    with pytest.raises(FailedPrecondition) as taken:
        client.CreateListeningTest(other)
    assert taken.value.reason == "LISTENING_TEST_EXISTS"


def test_pages_of_tests_go_on_from_the_newest(client: CurationServiceStub, store: Store, tmp_path: Path) -> None:
    names = [f"test-{number}" for number in range(5)]
    for name in names:
        client.CreateListeningTest(create(store, tmp_path, trials=1, name=name))
    found, token = list[str](), ""
    while True:
        page = client.ListListeningTests(pb.ListListeningTestsRequest(page_size=2, page_token=token))
        found += [test.name for test in page.tests]
        if not (token := page.next_page_token):
            break
    assert sorted(found) == names


def test_two_listeners_give_results_and_the_deaf_one_is_told_apart(
    client: CurationServiceStub, listening: Listening, store: Store, tmp_path: Path
) -> None:
    test = client.CreateListeningTest(create(store, tmp_path, trials=4, questions=(QUALITY,))).test
    said = {"secret-model@1": 70, "base@2": 50, "reference": 100, "anchor": 20}
    for name in ("Ada", "Bob"):
        listen(listening, test.test_id, name, said.__getitem__)
    listen(listening, test.test_id, "Eve", lambda _: 30)
    request = pb.GetListeningResultsRequest(test=test.name)
    found = client.GetListeningResults(request)
    assert [(score.condition, score.mean, score.listeners, score.ratings) for score in found.scores] == [
        (name, mean, 2, 8) for name, mean in said.items()
    ]
    assert [(listener.name, listener.excluded, listener.finished) for listener in found.listeners] == [
        ("Ada", False, True), ("Bob", False, True), ("Eve", True, True),
    ]  # fmt: skip
    assert {score.mean for score in found.excluded_scores} == {30}
    assert (found.test.listeners, found.test.finished) == (3, 3)
    assert found.csv.startswith("question,condition,role,")
    ours = next(d for d in found.differences if (d.condition, d.compared_with) == ("secret-model@1", "base@2"))
    assert (ours.mean, ours.pairs) == (20, 8)
    request.include_excluded = True
    assert client.GetListeningResults(request).scores[0].mean == pytest.approx((70 + 70 + 30) / 3)


def test_what_counts_is_done_and_no_practice(
    client: CurationServiceStub, listening: Listening, store: Store, tmp_path: Path
) -> None:
    request = create(store, tmp_path, kind=MOS, trials=3, training=1, questions=(QUALITY,), reference=False)
    test = client.CreateListeningTest(request).test
    token = listen(listening, test.test_id, "Ada", lambda _: 4, steps=3)  # two practice sounds, and one that counts
    place = listening.place(test.test_id, token)
    listening.rate(test.test_id, token, place.number, (0, QUALITY, 1))  # not left yet
    found = client.GetListeningResults(pb.GetListeningResultsRequest(test=test.test_id))
    assert sum(score.ratings for score in found.scores) == 1
    assert {score.mean for score in found.scores} == {4}


def test_a_session_goes_on_where_it_was(
    client: CurationServiceStub, listening: Listening, curation: Curation, store: Store, tmp_path: Path
) -> None:
    test_id = client.CreateListeningTest(create(store, tmp_path)).test.test_id
    token = listen(listening, test_id, "Ada", lambda _: 100, steps=1)
    before = listening.place(test_id, token)
    listening.rate(test_id, token, 1, (2, before.step.questions[0] if before.step else 0, 77))
    again = Listening(curation.repository, curation.store).place(test_id, token)
    assert (again.number, again.step) == (1, before.step)
    assert [sound.token for sound in again.sounds] == [sound.token for sound in before.sounds]
    assert [list(sound.values.values()) for sound in again.sounds] == [[], [], [77], []]


def test_an_answer_may_change_until_the_page_is_left(
    client: CurationServiceStub, listening: Listening, store: Store, tmp_path: Path
) -> None:
    request = create(store, tmp_path, kind=MOS, questions=(QUALITY, PROMPT))
    test_id = client.CreateListeningTest(request).test.test_id
    token = listening.join(test_id, "Ada")
    listening.rate(test_id, token, 0, (0, QUALITY, 2))
    listening.rate(test_id, token, 0, (0, QUALITY, 3))
    with pytest.raises(FailedPrecondition) as missing:
        listening.finish_step(test_id, token, 0)
    assert missing.value.reason == "RATINGS_MISSING"
    listening.rate(test_id, token, 0, (0, PROMPT, 5))
    listening.finish_step(test_id, token, 0)
    listening.finish_step(test_id, token, 0)  # the answer was lost, and it is asked again
    assert listening.place(test_id, token).number == 1
    with pytest.raises(Aborted):
        listening.rate(test_id, token, 0, (0, QUALITY, 1))
    with pytest.raises(Aborted):
        listening.finish_step(test_id, token, 5)


@SQLITE
@pytest.mark.parametrize(
    "answer", [(0, QUALITY, 0), (0, QUALITY, 6), (1, QUALITY, 3), (-1, QUALITY, 3), (0, STEREO, 3)]
)
def test_an_answer_that_nobody_was_asked_for_is_refused(
    client: CurationServiceStub, listening: Listening, store: Store, tmp_path: Path, answer: tuple[int, int, int]
) -> None:
    test_id = client.CreateListeningTest(create(store, tmp_path, kind=MOS, questions=(QUALITY,))).test.test_id
    token = listening.join(test_id, "Ada")
    with pytest.raises(InvalidRequest):
        listening.rate(test_id, token, 0, answer)


def test_a_name_is_one_session_and_a_token_opens_its_own(
    client: CurationServiceStub, listening: Listening, store: Store, tmp_path: Path
) -> None:
    first, second = (
        client.CreateListeningTest(create(store, tmp_path, trials=1, name=name)).test.test_id for name in ("a", "b")
    )
    token = listening.join(first, " Ada ")
    with pytest.raises(FailedPrecondition) as taken:
        listening.join(first, "Ada")
    assert taken.value.reason == "LISTENER_EXISTS"
    listening.join(second, "Ada")
    for test_id, given in ((second, token), (first, "guessed"), ("listening-" + "0" * 24, token)):
        with pytest.raises(NotFound):
            listening.place(test_id, given)


@SQLITE
def test_only_the_sounds_of_this_page_and_the_next_have_an_address(
    client: CurationServiceStub, listening: Listening, store: Store, tmp_path: Path
) -> None:
    test_id = client.CreateListeningTest(create(store, tmp_path, trials=3, questions=(QUALITY,))).test.test_id
    token, other = listening.join(test_id, "Ada"), listening.join(test_id, "Bob")
    place = listening.place(test_id, token)
    heard = [
        listening.sound(test_id, token, address).sha256
        for address in (*(s.token for s in place.sounds), place.reference)
    ]
    assert (len(heard), len(set(heard))) == (5, 4), "the reference is hidden among the others, too"
    assert len(place.ahead) == 5
    assert listening.sound(test_id, token, place.ahead[0])
    with pytest.raises(NotFound):
        listening.sound(test_id, other, place.reference)


@SQLITE
@pytest.mark.parametrize("name", ["", "=1+1", "-x", "@x", "a\x00b", "n" * 65, "<b>"])
def test_a_listeners_name_is_a_name(
    client: CurationServiceStub, listening: Listening, store: Store, tmp_path: Path, name: str
) -> None:
    test_id = client.CreateListeningTest(create(store, tmp_path, trials=1)).test.test_id
    with pytest.raises(InvalidRequest):
        listening.join(test_id, name)


def refusals(**changes: object) -> Callable[[pb.CreateListeningTestRequest], None]:
    """Sets fields of a request."""

    def change(request: pb.CreateListeningTestRequest) -> None:
        for name, value in changes.items():
            setattr(request, name, value)

    return change


@SQLITE
def all_are_training(request: pb.CreateListeningTestRequest) -> None:
    for trial in request.trials:
        trial.training = True


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (refusals(name="Not a name"), "name"),
        (refusals(request_id=""), "request_id"),
        (refusals(kind=0), "kind"),
        (refusals(kind=MOS), "make_anchor"),
        (refusals(loudness_lufs=0.0), "loudness_lufs"),
        (refusals(loudness_lufs=float("nan")), "loudness_lufs"),
        (refusals(created_by=""), "created_by"),
        (refusals(instructions="x" * 2001), "instructions"),
        (lambda request: request.ClearField("questions"), "questions"),
        (lambda request: request.questions.append(QUALITY), "questions"),
        (lambda request: request.questions.append(9), "questions[2]"),
        (lambda request: request.ClearField("trials"), "trials"),
        (lambda request: request.trials.extend([request.trials[0]] * MAX_TRIALS), "trials"),
        (all_are_training, "trials"),
        (lambda request: request.trials[0].ClearField("reference"), "trials"),
        (lambda request: request.trials[0].ClearField("prompt"), "trials[0].prompt"),
        (lambda request: request.trials[1].stimuli.pop(), "trials[1].stimuli"),
        (lambda request: setattr(request.trials[0].stimuli[0], "system", "base@2"), "trials[0].stimuli"),
        (lambda request: setattr(request.trials[0].stimuli[0], "system", "anchor"), "trials[0].stimuli[0].system"),
        (lambda request: setattr(request.trials[0].stimuli[0], "system", "=SUM(1)"), "trials[0].stimuli[0].system"),
        (lambda request: request.trials[0].stimuli.extend([request.trials[0].stimuli[0]] * 8), "trials[0].stimuli"),
        (lambda request: setattr(request.trials[0].reference, "size_bytes", 1 << 40), "trials[0].reference"),
        (lambda request: request.trials[0].stimuli[1].ClearField("audio"), "trials[0].stimuli[1].audio"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_field(
    client: CurationServiceStub,
    store: Store,
    tmp_path: Path,
    change: Callable[[pb.CreateListeningTestRequest], None],
    field: str,
) -> None:
    request = create(store, tmp_path)
    change(request)
    with pytest.raises(InvalidRequest) as refused:
        client.CreateListeningTest(request)
    assert field in [name for name, _ in refused.value.violations]


@SQLITE
def test_audio_that_is_too_long_to_be_held_is_refused_by_trial(
    client: CurationServiceStub, store: Store, tmp_path: Path
) -> None:
    request = create(store, tmp_path, trials=1, reference=False)
    long = put(store, noise(1, 1, channels=1).repeat(200, axis=0)[: 16_000 * 299], tmp_path, rate_hz=16_000)
    for stimulus in request.trials[0].stimuli:
        stimulus.audio.CopyFrom(long)
    for system in ("third", "fourth"):
        request.trials[0].stimuli.add(system=system, audio=long)
    with pytest.raises(InvalidRequest, match="take shorter ones"):
        client.CreateListeningTest(request)


@SQLITE
def test_audio_that_is_gone_is_said_by_name(client: CurationServiceStub, store: Store, tmp_path: Path) -> None:
    request = create(store, tmp_path)
    store.objects.delete(request.trials[1].stimuli[0].audio.key)
    with pytest.raises(NotFound) as gone:
        client.CreateListeningTest(request)
    assert gone.value.reason == "ARTIFACT_NOT_FOUND"


@pytest.mark.parametrize("name", ["nothing", "listening-" + "0" * 24])
def test_an_unknown_test_is_not_found(client: CurationServiceStub, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.GetListeningTest(pb.GetListeningTestRequest(test=name)),
        lambda: client.GetListeningResults(pb.GetListeningResultsRequest(test=name)),
    ]
    for call in calls:
        with pytest.raises(LuthierError) as refused:
            call()
        assert refused.value.reason == "LISTENING_TEST_NOT_FOUND"


@SQLITE
def test_a_test_that_would_ask_nothing_is_refused(client: CurationServiceStub, store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="must ask something"):
        client.CreateListeningTest(create(store, tmp_path, trials=1, channels=1, questions=(STEREO,)))


@SQLITE
def test_stereo_is_not_asked_of_a_mono_test(
    client: CurationServiceStub, listening: Listening, store: Store, tmp_path: Path
) -> None:
    request = create(store, tmp_path, trials=1, channels=1, questions=(STEREO, MUSICALITY))
    test_id = client.CreateListeningTest(request).test.test_id
    token = listening.join(test_id, "Ada")
    place = listening.place(test_id, token)
    assert (place.steps, place.step.questions if place.step else ()) == (1, (MUSICALITY,))

"""What is heard of music that was asked for, and the best of several tries, beside an analysis service that answers as
each test says."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest

from luthier.analysis.v1 import analysis_pb2
from luthier.common.v1.common_pb2 import Span
from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference import heard as hearing
from luthier_inference.heard import Hearing, judged
from luthier_inference.scheduler import TOO_NEAR, Scheduler
from luthier_inference.tries import Try, best, seed_of
from luthier_kit.rpc import InvalidRequest, Unavailable
from luthier_model.generation import Denoising, evaluate
from luthier_music.captions.wanted import Wanted
from luthier_music.keys import Key
from tests.model.small import ModelFiles

from .analyses import Analysis, heard, listening
from .conftest import Served, refusal
from .test_stream import settled, steps_done

ASKED: dict[str, Any] = {"tempo_bpm": 90.0, "key": "D minor"}
D_MINOR = Key(2, "minor")


@pytest.fixture(scope="module")
def beside(model_files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Analysis]]:
    with listening(model_files, tmp_path_factory.mktemp("heard")) as both:
        yield both


def request(music: dict[str, Any] = ASKED, **fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"steps": 2, "seconds_total": 1.0, "music": pb.MusicFields(**music), **fields})


def by_field(fields: Sequence[pb.ObeyedField]) -> dict[str, pb.ObeyedField]:
    return {one.field: one for one in fields}


# --- the rules


@pytest.mark.parametrize(
    ("heard_bpm", "obeyed", "near", "note"),
    [
        (90.0, True, 1, ""),
        (91.8, True, 1, ""),  # 2 % off, edges included
        (91.9, False, 0, ""),
        (180.0, False, 1, "2, 3, 1/2 or 1/3 times the tempo asked for"),
        (45.5, False, 1, "2, 3, 1/2 or 1/3 times the tempo asked for"),
        (None, False, 0, "no tempo was found in the audio"),
    ],
)
def test_a_tempo_is_obeyed_within_two_per_cent(heard_bpm: float | None, obeyed: bool, near: float, note: str) -> None:
    (found,) = judged(Wanted(tempo_bpm=90.0), heard(heard_bpm)).fields

    assert (found.asked, found.estimator, found.note) == ("90 BPM", "clicks/1", note)
    assert (found.obeyed, found.near) == (obeyed, near)
    assert found.heard == (f"{heard_bpm:g} BPM" if heard_bpm else "")


@pytest.mark.parametrize(
    ("key", "obeyed", "near"),
    [("D minor", True, 1), ("A minor", False, 0.5), ("F major", False, 0.3), ("D major", False, 0.2),
     ("G minor", False, 0), ("", False, 0)],
)  # fmt: skip
def test_a_key_is_obeyed_where_tonic_and_mode_are_the_same(key: str, obeyed: bool, near: float) -> None:
    (found,) = judged(Wanted(key=D_MINOR), heard(key=key)).fields

    assert (found.heard, found.obeyed, found.near) == (key, obeyed, near)


def test_what_analysis_cannot_hear_says_so() -> None:
    wanted = Wanted(meter=(3, 4), bars=8, instruments=("piano", "drums"))

    fields = judged(wanted, heard()).fields

    assert [(one.field, one.asked) for one in fields] == [
        ("meter", "3/4"), ("bars", "8 bars"), ("instruments", "piano, drums"),
    ]  # fmt: skip
    assert not any(one.HasField("obeyed") for one in fields)
    assert all(one.note.startswith("not measured: ") for one in fields)


def hearing_of(tempo_bpm: float | None, key: str) -> Hearing:
    return judged(Wanted(tempo_bpm=90.0, key=D_MINOR), heard(tempo_bpm, key))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ((90, ""), (180, "A minor")),  # one obeyed goes before two that are near
        ((200, "D minor"), (180, "A minor")),
        ((180, "A minor"), (180, "F major")),
        ((180, "G minor"), (100, "F major")),  # 1 of Accuracy 2, and 0.3
        ((100, "F major"), (110, "F major")),
        ((110, "G minor"), (None, "G minor")),
    ],
)
def test_the_best_is_by_the_stated_rule_whatever_the_order(better: tuple[float, str], worse: tuple[float, str]) -> None:
    tries = [Try(pb.GenerateResponse(), hearing_of(*one)) for one in (better, worse)]

    assert (best(tries), best(tries[::-1])) == (0, 1)


def test_of_equals_the_first_is_the_best() -> None:
    assert best([Try(pb.GenerateResponse(), hearing_of(100, "F major"))] * 3) == 0


def test_seeds_of_tries_follow_from_the_first_and_are_distinct() -> None:
    seeds = [seed_of(7, number) for number in range(1, 17)]

    assert seeds[0] == 7
    assert len(set(seeds)) == 16
    assert max(seeds) > 2**60
    assert seeds == [seed_of(7, number) for number in range(1, 17)]
    assert not set(seeds) & {seed_of(8, number) for number in range(1, 17)}


# --- measured answers


def test_an_answer_says_what_was_heard_of_each_field(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside
    analysis.begin(lambda _: heard(91.0, "A minor"))

    response = served.stub.Generate(request({**ASKED, "meter": "3/4", "instruments": ["piano"]}, seed=1))

    found = by_field(response.heard)
    assert list(found) == ["tempo_bpm", "key", "meter", "instruments"]
    assert (found["tempo_bpm"].heard, found["tempo_bpm"].obeyed) == ("91 BPM", True)
    assert (found["key"].heard, found["key"].obeyed) == ("A minor", False)
    (asked,) = analysis.asked
    assert asked.audio == response.audio
    assert list(asked.features) == [analysis_pb2.FEATURE_TEMPO, analysis_pb2.FEATURE_KEY]
    assert not asked.HasField("span")


def test_only_what_is_asked_for_is_measured(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside
    analysis.begin(lambda _: heard(key="D minor"))

    served.stub.Generate(request({"instruments": ["piano"]}, seed=2))
    served.stub.Generate(pb.GenerateRequest(prompt="piano at 90 BPM", steps=2, seconds_total=1.0, seed=2))
    served.stub.Generate(request({"key": "D minor"}, seed=2))

    assert [list(one.features) for one in analysis.asked] == [[analysis_pb2.FEATURE_KEY]]


def test_of_untrimmed_audio_the_length_asked_for_is_measured(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside
    analysis.begin(lambda _: heard(90))

    served.stub.Generate(request(seed=3, untrimmed=True))

    assert analysis.asked[0].span == Span(end_s=1.0)


def test_what_analysis_does_not_read_is_decoded_first(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside
    analysis.begin(lambda _: heard(90))

    response = served.stub.Generate(request(seed=4, output_format=pb.OUTPUT_FORMAT_OGG_VORBIS))

    assert analysis.decoded == [response.audio]
    assert analysis.asked[0].audio.key == "decoded/1.flac"


def test_every_seed_is_heard(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside
    analysis.begin(lambda call: heard(90 if call == 1 else 120))

    response = served.stub.Generate(request(seeds=[11, 12]))

    answers = [response.heard, *(one.heard for one in response.others)]
    found = [by_field(fields)["tempo_bpm"].obeyed for fields in answers]
    assert sorted(found) == [False, True]
    assert {one.audio.sha256 for one in analysis.asked} == {
        response.audio.sha256, response.others[0].audio.sha256,
    }  # fmt: skip


def test_audio_is_returned_where_analysis_refuses_it_and_why_is_told(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside

    def refused(_: int) -> analysis_pb2.AnalyzeAudioResponse:
        raise InvalidRequest(violations=[("audio", "must last 0.5 to 1800 s")], reason="INVALID_AUDIO")

    analysis.begin(refused)
    response = served.stub.Generate(request({**ASKED, "meter": "3/4"}, seed=5))

    found = by_field(response.heard)
    assert served.store.blobs.exists(response.audio)
    assert found["key"].note == "not computed: audio: must last 0.5 to 1800 s"
    assert found["meter"].note.startswith("not measured")
    assert not any(one.HasField("obeyed") or one.HasField("near") for one in response.heard)


def test_audio_is_returned_where_analysis_is_away(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside

    def away(_: int) -> analysis_pb2.AnalyzeAudioResponse:
        raise Unavailable("no worker", retry_after_s=0.1)

    analysis.begin(away)
    response = served.stub.Generate(request(seed=6), timeout=30)

    assert by_field(response.heard)["tempo_bpm"].note == "not computed: no worker"


def test_analysis_that_does_not_answer_leaves_time_for_the_answer(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside
    analysis.begin(lambda _: heard(90))
    analysis.hold = threading.Event()

    response = served.stub.Generate(request(seed=7), timeout=4)

    analysis.hold.set()
    assert "analysis did not answer within" in by_field(response.heard)["key"].note


def test_where_there_is_no_analysis_service_the_answer_says_so(served: Served) -> None:
    response = served.stub.Generate(request(seed=8))

    assert [one.note for one in response.heard] == [f"not computed: {hearing.NO_SERVICE}"] * 2


# --- the best of several tries


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"best_of": 0}, "best_of: must be between 1 and 16, got 0"),
        ({"best_of": 17}, "best_of: must be between 1 and 16, got 17"),
        ({"best_of": 2, "seeds": [1, 2]}, "best_of: must be absent with seeds"),
        ({"best_of": 2, "music": {"meter": "3/4"}}, "best_of: needs music.tempo_bpm or music.key"),
        ({"best_of": 2, "music": {}, "prompt": "at 90 BPM"}, "best_of: needs music.tempo_bpm or music.key"),
    ],
)
def test_tries_beyond_a_bound_are_refused_by_name(
    beside: tuple[Served, Analysis], fields: dict[str, Any], said: str
) -> None:
    code, details = refusal(lambda: beside[0].stub.Generate(request(**fields)))

    assert (code, said in details) == (grpc.StatusCode.INVALID_ARGUMENT, True), details


def test_tries_need_an_analysis_service(served: Served) -> None:
    code, details = refusal(lambda: served.stub.Generate(request(best_of=2)))

    assert (code, f"best_of: needs an analysis service: {hearing.NO_SERVICE}" in details) == (
        grpc.StatusCode.INVALID_ARGUMENT, True,
    )  # fmt: skip


def test_tries_end_with_the_first_that_is_as_asked(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside
    analysis.begin(lambda call: heard(90 if call == 3 else 120, "D minor"))

    response = served.stub.Generate(request(seed=21, best_of=8))

    assert [one.seed for one in response.tries] == [seed_of(21, number) for number in (1, 2, 3)]
    assert [one.chosen for one in response.tries] == [False, False, True]
    assert (response.seed, response.audio, response.best_of) == (seed_of(21, 3), response.tries[2].audio, 8)
    assert list(response.heard) == list(response.tries[2].heard)
    assert [by_field(one.heard)["tempo_bpm"].heard for one in response.tries] == ["120 BPM", "120 BPM", "90 BPM"]
    assert not response.notes
    alone = served.stub.Generate(request(seed=seed_of(21, 2)))
    assert (alone.action.reused, alone.audio) == (True, response.tries[1].audio)


def test_when_none_is_as_asked_the_best_is_answered(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside
    analysis.begin(lambda call: heard(120, ("C major", "A minor", "F major")[call - 1]))

    response = served.stub.Generate(request(seed=22, best_of=3))

    assert [one.chosen for one in response.tries] == [False, True, False]
    assert response.seed == seed_of(22, 2)


def test_a_retry_tries_the_same_seeds_and_makes_none_twice(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside
    analysis.begin(lambda _: heard(120))
    first = served.stub.Generate(request(best_of=2, request_id="tries"))
    again = served.stub.Generate(request(best_of=2, request_id="tries"))

    assert [one.seed for one in again.tries] == [one.seed for one in first.tries]
    assert [one.reused for one in again.tries] == [True, True]


def test_a_try_that_cannot_be_measured_is_the_last(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside

    def once(call: int) -> analysis_pb2.AnalyzeAudioResponse:
        if call == 2:
            raise InvalidRequest(violations=[("audio", "is silent")])
        return heard(120)

    analysis.begin(once)
    response = served.stub.Generate(request(seed=23, best_of=5))

    assert [one.chosen for one in response.tries] == [True, False]
    assert "could not be measured, so that there was no other; 2 of 5 were made" in response.notes[-1]


def test_a_deadline_too_near_for_another_try_ends_them(
    beside: tuple[Served, Analysis], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, analysis = beside
    analysis.begin(lambda _: heard(120))
    enter, entered = Scheduler.enter, []

    def second_is_late(own: Scheduler, *more: Any) -> Any:
        entered.append(more)
        if len(entered) == 2:
            raise Unavailable("this would be late", reason=TOO_NEAR)
        return enter(own, *more)

    monkeypatch.setattr(Scheduler, "enter", second_is_late)
    response = served.stub.Generate(request(seed=24, best_of=5))

    assert len(response.tries) == 1
    assert "too near for another try; 1 of 5 were made" in response.notes[-1]


def test_progress_says_which_try_it_is(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside
    analysis.begin(lambda _: heard(120))

    events = list(served.stub.StreamGenerate(pb.StreamGenerateRequest(request=request(seed=25, best_of=2))))

    steps = [(e.progress.try_number, e.progress.step, e.progress.total) for e in events if e.progress.step]
    assert steps == [(1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2)]
    (response,) = (event.response for event in events if event.HasField("response"))
    assert b"".join(event.audio_chunk for event in events) == served.store.blobs.read(response.audio)


def test_a_caller_who_leaves_while_analysis_hears_stops_the_tries(beside: tuple[Served, Analysis]) -> None:
    served, analysis = beside
    analysis.begin(lambda _: heard(120))
    analysis.hold = threading.Event()
    call = served.stub.Generate.future(request(seed=26, best_of=4))
    assert analysis.came.wait(20)
    call.cancel()  # type: ignore[no-untyped-call]
    done = settled()
    analysis.hold.set()

    assert settled() == done
    assert len(analysis.asked) == 1


def test_a_caller_who_leaves_within_a_try_stops_it(
    beside: tuple[Served, Analysis], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, analysis = beside
    analysis.begin(lambda _: heard(120))

    def slow(together: Sequence[Denoising]) -> None:
        time.sleep(0.1)
        evaluate(together)

    monkeypatch.setattr("luthier_inference.work.evaluate", slow)
    call = served.stub.StreamGenerate(pb.StreamGenerateRequest(request=request(seed=27, best_of=4, steps=3)))
    for event in call:
        if event.progress.try_number == 2:
            break
    at_cancel = steps_done()
    call.cancel()  # type: ignore[no-untyped-call]

    assert settled() - at_cancel <= 1
    assert len(analysis.asked) == 1

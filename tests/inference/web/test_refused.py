"""What HTTP refuses: with the status, reason, fields and hint of gRPC, and what gRPC never sees."""

import hashlib
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.app import build_service
from luthier_inference.web.app import HttpFront
from luthier_kit.rpc import InvalidRequest, LuthierError, Server, error_of_call
from tests.inference.conftest import settings_for
from tests.model.small import ModelFiles
from tests.support.services import temp_store

from .conftest import GENERATE, Both, body, both, error, events, grpc_request, wait_until

ALICE, BOB = "alice-token-0123456789", "bob-token-0123456789"


def by_grpc(served: Both, request: pb.GenerateRequest, *metadata: tuple[str, str]) -> LuthierError:
    """What gRPC says of the same request."""
    with pytest.raises(grpc.RpcError) as refused:
        served.stub.Generate(request, metadata=metadata)
    return error_of_call(refused.value)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream"])
def test_fields_beyond_their_bounds_are_named_as_the_caller_named_them(served_both: Both, accept: str) -> None:
    fields = {"input": " ", "audio_length": 1e9, "steps": 0, "sampler": "guess"}
    answer = served_both.http.post(GENERATE, json=fields, headers={"accept": accept})
    said = by_grpc(served_both, pb.GenerateRequest(prompt=" ", seconds_total=1e9, steps=0, sampler="guess"))

    assert isinstance(said, InvalidRequest)
    names = {"prompt": "input", "seconds_total": "audio_length"}
    told = error(answer)
    assert (answer.status_code, told["code"], told["type"], told["param"]) == (400, 400, "BadRequestError", "input")
    assert told["reason"] == said.reason
    violations = [(each["field"], each["description"]) for each in told["violations"]]
    assert violations == [(names.get(field, field), bound) for field, bound in said.violations]


@pytest.mark.parametrize(
    ("fields", "field", "bound"),
    [
        ({"promt": "x"}, "promt", "is no field of a generation; did you mean prompt?"),
        ({"input": "x", "prompt": "y"}, "prompt", "says the same as input: only one of them may be there"),
        ({"input": "x", "response_format": "flac", "output_format": "OUTPUT_FORMAT_MP3"}, "response_format",
         "says the same as output_format: only one of them may be there"),
        ({f"f{number}": 1 for number in range(4000)}, "body", "must have at most 100 members, got 4000"),
        ({"x" * 60_000: 1}, "x" * 80, "is no field of a generation"),
        ({"input": 3}, "input", "must be a text, got '3'"),
        ({"input": "x", "seed": -1}, "seed", "must be a whole number from 0, below 2^64, got '-1'"),
        ({"input": "x", "num_inference_steps": 1.5}, "num_inference_steps",
         "must be a whole number of 32 bits, got '1.5'"),
        ({"input": "x", "keep": [{"start_s": 0, "ende_s": 1}]}, "keep[0].ende_s", "is no field of it"),
        ({"input": "x", "keep": [{"start_s": "now"}]}, "keep[0].start_s", "must be a finite number"),
        ({"input": "x", "init_audio": "song.wav"}, "init_audio", "must be an object, got 'song.wav'"),
        ({"input": "x", "precision": "fp8"}, "precision", "must be one of float32, bfloat16, int8, got 'fp8'"),
        ({"input": "x", "speed": 2}, "speed", "must be 1: audio is made at the speed of the prompt"),
        ({"input": "x", "timeout_s": 1e9}, "timeout_s", "must be above 0 and at most 3600, got 1e+09"),
        ({"input": "x", "stream_format": "chunks"}, "stream_format", "must be one of audio, sse, got 'chunks'"),
        ({"input": "x", "response_format": "aac"}, "response_format",
         "must be one of flac, flac-24, json, mp3, ogg-opus, ogg-vorbis, opus, wav, wav-24, wav-float, got 'aac'"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_request_names_the_field(
    served_both: Both, fields: dict[str, Any], field: str, bound: str
) -> None:
    told = error(served_both.http.post(GENERATE, json=fields))

    assert (told["code"], told["reason"]) == (400, "INVALID_REQUEST")
    assert told["violations"] == [{"field": field, "description": bound}]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '"text"', '{"input": NaN}', '{"input": "a", "input": "b"}', '{"input": "\\ud800"}',
     '{"keep": [' + "1," * 5000 + "1]}",
     '{"keep": ' + "[" * 5000 + "]" * 5000 + "}", b"\xff\xfe{}", '{"seed": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_a_body_that_is_not_json_is_refused(served_both: Both, text: str | bytes) -> None:
    answer = served_both.http.post(GENERATE, content=text, headers={"content-type": "application/json"})

    assert (answer.status_code, error(answer)["reason"]) == (400, "BODY_NOT_JSON")


def test_a_model_that_is_not_there_is_not_found(served_both: Both) -> None:
    answer = served_both.http.post(GENERATE, json=body(model="other"))
    said = by_grpc(served_both, grpc_request(model="other"))

    told = error(answer)
    assert (answer.status_code, told["type"], told["param"]) == (404, "NotFoundError", "model")
    assert (told["reason"], told["message"]) == (said.reason, str(said))


def test_an_error_of_the_stored_artifact_is_found_before_any_audio_is_sent(served_both: Both) -> None:
    nowhere = {"key": f"generated/{'0' * 64}.flac", "sha256": "0" * 64}
    answer = served_both.http.post(GENERATE, json=body(init_audio=nowhere, init_noise_level=1))

    assert (answer.status_code, error(answer)["reason"]) == (404, "ARTIFACT_NOT_FOUND")


@pytest.mark.parametrize(
    ("headers", "content", "status", "reason"),
    [
        ({"content-type": "application/json"}, b" " * (64 << 10) + b"{}", 413, "BODY_TOO_LARGE"),
        ({"content-type": "text/plain"}, b'{"input": "x"}', 415, "NOT_JSON"),
        ({"content-type": "application/json", "origin": "https://evil.example"}, b'{"input": "x"}', 403, "CROSS_SITE"),
        ({"content-type": "application/json", "host": "rebound.example"}, b'{"input": "x"}', 400, "HOST_NOT_KNOWN"),
    ],
)
def test_what_grpc_never_sees_has_errors_of_the_same_form(
    served_both: Both, headers: dict[str, str], content: bytes, status: int, reason: str
) -> None:
    told = error(served_both.http.post(GENERATE, content=content, headers=headers))

    assert (told["code"], told["reason"]) == (status, reason)


def test_other_methods_and_paths_are_refused(served_both: Both) -> None:
    assert error(served_both.http.get(GENERATE))["code"] == 404  # it is no stored audio
    assert error(served_both.http.put("/v1/models", json={}))["reason"] == "METHOD_NOT_ALLOWED"
    assert error(served_both.http.get("/nothing"))["reason"] == "NOT_FOUND"


@contextmanager
def working(served: Both, seed: int, headers: dict[str, str] | None = None) -> Iterator[httpx.Response]:
    """A generation of a thousand steps, begun; its client leaves at the end."""
    asked = body(num_inference_steps=1000, seed=seed, stream_format="sse")
    with served.http.stream("POST", GENERATE, json=asked, headers=headers, timeout=60) as answer:
        assert next(events(answer.iter_lines()))[0] == "progress"
        yield answer


@pytest.mark.usefixtures("slow_steps")
def test_where_every_place_is_taken_the_caller_is_told_when_to_come_back(
    model_files: ModelFiles, tmp_path: Path
) -> None:
    with both(model_files, tmp_path, slots=1, queue=0) as served:
        served.http.post(GENERATE, json=body(seed=1))  # what things cost is known
        with working(served, seed=2):
            answer = served.http.post(GENERATE, json=body(seed=3))
            said = by_grpc(served, grpc_request(seed=4))

    told = error(answer)
    assert (answer.status_code, told["reason"], said.reason) == (503, "BUSY", "BUSY")
    assert told["retry_after_s"] > 0
    assert int(answer.headers["retry-after"]) == max(1, math.ceil(told["retry_after_s"]))


@pytest.mark.usefixtures("slow_steps")
def test_a_caller_with_too_many_calls_is_told_so(model_files: ModelFiles, tmp_path: Path) -> None:
    with both(model_files, tmp_path, caller_in_flight=1) as served, working(served, seed=2):
        elsewhere = {"x-forwarded-for": "10.0.0.7"}  # which nobody believes
        answer = served.http.post(GENERATE, json=body(seed=3), headers=elsewhere)
        said = by_grpc(served, grpc_request(seed=4))  # of the same host

    assert (answer.status_code, error(answer)["type"]) == (429, "RateLimitError")
    assert error(answer)["reason"] == said.reason == "CALLER_IN_FLIGHT"
    assert error(answer)["message"].startswith("127.0.0.1 has 1 calls")


@pytest.fixture
def named(model_files: ModelFiles, tmp_path: Path) -> Iterator[Both]:
    """Alice may generate and read, Bob may only read."""
    callers = tmp_path / "callers"
    callers.mkdir()
    for name, token in (("alice", ALICE), ("bob", BOB)):
        (callers / name).write_text(f"sha256:{hashlib.sha256(token.encode()).hexdigest()}")
    with both(model_files, tmp_path, callers=str(callers), caller_permissions=("bob=read",)) as served:
        yield served


@pytest.mark.parametrize(
    ("header", "status", "reason"),
    [
        (None, 401, "NO_CREDENTIALS"),
        ("Bearer nobody", 401, "BAD_CREDENTIALS"),
        ("Basic YTpi", 401, "BAD_CREDENTIALS"),
        ("Bearer ü", 401, "BAD_CREDENTIALS"),
        ("Bearer " + "x" * 20_000, 401, "BAD_CREDENTIALS"),
        (f"Bearer {BOB}", 403, "CALLER_NOT_PERMITTED"),
        (f"Bearer {ALICE}", 200, ""),
    ],
)
def test_callers_are_those_of_grpc(named: Both, header: str | None, status: int, reason: str) -> None:
    headers: dict[bytes, bytes] = {} if header is None else {b"authorization": header.encode()}
    answer = named.http.post(GENERATE, json=body(seed=1), headers=headers)

    assert answer.status_code == status
    if reason:
        assert error(answer)["reason"] == reason
    assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)


def test_models_and_stored_audio_are_for_those_who_may_read(named: Both) -> None:
    made = named.http.post(GENERATE, json=body(seed=1), headers={"authorization": f"Bearer {ALICE}"})
    path = made.headers["content-location"]

    assert named.http.get(path).status_code == named.http.get("/v1/models").status_code == 401
    headers = {"authorization": f"Bearer {BOB}"}
    assert named.http.get(path, headers=headers).content == made.content
    assert named.http.get("/v1/models", headers=headers).status_code == 200
    assert named.http.get("/").status_code == named.http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("form", "timeout_s"),
    [({}, 1.2), ({"response_format": "json"}, 1.2), ({"stream_format": "sse"}, 8)],  # time for a first step, and more
)
@pytest.mark.usefixtures("slow_steps")
def test_what_takes_too_long_ends_at_the_callers_own_time(
    model_files: ModelFiles, tmp_path: Path, form: dict[str, str], timeout_s: float
) -> None:
    with both(model_files, tmp_path) as served:
        answer = served.http.post(GENERATE, json=body(seed=8, num_inference_steps=1000, timeout_s=timeout_s, **form))

    if form.get("stream_format"):  # steps were told of already
        name, told = list(events(iter(answer.text.splitlines())))[-1]
        assert (name, told["error"]["code"]) == ("error", 504)
    else:
        assert (answer.status_code, error(answer)["reason"]) == (504, "DEADLINE_EXCEEDED")


def test_before_the_service_serves_it_says_when_to_come_back(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, web_address="127.0.0.1:0")
    asked: list[httpx.Response] = []
    with temp_store(tmp_path / "store") as store:
        service = build_service(settings, store)
        front = service.front
        assert isinstance(front, HttpFront)

        def meanwhile() -> None:
            url = f"http://{front.address}"
            asked.extend((httpx.post(url + GENERATE, json=body()), httpx.get(f"{url}/health")))

        server = Server(replace(service, prepare=meanwhile), settings)
        server.start()
        server.stop(grace_s=0)

    generated, health = asked
    assert (generated.status_code, error(generated)["reason"]) == (503, "NOT_READY")
    assert generated.headers["retry-after"] == "1"
    assert health.status_code == 503


@pytest.mark.usefixtures("slow_steps")
def test_a_server_that_stops_answers_what_it_has_begun(model_files: ModelFiles, tmp_path: Path) -> None:
    with both(model_files, tmp_path) as served, ThreadPoolExecutor(1) as pool:
        begun = pool.submit(served.http.post, GENERATE, json=body(seed=1, num_inference_steps=8))
        wait_until(lambda: served.server.dispatcher.admission.scheduled.taken)
        served.server.stop(grace_s=30)

    assert begun.result().status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{served.url}/health")


def test_a_request_id_of_the_caller_goes_through_to_the_answer(served_both: Both) -> None:
    own = served_both.http.get("/v1/models", headers={"x-request-id": "mine"})
    made = served_both.http.post(
        GENERATE, content=b"{", headers={b"content-type": b"application/json", b"x-request-id": b"\xfc"}
    )

    assert own.headers["x-request-id"] == "mine"
    assert len(made.headers["x-request-id"]) == 32
    assert json.loads(made.text)["error"]["reason"] == "BODY_NOT_JSON"

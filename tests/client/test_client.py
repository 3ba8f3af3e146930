"""What the clients do when servers refuse, break off, or answer something else than they promised."""

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc
from luthier.wire.v1 import wire_pb2 as wire
from luthier_client import (
    AsyncClient,
    Cancel,
    Cancelled,
    Client,
    DataLoss,
    DeadlineExceeded,
    InvalidRequest,
    LuthierError,
    PermissionDenied,
    ResourceExhausted,
    Retry,
    Unauthenticated,
    Unavailable,
    Violation,
)
from tests.client.conftest import TOKEN, Secured

AUDIO = bytes(range(256)) * 9000  # 2.3 MB
SHA256 = hashlib.sha256(AUDIO).hexdigest()
ASKED = pb.GenerateRequest(prompt="calm piano")
QUICK = Retry(budget_s=5, first_s=0.01, longest_s=0.02)


def refused(code: grpc.StatusCode, reason: str, hint_s: float | None = None, *, field: str = "") -> wire.Status:
    """A refusal as a Luthier server sends it."""
    status = wire.Status(code=code.value[0], message="no")
    details: list[Any] = [wire.ErrorInfo(reason=reason, domain="inference", metadata={"quota": "steps"})]
    if hint_s is not None:
        details.append(wire.RetryInfo())
        details[-1].retry_delay.FromMilliseconds(int(hint_s * 1000))
    if field:
        details.append(
            wire.BadRequest(field_violations=[wire.BadRequest.FieldViolation(field=field, description="must be 1")])
        )
    for detail in details:
        name = type(detail).__name__
        status.details.add(type_url=f"type.googleapis.com/google.rpc.{name}", value=detail.SerializeToString())
    return status


FULL = refused(grpc.StatusCode.UNAVAILABLE, "BUSY", 0.05)


Servicer: Any = inference_pb2_grpc.InferenceServiceServicer  # to its types a method that nobody calls is missing


@dataclass
class Fake(Servicer):  # type: ignore[misc]
    """Refuses as told, then answers; breaks streams as told."""

    refusals: list[wire.Status] = field(default_factory=list)
    breaks: int = 0
    sha256: str = SHA256
    asked: list[tuple[float, pb.GenerateRequest]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def _begin(self, request: pb.GenerateRequest, context: Any) -> None:
        self.asked.append((time.monotonic(), request))
        if self.refusals:
            status = self.refusals.pop(0)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
            context.abort(code, status.message)

    def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        context.add_callback(self.ended.set)
        self._begin(request, context)
        if request.prompt == "endless":
            self.ended.wait(30)
        return pb.GenerateResponse(request_id=request.request_id)

    def StreamGenerate(self, request: pb.StreamGenerateRequest, context: Any) -> Iterator[pb.StreamGenerateResponse]:
        context.add_callback(self.ended.set)
        self._begin(request.request, context)
        yield pb.StreamGenerateResponse(progress=pb.GenerateProgress(step=1, total=1))
        if request.request.prompt == "endless":
            self.ended.wait(30)
        response = pb.GenerateResponse(request_id=request.request.request_id)
        response.audio.sha256 = self.sha256
        yield pb.StreamGenerateResponse(response=response)
        for first in range(0, len(AUDIO), 1 << 20):
            yield pb.StreamGenerateResponse(audio_chunk=AUDIO[first : first + (1 << 20)])
            if self.breaks:
                self.breaks -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "the server stops")

    @property
    def ids(self) -> set[str]:
        return {request.request_id for _, request in self.asked}


@contextmanager
def serving(fake: Fake) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        fake.ended.set()
        server.stop(None)


def generate(address: str, request: pb.GenerateRequest, retry: Retry) -> pb.GenerateResponse:
    with Client(address, retry=retry) as client:
        return client.generate(request)


def generate_async(address: str, request: pb.GenerateRequest, retry: Retry) -> pb.GenerateResponse:
    async def main() -> pb.GenerateResponse:
        async with AsyncClient(address, retry=retry) as client:
            return await client.generate(request)

    return asyncio.run(main())


def to_file(address: str, path: Path, retry: Retry) -> pb.GenerateResponse:
    with Client(address, retry=retry) as client:
        return client.to_file(ASKED, path)


def to_file_async(address: str, path: Path, retry: Retry) -> pb.GenerateResponse:
    async def main() -> pb.GenerateResponse:
        async with AsyncClient(address, retry=retry) as client:
            return await client.to_file(ASKED, path)

    return asyncio.run(main())


both = pytest.mark.parametrize("call", [generate, generate_async], ids=["sync", "asyncio"])
both_to_file = pytest.mark.parametrize("call", [to_file, to_file_async], ids=["sync", "asyncio"])
Call = Callable[[str, Any, Retry], pb.GenerateResponse]


@both
def test_a_full_server_is_asked_again_when_its_hint_says(call: Call) -> None:
    fake = Fake(refusals=[FULL, FULL])
    with serving(fake) as address:
        call(address, ASKED, Retry(budget_s=5, first_s=60))

    waits = [later - earlier for (earlier, _), (later, _) in zip(fake.asked, fake.asked[1:], strict=False)]
    assert len(waits) == 2
    assert all(0.05 <= wait < 5 for wait in waits)


@both
def test_attempts_are_one_request(call: Call) -> None:
    fake = Fake(refusals=[FULL])
    with serving(fake) as address:
        response = call(address, ASKED, QUICK)

    assert fake.ids == {response.request_id}
    assert len(response.request_id) == 32
    assert not ASKED.request_id  # the caller's own is left as it is


@both
def test_an_id_of_the_callers_own_stays(call: Call) -> None:
    fake = Fake()
    with serving(fake) as address:
        call(address, pb.GenerateRequest(prompt="calm", request_id="mine"), QUICK)

    assert fake.ids == {"mine"}


@both
def test_a_hint_beyond_the_budget_is_not_waited_for(call: Call) -> None:
    fake = Fake(refusals=[refused(grpc.StatusCode.UNAVAILABLE, "BUSY", 3600)])
    with serving(fake) as address, pytest.raises(Unavailable) as caught:
        call(address, ASKED, QUICK)

    assert (caught.value.retry_after_s, caught.value.reason, len(fake.asked)) == (3600, "BUSY", 1)


@both
def test_a_spent_quota_is_not_asked_again_and_says_when_to_come_back(call: Call) -> None:
    fake = Fake(refusals=[refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_SPENT", 1)])
    with serving(fake) as address, pytest.raises(ResourceExhausted) as caught:
        call(address, ASKED, QUICK)

    assert (caught.value.metadata, caught.value.retry_after_s, len(fake.asked)) == ({"quota": "steps"}, 1, 1)


@both
def test_too_many_calls_of_ones_own_are_waited_for(call: Call) -> None:
    fake = Fake(refusals=[refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_IN_FLIGHT")])
    with serving(fake) as address:
        assert call(address, ASKED, QUICK).request_id


@both
def test_a_bad_request_names_its_fields(call: Call) -> None:
    fake = Fake(refusals=[refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", field="steps")])
    with serving(fake) as address, pytest.raises(InvalidRequest) as caught:
        call(address, ASKED, QUICK)

    assert caught.value.violations == (Violation("steps", "must be 1"),)
    assert {caught.value.request_id} == fake.ids


@both
def test_where_nobody_serves_it_is_unavailable_after_the_budget(call: Call) -> None:
    with pytest.raises(Unavailable):
        call("127.0.0.1:9", ASKED, Retry(budget_s=0.2, first_s=0.05))


@both_to_file
def test_a_stream_that_breaks_is_begun_again(call: Call, tmp_path: Path) -> None:
    fake = Fake(breaks=2)
    with serving(fake) as address:
        call(address, tmp_path / "calm.flac", QUICK)

    assert (tmp_path / "calm.flac").read_bytes() == AUDIO
    assert (len(fake.asked), len(fake.ids)) == (3, 1)


@both_to_file
def test_a_file_that_is_not_what_was_made_is_not_there(call: Call, tmp_path: Path) -> None:
    (tmp_path / "calm.flac").write_bytes(b"the one before")
    with serving(Fake(sha256="0" * 64)) as address, pytest.raises(DataLoss):
        call(address, tmp_path / "calm.flac", QUICK)

    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the one before"]


def test_leaving_a_stream_ends_the_call() -> None:
    fake = Fake()
    with serving(fake) as address, Client(address) as client:
        events = client.stream(pb.GenerateRequest(prompt="endless"))
        assert next(events).progress.step == 1
        events.close()  # type: ignore[attr-defined]

        assert fake.ended.wait(10)


def test_cancelling_the_task_ends_the_call() -> None:
    fake = Fake()

    async def main(address: str) -> None:
        async with AsyncClient(address) as client:
            task = asyncio.create_task(client.generate(pb.GenerateRequest(prompt="endless")))
            while not fake.asked:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with serving(fake) as address:
        asyncio.run(main(address))

        assert fake.ended.wait(10)


@pytest.mark.parametrize("prompt", ["endless", "calm"])
def test_giving_up_from_another_thread_ends_the_call_or_its_waiting(prompt: str) -> None:
    fake, cancel = Fake(), Cancel()
    if prompt == "calm":
        fake.refusals = [refused(grpc.StatusCode.UNAVAILABLE, "BUSY", 60)]

    def give_up() -> None:
        while not fake.asked:
            time.sleep(0.01)
        cancel.cancel()

    with serving(fake) as address, Client(address) as client:
        threading.Thread(target=give_up).start()
        with pytest.raises(Cancelled):
            client.generate(pb.GenerateRequest(prompt=prompt), cancel=cancel)


def test_a_deadline_is_an_error_of_its_own() -> None:
    with serving(Fake()) as address, Client(address) as client, pytest.raises(DeadlineExceeded):
        client.generate(pb.GenerateRequest(prompt="endless"), timeout_s=0.2)


def test_pieces_and_chunks_come_as_the_server_sends_them() -> None:
    with serving(Fake()) as address, Client(address) as client:
        kinds = [event.WhichOneof("event") for event in client.stream(ASKED)]

    assert kinds == ["progress", "response", *["audio_chunk"] * 3]


def of(call: Callable[[], object]) -> LuthierError:
    with pytest.raises(LuthierError) as caught:
        call()
    return caught.value


def test_a_real_server_names_callers_and_keeps_their_quota(secured: Secured) -> None:
    ca, quick = secured.authority, pb.GenerateRequest(prompt="calm", seconds_total=1, steps=2)
    with (
        Client(secured.address, tls_ca=ca) as nobody,
        Client(secured.address, tls_ca=ca, token="wrong") as wrong,
        Client(secured.address, tls_ca=ca, token=TOKEN) as shop,
    ):
        assert isinstance(of(lambda: nobody.generate(quick)), Unauthenticated)
        assert of(lambda: wrong.generate(quick)).reason == "BAD_CREDENTIALS"
        assert shop.generate(quick).samples > 0
        spent = of(lambda: shop.generate(quick))

    assert isinstance(spent, ResourceExhausted)
    assert not isinstance(spent, PermissionDenied)
    assert (spent.reason, spent.metadata["bound"]) == ("QUOTA_SPENT", "1")
    assert 0 < (spent.retry_after_s or 0) <= 86_400


@pytest.mark.parametrize(
    "wrong", [{"token": "a", "token_file": "b"}, {"tls_cert": "a"}, {"tls_cert": "a", "tls_key": "b"}]
)
def test_what_does_not_go_together_is_refused_at_once(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"token|tls"):
        Client("127.0.0.1:9", **wrong)  # type: ignore[arg-type]

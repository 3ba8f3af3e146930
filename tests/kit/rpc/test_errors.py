"""One error, one status, one ErrorInfo; and back again on the caller's side."""

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.rpc import (
    CALLER_IN_FLIGHT,
    Aborted,
    Busy,
    Checks,
    DataLoss,
    FailedPrecondition,
    InvalidRequest,
    LuthierError,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Server,
    Unauthenticated,
    Unavailable,
    error_of,
    is_retryable,
    status_of,
)
from tests.kit.rpc.serving import Analysis, analyze

TABLE: list[tuple[LuthierError, str]] = [
    (InvalidRequest(violations=[("steps", "must be between 1 and 1000, got 0")]), "INVALID_ARGUMENT"),
    (NotFound("no such model", reason="MODEL_NOT_FOUND"), "NOT_FOUND"),
    (FailedPrecondition("differs", reason="ARTIFACT_DIGEST_MISMATCH"), "FAILED_PRECONDITION"),
    (DataLoss("corrupt"), "DATA_LOSS"),
    (PermissionDenied("bucket", reason="BUCKET_NOT_ALLOWED"), "PERMISSION_DENIED"),
    (Unauthenticated("no token"), "UNAUTHENTICATED"),
    (QuotaExceeded("too much"), "RESOURCE_EXHAUSTED"),
    (Aborted("edited"), "ABORTED"),
    (Unavailable("store is down", reason="STORE_DOWN", retry_after_s=2.5), "UNAVAILABLE"),
]


@pytest.mark.parametrize(("error", "status"), TABLE, ids=[row[1] for row in TABLE])
def test_each_error_has_its_status_with_one_error_info(
    server: Server, servicer: Analysis, error: LuthierError, status: str
) -> None:
    servicer.raises = error
    with grpc.insecure_channel(server.address) as plain, pytest.raises(grpc.RpcError) as caught:
        analyze(plain)
    assert caught.value.code().name == status
    found = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # a failed call is its own error
    assert found
    infos = [detail for detail in found.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    info = error_details_pb2.ErrorInfo()
    infos[0].Unpack(info)
    assert (len(infos), info.reason, info.domain) == (1, error.reason, "analysis")


@pytest.mark.parametrize("text", ["x" * 100_000, "\U0001f3b8" * 100_000, "%\n" * 100_000, "\ud800" * 100_000])
def test_a_long_status_is_cut_and_keeps_its_reason_and_a_field(server: Server, servicer: Analysis, text: str) -> None:
    servicer.raises = InvalidRequest(text, reason="TOO_LONG", violations=[(text, text)] * 30, one=text, other=text)
    with grpc.insecure_channel(server.address) as plain, pytest.raises(grpc.RpcError) as caught:
        analyze(plain)
    found = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # a failed call is its own error
    assert found
    again = error_of(found)
    assert isinstance(again, InvalidRequest)
    assert (again.reason, len(again.violations) > 0) == ("TOO_LONG", True)


def test_unavailable_carries_retry_info_and_pushback(server: Server, servicer: Analysis) -> None:
    servicer.raises = Unavailable("store is down", retry_after_s=2.5)
    with grpc.insecure_channel(server.address) as plain, pytest.raises(grpc.RpcError) as caught:
        analyze(plain)
    trailing = {item.key: str(item.value) for item in caught.value.trailing_metadata()}
    assert trailing["grpc-retry-pushback-ms"] == "2500"


@pytest.mark.parametrize(
    "error",
    [
        *(error for error, _ in TABLE),
        Busy("full", retry_after_s=3.0),
        InvalidRequest("too long", reason="MIDI_TOO_LONG", violations=[("midi", "at most 10 notes")], notes="11"),
    ],
    ids=lambda error: error.reason,
)
def test_a_status_brings_back_the_error_that_it_was_made_of(error: LuthierError) -> None:
    again = error_of(status_of(error, "analysis"))
    assert (type(again), str(again), again.reason, again.metadata) == (
        type(error), str(error), error.reason, error.metadata,
    )  # fmt: skip
    assert getattr(again, "violations", None) == getattr(error, "violations", None)
    assert getattr(again, "retry_after_s", None) == getattr(error, "retry_after_s", None)


def test_the_same_call_may_be_answered_later_only_where_waiting_helps() -> None:
    later = [Unavailable("down"), Busy("full"), QuotaExceeded("yours", reason=CALLER_IN_FLIGHT)]
    never = [QuotaExceeded("too big"), QuotaExceeded("five died", reason="CALL_LOST"), NotFound("x"), ValueError("x")]
    assert [is_retryable(error) for error in (*later, *never)] == [True] * 3 + [False] * 4


def test_too_many_items_are_counted_and_not_looked_at() -> None:
    checks = Checks()
    assert list(checks.items("tags", ["a", "b"], 0, 2)) == [("tags[0]", "a"), ("tags[1]", "b")]
    assert list(checks.items("tags", ["a", "b", "c"], 0, 2)) == []
    assert checks.violations == [("tags", "must have 0 to 2 items, got 3")]


def test_every_part_of_an_artifact_reference_is_bounded() -> None:
    checks = Checks()
    digest = "0" * 64
    ref = ArtifactRef(key=f"clips/{digest}.flac", sha256=digest, size_bytes=-1, media_type="x" * 256)
    assert not checks.artifact("audio", ref)
    assert [field for field, _ in checks.violations] == ["audio.size_bytes", "audio.media_type"]

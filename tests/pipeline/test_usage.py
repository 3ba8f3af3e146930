"""`luthier usage`: what callers had, and what they may have."""

from google.protobuf.timestamp_pb2 import Timestamp

from luthier.inference.v1.inference_pb2 import GetUsageResponse, ListUsageResponse, Usage
from tests.pipeline.fakes import FakeClients, Stub, luthier

MIDNIGHT = Timestamp(seconds=1_796_083_200)  # 2026-12-01
SHOP = Usage(caller="shop", calls=3, max_calls=1000, audio_seconds=142.5, steps=300)


def test_ones_own_use_is_told_with_its_bounds_and_when_it_is_renewed() -> None:
    inference = Stub(GetUsage=GetUsageResponse(usage=SHOP, renewed_at=MIDNIGHT))

    lines = luthier("usage", FakeClients(inference=inference)).out.splitlines()

    assert lines[1].split() == ["shop", "3", "of", "1000", "142.5", "300"]
    assert lines[-1] == "renewed at 2026-12-01 00:00 UTC"


def test_an_operator_sees_every_caller() -> None:
    inference = Stub(ListUsage=ListUsageResponse(callers=[Usage(caller="radio"), SHOP], renewed_at=MIDNIGHT))

    document = luthier("usage --all --json", FakeClients(inference=inference)).document

    assert [each["caller"] for each in document["callers"]] == ["radio", "shop"]

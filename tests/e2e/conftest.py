"""What only these tests look at: the clips in curation, and an evaluation."""

import pytest

from luthier.curation.v1 import curation_pb2 as curation
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from tests.conftest import Answer
from tests.system import System


@pytest.fixture(scope="session")
def clips(system: System, ran: Answer) -> list[curation.CuratedClip]:
    stub = CurationServiceStub(system.channel("curation"))
    request = curation.ListClipsRequest(filter=curation.ClipFilter(collection="way"), page_size=500)
    return list(stub.ListClips(request).clips)


@pytest.fixture(scope="session")
def judged(system: System, base: Answer, tuned: Answer) -> Answer:
    return system.luthier(
        "evaluate", "--model", tuned["model"], "--baseline", base["model"], "--max-rows", "2", "--steps", "2",
        "--seconds", "4", "--report", str(system.folder / "report.html"),
    )  # fmt: skip

"""Every service as its own process, started as `make up` starts them, in a home of its own."""

import pytest

from luthier.curation.v1 import curation_pb2 as curation
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from tests.system import SONGS, System, songbook, started


@pytest.fixture(scope="session")
def system(tmp_path_factory) -> System:
    with started(tmp_path_factory.mktemp("luthier")) as system:
        yield system


@pytest.fixture(scope="session")
def folder(system):
    return songbook(system.folder / "songs", keep=SONGS)


@pytest.fixture(scope="session")
def ran(system, folder):
    return system.luthier("run", str(folder), "--collection", "way", "--licence", "Apache-2.0")


@pytest.fixture(scope="session")
def clips(system, ran):
    stub = CurationServiceStub(system.channel("curation"))
    request = curation.ListClipsRequest(filter=curation.ClipFilter(collection="way"), page_size=500)
    return list(stub.ListClips(request).clips)


@pytest.fixture(scope="session")
def exported(system, clips):
    system.luthier("review", "--collection", "way", "--accept", "checked", "--as", "test")
    shares = ("--validation-share", "0.25", "--test-share", "0")
    return system.luthier("export", "--collection", "way", "--out", str(system.folder / "dataset"), *shares)


@pytest.fixture(scope="session")
def base(system, exported):
    return system.luthier("train", "--tiny-base", "--dataset", "way", "--name", "base", "--steps", "8")


@pytest.fixture(scope="session")
def tuned(system, base):
    more = ("--steps", "6", "--batch-size", "2", "--validate-every", "3", "--learning-rate", "0.001")
    return system.luthier("train", "--base", base["model"], "--dataset", "way", "--name", "tuned", *more)


@pytest.fixture(scope="session")
def judged(system, base, tuned):
    return system.luthier(
        "evaluate", "--model", tuned["model"], "--baseline", base["model"], "--max-rows", "2", "--steps", "2",
        "--seconds", "4", "--report", str(system.folder / "report.html"),
    )  # fmt: skip

"""The service of the kit's README serves, and its caller gets the error that it raised."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from luthier.enrichment.v1 import enrichment_pb2 as pb
from luthier.enrichment.v1.enrichment_pb2_grpc import EnrichmentServiceStub
from luthier_kit.rpc import Channel, NotFound
from tests.support.services import running

README = Path(__file__).parents[2] / "services/kit/README.md"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The README's program as a module."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    module = ModuleType("kit_page")
    monkeypatch.setitem(sys.modules, "kit_page", module)  # where its dataclass looks for itself
    exec(compile(blocks[0], README.name, "exec"), module.__dict__)
    return module


def test_it_serves_and_refuses_by_its_own_error(page: ModuleType, tmp_path: Path) -> None:
    settings = page.Settings(address="127.0.0.1:0", store_folder=tmp_path)
    request = pb.EnrichSongRequest(song={"title": "Unknown"})

    with running(page.build(settings), settings) as address:
        stub = EnrichmentServiceStub(Channel(address))
        listed = stub.ListProviders(pb.ListProvidersRequest(), timeout=10)
        with pytest.raises(NotFound, match="Unknown") as refused:
            stub.EnrichSong(request, timeout=10)

    assert listed == pb.ListProvidersResponse()
    assert refused.value.reason == "SONG_UNKNOWN"

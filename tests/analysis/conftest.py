"""The service in this process with a store in a folder, and sound to send to it."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from luthier.analysis.v1.analysis_pb2_grpc import AnalysisServiceStub
from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_analysis.service import build
from luthier_analysis.settings import AnalysisSettings
from luthier_kit.rpc import Channel
from luthier_kit.store import Store, open_store
from luthier_music.audio import write_audio
from tests.support.services import running

from .synth import RATE_HZ, stereo

needs_beatnet = pytest.mark.skipif(
    not all(map(find_spec, ("torch", "BeatNet"))), reason="the extra 'beatnet' is not installed"
)
needs_vibenet = pytest.mark.skipif(
    not all(map(find_spec, ("onnxruntime", "vibenet"))), reason="the extra 'vibenet' is not installed"
)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> AnalysisSettings:
    folder = tmp_path_factory.mktemp("analysis")
    (folder / "scratch").mkdir()
    return AnalysisSettings(
        address="127.0.0.1:0", store_folder=folder / "store", scratch=folder / "scratch", slots=2, grace_s=1
    )


@pytest.fixture(scope="session")
def store(settings: AnalysisSettings) -> Store:
    return open_store(settings)


@pytest.fixture(scope="session")
def service(settings: AnalysisSettings) -> Iterator[AnalysisServiceStub]:
    with running(build(settings), settings) as address, Channel(address, retry_budget_s=20) as channel:
        yield AnalysisServiceStub(channel)


@pytest.fixture
def put(store: Store, tmp_path: Path) -> Callable[[np.ndarray], ArtifactRef]:
    """Stores mono samples as a stereo FLAC file."""

    def putter(mono: np.ndarray, rate_hz: int = RATE_HZ) -> ArtifactRef:
        write_audio(tmp_path / "sound.flac", stereo(mono), rate_hz)
        return store.blobs.put_file("mixes", tmp_path / "sound.flac", "audio/flac")

    return putter

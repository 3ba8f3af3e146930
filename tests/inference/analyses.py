"""An analysis service that keeps the contract and hears what a test says, and inference that asks it over gRPC."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc
from luthier.common.v1.common_pb2 import ArtifactRef, KeyFact, TempoFact
from luthier.inference.v1 import inference_pb2_grpc
from luthier_inference.app import build_service
from luthier_kit.registry import register
from luthier_kit.rpc import Service
from luthier_music.key_facts import key_fact
from luthier_music.keys import parse_key
from tests.model.small import ModelFiles
from tests.support.services import running, temp_store

from .conftest import Served, settings_for, version_of


def heard(tempo_bpm: float | None = None, key: str = "") -> pb.AnalyzeAudioResponse:
    """What analysis answers: None and empty = nothing was found."""
    found = key_fact(parse_key(key)) if key else KeyFact()
    found.estimator = "keys/1"
    return pb.AnalyzeAudioResponse(tempo=TempoFact(tempo_bpm=tempo_bpm or 0, estimator="clicks/1"), key=found)


@dataclass
class Analysis(analysis_pb2_grpc.AnalysisServiceServicer):
    """Answers with what `hears` says of the number of the call, from 1."""

    hears: Callable[[int], pb.AnalyzeAudioResponse] = lambda _: heard()
    asked: list[pb.AnalyzeAudioRequest] = field(default_factory=list)
    decoded: list[ArtifactRef] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event | None = None

    def AnalyzeAudio(self, request: pb.AnalyzeAudioRequest, context: grpc.ServicerContext) -> pb.AnalyzeAudioResponse:
        self.asked.append(request)
        self.came.set()
        if self.hold:
            self.hold.wait(20)
        return self.hears(len(self.asked))

    def DecodeAudio(self, request: pb.DecodeAudioRequest, context: grpc.ServicerContext) -> pb.DecodeAudioResponse:
        self.decoded.append(request.original)
        return pb.DecodeAudioResponse(audio=ArtifactRef(bucket="luthier", key="decoded/1.flac"))

    def begin(self, hears: Callable[[int], pb.AnalyzeAudioResponse]) -> None:
        """For the next test."""
        self.hears, self.hold = hears, None
        self.asked.clear()
        self.decoded.clear()
        self.came.clear()


@contextmanager
def listening(model_files: ModelFiles, folder: Path, **more: Any) -> Iterator[tuple[Served, Analysis]]:
    """Inference that serves `tiny` and knows the analysis service; `more` are settings."""
    analysis = Analysis()  # type: ignore[abstract]
    service = Service(contract=pb.DESCRIPTOR.services_by_name["AnalysisService"], servicer=analysis)
    with running(service) as analysis_address, temp_store(folder / "store") as store:
        settings = settings_for(folder, default_model="tiny", analysis_address=analysis_address, **more)
        register(store, version_of(store, model_files, "tiny"))
        with running(build_service(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            yield Served(store, inference_pb2_grpc.InferenceServiceStub(channel), address), analysis

"""An evaluation service that keeps the contract: its space is the pitch of a tone and the loudness of its halves."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import soundfile
from google.rpc import status_pb2

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.evaluation.v1 import evaluation_pb2_grpc
from luthier_curation.embedding import Embedder
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, LuthierError, Service
from luthier_kit.store import Store
from tests.support.services import running

TONES_HZ = [220 * 2 ** (index / 12) for index in range(8)]
"""Of conftest's eight clips."""


def spectrum(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """How strong each of TONES_HZ is (8,), of length 1."""
    at_s = np.arange(len(samples)) / rate_hz
    strength = np.array([abs(np.exp(-2j * np.pi * hz * at_s) @ samples) for hz in TONES_HZ])
    return (strength / np.linalg.norm(strength)).astype(np.float32)


@contextmanager
def serving(evaluation: "Evaluation") -> Iterator[str]:
    """Serves it; host:port."""
    contract = pb.DESCRIPTOR.services_by_name["EvaluationService"]
    with running(Service(contract=contract, servicer=evaluation)) as address:
        yield address


@contextmanager
def asking(evaluation: "Evaluation") -> Iterator[Embedder]:
    """Curation's client of such a service, over gRPC."""
    with serving(evaluation) as address:
        embedder = Embedder(address)
        yield embedder
        embedder.close()


@dataclass
class Evaluation(evaluation_pb2_grpc.EvaluationServiceServicer):
    """`tone N` means the N-th tone. Without `weights_sha256` the weights are absent."""

    store: Store
    folder: Path
    weights_sha256: str = "a" * 64
    texts: bool = True
    fails: LuthierError | None = None
    heard: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    def ListMetricWeights(
        self, request: pb.ListMetricWeightsRequest, context: grpc.ServicerContext
    ) -> pb.ListMetricWeightsResponse:
        bring = "" if self.weights_sha256 else "luthier metric-weights clap FOLDER"
        state = pb.MetricWeightsState(name="clap", title="CLAP", weights_sha256=self.weights_sha256, bring=bring)
        return pb.ListMetricWeightsResponse(embedders=[state])

    def EmbedAudio(self, request: pb.EmbedAudioRequest, context: grpc.ServicerContext) -> pb.EmbedAudioResponse:
        self._check()
        vectors = [self._vector(audio) for audio in request.audio]
        return pb.EmbedAudioResponse(vectors=vectors, weights_sha256=self.weights_sha256)

    def _vector(self, audio: ArtifactRef) -> pb.AudioVector:
        self.heard.append(audio.sha256)
        try:
            samples, rate_hz = soundfile.read(self.store.blobs.fetch(audio, self.folder), always_2d=True)
        except (soundfile.LibsndfileError, LuthierError) as error:
            return pb.AudioVector(error=status_pb2.Status(code=3, message=str(error)))
        return pb.AudioVector(values=spectrum(samples[:, 0], rate_hz).tolist() if samples.any() else [])

    def EmbedText(self, request: pb.EmbedTextRequest, context: grpc.ServicerContext) -> pb.EmbedTextResponse:
        self._check()
        if not self.texts:
            raise InvalidRequest(violations=[("embedder", "must be clap")])
        self.read += request.texts
        named = [int(found[0]) if (found := re.findall(r"\d+", text)) else 0 for text in request.texts]
        vectors = [pb.TextVector(values=[float(tone == number) for tone in range(8)]) for number in named]
        return pb.EmbedTextResponse(vectors=vectors, weights_sha256=self.weights_sha256)

    def _check(self) -> None:
        if self.fails:
            raise self.fails
        if not self.weights_sha256:
            raise FailedPrecondition("the weights of CLAP are not there", reason="WEIGHTS_ABSENT")

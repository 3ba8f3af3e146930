"""Vectors of sounds and of texts, from the evaluation service, which has the embedders and their weights.

Vectors of one embedder with the same weights lie in one space: the nearer two are, the more alike is what they stand
for. Those of other weights cannot be compared with them.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1.evaluation_pb2 import (
    EmbedAudioRequest,
    EmbedAudioResponse,
    EmbedTextRequest,
    EmbedTextResponse,
    ListMetricWeightsRequest,
    ListMetricWeightsResponse,
)
from luthier.evaluation.v1.evaluation_pb2_grpc import EvaluationServiceStub
from luthier_kit.rpc import Channel, FailedPrecondition, InvalidRequest

Vector = NDArray[np.float32]

AUDIO_TIMEOUT_S: Final = 300.0
"""For one request of audio."""
TEXT_TIMEOUT_S: Final = 30.0
"""For a text, and the embedder's opening where it is the first."""
STATE_TIMEOUT_S: Final = 5.0
RETRY_BUDGET_S: Final = 5.0
FRESH_S: Final = 30.0
"""How long it is believed which weights count."""
TEXTS_KEPT: Final = 256
LENGTH_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class Heard:
    """Of pieces of audio a vector (dimensions,) of length 1 each, None where there is none, by the weights with this
    digest."""

    vectors: list[Vector | None]
    weights_sha256: str


@dataclass(frozen=True)
class Meant:
    """Of a text a vector (dimensions,) of length 1, by the weights with this digest."""

    vector: Vector
    weights_sha256: str


class Embedder:
    """Asks the evaluation service at an address, host:port, for one embedder's vectors; empty = there is none. Threads
    may share it."""

    def __init__(self, address: str = "", name: str = "clap") -> None:
        self.name = name
        self._channel = Channel(address, slots_hint=2, retry_budget_s=RETRY_BUDGET_S) if address else None
        self._evaluation = EvaluationServiceStub(self._channel) if self._channel else None
        self._texts: OrderedDict[str, Meant] = OrderedDict()
        self._lock = threading.Lock()
        self._weights, self._believed_until = "", 0.0

    @property
    def known(self) -> bool:
        """Whether there is an evaluation service."""
        return self._evaluation is not None

    def weights_sha256(self) -> str:
        """Digest of the weights that count now, known for half a minute. FailedPrecondition where there are none, or
        no evaluation service is known; what evaluation raises."""
        if self._weights and time.monotonic() < self._believed_until:
            return self._weights
        answer: ListMetricWeightsResponse = self._asked().ListMetricWeights(
            ListMetricWeightsRequest(), timeout=STATE_TIMEOUT_S
        )
        state = next((state for state in answer.embedders if state.name == self.name), None)
        if state is None:
            text = f"the evaluation service has no embedder {self.name!r} (LUTHIER_SOUND_EMBEDDER)"
            raise FailedPrecondition(text, reason="WEIGHTS_ABSENT")
        if not state.weights_sha256:
            text = f"the weights of {state.title} are not there: {state.bring}"
            raise FailedPrecondition(text, reason="WEIGHTS_ABSENT")
        self._weights, self._believed_until = state.weights_sha256, time.monotonic() + FRESH_S
        return self._weights

    def audio(self, pieces: Sequence[ArtifactRef]) -> Heard:
        """Vectors of stored audio, in its order. FailedPrecondition; what evaluation raises."""
        answer: EmbedAudioResponse = self._asked().EmbedAudio(
            EmbedAudioRequest(embedder=self.name, audio=pieces), timeout=AUDIO_TIMEOUT_S
        )
        if len(answer.vectors) != len(pieces):
            raise FailedPrecondition("evaluation answered another number of vectors", reason="VECTORS_INVALID")
        return Heard([_vector(one.values) if one.values else None for one in answer.vectors], answer.weights_sha256)

    def text(self, text: str) -> Meant:
        """The vector of a text; what was asked lately by the same weights is not asked again. FailedPrecondition where
        the embedder's space holds no texts; what evaluation raises."""
        weights = self.weights_sha256()
        with self._lock:
            known = self._texts.get(text)
            if known and known.weights_sha256 == weights:
                self._texts.move_to_end(text)
                return known
        try:
            answer: EmbedTextResponse = self._asked().EmbedText(
                EmbedTextRequest(embedder=self.name, texts=[text]), timeout=TEXT_TIMEOUT_S
            )
        except InvalidRequest as error:
            if "embedder" not in {field for field, _ in error.violations}:
                raise
            said = f"{self.name} knows no texts; clips are found by another clip only"
            raise FailedPrecondition(said, reason="EMBEDDER_WITHOUT_TEXTS") from error
        meant = Meant(_vector(answer.vectors[0].values), answer.weights_sha256)
        with self._lock:
            self._texts[text] = meant
            while len(self._texts) > TEXTS_KEPT:
                self._texts.popitem(last=False)
        return meant

    def close(self) -> None:
        """Ends the calls that are under way."""
        if self._channel:
            self._channel.close()

    def _asked(self) -> EvaluationServiceStub:
        if self._evaluation is None:
            text = "this server knows no evaluation service (LUTHIER_EVALUATION_ADDRESS), which embeds sounds"
            raise FailedPrecondition(text, reason="EVALUATION_NOT_CONFIGURED")
        return self._evaluation


def _vector(values: Sequence[float]) -> Vector:
    """FailedPrecondition where it is none of length 1."""
    vector = np.asarray(values, np.float32)
    if not abs(float(np.linalg.norm(vector)) - 1) < LENGTH_TOLERANCE:  # NaN, too
        raise FailedPrecondition("evaluation answered a vector that is not of length 1", reason="VECTORS_INVALID")
    return vector

"""The two services that an evaluation asks: inference makes the audio, analysis measures it."""

import threading
import time
from collections.abc import Callable
from typing import Any

from luthier.analysis.v1 import analysis_pb2
from luthier.analysis.v1.analysis_pb2_grpc import AnalysisServiceStub
from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.inference.v1 import inference_pb2
from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub
from luthier_evaluation.settings import EvaluationSettings
from luthier_kit.client import Client
from luthier_kit.errors import Cancelled, Unavailable

FEATURES = (analysis_pb2.FEATURE_TEMPO, analysis_pb2.FEATURE_KEY, analysis_pb2.FEATURE_LOUDNESS)
ANALYZE_TIMEOUT_S = 600.0
SLICE_S = 2.0  # a backend that is down is tried for so long before looking whether to stop


class Backend:
    """Clients of both. `close` ends every call, also those that wait for a backend to come back."""

    def __init__(self, settings: EvaluationSettings) -> None:
        self.settings = settings
        self._inference = Client(settings.inference_address, InferenceServiceStub, slots_hint=settings.slots)
        self._analysis = Client(settings.analysis_address, AnalysisServiceStub, slots_hint=settings.slots)
        self._closed = threading.Event()

    def generate(self, request: inference_pb2.GenerateRequest) -> inference_pb2.GenerateResponse:
        """The audio. Raises the LuthierError that inference meant."""
        timeout_s = self.settings.generate_timeout_s
        return self._patiently(
            lambda: self._inference.call("Generate", request, timeout_s=timeout_s, patience_s=SLICE_S)
        )

    def analyze(self, audio: ArtifactRef) -> analysis_pb2.AnalyzeAudioResponse:
        """Tempo, key and loudness, by analysis' default estimators: those that labelled the data."""
        request = analysis_pb2.AnalyzeAudioRequest(audio=audio, features=FEATURES)
        return self._patiently(
            lambda: self._analysis.call("AnalyzeAudio", request, timeout_s=ANALYZE_TIMEOUT_S, patience_s=SLICE_S)
        )

    def close(self) -> None:
        self._closed.set()
        self._inference.close()
        self._analysis.close()

    def _patiently(self, call: Callable[[], Any]) -> Any:
        give_up = time.monotonic() + self.settings.patience_s
        while True:
            if self._closed.is_set():
                raise Cancelled("the service stops", reason="STOPPING")
            try:
                return call()
            except Unavailable:
                if time.monotonic() > give_up:
                    raise

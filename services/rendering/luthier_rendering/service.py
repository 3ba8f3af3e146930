"""luthier.rendering.v1.RenderingService: messages to domain calls and back."""

import grpc

from luthier.rendering.v1 import rendering_pb2, rendering_pb2_grpc
from luthier_kit.checks import Checks
from luthier_rendering.backends import BACKENDS
from luthier_rendering.engine import Engine, Patience, RenderOrder
from luthier_rendering.mix import Levels

_DEFAULT = Levels()


class RenderingServicer(rendering_pb2_grpc.RenderingServiceServicer):
    """Serves an engine; `default_backend` plays requests that name none."""

    def __init__(self, engine: Engine, default_backend: str) -> None:
        self._engine, self._default_backend = engine, default_backend

    def InspectMidi(
        self, request: rendering_pb2.InspectMidiRequest, _: grpc.ServicerContext
    ) -> rendering_pb2.InspectMidiResponse:
        checks = Checks()
        checks.artifact("midi", request.midi)
        checks.done()
        return self._engine.inspect(request.midi)

    def RenderSong(
        self, request: rendering_pb2.RenderSongRequest, context: grpc.ServicerContext
    ) -> rendering_pb2.RenderSongResponse:
        order = self._order(request)
        patience = Patience(context.time_remaining(), lambda: not context.is_active())
        return self._engine.render(request.midi, order, patience)

    def ListInstruments(
        self, request: rendering_pb2.ListInstrumentsRequest, _: grpc.ServicerContext
    ) -> rendering_pb2.ListInstrumentsResponse:
        checks = Checks()
        checks.one_of("backend", request.backend or self._default_backend, BACKENDS)
        checks.done()
        return self._engine.instruments([request.backend] if request.backend else list(BACKENDS))

    def _order(self, request: rendering_pb2.RenderSongRequest) -> RenderOrder:
        levels = Levels(
            _given(request, "stem_loudness_lufs", _DEFAULT.stem_loudness_lufs),
            _given(request, "stem_jitter_db", _DEFAULT.stem_jitter_db),
            _given(request, "mix_loudness_lufs", _DEFAULT.mix_loudness_lufs),
        )
        checks = Checks()
        checks.artifact("midi", request.midi)
        checks.one_of("backend", request.backend or self._default_backend, BACKENDS)
        checks.within("mix_loudness_lufs", levels.mix_loudness_lufs, -40, -6)
        checks.within("stem_loudness_lufs", levels.stem_loudness_lufs, -50, -10)
        checks.within("stem_jitter_db", levels.stem_jitter_db, 0, 12)
        checks.done()
        seed = request.seed if request.HasField("seed") else None
        return RenderOrder(request.backend or self._default_backend, levels, seed, request.mix_only)


def _given(request: rendering_pb2.RenderSongRequest, field: str, default: float) -> float:
    return getattr(request, field) if request.HasField(field) else default

"""`luthier.inference.v1.InferenceService`: translates messages to the studio, the catalogue and the registrar."""

import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc as pb_grpc
from luthier_inference import metrics
from luthier_inference.catalogue import Catalogue
from luthier_inference.messages import model_of, order_of, response_of, with_request_id
from luthier_inference.order import WIDEST
from luthier_inference.registering import MAX_REASON_CHARS, MAX_REGISTERED_BY_CHARS, Registrar
from luthier_inference.shelf import Shelf
from luthier_inference.streaming import produced
from luthier_inference.studio import Job, OnStep, Studio
from luthier_inference.watching import Watcher
from luthier_kit import models
from luthier_kit.artifacts import Artifacts
from luthier_kit.checks import Checks
from luthier_kit.errors import LuthierError
from luthier_kit.models import ModelVersion
from luthier_kit.server import Service

MAX_INLINE_BYTES = 3 << 20
CHUNK_BYTES = 1 << 20
MAX_TEXT_ENCODER_FILES = 16


class InferenceServicer(pb_grpc.InferenceServiceServicer):
    """The four methods."""

    def __init__(
        self, store: Artifacts, catalogue: Catalogue, shelf: Shelf, studio: Studio, registrar: Registrar
    ) -> None:
        self.store, self.catalogue, self.shelf = store, catalogue, shelf
        self.studio, self.registrar = studio, registrar

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:
        request = with_request_id(request)
        return self._answer(request, self._job(request), lambda *_: None, _stop_of(context))

    def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamGenerateResponse]:
        asked = with_request_id(request.request)
        job, stop = self._job(asked), _stop_of(context)

        def work(emit: OnStep) -> pb.GenerateResponse:
            return self._answer(asked, job, emit, stop)

        for event in produced(work, stop):
            if isinstance(event, pb.GenerateResponse):
                yield pb.StreamGenerateResponse(response=event)
                yield from self._chunks(event)
            else:
                step, total, sigma, eta_s = event
                progress = pb.GenerateProgress(step=step, total=total, sigma=sigma, eta_s=eta_s)
                yield pb.StreamGenerateResponse(progress=progress)

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:
        del context
        loaded = self.shelf.loaded()
        names = [name for name in self.catalogue.names() if request.name in ("", name)]
        listed = [version for name in names for version in reversed(models.versions(self.store, name))]
        return pb.ListModelsResponse(
            models=[self._model(version, loaded) for version in listed],
            default_model=self.catalogue.default_name(),
        )

    def RegisterModel(
        self, request: pb.RegisterModelRequest, context: grpc.ServicerContext
    ) -> pb.RegisterModelResponse:
        del context
        checks = Checks()
        checks.name("name", request.name)
        checks.artifact("checkpoint", request.checkpoint)
        checks.artifact("configuration", request.configuration)
        checks.count("text_encoder", request.text_encoder, 0, MAX_TEXT_ENCODER_FILES)
        checks.text("registered_by", request.registered_by, max_chars=MAX_REGISTERED_BY_CHARS, blank=False)
        checks.text("reason", request.reason, max_chars=MAX_REASON_CHARS)
        checks.done()
        profile = self.registrar.register(
            ModelVersion(
                name=request.name,
                checkpoint=request.checkpoint,
                configuration=request.configuration,
                text_encoder=[(item.name, item.file) for item in request.text_encoder],
                created_by=request.registered_by,
                reason=request.reason,
            )
        )
        loaded = profile.version.digest in self.shelf.loaded()
        return pb.RegisterModelResponse(model=model_of(profile.version, profile, loaded=loaded))

    def _job(self, request: pb.GenerateRequest) -> Job:
        """The job of a request. A bad request is refused as such even when its model cannot be found."""
        try:
            profile = self.catalogue.resolve(request.model)
        except LuthierError:
            order_of(request, WIDEST)
            raise
        init = request.init_audio if request.HasField("init_audio") else None
        return Job(profile, order_of(request, profile.bounds), init)

    def _answer(
        self, request: pb.GenerateRequest, job: Job, on_step: OnStep, stop: threading.Event
    ) -> pb.GenerateResponse:
        if job.init_audio:
            self.store.exists(job.init_audio)  # refuses a bad reference, also where the audio is made already
        response, reused = self.store.run(
            self.studio.action(job),
            pb.GenerateResponse,
            lambda: response_of(job, self.studio.make(job, on_step, stop)),
        )
        metrics.REUSED.inc(reused)
        response.request_id, response.model = request.request_id, job.profile.version.label
        if request.inline_audio:
            self._inline(response)
        return response

    def _inline(self, response: pb.GenerateResponse) -> None:
        size = response.audio.size_bytes
        if size <= MAX_INLINE_BYTES:
            response.inline_audio = self.store.read(response.audio, max_bytes=MAX_INLINE_BYTES)
            return
        response.notes.append(
            f"inline_audio: the audio has {size} bytes, at most {MAX_INLINE_BYTES} are inlined; "
            "fetch it by its reference, or call StreamGenerate"
        )

    def _chunks(self, response: pb.GenerateResponse) -> Iterator[pb.StreamGenerateResponse]:
        with (
            TemporaryDirectory(dir=self.studio.scratch) as folder,
            self.store.fetch(response.audio, Path(folder)).open("rb") as file,
        ):
            while chunk := file.read(CHUNK_BYTES):
                yield pb.StreamGenerateResponse(audio_chunk=chunk)

    def _model(self, version: ModelVersion, loaded: set[str]) -> pb.Model:
        try:
            profile = self.catalogue.profile(version)
        except LuthierError:
            profile = None  # listed all the same, so that an operator sees it
        return model_of(version, profile, loaded=version.digest in loaded)


def service(servicer: InferenceServicer, watcher: Watcher) -> Service:
    """What the kit serves: SERVING means that the named models are loaded."""
    return Service(
        domain="inference",
        name="luthier.inference.v1.InferenceService",
        register=lambda server: pb_grpc.add_InferenceServiceServicer_to_server(servicer, server),  # type: ignore[no-untyped-call]
        light={"ListModels", "RegisterModel"},
        prepare=watcher.start,
        close=watcher.stop,
    )


def _stop_of(context: grpc.ServicerContext) -> threading.Event:
    """Set when the caller cancels, its deadline passes or its connection ends."""
    stop = threading.Event()
    if not context.add_callback(stop.set):
        stop.set()
    return stop

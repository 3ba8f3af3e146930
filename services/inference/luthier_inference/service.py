"""`luthier.inference.v1.InferenceService`: from messages to jobs, and from results to messages."""

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

import grpc
import numpy as np

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc as pb_grpc
from luthier_inference import metrics
from luthier_inference.advice import Cards
from luthier_inference.credentials.trust import anchors_of
from luthier_inference.detecting import Detector, Uploads
from luthier_inference.generator import GenerationResult, Generator, OnProgress
from luthier_inference.heard import Hearing, Listener
from luthier_inference.model_cache import ModelCache
from luthier_inference.music import music_message
from luthier_inference.registration import Registrar
from luthier_inference.request import OUTPUT_FORMATS, PRECISIONS, GenerationJob, jobs_of
from luthier_inference.served_models import ServedModels, ServedVersion
from luthier_inference.several import all_at_once
from luthier_inference.spending import Account, Spending
from luthier_inference.tries import best_of, jobs_tried
from luthier_inference.work import OnPiece
from luthier_kit.registry import OVERRULED, ModelVersion, claim_request, versions
from luthier_kit.rpc import Checks, LuthierError, actor, in_field, new_request_id
from luthier_kit.store import Store
from luthier_model import text_encoder
from luthier_model.generation import Samples, fitted

MAX_INLINE_BYTES: Final = 3 << 20
MAX_DETECT_BYTES: Final = 256 << 20
CHUNK_BYTES: Final = 1 << 20
MAX_TEXT_ENCODER_FILES: Final = 16
MAX_REGISTERED_BY_CHARS: Final = 100
MAX_REASON_CHARS: Final = 500

OUTPUT_FORMAT_ENUMS: Final = {name: number for number, name in OUTPUT_FORMATS.items() if number}
PRECISION_ENUMS: Final = {name: number for number, name in PRECISIONS.items() if number}

E = TypeVar("E")
R = TypeVar("R")


class InferenceServicer(pb_grpc.InferenceServiceServicer):
    """The methods."""

    def __init__(
        self, store: Store, models: ServedModels, cache: ModelCache, generator: Generator, registrar: Registrar,
        listener: Listener, spending: Spending, detector: Detector, uploads: Uploads,
    ) -> None:  # fmt: skip
        self.store, self.models, self.cache, self.detector, self.uploads = store, models, cache, detector, uploads
        self.generator, self.registrar, self.cards, self.listener = generator, registrar, Cards(store), listener
        self.spending = spending

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:
        jobs = self._jobs_of(request)
        return self._answer(request, jobs, _drop, context, _stop_of(context), _drop)

    def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamGenerateResponse]:
        asked = request.request
        several = bool(asked.seeds) or asked.HasField("best_of")
        checks = Checks()
        checks.that(not (request.pieces and several), "pieces", "must be false with seeds and best_of")
        checks.done()
        with in_field("request"):
            jobs, stop = self._jobs_of(asked), _stop_of(context)

        def work(emit: Callable[[pb.GenerateProgress | Samples], None]) -> pb.GenerateResponse:
            return self._answer(asked, jobs, emit, context, stop, emit if request.pieces else _drop)

        decoded = 0
        for event in events_of(work, stop):
            if isinstance(event, pb.GenerateProgress):
                yield pb.StreamGenerateResponse(progress=event)
            elif isinstance(event, np.ndarray):
                rate_hz = jobs[0].served.configuration.sample_rate_hz
                yield from piece_messages(event, decoded, rate_hz)
                decoded += len(event)
            else:
                yield pb.StreamGenerateResponse(response=event)
                yield from self._chunks(event)

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:
        del context
        loaded, listed = self.cache.loaded(), []
        for name in self.models.registered():
            if request.name not in ("", name):
                continue
            for version in reversed(versions(self.store, name)):
                try:
                    served = self.models.configured(version)
                except LuthierError:
                    served = None  # listed all the same, so that an operator sees it
                listed.append(model_message(version, served, loaded=version.digest in loaded))
        return pb.ListModelsResponse(models=listed, default_model=self.models.default_name())

    def RegisterModel(
        self, request: pb.RegisterModelRequest, context: grpc.ServicerContext
    ) -> pb.RegisterModelResponse:
        checks = Checks()
        checks.name("name", request.name)
        checks.artifact("checkpoint", request.checkpoint)
        checks.artifact("configuration", request.configuration)
        checks.count("text_encoder", request.text_encoder, 0, MAX_TEXT_ENCODER_FILES)
        for index, item in enumerate(request.text_encoder[:MAX_TEXT_ENCODER_FILES]):
            checks.one_of(f"text_encoder[{index}].name", item.name, text_encoder.FILES)
            checks.artifact(f"text_encoder[{index}].file", item.file)
        checks.text("registered_by", request.registered_by, max_chars=MAX_REGISTERED_BY_CHARS, blank=False)
        checks.text("reason", request.reason, max_chars=MAX_REASON_CHARS)
        checks.done()
        served = self.registrar.register(
            ModelVersion(
                name=request.name,
                checkpoint=request.checkpoint,
                configuration=request.configuration,
                text_encoder=[(item.name, item.file) for item in request.text_encoder],
                created_by=actor(request.registered_by),
                reason=request.reason,
            ),
            _stop_of(context),
        )
        loaded = served.version.digest in self.cache.loaded()
        return pb.RegisterModelResponse(model=model_message(served.version, served, loaded=loaded))

    def DetectMarks(self, request: pb.DetectMarksRequest, context: grpc.ServicerContext) -> pb.DetectMarksResponse:
        checks = Checks()
        if request.upload:
            checks.that(
                not request.HasField("audio"), "upload", "must be empty with audio: one of the two is looked into"
            )
        else:
            checks.artifact("audio", request.audio, max_bytes=MAX_DETECT_BYTES)
        anchors = _anchors_of(request, checks)
        checks.done()
        stop = _stop_of(context)
        if request.upload:
            return self.detector.detect(self.uploads.path_of(request.upload), None, stop, context, anchors)
        with TemporaryDirectory(dir=self.generator.scratch, prefix="detect-") as folder:
            path = self.store.blobs.fetch(request.audio, Path(folder), read_only=True)
            return self.detector.detect(path, request.audio.sha256, stop, context, anchors)

    def GetUsage(self, request: pb.GetUsageRequest, context: grpc.ServicerContext) -> pb.GetUsageResponse:
        del request, context
        return self.spending.own()

    def ListUsage(self, request: pb.ListUsageRequest, context: grpc.ServicerContext) -> pb.ListUsageResponse:
        del request, context
        return self.spending.everyones()

    def _jobs_of(self, request: pb.GenerateRequest) -> list[GenerationJob]:
        """The jobs of a request, which gets an id where it brings none. An id of the caller's asks one thing only."""
        own_id = bool(request.request_id)
        request.request_id = request.request_id or new_request_id()
        jobs = jobs_of(request, self.models, listens=self.listener.known, quotes=not self.generator.prompts.left_out)
        if own_id:
            asked = pb.GenerateRequest()
            asked.CopyFrom(request)
            for field in ("request_id", "inline_audio"):
                asked.ClearField(field)
            claim_request(self.store, "generate", request.request_id, self.generator.prompts.claimed(asked))
        return jobs

    def _answer(
        self, request: pb.GenerateRequest, jobs: Sequence[GenerationJob], on_progress: OnProgress,
        context: grpc.ServicerContext, stop: threading.Event, on_piece: OnPiece,
    ) -> pb.GenerateResponse:  # fmt: skip
        """The response of a request: its first audio with all that took effect, and the others beside it."""

        tried = jobs_tried(jobs[0], request.best_of) if request.HasField("best_of") else jobs
        with self.spending.request(tried, self._is_stored) as account:
            return self._charged(request, jobs, on_progress, context, stop, on_piece, account)

    def _charged(
        self, request: pb.GenerateRequest, jobs: Sequence[GenerationJob], on_progress: OnProgress,
        context: grpc.ServicerContext, stop: threading.Event, on_piece: OnPiece, account: Account,
    ) -> pb.GenerateResponse:  # fmt: skip
        """What `_answer` answers, each piece on the caller's account."""

        def make(job: GenerationJob, on_progress: OnProgress) -> pb.GenerateResponse:
            piece = account.piece(job)
            made = self._generated(job, piece.watching(on_progress), context, stop, on_piece)
            piece.answered(reused=made.action.reused)
            return made

        def hear(job: GenerationJob, made: pb.GenerateResponse) -> Hearing:
            return self._heard(job, made, context, stop)

        def make_and_hear(job: GenerationJob, on_progress: OnProgress) -> pb.GenerateResponse:
            made = make(job, on_progress)
            made.heard.extend(hear(job, made).fields)
            return made

        if request.HasField("best_of"):
            response = best_of(request.best_of, jobs[0], make, hear, on_progress, stop)
        else:
            response, *others = all_at_once(jobs, make_and_hear, on_progress, stop)
            response.others.extend(map(generated_audio, others))
        served, wanted = jobs[0].served, jobs[0].wanted
        if wanted:
            response.music.CopyFrom(music_message(wanted))
        response.request_id, response.model = request.request_id, served.label
        response.precision = PRECISION_ENUMS[served.precision or self.models.precisions[0]]
        response.fit_window = jobs[0].parameters.fit_window
        response.window_s = fitted(served.configuration, jobs[0].parameters).window_s
        trained = [each.version for each in served.adapters[:1]] or [served.version]
        response.advice.extend(self.cards.advice(trained[0], jobs[0].parameters.prompt))
        if request.inline_audio:
            self._inline(response)
        return response

    def _generated(
        self, job: GenerationJob, on_progress: OnProgress, context: grpc.ServicerContext, stop: threading.Event,
        on_piece: OnPiece,
    ) -> pb.GenerateResponse:  # fmt: skip
        """What a job made, in an earlier generation where there is one: that waits for nobody."""
        if job.init_audio:
            self.store.blobs.exists(job.init_audio)  # refuses a bad reference, also where the audio is made already

        def make() -> pb.GenerateResponse:
            result = self.generator.generate(job, on_progress, stop, context.time_remaining(), on_piece)
            return self.generator.prompts.stored(response_message(job, result))

        response, reused = self.store.actions.run(self.generator.action(job), pb.GenerateResponse, make)
        response.prompt, response.negative_prompt = job.parameters.prompt, job.parameters.negative_prompt
        metrics.REUSED.inc(reused)
        return response

    def _is_stored(self, job: GenerationJob) -> bool:
        """Whether a job's audio is there."""
        return self.store.actions.record(self.generator.action(job), pb.GenerateResponse) is not None

    def _heard(
        self, job: GenerationJob, made: pb.GenerateResponse, context: grpc.ServicerContext, stop: threading.Event
    ) -> Hearing:
        """What is heard in a job's audio of the music that it was asked for."""
        if job.wanted is None:
            return Hearing(())
        span_s = job.parameters.seconds_total if job.parameters.untrimmed else None
        return self.listener.hear(job.wanted, made.audio, job.output_format, span_s, stop, context.time_remaining())

    def _inline(self, response: pb.GenerateResponse) -> None:
        """Puts the audio beside its reference while there is room, and says of the rest why it is not there."""
        room, together = MAX_INLINE_BYTES, " of all together" if response.others else ""
        every: list[pb.GenerateResponse | pb.GeneratedAudio] = [response, *response.others]
        for made in every:
            size = made.audio.size_bytes
            if size <= room:
                made.inline_audio = self.store.blobs.read(made.audio, max_bytes=room)
                room -= size
            else:
                made.notes.append(
                    f"inline_audio: the audio has {size} bytes, at most {MAX_INLINE_BYTES}{together} are inlined; "
                    f"fetch it by its reference{', or call StreamGenerate' if made is response else ''}"
                )

    def _chunks(self, response: pb.GenerateResponse) -> Iterator[pb.StreamGenerateResponse]:
        with (
            TemporaryDirectory(dir=self.generator.scratch) as folder,
            self.store.blobs.fetch(response.audio, Path(folder)).open("rb") as file,
        ):
            while chunk := file.read(CHUNK_BYTES):
                yield pb.StreamGenerateResponse(audio_chunk=chunk)


def events_of(work: Callable[[Callable[[E], None]], R], stop: threading.Event) -> Iterator[E | R]:
    """Runs `work(emit)` in a thread of its own: yields what it emits, then its result; raises what it raises.

    Leaving the iterator early sets `stop` and waits for the work to notice.
    """
    events: SimpleQueue[E | Future[R]] = SimpleQueue()
    with ThreadPoolExecutor(1, thread_name_prefix="generation") as executor:
        done: Future[R] = executor.submit(contextvars.copy_context().run, work, events.put)
        done.add_done_callback(events.put)
        try:
            while not isinstance(event := events.get(), Future):
                yield event
            yield event.result()
        finally:
            stop.set()


def piece_messages(samples: Samples, first: int, rate_hz: int) -> Iterator[pb.StreamGenerateResponse]:
    """Decoded audio (samples, channels) that begins at sample `first`, in messages of at most CHUNK_BYTES."""
    most = CHUNK_BYTES // samples[:1].nbytes
    for begin in range(0, len(samples), most):
        part = samples[begin : begin + most]
        piece = pb.AudioPiece(
            first_sample=first + begin,
            samples=part.astype("<f4").tobytes(),
            channels=part.shape[1],
            sample_rate_hz=rate_hz,
        )
        yield pb.StreamGenerateResponse(piece=piece)


def response_message(job: GenerationJob, result: GenerationResult) -> pb.GenerateResponse:
    """A result, with every value that took effect."""
    p, c = job.parameters, job.served.configuration
    return pb.GenerateResponse(
        audio=result.audio,
        prompt=p.prompt,
        negative_prompt=p.negative_prompt,
        seconds_start=p.seconds_start,
        seconds_total=p.seconds_total,
        steps=p.steps,
        sampler=p.sampler,
        sigma_min=p.sigma_min,
        sigma_max=p.sigma_max,
        guidance_scale=p.guidance_scale,
        guidance_rescale=p.guidance_rescale,
        seed=p.seed,
        model_digest=f"sha256:{job.served.version.digest}",
        output_format=OUTPUT_FORMAT_ENUMS[job.output_format],
        sample_rate_hz=result.finished.rate_hz,
        channels=c.channels,
        samples=result.samples,
        peak_dbfs=result.peak_dbfs,
        compute_s=result.compute_s,
        notes=result.notes,
        init_noise_level=p.init_noise_level,
        untrimmed=p.untrimmed,
        guidance_from=p.guidance_from,
        guidance_to=p.guidance_to,
        kept=job.kept(),
        loudness_lufs=result.finished.loudness_lufs,
        true_peak_dbtp=result.finished.true_peak_dbtp,
        gain_db=result.finished.gain_db,
        marks=marks_message(result),
        applied_adapters=[
            pb.AppliedAdapter(model=each.version.label, digest=f"sha256:{each.artifact.sha256}", share=each.share)
            for each in job.served.adapters
        ],
    )


def _anchors_of(request: pb.DetectMarksRequest, checks: Checks) -> str:
    """The certificates that a request trusts, as PEM; empty where it brings none."""
    try:
        return anchors_of(request.trust_anchors) if request.trust_anchors else ""
    except ValueError as error:
        checks.that(False, "trust_anchors", str(error))
        return ""


def marks_message(result: GenerationResult) -> pb.Marks:
    """How a result's file says what made it, and how it is known again."""
    return pb.Marks(
        credentials=result.credentials.state,
        credentials_issuer=result.credentials.issuer,
        time_stamp=result.credentials.time_stamp,
        watermark=result.watermark.state,
        watermark_id=result.watermark.id,
        watermark_strength=result.watermark.strength,
        log=result.logged,
    )


def generated_audio(made: pb.GenerateResponse) -> pb.GeneratedAudio:
    """What a response says of its audio alone."""
    return pb.GeneratedAudio(
        seed=made.seed,
        audio=made.audio,
        samples=made.samples,
        peak_dbfs=made.peak_dbfs,
        loudness_lufs=made.loudness_lufs if made.HasField("loudness_lufs") else None,
        true_peak_dbtp=made.true_peak_dbtp if made.HasField("true_peak_dbtp") else None,
        gain_db=made.gain_db,
        compute_s=made.compute_s,
        action=made.action,
        notes=made.notes,
        heard=made.heard,
        marks=made.marks,
    )


def model_message(version: ModelVersion, served: ServedVersion | None, *, loaded: bool) -> pb.Model:
    """A version as a message; without its configuration (unreadable) its window is left out."""
    model = pb.Model(
        name=version.name,
        version=version.n,
        digest=f"sha256:{version.digest}",
        loaded=loaded,
        dataset=version.dataset_name,
        created_by=version.created_by,
        reason=version.reason,
        evaluation_id=version.evaluation,
        overruled=version.notes.get(OVERRULED, ()),
        checkpoint=version.checkpoint,
        configuration=version.configuration,
        card=version.card,
        adapters=version.adapters,
    )
    if version.created_at:
        model.created_at.FromDatetime(version.created_at)
    if served:
        model.window_s = served.window_s
        model.sample_rate_hz = served.configuration.sample_rate_hz
        model.channels = served.configuration.channels
    return model


def _drop(_: object) -> None:
    """Nobody is told."""


def _stop_of(context: grpc.ServicerContext) -> threading.Event:
    """Set when the caller cancels, its deadline passes or its connection ends."""
    stop = threading.Event()
    if not context.add_callback(stop.set):
        stop.set()
    return stop

"""EvaluationService: the bounds of its requests, and runs as its messages."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import grpc

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.evaluation.v1.evaluation_pb2_grpc import (
    EvaluationServiceServicer,
)
from luthier.registry.v1.registry_pb2 import RunState
from luthier_evaluation import promotion
from luthier_evaluation.audio_sets import MAX_AUDIO_BYTES, MAX_SET_BYTES, check_references, system_of
from luthier_evaluation.audio_values import scores_by
from luthier_evaluation.embedders import EMBEDDERS, TextEmbedder
from luthier_evaluation.embedding import vectors_of_audio
from luthier_evaluation.memorisation import training_sets_of
from luthier_evaluation.plan import (
    EVALUATIONS,
    MAX_ROWS,
    Evaluation,
    baseline,
    candidate,
    effective_suite,
    evaluation_log,
    scaled_to_window,
    shipped_names,
    shipped_suite,
    shipped_window_s,
    suite_sha256,
    total_rows,
)
from luthier_evaluation.promotion_rule import Rule, read_rule
from luthier_evaluation.settings import EvaluationSettings
from luthier_evaluation.weights import Weights
from luthier_evaluation.worker import Worker
from luthier_kit.registry import Run, RunLog, RunPages, resolve, run_id_of, timestamp
from luthier_kit.rpc import (
    MAX_PROMPT_CHARS,
    Checks,
    FailedPrecondition,
    LuthierError,
    NotFound,
    Service,
    actor,
    fit_page,
    page_position,
    page_token,
    status_of,
)
from luthier_kit.store import MAX_ENTRY_BYTES, Store, to_json
from luthier_model.registered import fetch_configuration, statuses
from luthier_music.key_facts import key_of

MAX_MODEL_CHARS: Final = 200
BEAT_ESTIMATORS: Final = ("beatnet", "essentia")
MAX_WEIGHTS_BYTES: Final = 4 << 30
MAX_GENRES: Final = 16  # of a row
MAX_INSTRUMENTS: Final = 64
MAX_WORD_CHARS: Final = 100
DEFAULT_PAGE: Final = 50
MAX_EMBEDDED: Final = 64  # pieces of audio, or texts, of one request
WATCH_POLL_S: Final = 0.5
MAX_PLAN_BYTES: Final = MAX_ENTRY_BYTES - (2 << 20)
"""Of an event of the run as JSON, which holds the suite twice, and at the end the scores."""

EvaluationRun = Run[pb.EvaluationPlan, pb.EvaluationProgress, pb.EvaluationOutcome]


class EvaluationServicer(EvaluationServiceServicer):
    """The RPCs. The worker beside it does the evaluations."""

    def __init__(self, store: Store, worker: Worker, weights: Weights, rule: Rule) -> None:
        self.store = store
        self.weights = weights
        self.worker = worker
        self.rule = rule
        self.pages = RunPages(store, EVALUATIONS)

    def CreateEvaluation(
        self, request: pb.CreateEvaluationRequest, context: grpc.ServicerContext
    ) -> pb.CreateEvaluationResponse:
        request.created_by = actor(request.created_by)
        log = self._begun(request) or RunLog.create(
            self.store, EVALUATIONS, request.request_id, plan_of(self.store, self.weights, request)
        )
        self.worker.offer(log.id)
        run = log.read()
        self.pages.note(run)
        return pb.CreateEvaluationResponse(evaluation=evaluation_message(run))

    def GetEvaluation(
        self, request: pb.GetEvaluationRequest, context: grpc.ServicerContext
    ) -> pb.GetEvaluationResponse:
        run = evaluation_log(self.store, request.evaluation_id).read()
        return pb.GetEvaluationResponse(evaluation=evaluation_message(run))

    def ListEvaluations(
        self, request: pb.ListEvaluationsRequest, context: grpc.ServicerContext
    ) -> pb.ListEvaluationsResponse:
        size = request.page_size if request.HasField("page_size") else DEFAULT_PAGE
        checks = Checks()
        checks.within("page_size", size, 1, 500)
        checks.done()
        runs, last = self.pages.page(size, page_position(request))
        items = ((position, evaluation_message(run, with_suite=False)) for position, run in runs)
        messages, more = fit_page(request, items, page_token(request, last) if last else "")
        return pb.ListEvaluationsResponse(evaluations=messages, next_page_token=more)

    def CancelEvaluation(
        self, request: pb.CancelEvaluationRequest, context: grpc.ServicerContext
    ) -> pb.CancelEvaluationResponse:
        checks = Checks()
        checks.text("reason", request.reason, max_chars=500)
        checks.done()
        run = evaluation_log(self.store, request.evaluation_id).cancel(reason=request.reason)
        return pb.CancelEvaluationResponse(evaluation=evaluation_message(run))

    def WatchEvaluation(
        self, request: pb.WatchEvaluationRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchEvaluationResponse]:
        checks = Checks()
        checks.within("after_sequence", request.after_sequence, 0, 1 << 40)
        checks.done()
        log = evaluation_log(self.store, request.evaluation_id)
        for run in log.watch(request.after_sequence, poll_s=WATCH_POLL_S, going=context.is_active):
            yield pb.WatchEvaluationResponse(evaluation=evaluation_message(run, with_suite=False))

    def PromoteModel(self, request: pb.PromoteModelRequest, context: grpc.ServicerContext) -> pb.PromoteModelResponse:
        checks = Checks()
        checks.name("name", request.name)
        checks.text("model", request.model, max_chars=MAX_MODEL_CHARS, blank=False)
        checks.text("evaluation_id", request.evaluation_id, max_chars=128)
        checks.text("promoted_by", request.promoted_by, max_chars=100, blank=False)
        checks.text("reason", request.reason, max_chars=500, blank=False)
        checks.done()
        decision = promotion.promote(self.store, request, self.rule)
        return pb.PromoteModelResponse(
            model=decision.version.label,
            model_digest=f"sha256:{decision.version.digest}",
            unchanged=decision.unchanged,
            clauses=[pb.PromotionClause(name=c.name, holds=c.holds, figure=c.figure) for c in decision.clauses],
            rule=self.rule.name,
            rule_sha256=self.rule.sha256,
            promoted=decision.promoted,
        )

    def RegisterMetricWeights(
        self, request: pb.RegisterMetricWeightsRequest, context: grpc.ServicerContext
    ) -> pb.RegisterMetricWeightsResponse:
        checks = Checks()
        checks.one_of("name", request.name, EMBEDDERS)
        checks.artifact("weights", request.weights, max_bytes=MAX_WEIGHTS_BYTES)
        checks.text("source", request.source, max_chars=500)
        checks.text("created_by", request.created_by, max_chars=100)
        checks.done()
        brought = pb.MetricWeights(
            name=request.name,
            weights=request.weights,
            source=request.source,
            created_by=actor(request.created_by),
        )
        return pb.RegisterMetricWeightsResponse(weights=brought, unchanged=not self.weights.register(brought))

    def ListMetricWeights(
        self, request: pb.ListMetricWeightsRequest, context: grpc.ServicerContext
    ) -> pb.ListMetricWeightsResponse:
        there = {one.embedder: one.weights_sha256 for one in self.weights.at_hand()}
        states = (
            pb.MetricWeightsState(
                name=name,
                title=kind.title,
                weights_sha256=there.get(name, ""),
                bring="" if name in there else kind.bring,
                scores=scores_by(name),
            )
            for name, kind in EMBEDDERS.items()
        )
        return pb.ListMetricWeightsResponse(embedders=states)

    def EmbedAudio(self, request: pb.EmbedAudioRequest, context: grpc.ServicerContext) -> pb.EmbedAudioResponse:
        checks = Checks()
        checks.one_of("embedder", request.embedder, EMBEDDERS)
        for path, audio in checks.items("audio", request.audio, 1, MAX_EMBEDDED):
            checks.artifact(path, audio, max_bytes=MAX_AUDIO_BYTES)
        checks.done()
        embedder = self.weights.embedder(request.embedder)
        domain = pb.DESCRIPTOR.services_by_name["EvaluationService"].full_name
        response = pb.EmbedAudioResponse(weights_sha256=embedder.weights_sha256)
        for heard in vectors_of_audio(self.store, embedder, request.audio):
            if isinstance(heard, LuthierError):
                response.vectors.add(error=status_of(heard, domain))
            else:
                response.vectors.add(values=[] if heard is None else heard.tolist())
        return response

    def EmbedText(self, request: pb.EmbedTextRequest, context: grpc.ServicerContext) -> pb.EmbedTextResponse:
        checks = Checks()
        checks.one_of("embedder", request.embedder, [name for name, kind in EMBEDDERS.items() if kind.texts])
        for path, text in checks.items("texts", request.texts, 1, MAX_EMBEDDED):
            checks.text(path, text, max_chars=MAX_PROMPT_CHARS, blank=False)
        checks.done()
        embedder = self.weights.embedder(request.embedder)
        assert isinstance(embedder, TextEmbedder)
        vectors = embedder.embed_text(list(request.texts))
        return pb.EmbedTextResponse(
            vectors=[pb.TextVector(values=vector.tolist()) for vector in vectors],
            weights_sha256=embedder.weights_sha256,
        )

    def _begun(self, request: pb.CreateEvaluationRequest) -> Evaluation | None:
        """The run that this request id began; its models stay as they were pinned then."""
        log = RunLog(self.store, EVALUATIONS, run_id_of(EVALUATIONS.name, request.request_id))
        try:
            run = log.read()
        except NotFound:
            return None
        if run.request.request != request:
            text = f"request id {request.request_id!r} began another evaluation; use a new one"
            raise FailedPrecondition(text, reason="REQUEST_ID_REUSED")
        return log


def plan_of(store: Store, weights: Weights, request: pb.CreateEvaluationRequest) -> pb.EvaluationPlan:
    """The plan that a request makes. Raises InvalidRequest naming every field, NotFound for an unknown model."""
    checks = Checks()
    _check_request(checks, request)
    embedders = weights.at_hand()
    if request.nearest_by:
        checks.one_of("nearest_by", request.nearest_by, [one.embedder for one in embedders])
    checks.done()

    suite = shipped_suite(request.suite_name) if request.suite_name else request.suite
    models = _systems(store, request, len(suite.rows))
    spread_over_s = shipped_window_s(request.suite_name) if request.suite_name else None
    if request.HasField("reference_audio"):
        check_references(store, request.reference_audio)
    if spread_over_s and (window_s := _window_s(store, models)):
        suite = scaled_to_window(suite, spread_over_s, window_s)
    plan = pb.EvaluationPlan(
        request=request,
        suite=effective_suite(
            suite,
            request.max_rows if request.HasField("max_rows") else None,
            request.seconds_total if request.HasField("seconds_total") else None,
        ),
        models=models,
        steps=request.steps,
        own_steps=not request.HasField("steps"),
        guidance_scale=request.guidance_scale,
        own_guidance=not request.HasField("guidance_scale"),
        measure_end=request.measure_end or spread_over_s is not None,
        embedders=embedders,
    )
    _check_plan(checks, plan)
    checks.done()
    return plan


def _systems(store: Store, request: pb.CreateEvaluationRequest, rows: int) -> list[pb.EvaluatedModel]:
    """The baseline, where there is one, and the candidate. Raises InvalidRequest MODELS_ALIKE when they are alike."""
    models = []
    for side in ("baseline", "candidate"):
        if request.HasField(f"{side}_audio"):
            models.append(system_of(store, getattr(request, f"{side}_audio"), f"{side}_audio", rows))
        elif name := getattr(request, f"{side}_model"):
            pinned = resolve(store, name)
            models.append(
                pb.EvaluatedModel(
                    model=pinned.label,
                    model_digest=f"sha256:{pinned.digest}",
                    dataset_name=pinned.dataset_name,
                    training_sets=training_sets_of(store, pinned),
                )
            )
    checks = Checks()
    field = "baseline_audio" if request.HasField("baseline_audio") else "baseline_model"
    another = len({model.model_digest for model in models}) == len(models)
    checks.that(another, field, f"must be another version than candidate_model: both are {models[0].model_digest}")
    named = not another or len({model.model for model in models}) == len(models)
    checks.that(named, field, f"must have another name than candidate_audio: both are {models[0].model}")
    checks.done(reason="MODELS_ALIKE")
    return models


def _check_plan(checks: Checks, plan: pb.EvaluationPlan) -> None:
    """What only the whole plan shows."""
    without = [index for index, row in enumerate(plan.suite.rows) if not row.HasField("reference")]
    if plan.request.aligned and without:
        bound = f"needs a reference for every row: {len(without)} have none, the first is row {without[0]}"
        checks.that(False, "aligned", bound)
    size = len(to_json(plan)) if plan.ByteSize() > MAX_ENTRY_BYTES // 8 else 0
    bound = f"must have at most {MAX_PLAN_BYTES // 2} bytes as JSON, got {size // 2}"
    checks.that(size <= MAX_PLAN_BYTES, "suite", bound)


def _window_s(store: Store, models: Sequence[pb.EvaluatedModel]) -> float | None:
    """The shortest window of the models, seconds; None where all are sets of audio."""
    windows_s = []
    for model in models:
        if not model.HasField("audio"):
            pinned = resolve(store, model.model)
            with statuses(pinned):
                configuration = fetch_configuration(store, pinned.configuration)
            windows_s.append(min(configuration.window_s, configuration.seconds_max))
    return min(windows_s, default=None)


def _check_request(checks: Checks, request: pb.CreateEvaluationRequest) -> None:
    checks.text("request_id", request.request_id, max_chars=128, blank=False)
    for model, audio in (("candidate_model", "candidate_audio"), ("baseline_model", "baseline_audio")):
        named = getattr(request, model)
        if request.HasField(audio):
            checks.that(not named, model, f"must be empty where {audio} is given")
            checks.artifact(audio, getattr(request, audio), max_bytes=MAX_SET_BYTES)
        else:
            checks.text(model, named, max_chars=MAX_MODEL_CHARS, blank=model != "candidate_model")
    if request.HasField("reference_audio"):
        checks.artifact("reference_audio", request.reference_audio, max_bytes=MAX_SET_BYTES)
    checks.text("tempo_estimator", request.tempo_estimator, max_chars=64)
    checks.text("created_by", request.created_by, max_chars=100)
    checks.text("sampler", request.sampler, max_chars=64)
    if request.beat_estimator:
        checks.one_of("beat_estimator", request.beat_estimator, BEAT_ESTIMATORS)
    if request.HasField("steps"):
        checks.within("steps", request.steps, 1, 1000)
    if request.HasField("guidance_scale"):
        checks.within("guidance_scale", request.guidance_scale, 0, 50)
    if request.HasField("max_rows"):
        checks.within("max_rows", request.max_rows, 1, MAX_ROWS)
    if request.HasField("seconds_total"):
        checks.within("seconds_total", request.seconds_total, 0.5, 600)
    if request.HasField("suite"):
        checks.that(not request.suite_name, "suite_name", "must be empty where suite is given")
        _check_suite(checks, request.suite)
    else:
        checks.one_of("suite_name", request.suite_name, shipped_names())


def _check_suite(checks: Checks, suite: pb.Suite) -> None:
    checks.text("suite.name", suite.name, max_chars=100, blank=False)
    checks.text("suite.description", suite.description, max_chars=500)
    checks.count("suite.rows", suite.rows, 1, MAX_ROWS)
    for index, row in enumerate(suite.rows[:MAX_ROWS]):
        at = f"suite.rows[{index}]"
        for field, words, most in (
            ("genres", row.genres, MAX_GENRES),
            ("instruments", row.instruments, MAX_INSTRUMENTS),
        ):
            for path, word in checks.items(f"{at}.{field}", words, 0, most):
                checks.text(path, word, max_chars=MAX_WORD_CHARS, blank=False)
                checks.that(word == word.lower(), path, f"must be in lower case, got {word[:MAX_WORD_CHARS]!r}")
        if row.HasField("reference"):
            checks.artifact(f"{at}.reference", row.reference, max_bytes=MAX_AUDIO_BYTES)
        checks.text(f"{at}.prompt", row.prompt, max_chars=MAX_PROMPT_CHARS, blank=False)
        checks.within(f"{at}.seconds_total", row.seconds_total, 0.5, 600)
        if row.HasField("tempo_bpm"):
            checks.within(f"{at}.tempo_bpm", row.tempo_bpm, 20, 400)
        if row.HasField("key"):
            try:
                known = key_of(row.key) is not None
            except ValueError:
                known = False
            checks.that(known, f"{at}.key", f"must have a tonic (C, F#, Bb, …) and a mode, got {row.key.tonic!r}")


def evaluation_message(run: EvaluationRun, *, with_suite: bool = True) -> pb.Evaluation:
    """The Evaluation that a run is. `with_suite` repeats a suite of the caller's own, row by row."""
    plan, model, other = run.request, candidate(run.request), baseline(run.request)
    message = pb.Evaluation(
        evaluation_id=run.id,
        state=pb.EvaluationState.Value(RunState.Name(run.state).replace("RUN", "EVALUATION", 1)),
        done=run.progress.done,
        total=total_rows(plan),
        eta_s=run.progress.eta_s if run.progress.HasField("eta_s") and not run.ended else None,
        failed_rows=run.progress.failed_rows,
        beside_done=run.progress.beside_done,
        beside_total=run.progress.beside_total,
        scores=run.result.scores,
        report=run.result.report if run.result.HasField("report") else None,
        results=run.result.results if run.result.HasField("results") else None,
        suite_sha256=suite_sha256(plan.suite),
        candidate=model.model,
        candidate_digest=model.model_digest,
        baseline=other.model if other else "",
        baseline_digest=other.model_digest if other else "",
        error=run.error,
        request=plan.request,
        created_at=timestamp(run.created_at),
        updated_at=timestamp(run.updated_at),
        sequence=run.seq,
    )
    if not plan.own_steps:
        message.request.steps = plan.steps
    if not plan.own_guidance:
        message.request.guidance_scale = plan.guidance_scale
    if not with_suite:
        message.request.ClearField("suite")
    return message


def service(store: Store, settings: EvaluationSettings) -> Service:
    """The service with its worker."""
    weights = Weights(store, Path(settings.metric_weights) if settings.metric_weights else None)
    worker = Worker(store, weights, settings)
    rule = read_rule(Path(settings.promotion_rule) if settings.promotion_rule else None)
    servicer = EvaluationServicer(store, worker, weights, rule)
    return Service(
        contract=pb.DESCRIPTOR.services_by_name["EvaluationService"],
        servicer=servicer,
        light=[
            servicer.CreateEvaluation,
            servicer.GetEvaluation,
            servicer.ListEvaluations,
            servicer.CancelEvaluation,
            servicer.PromoteModel,
            servicer.ListMetricWeights,
            servicer.EmbedText,
        ],
        watch=[servicer.WatchEvaluation],
        prepare=worker.start,
        close=worker.close,
    )

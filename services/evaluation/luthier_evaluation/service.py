"""Translates EvaluationService's messages to the domain and back."""

from collections.abc import Iterator

import grpc

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.evaluation.v1 import evaluation_pb2_grpc
from luthier_evaluation import messages, promotion, requests
from luthier_evaluation.settings import EvaluationSettings
from luthier_evaluation.worker import KIND, Worker
from luthier_kit import runs
from luthier_kit.artifacts import Artifacts
from luthier_kit.checks import Checks
from luthier_kit.errors import FailedPrecondition, NotFound
from luthier_kit.runs import Run, RunLog
from luthier_kit.server import Service

NAME = "luthier.evaluation.v1.EvaluationService"
LIGHT = {"CreateEvaluation", "GetEvaluation", "ListEvaluations", "CancelEvaluation", "PromoteModel"}
DEFAULT_PAGE = 50


class EvaluationServicer(evaluation_pb2_grpc.EvaluationServiceServicer):
    """The RPCs. The worker beside it does the evaluations."""

    def __init__(self, store: Artifacts, worker: Worker) -> None:
        self.store = store
        self.worker = worker

    def CreateEvaluation(
        self, request: pb.CreateEvaluationRequest, context: grpc.ServicerContext
    ) -> pb.CreateEvaluationResponse:
        log = self._begun(request) or RunLog.create(
            self.store,
            KIND,
            request.request_id,
            {"asked": messages.asked(request), "plan": requests.plan_of(self.store, request).document()},
        )
        self.worker.offer(log.id)
        return pb.CreateEvaluationResponse(evaluation=messages.evaluation(log.read()))

    def GetEvaluation(
        self, request: pb.GetEvaluationRequest, context: grpc.ServicerContext
    ) -> pb.GetEvaluationResponse:
        return pb.GetEvaluationResponse(evaluation=messages.evaluation(self._run(request.evaluation_id)))

    def ListEvaluations(
        self, request: pb.ListEvaluationsRequest, context: grpc.ServicerContext
    ) -> pb.ListEvaluationsResponse:
        size = request.page_size if request.HasField("page_size") else DEFAULT_PAGE
        checks = Checks()
        checks.within("page_size", size, 1, 500)
        checks.that(request.page_token.isdecimal() or not request.page_token, "page_token", "must be of a response")
        checks.done()
        first = int(request.page_token or 0)
        found = runs.list_runs(self.store, KIND)
        page = [messages.evaluation(run, with_suite=False) for run in found[first : first + size]]
        token = str(first + size) if first + size < len(found) else ""
        return pb.ListEvaluationsResponse(evaluations=page, next_page_token=token)

    def CancelEvaluation(
        self, request: pb.CancelEvaluationRequest, context: grpc.ServicerContext
    ) -> pb.CancelEvaluationResponse:
        checks = Checks()
        checks.text("reason", request.reason, max_chars=500)
        checks.done()
        self._run(request.evaluation_id)
        run = RunLog(self.store, request.evaluation_id).cancel(reason=request.reason)
        return pb.CancelEvaluationResponse(evaluation=messages.evaluation(run))

    def WatchEvaluation(
        self, request: pb.WatchEvaluationRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchEvaluationResponse]:
        self._run(request.evaluation_id)
        log = RunLog(self.store, request.evaluation_id)
        for run in log.watch(request.after_sequence, poll_s=0.5, going=context.is_active):
            yield pb.WatchEvaluationResponse(evaluation=messages.evaluation(run, with_suite=False))

    def PromoteModel(self, request: pb.PromoteModelRequest, context: grpc.ServicerContext) -> pb.PromoteModelResponse:
        version, unchanged = promotion.promote(self.store, requests.promotion_of(request))
        digest = f"sha256:{version.digest}"
        return pb.PromoteModelResponse(model=version.label, model_digest=digest, unchanged=unchanged)

    def _begun(self, request: pb.CreateEvaluationRequest) -> RunLog | None:
        """The run that this request id began; its models stay as they were pinned then."""
        log = RunLog(self.store, runs.run_id_of(KIND, request.request_id))
        try:
            run = log.read()
        except NotFound:
            return None
        if run.request["asked"] != messages.asked(request):
            text = f"request id {request.request_id!r} began another evaluation; use a new one"
            raise FailedPrecondition(text, reason="REQUEST_ID_REUSED")
        return log

    def _run(self, evaluation_id: str) -> Run:
        if not evaluation_id.startswith(f"{KIND}-"):
            raise NotFound(f"no evaluation {evaluation_id[:128]!r}", reason="RUN_NOT_FOUND")
        return RunLog(self.store, evaluation_id).read()


def service(store: Artifacts, settings: EvaluationSettings) -> Service:
    """The service with its worker."""
    worker = Worker(store, settings)
    servicer = EvaluationServicer(store, worker)

    def register(server: grpc.Server) -> None:
        evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]

    return Service("evaluation", NAME, register, LIGHT, {"WatchEvaluation"}, prepare=worker.start, close=worker.close)

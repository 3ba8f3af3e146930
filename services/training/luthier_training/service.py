"""TrainingService: messages in, runs out."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from luthier.training.v1 import training_pb2 as pb
from luthier.training.v1.training_pb2_grpc import TrainingServiceServicer
from luthier_kit.artifacts import Artifacts
from luthier_kit.checks import Checks
from luthier_kit.errors import NotFound
from luthier_kit.models import resolve
from luthier_kit.runs import RunLog, list_runs
from luthier_training import dataset, recipe
from luthier_training.messages import to_document, to_message
from luthier_training.scheduler import KIND, Scheduler

DEFAULT_PAGE, MAX_PAGE = 50, 500


class TrainingServicer(TrainingServiceServicer):
    """Runs live in the store; whoever is asked reads them there."""

    def __init__(self, store: Artifacts, scheduler: Scheduler) -> None:
        self._store, self._scheduler = store, scheduler

    def CreateTrainingRun(
        self, request: pb.CreateTrainingRunRequest, context: grpc.ServicerContext
    ) -> pb.CreateTrainingRunResponse:
        asked = recipe.settle(request)
        dataset.parse(self._store.read(asked.dataset, max_bytes=dataset.MAX_MANIFEST_BYTES))
        if asked.HasField("fine_tune"):
            resolve(self._store, asked.fine_tune.base_model)
        record = RunLog.create(self._store, KIND, asked.request_id, to_document(asked))
        self._scheduler.wake()
        return pb.CreateTrainingRunResponse(run=to_message(record.read()))

    def GetTrainingRun(
        self, request: pb.GetTrainingRunRequest, context: grpc.ServicerContext
    ) -> pb.GetTrainingRunResponse:
        return pb.GetTrainingRunResponse(run=to_message(self._record(request.run_id).read()))

    def ListTrainingRuns(
        self, request: pb.ListTrainingRunsRequest, context: grpc.ServicerContext
    ) -> pb.ListTrainingRunsResponse:
        checks = Checks()
        size = request.page_size if request.HasField("page_size") else DEFAULT_PAGE
        checks.within("page_size", size, 1, MAX_PAGE)
        checks.text("page_token", request.page_token, max_chars=100)
        checks.done()
        runs = list_runs(self._store, KIND)
        first = next((i + 1 for i, run in enumerate(runs) if run.id == request.page_token), 0)
        page = runs[first : first + size]
        more = page[-1].id if first + size < len(runs) else ""
        return pb.ListTrainingRunsResponse(runs=map(to_message, page), next_page_token=more)

    def CancelTrainingRun(
        self, request: pb.CancelTrainingRunRequest, context: grpc.ServicerContext
    ) -> pb.CancelTrainingRunResponse:
        checks = Checks()
        checks.text("reason", request.reason, max_chars=500)
        checks.done()
        run = self._record(request.run_id).cancel(reason=request.reason)
        self._scheduler.wake()
        return pb.CancelTrainingRunResponse(run=to_message(run))

    def WatchTrainingRun(
        self, request: pb.WatchTrainingRunRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingRunResponse]:
        checks = Checks()
        checks.within("after_sequence", request.after_sequence, 0, 1 << 40)
        checks.done()
        for run in self._record(request.run_id).watch(request.after_sequence, poll_s=0.5, going=context.is_active):
            yield pb.WatchTrainingRunResponse(run=to_message(run))

    def _record(self, run_id: str) -> RunLog:
        if not run_id.startswith(f"{KIND}-"):
            raise NotFound(f"no training run {run_id[:80]!r}", reason="RUN_NOT_FOUND")
        return RunLog(self._store, run_id)

"""TrainingService: requests in, runs out."""

from collections.abc import Iterator

import grpc

from luthier.training.v1 import training_pb2 as pb
from luthier.training.v1.training_pb2_grpc import TrainingServiceServicer
from luthier_kit.licences import refuse
from luthier_kit.registry import RunLog, RunPages, current_version, refuse_promoted, resolve, run_id_of
from luthier_kit.rpc import Checks, NotFound, actor, fit_page, in_field, page_position, page_token
from luthier_kit.store import Store
from luthier_model.registered import fetch_configuration, statuses
from luthier_training.autoencoder_window import check_window
from luthier_training.compared import compared
from luthier_training.continuing import check_autoencoder, check_source
from luthier_training.dataset import check_metadata, read_manifest
from luthier_training.plan import plan_of, read_data
from luthier_training.requests import check_base, settle
from luthier_training.runs import KIND, TrainingRunLog, to_message
from luthier_training.scheduler import Scheduler
from luthier_training.training_window import with_window

DEFAULT_PAGE, MAX_PAGE = 50, 500
WATCH_POLL_S = 0.5


class TrainingServicer(TrainingServiceServicer):
    """Runs live in the store; whoever is asked reads them there."""

    def __init__(self, store: Store, scheduler: Scheduler) -> None:
        self._store, self._scheduler = store, scheduler
        self._pages = RunPages(store, KIND)

    def CreateTrainingRun(
        self, request: pb.CreateTrainingRunRequest, context: grpc.ServicerContext
    ) -> pb.CreateTrainingRunResponse:
        asked = settle(request)
        asked.created_by = actor(asked.created_by)
        if not self._is_begun(asked.request_id):
            self._check(asked)
        record = RunLog.create(self._store, KIND, asked.request_id, asked, settle)
        self._scheduler.wake()
        run = record.read()
        self._pages.note(run)
        return pb.CreateTrainingRunResponse(run=to_message(run))

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
        checks.done()
        runs, last = self._pages.page(size, page_position(request))
        items = ((position, to_message(run)) for position, run in runs)
        messages, more = fit_page(request, items, page_token(request, last) if last else "")
        return pb.ListTrainingRunsResponse(runs=messages, next_page_token=more)

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
        record = self._record(request.run_id)
        for run in record.watch(request.after_sequence, poll_s=WATCH_POLL_S, going=context.is_active):
            yield pb.WatchTrainingRunResponse(run=to_message(run))

    def _is_begun(self, request_id: str) -> bool:
        try:
            RunLog(self._store, KIND, run_id_of(KIND.name, request_id)).read()
        except NotFound:
            return False
        return True

    def _check(self, asked: pb.CreateTrainingRunRequest) -> None:
        """What a new run needs. One that was begun is found by its request id whatever has changed since: its name may
        be promoted by now.
        """
        if asked.model_name and (current := current_version(self._store, asked.model_name)):
            refuse_promoted(current)
        if not asked.HasField("fine_tune"):
            with in_field("dataset"):
                refuse(read_manifest(self._store, asked.dataset).rows, asked.use)
            if asked.HasField("autoencoder"):
                base = resolve(self._store, asked.autoencoder.base_model)
                check_window(self._store, base, asked.autoencoder)
                check_autoencoder(self._store, asked, base)
            if asked.HasField("fidelity"):
                compared(self._store, asked.fidelity)
            return
        manifests = read_data(self._store, plan_of(asked))
        refuse((row for manifest in manifests for row in manifest.rows), asked.use)
        if asked.fine_tune.metadata_share:
            with in_field("dataset"):
                check_metadata(manifests)
        base = resolve(self._store, asked.fine_tune.base_model)
        check_base(asked.fine_tune, base)
        if asked.fine_tune.window_seconds:
            with statuses(base):
                with_window(fetch_configuration(self._store, base.configuration), asked.fine_tune)
        check_source(self._store, asked, base, manifests)

    def _record(self, run_id: str) -> TrainingRunLog:
        if not run_id.startswith(f"{KIND.name}-"):
            raise NotFound(f"no training run {run_id[:80]!r}", reason="RUN_NOT_FOUND")
        return RunLog(self._store, KIND, run_id)

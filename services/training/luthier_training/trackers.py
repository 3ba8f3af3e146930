"""Reports a run to Weights & Biases and to MLflow while it trains, where the operator set their own variables.

W&B is on with WANDB_API_KEY or WANDB_MODE=offline, MLflow with MLFLOW_TRACKING_URI; nothing else turns them on. Each
has a thread and a bounded queue, so a server that is slow or down neither stops nor slows a run: what does not fit is
dropped and counted in the log. A run that goes on from a checkpoint goes on in the same run there, each step once.
"""

import json
import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from google.protobuf.json_format import MessageToDict

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest
from luthier_training.job import Job
from luthier_training.reporting import Stopped

log = logging.getLogger(__name__)
MAX_WAITING = 20_000
"""Points that wait for a server: some 6,000 steps of three."""
BATCH = 500
"""Points of one call; MLflow takes a thousand metrics at most."""
RETRY_S = 30.0
"""Between a call that failed and the next."""
CALL_TIMEOUT_S = 20
"""Of a call to a server, unless its own variable says otherwise."""
CLOSE_TIMEOUT_S = 30.0
"""What a run that has ended gives a server to take the rest."""
PROJECT = "luthier"
"""W&B's project and MLflow's experiment, unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME names another."""
RUN_TAG = "luthier.run"
"""MLflow chooses ids of runs itself: ours is a tag, by which the run is found again."""
SECRETS = (
    "WANDB_API_KEY", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)  # fmt: skip
"""Variables that may come from a file that `<name>_FILE` names, as those of the services do; never in a log."""
MAX_REASON_CHARS = 300


class Point(NamedTuple):
    """A value of a curve; `at` in seconds since 1970."""

    tag: str
    step: int
    value: float
    at: float


class Ending(Enum):
    """How an attempt ended; a run that was stopped may go on later."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    STOPPED = "KILLED"


Parameters = Mapping[str, str | int | float | bool]


class Tracker(Protocol):
    """A server that takes curves. All is called on one thread; whatever it raises is tried again later."""

    name: str

    def start(self) -> None:
        """Opens the run there, the same one as before; ImportError when the tracker's package is not installed."""

    def report(self, points: Sequence[Point]) -> None:
        """Points in the order of their steps. It may be given them again when it raised."""

    def finish(self, ending: Ending) -> None:
        """No more comes of this attempt."""


class WandbTracker:
    """A run of Weights & Biases, whose id is ours. Steps that it has are not taken again."""

    name = "W&B"

    def __init__(self, run_id: str, parameters: Parameters, folder: Path | None) -> None:
        """`folder` is where W&B keeps its files; None leaves that to WANDB_DIR, or it is the working folder."""
        self._id, self._parameters, self._folder = run_id, parameters, folder
        self._run: Any = None

    def start(self) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to the library's makers
        import wandb  # a second: only who uses it pays

        settings = wandb.Settings(
            console="off",  # the runner's log stays here
            disable_git=True,
            disable_code=True,
            init_timeout=CALL_TIMEOUT_S,
            finish_timeout=CALL_TIMEOUT_S,  # holds when the process exits, too
        )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=self._id,
            name=self._id,
            resume="allow",
            config=dict(self._parameters),
            dir=self._folder,
            settings=settings,
        )

    def report(self, points: Sequence[Point]) -> None:
        steps: dict[int, dict[str, float]] = {}
        for point in points:
            steps.setdefault(point.step, {})[point.tag] = point.value
        for step, values in steps.items():
            self._run.log(values, step=step)

    def finish(self, ending: Ending) -> None:
        self._run.finish(exit_code=int(ending is not Ending.FINISHED))


class MlflowTracker:
    """A run of MLflow, found by a tag. What its curves already hold is asked once and not sent again."""

    name = "MLflow"

    def __init__(self, run_id: str, parameters: Parameters) -> None:
        self._id, self._parameters = run_id, parameters
        self._client: Any = None
        self._run = ""
        self._last: dict[str, int] = {}  # the last step of each curve

    def start(self) -> None:
        # its own are 120 s and seven tries, each with a warning: here the thread tries again
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(CALL_TIMEOUT_S))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it may hold a password
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # to the library's makers
        from mlflow.entities import Param  # three seconds: only who uses it pays
        from mlflow.tracking import MlflowClient

        self._client = client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        experiment = client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else client.create_experiment(name)
        found = client.search_runs([number], f"tags.`{RUN_TAG}` = '{self._id}'", max_results=1)
        run = found[0] if found else client.create_run(number, run_name=self._id, tags={RUN_TAG: self._id})
        self._run = run.info.run_id
        client.update_run(self._run, status="RUNNING")
        self._last = {
            tag: max(metric.step for metric in client.get_metric_history(self._run, tag)) for tag in run.data.metrics
        }
        params = [Param(name, str(value)) for name, value in self._parameters.items()]
        client.log_batch(self._run, params=params)

    def report(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        fresh = [point for point in points if point.step > self._last.get(point.tag, -1)]
        metrics = [Metric(point.tag, point.value, int(point.at * 1000), point.step) for point in fresh]
        self._client.log_batch(self._run, metrics=metrics)
        self._last |= {point.tag: point.step for point in fresh}

    def finish(self, ending: Ending) -> None:
        self._client.set_terminated(self._run, status=ending.value)


class _Reports:
    """The thread that reports to one tracker, and the points that wait for it."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker, self._waiting, self._dropped = tracker, deque[Point](), 0
        self._changed, self._ending, self._over = threading.Condition(), list[Ending](), False
        self._thread = threading.Thread(target=self._loop, daemon=True, name=f"tracker-{tracker.name}")
        self._thread.start()

    def put(self, point: Point) -> None:
        """Never waits for the tracker."""
        with self._changed:
            if self._over or len(self._waiting) >= MAX_WAITING:
                self._dropped += 1
                return
            self._waiting.append(point)
            self._changed.notify()

    def end(self, ending: Ending) -> None:
        """What waits may still be reported: see `join`."""
        with self._changed:
            self._ending.append(ending)
            self._changed.notify()

    def join(self, timeout_s: float) -> None:
        """Waits so long at most, then gives up what is left and says how much was not reported."""
        self._thread.join(timeout_s)
        with self._changed:
            if self._thread.is_alive():
                log.warning("%s takes too long: the run does not wait for it", self._tracker.name)
            lost, self._over = self._dropped + len(self._waiting), True
        if lost:
            log.warning("%d values were not reported to %s", lost, self._tracker.name)

    def _loop(self) -> None:
        started, warned = False, False
        while True:
            with self._changed:
                if started:
                    self._changed.wait_for(lambda: self._waiting or self._ending or self._over)
                if self._over:
                    return
                batch = [self._waiting[place] for place in range(min(BATCH, len(self._waiting)))]
                last = not batch and started
            try:
                if not started:
                    self._tracker.start()
                    started = True
                elif last:
                    self._tracker.finish(self._ending[0])
                    return
                else:
                    self._tracker.report(batch)
                    with self._changed:
                        for _ in batch:
                            self._waiting.popleft()
            except ImportError as error:
                package = error.name or "a package"
                log.warning("%s is not reported to: %s is not installed (extra trackers)", self._tracker.name, package)
                with self._changed:
                    self._over = True
                return
            except Exception as error:
                if not warned:
                    log.warning("%s cannot be reported to now, the run goes on: %s", self._tracker.name, safe(error))
                warned = True
                with self._changed:
                    if self._ending:  # an attempt that ends tries once more
                        return
                    self._changed.wait_for(lambda: self._ending, RETRY_S)


class Trackers:
    """What one attempt reports to; as a context it begins and ends the reports. Without trackers nothing happens."""

    def __init__(self, trackers: Iterable[Tracker]) -> None:
        self.trackers, self._reports = list(trackers), list[_Reports]()

    @classmethod
    def of(cls, job: Job) -> "Trackers":
        """Those whose variables are set; none in a rank other than 0."""
        if job.ranks.rank:
            return cls([])
        read_files()
        mode, found = os.environ.get("WANDB_MODE", ""), list[Tracker]()
        parameters = parameters_of(job.request)
        if mode != "disabled" and (os.environ.get("WANDB_API_KEY") or mode == "offline"):
            # what is kept offline outlives the attempt; what is sent does not need to
            keeps = mode == "offline" or os.environ.get("WANDB_DIR")
            found.append(WandbTracker(job.run_id, parameters, None if keeps else job.folder("wandb")))
        if os.environ.get("MLFLOW_TRACKING_URI"):
            found.append(MlflowTracker(job.run_id, parameters))
        return cls(found)

    def report(self, tag: str, step: int, value: float) -> None:
        """A value of now."""
        for reports in self._reports:
            reports.put(Point(tag, step, value, time.time()))

    def __enter__(self) -> "Trackers":
        self._reports = [_Reports(tracker) for tracker in self.trackers]
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        ending = Ending.FINISHED if kind is None else Ending.STOPPED if issubclass(kind, Stopped) else Ending.FAILED
        for reports in self._reports:
            reports.end(ending)
        until = time.monotonic() + CLOSE_TIMEOUT_S
        for reports in self._reports:
            reports.join(max(until - time.monotonic(), 0.0))
        self._reports = []


def parameters_of(request: CreateTrainingRunRequest) -> dict[str, str | int | float | bool]:
    """Model, data set, seed and recipe of a run, and the recipe's own fields, `<recipe>.<field>`."""
    recipe = str(request.WhichOneof("recipe"))
    fields = MessageToDict(getattr(request, recipe), preserving_proto_field_name=True)
    plain = {
        name: value if isinstance(value, str | int | float) else json.dumps(value) for name, value in fields.items()
    }
    return {
        "model_name": request.model_name,
        "dataset": f"{request.dataset.key} sha256:{request.dataset.sha256}",
        "seed": str(request.seed),  # of 64 bits, more than a JSON number holds
        "recipe": recipe,
        **{f"{recipe}.{name}": value for name, value in plain.items()},
    }


def read_files() -> None:
    """The libraries read their variables themselves: what lies in files is put there."""
    for name in SECRETS:
        path = os.environ.get(f"{name}_FILE")
        if path and not os.environ.get(name):
            try:
                os.environ[name] = Path(path).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                log.warning("%s_FILE cannot be read: %s", name, type(error).__name__)


def safe(error: Exception) -> str:
    """An error in one line, without secrets: MLflow's name the whole address, with user and password."""
    text = " ".join(str(error).split())
    for name in SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, f"<{name}>")
    text = re.sub(r"//[^/\s]*@", "//", text)
    return f"{type(error).__name__}: {text}"[:MAX_REASON_CHARS]

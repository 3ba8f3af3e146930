"""Works on one run, in a process of its own: `python -m luthier_training.runner <run id> [<runner>]`.

`runner` names this process for ever; without it the process makes a name, since Kubernetes starts the same command
again and again. Under torchrun rank 0 takes the run, publishes its progress and stores what it makes; the others work
beside it.

Exit codes: 0 the run has ended, whoever ended it; 1 it has not (asked to end, another runner has it, the store or a
rank went away), so that someone launches it again; 2 the settings are wrong.
"""

import logging
import math
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from luthier.training.v1.training_pb2 import TrainingResult
from luthier_kit.registry import ModelVersion, RunLog, register
from luthier_kit.rpc import (
    Aborted,
    FailedPrecondition,
    Internal,
    LuthierError,
    SettingsError,
    Unavailable,
    configure_logging,
    load,
    retry_policy,
)
from luthier_kit.store import Store, open_store
from luthier_training.reporting import HeartbeatThread, RankLost, Reporter, Stopped
from luthier_training.runs import KIND, TrainingRun, TrainingRunLog
from luthier_training.settings import RunnerSettings

log = logging.getLogger(__name__)
ENDED, UNFINISHED, WRONG_SETTINGS = 0, 1, 2
POLL_INTERVAL_S = 2.0
"""Between two looks at a run that another runner seems to work on."""
MAX_NAME_CHARS = 64
"""Of a model."""
NAME_DIGITS = 16
"""Hexadecimal digits of the run's id in the name of a model whose own name was promoted meanwhile."""


def main(run_id: str, runner: str = "") -> int:
    """Runs to the end, or to where it must stop; returns the exit code."""
    signal.signal(signal.SIGTERM, _exit)
    try:
        settings = load(RunnerSettings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_SETTINGS
    configure_logging(settings.log_level)
    try:
        store = open_store(settings, prove=False)
        own = RunLog(store, KIND, run_id, runner or process_name())
        if int(os.environ.get("RANK", "0")):
            return work_beside(store, settings, own)
        run = take_over(own)
        return ENDED if run.ended else attempt(store, settings, own, run)
    except LuthierError as error:
        log.error("leaving the run: %s", error)
        return UNFINISHED


def process_name() -> str:
    """A name that no process had before, the same for all ranks of one torchrun: host (a Pod's name) and digits."""
    host = "".join(char if char.isalnum() and char.isascii() else "-" for char in socket.gethostname())
    torchrun = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"{host}-{(uuid.uuid4() if torchrun == 'none' else uuid.UUID(torchrun)).hex}"


def take_over(own: TrainingRunLog) -> TrainingRun:
    """The run as this runner's own, once no other runner of it is alive; or as it ended meanwhile."""
    wait = retry_policy(math.inf, Aborted, first_s=POLL_INTERVAL_S, longest_s=POLL_INTERVAL_S, log=log)
    try:
        return wait(own.start)
    except FailedPrecondition:  # it has ended
        own.heartbeat.stop()
        return own.read()
    except BaseException:
        own.heartbeat.stop()
        raise


def attempt(store: Store, settings: RunnerSettings, own: TrainingRunLog, run: TrainingRun) -> int:
    """One attempt at a run. What goes wrong with the run itself is written down as its end."""
    reporter = Reporter(run.progress, own)
    heartbeat = HeartbeatThread(RunLog(store, KIND, run.id, own.runner), reporter)
    signal.signal(signal.SIGTERM, lambda *_: reporter.stop())
    try:
        result = _work(store, settings, run, reporter)
        reporter.check()
        if isinstance(result, ModelVersion):
            registered = publish(store, result, run.id)
            result = TrainingResult(model=registered.label, model_digest=f"sha256:{registered.digest}")
        own.succeed(result)
        return ENDED
    except Stopped:
        if not heartbeat.cancelled:
            return UNFINISHED
        own.cancelled()
    except (Aborted, Unavailable):
        raise
    except LuthierError as error:
        log.warning("the run failed: %s", error)
        own.fail(error)
    except RankLost as error:
        log.error("another rank died: %s", error)
        return UNFINISHED
    except Exception:
        log.exception("the run failed by a bug")
        own.fail(Internal("internal error; the trace is in the runner's log"))
    finally:
        heartbeat.close()
    # ranks that wait for this one would wait for ever: torchrun ends them when it sees a failure
    return ENDED if int(os.environ.get("WORLD_SIZE", "1")) == 1 else UNFINISHED


def publish(store: Store, version: ModelVersion, run_id: str) -> ModelVersion:
    """The version that a run made, registered under the name that the run was asked for.

    Under `<name>-<digits of the run>` when that name was promoted since the run was created: what a promoted name
    serves changes by promotion alone, and what took hours is kept.
    """
    try:
        return register(store, version)
    except FailedPrecondition as error:
        if error.reason != "NAME_IS_PROMOTED":
            raise
    digits = run_id.rpartition("-")[2][:NAME_DIGITS]
    own = f"{version.name[: MAX_NAME_CHARS - NAME_DIGITS - 1]}-{digits}"
    log.warning("%s was promoted meanwhile: what the run made is registered as %s", version.name, own)
    reason = f"{version.reason}; {version.name} was promoted meanwhile"
    return register(store, replace(version, name=own, reason=reason))


def work_beside(store: Store, settings: RunnerSettings, own: TrainingRunLog) -> int:
    """Works as a rank other than 0, once rank 0 has taken the run, and publishes nothing."""
    run = next(run for run in own.watch(poll_s=POLL_INTERVAL_S) if run.ended or run.runner == own.runner)
    if run.ended:
        return ENDED
    reporter = Reporter(run.progress)
    signal.signal(signal.SIGTERM, lambda *_: reporter.stop())
    try:
        _work(store, settings, run, reporter)
    except Stopped:
        return ENDED if reporter.going else UNFINISHED
    except LuthierError as error:
        log.warning("the run fails: %s", error)
        time.sleep(POLL_INTERVAL_S)  # rank 0 finds the same, and writes it down
    return UNFINISHED


def _work(
    store: Store, settings: RunnerSettings, run: TrainingRun, reporter: Reporter
) -> ModelVersion | TrainingResult:
    reporter.stage("start")
    from luthier_training.job import Job  # torch takes seconds to import: the run says first that it has begun
    from luthier_training.ranks import join
    from luthier_training.recipes import MEASUREMENTS, RECIPES

    settings.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="training-", dir=settings.scratch) as scratch:
        ranks = join(settings.device)
        own = Path(scratch)
        shared = ranks.shared(own)
        job = Job(run.id, run.request, store, reporter, settings.device, own, settings.threads, ranks, shared)
        recipe = str(run.request.WhichOneof("recipe"))
        return MEASUREMENTS[recipe](job) if recipe in MEASUREMENTS else RECIPES[recipe](job)


def _exit(*_: object) -> NoReturn:
    """Before there is work, a SIGTERM ends the process; to the first of a container it would do nothing by itself."""
    sys.exit(UNFINISHED)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))

"""Works on one run, in a process of its own: `python -m luthier_training.runner <run id> [<runner>]`.

`runner` names this process for ever; without it the process makes a name, since Kubernetes starts the same command
again and again. Under torchrun rank 0 leads: it takes the run, tells, stores; the others follow it.
Exit codes: 0 the run has ended, whoever ended it; 1 it has not (told to go, another runner has it, the store or a rank
went away), so that someone launches it again; 2 the settings are wrong.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import NoReturn

from google.protobuf.json_format import ParseDict

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest
from luthier_kit import telemetry
from luthier_kit.artifacts import Artifacts, open_artifacts
from luthier_kit.errors import Aborted, FailedPrecondition, Internal, LuthierError, Unavailable
from luthier_kit.models import ModelVersion, register
from luthier_kit.runs import Run, RunLog
from luthier_kit.settings import SettingsError, load
from luthier_training.reporting import Follower, RankLost, Reporter, Stopped, fail
from luthier_training.settings import TrainingSettings, check_device

log = logging.getLogger(__name__)
ENDED, UNFINISHED, WRONG_SETTINGS = 0, 1, 2
ASK_AGAIN_S = 2.0
"""Between two looks at a run that another runner seems to work on."""


def main(run_id: str, runner: str = "") -> int:
    """Runs to the end, or to where it must stop; returns the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        settings = load(TrainingSettings, os.environ)
        telemetry.configure_logging(settings.log_level)
        check_device(settings.device)
        store = open_artifacts(settings, prove=False)
    except SettingsError as e:
        sys.stderr.write(f"{e}\n")
        return WRONG_SETTINGS
    own = RunLog(store, run_id, runner or own_name())
    try:
        if int(os.environ.get("RANK", "0")):
            return follow(store, settings, own)
        run = take(own)
        return ENDED if run.ended else attempt(store, settings, own, run)
    except LuthierError as e:
        log.error("leaving the run: %s", e)
        return UNFINISHED


def own_name() -> str:
    """A name that no process had before, the same for all ranks of one torchrun: host (a Pod's name) and digits."""
    host = "".join(char if char.isalnum() and char.isascii() else "-" for char in socket.gethostname())
    once = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"{host}-{(uuid.uuid4() if once == 'none' else uuid.UUID(once)).hex}"


def take(own: RunLog) -> Run:
    """The run as this runner's own, once no other one's heart beats; or as it ended meanwhile."""
    try:
        while not (run := own.read()).ended:
            try:
                return own.start()
            except Aborted as e:
                log.info("waiting: %s", e)
                time.sleep(ASK_AGAIN_S)
            except FailedPrecondition:
                continue  # it ended between the two
    except BaseException:
        own.heartbeat.stop()
        raise
    own.heartbeat.stop()
    return run


def attempt(store: Artifacts, settings: TrainingSettings, own: RunLog, run: Run) -> int:
    """One attempt at a run. What goes wrong with the run itself is written down as its end."""
    reporter = Reporter(own, RunLog(store, run.id, own.runner))
    signal.signal(signal.SIGTERM, lambda *_: reporter.stop())
    try:
        version = _work(store, settings, run, reporter)
        reporter.check()
        registered = register(store, version)
        own.succeed(model=registered.label, model_digest=f"sha256:{registered.digest}")
        return ENDED
    except Stopped:
        if not reporter.cancelled:
            return UNFINISHED
        own.cancelled()
    except (Aborted, Unavailable):
        raise
    except LuthierError as e:
        log.warning("the run failed: %s", e)
        fail(own, e)
    except RankLost as e:
        log.error("another rank died: %s", e)
        return UNFINISHED
    except Exception:
        log.exception("the run failed by a bug")
        fail(own, Internal("internal error; the trace is in the runner's log"))
    finally:
        reporter.close()
        own.heartbeat.stop()
    # ranks that wait for this one would wait for ever: torchrun ends them when it sees a failure
    return ENDED if int(os.environ.get("WORLD_SIZE", "1")) == 1 else UNFINISHED


def follow(store: Artifacts, settings: TrainingSettings, own: RunLog) -> int:
    """Works beside rank 0 once that has taken the run, and says nothing."""
    while (run := own.read()).runner != own.runner:
        if run.ended:
            return ENDED
        time.sleep(ASK_AGAIN_S)
    follower = Follower()
    signal.signal(signal.SIGTERM, lambda *_: follower.stop())
    try:
        _work(store, settings, run, follower)
    except Stopped:
        return ENDED if follower.going else UNFINISHED
    except LuthierError as e:
        log.warning("the run fails: %s", e)
        time.sleep(ASK_AGAIN_S)  # rank 0 finds the same, and writes it down
    return UNFINISHED


def _work(store: Artifacts, settings: TrainingSettings, run: Run, reporter: Reporter | Follower) -> ModelVersion:
    reporter.stage("start")
    from luthier_training.job import Job  # torch takes seconds, so after the first word to whoever watches
    from luthier_training.ranks import join
    from luthier_training.recipes import RECIPES

    request = ParseDict(dict(run.request), CreateTrainingRunRequest(), ignore_unknown_fields=True)
    settings.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="training-", dir=settings.scratch) as scratch:
        ranks = join(settings.device)
        job = Job(run, request, store, reporter, settings.device, Path(scratch), settings.threads, ranks)
        return RECIPES[str(request.WhichOneof("recipe"))](job)


def _leave(*_: object) -> NoReturn:
    """Before there is work, a SIGTERM ends the process; to the first of a container it would do nothing by itself."""
    sys.exit(UNFINISHED)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))

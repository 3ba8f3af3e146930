"""Works on one run, in a process of its own: `python -m luthier_training.runner <run id> <runner>`.

`runner` names this process for ever. Exit codes: 0 the run ended, or is another's; 1 it stays unfinished
(told to go, or the store went away), so that someone launches it again; 2 the settings are wrong.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

from google.protobuf.json_format import ParseDict

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest
from luthier_kit import telemetry
from luthier_kit.artifacts import Artifacts, open_artifacts
from luthier_kit.errors import Aborted, Internal, LuthierError, Unavailable
from luthier_kit.models import register
from luthier_kit.runs import Run, RunLog
from luthier_kit.settings import SettingsError, load
from luthier_training.reporting import Reporter, Stopped
from luthier_training.settings import TrainingSettings, check_device

log = logging.getLogger(__name__)
ENDED, UNFINISHED, WRONG_SETTINGS = 0, 1, 2


def main(run_id: str, runner: str) -> int:
    """Runs to the end, or to where it must stop; returns the exit code."""
    try:
        settings = load(TrainingSettings, os.environ)
        telemetry.configure_logging(settings.log_level)
        check_device(settings.device)
        store = open_artifacts(settings, prove=False)
    except SettingsError as e:
        sys.stderr.write(f"{e}\n")
        return WRONG_SETTINGS
    try:
        return attempt(store, settings, RunLog(store, run_id, runner))
    except Aborted as e:
        log.warning("leaving the run: %s", e)
        return ENDED
    except Unavailable as e:
        log.error("the store went away: %s", e)
        return UNFINISHED


def attempt(store: Artifacts, settings: TrainingSettings, own: RunLog) -> int:
    """One attempt at a run. What goes wrong with the run itself is written down as its end."""
    run = own.start()
    reporter = Reporter(own, RunLog(store, run.id, own.runner))
    signal.signal(signal.SIGTERM, lambda *_: reporter.stop())
    try:
        _work(store, settings, run, own, reporter)
    except Stopped:
        if not reporter.cancelled:
            return UNFINISHED
        own.cancelled()
    except (Aborted, Unavailable):
        raise
    except LuthierError as e:
        log.warning("the run failed: %s", e)
        _fail(own, e)
    except Exception:
        log.exception("the run failed by a bug")
        _fail(own, Internal("internal error; the trace is in the runner's log"))
    finally:
        reporter.stop()
        own.heartbeat.stop()
    return ENDED


def _work(store: Artifacts, settings: TrainingSettings, run: Run, own: RunLog, reporter: Reporter) -> None:
    reporter.stage("start")
    from luthier_training.job import Job  # torch takes seconds, so after the first word to whoever watches
    from luthier_training.recipes import RECIPES

    request = ParseDict(dict(run.request), CreateTrainingRunRequest(), ignore_unknown_fields=True)
    settings.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="training-", dir=settings.scratch) as scratch:
        job = Job(run, request, store, reporter, settings.device, Path(scratch), settings.threads)
        version = RECIPES[str(request.WhichOneof("recipe"))](job)
        reporter.check()
        registered = register(store, version)
    own.succeed(model=registered.label, model_digest=f"sha256:{registered.digest}")


def _fail(own: RunLog, error: LuthierError) -> None:
    own.progress(error_code=error.code.value[0])
    own.fail(error.reason, str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

"""The command `luthier`.

Exit codes: 0 = done, failures of single songs included in the summary; 1 = the command itself could not be done;
2 = wrong usage; 130 = interrupted, 143 = terminated (run it again, it goes on).
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable

from luthier_kit import telemetry, tracing
from luthier_kit.errors import InvalidRequest, LuthierError
from luthier_kit.settings import SettingsError
from luthier_pipeline import demo
from luthier_pipeline.arguments import parser
from luthier_pipeline.commands import corpus, curate, custody, judge, models, monitor, run, status, submit
from luthier_pipeline.commands.context import Context, UsageError
from luthier_pipeline.place import Place

LAST_SPANS_S = 3.0  # a collector that is away must not hold the command back
COMMANDS: dict[str, Callable[[Context], None]] = {
    "inspect": corpus.inspect,
    "ingest": corpus.ingest,
    "run": run.run,
    "status": status.status,
    "monitor": monitor.monitor,
    "submit": submit.submit,
    "review": curate.review,
    "export": curate.export,
    "register": models.register,
    "models": models.models,
    "train": models.train,
    "generate": models.generate,
    "evaluate": judge.evaluate,
    "promote": judge.promote,
    "gc": custody.gc,
    "takedown": custody.takedown,
    "lineage": custody.lineage,
    "demo": demo.demo,
}


class Terminated(KeyboardInterrupt):
    """SIGTERM: the Pod is evicted. The command ends as after Ctrl-C, so that the Job's next Pod goes on."""


def main() -> None:
    """Runs a command and exits with a code that means something."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    telemetry.configure_logging("WARNING")
    traces = tracing.start("pipeline")
    context = Context(arguments, Place())
    code = _run(context)
    if traces:
        tracing.flush(traces, LAST_SPANS_S)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # calls that were abandoned in threads must not hold the command back


def _run(context: Context) -> int:
    try:
        COMMANDS[context.arguments.command](context)
    except KeyboardInterrupt as interrupt:
        print("interrupted; run it again, it goes on where it stands", file=sys.stderr)
        return 143 if isinstance(interrupt, Terminated) else 130
    except UsageError as error:
        print(f"luthier: {error}", file=sys.stderr)
        return 2
    except LuthierError as error:
        return _failed(context.arguments, error)
    except SettingsError as error:
        print(f"luthier: {error}", file=sys.stderr)
        return 1
    return 0


def _terminate(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is on its way out
    raise Terminated


def _failed(arguments: argparse.Namespace, error: LuthierError) -> int:
    print(f"luthier: {error.reason}: {error}", file=sys.stderr)
    if isinstance(error, InvalidRequest):
        for field, bound in (violation for violation in error.violations if violation[1] not in str(error)):
            print(f"  {field}: {bound}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"error": {"code": error.code.name, "reason": error.reason, "message": str(error)}}))
    return 1

"""The child process that renders: `python -m luthier_rendering.worker '<backend config as JSON>' <reply fd>`.

It reads a job per line on standard input and answers in JSON lines on the reply descriptor: any number of
{"playing": ...}, then {"result": ...}, {"refused": ...} or {"failed": ...}. Everything happens on the main thread,
as plugins demand. Whatever plugins print goes where the parent sent standard output and error: never into replies.
When the parent goes, so does it; when a job's time is over, the kernel ends it, however stuck a plugin is.
"""

import errno
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from luthier_kit.errors import InvalidRequest
from luthier_rendering.backends import BACKENDS
from luthier_rendering.backends.base import BackendConfig, BackendError
from luthier_rendering.job import RenderJob, to_json
from luthier_rendering.limits import MidiLimits
from luthier_rendering.midi import load_song
from luthier_rendering.render import render_song

EXIT_BUG = 70  # EX_SOFTWARE: our own code failed, not the song and not a plugin


def main(config_json: str, reply_fd: int) -> None:
    """Answer jobs until standard input ends."""
    config = BackendConfig(**json.loads(config_json))
    with os.fdopen(reply_fd, "w", buffering=1) as reply:
        _say(reply, ready=True)
        for line in sys.stdin:
            order = json.loads(line)
            signal.alarm(order["deadline_s"])
            _say(reply, **_answer(order, config, reply))
            signal.alarm(0)


def _answer(order: dict[str, Any], config: BackendConfig, reply: TextIO) -> dict[str, Any]:
    job = RenderJob.from_json(order["job"])
    try:
        song = load_song(Path(job.midi).read_bytes(), MidiLimits(**order["limits"]))
        backend = BACKENDS[job.backend](config)
        result = render_song(song, job, backend, lambda what: _say(reply, playing=what))
    except InvalidRequest as error:
        return {"refused": {"reason": error.reason, "message": str(error)}}
    except BackendError as error:
        return {"failed": {"reason": "INSTRUMENT_FAILED", "message": str(error)}}
    except OSError as error:
        reason = "SCRATCH_FULL" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "SCRATCH_FAILED"
        return {"failed": {"reason": reason, "message": f"{error.strerror}: {error.filename}"}}
    return {"result": to_json(result)}


def _say(reply: TextIO, **message: Any) -> None:
    reply.write(json.dumps(message) + "\n")
    reply.flush()


def _bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    sys.stderr.flush()
    os._exit(EXIT_BUG)


def _end_with_parent() -> None:
    """End this process when its parent is gone, even while the main thread is inside a plugin."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(1.0)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.excepthook = _bug
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a plugin's crash is no reason to fill the disk
    _end_with_parent()
    main(sys.argv[1], int(sys.argv[2]))

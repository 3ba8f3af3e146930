"""Supervised child processes: one job each at a time, a deadline for each job, replaced when they die, hang or age.

For work that a server must not do in its own process: libraries that hold the GIL for seconds (essentia), plugins that
crash, hang, print or exit. The pool is pebble's (the extra `luthier-kit[workers]`); this module adds:

* A job whose process dies is tried again, `MAX_DEATHS` times in all. Then it is refused: for good when every process
  crashed by its own doing; with RESOURCE_EXHAUSTED, which may be asked for again, when any was killed.
* Deadline and cancellation are the call's: when the caller goes away, the process is ended.
* Processes end with the service, also when that is killed: the kernel sees to it.
* pebble gives up a pool when a process dies while all are idle: a new pool takes its place.
* A job that no process takes means that the pool is broken, but not while a process is starting (imports take long on a
  busy machine) or all are at work: a new pool would end the jobs of others.
* pebble overlooks a process that exits with 0 in the middle of a job: that is a death like any other.
* What processes print never reaches the service's output: a bounded file in the job's folder holds it, and its end
  goes to the log when the process dies.
"""

import atexit
import ctypes
import importlib
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from pebble import ProcessExpired, ProcessPool

from luthier_kit.rpc import Cancelled, DeadlineExceeded, FailedPrecondition, QuotaExceeded, Unavailable

MAX_DEATHS: Final = 3
"""Of processes on one job, one after another: then it is the job's fault, not theirs."""
FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}
)
"""Signals that a process draws upon itself. SIGKILL is not among them: the kernel wants memory, or somebody an end."""

_START_DEADLINE_S = 60.0  # for a process to start, import its modules and take a job
_MAX_STARTS: Final = 3  # of a pool for one job, before it is said that no process can be started
_POLL_S: Final = 0.25
_STEP_FILE, _STDERR_FILE = "worker.step", "worker.stderr"  # in the job's folder
_STDERR_BYTES: Final = 1 << 20  # what a job may print before it is thrown away
_STDERR_LOGGED_BYTES: Final = 2000
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


def crashed(exit_code: int) -> bool:
    """Whether a process with this exit code (negative: the signal) ended by its own doing, so by its work."""
    return exit_code >= 0 or -exit_code in FAULTS


def ending(exit_code: int) -> str:
    """`signal SIGSEGV`, `exit code 3`."""
    return f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"


class Call(Protocol):
    """As much of a grpc.ServicerContext as decides how long a job may go on."""

    def time_remaining(self) -> float | None:
        """Seconds until the call's deadline; None when it has none."""
        ...

    def add_callback(self, callback: Callable[[], Any]) -> bool | None:
        """Have `callback` called when the call ends; False when it has ended already."""
        ...


@dataclass(frozen=True)
class Reasons:
    """What a job works on, for messages (`song`), and the stable UPPER_SNAKE reasons of its failures."""

    subject: str
    crashed: str
    killed: str
    too_slow: str
    not_started: str


class Workers:
    """`count` processes that do jobs, started when first needed. Safe for calls from many threads."""

    def __init__(
        self, count: int, reasons: Reasons, *, max_job_s: float, jobs_per_worker: int, preload: tuple[str, ...] = ()
    ) -> None:
        """`max_job_s` bounds each job, whatever the call's deadline. A process imports the modules named in `preload`
        before its first job and is replaced after `jobs_per_worker`, so that no leak grows for days."""
        for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(library, "1")  # the processes are the parallelism; they inherit this
        self._count, self._reasons, self._max_job_s = count, reasons, max_job_s
        self._jobs_per_worker, self._preload = jobs_per_worker, preload
        self._scheduling = ThreadPoolExecutor(1, "workers")  # the kernel ends processes with the thread that began them
        self._replacing = threading.Lock()
        self._at_work: set[Future[Any]] = set()
        self._seen_at: dict[int, float] = {}  # processes by id, monotonic clock
        self._pool, self._closed = self._new_pool(), False

    def start(self) -> None:
        """Start the processes; returns when one is ready. Unavailable when none can be started."""
        self._retried_while_broken(lambda pool: self._result_of(pool, self._schedule(pool, None, os.getpid), None))

    def run(self, call: Call | None, folder: Path, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a job on the main thread of a process; returns what it returns and raises what it raises.

        `call` waits for it (None: nobody who could go away); `folder` exists for this job alone. Cancelled and
        DeadlineExceeded are raised when the process has ended. FailedPrecondition or QuotaExceeded when one process
        after another died, Unavailable when none could be started.
        """
        deaths: list[int] = []
        while len(deaths) < MAX_DEATHS:
            try:
                return self._retried_while_broken(lambda pool: self._once(pool, call, folder, job, args, kwargs))
            except ProcessExpired as death:
                deaths.append(death.exitcode)
                last = f"a worker process ended with {ending(death.exitcode)} while {_current_step(folder)}"
                log.error("%s; the end of its standard error: %s", last, _printed(folder))
        text = f"{MAX_DEATHS} worker processes in a row died of this {self._reasons.subject}, the last: {last}"
        if all(map(crashed, deaths)):
            raise FailedPrecondition(text, reason=self._reasons.crashed)
        raise QuotaExceeded(text, reason=self._reasons.killed)

    def close(self) -> None:
        """End all processes, also those at work."""
        self._closed = True
        _end(self._pool)
        self._scheduling.shutdown()

    def _new_pool(self) -> ProcessPool:
        spawn = multiprocessing.get_context("spawn")  # never fork: the parent speaks gRPC in threads
        return ProcessPool(self._count, self._jobs_per_worker, _begin, (self._preload,), spawn)

    def _retried_while_broken(self, attempt: Callable[[ProcessPool], T]) -> T:
        """What `attempt` returns, with a new pool when the one it was given is broken."""
        for _ in range(_MAX_STARTS):
            pool = self._pool
            try:
                return attempt(pool)
            except BrokenProcessPool:
                with self._replacing:
                    if self._closed:
                        break
                    if self._pool is pool:
                        _end(pool)
                        self._pool = self._new_pool()
        raise Unavailable("no worker process takes a job", reason=self._reasons.not_started)

    def _schedule(
        self, pool: ProcessPool, timeout_s: float | None, function: Callable[..., T], *args: object
    ) -> Future[T]:
        try:
            return self._scheduling.submit(pool.schedule, function, args, timeout=timeout_s).result()
        except RuntimeError as error:  # the pool broke since, or is closed
            raise BrokenProcessPool(str(error)) from error

    def _once(
        self, pool: ProcessPool, call: Call | None, folder: Path, job: Callable[..., T], args: object, kwargs: object
    ) -> T:
        left_s = call.time_remaining() if call else None
        limit_s = self._max_job_s if left_s is None else min(left_s, self._max_job_s)
        too_slow = f"the {self._reasons.subject} took more than {limit_s:.3g} s and was ended"
        if limit_s <= 0:
            raise DeadlineExceeded(f"{too_slow} before it began", reason=self._reasons.too_slow)
        (folder / _STEP_FILE).unlink(missing_ok=True)
        future: Future[T] = self._schedule(pool, limit_s, _perform, folder, job, args, kwargs)
        if call and call.add_callback(future.cancel) is False:
            future.cancel()
        try:
            return self._result_of(pool, future, folder)
        except CancelledError as error:
            raise Cancelled("the caller went away") from error
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"{too_slow} while {_current_step(folder)}", reason=self._reasons.too_slow
            ) from error

    def _result_of(self, pool: ProcessPool, future: Future[T], folder: Path | None) -> T:
        """The result, once it is there and, when the job was cut short, the process has ended."""
        taken_by = time.monotonic() + _START_DEADLINE_S
        gone = False
        try:
            while not wait([future], _POLL_S).done:
                if future.running():
                    self._at_work.add(future)
                if future.running() or self._takes_jobs_later(pool):
                    taken_by = time.monotonic() + _START_DEADLINE_S
                if not pool.active or time.monotonic() > taken_by:
                    future.cancel()
                    raise BrokenProcessPool("no process takes jobs")
                if folder is None or not future.running():
                    continue
                with suppress(OSError):
                    if (folder / _STDERR_FILE).stat().st_size > _STDERR_BYTES:
                        os.truncate(folder / _STDERR_FILE, 0)
                if gone:  # for as long as pebble needs to say so
                    future.cancel()
                    raise ProcessExpired("exited", code=0)  # type: ignore[no-untyped-call]
                gone = not _lives(folder)
        finally:
            self._at_work.discard(future)
        return future.result()

    def _takes_jobs_later(self, pool: ProcessPool) -> bool:
        """Whether a job that waits may be taken yet: all processes are at work, or one is starting."""
        if len(self._at_work) >= self._count:
            return True
        now = time.monotonic()
        processes = list(pool._pool_manager.worker_manager.workers)  # pebble shows them nowhere else
        self._seen_at = {pid: self._seen_at.get(pid, now) for pid in processes}
        return any(now - seen_at < _START_DEADLINE_S for seen_at in self._seen_at.values())


def step(text: str) -> None:
    """Say from within a job what it is about to do, e.g. `playing the flute`: messages about its end name it."""
    folder = _job_folder.get()
    if folder:
        with suppress(OSError):  # a full disk is for the job to find
            (folder / _STEP_FILE).write_text(f"{os.getpid()} {text}")


_job_folder: ContextVar[Path | None] = ContextVar("job_folder", default=None)  # set in a process that does a job


def _begin(preload: tuple[str, ...]) -> None:
    """First thing in a worker process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends it at once, also inside a plugin's code
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None or os.getppid() != parent.pid:
        os._exit(0)
    os.setsid()  # a stop signal for the service's group is the service's to handle: jobs in progress are finished
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a plugin's crash is no reason to fill the disk
    atexit.register(os._exit, 0)  # plugins crash or hang in their destructors
    _print_to(os.devnull, 1)
    for module in preload:
        importlib.import_module(module)
    _print_to(os.devnull, 2)


def _perform(folder: Path, job: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Do a job in a worker process."""
    _job_folder.set(folder)
    step("starting")
    with suppress(OSError):
        _print_to(folder / _STDERR_FILE, 2)
    try:
        return job(*args, **kwargs)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        except Exception:  # one that cannot travel would break the pool
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise
    finally:
        _job_folder.set(None)
        _print_to(os.devnull, 2)


def _print_to(path: str | Path, descriptor: int) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(opened, descriptor)
    os.close(opened)


def _current_step(folder: Path) -> str:
    """What the job in `folder` was doing when it last said so."""
    with suppress(OSError, ValueError):
        return (folder / _STEP_FILE).read_text().split(" ", 1)[1]
    return "starting"


def _lives(folder: Path) -> bool:
    """Whether the process that does the job in `folder` is there."""
    with suppress(OSError, ValueError):
        return Path("/proc", (folder / _STEP_FILE).read_text().split(" ", 1)[0]).exists()
    return True


def _printed(folder: Path) -> str:
    """The end of what the job in `folder` printed."""
    with suppress(OSError):
        return (folder / _STDERR_FILE).read_bytes()[-_STDERR_LOGGED_BYTES:].decode(errors="replace").strip()
    return ""


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()

"""A process for a file that may be hostile: no network, bounded memory, time and output, killed at its deadline.

| bound | by |
|---|---|
| network | a network namespace without interfaces (`unshare` of util-linux), where the machine permits one |
| memory, processor seconds, size of what is written | `setrlimit`, by the process itself before it opens the file |
| seconds | SIGKILL of its process group by the parent |
| environment | none of the parent's variables: no tokens, no credentials, no switch of torch's |
| what Python code may ask of the system | an audit hook: no sockets, no programs, no file written but the one output |

An audit hook does not hold native code (PEP 578), so where no network namespace is permitted, `isolation` says so.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from luthier_kit.bounded_json import read_json

MAX_ANSWER_BYTES: Final = 64 << 20  # the names and shapes of 100,000 tensors
MAX_ANSWER_VALUES: Final = 2_000_000
MAX_FILES: Final = 64  # open at a time
SAID_CHARS: Final = 2000  # of standard error that are kept
SYSTEM_PATH: Final = "/usr/bin:/bin"
NAMESPACE: Final = ("unshare", "--user", "--map-current-user", "--net", "--")
READS: Final = ("os.listdir", "os.scandir")  # what importing a module asks for
REFUSED: Final = ("os.", "socket.", "subprocess.", "shutil.", "ctypes.", "pty.", "urllib.", "webbrowser.")
"""Audit events (docs.python.org/3/library/audit_events.html) that reading a checkpoint has no use for, by prefix."""


@dataclass(frozen=True)
class Limits:
    """What the process may use: `memory_bytes` of address space and `cpu_s` beyond what its libraries took to load,
    `file_bytes` of one written file, `wall_s` from start to end.
    """

    memory_bytes: int
    cpu_s: int
    file_bytes: int
    wall_s: float


class Refused(Exception):
    """The process refused the file, or came to its end: `reason` in UPPER_SNAKE, and a text for people."""

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        super().__init__(text)


class Process:
    """Asks the process and reads its answers: one line of JSON each."""

    def __init__(self, process: "subprocess.Popen[bytes]", limits: Limits, isolated: bool, said: IO[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        self._process, self._limits, self._said = process, limits, said
        self._to, self._from = process.stdin, process.stdout
        self.isolated = isolated
        self._late = threading.Event()

    def ask(self, question: Any) -> Any:
        """The answer; Refused with its reason, or when the process has ended."""
        try:
            self._to.write(json.dumps(question).encode() + b"\n")
            self._to.flush()
            line = self._from.readline(MAX_ANSWER_BYTES + 1)
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise self._ended()
        try:
            answer = read_json(line, max_bytes=MAX_ANSWER_BYTES + 1, max_values=MAX_ANSWER_VALUES)
            refused = (str(answer["refused"]), str(answer["text"])) if "refused" in answer else None
        except (ValueError, TypeError, KeyError) as error:
            raise Refused("READER_DIED", f"the process that read the file answered nonsense: {error}") from None
        if refused:
            raise Refused(*refused)
        return answer

    def kill(self, *, late: bool = False) -> None:
        """Ends the process and whatever it began."""
        if late:
            self._late.set()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Ends the process, and waits until it is gone."""
        self.kill()
        with suppress(BrokenPipeError):
            self._to.close()
        self._from.close()
        self._process.wait()

    def _ended(self) -> Refused:
        if self._process.poll() is None and not self._late.is_set():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
        self.kill()
        code = self._process.wait()
        if self._late.is_set():
            return Refused(
                "TIMED_OUT", f"reading the file took more than {self._limits.wall_s:g} seconds; it was ended"
            )
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            bound = f"{self._limits.cpu_s} processor seconds, or more memory than there is"
            return Refused("LIMIT_EXCEEDED", f"reading the file took more than {bound}")
        self._said.seek(0)
        said = self._said.read()[-SAID_CHARS:].decode(errors="replace")
        how = f"signal {-code}" if code < 0 else f"code {code}"
        return Refused("READER_DIED", f"the process that read the file ended with {how}: {said.strip()}")


def may_isolate() -> bool:
    """Whether this machine lets a process begin a network namespace. Containers often do not."""
    try:
        done = subprocess.run([*NAMESPACE, "true"], env={"PATH": SYSTEM_PATH}, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


@contextmanager
def started(command: list[str], limits: Limits, writable: Path) -> Iterator[Process]:
    """Starts `command`, which calls `confined()` before it opens anything. It ends with the block."""
    isolated = may_isolate()
    with tempfile.TemporaryDirectory(prefix="luthier-conversion-") as scratch, tempfile.TemporaryFile() as said:
        kept = {"PATH": SYSTEM_PATH, "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*NAMESPACE, *command] if isolated else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=kept,
            cwd=scratch,
            start_new_session=True,
        )
        child = Process(process, limits, isolated, said)
        deadline = threading.Timer(limits.wall_s, child.kill, kwargs={"late": True})
        deadline.daemon = True
        deadline.start()
        try:
            child.ask({"limits": asdict(limits), "writable": str(writable)})
            yield child
        finally:
            deadline.cancel()
            child.end()


def confined() -> None:
    """In the process itself, once its libraries are loaded: reads its limits, takes them on for good, and says so."""
    asked = json.loads(sys.stdin.readline())
    limits = Limits(**asked["limits"])
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent_s = int(used.ru_utime + used.ru_stime) + 1
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, most in (
        (resource.RLIMIT_AS, mapped + limits.memory_bytes),
        (resource.RLIMIT_CPU, spent_s + limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, MAX_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))
    sys.addaudithook(_Hook(asked["writable"]))
    print(json.dumps({}), flush=True)


class _Hook:
    """Raises PermissionError for the audit events that reading a checkpoint has no use for."""

    def __init__(self, writable: str) -> None:
        self._writable = writable

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else "w" in str(mode)
            if writes and str(path) != self._writable:
                raise PermissionError(f"{path!r} may not be written")
        elif event.startswith(REFUSED) and event not in READS:
            raise PermissionError(f"{event} is not for a process that reads a checkpoint")

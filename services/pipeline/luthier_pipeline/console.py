"""How commands speak: the answer on standard output, everything else on standard error.

On a terminal progress is a bar and tables fit its width; anywhere else there are plain lines and no colours.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # slow to import: only where they are used
    from google.protobuf.message import Message
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from luthier_pipeline.clients import Clients

LINE_EVERY_S: Final = 10.0  # of progress where there is no terminal
UNBOUNDED: Final = 100_000  # columns of a table where there is no terminal


class UsageError(Exception):
    """An argument that cannot be meant; the command exits with 2."""


@dataclass
class Context:
    """What every command gets: clients of the services, and how it speaks.

    `as_json`: the answer is one line of JSON. `nested`: the command is a step of another one, its answer a remark.
    """

    clients: "Clients"
    as_json: bool = False
    nested: bool = False

    def say(self, text: str) -> None:
        """A line for people, on standard error, so that `--json` stays alone on standard output."""
        print(text, file=sys.stderr, flush=True)

    def answer(self, document: Mapping[str, object], text: str) -> None:
        """The result: with `--json` one line of JSON, else the text."""
        if self.nested:
            self.say(text)
        else:
            print(json.dumps(document, ensure_ascii=False) if self.as_json else text, flush=True)


class Progress:
    """Counts work of known weight; the time to go follows from the work done by this process. Thread-safe.

    A context manager: a bar that is rewritten on a terminal, a line every LINE_EVERY_S elsewhere, and one at the end.
    """

    def __init__(self, what: str, total: int, weight: float = 0.0) -> None:
        self.what, self.total, self.weight = what, total, weight or float(total)
        self.done = 0
        self._worked = 0.0
        self._began, self._said_at = time.monotonic(), float("-inf")
        self._note = ""
        self._lock = threading.Lock()
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            self._bars, self._task = _bars(self.what, self.total)
            self._bars.start()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if self._bars and self._task is not None:
            self._bars.update(self._task, to_go="")
            self._bars.stop()
        elif error is None and self.done:
            self._line(last=True)

    def advance(self, weight: float = 1.0, note: str = "") -> None:
        """One more is done."""
        with self._lock:
            self.done += 1
            self._worked += weight
        self.show(note)

    @property
    def eta_s(self) -> float | None:
        """Seconds to go; None before anything is done."""
        if not self._worked:
            return None
        return (time.monotonic() - self._began) * max(0.0, self.weight - self._worked) / self._worked

    def show(self, note: str = "", eta_s: float | None = None) -> None:
        """Shows where the work stands. `eta_s` replaces the estimate."""
        with self._lock:
            self._note = note or self._note
            to_go_s = self.eta_s if eta_s is None else eta_s
            to_go = "" if to_go_s is None else f"{clock(to_go_s)} to go"
            if self._bars and self._task is not None:
                self._bars.update(
                    self._task, completed=self.done, total=self.total or None, to_go=to_go, note=self._note
                )
            elif time.monotonic() - self._said_at >= LINE_EVERY_S:
                self._said_at = time.monotonic()
                self._line(to_go)

    def _line(self, to_go: str = "", *, last: bool = False) -> None:
        spent = clock(time.monotonic() - self._began)
        count = f" {self.done}/{self.total}" if self.total else ""
        parts = [f"{self.what}{count} in {spent}", to_go if not last else ""]
        text = ", ".join(filter(None, parts)) + (f"  {self._note}" if self._note else "")
        print(text, file=sys.stderr, flush=True)


def _bars(what: str, total: int) -> tuple["Bars", "TaskID"]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars
    from rich.table import Column
    from rich.text import Text

    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)  # the note takes what the others leave

    class Count(MofNCompleteColumn):
        def render(self, task: Task) -> Text:
            return super().render(task) if task.total else Text()

    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        Count(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[to_go]}"),
        TextColumn("{task.fields[note]}", markup=False, table_column=rest),
    )
    bars = Bars(*columns, console=Console(stderr=True), redirect_stdout=False, expand=True)
    return bars, bars.add_task(what, total=total or None, to_go="", note="")


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Columns as wide as they need to be; on a terminal they fit its width, and long cells go on in further lines."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else UNBOUNDED, force_terminal=terminal, highlight=False)
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold" if terminal else "")
    for name in header:
        grid.add_column(Text(name), overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    with console.capture() as capture:
        console.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def plain(message: "Message", *, zeros: bool = False) -> dict[str, Any]:
    """A message as JSON with the field names of the contract; with `zeros` also fields that are zero or empty."""
    from google.protobuf.json_format import MessageToDict

    found: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=zeros
    )
    return found


def clock(seconds: float) -> str:
    """`1:02:03` or `02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def ago(seconds_since_epoch: float) -> str:
    """`5 s ago` … `3 d ago`."""
    passed_s = time.time() - seconds_since_epoch
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if passed_s >= 2 * size_s:
            return f"{passed_s / size_s:.0f} {unit} ago"
    return f"{passed_s:.0f} s ago"

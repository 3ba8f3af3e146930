"""Progress, tables and times as people read them."""

import io
import sys
import time
from collections.abc import Callable

import pytest

from luthier_pipeline import console
from luthier_pipeline.console import Progress, ago, clock, table

ROWS = [["songbook", "RUNNING (1/3 shards done, 1 not begun)", "12/400"], ["jazz [live]", "DONE", "7/7"]]
HEADER = ["run", "state", "songs"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


MakeTerminal = Callable[[int], Terminal]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> MakeTerminal:
    def of(columns: int) -> Terminal:
        found = Terminal()
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", found)
        monkeypatch.setattr(sys, "stderr", found)
        return found

    return of


def test_the_time_to_go_follows_the_weight_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0])
    monkeypatch.setattr("luthier_pipeline.console.time.monotonic", lambda: next(now, 10.0))
    progress = Progress("songs", 2, weight=400)
    progress.advance(100)
    assert progress.eta_s == 30


def test_times_are_readable() -> None:
    assert (clock(59), clock(3723)) == ("00:59", "1:02:03")
    now = time.time()
    assert [ago(now - past) for past in (5, 600, 7200, 3 * 86400)] == ["5 s ago", "10 min ago", "2 h ago", "3 d ago"]


def test_a_table_in_a_pipe_is_as_wide_as_it_needs_to_be() -> None:
    assert table([["a", "bb"]], ["head", "x"]) == "head  x\na     bb"
    assert table([["x" * 500, "y"]], ["long", "short"]).splitlines()[1] == f"{'x' * 500}  y"


@pytest.mark.parametrize("columns", [24, 40, 60])
def test_a_table_on_a_narrow_terminal_fits_and_loses_nothing(terminal: MakeTerminal, columns: int) -> None:
    terminal(columns)
    text = table(ROWS, HEADER)
    plain = console_text(text)
    assert max(len(line) for line in plain.splitlines()) <= columns
    columns_of_text = plain.replace("\n", "").replace(" ", "")
    assert all(letter in columns_of_text for row in ROWS for cell in row for letter in cell.replace(" ", ""))
    assert "[live]" in plain or columns < 40  # square brackets are text


def console_text(text: str) -> str:
    """Without escape codes."""
    import re

    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_progress_in_a_pipe_is_plain_lines_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    with Progress("songs", 3) as progress:
        progress.advance(note="render: A/b.mid")
    assert capsys.readouterr().err.splitlines() == [
        "songs 1/3 in 00:00, 00:00 to go  render: A/b.mid",
        "songs 1/3 in 00:00  render: A/b.mid",
    ]


def test_progress_that_is_broken_off_says_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), Progress("songs", 3):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_is_one_bar_that_is_taken_away_from_the_way_of_other_lines(
    terminal: MakeTerminal,
) -> None:
    written = terminal(60)
    with Progress("songs", 2) as progress:
        progress.advance(note="render: A long name of a song that no terminal has room for.mid")
        print("a remark", file=sys.stderr)
        progress.advance()
    lines = [console_text(line) for line in written.getvalue().replace("\r", "\n").splitlines()]
    assert "a remark" in lines
    assert any(line.startswith("songs") and "2/2" in line for line in lines)
    assert max(len(line) for line in lines) <= 60


def test_progress_of_nothing_known_counts_nothing(capsys: pytest.CaptureFixture[str], terminal: MakeTerminal) -> None:
    written = terminal(60)
    with Progress("waiting", 0) as progress:
        progress.show()
    assert "0/0" not in written.getvalue()
    assert "0/?" not in console_text(written.getvalue())

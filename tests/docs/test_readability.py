"""The counts of tests/bench/readability.py on files whose counts are known."""

import subprocess
import sys
from pathlib import Path

from tests.bench.readability import count, spread

SCRIPT = Path(__file__).parents[1] / "bench/readability.py"
SOURCE = '''"""Nine lines."""


def public(x: int) -> int:  # why
    """Says what it is for."""
    return _once(x) + _twice(x) + _twice(x)
_once = _twice = abs
def _helper(x): return "# no comment"
VALUE = _helper(1)
'''


def test_one_file(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(SOURCE)

    found = count(tmp_path)

    assert found.files == [9]
    assert sorted(found.functions) == [1, 3]  # the docstring counts, the comment's line too
    assert found.used_once == 1
    assert found.comments == 1


def test_tests_stubs_environments_and_markers_are_left_out(tmp_path: Path) -> None:
    for name in ("tests/a.py", "test_b.py", "c_pb2.py", ".venv/d.py", "mine/e.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(SOURCE)
    (tmp_path / "__init__.py").write_text('"""A marker."""\n')

    assert count(tmp_path).files == [9]
    assert count(tmp_path, ["mine"]).files == [9, 9, 9, 9]


def test_a_folder_s_own_name_does_not_leave_it_out(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/helper.py").write_text(SOURCE)

    assert count(tmp_path / "tests").files == [9]


def test_the_spread_is_median_and_nearest_rank() -> None:
    assert spread([]) == ("-", "-")
    assert spread(list(range(1, 11))) == ("5.5", "9")
    assert spread([7]) == ("7", "7")


def test_it_prints_a_row_for_each_folder(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(SOURCE)

    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=True)

    assert len(done.stdout.splitlines()) == 3
    assert "50.0 %" in done.stdout  # one of two functions serves one other place
    assert "11.1 %" in done.stdout  # one comment in nine lines

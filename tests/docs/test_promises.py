"""docs/promises.md: the tests that it names are there, and each line names one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/promises.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "|---"))]
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
RUNS_IN = {"gate", "slow", "cluster"}


def test_every_promise_names_tests_that_are_there() -> None:
    absent = []
    for row in ROWS:
        found = TEST.findall(row)
        assert found, row
        for file, name in found:
            path = ROOT / file
            if not path.is_file() or (name and f"\ndef {name}(" not in f"\n{path.read_text()}"):
                absent.append(f"{file}::{name}")
    assert absent == []


def test_where_a_promise_is_tested_is_where_its_tests_are() -> None:
    for row in ROWS:
        places = set(row.rstrip("| ").rsplit("|", 1)[1].replace(" ", "").split(","))
        assert places <= RUNS_IN, row
        files = {file for file, _ in TEST.findall(row)}
        assert ("cluster" in places) == any(file.startswith("tests/cluster/") for file in files), row
        assert ("gate" in places) == any(not file.startswith("tests/cluster/") for file in files), row

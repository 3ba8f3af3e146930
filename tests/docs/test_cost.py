"""docs/cost.md has the tables that its inputs give."""

from pathlib import Path

import pytest
import yaml

from tests.bench.cost import INPUTS, clips, generated, gpus, store, tables

DOCUMENT = (Path(__file__).parents[2] / "docs/cost.md").read_text()
KNOWN = yaml.safe_load(INPUTS.read_text())


@pytest.mark.parametrize("make", [clips, store, gpus, generated])
def test_the_page_has_the_tables_of_its_inputs(make) -> None:  # type: ignore[no-untyped-def]
    assert "\n".join(make(KNOWN)) in DOCUMENT


def test_a_cost_is_work_times_price() -> None:
    """By hand: a million clips of half a minute's work each, 3 CPU s a minute, are 416.7 core hours; at 0.32 dollars an
    hour for 16 cores that are always busy, 8.33 dollars."""
    way = {"what": "w", "cpu_s_per_minute": 3.0, "clips_per_minute": 2.0, "source": "s"}
    machine = {"machine": "m", "cores": 16, "dollars": 0.32}
    found = list(clips({**KNOWN, "busy": 1.0, "data": [way], "prices": {"cpu": [machine]}}))
    assert found[-1] == "| w | 417 | 8.3 | s |"


def test_all_tables_are_printed() -> None:
    assert tables(KNOWN).count("\n\n") == 3

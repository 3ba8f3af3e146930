"""A suite of one's own, as a file."""

from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import MODE_MINOR
from luthier_kit.rpc import InvalidRequest
from luthier_pipeline.suites import SECONDS, is_file, read_suite


def test_a_row_has_what_it_names_and_a_length_and_a_seed_of_its_own_else(tmp_path: Path) -> None:
    path = tmp_path / "tempi.yaml"
    rows = ("{prompt: A rock song., seconds_total: 4.5, seed: 7, tempo_bpm: 125}", "{prompt: A waltz, key: a minor}")
    path.write_text("".join(f"{line}\n" for line in ("rows:", *(f"- {row}" for row in rows))))
    suite = read_suite(path)
    first, second = suite.rows
    assert (suite.name, first.prompt, first.seconds_total, first.seed, first.tempo_bpm) == (
        "tempi", "A rock song.", 4.5, 7, 125,
    )  # fmt: skip
    assert not first.HasField("key")
    assert (second.seconds_total, second.seed, second.key.tonic, second.key.mode) == (SECONDS, 1, "A", MODE_MINOR)
    assert not second.HasField("tempo_bpm")


@pytest.mark.parametrize("name", ["quick", "paper-tempo", "paper-key"])
def test_the_form_is_that_of_the_suites_that_ship(name: str) -> None:
    shipped = Path(__file__).parents[2] / f"services/evaluation/luthier_evaluation/suites/{name}.json"
    suite = read_suite(shipped)
    assert suite.name == name
    assert len(suite.rows) >= 8
    assert all(row.HasField("tempo_bpm") or row.HasField("key") for row in suite.rows)


def test_every_fault_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text('rows:\n- {prompt: "", tempo_bpm: 5}\n- {prompt: A waltz, key: H dur}\n- {seed: -1}\nspeed: 3\n')
    with pytest.raises(InvalidRequest) as caught:
        read_suite(path)
    assert caught.value.reason == "SUITE_INVALID"
    told = str(caught.value)
    for fault in (
        "line 2: rows[0].prompt: must be 1 to 2000 characters",
        "line 2: rows[0].tempo_bpm: must be a number between 20 and 400, got '5'",
        "line 3: rows[1].key: must be a tonic and a mode, such as F# minor, got 'H dur'",
        "line 4: rows[2]: prompt is missing",
        "line 4: rows[2].seed: must be a whole number",
        "line 5: speed: is not known",
    ):
        assert fault in told


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nowhere\.json: No such file"):
        read_suite(tmp_path / "nowhere.json")


def test_a_name_without_a_suffix_of_a_file_is_a_suite_that_ships() -> None:
    assert not is_file("paper-tempo")
    assert is_file("mine.json")
    assert is_file("suites/mine.yaml")

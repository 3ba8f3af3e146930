"""Each metric against its published definition, and the table against hand-made measurements."""

import pytest

from luthier_evaluation import metrics, scores
from luthier_evaluation.measurement import Measurement
from luthier_evaluation.plan import Model, Plan
from luthier_evaluation.suite import Suite, SuiteRow
from luthier_music.keys import parse_key

BY_NAME = {metric.name: metric for metric in metrics.METRICS}


def row(tempo: float | None = None, key: str = "", seconds: float = 10.0) -> SuiteRow:
    return SuiteRow("a prompt", seconds, 1, tempo, parse_key(key) if key else None)


def made(tempo: float | None = None, key: str = "", **fields: object) -> Measurement:
    return Measurement(0, "m@1", tempo_bpm=tempo, key=parse_key(key) if key else None, **fields)


@pytest.mark.parametrize(
    ("asked", "measured", "accuracy_1", "accuracy_2"),
    [
        (120, 120, 1, 1),
        (120, 122.4, 1, 1),  # 2 % is still right
        (120, 122.6, 0, 0),
        (120, 240, 0, 1),
        (120, 60, 0, 1),
        (120, 360, 0, 1),
        (120, 40, 0, 1),
        (120, 180, 0, 0),  # 3/2 is no octave error
        (120, None, 0, 0),
        (None, 120, None, None),
    ],
)
def test_tempo_accuracy(asked: float, measured: float, accuracy_1: float, accuracy_2: float) -> None:
    assert BY_NAME["tempo_accuracy_1"].of(row(asked), made(measured)) == accuracy_1
    assert BY_NAME["tempo_accuracy_2"].of(row(asked), made(measured)) == accuracy_2


@pytest.mark.parametrize(
    ("asked", "measured", "exact", "mirex"),
    [
        ("C major", "C major", 1, 1),
        ("C major", "G major", 0, 0.5),
        ("C major", "F major", 0, 0),  # a fifth below does not count, as mir_eval has it
        ("C major", "A minor", 0, 0.3),
        ("A minor", "C major", 0, 0.3),
        ("C major", "C minor", 0, 0.2),
        ("C major", "F# major", 0, 0),
        ("C major", "", 0, 0),
        ("", "C major", None, None),
    ],
)
def test_key_scores(asked: str, measured: str, exact: float, mirex: float) -> None:
    assert BY_NAME["key_exact"].of(row(key=asked), made(key=measured)) == exact
    assert BY_NAME["key_mirex"].of(row(key=asked), made(key=measured)) == mirex


def test_length_error_is_a_distance() -> None:
    of = BY_NAME["length_error_s"].of
    assert of(row(seconds=10), made(duration_s=9.5)) == pytest.approx(0.5)
    assert of(row(seconds=10), made(duration_s=10.5)) == pytest.approx(0.5)


def test_the_golden_table() -> None:
    suite = Suite("mine", (row(100), row(120), row(140), row(160)))
    plan = Plan(suite, (Model("base@1", "sha256:b"), Model("tuned@2", "sha256:t")))
    base = [100.0, 100.0, 100.0, 100.0]
    tuned = [100.0, 120.0, 70.0, None]
    measurements = [Measurement(i, "base@1", tempo_bpm=t, loudness_lufs=-20.0) for i, t in enumerate(base)]
    measurements += [Measurement(i, "tuned@2", tempo_bpm=t, loudness_lufs=-14.0) for i, t in enumerate(tuned)]

    found = {(s.metric, s.model): (s.value, s.n, s.chance) for s in scores.table(plan, measurements)}

    assert found["tempo_accuracy_1", "base@1"] == (1 / 4, 4, pytest.approx(3 / 12))
    assert found["tempo_accuracy_1", "tuned@2"] == (2 / 4, 4, 0)
    assert found["tempo_accuracy_2", "tuned@2"] == (3 / 4, 4, 0)
    assert found["tempo_accuracy_2", "tuned@2 - base@1"] == (2 / 4, 4, None)
    assert found["loudness_lufs", "tuned@2 - base@1"] == (6, 4, None)
    assert found["key_exact", "tuned@2"] == (None, 0, None)
    assert found["clap_score", "tuned@2"] == (None, 0, None)


def test_rows_that_failed_are_in_no_score() -> None:
    plan = Plan(Suite("mine", (row(100), row(120))), (Model("m@1", "sha256:m"),))
    measurements = [Measurement(0, "m@1", tempo_bpm=100.0), Measurement(1, "m@1", error="no room")]

    score = scores.table(plan, measurements)[0]

    assert (score.value, score.n) == (1.0, 1)
    assert "all rows alike" in score.note

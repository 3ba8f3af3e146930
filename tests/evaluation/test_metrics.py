"""Each metric against its published definition, and the table against hand-made measurements."""

from collections.abc import Iterable, Sequence
from typing import Any

import mir_eval.key
import mir_eval.tempo
import numpy as np
import pytest

from luthier.common.v1.common_pb2 import TempoFact
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.metrics import METRICS
from luthier_evaluation.scores import genre_scores, score_table
from luthier_music.key_facts import key_fact
from luthier_music.keys import ALL_KEYS, Key, key_score, parse_key
from luthier_music.tempo import accuracy_1

BY_NAME = {metric.name: metric for metric in METRICS}


def suite_row(tempo: float | None = None, key: str = "", seconds: float = 10.0) -> pb.SuiteRow:
    fact = key_fact(parse_key(key)) if key else None
    return pb.SuiteRow(prompt="a prompt", seconds_total=seconds, seed=1, tempo_bpm=tempo, key=fact)


def result(tempo: float | None = None, key: str = "", row: int = 0, model: str = "m@1", **fields: Any) -> pb.RowResult:
    return pb.RowResult(
        row=row,
        model=model,
        tempo=TempoFact(tempo_bpm=tempo) if tempo else None,
        key=key_fact(parse_key(key)) if key else None,
        **fields,
    )


def no_scores_of_all(_model: str, _rows: Sequence[pb.RowResult]) -> Iterable[pb.Score]:
    """As without embedders."""
    return ()


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
    assert BY_NAME["tempo_accuracy_1"].of(suite_row(asked), result(measured)) == accuracy_1
    assert BY_NAME["tempo_accuracy_2"].of(suite_row(asked), result(measured)) == accuracy_2


@pytest.mark.parametrize(
    ("asked", "measured", "exact", "tonic", "mirex"),
    [
        ("C major", "C major", 1, 1, 1),
        ("C major", "G major", 0, 0, 0.5),
        ("C major", "F major", 0, 0, 0),  # a fifth below does not count, as mir_eval has it
        ("C major", "A minor", 0, 0, 0.3),
        ("A minor", "C major", 0, 0, 0.3),
        ("C major", "C minor", 0, 1, 0.2),
        ("C major", "F# major", 0, 0, 0),
        ("C major", "", 0, 0, 0),
        ("", "C major", None, None, None),
    ],
)
def test_key_scores(asked: str, measured: str, exact: float, tonic: float, mirex: float) -> None:
    assert BY_NAME["key_tonic"].of(suite_row(key=asked), result(key=measured)) == tonic
    assert BY_NAME["key_exact"].of(suite_row(key=asked), result(key=measured)) == exact
    assert BY_NAME["key_mirex"].of(suite_row(key=asked), result(key=measured)) == mirex


def test_key_scores_are_mir_evals_for_all_pairs() -> None:
    pairs = [(asked, heard) for asked in ALL_KEYS for heard in ALL_KEYS]

    theirs = [mir_eval.key.weighted_score(str(asked), str(heard)) for asked, heard in pairs]

    assert [key_score(asked, heard) for asked, heard in pairs] == theirs


def test_length_error_is_a_distance() -> None:
    of = BY_NAME["length_error_s"].of
    assert of(suite_row(seconds=10), result(duration_s=9.5)) == pytest.approx(0.5)
    assert of(suite_row(seconds=10), result(duration_s=10.5)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("end_s", "distance_s", "error_s"), [(10.0, 0, 0), (12.5, 2.5, 2.5), (7.0, 3.0, -3.0), (None, None, None)]
)
def test_untrimmed_length_error_is_from_the_end_of_the_sound(
    end_s: float | None, distance_s: float | None, error_s: float | None
) -> None:
    measured = result(sounding_s=end_s, duration_s=10.0)
    assert BY_NAME["length_error_untrimmed_s"].of(suite_row(seconds=10), measured) == distance_s
    assert BY_NAME["length_bias_untrimmed_s"].of(suite_row(seconds=10), measured) == error_s


@pytest.mark.parametrize(
    ("first", "second", "agrees"), [(120, 121, 1), (120, 60, 1), (120, 180, 0), (None, 120, None), (120, None, None)]
)
def test_a_second_tempo_agrees_as_accuracy_2_counts(
    first: float | None, second: float | None, agrees: float | None
) -> None:
    measured = result(first, beat_tempo=TempoFact(tempo_bpm=second) if second else None)
    assert BY_NAME["tempo_second_agrees"].of(suite_row(), measured) == agrees


def test_scores_by_genre_are_of_the_rows_that_name_it() -> None:
    rows = [suite_row(tempo) for tempo in (100, 120, 140, 160)]
    for row, genres in zip(rows, (["rock"], ["rock", "pop"], ["jazz"], []), strict=True):
        row.genres.extend(genres)
    evaluated = pb.EvaluationPlan(suite=pb.Suite(rows=rows), models=[pb.EvaluatedModel(model="m@1")])
    results = [result(100.0), result(90.0, row=1), result(140.0, row=2), result(160.0, row=3)]
    results[2].error.message = "no room"

    table = genre_scores(evaluated, results)

    found = {(score.metric, score.genre): (score.value, score.n) for score in table}
    assert found["tempo_accuracy_1", "rock"] == (0.5, 2)
    assert found["tempo_accuracy_1", "pop"] == (0, 1)
    assert ("tempo_accuracy_1", "jazz") not in found  # its only row failed
    assert ("key_exact", "rock") not in found  # no row asks for a key


@pytest.mark.parametrize("asked", ALL_KEYS, ids=str)
def test_the_guess_in_the_note_is_the_mean_over_all_keys(asked: Key) -> None:
    metric = BY_NAME["key_mirex"]
    scores = [metric.of(suite_row(key=str(asked)), result(key=str(key))) or 0.0 for key in ALL_KEYS]

    assert sum(scores) / 24 == pytest.approx(0.083, abs=0.001)
    assert metric.chance is not None
    chance = metric.chance([(suite_row(key=str(asked)), result(key="C major"))])
    assert chance.note == "chance: a key drawn evenly from the 24 reaches 0.083"


def test_mir_evals_tempo_score_differs_at_the_edge_of_the_tolerance() -> None:
    # 122.4 is 2 % above 120, but 0.020000000000000056 in floating point.
    def one_correct(reference: float, estimate: float) -> bool:
        tempi = np.array([reference] * 2), 0.5, np.array([estimate] * 2)
        return bool(mir_eval.tempo.detection(*tempi, tol=0.02)[1])

    assert (accuracy_1(120, 122.4), one_correct(120, 122.4)) == (True, False)
    for estimate in (117.7, 120.0, 122.3, 122.5, 240.0):
        assert accuracy_1(120, estimate) == one_correct(120, estimate)


def test_the_golden_table() -> None:
    suite = pb.Suite(name="mine", rows=[suite_row(tempo) for tempo in (100, 120, 140, 160)])
    models = [pb.EvaluatedModel(model=name) for name in ("base@1", "tuned@2")]
    base = [100.0, 100.0, 100.0, 100.0]
    tuned = [100.0, 120.0, 70.0, None]
    results = [result(tempo, row=i, model="base@1", loudness_lufs=-20.0) for i, tempo in enumerate(base)]
    results += [result(tempo, row=i, model="tuned@2", loudness_lufs=-14.0) for i, tempo in enumerate(tuned)]

    table = score_table(pb.EvaluationPlan(suite=suite, models=models), results, lambda _model, _rows: ())

    found = {(s.metric, s.model): (s.value, s.n, s.chance if s.HasField("chance") else None) for s in table}
    assert found["tempo_accuracy_1", "base@1"] == (1 / 4, 4, 3 / 12)
    assert found["tempo_accuracy_1", "tuned@2"] == (2 / 4, 4, 0)
    assert found["tempo_accuracy_2", "tuned@2"] == (3 / 4, 4, 0)
    assert found["tempo_accuracy_2", "tuned@2 - base@1"] == (2 / 4, 4, None)
    assert found["loudness_lufs", "tuned@2 - base@1"] == (6, 4, None)
    not_computed = {(s.metric, s.model) for s in table if not s.HasField("value")}
    assert ("key_exact", "tuned@2") in not_computed
    assert ("clap_score", "tuned@2") in not_computed


def test_rows_that_failed_are_in_no_score() -> None:
    suite = pb.Suite(name="mine", rows=[suite_row(100), suite_row(120)])
    plan = pb.EvaluationPlan(suite=suite, models=[pb.EvaluatedModel(model="m@1")])
    failed = result(row=1)
    failed.error.message = "no room"

    score = score_table(plan, [result(100.0), failed], lambda _model, _rows: ())[0]

    assert (score.value, score.n) == (1.0, 1)
    assert "all rows alike" in score.note

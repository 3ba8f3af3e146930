"""What a listening test comes to: intervals against scipy and by simulation, post-screening, CSV."""

import csv
import io

import numpy as np
import pytest
from scipy import stats

from luthier.curation.v1 import listening_pb2 as pb
from luthier_curation.listening.results import (
    COLUMNS,
    Design,
    Rating,
    csv_of,
    differences_of,
    estimate,
    holm,
    scores_of,
    screened,
)

from .listening_builders import MOS, MUSHRA, MUSICALITY, QUALITY

SYSTEM, REFERENCE = pb.LISTENING_ROLE_SYSTEM, pb.LISTENING_ROLE_REFERENCE
DESIGN = Design(MUSHRA, [QUALITY], [("ours", SYSTEM), ("base", SYSTEM), ("reference", REFERENCE)])


def rating(listener: str, trial: int, condition: str, value: float, question: pb.ListeningQuestion = QUALITY) -> Rating:
    role = REFERENCE if condition == "reference" else SYSTEM
    return Rating(listener, trial, condition, role, question, value)


def table(values: np.ndarray, condition: str) -> list[Rating]:
    """Ratings [listeners, trials] of a condition."""
    return [
        rating(f"l{listener}", trial, condition, float(value)) for (listener, trial), value in np.ndenumerate(values)
    ]


@pytest.fixture
def drawn() -> dict[str, np.ndarray]:
    """Ratings of 7 listeners x 9 trials of two systems: strict and mild listeners, hard and easy trials."""
    rng = np.random.default_rng(3)
    strict, hard = rng.normal(0, 9, (7, 1)), rng.normal(0, 6, (1, 9))
    return {
        name: np.round(mean + strict + hard + rng.normal(0, 8, (7, 9))) for name, mean in (("ours", 60), ("base", 52))
    }


def test_a_score_is_the_one_sample_t_interval_of_scipy_over_listeners(drawn: dict[str, np.ndarray]) -> None:
    [score] = scores_of(table(drawn["ours"], "ours"), DESIGN)
    known = stats.ttest_1samp(drawn["ours"].mean(axis=1), 0).confidence_interval(0.95)
    assert (score.mean, score.low, score.high) == pytest.approx((drawn["ours"].mean(), known.low, known.high))
    assert (score.listeners, score.ratings) == (7, 63)


def test_a_difference_is_the_paired_t_test_of_scipy_over_listeners(drawn: dict[str, np.ndarray]) -> None:
    [found] = differences_of([*table(drawn["ours"], "ours"), *table(drawn["base"], "base")], DESIGN)
    known = stats.ttest_rel(drawn["ours"].mean(axis=1), drawn["base"].mean(axis=1))
    low, high = known.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, known.pvalue))
    assert (found.condition, found.compared_with, found.pairs, found.listeners) == ("ours", "base", 63, 7)


def test_only_trials_that_a_listener_rated_on_both_sides_are_compared() -> None:
    said = [rating("a", 0, "ours", 80), rating("a", 1, "ours", 10), rating("a", 0, "base", 60)]
    [found] = differences_of([*said, rating("b", 2, "base", 50)], DESIGN)
    assert (found.mean, found.pairs, found.listeners) == (20, 1, 1)
    assert not found.HasField("low")
    assert not found.HasField("p")


def test_a_listener_who_stopped_early_counts_as_one_listener() -> None:
    said = [rating("a", trial, "ours", 80) for trial in range(20)] + [rating("b", 0, "ours", 40)]
    assert scores_of(said, DESIGN)[0].mean == 60


def test_intervals_end_where_the_scale_does() -> None:
    [score] = scores_of([rating("a", 0, "ours", 100), rating("b", 0, "ours", 80)], DESIGN)
    assert (score.low, score.high) == (0.0, 100.0), "12.7 times a standard error of 10 either way"


def test_all_alike_is_an_interval_of_no_width_and_no_p() -> None:
    found = estimate([5, 5, 5])
    assert (found.mean, found.low, found.high, found.p) == (5, 5, 5, None)


def covered(draws: np.ndarray, interval: str) -> float:
    """Share of experiments [experiments, listeners, trials], true mean 0, whose interval of the mean holds it."""
    experiments, listeners, trials = draws.shape
    means = draws.mean(axis=2)
    if interval == "ours":
        found = [estimate(row) for row in means]
        return float(np.mean([(e.low or 0) <= 0 <= (e.high or 0) for e in found]))
    if interval == "bootstrap":
        rng = np.random.default_rng(8)
        picked = rng.integers(0, listeners, (experiments, 1000, listeners))
        resampled = np.take_along_axis(means[:, np.newaxis, :], picked, axis=2).mean(axis=2)
        low, high = np.percentile(resampled, [2.5, 97.5], axis=1)
        return float(np.mean((low <= 0) & (high >= 0)))
    pooled = draws.reshape(experiments, -1)
    half = stats.t.ppf(0.975, listeners * trials - 1) * stats.sem(pooled, axis=1)
    return float(np.mean(np.abs(pooled.mean(axis=1)) <= half))


def test_intervals_hold_the_true_mean_as_often_as_they_say_where_others_do_not() -> None:
    rng = np.random.default_rng(5)
    draws = rng.normal(0, 10, (2000, 6, 1)) + rng.normal(0, 10, (2000, 6, 10))  # six listeners, ten trials
    assert covered(draws, "ours") == pytest.approx(0.95, abs=0.015)
    assert covered(draws, "bootstrap") < 0.91
    assert covered(draws, "pooled") < 0.60


def test_holms_correction_is_that_of_his_example() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") = 0.03 0.06 0.06 0.02
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_values_are_corrected_within_a_question(drawn: dict[str, np.ndarray]) -> None:
    said = [*table(drawn["ours"], "ours"), *table(drawn["base"], "base"), *table(drawn["base"] + 20, "reference")]
    found = [one for one in differences_of(said, DESIGN) if one.HasField("p")]
    assert [one.p_adjusted for one in found] == pytest.approx(holm([one.p for one in found]))
    assert len(found) == 2, "of base and reference, which differ by 20 everywhere, there is no p"


@pytest.mark.parametrize(("low", "excluded"), [(0, False), (3, False), (4, True), (20, True)])
def test_post_screening_excludes_above_15_percent_of_trials_below_90(low: int, excluded: bool) -> None:
    said = [rating("a", trial, "reference", 89 if trial < low else 90) for trial in range(20)]
    listener = screened(said, MUSHRA)["a"]
    assert (listener.low_reference_trials, listener.screened_trials) == (low, 20)
    assert listener.excluded is excluded, "15 % of 20 is 3"


def test_only_audio_quality_and_only_mushra_screen() -> None:
    musical = [rating("a", trial, "reference", 10, MUSICALITY) for trial in range(20)]
    assert not screened(musical, MUSHRA)["a"].excluded
    assert not screened([rating("a", 0, "reference", 1)], MOS)["a"].excluded


def test_the_csv_has_every_score_and_difference(drawn: dict[str, np.ndarray]) -> None:
    said = [*table(drawn["ours"], "ours"), *table(drawn["base"], "base")]
    scores, differences = scores_of(said, DESIGN), differences_of(said, DESIGN)
    rows = list(csv.DictReader(io.StringIO(csv_of(scores, differences))))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["condition"], row["compared_with"]) for row in rows] == [("ours", ""), ("base", ""), ("ours", "base")]
    assert [float(row["mean"]) for row in rows] == [scores[0].mean, scores[1].mean, differences[0].mean]
    assert float(rows[2]["p"]) == differences[0].p

"""Intervals, p values and permutation baselines against what can be worked out by hand."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from luthier_evaluation.statistics import (
    Interval,
    interval,
    paired_interval,
    permutation_baseline,
    permutation_p,
    sign_flip_p,
)


def interval_of(*values: float) -> Interval:
    found = interval(values)
    assert found is not None
    return found


def test_the_interval_of_a_proportion_is_near_the_normal_one_when_rows_are_many() -> None:
    values = [1.0] * 300 + [0.0] * 700
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)

    found = interval_of(*values)

    assert found.mean == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.003)
    assert found.n == 1000


def test_the_interval_of_few_rows_follows_the_binomial() -> None:
    # Resampling one hit of two: the mean is 0, 1/2, 1 with 1/4, 1/2, 1/4, so the middle 95 % is 0 to 1.
    found = interval_of(0.0, 1.0)
    assert (found.low, found.high) == (0.0, 1.0)


def test_the_same_rows_give_the_same_interval() -> None:
    values = [float(i % 7) for i in range(50)]
    assert interval(values) == interval(values)


def test_no_rows_no_interval() -> None:
    assert interval([]) is None


def test_one_row_and_rows_all_alike_have_an_interval_without_width() -> None:
    assert (interval_of(0.3).low, interval_of(0.3).high) == (0.3, 0.3)
    assert (interval_of(1.0, 1.0, 1.0).low, interval_of(1.0, 1.0, 1.0).high) == (1.0, 1.0)


def test_scipys_default_interval_has_no_value_for_rows_all_alike() -> None:
    with warnings.catch_warnings(action="ignore"):
        found = stats.bootstrap((np.ones(5),), np.mean, method="BCa").confidence_interval

    assert math.isnan(found.low)


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        found = interval_of(*generator.normal(0.0, 1.0, 60))
        inside += found.low <= 0.0 <= found.high
    assert 178 <= inside <= 200


def test_the_permutation_baseline_holds_every_estimate_against_the_other_rows() -> None:
    same = lambda reference, estimate: float(reference == estimate)  # noqa: E731

    assert permutation_baseline([1, 2, 3], [1, 2, 3], same) == 0  # as asked: never right for another row
    assert permutation_baseline([1, 2, 3], [2, 2, 2], same) == pytest.approx(2 / 6)  # always 2: right for one of three
    assert permutation_baseline([1, 1], [1, None], same) == pytest.approx(1 / 2)  # nothing measured is wrong everywhere
    assert permutation_baseline([1], [1], same) is None


def test_the_permutation_baseline_of_thousands_of_rows_is_found_in_bounded_time() -> None:
    references = [i % 24 for i in range(5000)]

    level = permutation_baseline(references, references[::-1], lambda a, b: float(a == b))

    assert level == pytest.approx(1 / 24, abs=0.01)


def test_the_sign_flip_test_is_exact_for_few_rows() -> None:
    assert sign_flip_p([1.0] * 7 + [0.0]) == 2 / 2**7  # only all plus and all minus are as far
    assert sign_flip_p([1.0, 1.0, 1.0, -1.0]) == 10 / 16  # |sum| >= 2: four and four, one and one
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert sign_flip_p([1.0]) == 1.0  # one row proves nothing


def test_sums_that_differ_by_rounding_alone_are_equal() -> None:
    # Differences of MIREX scores that add up to 0: no sign pattern is nearer. scipy's own tolerance is a share of the
    # sum, 5.6e-17 in floating point, and finds two of the sixteen sums nearer.
    differences = [-0.5, -0.2, 0.2, 0.5]

    assert sign_flip_p(differences) == 1.0
    naive = stats.permutation_test(
        (np.array(differences),), lambda x, axis: abs(x.sum(axis=axis)), permutation_type="samples", vectorized=True,
        alternative="greater",
    )  # fmt: skip
    assert naive.pvalue == 14 / 16


def test_the_sign_flip_test_of_many_rows_comes_near_the_exact_one() -> None:
    exact = stats.binomtest(60, 100).pvalue  # 0.0569: with differences of 1 the test is the sign test
    assert sign_flip_p([1.0] * 60 + [-1.0] * 40) == pytest.approx(exact, abs=0.005)


def test_a_paired_interval_of_shares_is_that_of_the_textbook() -> None:
    """Ratings of a prime minister, asked twice of 1,600 people (Agresti, Categorical Data Analysis, table 10.1): the
    Wald interval of the fall is 0.02 to 0.06, that of Agresti and Min 0.021 to 0.059."""
    found = paired_interval([1.0] * 150 + [-1.0] * 86 + [0.0] * (1600 - 236))
    assert found is not None
    assert found.mean == pytest.approx(0.04)
    assert (found.low, found.high) == pytest.approx((0.0212, 0.0587), abs=5e-5)


def test_rows_that_are_all_alike_leave_an_interval_that_narrows_with_their_number() -> None:
    few, many = (paired_interval([0.0] * rows) for rows in (20, 200))
    assert few is not None
    assert many is not None
    assert few.low == pytest.approx(-1.96 / 22, abs=1e-4)
    assert many.low == pytest.approx(-1.96 / 202, abs=1e-4)
    assert paired_interval([]) is None


def test_a_paired_interval_of_other_differences_is_the_bootstrap() -> None:
    differences = [0.3, -0.2, 0.5, 0.0, 0.3, 0.2]
    assert paired_interval(differences) == interval(differences)


def test_estimates_that_follow_are_not_reached_by_chance_and_others_are() -> None:
    asked = [float(tempo) for tempo in range(80, 110)]
    same = float.__eq__
    assert permutation_p(asked, asked, same) == 1e-4
    assert permutation_p(asked, [90.0] * len(asked), same) == 1.0  # the same for every prompt
    assert permutation_p([90.0] * 30, [90.0] * 30, same) == 1.0  # no prompt asks for anything else
    assert permutation_p(asked, [None] * len(asked), same) == 1.0
    assert permutation_p([], [], same) is None


def test_the_p_of_a_permutation_is_the_exact_one() -> None:
    """Two rows of three are right: of the six orders of three only one leaves both where they are."""
    asked = ["a", "b", "c"]
    found = permutation_p(asked, ["a", "b", "x"], str.__eq__)
    assert found == pytest.approx(1 / 6, abs=0.015)

"""Intervals and deaf levels against what can be worked out by hand."""

import math

import pytest

from luthier_evaluation.statistics import deaf_level, interval, sign_flip_p


def test_the_interval_of_a_proportion_is_near_the_normal_one_when_rows_are_many() -> None:
    values = [1.0] * 300 + [0.0] * 700
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)

    found = interval(values)

    assert found.mean == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.003)
    assert found.n == 1000


def test_the_interval_of_few_rows_follows_the_binomial() -> None:
    # Resampling one hit of two: the mean is 0, 1/2, 1 with 1/4, 1/2, 1/4, so the middle 95 % is 0 to 1.
    found = interval([0.0, 1.0])
    assert (found.low, found.high) == (0.0, 1.0)


def test_the_same_rows_give_the_same_interval() -> None:
    values = [float(i % 7) for i in range(50)]
    assert interval(values) == interval(values)


def test_no_rows_no_interval() -> None:
    assert interval([]) is None


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    import numpy as np

    generator = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        found = interval(generator.normal(0.0, 1.0, 60))
        inside += found.low <= 0.0 <= found.high
    assert 178 <= inside <= 200


def test_the_deaf_level_holds_every_estimate_against_the_other_rows() -> None:
    same = lambda reference, estimate: float(reference == estimate)  # noqa: E731

    assert deaf_level([1, 2, 3], [1, 2, 3], same) == 0  # obeys: never right for another row
    assert deaf_level([1, 2, 3], [2, 2, 2], same) == pytest.approx(2 / 6)  # always 2: right for one of three
    assert deaf_level([1, 1], [1, None], same) == pytest.approx(1 / 2)  # nothing measured is wrong everywhere
    assert deaf_level([1], [1], same) is None


def test_the_deaf_level_of_thousands_of_rows_is_found_in_bounded_time() -> None:
    references = [i % 24 for i in range(5000)]

    level = deaf_level(references, references[::-1], lambda a, b: float(a == b))

    assert level == pytest.approx(1 / 24, abs=0.01)


def test_the_sign_flip_test_is_exact_for_few_rows() -> None:
    assert sign_flip_p([1.0] * 7 + [0.0]) == 2 / 2**7  # only all plus and all minus are as far
    assert sign_flip_p([1.0, 1.0, 1.0, -1.0]) == 10 / 16  # |sum| >= 2: four and four, one and one
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert sign_flip_p([1.0]) == 1.0  # one row proves nothing


def test_the_sign_flip_test_of_many_rows_follows_the_normal_distribution() -> None:
    # 60 of 100 rows better: z = 2, two-sided p = 0.0455, and a little more for the steps of the binomial.
    assert sign_flip_p([1.0] * 60 + [-1.0] * 40) == pytest.approx(0.057, abs=0.01)

"""Fréchet distances against closed forms, scipy's square root of a matrix, and what they must not depend on."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from luthier_evaluation.distances import (
    Gaussian,
    Moments,
    frechet,
    frechet_infinity,
    frechet_of_piece,
    reference_of,
)


def drawn(windows: int, dimensions: int, seed: int = 0, mean: float = 0.0, scale: float = 1.0) -> NDArray[np.float32]:
    dice = np.random.default_rng(seed)
    return (mean + scale * dice.standard_normal((windows, dimensions))).astype(np.float32)


def known(*sets: NDArray[np.float32]) -> Gaussian:
    moments = Moments(sets[0].shape[1])
    for vectors in sets:
        moments.add(vectors)
    found = moments.gaussian()
    assert found
    return found


def test_the_distance_of_gaussians_with_diagonal_covariances_is_its_closed_form() -> None:
    one = Gaussian(np.array([0.0, 1.0, 2.0]), np.diag([1.0, 4.0, 9.0]), 100)
    other = Gaussian(np.array([1.0, 1.0, 0.0]), np.diag([4.0, 4.0, 1.0]), 100)

    found = frechet(one, other)

    assert found == pytest.approx((1 + 0 + 4) + (1 - 2) ** 2 + 0 + (3 - 1) ** 2)


def test_the_distance_of_full_covariances_is_that_of_scipys_matrix_root() -> None:
    one, other = known(drawn(500, 12, 1) @ drawn(12, 12, 2)), known(drawn(500, 12, 3, mean=0.3) @ drawn(12, 12, 4))

    found = frechet(one, other)

    root = np.real(sqrtm(one.covariance @ other.covariance))
    means = one.mean - other.mean
    assert found == pytest.approx(means @ means + np.trace(one.covariance + other.covariance - 2 * root), rel=1e-6)


def test_a_set_is_no_distance_from_itself() -> None:
    one = known(drawn(50, 40))

    assert frechet(one, one) == pytest.approx(0, abs=1e-6)


def test_moments_are_numpys_whatever_the_order_and_the_pieces() -> None:
    vectors = drawn(300, 8, mean=1000.0)

    found = known(vectors[200:], vectors[:1], vectors[1:200])

    assert found.mean == pytest.approx(vectors.astype(np.float64).mean(axis=0), rel=1e-9)
    assert found.covariance == pytest.approx(np.cov(vectors.astype(np.float64), rowvar=False), abs=1e-6)


def test_fewer_windows_than_a_covariance_needs_have_no_gaussian() -> None:
    moments = Moments(8)

    moments.add(drawn(8, 8))

    assert moments.gaussian() is None
    assert moments.needed == 9


def test_the_floor_of_a_reference_falls_with_its_size() -> None:
    small, large = (reference_of([drawn(10, 8, seed) for seed in range(count)], count, 8) for count in (10, 300))

    assert small.floor is not None
    assert large.floor is not None
    assert large.floor < small.floor / 5


def test_a_reference_of_too_few_windows_says_how_many_it_needs() -> None:
    found = reference_of([drawn(3, 8)], 1, 8)

    assert (found.gaussian, found.floor, found.windows, found.needed) == (None, None, 3, 9)


def test_extrapolated_the_distance_of_alike_sets_loses_its_bias() -> None:
    reference = known(drawn(20_000, 16, 1))
    vectors = drawn(400, 16, 2)

    biased, endless = frechet(known(vectors), reference), frechet_infinity(vectors, reference)

    assert endless is not None
    assert abs(endless) < biased / 3


def test_too_few_windows_have_no_line_to_extrapolate() -> None:
    assert frechet_infinity(drawn(18, 16), known(drawn(100, 16))) is None


def test_of_a_piece_the_distance_is_that_of_its_gaussian() -> None:
    reference, piece = known(drawn(200, 6, 1)), drawn(50, 6, 2, mean=0.5, scale=2.0)

    assert frechet_of_piece(piece, reference) == pytest.approx(frechet(known(piece), reference))


def test_a_piece_of_fewer_windows_than_dimensions_still_has_a_rank() -> None:
    reference = known(drawn(200, 6, 1))

    near, far = frechet_of_piece(drawn(3, 6, 2), reference), frechet_of_piece(drawn(3, 6, 2, mean=3.0), reference)

    assert near is not None
    assert far is not None
    assert near < far

"""True peak against what EBU Tech 3341 says of its test signals."""

import numpy as np
import pytest

from luthier_music.true_peak import true_peak_dbtp


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
@pytest.mark.parametrize(
    ("divisor", "degrees", "amplitude", "expected"),
    [(4, 0, 0.5, -6.0), (4, 45, 0.5, -6.0), (6, 60, 0.5, -6.0), (8, 67.5, 0.5, -6.0), (4, 45, 1.41, 3.0)],
)  # test signals 15 to 19
def test_a_sine_between_the_samples_is_read_within_the_standards_tolerance(
    rate_hz: int, divisor: int, degrees: float, amplitude: float, expected: float
) -> None:
    at = np.arange(rate_hz)
    fade = np.minimum(1.0, np.minimum(at, at[::-1]) / (0.01 * rate_hz))
    sine = amplitude * np.sin(2 * np.pi * at / divisor + np.radians(degrees)) * fade

    assert expected - 0.4 <= true_peak_dbtp(sine, rate_hz) <= expected + 0.2


def test_it_is_never_below_the_sample_peak() -> None:
    click = np.zeros((4800, 2))
    click[2400, 1] = -0.8

    assert true_peak_dbtp(click, 48_000) >= 20 * np.log10(0.8) - 1e-6


def test_silence_has_none() -> None:
    assert true_peak_dbtp(np.zeros((480, 2)), 48_000) == -np.inf


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        true_peak_dbtp(np.array([0.0, np.nan] * 100), 48_000)

"""The compiled loops give what numpy gives, bit for bit."""

import numpy as np
import pytest
from scipy.signal import resample_poly

from luthier_music.native import add_to_mix, highest, read_warped, to_steps

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("gain", [1.0, 0.7, 1e-9])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_steps_are_rounded_as_numpy_rounds_to_the_even_one_of_two(channels: int, gain: float) -> None:
    samples = RANDOM.uniform(-1, 1, (10_007, channels)).astype(np.float32)
    samples[:1000] = ((np.arange(1000) - 500.5) / 32768)[:, np.newaxis]  # exactly between two steps
    samples[1000:1003] = [[1.0] * channels, [-1.0] * channels, [-0.0] * channels]

    steps, highest = to_steps(samples, gain)

    levelled = samples * np.float32(gain)
    wanted = np.minimum(np.rint(levelled * np.float32(32768)), 32767)
    np.testing.assert_array_equal(steps, wanted.T.astype(np.int32))
    assert highest == np.abs(levelled).max()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_the_peak_of_what_is_no_number_is_none(bad: float) -> None:
    samples = np.full((5001, 2), 0.5, np.float32)
    samples[4990, 1] = bad
    assert not np.isfinite(to_steps(samples, 1.0)[1])
    assert not np.isfinite(add_to_mix(samples, 1.0, np.empty(0, np.float32), np.zeros_like(samples), 4096)[1])


@pytest.mark.parametrize("faded", [0, 1, 1000, 10_007])
def test_adding_to_the_mix_is_a_product_and_a_sum(faded: int) -> None:
    samples, mix = (RANDOM.normal(0, 0.1, (10_007, 2)).astype(np.float32) for _ in range(2))
    samples[4096:8192] = 0.0
    fade = np.linspace(1, 0, faded, dtype=np.float32)
    wanted = samples * np.float32(0.3)
    wanted[len(wanted) - faded :] *= fade[:, np.newaxis]
    wanted_mix = mix + wanted

    peaks = add_to_mix(samples, 0.3, fade, mix, 4096)

    np.testing.assert_array_equal(samples, wanted)
    np.testing.assert_array_equal(mix, wanted_mix)
    np.testing.assert_array_equal(peaks, [np.abs(wanted[i : i + 4096]).max() for i in (0, 4096, 8192)])
    assert peaks[1] == 0.0


def test_a_view_that_is_no_whole_array_is_refused() -> None:
    samples = np.zeros((2, 100), np.float32)
    with pytest.raises(ValueError, match="whole arrays"):
        add_to_mix(samples.T, 1.0, np.empty(0, np.float32), np.zeros((100, 2), np.float32), 10)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("samples", "fade", "mix"),
    [
        (np.zeros((100, 2)), np.ones(5, np.float32), np.zeros((100, 2))),
        (np.zeros((100, 2), np.float32), np.ones(5, np.float32), np.zeros((100, 2))),
        (np.zeros((100, 2), np.float32), np.ones(5), np.zeros((100, 2), np.float32)),
        (np.zeros((100, 2), np.float32), np.ones(10, np.float32)[::2], np.zeros((100, 2), np.float32)),
        (np.zeros((100, 1), np.float32), np.ones(5, np.float32), np.zeros((100, 1), np.float32)),
        (np.zeros((100, 2), np.float32), np.ones(5, np.float32), np.zeros((99, 2), np.float32)),
        (_read_only(np.zeros((100, 2), np.float32)), np.ones(5, np.float32), np.zeros((100, 2), np.float32)),
        (np.zeros((100, 2), np.float32), np.ones(5, np.float32), _read_only(np.zeros((100, 2), np.float32))),
    ],
)
def test_arrays_that_would_be_misread_are_refused(samples: np.ndarray, fade: np.ndarray, mix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="samples"):
        add_to_mix(samples, 1.0, fade, mix, 10)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, 0.25])
def test_the_highest_sample_is_by_its_amount(bad: float) -> None:
    samples = RANDOM.uniform(-0.9, 0.9, (2, 5001)).astype(np.float32)
    assert highest(samples[:, ::2]) == np.abs(samples[:, ::2]).max()
    samples[1, 17] = bad
    np.testing.assert_equal(highest(samples), np.abs(samples).max())
    assert highest(samples[:, :0]) == 0.0


@pytest.mark.parametrize("frames", [1, 5, 30, 5000])
@pytest.mark.parametrize("up", [1, 2, 4])
def test_samples_are_read_at_other_moments_as_scipy_and_numpy_read_them(up: int, frames: int) -> None:
    """All of the signal, with its ends and what lies behind, forwards, twice as fast and at a stand."""
    played = RANDOM.normal(0, 0.3, (frames, 2)).astype(np.float32)
    reach = 10 if up > 1 else 0
    impulse = np.zeros(2 * reach + 1, np.float32)
    impulse[reach] = 1.0
    phases = resample_poly(impulse, up, 1).reshape(-1, up).T[:, ::-1]
    fine = resample_poly(played, up, 1, axis=0)
    places = RANDOM.uniform(0, up * frames + 3, 7000)
    at = np.concatenate([[0.0, up * frames - 1, up * frames], np.arange(up * frames), np.sort(places), places])

    found = read_warped(played, phases, at)

    for side in range(2):
        wanted = np.interp(at, np.arange(len(fine)), fine[:, side]).astype(np.float32)
        np.testing.assert_array_equal(found[:, side], wanted)


@pytest.mark.parametrize(("frames", "place"), [(0, 0.0), (5, -0.5), (5, np.nan)])
def test_nowhere_is_no_place_to_read(frames: int, place: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_warped(np.zeros((frames, 2), np.float32), np.ones((1, 1), np.float32), np.array([place]))

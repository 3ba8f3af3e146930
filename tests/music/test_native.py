"""The compiled loops give what numpy gives, bit for bit."""

import numpy as np
import pytest

from luthier_music.native import add_to_mix, to_steps

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

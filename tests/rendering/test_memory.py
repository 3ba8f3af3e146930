"""Memory is used again once nobody holds it, and only then."""

import numpy as np
import pytest

from luthier_rendering.backends.memory import Memory


def test_memory_that_nobody_holds_is_given_out_again() -> None:
    memory = Memory()
    first = memory.samples(1000)
    place = first.ctypes.data
    del first

    assert memory.samples(900).ctypes.data == place


def test_memory_that_a_view_holds_is_not_given_out_again() -> None:
    memory = Memory()
    held = memory.samples(1000)[10:20]
    held[:] = 1.0

    memory.samples(1000)[:] = 0.0

    np.testing.assert_array_equal(held, 1.0)


def test_a_song_that_is_too_long_for_memory_does_not_stop_the_next_one() -> None:
    memory = Memory()
    with pytest.raises(MemoryError):
        memory.samples(1 << 50)

    assert memory.samples(10).shape == (10, 2)

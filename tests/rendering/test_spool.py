"""What waits on scratch comes back as it was, and silence takes no space there."""

from pathlib import Path

import numpy as np
import pytest

from luthier_rendering.spool import PIECE_FRAMES, QUIET_FRAMES, Spool


def spooled(path: Path, samples: np.ndarray) -> Spool:
    spool = Spool(path)
    for first in range(0, len(samples), PIECE_FRAMES):
        piece = samples[first : first + PIECE_FRAMES]
        heard = [piece[block : block + QUIET_FRAMES].any() for block in range(0, len(piece), QUIET_FRAMES)]
        spool.append(piece, np.array(heard))
    spool.close()
    return spool


@pytest.mark.parametrize("frames", [1, QUIET_FRAMES + 1, PIECE_FRAMES, 2 * PIECE_FRAMES + 17])
def test_samples_come_back_bit_for_bit(tmp_path: Path, frames: int) -> None:
    samples = np.random.default_rng(1).normal(0, 1, (frames, 2)).astype(np.float32)

    back = [piece.copy() for piece in spooled(tmp_path / "a", samples).pieces()]

    np.testing.assert_array_equal(np.concatenate(back), samples)


def test_silent_blocks_take_no_space(tmp_path: Path) -> None:
    samples = np.zeros((2 * PIECE_FRAMES + 5, 2), np.float32)
    for frame in (PIECE_FRAMES - 1, PIECE_FRAMES + 2 * QUIET_FRAMES, PIECE_FRAMES + 3 * QUIET_FRAMES, -1):
        samples[frame] = 0.5

    spool = spooled(tmp_path / "a", samples)

    assert (tmp_path / "a").stat().st_size == (3 * QUIET_FRAMES + 5) * 2 * 4
    np.testing.assert_array_equal(np.concatenate([piece.copy() for piece in spool.pieces()]), samples)


def test_silence_comes_back_without_a_byte(tmp_path: Path) -> None:
    spool = spooled(tmp_path / "a", np.zeros((PIECE_FRAMES + 1, 2), np.float32))

    assert (tmp_path / "a").stat().st_size == 0
    assert sum(len(piece) for piece in spool.pieces() if not piece.any()) == PIECE_FRAMES + 1


def test_the_file_is_gone_once_it_was_read(tmp_path: Path) -> None:
    spool = spooled(tmp_path / "a", np.ones((10, 2), np.float32))

    assert sum(map(len, spool.pieces())) == 10
    assert not (tmp_path / "a").exists()


def test_a_file_that_lost_its_end_is_an_error_of_scratch(tmp_path: Path) -> None:
    spool = spooled(tmp_path / "a", np.ones((1000, 2), np.float32))
    (tmp_path / "a").write_bytes(b"")

    with pytest.raises(OSError, match="shorter"):
        list(spool.pieces())

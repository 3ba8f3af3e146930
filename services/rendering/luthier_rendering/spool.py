"""Levelled stems wait here, on scratch, until the gain of the mix is known. Silence takes no space."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_music.audio import BLOCK_FRAMES, Samples

PIECE_FRAMES: Final = BLOCK_FRAMES  # all that is done to a piece is done while it is in the processor's cache
QUIET_FRAMES: Final = 1 << 12  # what is looked at for silence: 93 ms. Of the stems of real songs half is silent


class Spool:
    """Raw samples of one stem in a file, without its silent blocks of QUIET_FRAMES."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb", buffering=0)
        self._spans: list[tuple[int, bool]] = []  # frames, whether they are heard

    def append(self, piece: Samples, heard: NDArray[np.bool_]) -> None:
        """More samples [frames, 2]: of their blocks of QUIET_FRAMES, of which only the last piece of all may have a
        shorter one, those are `heard` [blocks] that are not silent."""
        turns = (np.flatnonzero(heard[1:] != heard[:-1]) + 1) * QUIET_FRAMES
        for first, last in pairwise([0, *turns.tolist(), len(piece)]):
            is_heard = bool(heard[first // QUIET_FRAMES])
            if is_heard:
                self._file.write(piece[first:last].data)
            self._spans.append((last - first, is_heard))

    def close(self) -> None:
        """Nothing is appended any more."""
        self._file.close()

    def pieces(self) -> Iterator[Samples]:
        """What was appended, in order, each piece valid until the next; the file is gone when all were read."""
        most = max((frames for frames, _ in self._spans), default=0)
        silence, buffer = np.zeros((most, 2), np.float32), np.empty((most, 2), np.float32)
        with self._path.open("rb", buffering=0) as file:
            for frames, is_heard in self._spans:
                piece = (buffer if is_heard else silence)[:frames]
                if is_heard and file.readinto(piece.data) != piece.nbytes:
                    raise OSError(f"{self._path.name} on scratch is shorter than it was written")
                yield piece
        self._path.unlink()

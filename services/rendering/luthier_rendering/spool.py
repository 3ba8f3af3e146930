"""Levelled stems wait here, on scratch, until the gain of the mix is known. Silent pieces take no space."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from luthier_music.audio import BLOCK_FRAMES, Samples, peak

PIECE_FRAMES: Final = BLOCK_FRAMES  # all that is done to a piece is done while it is in the processor's cache


class Spool:
    """Raw samples of one stem in a file, piece by piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._heard: list[bool] = []  # of each piece
        self._frames = 0

    def append(self, piece: Samples) -> None:
        """The next piece [PIECE_FRAMES, 2], or shorter the last one."""
        heard = peak(piece) > 0.0
        if heard:
            self._file.write(piece.data)
        self._heard.append(heard)
        self._frames += len(piece)

    def close(self) -> None:
        """Nothing is appended any more."""
        self._file.close()

    def pieces(self) -> Iterator[Samples]:
        """What was appended, in order, each valid until the next; the file is gone when all were read."""
        rest = self._frames
        silence, buffer = np.zeros((PIECE_FRAMES, 2), np.float32), np.empty((PIECE_FRAMES, 2), np.float32)
        with self._path.open("rb", buffering=0) as file:
            for heard in self._heard:
                piece = (buffer if heard else silence)[: min(rest, PIECE_FRAMES)]
                if heard and file.readinto(piece.data) != piece.nbytes:
                    raise OSError(f"{self._path.name} on scratch is shorter than it was written")
                rest -= len(piece)
                yield piece
        self._path.unlink()

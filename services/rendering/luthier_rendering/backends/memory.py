"""Memory of stems and mixes, used again once nobody holds one any more: to be given fresh memory for each takes the
system a third of the time that the synthesiser needs to fill it."""

import sys
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_music.audio import Samples

_KEPT_VALUES: Final = 1 << 25  # 6 minutes of stereo, 128 MB: what an idle worker may go on holding
_FREE: Final = 2  # references to an array that no other one is a view of: where it is kept, and the question itself


class Memory:
    """Gives out arrays whose memory is the one before's, where that one and all its views are gone."""

    def __init__(self) -> None:
        self._kept: NDArray[np.float32] = np.empty(0, dtype=np.float32)

    def samples(self, frames: int) -> Samples:
        """Samples [frames, 2] of any value."""
        size = 2 * frames
        block = self._kept
        del self._kept  # or the count below would depend on where it is asked
        if block.size < size or sys.getrefcount(block) > _FREE:
            block = np.empty(size, dtype=np.float32)
        self._kept = block if size <= _KEPT_VALUES else np.empty(0, dtype=np.float32)
        return block[:size].reshape(frames, 2)

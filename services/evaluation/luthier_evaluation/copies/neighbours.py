"""The training clips that sound most alike an output, by the vectors of any embedder.

Unlike a copy (`search`), a neighbour may share no note with the output: it is of the same kind of music.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_evaluation.embedders.base import Floats
from luthier_kit.rpc import InvalidRequest

LISTED: Final = 50
_CHUNK: Final = 8192  # windows of the clips at a time: 33 MB of products with 1000 windows of outputs


@dataclass(frozen=True)
class Neighbour:
    """A clip by its position, and the cosine of the two windows that are most alike, -1 to 1: the clip's and the
    output's, counted from 0."""

    clip: int
    cosine: float
    clip_window: int
    window: int


@dataclass(frozen=True)
class Neighbours:
    """The windows of many clips, of length 1, in the order of the clips."""

    vectors: Floats  # (windows, dimensions)
    starts: NDArray[np.int64]  # (clips + 1,)

    @classmethod
    def of(cls, clips: Sequence[Floats]) -> "Neighbours":
        """Of each clip its vectors (windows, dimensions), as `Embedding.vectors`; a clip without windows is nobody's
        neighbour. InvalidRequest where dimensions differ or values are not finite."""
        dimensions = {clip.shape[1] for clip in clips if clip.ndim == 2 and len(clip)}
        if len(dimensions) > 1 or any(clip.ndim != 2 for clip in clips):
            raise InvalidRequest(
                f"vectors must be (windows, dimensions), alike for all clips: got {sorted(dimensions)}"
            )
        starts = np.cumsum([0, *(len(clip) for clip in clips)])
        vectors = np.empty((int(starts[-1]), next(iter(dimensions), 0)), np.float32)
        for start, clip in zip(starts, clips, strict=False):
            if len(clip):
                vectors[start : start + len(clip)] = _unit(clip)
        return cls(vectors, starts)

    def nearest(self, output: Floats, most: int = LISTED) -> list[Neighbour]:
        """The clips nearest to an output's vectors (windows, dimensions), by descending cosine, each once.

        Memory beside the vectors: a chunk of the products. InvalidRequest where `output` has other dimensions, values
        that are not finite, or `most` is below 1.
        """
        if most < 1:
            raise InvalidRequest(f"most must be 1 or more: got {most}")
        if output.ndim != 2 or (len(output) and len(self.vectors) and output.shape[1] != self.vectors.shape[1]):
            raise InvalidRequest(f"vectors must be (windows, {self.vectors.shape[1]}): got the shape {output.shape}")
        if not len(output) or not len(self.vectors):
            return []
        asked = _unit(output)
        cosines = np.empty(len(self.vectors), np.float32)  # of each window with the output's that is most alike
        windows = np.empty(len(self.vectors), np.int64)
        for start in range(0, len(self.vectors), _CHUNK):
            products = self.vectors[start : start + _CHUNK] @ asked.T  # (windows of clips, windows of the output)
            windows[start : start + _CHUNK] = products.argmax(axis=1)
            cosines[start : start + _CHUNK] = products.max(axis=1)
        there = np.flatnonzero(np.diff(self.starts))
        best = np.maximum.reduceat(cosines, self.starts[there])
        found = []
        for place in np.argsort(-best, kind="stable")[:most].tolist():
            clip = int(there[place])
            first, last = int(self.starts[clip]), int(self.starts[clip + 1])
            window = first + int(cosines[first:last].argmax())
            cosine = float(np.clip(cosines[window], -1, 1))
            found.append(Neighbour(clip, cosine, window - first, int(windows[window])))
        return found


def _unit(vectors: Floats) -> Floats:
    """Of length 1; a vector of zeros stays: it is alike nothing."""
    if not np.isfinite(vectors).all():
        raise InvalidRequest("vectors must be finite: NaN or infinity among them")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit: Floats = (vectors / np.maximum(lengths, 1e-30)).astype(np.float32)
    return unit

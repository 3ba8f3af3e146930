"""True peak by ITU-R BS.1770-4, annex 2: of the signal between the samples, by four times as many of them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_music.audio_rate import resampled

OVERSAMPLING: Final = 4


def true_peak_dbtp(samples: NDArray[np.floating], sample_rate_hz: int) -> float:
    """True peak of `samples` [frames] or [frames, channels], full scale 1.0, in dBTP; -inf for silence.

    The annex leaves the filter open; this is libsoxr's. ValueError for NaN or infinity.
    """
    between = resampled(samples.astype(np.float32, copy=False), sample_rate_hz, OVERSAMPLING * sample_rate_hz)
    peak = max(float(np.abs(part).max(initial=0.0)) for part in (samples, between))
    if not np.isfinite(peak):
        raise ValueError("samples hold NaN or infinity")
    return 20 * float(np.log10(peak)) if peak > 0 else -np.inf

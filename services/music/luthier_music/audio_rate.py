"""Another sample rate, by libsoxr: the one way of all services.

Its high quality is flat to 0.01 dB up to 0.9 of the lower rate's half and 135 dB down from that half on, without delay.
The filters that SciPy and torchaudio have by default are 6 dB down there: from 48 kHz, a tone of 23 kHz comes back at
21.1 kHz, -9 dB.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from luthier_music.audio import Samples


def resampled(samples: Samples, rate_hz: int, wanted_hz: int) -> Samples:
    """(n,) or (frames, channels) at another rate, as many as last as long, to the nearest."""
    if rate_hz == wanted_hz:
        return samples
    at_wanted: Samples = soxr.resample(samples.astype(np.float32, copy=False), rate_hz, wanted_hz, quality="HQ")
    return at_wanted


def resampled_blocks(blocks: Iterable[Samples], rate_hz: int, wanted_hz: int) -> Iterator[Samples]:
    """Stereo audio that comes in blocks (frames, 2) at another rate, in blocks, never whole in memory: together the
    same samples as `resampled` gives."""
    if rate_hz == wanted_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate_hz, wanted_hz, 2, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty((0, 2), np.float32), last=True)

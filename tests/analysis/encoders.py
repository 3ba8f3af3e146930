"""Audio in the formats in which other people's files come, encoded by FFmpeg's own encoders."""

import io
from collections.abc import Mapping

import av
import numpy as np

from .synth import RATE_HZ


def encoded(
    samples: np.ndarray,
    container: str,
    codec: str,
    *,
    rate_hz: int = RATE_HZ,
    layout: str = "stereo",
    tags: Mapping[str, str] = {},
) -> bytes:
    """(channels, n) float32 at `rate_hz` as a file: names of FFmpeg's muxer and encoder."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        out.metadata.update(tags)
        stream = out.add_stream(codec, rate=rate_hz, layout=layout)
        assert isinstance(stream, av.AudioStream)
        context = stream.codec_context
        context.open()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format="fltp", layout=layout)
        frame.sample_rate = rate_hz
        converter = av.AudioResampler(context.format.name, layout, rate_hz)
        fifo = av.AudioFifo()
        for converted in converter.resample(frame):
            fifo.write(converted)
        size = context.frame_size or 1024
        while part := fifo.read(size) or fifo.read(size, partial=True):
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return file.getvalue()

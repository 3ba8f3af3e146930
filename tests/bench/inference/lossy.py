"""What lossy codecs make of a sound, for benches of marks."""

import io
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
RATE_HZ: Final = 44_100
BIT_RATE: Final = 128_000
CODECS: Final = {"MP3": ("mp3", "libmp3lame", RATE_HZ), "AAC": ("ipod", "aac", RATE_HZ),
                 "Opus": ("ogg", "libopus", 48_000)}  # fmt: skip


def through_codec(samples: Floats, name: str) -> Floats:
    """Samples (frames, 2) of RATE_HZ, encoded at BIT_RATE and decoded again."""
    container, codec, rate_hz = CODECS[name]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz)
        stream.bit_rate, stream.layout = BIT_RATE, "stereo"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
        frame.rate = RATE_HZ
        size = stream.codec_context.frame_size or 1024
        fitted = av.AudioResampler(stream.codec_context.format, "stereo", rate_hz, frame_size=size)
        for part in [*fitted.resample(frame), *fitted.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as coded:
        back = av.AudioResampler("fltp", "stereo", RATE_HZ)
        frames = [part for each in coded.decode(audio=0) for part in back.resample(each)] + back.resample(None)
    return np.concatenate([part.to_ndarray() for part in frames], axis=1).T.astype(np.float32)

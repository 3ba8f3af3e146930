"""Audio inside the page: a chosen few of the rows, as MP3 in data URIs, with their waveforms."""

import base64
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import LuthierError
from luthier_music.audio import AudioError, Samples, read_audio

MOST_ROWS = 12  # rows to listen to, evenly over the suite
MOST_S = 30.0  # seconds of each
QUALITY = 0.6  # of libsndfile's variable bit rate, 0 best to 1 smallest: about 10 kB a second
BARS = 120


@dataclass(frozen=True)
class Sound:
    """A playable sound: a data URI, and the peaks of its waveform, 0 to 1."""

    uri: str
    peaks: tuple[float, ...]
    cut: bool


def rows_to_hear(count: int, most: int = MOST_ROWS) -> list[int]:
    """Up to `most` row numbers, evenly spread over `count` rows."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def sound(store: Artifacts, audio: ArtifactRef | None) -> Sound | None:
    """The sound of an artifact; None when it is not there any more or cannot be read (generated audio expires)."""
    if audio is None:
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = store.fetch(audio, Path(folder))
            samples, rate = read_audio(path, duration_s=MOST_S)
    except (LuthierError, AudioError):
        return None
    data, media_type = encode(samples, rate)
    uri = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return Sound(uri, peaks(samples), cut=samples.shape[0] >= int(MOST_S * rate))


def encode(samples: Samples, rate: int) -> tuple[bytes, str]:
    """MP3, which every browser plays; 16-bit FLAC where MP3 has no such sampling rate."""
    out = io.BytesIO()
    try:
        soundfile.write(out, samples, rate, format="MP3", subtype="MPEG_LAYER_III", compression_level=QUALITY,
                        bitrate_mode="VARIABLE")  # fmt: skip
    except soundfile.LibsndfileError:
        out = io.BytesIO()
        soundfile.write(out, samples, rate, format="FLAC", subtype="PCM_16")
        return out.getvalue(), "audio/flac"
    return out.getvalue(), "audio/mpeg"


def peaks(samples: Samples, bars: int = BARS) -> tuple[float, ...]:
    """The largest absolute sample in each of `bars` equal parts, of full scale."""
    loudest = np.abs(samples).max(axis=1) if samples.size else np.zeros(1)
    parts: Sequence[np.ndarray] = np.array_split(loudest, min(bars, loudest.size))
    return tuple(float(min(1.0, part.max())) for part in parts)

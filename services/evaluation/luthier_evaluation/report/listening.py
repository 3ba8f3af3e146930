"""Audio inside the page: some of the rows, as MP3 in data URIs, with the peaks of their waveforms."""

import base64
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.rpc import LuthierError
from luthier_kit.store import Store
from luthier_music.audio import AudioError, Samples, read_audio

MAX_ROWS: Final = 12  # rows to listen to, evenly over the suite
MAX_S: Final = 30.0  # seconds of each
QUALITY: Final = 0.6  # of libsndfile's variable bit rate, 0 best to 1 smallest: about 10 kB a second
BARS: Final = 120  # of a waveform


@dataclass(frozen=True)
class Sound:
    """A playable sound: a data URI, the peaks of its waveform (0 to 1), and whether its end was cut off."""

    uri: str
    peaks: tuple[float, ...]
    cut: bool


def rows_to_play(count: int, most: int = MAX_ROWS) -> list[int]:
    """Up to `most` row numbers, evenly spread over `count` rows."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def sound(store: Store, audio: ArtifactRef) -> Sound | None:
    """The sound of an artifact; None when it is not there any more or cannot be read (generated audio expires)."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = store.blobs.fetch(audio, Path(folder), read_only=True)
            samples, rate = read_audio(path, duration_s=MAX_S)
    except (LuthierError, AudioError):
        return None
    return Sound(uri_of(*encode(samples, rate)), peaks(samples), cut=samples.shape[0] >= int(MAX_S * rate))


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


def uri_of(data: bytes, media_type: str) -> str:
    """A data URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def peaks(samples: Samples, bars: int = BARS) -> tuple[float, ...]:
    """The largest absolute sample in each of `bars` equal parts, of full scale."""
    loudest = np.abs(samples).max(axis=1) if samples.size else np.zeros(1)
    parts: Sequence[np.ndarray] = np.array_split(loudest, min(bars, loudest.size))
    return tuple(float(min(1.0, part.max())) for part in parts)

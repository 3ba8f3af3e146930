"""Audio files: FLAC and WAV in and out, through libsndfile but for FLAC out; samples are float32
[frames, channels], full scale 1.0.

Everything that Luthier stores is 16-bit FLAC at 44.1 kHz, stereo; reading takes what libsndfile knows, and FLAC without
a length in its header. It is bounded, so that a small file that claims to be days long allocates nothing.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from luthier_music.audio_flac import CutStream, with_length
from luthier_music.native import to_steps

if TYPE_CHECKING:
    from luthier_music.flac_writer import FlacWriter

SAMPLE_RATE_HZ: Final = 44_100
MAX_DURATION_S: Final = 7200.0
MAX_VALUES: Final = 1 << 30  # frames times channels: 4 GiB once decoded, 1.5 hours of 96 kHz stereo
MAX_SAMPLE: Final = 1e6  # 120 dB above full scale: far beyond it, powers and spectra overflow float32
BLOCK_FRAMES: Final = 1 << 16  # written at a time: 1.5 s at 44.1 kHz

Samples = NDArray[np.float32]


class AudioError(ValueError):
    """This is no audio file that can be read, or these are no samples that can be written."""


@dataclass(frozen=True)
class AudioInfo:
    """What the file's header says; of a FLAC without a length, what its last frame says."""

    sample_rate_hz: int
    channels: int
    frames: int
    format: str
    subtype: str

    @property
    def duration_s(self) -> float:
        return self.frames / self.sample_rate_hz


def audio_info(path: Path) -> AudioInfo:
    """Read the header. AudioError when it is none."""
    with open_audio(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames, file.format, file.subtype)


def read_audio(
    path: Path, *, start_s: float = 0.0, duration_s: float | None = None, max_duration_s: float = MAX_DURATION_S
) -> tuple[Samples, int]:
    """Samples [frames, channels] from `start_s` on, and the sample rate in Hz.

    A span beyond the end gives what there is. AudioError when the file cannot be read, is a FLAC that ends before its
    header says, holds NaN, infinity or samples beyond MAX_SAMPLE, or when more than `max_duration_s` or MAX_VALUES are
    asked for (checked before anything is allocated).
    """
    if not np.isfinite(start_s) or start_s < 0 or (duration_s is not None and not duration_s >= 0):
        raise AudioError(f"a span starts at 0 or later and is not negative: got {start_s} s for {duration_s} s")
    with open_audio(path) as file:
        rate = file.samplerate
        first = min(round(start_s * rate), file.frames)
        count = file.frames - first
        if duration_s is not None:
            count = min(round(min(duration_s, 1e6) * rate), count)
        if count > max_duration_s * rate:
            raise AudioError(f"{count / rate:.1f} s of audio asked for, the bound is {max_duration_s:g} s")
        if count * file.channels > MAX_VALUES:
            raise AudioError(f"{count} frames of {file.channels} channels asked for, the bound is {MAX_VALUES} values")
        file.seek(first)
        samples = file.read(count, dtype="float32", always_2d=True)
        exact = file.format == "FLAC"  # others, such as MP3, estimate
    if exact and len(samples) < count:
        raise AudioError(f"{path.name} ends after {first + len(samples)} frames, before its header says")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path.name} holds NaN or infinity")
    if (highest := peak(samples)) > MAX_SAMPLE:
        bound = f"full scale is 1.0, at most {MAX_SAMPLE:g} is read"
        raise AudioError(f"{path.name} holds samples of {highest:.3g}: {bound}")
    return samples, rate


def write_audio(
    path: Path,
    samples: NDArray[np.floating],
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    *,
    gain: float = 1.0,
    md5: bool = True,
) -> None:
    """Write samples [frames] or [frames, channels], times `gain`, in 16 bit as the path's ending says (.flac or .wav).

    `md5`: a FLAC's header has the MD5 of all samples, by which decoders check themselves; it takes half as long again.
    AudioError for NaN, infinity or samples that would clip: a level is the caller's decision, never cut off here.
    OSError where the file cannot be written.
    """
    frames = samples[:, np.newaxis] if samples.ndim == 1 else samples
    blocks = (frames[first : first + BLOCK_FRAMES] for first in range(0, len(frames), BLOCK_FRAMES))
    write_blocks(path, blocks, frames.shape[1], sample_rate_hz, gain=gain, md5=md5)


def write_blocks(
    path: Path,
    blocks: Iterable[NDArray[np.floating]],
    channels: int = 2,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    *,
    gain: float = 1.0,
    md5: bool = True,
) -> None:
    """The same of samples that come in blocks [frames, channels]."""
    first = 0
    with _writer(path, sample_rate_hz, channels, md5=md5) as file:
        for block in blocks:
            steps, highest = to_steps(block, gain)
            if not highest <= 1.0:
                raise _unwritable(highest, first)
            file.write(steps)
            first += len(block)


class _Wav(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A WAV file of 16 bit that takes what FlacWriter takes."""

    def __init__(self, path: Path, sample_rate_hz: int, channels: int) -> None:
        super().__init__(path, "w", sample_rate_hz, channels, "PCM_16", format="WAV")

    def write(self, steps: NDArray[np.int32]) -> None:
        """More samples [channels, frames], in steps of 16 bit."""
        super().write(steps.T.astype(np.int16))


def _writer(path: Path, sample_rate_hz: int, channels: int, *, md5: bool) -> "FlacWriter | _Wav":
    """What writes a file of this name."""
    if path.suffix.lower() != ".flac":
        return _Wav(path, sample_rate_hz, channels)
    from luthier_music.flac_writer import FlacWriter  # the extra `flac`: who only reads has no libFLAC

    return FlacWriter(path, sample_rate_hz, channels, md5=md5)


def _unwritable(highest: float, first: int) -> AudioError:
    """Why a block from frame `first` on with such a peak cannot be written."""
    if not np.isfinite(highest):
        return AudioError(f"samples from frame {first} hold NaN or infinity")
    return AudioError(f"samples from frame {first} reach {highest:.3f}: full scale is 1.0")


def peak(samples: NDArray[np.floating]) -> float:
    """Largest absolute sample, linear; 0 for none. Infinity or NaN come through, so that they can be refused."""
    return float(max(samples.max(), -samples.min())) if samples.size else 0.0


@contextmanager
def open_audio(path: Path) -> Iterator[soundfile.SoundFile]:
    """A file open for reading; what libsndfile cannot make sense of, then or later, becomes an AudioError.

    The file's `frames` are true to its header, and so must be bounded before that many are read.
    """
    try:
        with ExitStack() as stack:
            stream = with_length(stack.enter_context(path.open("rb")))
            if stream:
                stack.enter_context(stream)
            yield stack.enter_context(soundfile.SoundFile(stream or path))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path.name} is no audio that can be read: {error.error_string}") from error
    except CutStream as error:
        raise AudioError(f"{path.name} cannot be read: {error}") from None

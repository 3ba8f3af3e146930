"""Generated samples to a file, and an init audio file to samples."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import torch

from luthier_kit.rpc import InvalidRequest
from luthier_model.generation import Samples
from luthier_music.audio import AudioError, read_audio
from luthier_music.audio_rate import resampled
from luthier_music.loudness import integrated_loudness_lufs
from luthier_music.true_peak import true_peak_dbtp


@dataclass(frozen=True)
class Format:
    """A way to store audio. `integer` formats end at full scale: what is beyond is clipped. `rate_hz` None: any."""

    extension: str
    media_type: str
    container: str
    subtype: str
    integer: bool
    rate_hz: int | None = None


FLAC: Final = "flac"
WAV: Final = "wav"
WAV_FLOAT: Final = "wav-float"
FLAC_24: Final = "flac-24"
WAV_24: Final = "wav-24"
VORBIS: Final = "ogg-vorbis"
OPUS: Final = "ogg-opus"
MP3: Final = "mp3"
FORMATS: Final = {
    FLAC: Format("flac", "audio/flac", "FLAC", "PCM_16", True),
    WAV: Format("wav", "audio/wav", "WAV", "PCM_16", True),
    WAV_FLOAT: Format("wav", "audio/wav", "WAV", "FLOAT", False),
    FLAC_24: Format("flac", "audio/flac", "FLAC", "PCM_24", True),
    WAV_24: Format("wav", "audio/wav", "WAV", "PCM_24", True),
    VORBIS: Format("ogg", "audio/ogg", "OGG", "VORBIS", True),
    OPUS: Format("opus", "audio/ogg", "OGG", "OPUS", True, rate_hz=48_000),
    MP3: Format("mp3", "audio/mpeg", "MP3", "MPEG_LAYER_III", True),
}
TITLE_CHARS: Final = 100
BLOCK_FRAMES: Final = 4096  # libsndfile's Vorbis encoder keeps a block that it is given on its stack
_SERIAL: Final = 1  # of the only stream in a file


@dataclass(frozen=True)
class Level:
    """What level is asked for: integrated loudness in LUFS, and the true peak in dBTP that is not exceeded."""

    loudness_lufs: float | None = None
    true_peak_dbtp: float | None = None

    def named(self) -> dict[str, float]:
        """Of what was asked for, what names the audio."""
        asked = {"loudness_target_lufs": self.loudness_lufs, "true_peak_limit_dbtp": self.true_peak_dbtp}
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True)
class Tags:
    """What a file says of itself."""

    title: str
    comment: str


@dataclass(frozen=True)
class Finished:
    """Samples (samples, channels) as they are written, at their rate. Loudness and true peak are theirs: `gain_db` is
    in them. None where no level was asked for, and of silence."""

    samples: Samples
    rate_hz: int
    loudness_lufs: float | None = None
    true_peak_dbtp: float | None = None
    gain_db: float = 0.0


def finished(samples: Samples, sample_rate_hz: int, output_format: str, level: Level) -> Finished:
    """Samples at the format's rate and the level asked for: one gain for all of them, so that nothing is distorted. The
    limit of the true peak goes before the loudness."""
    rate_hz = FORMATS[output_format].rate_hz or sample_rate_hz
    samples = resampled(samples, sample_rate_hz, rate_hz)
    if level == Level():
        return Finished(samples, rate_hz)
    loudness, peak = integrated_loudness_lufs(samples, rate_hz), true_peak_dbtp(samples, rate_hz)
    if not np.isfinite(loudness):
        return Finished(samples, rate_hz)
    gain_db = 0.0 if level.loudness_lufs is None else level.loudness_lufs - loudness
    if level.true_peak_dbtp is not None:
        gain_db = min(gain_db, level.true_peak_dbtp - peak)
    louder = (samples * np.float32(10 ** (gain_db / 20))).astype(np.float32)
    return Finished(louder, rate_hz, loudness + gain_db, peak + gain_db, gain_db)


def peak_dbfs(samples: Samples) -> float:
    """Sample peak in dB over full scale, before any clipping; -200 for silence."""
    peak = float(np.abs(samples).max(initial=0.0))
    return max(20 * float(np.log10(peak)), -200.0) if peak > 0 else -200.0


def write(folder: Path, samples: Samples, sample_rate_hz: int, output_format: str, tags: Tags) -> Path:
    """Writes `audio.<extension>` into `folder`: the same bytes from the same samples and tags.

    Integer formats clip, they are never scaled: levels stay comparable.
    """
    form = FORMATS[output_format]
    path = folder / f"audio.{form.extension}"
    with soundfile.SoundFile(path, "w", sample_rate_hz, samples.shape[1], form.subtype, format=form.container) as file:
        if title := printable(tags.title)[:TITLE_CHARS]:  # libsndfile refuses an empty one
            file.title = title
        file.comment = printable(tags.comment)
        for first in range(0, len(samples), BLOCK_FRAMES):
            block = samples[first : first + BLOCK_FRAMES]
            file.write(block.clip(-1.0, 1.0) if form.integer else block)
    if output_format == WAV_FLOAT:
        _without_time(path)
    elif form.container == "OGG":
        _renumbered(path)
    return path


def printable(text: str) -> str:
    """A text as one line, without what is no character that can be shown."""
    return "".join(each if each.isprintable() else " " for each in text).strip()


def _without_time(path: Path) -> None:
    """Takes the second of writing out of the chunk PEAK, which libsndfile writes before the samples."""
    with path.open("r+b") as file:
        at = file.read(4096).find(b"PEAK")
        if at >= 0:
            file.seek(at + 12)  # behind name, size and version
            file.write(bytes(4))


def _renumbered(path: Path) -> None:
    """Gives an Ogg stream (RFC 3533) a fixed serial number in place of libsndfile's, which it draws by the clock."""
    ogg, at = bytearray(path.read_bytes()), 0
    while at < len(ogg):
        segments = ogg[at + 26]
        end = at + 27 + segments + sum(ogg[at + 27 : at + 27 + segments])
        ogg[at + 14 : at + 18] = _SERIAL.to_bytes(4, "little")
        ogg[at + 22 : at + 26] = bytes(4)
        ogg[at + 22 : at + 26] = _page_checksum(bytes(ogg[at:end])).to_bytes(4, "little")
        at = end
    path.write_bytes(ogg)


_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _page_checksum(page: bytes) -> int:
    """CRC-32 of polynomial 0x04c11db7 that begins at 0, its highest bit first: zlib's is of the same one mirrored, and
    inverts before and after."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def read(path: Path, sample_rate_hz: int, channels: int, length: int) -> torch.Tensor:
    """The first `length` samples as (1, channels, length) at the rate asked for, padded with silence.

    InvalidRequest INIT_AUDIO_UNREADABLE when it is no audio, or holds none.
    """
    try:
        found, rate_hz = read_audio(path, duration_s=length / sample_rate_hz)
        if not len(found):
            raise AudioError(f"{path.name} holds no sound")
    except AudioError as error:
        violations = [("init_audio", str(error))]
        raise InvalidRequest(reason="INIT_AUDIO_UNREADABLE", violations=violations) from None
    if found.shape[1] != channels:
        found = found.mean(axis=1, keepdims=True).repeat(channels, axis=1)  # (samples, channels)
    sound = torch.from_numpy(resampled(found, rate_hz, sample_rate_hz)[:length].T.copy())  # (channels, samples)
    return torch.nn.functional.pad(sound, (0, length - sound.shape[1])).unsqueeze(0)

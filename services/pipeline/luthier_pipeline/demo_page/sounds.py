"""What a demo page has of one piece of audio: a file that browsers play, its waveform, its spectrogram, its loudness.

Nothing is resampled or cut. Spectrograms of a row share one scale of colours, so that they can be compared.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import matplotlib.image
import numpy as np
import soundfile
from numpy.typing import NDArray

from luthier_music.audio import Samples, audio_info, read_audio
from luthier_music.loudness import measure

Format = Literal["flac", "mp3"]

MP3_RATES_HZ: Final = frozenset({8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
MP3_QUALITY: Final = 0.2
"""Of libsndfile's variable bit rate, 0 best to 1 smallest: about 180 kbit/s of music in stereo."""
CEILING: Final = 10 ** (-1 / 20)
"""Highest sample after matching of loudness, -1 dBFS: what an encoder adds to it must not clip."""
HIGHEST_MATCH_LUFS: Final = -16.0
"""Quiet pages are raised to it at most: the level of music on the web (AES TD1004)."""
BARS: Final = 200  # of a waveform
WINDOW: Final = 2048  # samples of a spectrum
COLUMNS, LINES = 480, 128
"""Points of a spectrogram in time and frequency."""
SPECTRA: Final = 4  # of a column at most, evenly over it, so that an hour costs what a minute does
LOWEST_HZ, HIGHEST_HZ = 40.0, 16_000.0
"""Frequencies of a spectrogram, the same for all systems: a logarithmic axis."""
RANGE_DB: Final = 80.0  # from the loudest point of a row down to black
FLOOR_DB: Final = -200.0  # of digital silence, and above half a sampling rate

Decibels = NDArray[np.float32]


@dataclass(frozen=True)
class Heard:
    """Integrated loudness in LUFS, -inf for silence, and the largest absolute sample, full scale 1.0."""

    loudness_lufs: float
    peak: float


@dataclass(frozen=True)
class Sound:
    """A file on the page: its name below the page's folder, its length, peaks of its waveform (0 to 1), its spectra."""

    file: str
    duration_s: float
    loudness_lufs: float
    peaks: tuple[float, ...]
    spectra: Decibels


def hear(path: Path) -> Heard:
    """Level of a file. AudioError when it cannot be read."""
    samples, rate = read_audio(path)
    measured = measure(samples[:, :2], rate)
    return Heard(measured.loudness_lufs, measured.peak)


def common_loudness_lufs(heard: Sequence[Heard]) -> float | None:
    """The loudest level, at most HIGHEST_MATCH_LUFS, to which all can be brought without a sample above CEILING.

    None where all are silent.
    """
    reachable = [
        one.loudness_lufs + 20 * np.log10(CEILING / one.peak) for one in heard if np.isfinite(one.loudness_lufs)
    ]
    return float(min(HIGHEST_MATCH_LUFS, *reachable)) if reachable else None


def place(source: Path, folder: Path, name: str, kind: Format, *, level_lufs: float | None, comment: str) -> Sound:
    """Puts the audio of `source` into `folder` as `audio/<name>.<format>`.

    A FLAC at its own level is copied byte for byte. `level_lufs`: the loudness that it is brought to, None = as it is;
    silence stays as it is. `comment`: what it is, written into a file that is encoded anew. AudioError when the source
    cannot be read.
    """
    samples, rate = read_audio(source)
    heard = measure(samples[:, :2], rate)
    changed = level_lufs is not None and np.isfinite(heard.loudness_lufs)
    if level_lufs is not None and changed:
        samples = samples * np.float32(10 ** ((level_lufs - heard.loudness_lufs) / 20))
    (folder / "audio").mkdir(exist_ok=True)
    as_mp3 = kind == "mp3" and rate in MP3_RATES_HZ
    target = folder / "audio" / f"{name}.{'mp3' if as_mp3 else 'flac'}"
    if not as_mp3 and not changed and audio_info(source).format == "FLAC":
        shutil.copyfile(source, target)
    else:
        _encode(target, samples, rate, comment, as_mp3=as_mp3)
    return Sound(
        target.relative_to(folder).as_posix(),
        samples.shape[0] / rate,
        level_lufs if level_lufs is not None and changed else heard.loudness_lufs,
        peaks(samples),
        spectra(samples, rate),
    )


def _encode(target: Path, samples: Samples, rate: int, comment: str, *, as_mp3: bool) -> None:
    settings = (
        {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": MP3_QUALITY, "bitrate_mode": "VARIABLE"}
        if as_mp3
        else {"format": "FLAC", "subtype": "PCM_16"}
    )
    with soundfile.SoundFile(target, "w", rate, samples.shape[1], **settings) as file:
        file.comment = comment
        file.write(np.clip(samples, -1, 1))


def peaks(samples: Samples, bars: int = BARS) -> tuple[float, ...]:
    """The largest absolute sample in each of `bars` equal parts, of full scale; of both channels."""
    loudest = np.abs(samples).max(axis=1) if samples.size else np.zeros(1)
    return tuple(float(min(1.0, part.max())) for part in np.array_split(loudest, min(bars, loudest.size)))


def spectra(samples: Samples, rate: int) -> Decibels:
    """(LINES, COLUMNS) in dB, high frequencies first: the power of the channels' mean power in each band and time.

    Full scale is 0 dB for a sine in all channels.
    """
    frames = samples if len(samples) >= WINDOW else np.pad(samples, ((0, WINDOW - len(samples)), (0, 0)))
    window = np.hanning(WINDOW).astype(np.float32)
    last = len(frames) - WINDOW
    starts = np.linspace(0, last, COLUMNS * min(SPECTRA, max(1, -(-last // (COLUMNS * WINDOW // 2))))).astype(np.int64)
    power = np.empty((COLUMNS, WINDOW // 2 + 1), np.float32)
    for column, own in enumerate(starts.reshape(COLUMNS, -1)):
        blocks = np.stack([frames[start : start + WINDOW] for start in own])  # (spectra, window, channels)
        bins = np.fft.rfft(blocks * window[:, np.newaxis], axis=1)
        power[column] = np.square(np.abs(bins)).mean(axis=(0, 2))
    power *= (2 / window.sum()) ** 2
    return _in_bands(power, rate)


def _in_bands(power: NDArray[np.float32], rate: int) -> Decibels:
    """(columns, bins) -> (LINES, columns) in dB: of each band the strongest bin, or what lies between two bins."""
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, LINES + 1)
    centres = np.sqrt(edges[:-1] * edges[1:])
    hz_per_bin = rate / WINDOW
    db = np.full((LINES, len(power)), FLOOR_DB, np.float32)
    for line, (low, centre, high) in enumerate(zip(edges[:-1], centres, edges[1:], strict=True)):
        first, last = int(np.ceil(low / hz_per_bin)), int(np.floor(high / hz_per_bin))
        if centre >= rate / 2:
            continue
        if last > first:
            found = power[:, first : last + 1].max(axis=1)
        else:
            below, share = divmod(centre / hz_per_bin, 1)
            found = power[:, int(below)] * (1 - share) + power[:, int(below) + 1] * share
        db[LINES - 1 - line] = 10 * np.log10(np.maximum(found, 10 ** (FLOOR_DB / 10)))
    return db


def draw(sound: Sound, folder: Path, name: str, loudest_db: float) -> str:
    """Draws the spectrogram into `pictures/<name>.png`; answers with that name. `loudest_db`: of the row."""
    (folder / "pictures").mkdir(exist_ok=True)
    file = f"pictures/{name}.png"
    matplotlib.image.imsave(
        folder / file, sound.spectra, vmin=loudest_db - RANGE_DB, vmax=loudest_db, cmap="magma", format="png"
    )
    return file

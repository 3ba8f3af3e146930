"""Other people's audio files, decoded by FFmpeg's libraries (PyAV) into the one format that Luthier works with.

Such files are hostile until shown otherwise. So only the containers and codecs below are opened; a file can name no
other file and no address (no protocol is allowed, and playlists are not among the containers); decoding is one block at
a time, stops at the longest audio allowed, may take so much memory more and no more, and runs in a worker process.
"""

import hashlib
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import av
import numpy as np
import soundfile

from luthier_analysis.jobs import DecodedAudio
from luthier_analysis.sound import MAX_RATE_HZ, MAX_S, MIN_RATE_HZ, MIN_S
from luthier_music.audio import MAX_SAMPLE, SAMPLE_RATE_HZ, AudioError, Samples, peak, write_audio
from luthier_music.audio_rate import resampled_blocks
from luthier_music.vocabulary import clean

CONTAINERS: Final = (
    "aac", "aiff", "ape", "asf", "au", "caf", "flac", "matroska", "mov", "mp3", "ogg", "tta", "w64", "wav", "wv",
)  # fmt: skip
"""Names of FFmpeg's demuxers. `mov` is also MP4 and M4A, `asf` is WMA."""
CODECS: Final = frozenset({
    "aac", "alac", "ape", "flac", "mp2", "mp2float", "mp3", "mp3float", "opus", "libopus", "tta", "vorbis", "wavpack",
    "wmalossless", "wmapro", "wmav1", "wmav2", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8",
    *(f"pcm_{kind}{end}" for kind in ("s16", "s24", "s32", "f32", "f64") for end in ("le", "be")),
})  # fmt: skip
"""Names of FFmpeg's decoders."""
MAX_CHANNELS: Final = 8
MAX_MEMORY_BYTES: Final = 1 << 30  # that decoding may take beside what the process has: a cover can be large, no more
MAX_TAG_CHARS: Final = 500
MAX_BAD_SHARE: Final = 0.01  # of packets that cannot be decoded, beyond which the file is damaged
MAX_BAD_FEW: Final = 3  # packets that may be bad in a short file, too: encoders cut the first and the last one
FULL_SCALE: Final = 1.0 - 1e-6  # where the peak of what lay beyond it is put, so that rounding does not clip
FINGERPRINT_KIND: Final = b"luthier-audio-1"  # goes before the samples; another one where their form changes
BLOCK_FRAMES: Final = 1 << 16
TAG_NAMES: Final = {
    "title": ("title",),
    "artist": ("artist", "album_artist", "author", "performer"),
    "album": ("album",),
    "genre": ("genre",),
    "date": ("date", "year"),
    "licence": ("license", "licence"),
    "copyright": ("copyright",),
    "comment": ("comment", "description"),
}
"""What each tag is called in files, the first that is there counts."""

_HALF: Final = math.sqrt(0.5)
_DOWNMIX: Final = {
    "FL": (1.0, 0.0), "FR": (0.0, 1.0), "FC": (_HALF, _HALF), "LFE": (0.0, 0.0), "LFE2": (0.0, 0.0),
    "BL": (_HALF, 0.0), "BR": (0.0, _HALF), "SL": (_HALF, 0.0), "SR": (0.0, _HALF), "BC": (0.5, 0.5),
    "FLC": (_HALF, _HALF / 2), "FRC": (_HALF / 2, _HALF),
}  # fmt: skip
"""Gain into left and right by channel, after ITU-R BS.775-4, Annex 4; low-frequency channels are left out."""
_USUAL_CHANNELS: Final = {
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""Of files that do not name theirs: the order of WAVE_FORMAT_EXTENSIBLE."""


@dataclass
class _Source:
    """What is known of a file once it is open, and what went wrong while it was decoded."""

    container: str
    codec: str
    rate_hz: int
    channels: int
    bit_rate_bps: int
    tags: dict[str, str]
    packets: int = 0
    bad_packets: int = 0


def decode(path: Path, directory: Path) -> DecodedAudio:
    """Decode a file to `decoded.flac` in `directory`: 16 bit, 44.1 kHz, two channels.

    One channel becomes both, more than two are mixed down. What lies beyond full scale (lossy codecs overshoot, floats
    may be anything) is not cut off: the whole is made quieter. AudioError for what is no audio within the bounds.
    """
    samples_path, flac_path = directory / "decoded.f32", directory / "decoded.flac"
    source, frames, highest = _to_samples(path, samples_path)
    seconds = frames / SAMPLE_RATE_HZ
    if seconds < MIN_S:
        raise AudioError(f"must last {MIN_S} to {MAX_S:.0f} s, it lasts {seconds:.3f} s")
    if source.bad_packets > max(MAX_BAD_FEW, MAX_BAD_SHARE * source.packets):
        raise AudioError(f"it is damaged: {source.bad_packets} of {source.packets} packets cannot be decoded")
    gain = FULL_SCALE / highest if highest > 1.0 else 1.0
    write_audio(flac_path, np.memmap(samples_path, np.float32, "r", shape=(frames, 2)), gain=gain)
    samples_path.unlink()
    notes = [f"{source.bad_packets} of {source.packets} packets could not be decoded"] if source.bad_packets else []
    if gain < 1.0:
        notes.append(f"samples reached {highest:.3f} of full scale: all of it was made quieter")
    return DecodedAudio(
        path=flac_path,
        duration_s=seconds,
        fingerprint=_fingerprint(flac_path),
        container=source.container,
        codec=source.codec,
        sample_rate_hz=source.rate_hz,
        channels=source.channels,
        bit_rate_bps=source.bit_rate_bps,
        tags=source.tags,
        gain_db=20 * math.log10(gain),
        notes=tuple(notes),
    )


def _to_samples(path: Path, out: Path) -> tuple[_Source, int, float]:
    """Write all samples to a file, (frames, 2) float32; what the file is, how many frames, and the largest sample."""
    frames, highest = 0, 0.0
    try:
        with (
            _bounded_memory(MAX_MEMORY_BYTES),
            path.open("rb") as file,
            _opened(file) as container,
            out.open("wb") as to,
        ):
            if not container.streams.audio:
                raise AudioError("it has no audio stream")
            stream = container.streams.audio[0]
            source = _source(container, stream, path.stat().st_size)
            blocks = (_stereo(frame) for frame in _frames(container, stream, source))
            for block in resampled_blocks(blocks, source.rate_hz, SAMPLE_RATE_HZ):
                if not np.isfinite(block).all():
                    raise AudioError("it holds samples that are NaN or infinite")
                frames, highest = frames + len(block), max(highest, peak(block))
                if frames > MAX_S * SAMPLE_RATE_HZ:
                    raise AudioError(f"must last {MIN_S} to {MAX_S:.0f} s, it lasts longer")
                if highest > MAX_SAMPLE:
                    raise AudioError(
                        f"it holds samples of {highest:.3g}: full scale is 1.0, at most {MAX_SAMPLE:g} is read"
                    )
                to.write(np.ascontiguousarray(block, np.float32).tobytes())
    except MemoryError as error:
        raise AudioError(f"to decode it takes more than {MAX_MEMORY_BYTES >> 20} MiB of memory") from error
    except av.FFmpegError as error:
        raise AudioError(f"it is no audio that can be read: {error.strerror}") from error
    return source, frames, highest


def _opened(file: BinaryIO) -> av.container.InputContainer:
    return av.open(
        file,
        "r",
        options={
            "format_whitelist": ",".join(CONTAINERS),
            "codec_whitelist": ",".join(sorted(CODECS)),
            "protocol_whitelist": "none",
        },
        metadata_errors="replace",
    )


def _source(container: av.container.InputContainer, stream: av.AudioStream, size_bytes: int) -> _Source:
    """What the file says of itself, within the bounds, before anything is decoded."""
    context = stream.codec_context
    name = context.name if context else "unknown"  # None where FFmpeg has no decoder for it
    if name not in CODECS:  # what is decoded here is not bound by the container's list
        raise AudioError(f"its codec is {name}, which is not among those that are read")
    if not MIN_RATE_HZ <= context.sample_rate <= MAX_RATE_HZ:
        raise AudioError(f"must be sampled at {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {context.sample_rate}")
    if not 1 <= context.channels <= MAX_CHANNELS:
        raise AudioError(f"must have 1 to {MAX_CHANNELS} channels, got {context.channels}")
    context.thread_count = 1  # the processes are the parallelism
    duration_s = container.duration / av.time_base if container.duration else 0.0
    bit_rate_bps = container.bit_rate or (round(8 * size_bytes / duration_s) if duration_s > 0 else 0)
    kind = container.format.name.split(",")[0]
    tags = _tags({**container.metadata, **stream.metadata})
    return _Source(kind, name, context.sample_rate, context.channels, max(0, bit_rate_bps), tags)


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    """The tags that count, cleaned and bounded."""
    given = {name.lower(): value for name, value in metadata.items()}
    found = {}
    for name, spellings in TAG_NAMES.items():
        values = (clean(given.get(spelling, "")[: 4 * MAX_TAG_CHARS], MAX_TAG_CHARS) for spelling in spellings)
        if value := next(filter(None, values), ""):
            found[name] = value
    return found


def _frames(container: av.container.InputContainer, stream: av.AudioStream, source: _Source) -> Iterator[av.AudioFrame]:
    """The frames of a stream; a packet that cannot be decoded is left out and counted."""
    for packet in container.demux(stream):
        source.packets += 1
        try:
            frames = packet.decode()
        except (av.InvalidDataError, av.PatchWelcomeError):
            source.bad_packets += 1
            continue
        for frame in frames:
            if (frame.sample_rate, len(frame.layout.channels)) != (source.rate_hz, source.channels):
                raise AudioError(
                    f"it changes from {source.rate_hz} Hz and {source.channels} channels to {frame.sample_rate} Hz and "
                    f"{len(frame.layout.channels)} channels: convert it"
                )
            yield frame


def _stereo(frame: av.AudioFrame) -> Samples:
    """(frames, 2) float32 of a frame of any sample format and layout."""
    values = frame.to_ndarray()
    channels = frame.layout.channels
    by_channel = values if frame.format.is_planar else values.reshape(-1, len(channels)).T  # (channels, frames)
    if values.dtype == np.uint8:
        by_channel = (by_channel.astype(np.float32) - 128) / 128
    elif values.dtype.kind == "i":
        by_channel = (by_channel / 2.0 ** (8 * values.dtype.itemsize - 1)).astype(np.float32)
    if len(channels) <= 2:
        pair = by_channel if len(channels) == 2 else np.repeat(by_channel, 2, axis=0)
        return np.ascontiguousarray(pair.T, np.float32)
    names = [channel.name for channel in channels]
    if not all(name in _DOWNMIX for name in names):
        names = list(_USUAL_CHANNELS.get(len(channels), ()))
    if not names:
        raise AudioError(f"nobody says what its {len(channels)} channels are: mix them down")
    gains = np.array([_DOWNMIX[name] for name in names], np.float32)  # (channels, 2)
    return np.ascontiguousarray(by_channel.T.astype(np.float32) @ gains)


def _fingerprint(path: Path) -> str:
    """SHA-256 of the samples and not of the file: the encoder's next version may pack them otherwise."""
    digest = hashlib.sha256(FINGERPRINT_KIND)
    for block in soundfile.blocks(str(path), BLOCK_FRAMES, dtype="int16", always_2d=True):
        digest.update(block.astype("<i2").tobytes())
    return digest.hexdigest()


@contextmanager
def _bounded_memory(more_bytes: int) -> Iterator[None]:
    """Lets this process take so much memory more: an allocation beyond fails, in FFmpeg's libraries and in Python."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    wanted = pages * resource.getpagesize() + more_bytes
    unlimited = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (wanted if soft == unlimited else min(wanted, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

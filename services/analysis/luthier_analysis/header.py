"""Audio files under bounds: the header decides before anything is decoded."""

from pathlib import Path

from luthier_music.audio import AudioError, AudioInfo, audio_info

FORMATS = ("FLAC", "WAV", "WAVEX")
MIN_S, MAX_S = 0.5, 1800.0
MAX_CHANNELS = 2
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000


def read_header(path: Path) -> AudioInfo:
    """Header of a FLAC or WAV file. Raises AudioError naming the bound that it breaks."""
    info = audio_info(path)
    if info.format not in FORMATS:
        raise AudioError(f"must be FLAC or WAV, got {info.format}")
    if not 1 <= info.channels <= MAX_CHANNELS:
        raise AudioError(f"must have 1 or {MAX_CHANNELS} channels, got {info.channels}")
    if not MIN_RATE_HZ <= info.sample_rate_hz <= MAX_RATE_HZ:
        raise AudioError(f"must be sampled at {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {info.sample_rate_hz}")
    if not MIN_S <= info.duration_s <= MAX_S:
        raise AudioError(f"must last {MIN_S} to {MAX_S:.0f} s, its header says {info.duration_s:.3f} s")
    return info

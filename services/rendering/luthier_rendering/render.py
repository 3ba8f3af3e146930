"""One song from notes to files: play each part, level it, add it to the mix, level the mix, write everything.

One stem at a time is in memory beside the mix. Levelled stems wait on scratch, as sparse raw files, until the
mix's gain is known: so the stems that are written sum to the mix.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from luthier_music.audio import SAMPLE_RATE_HZ, Samples, peak, write_audio
from luthier_music.loudness import hop_energies
from luthier_rendering.backends.base import Backend, BackendError
from luthier_rendering.job import RenderJob, RenderResult, StemResult
from luthier_rendering.limits import refuse
from luthier_rendering.midi import Song
from luthier_rendering.mix import level, linear_to_db, stem_targets_lufs
from luthier_rendering.performance import performance
from luthier_rendering.timeline import TAIL_S

_FADE_FRAMES: Final = SAMPLE_RATE_HZ // 2  # the end of the tail fades, so that nothing is cut off
_SPOOL_FRAMES: Final = 1 << 16


class Stopwatch:
    """CPU seconds of this process by stage."""

    def __init__(self) -> None:
        self.stages_s: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.stages_s[name] += time.process_time() - began


def render_song(
    song: Song, job: RenderJob, backend: Backend, playing: Callable[[str], None] = lambda _: None
) -> RenderResult:
    """Render `song` into `job.out`; `playing` hears what is about to be played. BackendError when one cannot play.

    InvalidRequest MIDI_SILENT when nothing can be heard.
    """
    out, watch, began = Path(job.out), Stopwatch(), time.process_time()
    frames = round((song.music_end_s + TAIL_S) * SAMPLE_RATE_HZ)
    mix = np.zeros((frames, 2), dtype=np.float32)
    targets = stem_targets_lufs(job.levels, len(song.parts), job.seed)
    stems: list[StemResult] = []
    for part in _in_order(song):
        playing(f"{song.parts[part].instrument.name} (stem {len(stems) + 1} of {len(song.parts)})")
        stems.append(_stem(song, part, targets[part], mix, job, backend, watch))
    with watch.stage("loudness"):
        gain, loudness = level(hop_energies(mix, SAMPLE_RATE_HZ), mix, job.levels.mix_loudness_lufs)
    highest = peak(mix) * gain
    if highest == 0.0:
        refuse("MIDI_SILENT", "every note of the file is played at volume 0")
    with watch.stage("write"):
        write_audio(out / "mix.flac", mix, gain=gain)
        written = [_write_stem(out, stem, gain, frames, job.mix_only) for stem in stems]
    cpu_s = time.process_time() - began
    return RenderResult("mix.flac", loudness, linear_to_db(highest), written, cpu_s, dict(watch.stages_s))


def _in_order(song: Song) -> list[int]:
    """Part indices by first note, those that start together as they stand in the file."""
    parts, first = np.unique(song.notes.part, return_index=True)
    return parts[np.argsort(song.notes.start_tick[first], kind="stable")].tolist()


def _stem(
    song: Song, part: int, target_lufs: float, mix: Samples, job: RenderJob, backend: Backend, watch: Stopwatch
) -> StemResult:
    """Play one part, level it, add it to `mix`, keep it on scratch. Its loudness is still without the mix's gain."""
    with watch.stage("synthesis"):
        samples, source = backend.render(performance(song, part), mix.shape[0])
    highest = peak(samples)
    if not np.isfinite(highest):
        raise BackendError(f"{source} played NaN or infinity")
    with watch.stage("loudness"):
        gain, loudness = level(hop_energies(samples, SAMPLE_RATE_HZ), samples, target_lufs)
    with watch.stage("mix"):
        samples *= np.float32(gain)
        fade = min(_FADE_FRAMES, samples.shape[0])
        samples[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)[:, np.newaxis]
        mix += samples
        if not job.mix_only:
            _spool(Path(job.out) / f"{part}.raw", samples)
    return StemResult(part, f"stem-{part:02d}.flac", loudness if np.isfinite(loudness) else None, source)


def _write_stem(out: Path, stem: StemResult, gain: float, frames: int, mix_only: bool) -> StemResult:
    loudness = None if stem.loudness_lufs is None else stem.loudness_lufs + linear_to_db(gain)
    if mix_only:
        return StemResult(stem.part, "", loudness, stem.source)
    raw = out / f"{stem.part}.raw"
    write_audio(out / stem.file, np.memmap(raw, np.float32, "r", shape=(frames, 2)), gain=gain)
    raw.unlink()
    return StemResult(stem.part, stem.file, loudness, stem.source)


def _spool(path: Path, samples: Samples) -> None:
    """Write raw samples; silence becomes a hole in the file."""
    with path.open("wb") as file:
        for first in range(0, samples.shape[0], _SPOOL_FRAMES):
            block = samples[first : first + _SPOOL_FRAMES]
            if block.any():
                file.seek(first * samples.itemsize * samples.shape[1])
                file.write(block.data)
        file.truncate(samples.nbytes)

"""One song from notes to files: play each part, put its effects on it, level it, set it into the room, add it to the
mix, level the mix, write everything.

As the paper does, each stem is normalised to an integrated loudness (BS.1770-4) drawn uniformly around a mean, so that
no two renders of a corpus favour the same balance; the sum is normalised again. A peak ceiling bounds both: where
loudness asks for more, the level is what the ceiling allows, and the result says what was reached.

The room is the same for all stems, and linear: each stem has its share of it, and they sum to the mix.

One stem at a time is in memory beside the mix. Levelled stems wait on scratch until the mix's gain is known: so the
stems that are written sum to the mix.
"""

import errno
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier.common.v1.common_pb2 import InstrumentActivity, Variation
from luthier.rendering.v1 import rendering_pb2 as pb
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, QuotaExceeded, Unavailable
from luthier_kit.workers import step
from luthier_music.audio import SAMPLE_RATE_HZ, Samples, peak, write_audio, write_blocks
from luthier_music.loudness import Measured, gated_loudness_lufs, measure
from luthier_music.native import add_to_mix
from luthier_rendering.backends import BACKENDS, effects
from luthier_rendering.backends.base import Backend, BackendConfig, BackendError, UnknownSound
from luthier_rendering.backends.memory import Memory
from luthier_rendering.backends.soundfont import SOUNDFONT
from luthier_rendering.humanise import Humanise
from luthier_rendering.inspection import SongFacts, facts
from luthier_rendering.midi import Song, load_song
from luthier_rendering.performance import Performance, performance
from luthier_rendering.smf import MidiLimits, refuse
from luthier_rendering.spool import PIECE_FRAMES, QUIET_FRAMES, Spool
from luthier_rendering.timeline import TAIL_S, part_activity, timeline
from luthier_rendering.variation import OtherInstruments, varied

PEAK_CEILING_DBFS: Final = -1.0
_MAX_GAIN_DB: Final = 180.0  # brings volume 1 with expression 1 to any level; what is quieter is arithmetic noise
_FADE_FRAMES: Final = SAMPLE_RATE_HZ // 2  # the end of the tail fades, so that nothing is cut off
_MEMORY: Final = Memory()


@dataclass(frozen=True)
class Levels:
    """Mean loudness of stems, largest departure from it in dB, loudness of the mix."""

    stem_loudness_lufs: float = -24.0
    stem_jitter_db: float = 3.0
    mix_loudness_lufs: float = -16.0


@dataclass(frozen=True)
class RenderParameters:
    """How to render a song; `mix_only` writes no stems; `variation` None = as written, with `other_instruments` drawn
    beside those that it names."""

    backend: str
    seed: int
    levels: Levels = field(default_factory=Levels)
    mix_only: bool = False
    humanise: Humanise = field(default_factory=Humanise)
    variation: Variation | None = None
    other_instruments: bool = False


@dataclass(frozen=True)
class StemResult:
    """File (None = not written); loudness in the mix before the room (None = silence); what it was made with."""

    file: Path | None
    loudness_lufs: float | None
    sound: pb.Sound

    @property
    def part(self) -> int:
        """Index in the song."""
        return self.sound.part

    @property
    def source(self) -> str:
        """`soundfont` or the plugin's name."""
        return SOUNDFONT if self.sound.backend == SOUNDFONT else self.sound.source


@dataclass(frozen=True)
class RenderResult:
    """Stems in order of their first note. `stages_s` splits the CPU time into synthesis, loudness, mix and write."""

    mix: Path
    mix_loudness_lufs: float
    mix_peak_dbfs: float
    stems: list[StemResult]
    cpu_s: float
    stages_s: dict[str, float]


@dataclass(frozen=True)
class RenderedFile:
    """A MIDI file that was rendered: what it says, of each of its parts the name and when it plays, the CPU seconds of
    all that, and how it was varied: then the facts are the varied song's, but for the fingerprint."""

    facts: SongFacts
    names: list[str]
    activities: list[InstrumentActivity]
    result: RenderResult
    cpu_s: float
    variation: Variation | None = None


def render_file(
    midi: Path, limits: MidiLimits, config: BackendConfig, parameters: RenderParameters, out: Path
) -> RenderedFile:
    """Render a MIDI file into the folder `out`, as mix.flac and stem-<part>.flac: the job of a worker process.

    InvalidRequest MIDI_* for a file that cannot be rendered, FailedPrecondition INSTRUMENT_FAILED when an instrument
    cannot play, QuotaExceeded SCRATCH_FULL, Unavailable SCRATCH_FAILED.
    """
    began = time.process_time()
    try:
        song, backend = load_song(midi.read_bytes(), limits), BACKENDS[parameters.backend](config)
        found, took = facts(song), None  # what is beyond a bound is refused before anything plays
        if parameters.variation:
            others = OtherInstruments(backend.sounds_of, parameters.seed) if parameters.other_instruments else None
            song, took = varied(song, parameters.variation, limits, others)
            found = replace(facts(song), fingerprint=found.fingerprint)  # a variation is no other song
        result = render_song(song, backend, parameters, out)
        names = [part.name for part in song.parts]
        activities = [part_activity(song, index) for index in range(len(names))]
        if silent := [stem.part for stem in result.stems if stem.loudness_lufs is None]:
            found = replace(found, timeline=timeline(song, limits, silent))
            for part in silent:
                del activities[part].spans[:]
        return RenderedFile(found, names, activities, result, time.process_time() - began, took)
    except BackendError as error:
        raise FailedPrecondition(str(error), reason="INSTRUMENT_FAILED") from error
    except OSError as error:
        raise scratch_error(error) from error


def scratch_error(error: OSError) -> QuotaExceeded | Unavailable:
    """What a fault of the scratch folder means to a caller: SCRATCH_FULL or SCRATCH_FAILED."""
    text = f"the scratch folder failed: {error.strerror}"  # callers are not told where it is
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return QuotaExceeded(text, reason="SCRATCH_FULL")
    return Unavailable(text, reason="SCRATCH_FAILED")


def render_song(song: Song, backend: Backend, parameters: RenderParameters, out: Path) -> RenderResult:
    """Render `song` into `out`. BackendError when one cannot play, InvalidRequest MIDI_SILENT when all is silent."""
    watch, began = _Stopwatch(), time.process_time()
    mix = _MEMORY.samples(_frames(song))  # [frames, 2]
    mix[:] = 0.0
    targets = stem_targets_lufs(parameters.levels, len(song.parts), parameters.seed)
    played, first = np.unique(song.notes.part, return_index=True)
    in_order = played[np.argsort(song.notes.start_tick[first], kind="stable")].tolist()  # together: as in the file
    room = backend.room(random.Random(f"{parameters.seed}/room"))
    levelled: list[tuple[StemResult, Spool | None]] = []
    loudest = 0.0  # of stems: what cancels in the mix must not clip in a stem
    for number, part in enumerate(in_order, start=1):
        step(f"playing {song.parts[part].instrument.name} (stem {number} of {len(in_order)})")
        samples, sound, measured = _sounded(song, part, mix.shape[0], backend, parameters, watch)
        gain, loudness = level(measured, targets[part])
        sound.stem_gain = gain
        if room:
            sound.room.CopyFrom(room)
        with watch.stage("mix"):
            if room and not parameters.mix_only:
                samples = _in_room(np.multiply(samples, np.float32(gain), out=samples), room)
                gain = 1.0
            spool = None if parameters.mix_only else Spool(out / f"{part}.raw")
            loudest = max(loudest, _add(samples, gain, mix, spool, fades=not (room and parameters.mix_only)))
        del samples  # the next stem is played into their memory
        result = StemResult(None, loudness if np.isfinite(loudness) else None, sound)
        levelled.append((result, spool))
    if room and parameters.mix_only:
        with watch.stage("mix"):
            mix = _faded(_in_room(mix, room))  # once for all: the same but for rounding
    with watch.stage("loudness"):
        measured = measure(mix, SAMPLE_RATE_HZ)
        gain, mix_loudness = level(measured, parameters.levels.mix_loudness_lufs)
    if gain * loudest > 1.0:
        mix_loudness -= linear_to_db(gain * loudest)
        gain = 1.0 / loudest
    for stem, _ in levelled:
        stem.sound.mix_gain = gain
    highest = measured.peak * gain
    if highest == 0.0:
        refuse("MIDI_SILENT", "every note of the file is played at volume 0")
    step("writing files")
    with watch.stage("write"):
        write_audio(out / "mix.flac", mix, gain=gain, md5=False)
        stems = [_written(stem, spool, gain, out) for stem, spool in levelled]
    cpu_s = time.process_time() - began
    return RenderResult(out / "mix.flac", mix_loudness, linear_to_db(highest), stems, cpu_s, dict(watch.stages_s))


def _sounded(
    song: Song, part: int, frames: int, backend: Backend, parameters: RenderParameters, watch: "_Stopwatch"
) -> tuple[Samples, pb.Sound, Measured]:
    """One part with its effects before it is levelled, the record of that, and what its level is worked out from."""
    humanise, seed = parameters.humanise, parameters.seed
    with watch.stage("synthesis"):
        played = performance(song, part, humanise, seed)
        # of its own for each part: what another one draws, or how often, does not move it
        samples, sound = backend.render(played, frames, random.Random(f"{seed}/{part}/sound"))
    with watch.stage("loudness"):
        try:
            measured = measure(samples, SAMPLE_RATE_HZ)
        except ValueError as error:
            raise BackendError(f"{sound.source} played NaN or infinity") from error
    if sound.effects:
        with watch.stage("effects"):
            sound.effects_gain, _ = level(measured, effects.EFFECTS_LUFS, np.inf)  # the level that effects are meant at
            samples = _with_effects(samples, sound)
        with watch.stage("loudness"):
            measured = measure(samples, SAMPLE_RATE_HZ)
    sound.part, sound.seed = part, seed
    sound.humanise_timing_ms, sound.humanise_velocity = humanise.timing_ms, humanise.velocity
    return samples, sound, measured


def _add(samples: Samples, gain: float, mix: Samples, spool: Spool | None, *, fades: bool) -> float:
    """Add samples [frames, 2] times their gain to the mix, their end faded out; and to a spool, where there is one.
    Changes the samples. Their peak then."""
    fade = _fade(len(samples)) if fades else np.empty(0, np.float32)
    fade_from = len(samples) - len(fade)
    loudest = 0.0
    for first in range(0, len(samples), PIECE_FRAMES):
        piece = samples[first : first + PIECE_FRAMES]
        last = first + len(piece)
        fades_here = fade[max(first - fade_from, 0) : max(last - fade_from, 0)]
        peaks = add_to_mix(piece, gain, fades_here, mix[first:last], QUIET_FRAMES)
        loudest = max(loudest, float(peaks.max()))
        if spool:
            spool.append(piece, peaks > 0.0)
    if spool:
        spool.close()
    return loudest


def render_stem_file(
    midi: Path,
    limits: MidiLimits,
    config: BackendConfig,
    backends: Sequence[str],
    sound: pb.Sound,
    variation: Variation | None,
    out: Path,
) -> tuple[Path, float]:
    """Render one stem of a MIDI file again from its record, on the first of the back ends that has its instrument, into
    the folder `out`; and the CPU seconds of that: the job of a worker process. `variation` is the song's, None where it
    was rendered as written.

    InvalidRequest MIDI_* for a file that cannot be rendered, `sound.part` for a part that it does not have,
    FailedPrecondition INSTRUMENT_UNKNOWN when the instrument is not here, INSTRUMENT_FAILED when it cannot play, and
    what scratch refuses.
    """
    began = time.process_time()
    try:
        song = load_song(midi.read_bytes(), limits)
        if sound.part >= len(song.parts):
            text = f"must be below {len(song.parts)}, as the song has so many parts"
            raise InvalidRequest(violations=[("sound.part", text)])
        if variation:
            song, _ = varied(song, variation, limits)
        humanise = Humanise(sound.humanise_timing_ms, sound.humanise_velocity)
        step(f"playing {song.parts[sound.part].instrument.name}")
        again = performance(song, sound.part, humanise, sound.seed)
        samples = _played_again(config, backends, again, _frames(song), sound)
        if sound.effects:
            samples = _with_effects(samples, sound)
        samples *= np.float32(sound.stem_gain)
        samples = _faded(_in_room(samples, sound.room if sound.HasField("room") else None))
        gain, highest = sound.mix_gain, peak(samples)
        if not np.isfinite(highest * gain):
            raise InvalidRequest(violations=[("sound", "has gains and effects beyond what samples can hold")])
        if np.float32(highest) * np.float32(gain) > 1.0:  # a plugin that does not repeat itself is louder this time
            gain = _db_to_linear(PEAK_CEILING_DBFS) / highest
        write_audio(out / "stem.flac", samples, gain=gain, md5=False)
        return out / "stem.flac", time.process_time() - began
    except UnknownSound as error:
        raise FailedPrecondition(str(error), reason="INSTRUMENT_UNKNOWN") from error
    except BackendError as error:
        raise FailedPrecondition(str(error), reason="INSTRUMENT_FAILED") from error
    except OSError as error:
        raise scratch_error(error) from error


def _played_again(
    config: BackendConfig, backends: Sequence[str], played: Performance, frames: int, sound: pb.Sound
) -> Samples:
    """The instrument of a record by the first back end that has it."""
    for name in backends[:-1]:
        try:
            return BACKENDS[name](config).render_again(played, frames, sound)
        except UnknownSound:
            continue
    return BACKENDS[backends[-1]](config).render_again(played, frames, sound)


def _frames(song: Song) -> int:
    """How long mix and stems are."""
    return round((song.music_end_s + TAIL_S) * SAMPLE_RATE_HZ)


def _with_effects(samples: Samples, sound: pb.Sound) -> Samples:
    samples *= np.float32(sound.effects_gain)
    return effects.apply(samples, sound.effects)


def _in_room(samples: Samples, room: pb.Effect | None) -> Samples:
    return effects.apply(samples, [room]) if room else samples


def _faded(samples: Samples) -> Samples:
    """The end of the tail fades, in place."""
    fade = _fade(len(samples))
    samples[-len(fade) :] *= fade[:, np.newaxis]
    return samples


def _fade(frames: int) -> NDArray[np.float32]:
    """Gains [any] of the last of so many frames."""
    return np.linspace(1.0, 0.0, min(_FADE_FRAMES, frames), dtype=np.float32)


def stem_targets_lufs(levels: Levels, stems: int, seed: int) -> list[float]:
    """A loudness for each stem, the same for the same seed."""
    draw = random.Random(seed)
    return [levels.stem_loudness_lufs + draw.uniform(-1.0, 1.0) * levels.stem_jitter_db for _ in range(stems)]


def level(measured: Measured, target_lufs: float, ceiling_dbfs: float = PEAK_CEILING_DBFS) -> tuple[float, float]:
    """The gain that levels what was measured, and the loudness that it reaches in LUFS."""
    highest = measured.peak
    if highest <= 0.0:
        return 1.0, -np.inf
    # at full scale: the gates are for music at its level
    loudness = gated_loudness_lufs(measured.energies / highest**2) + linear_to_db(highest)
    gain = gain_to(loudness, target_lufs, highest, ceiling_dbfs)
    return gain, loudness + linear_to_db(gain)


def gain_to(loudness_lufs: float, target_lufs: float, highest: float, ceiling_dbfs: float = PEAK_CEILING_DBFS) -> float:
    """The linear gain that brings `loudness_lufs` to the target, or the peak `highest` to the ceiling if less.

    1.0 for silence.
    """
    if not np.isfinite(loudness_lufs) or highest <= 0.0:
        return 1.0
    wanted = _db_to_linear(min(target_lufs - loudness_lufs, _MAX_GAIN_DB))
    return min(wanted, _db_to_linear(ceiling_dbfs) / highest)


def linear_to_db(linear: float) -> float:
    """-inf for 0."""
    return float(20.0 * np.log10(linear)) if linear > 0 else -np.inf


def _db_to_linear(db: float) -> float:
    return float(10.0 ** (db / 20.0))


def _written(stem: StemResult, spool: Spool | None, gain: float, out: Path) -> StemResult:
    """A levelled stem at its level in the mix, as FLAC where it was spooled."""
    loudness = None if stem.loudness_lufs is None else stem.loudness_lufs + linear_to_db(gain)
    if spool is None:
        return StemResult(None, loudness, stem.sound)
    flac = out / f"stem-{stem.part:02d}.flac"
    write_blocks(flac, spool.pieces(), gain=gain, md5=False)
    return StemResult(flac, loudness, stem.sound)


class _Stopwatch:
    """CPU seconds of this process by stage."""

    def __init__(self) -> None:
        self.stages_s: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.stages_s[name] += time.process_time() - began

"""A song varied before it is rendered: in another key, at another tempo, on other instruments.

Everything that is made of a song (stems, timeline, facts) is made of the varied one as of any: nothing after this
module knows of variations. What cannot be done is done as far as it goes, and the answer says what took effect:

- Pitched parts move by the same number of semitones, drums never. Parts on a program that would leave what its
  instrument plays (instrument_ranges.py) move an octave the other way besides, as a player would take them, which
  leaves key and harmony as they are; where that does not help either, the song moves less far. Notes that the file has
  beyond the range bound it no further.
- The tempo map is scaled as a whole, within the bounds of a song's length and tempo.
- Another program is drawn for all parts on a program at once, without two programs becoming one, from those that are
  alike and can play these notes at least as well; it must have a sound of its own. Drum kits likewise.
"""

import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier.common.v1.common_pb2 import Variation
from luthier_music.instruments import Instrument, instrument
from luthier_music.keys import TONICS, parse_key
from luthier_rendering.instrument_ranges import RANGES, alike
from luthier_rendering.midi import MAX_TEMPO_BPM, Notes, Part, Song, TempoMap
from luthier_rendering.smf import MidiLimits

MAX_TRANSPOSE: Final = 12  # semitones, either way
MIN_FACTOR, MAX_FACTOR = 0.5, 2.0
_ROUNDING: Final = 1e-9  # of a factor that a bound decides

Sounds = Callable[[Instrument], frozenset[str]]
"""What may play an instrument, by names that are equal for what is the same sound; empty = nothing can."""


@dataclass(frozen=True)
class OtherInstruments:
    """How other instruments are drawn: from what has other sounds, by a seed."""

    sounds: Sounds
    seed: int


def varied(
    song: Song, asked: Variation, limits: MidiLimits, others: OtherInstruments | None = None
) -> tuple[Song, Variation]:
    """The song varied as far as it can be, and what took effect: asked for that, it is the same song again.

    Programs and kits that `asked` names are replaced by what it says, the rest by draws of `others`, if at all.
    """
    keys = _keys(song)
    semitones, octaves = _moves(keys, asked.transpose_semitones)
    moves = {program: semitones + 12 * octaves.get(program, 0) for program in keys}
    factor = _factor(song, asked.tempo_factor or 1.0, limits)
    kits_of_song = {part.instrument.program for part in song.parts if part.instrument.is_drum}
    programs = {was: now for was, now in asked.programs.items() if was in keys}
    kits = {was: now for was, now in asked.kits.items() if was in kits_of_song}
    if others:

        def as_well(program: int, other: int) -> bool:
            """Whether another program plays the moved notes at least as well as the song's."""
            moved = keys[program] + moves[program]
            return _outside(other, moved) <= _outside(program, moved)

        programs |= _drawn(keys, programs, others, as_well)
        kits |= _drawn(kits_of_song, kits, others, is_drum=True)
    took = Variation(
        number=asked.number,
        transpose_semitones=semitones,
        tempo_factor=factor,
        programs={was: now for was, now in programs.items() if now != was},
        kits={was: now for was, now in kits.items() if now != was},
        octaves=octaves,
    )
    parts = tuple(_on_another(part, took) for part in song.parts)
    other = replace(song, parts=parts, tempo=_scaled(song.tempo, factor), notes=_moved(song, moves))
    if semitones and song.claimed_key:
        key = parse_key(song.claimed_key)
        other = replace(other, claimed_key=f"{TONICS[(key.tonic + semitones) % 12]} {key.mode}")
    return other, took


def _keys(song: Song) -> dict[int, NDArray[np.int64]]:
    """The keys of all notes of each program; drums left out."""
    return {program: song.notes.pitch[mine] for program, mine in _notes_of_programs(song)}


def _notes_of_programs(song: Song) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Each program, drums left out, and which notes [n] it plays."""
    programs = np.array([-1 if part.instrument.is_drum else part.instrument.program for part in song.parts])
    of_note = programs[song.notes.part]
    for program in np.unique(of_note[of_note >= 0]).tolist():
        yield program, of_note == program


def _moves(keys: dict[int, NDArray[np.int64]], wanted: int) -> tuple[int, dict[int, int]]:
    """By how many semitones a song moves, from `wanted` towards 0, and which programs by an octave besides."""
    toward_zero = -1 if wanted > 0 else 1
    for semitones in range(wanted, 0, toward_zero):
        octaves = {
            program: next((o for o in (0, toward_zero) if _fits(program, pitch, semitones + 12 * o)), None)
            for program, pitch in keys.items()
        }
        if None not in octaves.values():
            return semitones, {program: octave for program, octave in octaves.items() if octave}
    return 0, {}


def _fits(program: int, pitch: NDArray[np.int64], move: int) -> bool:
    """Whether keys that are moved stay within the program's range, or where the file itself goes beyond it."""
    low, high = RANGES[program]
    lowest, highest = int(pitch.min()), int(pitch.max())
    return min(low, lowest) <= lowest + move and highest + move <= max(high, highest)


def _factor(song: Song, wanted: float, limits: MidiLimits) -> float:
    """The factor next to the wanted one with which a song is not too long and not too fast."""
    work_s = song.music_end_s * len(song.parts)
    slowest = max(song.music_end_s / limits.duration_s, work_s / limits.stem_s)
    fastest = MAX_TEMPO_BPM / float(song.tempo.tempos_bpm.max()) * (1 - _ROUNDING)
    return min(max(wanted, min(1.0, slowest * (1 + _ROUNDING))), max(1.0, fastest))


def _drawn(
    written: Collection[int],
    given: dict[int, int],
    others: OtherInstruments,
    fits: Callable[[int, int], bool] | None = None,
    *,
    is_drum: bool = False,
) -> dict[int, int]:
    """For each of the programs (or kits) that `given` does not name another one that the song has not, of which `fits`
    says that it may, where there is one."""
    draw = random.Random(f"{others.seed}/{'kits' if is_drum else 'programs'}")
    found: dict[int, int] = {}
    for program in sorted(written):
        chance = draw.random()  # of each its own: whether another one is given does not move it
        if program in given:
            continue
        taken = {*written, *given.values(), *found.values()}
        own = others.sounds(instrument(program, is_drum=is_drum))
        left = [other for other in alike(program, is_drum=is_drum) if other not in taken]
        left = [other for other in left if fits is None or fits(program, other)]
        sounds = [others.sounds(instrument(other, is_drum=is_drum)) for other in left]
        left = [other for other, sound in zip(left, sounds, strict=True) if sound and not sound & own]
        if left:
            found[program] = left[int(chance * len(left))]
    return found


def _outside(program: int, pitch: NDArray[np.int64]) -> float:
    """The share of keys, 0..1, beyond a program's range."""
    low, high = RANGES[program]
    return float(((pitch < low) | (pitch > high)).mean())


def _scaled(tempo: TempoMap, factor: float) -> TempoMap:
    if factor == 1.0:
        return tempo
    return replace(tempo, seconds=tempo.seconds / factor, us_per_beat=tempo.us_per_beat / factor)


def _moved(song: Song, moves: dict[int, int]) -> Notes:
    """The notes, those of each program moved by its semitones."""
    move = np.zeros(len(song.notes), dtype=np.int64)
    for program, mine in _notes_of_programs(song):
        move[mine] = moves[program]
    return replace(song.notes, pitch=song.notes.pitch + move, heard_pitch=song.notes.heard_pitch + move)


def _on_another(part: Part, took: Variation) -> Part:
    """The part on the instrument that plays it now; the variation of a bank is one of the old instrument's."""
    who = part.instrument
    played = (took.kits if who.is_drum else took.programs).get(who.program, who.program)
    if played == who.program:
        return part
    return replace(part, instrument=instrument(played, is_drum=who.is_drum), bank=0)

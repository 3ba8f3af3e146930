"""Sound and timelines of which everything is known, because they are made here."""

import itertools

import numpy as np

from luthier.common.v1 import common_pb2 as common
from luthier_analysis.sound import Sound
from luthier_analysis.timeline import Span, Timeline

RATE_HZ = 44_100
CADENCES = {  # semitones above the tonic: I IV V I, i iv V i
    "major": [(0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7)],
    "minor": [(0, 3, 7), (5, 8, 12), (7, 11, 14), (0, 3, 7)],
}


def tone(hertz: float, duration_s: float, decay_per_s: float = 3.0, partials: int = 5) -> np.ndarray:
    """A struck string: harmonics that fall as 1/n, and die away."""
    time = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    wave = sum(np.sin(2 * np.pi * hertz * n * time) / n for n in range(1, partials + 1))
    return (wave * np.exp(-decay_per_s * time) * np.minimum(1, time / 0.003)).astype(np.float32)


def stereo(mono: np.ndarray) -> np.ndarray:
    return np.stack([mono, mono], axis=1).astype(np.float32)


def sound(mono: np.ndarray) -> Sound:
    return Sound(stereo(mono), RATE_HZ)


def click_track(tempo_bpm: float, duration_s: float) -> np.ndarray:
    out = np.zeros(round(duration_s * RATE_HZ), np.float32)
    for beat, time in enumerate(np.arange(0.1, duration_s - 0.2, 60 / tempo_bpm)):
        click = 0.5 * tone(1500 if beat % 4 else 2200, 0.08, 60, 1)
        first = round(time * RATE_HZ)
        out[first : first + len(click)] += click
    return out


def chords(
    tonic: int, mode: str, repeats: int, chord_s: float = 0.5, *, low: int = 60, decay: float = 3.0, partials: int = 5
) -> np.ndarray:
    """Cadences on a tonic pitch class, `repeats` times four chords."""
    struck = [
        0.08 * sum(tone(440 * 2 ** ((low + tonic + n - 69) / 12), chord_s, decay, partials) for n in chord)
        for chord in CADENCES[mode]
    ]
    return np.concatenate(struck * repeats)


def aba(part_s: float = 16.0) -> np.ndarray:
    """Soft chords in C major, then hard low ones in A minor over noise, then the first again; 120 BPM."""
    first = chords(0, "major", round(part_s / 2))
    second = chords(9, "minor", round(part_s), 0.25, low=36, decay=12, partials=14)
    noise = np.random.default_rng(1).standard_normal(len(second)).astype(np.float32)
    return np.concatenate([first, second + 0.02 * noise, first])


def groove(tempo_bpm: float, bars: int) -> np.ndarray:
    """A band in 4/4: bass drum on 1 and 3, snare on 2 and 4, hi-hat on eighths, bass and chord change on each bar."""
    beat_s = 60 / tempo_bpm
    out = np.zeros(round((4 * bars * beat_s + 0.5) * RATE_HZ), np.float32)
    noise = np.random.default_rng(1).standard_normal(RATE_HZ).astype(np.float32)
    time = np.arange(round(0.15 * RATE_HZ)) / RATE_HZ
    kick = 0.7 * np.sin(2 * np.pi * 55 * time) * np.exp(-18 * time)
    snare = 0.3 * noise[: len(time)] * np.exp(-25 * time)
    hat = 0.08 * np.diff(noise[: len(time) + 1]) * np.exp(-80 * time)

    def put(wave: np.ndarray, beat: float) -> None:
        first = round(beat * beat_s * RATE_HZ)
        out[first : first + len(wave)] += wave[: len(out) - first]

    for beat in range(4 * bars):
        put(snare if beat % 2 else kick, beat)
        put(hat, beat)
        put(hat, beat + 0.5)
        if beat % 4 == 0:
            root = (48, 53, 55, 48)[beat // 4 % 4]
            put(0.12 * tone(440 * 2 ** ((root - 12 - 69) / 12), 4 * beat_s, 1.0), beat)
            for semitones in (12, 16, 19):
                put(0.05 * tone(440 * 2 ** ((root + semitones - 69) / 12), 4 * beat_s, 1.0), beat)
    return out


def activity(instrument: str, family: str, *spans: Span) -> common.InstrumentActivity:
    return common.InstrumentActivity(
        instrument=instrument, family=family, spans=[common.Span(start_s=a, end_s=b) for a, b in spans]
    )


def timeline(
    duration_s: float,
    tempo_bpm: float = 120.0,
    *,
    on_grid: float = 1.0,
    weights: tuple[float, ...] = (0.0,) * 12,
    activities: tuple[common.InstrumentActivity, ...] = (),
    tempos: tuple[tuple[float, float], ...] = (),
    meters: tuple[tuple[float, int, int], ...] = ((0.0, 4, 4),),
) -> Timeline:
    """Bars of four beats at a tempo, each with sixteen onsets of which a share is on the grid."""
    lines = np.arange(0, duration_s + 1e-9, 240 / tempo_bpm).tolist()
    return Timeline(
        common.Timeline(
            duration_s=duration_s,
            tempos=[common.TempoChange(start_s=s, tempo_bpm=b) for s, b in tempos or ((0.0, tempo_bpm),)],
            meters=[common.MeterChange(start_s=s, numerator=n, denominator=d) for s, n, d in meters],
            bars=[
                common.Bar(
                    span=common.Span(start_s=a, end_s=b),
                    pitch_class_weights=weights,
                    onsets=16,
                    onsets_on_grid=round(16 * on_grid),
                )
                for a, b in itertools.pairwise(lines)
            ],
            instruments=activities,
        )
    )

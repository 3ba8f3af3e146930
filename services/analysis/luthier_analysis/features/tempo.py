"""Global tempo by essentia's RhythmExtractor2013 (Zapata et al. 2014), or by deeprhythm or BeatNet where asked for and
possible.

Where the tempo map proves the tempo, the audio's only stands beside it: then it is that of the beats by one of the
extractor's five detection functions (Degara et al. 2012), without a confidence, at a third of the cost and as near to
the truth (tests/bench/truth.py compares them).

The extractor's own BPM comes from a histogram of beat intervals in analysis frames: a click track of 133 BPM reads
135.8, one of 180 reads 184.6, beyond the 2 % of Accuracy 1. A straight line through its beats reads both to 0.03 BPM:
that is used.
"""

import numpy as np

from luthier.common.v1.common_pb2 import FACT_SOURCE_AUDIO
from luthier_analysis.extra import NoEstimate
from luthier_analysis.facts import Tempo
from luthier_analysis.features import beatnet, deeprhythm
from luthier_analysis.rhythm import MAX_CONFIDENCE, agreed_beats, beats_s, has_pulse
from luthier_analysis.settings import Options
from luthier_analysis.sound import Sound

ESTIMATOR = "essentia/RhythmExtractor2013-multifeature/beat-line"
QUICK_ESTIMATOR = "essentia/BeatTrackerDegara/beat-line"
MIN_S = 2.0  # below this there are too few beats for a tempo
MIN_BEATS = 4
DECIMALS = 3  # of a tempo in BPM: the rest differs between processors, and with it the digest of all that follows
NEAR_BPM = 5.0  # of intervals that count for the most frequent tempo
MAX_CORRECTION = 0.05  # a line that departs further from the histogram went through beats that slip


def measure(sound: Sound, options: Options, *, proven: bool = False) -> Tempo | None:
    """Tempo in BPM with the name of its estimator; None without a pulse or for what is too short.

    `proven`: the tempo is known from the notes, and this one is not what decides.
    """
    if sound.duration_s < MIN_S or not has_pulse(sound):
        return None
    if options.tempo_estimator == "essentia":
        return _quick(sound) if proven else _essentia(sound)
    try:
        if options.tempo_estimator == "beatnet":
            return _beatnet(sound)
        return deeprhythm.estimate(sound, options.deeprhythm)
    except NoEstimate as reason:
        return _essentia(sound, note=f"{options.tempo_estimator} gave no estimate: {reason}; this one is essentia's")


def beat_line_bpm(beats_s: np.ndarray) -> float:
    """Tempo of the line through beat times in seconds; a missed beat counts as one that passed."""
    intervals = np.diff(beats_s)
    passed = np.maximum(1, np.round(intervals / np.median(intervals)))
    return float(60 / np.polyfit(np.concatenate([[0], np.cumsum(passed)]), beats_s, 1)[0])


def _essentia(sound: Sound, note: str = "") -> Tempo | None:
    found = agreed_beats(sound)
    tempo_bpm = _bpm(found.times_s)
    if tempo_bpm is None:
        return None
    return Tempo(tempo_bpm, FACT_SOURCE_AUDIO, ESTIMATOR, min(1.0, found.confidence / MAX_CONFIDENCE), note=note)


def _quick(sound: Sound) -> Tempo | None:
    tempo_bpm = _bpm(beats_s(sound))
    return None if tempo_bpm is None else Tempo(tempo_bpm, FACT_SOURCE_AUDIO, QUICK_ESTIMATOR)


def _bpm(times_s: np.ndarray) -> float | None:
    """Of the line through beats, unless it departs from most of their intervals; None for too few beats."""
    if len(times_s) < MIN_BEATS:
        return None
    line_bpm, usual_bpm = beat_line_bpm(times_s.astype(np.float64)), interval_bpm(times_s)
    return round(line_bpm if abs(line_bpm / usual_bpm - 1) <= MAX_CORRECTION else usual_bpm, DECIMALS)


def interval_bpm(times_s: np.ndarray) -> float:
    """As RhythmExtractor2013 says it: the mean of the intervals' tempi that lie near the most frequent one."""
    tempi = 60 / np.diff(times_s)
    most = 2.0 * np.argmax(np.bincount((tempi / 2 + 0.5).astype(int)))  # in bins of 2 BPM
    near = tempi[np.abs(tempi - most) < NEAR_BPM]
    return float(near.mean()) if len(near) else float(most)


def _beatnet(sound: Sound) -> Tempo | None:
    """The line through BeatNet's beats, with their confidence."""
    found = beatnet.beats(sound)
    if found is None or len(found.times_s) < MIN_BEATS:
        return None
    tempo_bpm = round(beat_line_bpm(np.array(found.times_s)), DECIMALS)
    return Tempo(tempo_bpm, FACT_SOURCE_AUDIO, f"{found.estimator}/beat-line", found.confidence)

"""Estimators of tempo, key and beats against what the notes prove, on clips as CutClips cuts them; sections of songs.

    uv run --project services/analysis --group bench python tests/bench/truth.py FOLDER [--only sections]

FOLDER is what `tests/bench/truth_songs.py` wrote. BeatNet is measured where its extra is installed, deeprhythm where
LUTHIER_DEEPRHYTHM_WEIGHTS and _SHA256 name its weights besides. Truth is the tempo map where onsets fall on its grid,
the key that fits the notes by a margin, and the beats of the tempo map; what has none is left out and counted. Tempo:
Accuracy 1 and 2 (Gouyon et al. 2006, 2 %). Key: exact, and MIREX's weighted score. Beats and downbeats: F-measure, 70
ms (Davies et al. 2009), both by mir_eval. Sections: F-measure of the boundaries inside the song at 0.5 and 3 s (MIREX,
mir_eval), against the form that the songbook or the markers of a file state; a song without one is left out. An
estimator that gives nothing is wrong. Costs are CPU seconds per minute of audio on one core.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import mir_eval
import numpy as np

from luthier.common.v1.common_pb2 import Timeline as TimelineMessage
from luthier_analysis.cutting import cut
from luthier_analysis.engine import algorithms
from luthier_analysis.extra import BEATNET, NoEstimate, identity
from luthier_analysis.features import beatnet, deeprhythm
from luthier_analysis.features.sections import structure
from luthier_analysis.features.tempo import MIN_BEATS, beat_line_bpm
from luthier_analysis.jobs import CutPlan
from luthier_analysis.settings import Weights
from luthier_analysis.sound import ESSENTIA_RATE_HZ, Sound, load
from luthier_analysis.timeline import Span, Timeline, beat_quarters
from luthier_music.keys import parse_key
from luthier_music.tempo import accuracy_1, accuracy_2

PROFILES = ("bgate", "edma", "temperley", "krumhansl", "shaath")
METHODS = ("multifeature", "degara")
MIN_TRUE_BEATS = 8
DEEPRHYTHM: Final = (
    Weights(Path(os.environ["LUTHIER_DEEPRHYTHM_WEIGHTS"]), os.environ["LUTHIER_DEEPRHYTHM_SHA256"].lower())
    if os.environ.get("LUTHIER_DEEPRHYTHM_WEIGHTS")
    else None
)
BEATNET_IS_THERE: Final = bool(find_spec("torch")) and identity(BEATNET) != "absent"
SUBJECTS = ("tempo", "key", "beats", "sections")
UNIFORM_S = 16.0  # of sections that are found without listening
MFCC_FRAME, MFCC_HOP = 2048, 1024  # samples at 44.1 kHz
SBIC_MIN_S = 8.0  # as the served estimator


@dataclass
class Scores:
    """Of one estimator: each score's values over the clips with a truth, CPU seconds, and seconds of audio."""

    values: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    unknown: int = 0
    cpu_s: float = 0.0
    audio_s: float = 0.0

    def add(self, other: "Scores") -> None:
        for name, values in other.values.items():
            self.values[name] += values
        self.unknown += other.unknown
        self.cpu_s, self.audio_s = self.cpu_s + other.cpu_s, self.audio_s + other.audio_s


def song_scores(path: Path, subjects: Sequence[str]) -> tuple[dict[str, Scores], dict[str, int]]:
    """What each estimator of the subjects reaches on a song's clips, and how many clips have which truth."""
    if BEATNET_IS_THERE:
        beatnet.activations(np.zeros((2, 272), np.float32))  # torch and the weights are loaded outside of the clock
    timeline = Timeline(TimelineMessage.FromString(path.read_bytes()))
    sound = load(path.with_suffix(".flac"))
    found: defaultdict[str, Scores] = defaultdict(Scores)
    truths: defaultdict[str, int] = defaultdict(int)
    if "sections" in subjects:
        of_sections(found, truths, sound, path.with_suffix(".sections"))
    of_clips = [measured for subject, measured in OF_CLIPS.items() if subject in subjects]
    for span in cut(sound, structure(sound), timeline, CutPlan()).spans if of_clips else ():
        excerpt = sound.excerpt(*span)
        truths["clips"] += 1
        _ = excerpt.mono
        for measured in of_clips:
            measured(found, truths, excerpt, timeline, span)
    return dict(found), dict(truths)


_answers: WeakKeyDictionary[Sound, dict[str, tuple[Any, float]]] = WeakKeyDictionary()


def timed(
    found: dict[str, Scores], name: str, sound: Sound, estimate: Callable[[], Any], of: str = ""
) -> tuple[Scores, Any]:
    """The scores of an estimator, and its answer. `of`: what several rows make their answers of is computed once, and
    its time is charged to each."""
    scores, answers = found[name], _answers.setdefault(sound, {})
    if (of or name) not in answers:
        began = time.process_time()
        answers[of or name] = estimate(), time.process_time() - began
    answer, cpu_s = answers[of or name]
    scores.cpu_s += cpu_s
    scores.audio_s += sound.duration_s
    scores.unknown += answer is None
    return scores, answer


def extracted(sound: Sound, method: str) -> tuple[float, np.ndarray]:
    """BPM and beats in seconds by RhythmExtractor2013."""
    bpm, beats_s, *_ = algorithms.RhythmExtractor2013(method=method)(sound.mono)
    return float(bpm), beats_s.astype(np.float64)


def of_tempo(found: dict[str, Scores], truths: dict[str, int], sound: Sound, timeline: Timeline, span: Span) -> None:
    truth = timeline.tempo_in(span)
    if truth is None or truth.changes or truth.notated:
        return
    truths["clips with a steady tempo"] += 1

    def add(name: str, estimate: Callable[[], Any], bpm_of: Callable[[Any], float] = float, of: str = "") -> None:
        scores, answer = timed(found, f"tempo: {name}", sound, estimate, of)
        bpm = bpm_of(answer) if answer is not None else 0.0
        scores.values["Accuracy 1"].append(bpm > 0 and accuracy_1(truth.tempo_bpm, bpm))
        scores.values["Accuracy 2"].append(bpm > 0 and accuracy_2(truth.tempo_bpm, bpm))

    for method in METHODS:
        rhythm = partial(extracted, sound, method)
        name = f"RhythmExtractor2013 {method}"
        add(f"{name}, line through its beats", rhythm, lambda it: line_bpm(it[1]), name)
        add(f"{name}, its own BPM", rhythm, lambda it: it[0], name)
    add("PercivalBpmEstimator", lambda: algorithms.PercivalBpmEstimator()(sound.mono))
    if BEATNET_IS_THERE:
        add("BeatNet, line through its beats", lambda: beatnet.beats(sound), lambda it: line_bpm(it.times_s), "BeatNet")
    if DEEPRHYTHM:
        add("deeprhythm", lambda: deeprhythm_bpm(sound))


def line_bpm(beats_s: Sequence[float]) -> float:
    return beat_line_bpm(np.asarray(beats_s)) if len(beats_s) >= MIN_BEATS else 0.0


def deeprhythm_bpm(sound: Sound) -> float | None:
    try:
        return deeprhythm.estimate(sound, DEEPRHYTHM).tempo_bpm
    except NoEstimate as reason:
        print(f"deeprhythm: {reason}", file=sys.stderr)
        return None


def of_key(found: dict[str, Scores], truths: dict[str, int], sound: Sound, timeline: Timeline, span: Span) -> None:
    fit = timeline.key_fit(span)
    if not (fit and fit.sure()):
        return
    truths["clips whose notes are sure of their key"] += 1
    for profile in PROFILES:
        scores, answer = timed(
            found,
            f"key: KeyExtractor {profile}",
            sound,
            lambda profile=profile: algorithms.KeyExtractor(profileType=profile)(sound.mono),  # type: ignore[misc]
        )
        tonic, mode, _ = answer  # type: ignore[misc]
        key = parse_key(f"{tonic} {mode}")
        scores.values["exact"].append(key == fit.key)
        scores.values["MIREX"].append(mir_eval.key.weighted_score(str(fit.key), str(key)))


def of_beats(found: dict[str, Scores], truths: dict[str, int], sound: Sound, timeline: Timeline, span: Span) -> None:
    beats_s = np.array(list(beat_times(timeline, span)))
    if len(beats_s) < MIN_TRUE_BEATS:
        return
    truths["clips with beats"] += 1
    bars_s = np.array([line for line in timeline.bar_lines() if span[0] <= line < span[1]])

    def add(name: str, true_s: np.ndarray, estimate: Callable[[], Any], times: Callable[[Any], Any], of: str) -> None:
        scores, answer = timed(found, name, sound, estimate, of)
        heard_s = [] if answer is None else times(answer)
        trimmed = [mir_eval.beat.trim_beats(np.asarray(one, dtype=float)) for one in (true_s - span[0], heard_s)]
        scores.values["F-measure"].append(mir_eval.beat.f_measure(*trimmed))

    for method in METHODS:
        name = f"RhythmExtractor2013 {method}"
        add(f"beats: {name}", beats_s, partial(extracted, sound, method), lambda it: it[1], name)
    if BEATNET_IS_THERE:
        heard = partial(beatnet.beats, sound)
        add("beats: BeatNet", beats_s, heard, lambda it: it.times_s, "BeatNet")
        downbeats = lambda it: np.array(it.times_s)[np.array(it.downbeats)]  # noqa: E731
        add("downbeats: BeatNet", bars_s, heard, downbeats, "BeatNet")
    name = "RhythmExtractor2013 degara"
    every_fourth = partial(extracted, sound, "degara")
    add(
        "downbeats: every fourth beat of degara's, whichever is first",
        bars_s,
        every_fourth,
        lambda it: it[1][::4],
        name,
    )


def beat_times(timeline: Timeline, span: Span) -> Iterator[float]:
    """Beats of the tempo map inside a span where it is trusted, one meter with a known beat holds and the bars are
    whole."""
    tempo, meter = timeline.tempo_in(span), timeline.meter_in(span)
    beat = beat_quarters(meter.numerator, meter.denominator) if meter and not meter.changes else None
    if tempo is None or tempo.notated or meter is None or beat is None:
        return
    beats = round(meter.numerator * 4 / meter.denominator / beat)
    for start_s, end_s in zip(timeline.bar_lines(), timeline.bar_lines()[1:], strict=False):
        if span[0] <= start_s < span[1]:
            yield from (start_s + (end_s - start_s) * number / beats for number in range(beats))


def of_sections(found: dict[str, Scores], truths: dict[str, int], sound: Sound, path: Path) -> None:
    truths["songs"] += 1
    if not path.exists():
        return
    form = json.loads(path.read_text(encoding="utf-8"))
    origin = "songbook" if {part["label"] for part in form} <= {"A", "B"} else "markers"
    truths[f"songs whose form is known ({origin})"] += 1
    starts_s = [part["start_s"] for part in form]
    estimators: dict[str, Callable[[], list[float]]] = {
        "self-similarity novelty (used)": lambda: [one.start_s for one in structure(sound).sections],
        "SBic over MFCC": lambda: sbic_starts_s(sound),
        f"one every {UNIFORM_S:g} s, without listening": lambda: np.arange(0, sound.duration_s, UNIFORM_S).tolist(),
    }
    _ = sound.mono
    for name, estimate in estimators.items():
        scores, answer = timed(found, f"sections of the {origin}: {name}", sound, estimate)
        true, heard = (np.array(list(pairwise([0.0, *starts[1:], sound.duration_s]))) for starts in (starts_s, answer))  # type: ignore[index]
        for window_s in (0.5, 3.0):
            precision, recall, f_measure = mir_eval.segment.detection(true, heard, window=window_s, trim=True)
            scores.values[f"F at {window_s:g} s"].append(f_measure)
            scores.values[f"precision at {window_s:g} s"].append(precision)
            scores.values[f"recall at {window_s:g} s"].append(recall)


def sbic_starts_s(sound: Sound) -> list[float]:
    """Where sections start by essentia's SBic (Bayesian information criterion) over cepstra."""
    window, spectrum, mfcc = algorithms.Windowing(type="hann"), algorithms.Spectrum(), algorithms.MFCC()
    frames = algorithms.FrameGenerator(sound.mono, frameSize=MFCC_FRAME, hopSize=MFCC_HOP)
    cepstra = np.array([mfcc(spectrum(window(frame)))[1] for frame in frames], dtype=np.float32).T
    edges = algorithms.SBic(minLength=round(SBIC_MIN_S * ESSENTIA_RATE_HZ / MFCC_HOP))(np.ascontiguousarray(cepstra))
    return [float(edge) * MFCC_HOP / ESSENTIA_RATE_HZ for edge in edges[:-1]]


OF_CLIPS: Final = {"tempo": of_tempo, "key": of_key, "beats": of_beats}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*.timeline"))
    found: defaultdict[str, Scores] = defaultdict(Scores)
    truths: defaultdict[str, int] = defaultdict(int)
    with ProcessPoolExecutor() as pool:
        for number, (scores, counts) in enumerate(pool.map(song_scores, paths, repeat(options.only)), start=1):
            for name, one in scores.items():
                found[name].add(one)
            for name, count in counts.items():
                truths[name] += count
            print(f"\r{number}/{len(paths)} songs", end="", file=sys.stderr, flush=True)
    known = ", ".join(f"{count} {name}" for name, count in truths.items())
    print(f"\n{len(paths)} songs: {known}; {os.cpu_count()} cores, {platform.machine()}\n")
    print("| estimator | clips or songs | no answer | scores | CPU s per minute |\n|---|---|---|---|---|")
    for name, one in found.items():
        count = max(map(len, one.values.values()))
        scored = ", ".join(f"{score} {np.mean(values):.3f}" for score, values in one.values.items())
        print(f"| {name} | {count} | {one.unknown} | {scored} | {60 * one.cpu_s / one.audio_s:.3f} |")


if __name__ == "__main__":
    main()

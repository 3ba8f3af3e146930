"""Estimators of tempo, key and beats against what the notes prove, on clips as CutClips cuts them.

    uv run --project services/analysis --group bench python tests/bench/truth.py FOLDER

FOLDER is what `tests/bench/truth_songs.py` wrote. Truth is the tempo map where onsets fall on its grid, the key that
fits the notes by a margin, and the beats of the tempo map; what has none is left out and counted. Tempo: Accuracy 1 and
2 (Gouyon et al. 2006, 2 %). Key: exact, and MIREX's weighted score. Beats: F-measure, 70 ms (Davies et al. 2009), both
by mir_eval. An estimator that gives nothing is wrong. Costs are CPU seconds per minute of audio on one core.
"""

import argparse
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import mir_eval
import numpy as np

from luthier.common.v1.common_pb2 import Timeline as TimelineMessage
from luthier_analysis.cutting import cut
from luthier_analysis.engine import algorithms, has_pulse
from luthier_analysis.features.sections import structure
from luthier_analysis.features.tempo import beat_line_bpm, measure
from luthier_analysis.jobs import CutPlan
from luthier_analysis.settings import Options
from luthier_analysis.sound import Sound, load
from luthier_analysis.timeline import Span, Timeline, beat_quarters
from luthier_music.keys import parse_key
from luthier_music.tempo import accuracy_1, accuracy_2

PROFILES = ("bgate", "edma", "temperley", "krumhansl", "shaath")
METHODS = ("multifeature", "degara")


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


def song_scores(path: Path) -> tuple[dict[str, Scores], dict[str, int]]:
    """What each estimator reaches on a song's clips, and how many clips have which truth."""
    timeline = Timeline(TimelineMessage.FromString(path.read_bytes()))
    sound = load(path.with_suffix(".flac"))
    found: defaultdict[str, Scores] = defaultdict(Scores)
    truths: defaultdict[str, int] = defaultdict(int)
    for span in cut(sound, structure(sound), timeline, CutPlan()).spans:
        excerpt = sound.excerpt(*span)
        truths["clips"] += 1
        _ = excerpt.mono
        has_pulse(excerpt)  # is asked for by every clip anyhow
        of_tempo(found, truths, excerpt, timeline, span)
        of_key(found, truths, excerpt, timeline, span)
        of_beats(found, truths, excerpt, timeline, span)
    return dict(found), dict(truths)


def timed(found: dict[str, Scores], name: str, sound: Sound, estimate: Callable[[], object]) -> tuple[Scores, object]:
    scores = found[name]
    began = time.process_time()
    answer = estimate()
    scores.cpu_s += time.process_time() - began
    scores.audio_s += sound.duration_s
    scores.unknown += answer is None
    return scores, answer


def of_tempo(found: dict[str, Scores], truths: dict[str, int], sound: Sound, timeline: Timeline, span: Span) -> None:
    truth = timeline.tempo_in(span)
    if truth is None or truth.changes or truth.notated:
        return
    truths["tempo"] += 1

    def line(method: str) -> float | None:
        bpm, beats_s, *_ = algorithms.RhythmExtractor2013(method=method)(sound.mono)
        return beat_line_bpm(beats_s.astype(np.float64)) if bpm > 0 and len(beats_s) >= 4 else None

    def served() -> float | None:
        answer = measure(sound, Options())
        return answer.tempo_bpm if answer else None

    estimators: dict[str, Callable[[], float | None]] = {
        "RhythmExtractor2013 multifeature, line through its beats (where nothing is proven)": served,
        "RhythmExtractor2013 multifeature, its own BPM": lambda: float(
            algorithms.RhythmExtractor2013(method="multifeature")(sound.mono)[0]
        ),
        "RhythmExtractor2013 degara, line through its beats": lambda: line("degara"),
        "PercivalBpmEstimator (beside what is proven)": lambda: float(algorithms.PercivalBpmEstimator()(sound.mono)),
    }
    for name, estimate in estimators.items():
        scores, bpm = timed(found, f"tempo: {name}", sound, estimate)
        right = isinstance(bpm, float) and bpm > 0
        scores.values["Accuracy 1"].append(right and accuracy_1(truth.tempo_bpm, float(bpm)))  # type: ignore[arg-type]
        scores.values["Accuracy 2"].append(right and accuracy_2(truth.tempo_bpm, float(bpm)))  # type: ignore[arg-type]


def of_key(found: dict[str, Scores], truths: dict[str, int], sound: Sound, timeline: Timeline, span: Span) -> None:
    fit = timeline.key_fit(span)
    if not (fit and fit.sure()):
        return
    truths["key"] += 1
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
    if len(beats_s) < 8:
        return
    truths["beats"] += 1
    for method in METHODS:
        scores, answer = timed(
            found,
            f"beats: RhythmExtractor2013 {method}",
            sound,
            lambda method=method: algorithms.RhythmExtractor2013(method=method)(sound.mono)[1],  # type: ignore[misc]
        )
        trimmed = [mir_eval.beat.trim_beats(np.asarray(b, dtype=float)) for b in (beats_s - span[0], answer)]
        scores.values["F-measure"].append(mir_eval.beat.f_measure(*trimmed))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    paths = sorted(parser.parse_args().folder.glob("*.timeline"))
    found: defaultdict[str, Scores] = defaultdict(Scores)
    truths: defaultdict[str, int] = defaultdict(int)
    with ProcessPoolExecutor() as pool:
        for number, (scores, counts) in enumerate(pool.map(song_scores, paths), start=1):
            for name, one in scores.items():
                found[name].add(one)
            for name, count in counts.items():
                truths[name] += count
            print(f"\r{number}/{len(paths)} songs", end="", flush=True)
    known = ", ".join(f"{count} with a true {name}" for name, count in truths.items() if name != "clips")
    print(f"\n{truths['clips']} clips of {len(paths)} songs: {known}; {os.cpu_count()} cores, {platform.machine()}\n")
    print("| estimator | clips | no answer | scores | CPU s per minute |\n|---|---|---|---|---|")
    for name, one in found.items():
        count = max(map(len, one.values.values()))
        scored = ", ".join(f"{score} {np.mean(values):.3f}" for score, values in one.values.items())
        print(f"| {name} | {count} | {one.unknown} | {scored} | {60 * one.cpu_s / one.audio_s:.3f} |")


if __name__ == "__main__":
    main()

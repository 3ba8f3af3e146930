"""Does the music have the tempo that the prompt states? Accuracy 1 and 2 (Gouyon et al. 2006), tolerance 2 %.

Music in which the estimator finds no tempo counts as wrong: a tempo was asked for.
"""

from collections.abc import Callable

from luthier_evaluation.measurement import Measurement
from luthier_evaluation.metrics.metric import Chance, Metric, Pairs
from luthier_evaluation.statistics import deaf_level
from luthier_evaluation.suite import SuiteRow
from luthier_music import tempo

Right = Callable[[float, float], bool]


def _metric(number: int, title: str, about: str, right: Right, guess: Callable[[float], float]) -> Metric:
    def of(row: SuiteRow, made: Measurement) -> float | None:
        if row.tempo_bpm is None:
            return None
        return float(made.tempo_bpm is not None and right(row.tempo_bpm, made.tempo_bpm))

    def chance(pairs: Pairs) -> Chance:
        asked = [(row.tempo_bpm, made.tempo_bpm) for row, made in pairs if row.tempo_bpm is not None]
        if not asked:
            return Chance(None, "")
        blind = sum(guess(reference) for reference, _ in asked) / len(asked)
        note = f"a log-uniform guess from 40 to 240 BPM reaches {blind:.3f}"
        deaf = deaf_level([reference for reference, _ in asked], [made for _, made in asked], right)
        if deaf is None:
            return Chance(blind, f"chance: {note}")
        return Chance(deaf, f"chance: each tempo measured held against the other rows' prompts; {note}")

    return Metric(f"tempo_accuracy_{number}", title, "share", about, of, chance, gate=True)


ACCURACY_1 = _metric(
    1, "Tempo accuracy 1", "measured tempo within 2 % of the prompt's", tempo.accuracy_1, tempo.chance_1
)
ACCURACY_2 = _metric(
    2, "Tempo accuracy 2", "the same, with 2, 1/2, 3 and 1/3 times it", tempo.accuracy_2, tempo.chance_2
)

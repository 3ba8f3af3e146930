"""Is the music in the key that the prompt states? Exact, and MIREX's weights (fifth 0.5, relative 0.3, parallel 0.2).

Music in which the estimator finds no key counts as wrong: a key was asked for.
"""

from collections.abc import Callable

from luthier_evaluation.measurement import Measurement
from luthier_evaluation.metrics.metric import Chance, Metric, Pairs
from luthier_evaluation.statistics import deaf_level
from luthier_evaluation.suite import SuiteRow
from luthier_music import keys
from luthier_music.keys import Key


def _metric(name: str, title: str, about: str, score: Callable[[Key, Key], float], guess: float) -> Metric:
    def of(row: SuiteRow, made: Measurement) -> float | None:
        if row.key is None:
            return None
        return float(score(row.key, made.key)) if made.key else 0.0

    def chance(pairs: Pairs) -> Chance:
        asked = [(row.key, made.key) for row, made in pairs if row.key is not None]
        note = f"a key drawn evenly from the 24 reaches {guess:.3f}"
        deaf = deaf_level([reference for reference, _ in asked], [made for _, made in asked], score)
        if deaf is None:
            return Chance(guess if asked else None, f"chance: {note}" if asked else "")
        return Chance(deaf, f"chance: each key measured held against the other rows' prompts; {note}")

    return Metric(name, title, "share", about, of, chance, gate=True)


EXACT = _metric(
    "key_exact", "Key, exact", "same tonic and same mode as the prompt states", keys.exact, keys.EXACT_CHANCE
)
MIREX = _metric(
    "key_mirex", "Key, MIREX weighted", "near misses count in part", keys.weighted_score, keys.WEIGHTED_CHANCE
)

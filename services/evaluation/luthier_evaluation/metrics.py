"""The metrics. A new one is a `Metric` in the list METRICS, and a test.

A metric gives a number for each row, averaged over the rows to which it applies. Beside the average stands its chance
level: what a model reaches that ignores the prompt.

- Tempo: Accuracy 1 and 2 (Gouyon et al. 2006), tolerance 2 %.
- Key: exact, and MIREX's weights (fifth above 0.5, relative 0.3, parallel 0.2) as `mir_eval.key` computes them.
- Sound: integrated loudness (BS.1770-4), silence, and how far the length is from the length asked for.

Audio in which the estimator finds no tempo or key counts as wrong where one was asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from mir_eval.key import weighted_score

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.embedders import EMBEDDERS
from luthier_evaluation.plan import key_of
from luthier_evaluation.statistics import permutation_baseline, permutation_p
from luthier_music import tempo
from luthier_music.keys import ALL_KEYS, Key

Pairs = Sequence[tuple[pb.SuiteRow, pb.RowResult]]
"""Rows with what one model did with them; rows that failed are left out."""


@dataclass(frozen=True)
class Chance:
    """What a model reaches that ignores the prompt, None = unknown, and how that was found."""

    value: float | None
    note: str


@dataclass(frozen=True)
class Metric:
    """A number for each row.

    `of` gives None for a row to which the metric does not apply. `unit` is "share" (0 to 1, shown in per cent), LUFS,
    s, nats or empty. `permuted`: of a metric of what the prompt asks for, the p that the prompts do not matter; None
    without rows.
    """

    name: str
    title: str
    unit: str
    about: str
    of: Callable[[pb.SuiteRow, pb.RowResult], float | None]
    chance: Callable[[Pairs], Chance] | None = None
    permuted: Callable[[Pairs], float | None] | None = None


@dataclass(frozen=True)
class SetMetric:
    """A number for all rows of a model together. `unit` as of a Metric."""

    name: str
    title: str
    unit: str
    about: str


def tempo_of(result: pb.RowResult) -> float | None:
    """The tempo measured in BPM; None where the estimator found none."""
    return result.tempo.tempo_bpm or None


def is_silent(result: pb.RowResult) -> bool:
    """Whether nothing passes the gate of BS.1770-4."""
    return not result.HasField("error") and not result.HasField("loudness_lufs")


@cache
def key_score(asked: Key, measured: Key) -> float:
    """MIREX's score of a key, 0 to 1. Kept for all 576 pairs: the permutation baseline asks up to a million times."""
    return float(weighted_score(str(asked), str(measured)))


def _tempo_metric(
    number: int,
    title: str,
    about: str,
    score: Callable[[float, float], bool],
    guess: Callable[[float], float],
) -> Metric:
    def of(row: pb.SuiteRow, result: pb.RowResult) -> float | None:
        if not row.HasField("tempo_bpm"):
            return None
        measured = tempo_of(result)
        return float(measured is not None and score(row.tempo_bpm, measured))

    def chance(pairs: Pairs) -> Chance:
        asked = [row.tempo_bpm for row, _ in pairs if row.HasField("tempo_bpm")]
        if not asked:
            return Chance(None, "")
        guessed = sum(guess(bpm) for bpm in asked) / len(asked)
        low, high = tempo.GUESS_RANGE_BPM
        note = f"a log-uniform guess from {low:g} to {high:g} BPM reaches {guessed:.3f}"
        baseline = permutation_baseline(asked, [tempo_of(r) for row, r in pairs if row.HasField("tempo_bpm")], score)
        if baseline is None:
            return Chance(guessed, f"chance: {note}")
        return Chance(baseline, f"chance: each tempo measured held against the other rows' prompts; {note}")

    def permuted(pairs: Pairs) -> float | None:
        asked = [(row.tempo_bpm, tempo_of(result)) for row, result in pairs if row.HasField("tempo_bpm")]
        return permutation_p([bpm for bpm, _ in asked], [measured for _, measured in asked], score)

    return Metric(f"tempo_accuracy_{number}", title, "share", about, of, chance, permuted)


def _key_metric(name: str, title: str, about: str, score: Callable[[Key, Key], float]) -> Metric:
    guessed = sum(score(Key(0, "major"), key) for key in ALL_KEYS) / len(ALL_KEYS)  # alike for every key asked for

    def of(row: pb.SuiteRow, result: pb.RowResult) -> float | None:
        asked, measured = key_of(row.key), key_of(result.key)
        if asked is None:
            return None
        return float(score(asked, measured)) if measured else 0.0

    def chance(pairs: Pairs) -> Chance:
        keys = [(key, key_of(result.key)) for row, result in pairs if (key := key_of(row.key))]
        note = f"a key drawn evenly from the 24 reaches {guessed:.3f}"
        baseline = permutation_baseline([asked for asked, _ in keys], [measured for _, measured in keys], score)
        if baseline is None:
            return Chance(guessed if keys else None, f"chance: {note}" if keys else "")
        return Chance(baseline, f"chance: each key measured held against the other rows' prompts; {note}")

    def permuted(pairs: Pairs) -> float | None:
        keys = [(key, key_of(result.key)) for row, result in pairs if (key := key_of(row.key))]
        return permutation_p([asked for asked, _ in keys], [measured for _, measured in keys], score)

    return Metric(name, title, "share", about, of, chance, permuted)


METRICS: Final[tuple[Metric, ...]] = (
    _tempo_metric(1, "Tempo accuracy 1", "measured tempo within 2 % of the prompt's", tempo.accuracy_1, tempo.chance_1),
    _tempo_metric(2, "Tempo accuracy 2", "the same, with 2, 1/2, 3 and 1/3 times it", tempo.accuracy_2, tempo.chance_2),
    _key_metric("key_exact", "Key, exact", "same tonic and same mode as the prompt states", Key.__eq__),
    _key_metric("key_mirex", "Key, MIREX weighted", "near misses count in part", key_score),
    Metric(
        "loudness_lufs",
        "Loudness",
        "LUFS",
        "integrated loudness after BS.1770-4; silent rows are left out",
        lambda _, result: None if is_silent(result) else result.loudness_lufs,
    ),
    Metric("silent", "Silent", "share", "no sound above the gate of BS.1770-4", lambda _, r: float(is_silent(r))),
    Metric(
        "length_error_s",
        "Length error",
        "s",
        "distance between the length of the file and the length asked for",
        lambda row, result: abs(result.duration_s - row.seconds_total),
    ),
)


def _value(name: str) -> Callable[[pb.SuiteRow, pb.RowResult], float | None]:
    return lambda _, result: result.values.get(name)


COPY: Final = "copy"
"""Value of a row: 1 where a training clip is heard in it, else 0; absent where no data set is recorded with its model."""
COPIES: Final = Metric(
    "copies",
    "Copies of training clips",
    "share",
    "rows in which a clip that the model was trained on is heard, at any pitch within a semitone and a half and any tempo"
    " within 4 %",
    _value(COPY),
)


ALIGNED: Final = (
    Metric(
        "stft",
        "STFT distance",
        "",
        "to the reference that the audio reconstructs; auraloss' default resolutions",
        _value("stft"),
    ),
    Metric("mel", "Mel distance", "", "the same of mel spectra, 128 bands", _value("mel")),
    Metric(
        "si_sdr_db",
        "SI-SDR",
        "dB",
        "scale-invariant signal to distortion, means removed, at most 100 dB; rows whose reference is silent are left out",
        _value("si_sdr_db"),
    ),
)
"""Of audio that reconstructs its reference sample by sample (`aligned.py`)."""


def metrics_of(plan: pb.EvaluationPlan) -> tuple[Metric, ...]:
    """The metrics of the rows of an evaluation: METRICS, those of aligned references, and those of its embedders."""
    found = [*METRICS, COPIES, *(ALIGNED if plan.request.aligned else ())]
    for name, kind in EMBEDDERS.items():
        if name in {one.embedder for one in plan.embedders}:
            if kind.tagger:
                about = (
                    f"divergence of what {kind.title} hears from what it hears in the audio that the prompt describes"
                )
                found.append(Metric(f"kl_{name}", f"KL {kind.title}", "nats", about, _value(f"kl_{name}")))
            if kind.texts:
                about = "cosine between the audio and its prompt, -1 to 1"
                found.append(Metric(f"{name}_score", f"{kind.title} score", "", about, _value(f"{name}_score")))
    return tuple(found)


def set_metrics_of(plan: pb.EvaluationPlan) -> tuple[SetMetric, ...]:
    """The metrics of all rows of a model together."""
    found = []
    for name, kind in EMBEDDERS.items():
        if name in {one.embedder for one in plan.embedders}:
            about = f"Fréchet distance of {kind.title}'s embeddings from the reference's"
            found.append(SetMetric(f"fd_{name}", f"FD {kind.title}", "", about))
            found.append(SetMetric(f"fd_inf_{name}", f"FD {kind.title}, endless", "", f"{about}, without its bias"))
    return tuple(found)

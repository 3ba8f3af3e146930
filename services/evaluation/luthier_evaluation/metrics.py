"""The metrics. A new one is a `Metric` in the list METRICS, and a test.

A metric gives a number for each row, averaged over the rows to which it applies. Beside the average stands its chance
level: what a model reaches that ignores the prompt.

- Tempo: Accuracy 1 and 2 (Gouyon et al. 2006), tolerance 2 %.
- Key: exact, tonic only, and MIREX's weights (fifth above 0.5, relative 0.3, parallel 0.2) as `mir_eval.key` computes
  them (`luthier_music.keys.key_score`).
- Sound: integrated loudness (BS.1770-4), silence, and how far the length is from the length asked for. Of untrimmed
  audio how far its sound ends from there (`ends`).

Audio in which the estimator finds no tempo or key counts as wrong where one was asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.adherence import Kind, heard_by_chance, share_heard
from luthier_evaluation.embedders import EMBEDDERS
from luthier_evaluation.statistics import permutation_baseline, permutation_p
from luthier_music import tempo
from luthier_music.key_facts import key_of
from luthier_music.keys import ALL_KEYS, Key, key_score

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
    absent: str = "no row to which it applies"
    """Why it is not computed where no row has it."""


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


def _end_error_s(row: pb.SuiteRow, result: pb.RowResult) -> float | None:
    """Seconds by which the sound of untrimmed audio goes on behind the length asked for; None where that is unknown."""
    return result.sounding_s - row.seconds_total if result.HasField("sounding_s") else None


def _end_distance_s(row: pb.SuiteRow, result: pb.RowResult) -> float | None:
    error_s = _end_error_s(row, result)
    return None if error_s is None else abs(error_s)


def _second_agrees(_: pb.SuiteRow, result: pb.RowResult) -> float | None:
    """Whether tempo by beats is the other estimator's as Accuracy 2 counts; None where one of them is not had."""
    first, second = tempo_of(result), result.beat_tempo.tempo_bpm
    return float(tempo.accuracy_2(first, second)) if first and second else None


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
    _key_metric(
        "key_tonic",
        "Key, tonic only",
        "same tonic as the prompt states, in either mode",
        lambda a, b: a.tonic == b.tonic,
    ),
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
        "distance between the length of the file and the length asked for; 0 by construction where it was trimmed",
        lambda row, result: abs(result.duration_s - row.seconds_total),
    ),
    Metric(
        "length_error_untrimmed_s",
        "Length error, untrimmed",
        "s",
        "distance between the end of the sound and the length asked for; silent rows are left out",
        _end_distance_s,
    ),
    Metric(
        "length_bias_untrimmed_s",
        "Length bias, untrimmed",
        "s",
        "the same with its sign: above 0 the sound goes on for too long",
        _end_error_s,
    ),
    Metric(
        "tempo_second_agrees",
        "Second tempo estimator agrees",
        "share",
        "tempo by beats within 2 % of the tempo measured, or of 2, 1/2, 3 and 1/3 times it: how sure the measure is",
        _second_agrees,
        absent="no row has a second tempo: none was asked for, both are one library's, or analysis lacks the estimator",
    ),
)


def _heard_metric(kind: Kind) -> Metric:
    def chance(pairs: Pairs) -> Chance:
        found = heard_by_chance(kind, [result for _, result in pairs])
        return Chance(found, "" if found is None else f"chance: each {kind} held against the rows that ask for others")

    return Metric(
        f"{kind}s_heard",
        f"{kind.capitalize()}s heard",
        "share",
        f"{kind}s that the prompt states and musicnn hears, of those that it can tell",
        lambda _, result: share_heard(kind, result),
        chance,
    )


def _value(name: str) -> Callable[[pb.SuiteRow, pb.RowResult], float | None]:
    return lambda _, result: result.values.get(name)


COPY: Final = "copy"
"""Value of a row: 1 where a training clip is heard in it, else 0; absent where none was looked for."""
COPIES: Final = Metric(
    "copies",
    "Copies of training clips",
    "share",
    "rows in which a clip that the model was trained on is heard, up to 1.75 semitones off and 4 % faster or slower",
    _value(COPY),
    absent="no data set is recorded with the model or its bases",
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
        "scale-invariant signal to distortion, means removed, at most 100 dB; silent references are left out",
        _value("si_sdr_db"),
    ),
    Metric(
        "visqol",
        "ViSQOL",
        "",
        "quality as ViSQOL predicts that listeners rate it, 1 to 4.73, of the first 10 s",
        _value("visqol"),
        absent="the package visqol-python was not installed: the extra `visqol` of this service brings it",
    ),
)
"""Of audio that reconstructs its reference sample by sample (`aligned.py`)."""


def metrics_of(plan: pb.EvaluationPlan) -> tuple[Metric, ...]:
    """The metrics of the rows of an evaluation: METRICS, those of aligned references, and those of its embedders."""
    found = [*METRICS, COPIES, *(ALIGNED if plan.request.aligned else ())]
    if plan.request.key_by_notes:
        about = "a second opinion: the key that fits the notes which basic-pitch hears"
        found.append(Metric("key_by_notes", "Key by notes, exact", "share", about, _value("key_by_notes")))
    found += [_heard_metric("genre"), _heard_metric("instrument")]
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

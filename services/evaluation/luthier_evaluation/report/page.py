"""The report's page: what was asked, the scores, the plots, audio of some rows, and where all of it comes from.

One HTML file without references to anything outside it. Each subject has a module and a template of its own (`tempo`,
`key`, `length`, `structure`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.adherence import WordHeard, by_word
from luthier_evaluation.audio_values import SONG_FD, absent_embedders, scores_by
from luthier_evaluation.metrics import Metric, SetMetric, metrics_of, set_metrics_of, tempo_of
from luthier_evaluation.plan import baseline, candidate
from luthier_evaluation.report import plots
from luthier_evaluation.report.key import NO_KEY, key_section, relation
from luthier_evaluation.report.length import length_section
from luthier_evaluation.report.listening import Sound, rows_to_play, sound
from luthier_evaluation.report.nearest import duplicates_of, pairs_of
from luthier_evaluation.report.structure import structure
from luthier_evaluation.report.tempo import tempo_section
from luthier_evaluation.report.text import number, with_interval
from luthier_evaluation.scores import caution, difference_name
from luthier_evaluation.tags import NotHeard
from luthier_kit.store import Store
from luthier_music.key_facts import key_of
from luthier_music.keys import Key
from luthier_music.tempo import accuracy_1, accuracy_2

MAX_LISTED: Final = 500  # rows in the table of all rows; the results file has every one
SIGNIFICANT: Final = 0.05


@dataclass(frozen=True)
class ScoreRow:
    """A metric in the table of scores. `scores` are in the order of the plan's models."""

    metric: Metric | SetMetric
    scores: Sequence[pb.Score]
    difference: pb.Score | None
    plot: Markup | None
    notes: Sequence[str]


@dataclass(frozen=True)
class Cell:
    """What one model did with one row.

    `tempo` and `key` are `right`, `octave`, `near` or `wrong`; empty = none was asked for.
    """

    result: pb.RowResult
    tempo: str
    key: str
    sound: Sound | None = None
    wave: Markup | None = None
    structure: Markup | None = None

    @property
    def measured_tempo(self) -> float | None:
        return tempo_of(self.result)

    @property
    def measured_key(self) -> Key | None:
        return key_of(self.result.key)


def render(results: pb.EvaluationResults, store: Store) -> str:
    """The page of an evaluation; `store` has the audio."""
    plan = results.plan
    rows = [(index, row, key_of(row.key)) for index, row in enumerate(plan.suite.rows)]
    by_row = {(result.model, result.row): result for result in results.rows}
    colours = [plots.BASELINE, plots.CANDIDATE][-len(plan.models) :]
    listening = []
    for index in rows_to_play(len(rows)):
        cells = []
        for model, colour in zip(plan.models, colours, strict=True):
            result = by_row[model.model, index]
            audio = sound(store, result.audio) if result.HasField("audio") else None
            wave = plots.waveform(audio.peaks, colour) if audio else None
            matrix = structure(store, rows[index][1], result) if audio else None
            cells.append(_cell(plan, result, audio, wave, matrix))
        listening.append((*rows[index], cells))
    templates = Environment(
        loader=PackageLoader("luthier_evaluation", "report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.globals["number"] = number
    templates.filters["columns"] = lambda rows: zip(*rows, strict=True)
    told = [(m.model, by_word(plan.suite, [r for r in results.rows if r.model == m.model])) for m in plan.models]
    of_candidate = [result for result in results.rows if result.model == candidate(plan).model]
    return templates.get_template("report.html").render(
        results=results,
        plan=plan,
        guidance=_guidance(plan, results.rows),
        steps=_steps(plan, results.rows),
        samplers=sorted({row.sampler for row in results.rows} - {""}),
        candidate=candidate(plan),
        baseline=baseline(plan),
        colours=colours,
        summary=summary(plan, results.scores),
        scores=_score_rows(plan, results.scores, colours),
        absent=[(", ".join(scores_by(name).values()), why) for name, why in absent_embedders(plan)],
        tempi=tempo_section(results, colours),
        keys=key_section(results, colours),
        lengths=length_section(results, colours),
        adherence=_told_of_all(told),
        untold=[word for word in told[-1][1] if isinstance(word, NotHeard)],
        pairs=pairs_of(of_candidate, store),
        duplicates=duplicates_of(results.near_duplicates, store),
        listening=listening,
        structured=any(cell.structure for *_, cells in listening for cell in cells),
        rows=[(*row, [_cell(plan, by_row[m.model, row[0]]) for m in plan.models]) for row in rows[:MAX_LISTED]],
        song_fd=SONG_FD,
        of_songs=sorted({name.removeprefix(SONG_FD) for r in results.rows for name in r.values if SONG_FD in name}),
        failures=[result for result in results.rows if result.HasField("error")],
    )


def _told_of_all(told: Sequence[tuple[str, Sequence[WordHeard | NotHeard]]]) -> list[tuple[str, list[WordHeard]]]:
    """Of each model the words that were computed of all of them, in one order; empty without such words."""
    words = [{(one.kind, one.word): one for one in found if isinstance(one, WordHeard)} for _, found in told]
    of_all = [key for key in words[0] if all(key in each for each in words)]
    return (
        [(model, [each[key] for key in of_all]) for (model, _), each in zip(told, words, strict=True)] if of_all else []
    )


def _guidance(plan: pb.EvaluationPlan, rows: Sequence[pb.RowResult]) -> str:
    """The guidance scale that took effect, of each model where they have their own."""
    if not plan.own_guidance:
        return f"{plan.guidance_scale:g}"
    own = {row.model: row.guidance_scale for row in rows if row.HasField("guidance_scale")}
    return ", ".join(f"{own[model.model]:g} ({model.model}'s own)" for model in plan.models if model.model in own)


def _steps(plan: pb.EvaluationPlan, rows: Sequence[pb.RowResult]) -> str:
    """The denoising steps that took effect, of each model where they have their own."""
    if not plan.own_steps:
        return f"{plan.steps} steps"
    own = {row.model: row.steps for row in rows if row.steps}
    return ", ".join(f"{own[model.model]} steps ({model.model}'s own)" for model in plan.models if model.model in own)


def summary(plan: pb.EvaluationPlan, table: Sequence[pb.Score]) -> list[str]:
    """A sentence for each gate metric that was computed: value, chance, and what the comparison says."""
    scores = {(score.metric, score.model): score for score in table}
    model, other = candidate(plan), baseline(plan)
    sentences = []
    for metric in metrics_of(plan):
        score = scores[metric.name, model.model]
        if not metric.permuted or not score.HasField("value"):
            continue
        text = f"{metric.title}: {model.model} scores {number(score.value, metric.unit)} on {score.n} rows"
        if score.HasField("chance"):
            text += f", chance {number(score.chance, metric.unit)}"
            text += "" if score.low > score.chance else " (within its interval: no more than chance is shown)"
        difference = scores.get((metric.name, difference_name(plan)))
        if difference and difference.HasField("value") and other:
            text += f"; against {other.model} {with_interval(difference, metric.unit, signed=True)}, "
            if difference.p >= SIGNIFICANT:
                text += f"no difference shown by these rows (p = {difference.p:.2g})"
            else:
                text += f"{'better' if difference.value > 0 else 'worse'} beyond chance (p = {difference.p:.2g})"
        sentences.append(text + ".")
    return sentences


def _score_rows(plan: pb.EvaluationPlan, table: Sequence[pb.Score], colours: Sequence[str]) -> list[ScoreRow]:
    by_model = {(score.metric, score.model): score for score in table}
    rows = []
    metrics: list[Metric | SetMetric] = [*metrics_of(plan), *set_metrics_of(plan)]
    for metric in metrics:
        scores = [by_model[metric.name, model.model] for model in plan.models]
        computed = [(score, colour) for score, colour in zip(scores, colours, strict=True) if score.HasField("value")]
        marks = [
            plots.Mark(
                score.value,
                score.low if score.HasField("low") else score.value,
                score.high if score.HasField("high") else score.value,
                score.chance if score.HasField("chance") else None,
                colour,
                f"{score.model}: {with_interval(score, metric.unit)}",
            )
            for score, colour in computed
        ]
        low, high = 0.0, 1.0
        if metric.unit != "share" and marks:
            low, high = min(mark.low for mark in marks), max(mark.high for mark in marks)
            room = 0.1 * (high - low) or 1.0
            low, high = low - room, high + room
        difference = by_model.get((metric.name, difference_name(plan)))
        plot = plots.intervals(marks, low, high) if marks else None
        notes = sorted({caution(score) for score, _ in computed} - {""})
        rows.append(ScoreRow(metric, scores, difference, plot, notes))
    return rows


def _cell(
    plan: pb.EvaluationPlan,
    result: pb.RowResult,
    audio: Sound | None = None,
    wave: Markup | None = None,
    matrix: Markup | None = None,
) -> Cell:
    row = plan.suite.rows[result.row]
    tempo = key = ""
    if not result.HasField("error"):
        if row.HasField("tempo_bpm"):
            measured = tempo_of(result)
            tempo = "wrong"
            if measured and accuracy_2(row.tempo_bpm, measured):
                tempo = "right" if accuracy_1(row.tempo_bpm, measured) else "octave"
        if asked := key_of(row.key):
            outcome = relation(asked, key_of(result.key))
            key = {"exact": "right", "other": "wrong", NO_KEY: "wrong"}.get(outcome, "near")
    return Cell(result, tempo, key, audio, wave, matrix)

"""Puts the report together: what was asked, the scores, the plots, the sounds, and where all of it comes from."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from luthier_evaluation.measurement import Measurement
from luthier_evaluation.metrics import ABSENT, METRICS
from luthier_evaluation.plan import Plan
from luthier_evaluation.report import listening, plots, wording
from luthier_evaluation.scores import Score, caution, difference_name
from luthier_kit.artifacts import Artifacts
from luthier_music.tempo import accuracy_1, accuracy_2

MOST_LISTED = 500  # rows in the table of all rows; the results file has every one
TEMPLATES = Environment(
    loader=PackageLoader("luthier_evaluation", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
TEMPLATES.globals["number"] = wording.number


def render(
    document: Mapping[str, Any],
    plan: Plan,
    measurements: Sequence[Measurement],
    table: Sequence[Score],
    store: Artifacts,
) -> str:
    """The page. `document` is the results document that lies beside it."""
    made = {(m.model, m.row): m for m in measurements}
    return TEMPLATES.get_template("report.html").render(
        document=document,
        plan=plan,
        colours={model.label: colour for model, colour in zip(plan.models, _colours(plan), strict=True)},
        summary=wording.summary(plan, table),
        scores=_score_rows(plan, table),
        absent=ABSENT,
        scatter=_scatter(plan, made),
        asks_tempo=any(row.tempo_bpm for row in plan.suite.rows),
        key_rows=wording.key_outcomes(plan, made),
        listening=_listening(plan, made, store),
        rows=_rows(plan, made)[:MOST_LISTED],
        failures=[m for m in measurements if m.error],
        total=len(measurements),
    )


def _colours(plan: Plan) -> list[str]:
    return [plots.BASELINE, plots.CANDIDATE][-len(plan.models) :]


def _score_rows(plan: Plan, table: Sequence[Score]) -> list[dict[str, Any]]:
    cells = {(score.metric, score.model): score for score in table}
    rows = []
    for metric in METRICS:
        found = [cells[metric.name, model.label] for model in plan.models]
        difference = cells.get((metric.name, difference_name(plan)))
        marks = [
            plots.Mark(s.value, s.low, s.high, s.chance, colour, f"{s.model}: {wording.with_interval(s, metric.unit)}")
            for s, colour in zip(found, _colours(plan), strict=True)
            if s.value is not None and s.low is not None and s.high is not None
        ]
        low, high = (0.0, 1.0) if metric.unit == "share" else _limits(marks)
        rows.append(
            {
                "metric": metric,
                "scores": found,
                "difference": difference,
                "plot": Markup(plots.intervals(marks, low, high)) if marks else "",  # noqa: S704  our own SVG, escaped
                "notes": sorted({caution(s.n, s.low, s.high) for s in found if s.value is not None} - {""}),
            }
        )
    return rows


def _limits(marks: Sequence[plots.Mark]) -> tuple[float, float]:
    low, high = min((m.low for m in marks), default=0.0), max((m.high for m in marks), default=1.0)
    room = 0.1 * (high - low) or 1.0
    return low - room, high + room


def _scatter(plan: Plan, made: Mapping[tuple[str, int], Measurement]) -> Markup | None:
    series = []
    for model, colour in zip(plan.models, _colours(plan), strict=True):
        found = [
            plots.Point(
                row.tempo_bpm, m.tempo_bpm, f"{model.label}, row {index}: {row.tempo_bpm:g} -> {m.tempo_bpm:.1f}"
            )
            for index, row in enumerate(plan.suite.rows)
            if row.tempo_bpm and (m := made.get((model.label, index))) and m.tempo_bpm
        ]
        series.append((model.label, colour, found))
    if not any(found for _, _, found in series):
        return None
    return Markup(plots.scatter(series))  # noqa: S704  our own SVG, escaped


def _listening(
    plan: Plan, made: Mapping[tuple[str, int], Measurement], store: Artifacts
) -> list[tuple[int, Any, list[dict[str, Any]]]]:
    found = []
    for index in listening.rows_to_hear(len(plan.suite.rows)):
        cells = []
        for model, colour in zip(plan.models, _colours(plan), strict=True):
            measurement = made.get((model.label, index))
            sound = listening.sound(store, measurement.audio if measurement else None)
            wave = Markup(plots.waveform(sound.peaks, colour)) if sound else ""  # noqa: S704  our own SVG
            cells.append({"made": measurement, "sound": sound, "wave": wave, **_verdict(plan, index, measurement)})
        found.append((index, plan.suite.rows[index], cells))
    return found


def _rows(plan: Plan, made: Mapping[tuple[str, int], Measurement]) -> list[tuple[int, Any, list[dict[str, Any]]]]:
    return [
        (
            index,
            row,
            [{"made": m, **_verdict(plan, index, m)} for m in (made.get((x.label, index)) for x in plan.models)],
        )
        for index, row in enumerate(plan.suite.rows)
    ]


def _verdict(plan: Plan, index: int, made: Measurement | None) -> dict[str, str]:
    """`right`, `octave`, `near`, `wrong` or empty (nothing was asked) for tempo and key."""
    row, verdict = plan.suite.rows[index], {"tempo": "", "key": ""}
    if made is None or made.error:
        return verdict
    if row.tempo_bpm:
        verdict["tempo"] = "wrong"
        if made.tempo_bpm and accuracy_2(row.tempo_bpm, made.tempo_bpm):
            verdict["tempo"] = "right" if accuracy_1(row.tempo_bpm, made.tempo_bpm) else "octave"
    if row.key:
        relation = wording.relation(row.key, made.key)
        verdict["key"] = {"exact": "right", "other": "wrong", "no key found": "wrong"}.get(relation, "near")
    return verdict

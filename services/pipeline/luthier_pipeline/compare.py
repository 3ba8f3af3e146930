"""compare: the scores of evaluations side by side, so that one system's figures on several suites stand in one table:
prompts of its training and prompts it never saw, the suites of a paper, a model and the audio that it was trained on.

Only figures of the same metric stand in a line. Rows of different suites are not paired, so no difference is tested.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from jinja2 import Environment, PackageLoader, StrictUndefined

from luthier.evaluation.v1.evaluation_pb2 import EVALUATION_STATE_SUCCEEDED, Evaluation, GetEvaluationRequest, Score
from luthier_pipeline.console import UsageError, plain, table
from luthier_pipeline.ingest import write_report
from luthier_pipeline.options import Json, begin
from luthier_pipeline.run_ids import identity_of


@dataclass(frozen=True)
class System:
    """A column: a model or a set of audio on the suite of an evaluation, with its scores by metric."""

    model: str
    suite: str
    evaluation_id: str
    scores: dict[str, Score]

    @property
    def title(self) -> str:
        return f"{self.model} on {self.suite}"


def compare(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID ID...", help="Evaluations, or how their ids begin.")],
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write the table as a page.")] = None,
    json: Json = False,
) -> None:
    """Show the scores of several evaluations side by side, each system of each with its suite."""
    context = begin(ctx, json)
    if len(set(ids)) < 2:
        raise UsageError("compare takes two evaluations or more")
    clients = context.clients
    found = []
    for name in ids:
        identity = identity_of(clients.store, name)
        evaluation = clients.evaluation.GetEvaluation(GetEvaluationRequest(evaluation_id=identity)).evaluation
        if evaluation.state != EVALUATION_STATE_SUCCEEDED:
            raise UsageError(f"{identity} has no scores: it did not succeed, or not yet (luthier status)")
        found += systems_of(evaluation)
    metrics = list(dict.fromkeys(metric for system in found for metric in system.scores))
    lines = [[metric, *(figure(system.scores.get(metric)) for system in found)] for metric in metrics]
    text = table(lines, ["metric", *(system.title for system in found)])
    if report:
        write_report(report, page(found, lines))
        text += f"\nreport {report}"
    document = {
        "systems": [
            {
                "model": system.model,
                "suite": system.suite,
                "evaluation": system.evaluation_id,
                "scores": [plain(score) for score in system.scores.values()],
            }
            for system in found
        ]
    }
    context.answer(document, text)


def systems_of(evaluation: Evaluation) -> list[System]:
    """The baseline, where there is one, and the candidate, with what was computed of each."""
    suite = evaluation.request.suite_name or evaluation.request.suite.name
    return [
        System(
            model,
            suite,
            evaluation.evaluation_id,
            {score.metric: score for score in evaluation.scores if score.model == model and score.HasField("value")},
        )
        for model in filter(None, (evaluation.baseline, evaluation.candidate))
    ]


def figure(score: Score | None) -> str:
    """`0.625 [0.300, 0.900], n 8`; a dash where it was not computed."""
    if score is None:
        return "–"
    interval = f" [{score.low:.3f}, {score.high:.3f}]" if score.HasField("low") else ""
    return f"{score.value:.3f}{interval}, n {score.n}"


def page(systems: Sequence[System], lines: Sequence[Sequence[str]]) -> str:
    """The table as one HTML file that stands alone."""
    templates = Environment(
        loader=PackageLoader("luthier_pipeline", "report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return templates.get_template("compare.html").render(systems=systems, lines=lines)

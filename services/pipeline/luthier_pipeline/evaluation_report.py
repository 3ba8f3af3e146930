"""report: the report of an evaluation as a file, with what listeners said of its audio.

The stored report is made when the evaluation ends and never changes; listening tests are made of its audio later, and
their results grow. So this command puts them in as they are now. It asks curation and evaluation itself: neither
knows the other.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from jinja2 import Environment, PackageLoader, StrictUndefined

from luthier.curation.v1.listening_pb2 import (
    LISTENING_KIND_MUSHRA,
    LISTENING_ROLE_REFERENCE,
    LISTENING_ROLE_SYSTEM,
    GetListeningResultsRequest,
    GetListeningResultsResponse,
    GetListeningTestRequest,
    ListeningDifference,
    ListeningScore,
    ListeningTest,
)
from luthier.evaluation.v1.evaluation_pb2 import Evaluation, EvaluationResults
from luthier_kit.store import Store
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import UsageError
from luthier_pipeline.ingest import write_report
from luthier_pipeline.listening import kind_name, listed, question_name, succeeded
from luthier_pipeline.options import Json, begin

PLACES: Final = ("<section>\n<h2>Listen</h2>", "</main>")
"""Before the first of these that the report has. Text of others is escaped there, so no prompt can hold one."""
BASELINE, CANDIDATE, OTHER = "#8a94a6", "#0b7a75", "#1d2433"
"""Colours of an interval; the first two are those that the report gives its models."""
PLOT_WIDTH, MARGIN = 180, 6  # of an interval's picture, pixels


@dataclass(frozen=True)
class Mark:
    """A mean and the ends of its interval (None with one listener), in pixels from the left of its picture."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Line:
    """What listeners said of a condition.

    `difference`: how much higher it was rated than what the others are compared with, None where there is none. `note`:
    what else a reader must know of its audio.
    """

    score: ListeningScore
    difference: ListeningDifference | None
    mark: Mark
    colour: str
    note: str


@dataclass(frozen=True)
class ShownTest:
    """A listening test in the report. `against` is the condition that the others are compared with, empty = none.

    `csv` is a data URI of scores and differences; `excluded` counts listeners, whose names stay out of the report.
    """

    test: ListeningTest
    kind: str
    scale: tuple[int, int]
    against: str
    questions: Sequence[tuple[str, Sequence[Line]]]
    excluded: int
    csv: str


def report(
    ctx: typer.Context,
    evaluation: Annotated[str, typer.Argument(metavar="ID", help="The evaluation, or how its id begins.")],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Where the report goes.")],
    listening: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Listening test to show; default: all that were made of its audio."),
    ] = None,
    json: Json = False,
) -> list[GetListeningResultsResponse]:
    """Write the report of an evaluation, with the results so far of the listening tests that were made of its audio."""
    context = begin(ctx, json)
    clients = context.clients
    found = succeeded(clients, evaluation)
    store: Store = clients.store
    own = {row.audio.sha256 for row in store.get(EvaluationResults, found.results).rows if row.audio.key}
    heard = _heard(clients, own, list(dict.fromkeys(listening or ())))
    if refused := [name for name, conditions in heard.items() if not conditions]:
        raise UsageError(f"--listening {refused[0]} has no audio of {found.evaluation_id}")
    answers = [clients.curation.GetListeningResults(GetListeningResultsRequest(test=name)) for name in heard]
    shown = [results_of(answer, found, conditions) for answer, conditions in zip(answers, heard.values(), strict=True)]
    write_report(out, with_listening(store.blobs.read(found.report).decode(), shown, datetime.now(UTC)), "--out")
    told = [f"report {out}"]
    told += [
        f"listening test {one.test.name}: {one.test.finished} of {one.test.listeners} listeners finished"
        for one in shown
    ]
    if not shown:
        told += [
            f"no listening test was made of its audio; luthier listening create --evaluation {found.evaluation_id}"
        ]
    document = {"evaluation": found.evaluation_id, "report": str(out), "listening": [one.test.name for one in shown]}
    context.answer(document, "\n".join(told))
    return answers


def _heard(clients: Clients, own: set[str], asked: Sequence[str]) -> dict[str, frozenset[str]]:
    """By test the conditions whose audio is among these digests: of the tests asked for, else of all that have some."""
    found = {}
    for name in asked or [test.name for test in listed(clients)]:
        trials = clients.curation.GetListeningTest(GetListeningTestRequest(test=name)).trials
        heard = frozenset(one.system for trial in trials for one in trial.stimuli if one.audio.sha256 in own)
        if heard or asked:
            found[name] = heard
    return found


def results_of(answer: GetListeningResultsResponse, evaluation: Evaluation, own: frozenset[str]) -> ShownTest:
    """What the report shows of a test. `own` are the conditions whose audio is the evaluation's.

    The others are compared with the evaluation's baseline, with its candidate where the baseline was not heard.
    """
    against = next((name for name in (evaluation.baseline, evaluation.candidate) if name in own), "")
    scale = (0, 100) if answer.test.kind == LISTENING_KIND_MUSHRA else (1, 5)
    colours = {evaluation.candidate: CANDIDATE, evaluation.baseline: BASELINE}
    lines: dict[str, list[Line]] = {}
    for score in answer.scores:
        lines.setdefault(question_name(score.question).replace("-", " ").capitalize(), []).append(
            Line(
                score=score,
                difference=_difference(answer.differences, score, against),
                mark=_mark(score, scale),
                colour=colours.get(score.condition, OTHER) if score.condition in own else OTHER,
                note=_note(score, own),
            )
        )
    return ShownTest(
        test=answer.test,
        kind=kind_name(answer.test.kind),
        scale=scale,
        against=against,
        questions=list(lines.items()),
        excluded=sum(listener.excluded for listener in answer.listeners),
        csv=f"data:text/csv;charset=utf-8;base64,{base64.b64encode(answer.csv.encode()).decode()}",
    )


def _note(score: ListeningScore, own: frozenset[str]) -> str:
    if score.role == LISTENING_ROLE_REFERENCE:
        return "hidden among the others"
    return "of another evaluation" if score.role == LISTENING_ROLE_SYSTEM and score.condition not in own else ""


def _difference(
    differences: Sequence[ListeningDifference], score: ListeningScore, against: str
) -> ListeningDifference | None:
    """Condition minus `against`: results have every two conditions once, in one of both directions."""
    for one in differences:
        if one.question != score.question or {one.condition, one.compared_with} != {score.condition, against}:
            continue
        turned = ListeningDifference()
        turned.CopyFrom(one)
        if one.compared_with != against:
            turned.condition, turned.compared_with, turned.mean = one.compared_with, one.condition, -one.mean
            if one.HasField("low"):
                turned.low, turned.high = -one.high, -one.low
        return turned
    return None


def _mark(score: ListeningScore, scale: tuple[int, int]) -> Mark:
    low, high = scale

    def place(value: float) -> float:
        return round(MARGIN + (value - low) / (high - low) * (PLOT_WIDTH - 2 * MARGIN), 1)

    if not score.HasField("low"):
        return Mark(place(score.mean), None, None)
    return Mark(place(score.mean), place(score.low), place(score.high))


def with_listening(page: str, tests: Sequence[ShownTest], now: datetime) -> str:
    """The report with the results of these tests before its audio; as it is without any."""
    if not tests:
        return page
    templates = Environment(
        loader=PackageLoader("luthier_pipeline", "report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    section = templates.get_template("listening.html").render(tests=tests, now=now, width=PLOT_WIDTH, margin=MARGIN)
    at = next(page.index(place) for place in PLACES if place in page)
    return f"{page[:at]}{section}\n{page[at:]}"

"""sweep: one evaluation for each setting of steps, sampler and guidance, then one page that compares them.

As the papers show quality against steps, and samplers beside each other.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from luthier.evaluation.v1.evaluation_pb2 import CreateEvaluationRequest, EvaluationResults
from luthier_kit.registry import resolve
from luthier_kit.rpc import Cancelled, FailedPrecondition, InvalidRequest, LuthierError
from luthier_pipeline.console import Context, UsageError, table
from luthier_pipeline.long_runs import begin_evaluation, follow_evaluation
from luthier_pipeline.options import USER, Json, Reviewer, begin
from luthier_pipeline.suites import is_file, read_suite
from luthier_pipeline.sweep.report import Setting, document, told, write_page

MAX_SETTINGS: Final = 64
V = TypeVar("V", int, float, str)


def sweep(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(metavar="MODEL", help="name, name@n or sha256:…")],
    suite: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="A suite that ships, or one of your own: FILE.json, FILE.yaml.")
    ] = "quick",
    steps: Annotated[str, typer.Option(metavar="N,...", help="Denoising steps; default: the model's own.")] = "",
    samplers: Annotated[str, typer.Option(metavar="NAME,...", help="Default: the model's own.")] = "",
    guidance: Annotated[
        str, typer.Option(metavar="SCALE,...", help="Guidance scales, 0 to 50, 1 = off; default: the model's own.")
    ] = "",
    seconds: Annotated[float | None, typer.Option(help="Length of each row; default: the suite's.")] = None,
    max_rows: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first rows.")] = None,
    report: Annotated[Path, typer.Option(metavar="FILE.html", help="Where the page goes.")] = Path("sweep.html"),
    reviewer: Reviewer = USER,
    json: Json = False,
) -> list[Setting]:
    """Measure a model at every combination of steps, samplers and guidance scales, and compare them on one page.

    Each setting is an evaluation: the command called again begins none anew, and goes on where it was.
    """
    context = begin(ctx, json)
    asked_steps = _listed("--steps", steps, int, "a whole number from 1 to 1000", lambda n: 1 <= n <= 1000)
    asked_samplers = _listed("--samplers", samplers, str, "a name of at most 64 characters", lambda s: 0 < len(s) <= 64)
    asked_guidance = _listed("--guidance", guidance, float, "a number from 0 to 50", lambda g: 0 <= g <= 50)
    each_steps: list[int | None] = [*asked_steps] if asked_steps else [None]
    each_guidance: list[float | None] = [*asked_guidance] if asked_guidance else [None]
    settings = list(product(each_steps, asked_samplers or [""], each_guidance))
    if len(settings) == 1:
        raise UsageError("name at least two settings: --steps, --samplers or --guidance, each N,M,...")
    if len(settings) > MAX_SETTINGS:
        raise UsageError(f"at most {MAX_SETTINGS} settings, {len(settings)} are named: take fewer of each")
    pinned = resolve(context.clients.store, model).label  # all settings are of one version
    own_suite = read_suite(Path(suite)) if is_file(suite) else None
    requests = [
        CreateEvaluationRequest(
            candidate_model=pinned,
            suite_name="" if own_suite else suite,
            suite=own_suite,
            steps=of_steps,
            sampler=sampler,
            guidance_scale=scale,
            seconds_total=seconds,
            max_rows=max_rows,
            created_by=reviewer,
        )
        for of_steps, sampler, scale in settings
    ]
    begun = [begin_evaluation(context, request) for request in requests]  # the service goes on meanwhile
    measured, failures = [], list[LuthierError]()
    for number, (request, evaluation) in enumerate(zip(requests, begun, strict=True), 1):
        context.say(f"setting {number} of {len(begun)}: {told(request)}")
        try:
            ended = follow_evaluation(context, evaluation)
        except (FailedPrecondition, InvalidRequest, Cancelled) as error:  # of this setting alone
            context.say(f"{told(request)} has no scores: {error}")
            measured.append(Setting(request, evaluation.evaluation_id, error=str(error)))
            failures.append(error)
        else:
            results = context.clients.store.get(EvaluationResults, ended.results)
            measured.append(Setting(request, ended.evaluation_id, results))
    if not any(setting.results for setting in measured):
        raise failures[-1]
    write_page(report, pinned, measured)
    _answer(context, pinned, measured, report)
    return measured


def _listed(
    option: str, text: str, kind: Callable[[str], V], bound: str, within: Callable[[V], bool]
) -> list[V] | None:
    """What stands between commas, each once. None for an empty text. Raises UsageError naming the option and bound."""
    found: list[V] = []
    for part in text.split(",") if text else ():
        try:
            value = kind(part.strip())
        except ValueError:
            raise UsageError(f"{option} must be {bound}, several between commas, got {part[:80]!r}") from None
        if not within(value):
            raise UsageError(f"{option} must be {bound}, several between commas, got {part[:80]!r}")
        if value not in found:
            found.append(value)
    return found or None


def _answer(context: Context, model: str, measured: list[Setting], report: Path) -> None:
    names = list(dict.fromkeys(name for setting in measured for name in setting.scores))
    rows = [
        [
            *setting.labels,
            *(f"{setting.scores[name].value:.3f}" if name in setting.scores else "" for name in names),
            f"{setting.compute_s.mean:.2f}" if setting.compute_s else "",
            setting.error,
        ]
        for setting in measured
    ]
    header = ["steps", "sampler", "guidance", *names, "s per row", ""]
    context.answer(document(model, measured, report), f"{table(rows, header)}\nreport {report}")

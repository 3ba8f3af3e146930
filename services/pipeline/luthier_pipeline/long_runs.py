"""train and evaluate: runs of minutes to days in their services, begun once and followed to their end."""

import hashlib
import json as json_text
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from luthier.evaluation.v1.evaluation_pb2 import (
    EVALUATION_STATE_CANCELLED,
    EVALUATION_STATE_FAILED,
    EVALUATION_STATE_SUCCEEDED,
    CancelEvaluationRequest,
    CreateEvaluationRequest,
    Evaluation,
    EvaluationState,
    Score,
    Suite,
    WatchEvaluationRequest,
)
from luthier.inference.v1.inference_pb2 import ListModelsRequest
from luthier.training.v1.training_pb2 import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    CancelTrainingRunRequest,
    CreateTrainingRunRequest,
    FineTune,
    RunState,
    TinyBase,
    TrainingRun,
    WatchTrainingRunRequest,
)
from luthier_kit.licences import USES
from luthier_kit.registry import current_version, resolve
from luthier_kit.rpc import (
    TEST,
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    LuthierError,
    NotFound,
    Unavailable,
    error_of,
    retry_policy,
)
from luthier_kit.store import Store
from luthier_pipeline.adapters import adapter_of
from luthier_pipeline.clients import IdleBudget
from luthier_pipeline.console import Context, Progress, UsageError, plain, table
from luthier_pipeline.files import save
from luthier_pipeline.options import USER, Json, RequestId, Reviewer, TempoEstimator, Use, begin
from luthier_pipeline.run_ids import identity_of
from luthier_pipeline.suites import DATASET, MAX_SECONDS, dataset_suite, is_file, read_suite
from luthier_pipeline.training_plan import EXPORTS
from luthier_pipeline.training_request import complete, kept_text
from luthier_pipeline.training_status import in_short

Req = TypeVar("Req", CreateTrainingRunRequest, CreateEvaluationRequest)
R = TypeVar("R", TrainingRun, Evaluation)

MAX_REQUEST_BYTES: Final = 4_100_000  # gRPC's bound of a request is 4 MiB
WATCH_TIMEOUT_S: Final = 86400.0
FIRST_PAUSE_S: Final = 0.5  # before a stream that broke is opened again
UNSUCCESSFUL: Final = (RUN_STATE_FAILED, RUN_STATE_CANCELLED)
CONTINUING: Final = {"fine_tune": "luthier train", "autoencoder": "luthier train-autoencoder"}
"""The command that goes on with a run that has checkpoints, by its recipe."""
UNSUCCESSFUL_EVALUATION: Final = (EVALUATION_STATE_FAILED, EVALUATION_STATE_CANCELLED)


def train(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Option(metavar="NAME[@N]", help="Data set; default version: the newest.")] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="Name under which the result is registered.")] = "",
    base: Annotated[str, typer.Option(metavar="MODEL", help="Model to fine-tune: name, name@n or sha256:…")] = "",
    tiny_base: Annotated[bool, typer.Option("--tiny-base", help="Make a base model that any CPU can train.")] = False,
    size: Annotated[
        str, typer.Option(metavar="tiny|small", help="Of --tiny-base; default: tiny, which makes no music.")
    ] = "",
    reading_steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Of --tiny-base: steps in which its text encoder learns to read."),
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", min=1, help="Optimiser steps; default: 4000.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="CLIPS", min=1, help="Default: 16.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak, 1e-8 to 0.1; default: 5e-5, of an adapter 5e-4.")
    ] = None,
    adapter: Annotated[
        str,
        typer.Option(
            metavar="lora|dora", help="Train a low-rank adapter over the base, a small file, not all weights."
        ),
    ] = "",
    adapter_rank: Annotated[int | None, typer.Option(metavar="N", help="1 to 256; default: 16.")] = None,
    adapter_alpha: Annotated[
        float | None, typer.Option(help="It is scaled by alpha / rank; default: the rank.")
    ] = None,
    adapter_dropout: Annotated[float | None, typer.Option(help="0 to 0.9; default: 0.")] = None,
    adapter_targets: Annotated[
        str, typer.Option(metavar="GROUPS", help="attention, feed_forward, all; default: attention,feed_forward.")
    ] = "",
    min_excerpt: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Offer random excerpts this long or longer.")
    ] = None,
    window_seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0, help="Train at another window than the base's, and export with it."),
    ] = None,
    windows_per_clip: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Offer N windows of each longer clip, told their place and its length."),
    ] = None,
    metadata_share: Annotated[
        float | None,
        typer.Option(help="Probability that a drawn clip comes with a fresh draw of its metadata, not with a prompt."),
    ] = None,
    cut_to_window: Annotated[
        bool, typer.Option("--cut-to-window", help="Train clips longer than the window as clips of just the window.")
    ] = False,
    timestep_mean: Annotated[
        float | None,
        typer.Option(help="Draw timesteps logit-normally with this mean: larger = more noise. Default: uniformly."),
    ] = None,
    timestep_deviation: Annotated[float | None, typer.Option(help="Its deviation, 0.1 to 10; default: 1.")] = None,
    warmup: Annotated[
        int | None, typer.Option(metavar="STEPS", help="Linear warm-up of the learning rate; default: 0.")
    ] = None,
    ema_decay: Annotated[
        float | None, typer.Option(help="Decay of the moving average of the weights, 0 = off; default: 0.")
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option(metavar="STEPS", min=1, help="Default: a tenth of the steps.")
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(metavar="STEPS", min=1, help="Default: a tenth of the steps.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="Stages with their data sets, and all else; beside it only --name."),
    ] = None,
    continued: Annotated[
        str,
        typer.Option(
            "--continue",
            metavar="RUN[@STEP]",
            help="Go on with a training that was cancelled or failed; with --steps or --plan, train on from it.",
        ),
    ] = "",
    keep_every: Annotated[
        int | None, typer.Option(metavar="STEPS", min=0, help="Keep the checkpoint of each of so many steps for good.")
    ] = None,
    export: Annotated[
        str, typer.Option(metavar="last|best", help="Weights to export: best = lowest validation loss. Default: last.")
    ] = "",
    sample_prompt: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Generate audio of this prompt at each validation; up to 8, one each time."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Else of so many validation clips' prompts, 0 = off; default: 2, fewer in short runs.",
        ),
    ] = None,
    sample_steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Denoising steps of a sample; default: 50.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Default: drawn from the request id.")] = None,
    use: Use = None,
    detach: Annotated[bool, typer.Option("--detach", help="Begin it, and do not wait for its end.")] = False,
    request_id: RequestId = "",
    reviewer: Reviewer = USER,
    json: Json = False,
) -> TrainingRun:
    """Fine-tune a base model on a data set, or make a base that any CPU trains.

    The same arguments are the same run: the command called again follows it.
    """
    context = begin(ctx, json)
    _check_train(
        base=base, dataset=dataset, name=name, tiny=tiny_base, other=bool(plan or continued),
        made=bool(size) or reading_steps is not None, tuning=keep_every is not None or bool(export),
    )  # fmt: skip
    if export and export not in EXPORTS:
        raise UsageError(f"--export must be {' or '.join(EXPORTS)}, got {export[:80]!r}")
    low_rank = adapter_of(adapter, adapter_rank, adapter_alpha, adapter_dropout, adapter_targets)
    if low_rank and tiny_base:
        raise UsageError("--adapter is of --base: a model that is made has no weights to adapt yet")
    clients = context.clients
    fine_tune = FineTune(
        base_model=base,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        min_excerpt_s=min_excerpt,
        metadata_share=metadata_share,
        window_seconds=window_seconds,
        windows_per_clip=windows_per_clip,
        cut_to_window=cut_to_window or None,
        timestep_logit_mean=timestep_mean,
        timestep_logit_deviation=timestep_deviation,
        warmup_steps=warmup,
        ema_decay=ema_decay,
        validate_every=validate_every,
        checkpoint_every=checkpoint_every,
        keep_every=keep_every,
        export=EXPORTS.get(export),
        sample_prompts=sample_prompt or (),
        samples=samples,
        sample_steps=sample_steps,
        adapter=low_rank,
    )
    made = TinyBase(autoencoder_steps=steps, batch_size=batch_size, size=size or None, reading_steps=reading_steps)
    request = CreateTrainingRunRequest(
        request_id=request_id,
        model_name=name,
        seed=seed,
        created_by=reviewer,
        fine_tune=fine_tune if not tiny_base else None,
        tiny_base=made if tiny_base else None,
        use=USES[use] if use else None,
    )

    versions, read = complete(request, clients, dataset, plan, continued)
    base = request.fine_tune.base_model

    def create(asked: CreateTrainingRunRequest) -> TrainingRun:
        try:
            return clients.training.CreateTrainingRun(asked).run
        except InvalidRequest as error:
            raise (read.explained(error) if read else error) from None
        except NotFound as error:
            if error.reason != "MODEL_NOT_FOUND":
                raise
            bring = f"luthier register {base.partition('@')[0]} --weights FILE.safetensors --config FILE.json"
            text = f"{error}. Bring the base: {bring}; or make one that any CPU trains: luthier train --tiny-base"
            raise NotFound(text, reason=error.reason) from None

    run = begin_run(
        request,
        create,
        lambda run: run.state in UNSUCCESSFUL,
        clients.store,
        [base],
    )
    name = request.model_name
    on = f" on {', '.join(versions)}" if versions else ""
    context.say(f"training run {run.run_id}: {name}{on}{f', from {continued}' if continued else ''}")
    if detach:
        following = "" if context.nested else "; the same command without --detach follows it, luthier status lists all"
        context.answer({"run": run.run_id, **plain(run)}, f"{run.run_id} goes on in the service{following}")
        return run

    run = follow_training(context, run)
    losses = [point.loss for point in run.validation]
    change = f"  validation loss {losses[0]:.4f} -> {losses[-1]:.4f}" if losses else ""
    following = "" if context.nested else f"\nnext: luthier evaluate --model {run.model} --report report.html"
    document = {"run": run.run_id, "model": run.model, **plain(run)}
    moved = "" if run.model.partition("@")[0] == name else f"  ({name} was promoted meanwhile)"
    context.answer(document, f"model {run.model}{moved}{change}{following}")
    return run


def follow_training(context: Context, run: TrainingRun) -> TrainingRun:
    """Follows a training to its end. Raises its error where it has no model."""
    clients = context.clients

    def events(known: TrainingRun) -> Iterator[TrainingRun]:
        request = WatchTrainingRunRequest(run_id=known.run_id)
        return (event.run for event in clients.training.WatchTrainingRun(request, timeout=WATCH_TIMEOUT_S))

    def stage(run: TrainingRun) -> Stage:
        eta_s = run.eta_s if run.HasField("eta_s") else None
        return Stage(run.stage or "waiting", run.done, run.total, in_short(run), eta_s)

    ended = (*UNSUCCESSFUL, RUN_STATE_SUCCEEDED)
    with _left_running(context, run.run_id):
        run = follow(run, events, stage, lambda run: run.state in ended, clients.retry_budget_s)
    if run.state != RUN_STATE_SUCCEEDED:
        raise _unsuccessful(context, run)
    return run


def evaluate(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(metavar="MODEL", help="The candidate: name, name@n or sha256:…")],
    baseline: Annotated[str, typer.Option(metavar="MODEL", help="Model to compare with.")] = "",
    suite: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE|dataset:NAME[@N]",
            help="A suite that ships, one of your own (FILE.json, FILE.yaml), or the clips of a data set.",
        ),
    ] = "quick",
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Of dataset:NAME: train, validation or test; default: test.")
    ] = "",
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Denoising steps; default: each model's own.")
    ] = None,
    sampler: Annotated[str, typer.Option(help="Default: each model's own.")] = "",
    guidance_scale: Annotated[float | None, typer.Option(help="0 to 50, 1 = off; default: each model's own.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of each row; default: the suite's.")] = None,
    max_rows: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the first rows; of dataset:NAME so many, drawn.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Audio that Fréchet distances compare with.")
    ] = None,
    tempo_estimator: TempoEstimator = "",
    key_by_notes: Annotated[
        bool, typer.Option("--key-by-notes", help="A second opinion on keys, by the notes that basic-pitch hears.")
    ] = False,
    beat_estimator: Annotated[
        str, typer.Option(metavar="NAME", help="Take a second tempo from beats: beatnet or essentia.")
    ] = "",
    measure_end: Annotated[
        bool, typer.Option("--measure-end", help="Generate whole windows, and measure where their sound ends.")
    ] = False,
    near_duplicates: Annotated[
        bool,
        typer.Option("--near-duplicates", help="List training clips of different songs that hold the same passage."),
    ] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Where the report goes.")] = None,
    request_id: RequestId = "",
    reviewer: Reviewer = USER,
    json: Json = False,
) -> Evaluation:
    """Measure a model, beside a baseline when one is named.

    The same arguments are the same evaluation: the command called again follows it.
    """
    context = begin(ctx, json)
    own = is_file(suite) or suite.startswith(DATASET)
    if split and not suite.startswith(DATASET):
        raise UsageError("--split is of --suite dataset:NAME")
    reference_audio = None
    if reference:
        from luthier_pipeline.score_audio import reference_set  # slow to import

        reference_audio = reference_set(context.clients, reference)
    request = CreateEvaluationRequest(
        request_id=request_id,
        candidate_model=model,
        baseline_model=baseline,
        suite_name="" if own else suite,
        suite=_own_suite(context, suite, split or TEST, max_rows, [model, baseline]) if own else None,
        steps=steps,
        sampler=sampler,
        guidance_scale=guidance_scale,
        seconds_total=seconds,
        beat_estimator=beat_estimator,
        key_by_notes=key_by_notes,
        measure_end=measure_end,
        near_duplicates=near_duplicates,
        max_rows=max_rows if not suite.startswith(DATASET) else None,
        created_by=reviewer,
        reference_audio=reference_audio,
        tempo_estimator=tempo_estimator,
    )
    return run_evaluation(context, request, report)


def _own_suite(context: Context, suite: str, split: str, max_rows: int | None, models: Iterable[str]) -> Suite:
    """The suite in a file, or of a data set's split, bounded by the shortest window of the models."""
    if not suite.startswith(DATASET):
        return read_suite(Path(suite))
    windows = []
    for name in filter(None, models):
        digest = f"sha256:{resolve(context.clients.store, name).digest}"
        known = context.clients.inference.ListModels(ListModelsRequest()).models
        windows += [model.window_s for model in known if model.digest == digest and model.window_s]
    longest_s = min((MAX_SECONDS, *windows))
    return dataset_suite(context.clients.store, suite.removeprefix(DATASET), split, max_rows, longest_s=longest_s)


def run_evaluation(context: Context, request: CreateEvaluationRequest, report: Path | None) -> Evaluation:
    """Begins an evaluation, or finds it, follows it to its end, and tells its scores."""
    evaluation = follow_evaluation(context, begin_evaluation(context, request))
    return _tell_scores(context, request, evaluation, report)


def begin_evaluation(context: Context, request: CreateEvaluationRequest) -> Evaluation:
    """Begins an evaluation, or finds it."""
    clients = context.clients
    if (size_bytes := request.ByteSize()) > MAX_REQUEST_BYTES:
        text = f"the suite has {size_bytes} bytes with its references, a request at most {MAX_REQUEST_BYTES}"
        raise UsageError(f"{text}: take fewer rows (--max-rows)")
    evaluation: Evaluation = begin_run(
        request,
        lambda asked: clients.evaluation.CreateEvaluation(asked).evaluation,
        lambda known: known.state in UNSUCCESSFUL_EVALUATION,
        clients.store,
        [request.candidate_model, request.baseline_model],
    )
    model, baseline = request.candidate_model or evaluation.candidate, request.baseline_model or evaluation.baseline
    context.say(f"evaluation {evaluation.evaluation_id}: {model}{f' beside {baseline}' if baseline else ''}")
    return evaluation


def follow_evaluation(context: Context, evaluation: Evaluation) -> Evaluation:
    """Follows an evaluation to its end. Raises its error where it has no scores."""
    clients = context.clients

    def events(known: Evaluation) -> Iterator[Evaluation]:
        request = WatchEvaluationRequest(evaluation_id=known.evaluation_id)
        stream = clients.evaluation.WatchEvaluation(request, timeout=WATCH_TIMEOUT_S)
        return (event.evaluation for event in stream)

    def stage(known: Evaluation) -> Stage:
        if not known.done and known.beside_total:
            return Stage("listened to reference and training audio", known.beside_done, known.beside_total, "", None)
        eta_s = known.eta_s if known.HasField("eta_s") else None
        return Stage("evaluated rows", known.done, known.total, "", eta_s)

    ended = (*UNSUCCESSFUL_EVALUATION, EVALUATION_STATE_SUCCEEDED)
    with _left_running(context, evaluation.evaluation_id):
        evaluation = follow(evaluation, events, stage, lambda known: known.state in ended, clients.retry_budget_s)
    if evaluation.state != EVALUATION_STATE_SUCCEEDED:
        failed = evaluation.HasField("error")
        raise error_of(evaluation.error) if failed else Cancelled("the evaluation was cancelled")
    return evaluation


def _tell_scores(
    context: Context, request: CreateEvaluationRequest, evaluation: Evaluation, report: Path | None
) -> Evaluation:
    """What was computed as a table, and in a line each why other scores were not."""
    if report:
        save(context.clients.store, evaluation.report, report)
    text = told_scores(evaluation)
    text += [f"report {report}"] if report else []
    text += [f"evaluation {evaluation.evaluation_id}"]
    if not context.nested:
        judged = f"--model {evaluation.candidate or request.candidate_model} --evaluation {evaluation.evaluation_id}"
        text += [f"next: luthier promote NAME {judged} --reason TEXT"] if request.candidate_model else []
    context.answer({"evaluation": evaluation.evaluation_id, **plain(evaluation)}, "\n".join(text))
    return evaluation


def told_scores(evaluation: Evaluation, beginnings: tuple[str, ...] = ("",)) -> list[str]:
    """What was computed as a table, and in a line each why other scores were not; of scores that begin so alone."""
    scores = [score for score in evaluation.scores if score.metric.startswith(beginnings)]
    computed = [score for score in scores if score.HasField("value")]
    rows = [
        [
            score.metric,
            score.model,
            f"{score.value:.3f}",
            f"[{score.low:.3f}, {score.high:.3f}]" if score.HasField("low") else "",
            str(score.n),
            f"{score.chance:.3f}" if score.HasField("chance") else "",
        ]
        for score in computed
    ]
    text = [table(rows, ["metric", "model", "value", "95 %", "n", "chance"])] if rows else []
    text += list(dict.fromkeys(f"{score.metric}: {score.note}" for score in computed if score.note))
    text += _not_computed(scores)
    return text


def _not_computed(scores: Iterable[Score]) -> list[str]:
    """A line for each reason why scores were not computed, with the metrics of which no system has one."""
    known = {score.metric for score in scores if score.HasField("value")}
    reasons: dict[str, dict[str, None]] = {}
    for score in scores:
        if score.metric not in known:
            reasons.setdefault(score.note.removeprefix("not computed: "), {})[score.metric] = None
    told: set[str] = set()
    lines = []
    for reason, metrics in reasons.items():
        fresh = [metric for metric in metrics if metric not in told]
        told.update(fresh)
        lines += [f"not computed: {', '.join(fresh)}: {reason}"] if fresh else []
    return lines


def cancel(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="ID", help="Training or evaluation, or how its id begins.")],
    json: Json = False,
) -> None:
    """Cancel a training or an evaluation. One that has ended stays as it is."""
    context = begin(ctx, json)
    clients = context.clients
    identity = identity_of(clients.store, run_id)
    if identity.startswith("training-"):
        run = clients.training.CancelTrainingRun(CancelTrainingRunRequest(run_id=identity)).run
        state, document = RunState.Name(run.state).removeprefix("RUN_STATE_"), plain(run)
    else:
        evaluation = clients.evaluation.CancelEvaluation(CancelEvaluationRequest(evaluation_id=identity)).evaluation
        state = EvaluationState.Name(evaluation.state).removeprefix("EVALUATION_STATE_")
        document = plain(evaluation)
    asked = "asked to stop, now" if state in ("RUNNING", "QUEUED") else "is"
    command = CONTINUING.get(str(run.request.WhichOneof("recipe"))) if identity.startswith("training-") else None
    following = f"\nlater: {command} --continue {identity}" if command and (run.kept or state == "RUNNING") else ""
    context.answer({"run": identity, **document}, f"{identity} {asked} {state}{following}")


def _check_train(*, base: str, dataset: str, name: str, made: bool, tiny: bool, other: bool, tuning: bool) -> None:
    """UsageError for options of `train` that do not go together. `other`: a plan or a run says what is trained;
    `made`, `tuning`: options of a base that is made, or of fine-tuning alone, are there.
    """
    if not other and bool(base) == tiny:
        raise UsageError("train takes --base MODEL or --tiny-base, one of them")
    if made and not tiny:
        raise UsageError("--size and --reading-steps are of --tiny-base; a model that is fine-tuned keeps its size")
    if tiny and (other or tuning):
        raise UsageError("--plan, --continue, --keep-every and --export are of a fine-tuning, not of --tiny-base")
    if not other and not (dataset and name):
        raise UsageError("train takes --dataset NAME and --name NAME, or --plan FILE.yaml")


def _unsuccessful(context: Context, run: TrainingRun) -> LuthierError:
    """Why a run has no model; says what it can be continued from."""
    command = CONTINUING.get(str(run.request.WhichOneof("recipe")))
    if run.kept and command:
        context.say(f"kept: {', '.join(map(kept_text, run.kept))}\nnext: {command} --continue {run.run_id}")
    return error_of(run.error) if run.HasField("error") else Cancelled("the run was cancelled")


@contextmanager
def _left_running(context: Context, run_id: str) -> Iterator[None]:
    """After Ctrl-C: the run goes on, and how to follow and to end it."""
    try:
        yield
    except KeyboardInterrupt:
        context.say(f"{run_id} goes on: the same command follows it again, luthier cancel {run_id} ends it")
        raise


@dataclass(frozen=True)
class Stage:
    """What a run does now. `eta_s` is seconds to go, None while unknown."""

    name: str
    done: int
    total: int
    note: str
    eta_s: float | None


def begin_run(
    request: Req, create: Callable[[Req], R], unsuccessful: Callable[[R], bool], store: Store, models: Iterable[str]
) -> R:
    """Begins the run of a request, or finds it.

    A request without an id gets a digest of itself and of what `models`, the names in it, stand for now: the same
    arguments are the same run. One that failed or was cancelled is tried again under a further id.
    """
    if request.request_id:
        return create(request)
    unversioned = [name for name in models if name and "@" not in name and ":" not in name]
    newest = {name: version.n if (version := current_version(store, name)) else 0 for name in unversioned}
    digest = hashlib.sha256(json_text.dumps([plain(request), newest], sort_keys=True).encode()).hexdigest()
    attempt = 1
    while True:
        request.request_id = digest if attempt == 1 else f"{digest}-{attempt}"
        if not unsuccessful(run := create(request)):
            return run
        attempt += 1


def follow(
    run: R, events: Callable[[R], Iterator[R]], stage: Callable[[R], Stage], ended: Callable[[R], bool], budget_s: float
) -> R:
    """Follows a run to its end, one progress line for each stage; answers with it as it ended.

    A service that crashes is waited for, `budget_s` seconds without any answer; a stream that is open is one, however
    quiet the run, as its dead connections are found by keepalive.
    """
    budget, shown, newest = IdleBudget(budget_s), ExitStack(), run
    progress: Progress | None = None

    def watch() -> None:
        nonlocal newest, progress
        answered = False
        try:
            for event in () if ended(newest) else events(run):
                answered = True
                newest, now = event, stage(event)
                if progress is None or progress.what != now.name:
                    shown.close()
                    progress = shown.enter_context(Progress(now.name, now.total))
                progress.total, progress.done = now.total, now.done
                progress.show(now.note, now.eta_s)
        finally:
            if answered:
                budget.answered()
        if not ended(newest):
            raise Unavailable("the stream ended before the run did", reason="STREAM_CUT")

    with shown:
        retry_policy(budget, (Unavailable, DeadlineExceeded), first_s=FIRST_PAUSE_S)(watch)
    return newest

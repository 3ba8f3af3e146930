"""status: every run with its shards, clips, data sets, models, trainings and evaluations."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

import typer

from luthier.curation.v1.curation_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_OPEN,
    VERDICT_REJECTED,
    ClipFilter,
    ListClipsRequest,
)
from luthier.curation.v1.dataset_pb2 import DatasetVersion
from luthier.evaluation.v1.evaluation_pb2 import EvaluationState, ListEvaluationsRequest
from luthier.inference.v1.inference_pb2 import ListModelsRequest
from luthier.pipeline.v1.pipeline_pb2 import PART_STATE_DONE, PART_STATE_RUNNING, PartProgress
from luthier.training.v1.training_pb2 import ListTrainingRunsRequest, RunState, TrainingRun
from luthier_kit.rpc import UNREACHABLE, LuthierError, error_of
from luthier_pipeline.adapters import adapters_of
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import ago, clock, plain, table
from luthier_pipeline.corpus import as_collection
from luthier_pipeline.options import Json, begin
from luthier_pipeline.retention.records import Kept, command_that_finishes, takedowns, unfinished
from luthier_pipeline.run_status import (
    INGEST,
    NO_CLIPS,
    RunStatus,
    RunStatusReader,
    failed_name,
    seconds,
    silent_s,
    state_name,
)
from luthier_pipeline.training_request import kept_text
from luthier_pipeline.training_status import in_full, training_named

RETRY_BUDGET_S: Final = 2.0  # a service that is away is a line of the answer
NEWEST: Final = 10  # trainings and evaluations that are shown


def status(
    ctx: typer.Context,
    run_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="Only this training, in full: its id, or how that begins.")
    ] = "",
    collection: Annotated[str, typer.Option(metavar="NAME", help="Only this collection's run, shard by shard.")] = "",
    json: Json = False,
) -> None:
    """Show runs, clips, data sets, trainings, evaluations and models; or all that is known of one training."""
    context = begin(ctx, json)
    if run_id:
        training = training_named(context.clients, run_id)
        context.answer({"run": training.run_id, **plain(training)}, in_full(training))
        return
    clients, runs = context.clients, dict[str, RunStatus]()
    for run in RunStatusReader(clients.store).runs(as_collection(collection) if collection else ""):
        runs.setdefault(run.collection, run)  # the one last heard of
    document: dict[str, object] = {"runs": {name: _run_document(run) for name, run in runs.items()}}
    text = [_runs_table(runs)]
    if collection:
        text += [_parts_table(run) for run in runs.values()]
    failures = [
        f"{'NO CLIP' if failure.reason == NO_CLIPS else 'FAILED'} {name}: {failed_name(failure)}: {failure.stage}: "
        f"{failure.reason}: {failure.message}"
        for name, run in runs.items()
        for failure in run.failures
    ]
    text += ["\n".join(failures)] if failures else []
    if not collection:
        asked = clients.with_retry_budget(RETRY_BUDGET_S)
        questions = {
            "clips": partial(_ask, asked, "curation", _clips),
            "data sets": partial(_ask, clients, "", _datasets),
            "trainings": partial(_ask, asked, "training", _trainings),
            "evaluations": partial(_ask, asked, "evaluation", _evaluations),
            "models": partial(_ask, asked, "inference", _models),
        }
        with asked.thread_pool(len(questions), "status") as pool:
            subjects = dict(zip(questions, pool.map(lambda question: question(), questions.values()), strict=True))
        page = f"   http://{clients.curation_page}" if clients.curation_page else ""
        document |= {name.replace(" ", ""): subject.document for name, subject in subjects.items()}
        text += [f"{name}: {subject.line}{page if name == 'clips' else ''}" for name, subject in subjects.items()]
        cut_off = unfinished([Kept(number, record) for number, record in takedowns(clients.store).entries()])
        document["unfinished_takedowns"] = [kept.number for kept in cut_off]
        text += [
            f"a takedown was begun and is not finished (record {kept.key}): {command_that_finishes(kept.record)}"
            for kept in cut_off
        ]
    context.answer(document, "\n\n".join(text))


@dataclass(frozen=True)
class Subject:
    """What is known of one subject: as JSON, and as one line for people."""

    document: object
    line: str


def _ask(clients: Clients, service: str, question: Callable[[Clients], Subject]) -> Subject:
    """What a service says, or with an empty name the store. That it is away is never an empty answer."""
    try:
        return question(clients)
    except LuthierError as error:
        unknown = f"unknown: {error.reason}: {error}"
        if not service:
            line = unknown
        elif error.reason == UNREACHABLE:
            line = f"{service} does not answer at {clients.address(service)}"
        else:
            line = f"{unknown} ({service} at {clients.address(service)})"
        return Subject({"unavailable": str(error)}, line)


def _clips(clients: Clients) -> Subject:
    counts = {}
    for name, verdict in (("open", VERDICT_OPEN), ("accepted", VERDICT_ACCEPTED), ("rejected", VERDICT_REJECTED)):
        request = ListClipsRequest(filter=ClipFilter(verdict=verdict), page_size=1)
        counts[name] = clients.curation.ListClips(request).total
    return Subject(counts, ", ".join(f"{count} {name}" for name, count in counts.items()))


def _datasets(clients: Clients) -> Subject:
    newest = {}
    for name in clients.store.names("datasets/"):
        if found := clients.store.series(DatasetVersion, f"datasets/{name}").latest():
            newest[name] = found[0]
    return Subject(newest, _listed(f"{name}@{version}" for name, version in newest.items()))


def _trainings(clients: Clients) -> Subject:
    runs = clients.training.ListTrainingRuns(ListTrainingRunsRequest(page_size=NEWEST)).runs
    states = ((run.run_id, RunState.Name(run.state).removeprefix("RUN_STATE_"), _standing(run)) for run in runs)
    return Subject([plain(run) for run in runs], _lines(states))


def _standing(run: TrainingRun) -> str:
    """The model; of a run that has none, where it stands, and what it can be continued from."""
    if run.model:
        return run.model
    if run.HasField("fidelity_report"):
        return f"fidelity of {run.fidelity_report.model}: SI-SDR {run.fidelity_report.mean.si_sdr_db:.1f} dB"
    where = f"{run.stage} {run.training_stage}".strip() + (f" {run.done}/{run.total}" if run.total else "")
    kept = f"  kept: {', '.join(map(kept_text, run.kept))}" if run.kept else ""
    return f"{where}{kept}".strip()


def _evaluations(clients: Clients) -> Subject:
    runs = clients.evaluation.ListEvaluations(ListEvaluationsRequest(page_size=NEWEST)).evaluations
    states = (
        (run.evaluation_id, EvaluationState.Name(run.state).removeprefix("EVALUATION_STATE_"), run.candidate)
        for run in runs
    )
    return Subject([plain(run) for run in runs], _lines(states))


def _models(clients: Clients) -> Subject:
    models = clients.inference.ListModels(ListModelsRequest()).models
    listed = (
        f"{model.name}@{model.version}{f' ({adapter})' if (adapter := adapters_of(model)) else ''}" for model in models
    )
    return Subject([plain(model) for model in models], _listed(listed))


def _lines(rows: Iterable[tuple[str, str, str]]) -> str:
    """A line each: the id as `cancel` and `promote --evaluation` take it, the state, the model."""
    return "".join(f"\n  {identity}  {state}  {model}".rstrip() for identity, state, model in rows) or "none"


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items) or "none"


def _run_document(run: RunStatus) -> Mapping[str, object]:
    """A run as JSON, with every part."""
    return {
        "run": run.name,
        "state": run.state,
        "at": run.updated_at,
        "songs": run.songs,
        "waiting": run.total(lambda part: part.shard.waiting) + run.unclaimed,
        "rendered": run.total(lambda part: part.shard.rendered),
        "failed": run.total(lambda part: part.shard.failed),
        "in_flight": run.total(lambda part: part.shard.in_flight),
        "clips": run.total(lambda part: part.shard.clips),
        "variations": run.total(lambda part: part.shard.variations),
        "variations_rendered": run.total(lambda part: part.shard.variations_rendered),
        "variations_failed": run.total(lambda part: part.shard.variations_failed),
        "need_render": run.total(lambda part: part.need_render),
        "eta_s": run.eta_s,
        "shard_count": run.shard_count,
        "ingest": _part_document(run.ingest) if run.ingest else None,
        "shards": [_part_document(part) for part in run.shards],
        "failures": [plain(failure, zeros=True) for failure in run.failures],
    }


def _part_document(part: PartProgress) -> Mapping[str, object]:
    work = plain(part.ingest, zeros=True) if part.part == INGEST else {"eta_s": None, **plain(part.shard, zeros=True)}
    error = error_of(part.error) if part.HasField("error") else None
    return {
        "collection": part.collection,
        "run": part.run,
        "part": part.part,
        "host": part.host,
        "state": state_name(part.state),
        "began_at": seconds(part.began_at),
        "at": seconds(part.updated_at),
        "corpus_songs": part.corpus_songs,
        "need_render": part.need_render,
        "failures": [plain(failure, zeros=True) for failure in part.failures],
        **work,
        **({"reason": error.reason, "message": str(error)} if error else {}),
    }


def _runs_table(runs: Mapping[str, RunStatus]) -> str:
    """One line a collection, all shards summed."""
    if not runs:
        return "no pipeline run yet"
    now, rows = time.time(), []
    for name, run in runs.items():
        done = sum(part.state == PART_STATE_DONE for part in run.shards)
        silent = sum(silent_s(part, now) > 0 for part in run.shards)
        notes = [f"{done}/{run.shard_count} shards done"] if run.shard_count > 1 else []
        notes += [f"{run.shard_count - len(run.shards)} not begun"] if run.shard_count > len(run.shards) else []
        notes += [f"{silent} silent"] if silent else []
        failed = run.total(lambda part: part.shard.failed)
        settled = run.total(lambda part: part.shard.rendered) + failed
        row = [
            name,
            f"{run.state} ({', '.join(notes)})" if notes else run.state,
            f"{settled}/{run.songs}" if run.songs else _inspected(run.ingest) if run.ingest else "",
            str(failed),
            _variations(run.shards),
            str(run.total(lambda part: part.shard.in_flight)),
            str(run.total(lambda part: part.shard.clips)),
            clock(run.eta_s) if run.eta_s and run.state == state_name(PART_STATE_RUNNING) else "",
            ago(run.updated_at),
        ]
        rows.append(row)
    return table(rows, ["run", "state", "songs", "failed", "variations", "in flight", "clips", "to go", "last seen"])


def _parts_table(run: RunStatus) -> str:
    """One line for the ingest and for each shard."""
    now, rows = time.time(), []
    for part in run.parts:
        shard, ingest = part.shard, part.part == INGEST
        quiet_s = silent_s(part, now)
        error = error_of(part.error) if part.HasField("error") else None
        row = [
            part.part,
            f"silent for {clock(quiet_s)}" if quiet_s else state_name(part.state),
            _inspected(part) if ingest else f"{shard.rendered + shard.failed}/{shard.songs}",
            str(part.ingest.failed if ingest else shard.failed),
            "" if ingest else _variations([part]),
            "" if ingest else str(shard.in_flight),
            "" if ingest else str(shard.clips),
            clock(shard.eta_s) if shard.eta_s and part.state == PART_STATE_RUNNING else "",
            ago(seconds(part.updated_at)),
            part.host,
            f"{error.reason}: {error}" if error else "",
        ]
        rows.append(row)
    header = ["shard", "state", "songs", "failed", "variations", "in flight", "clips", "to go", "last seen", "host", ""]
    return table(rows, header)


def _variations(shards: Iterable[PartProgress]) -> str:
    """Variations that are over, of how many, and how many failed; empty where none are made."""
    work = [part.shard for part in shards]
    settled = sum(one.variations_rendered + one.variations_failed for one in work)
    failed, wanted = (sum(one.variations_failed for one in work), sum(one.variations for one in work))
    said = f"{settled}/{wanted}" if wanted else ""
    return f"{said} ({failed} failed)" if failed else said


def _inspected(part: PartProgress) -> str:
    return f"{part.ingest.inspected}/{part.ingest.files or '?'} files inspected"

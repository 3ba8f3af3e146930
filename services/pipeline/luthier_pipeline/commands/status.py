"""status: every run with its shards, clips, data sets, models, trainings and evaluations."""

import time
from typing import Any

from luthier.curation.v1 import curation_pb2 as curation
from luthier.evaluation.v1 import evaluation_pb2 as evaluation
from luthier.inference.v1 import inference_pb2 as inference
from luthier.training.v1 import training_pb2 as training
from luthier_kit.errors import LuthierError
from luthier_pipeline.board import Board, silent_s
from luthier_pipeline.commands.context import Context
from luthier_pipeline.diary import DONE
from luthier_pipeline.progress import clock
from luthier_pipeline.resources import ago, as_collection, plain, table


def status(context: Context) -> None:
    """Shows everything, or one collection's run shard by shard."""
    name = context.arguments.collection
    runs: dict[str, dict[str, Any]] = {}
    for run in Board(context.place.store).runs(as_collection(name) if name else ""):
        runs.setdefault(run.collection, run.document())  # the one last heard of
    if name:
        context.answer({"runs": runs}, "\n\n".join([_runs(runs), *_shards(runs), *_failures(runs)]))
        return
    store = context.place.store
    document: dict[str, Any] = {
        "runs": runs,
        "datasets": {name: len(store.series(f"datasets/{name}")) for name in store.names("datasets/")},
        "clips": _ask(context, "curation", _verdicts),
        "models": _ask(context, "inference", _models),
        "trainings": _ask(context, "training", _trainings),
        "evaluations": _ask(context, "evaluation", _evaluations),
    }
    context.answer(document, "\n\n".join([_runs(runs), *_failures(runs), *_sections(document, context.place.page)]))


def _runs(runs: dict[str, dict[str, Any]]) -> str:
    """One line a collection, all shards summed."""
    rows = [
        [
            name,
            _state(run),
            f"{run['rendered'] + run['failed']}/{run['songs']}" if run["songs"] else _inspected(run["ingest"]),
            str(run["failed"]),
            str(run["in_flight"]),
            str(run["clips"]),
            _to_go(run),
            ago(run["at"]),
        ]
        for name, run in runs.items()
    ]
    header = ["run", "state", "songs", "failed", "in flight", "clips", "to go", "last seen"]
    return table(rows, header) if rows else "no pipeline run yet"


def _state(run: dict[str, Any]) -> str:
    begun, count = len(run["shards"]), run["shard_count"]
    done = sum(shard["state"] == DONE for shard in run["shards"])
    quiet = sum(silent_s(shard, time.time()) > 0 for shard in run["shards"])
    notes = [f"{done}/{count} shards done"] if count > 1 else []
    notes += [f"{count - begun} not begun"] if count > begun else []
    notes += [f"{quiet} silent"] if quiet else []
    return f"{run['state']} ({', '.join(notes)})" if notes else str(run["state"])


def _inspected(ingest: dict[str, Any] | None) -> str:
    return f"{ingest.get('inspected', 0)}/{ingest.get('files', '?')} files inspected" if ingest else ""


def _to_go(part: dict[str, Any]) -> str:
    return clock(part["eta_s"]) if part.get("eta_s") and part["state"] == "RUNNING" else ""


def _shards(runs: dict[str, dict[str, Any]]) -> list[str]:
    now = time.time()
    return [
        table(
            [
                [
                    part["part"],
                    f"silent for {clock(quiet)}" if (quiet := silent_s(part, now)) else part["state"],
                    f"{part['rendered'] + part['failed']}/{part['songs']}" if "shard" in part else _inspected(part),
                    str(part.get("failed", 0)),
                    str(part.get("in_flight", "")),
                    str(part.get("clips", "")),
                    _to_go(part),
                    ago(part["at"]),
                    part["host"],
                    f"{part['reason']}: {part['message']}" if "reason" in part else "",
                ]
                for part in [*([run["ingest"]] if run["ingest"] else []), *run["shards"]]
            ],
            ["shard", "state", "songs", "failed", "in flight", "clips", "to go", "last seen", "host", ""],
        )
        for run in runs.values()
    ]


def _failures(runs: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        f"FAILED {name}: {f['path']}: {f['stage']}: {f['reason']}: {f['message']}"
        for name, run in runs.items()
        for f in run["failures"]
    ]
    return ["\n".join(lines)] if lines else []


def _ask(context: Context, service: str, question: Any) -> Any:
    try:
        return question(context.place[service])
    except LuthierError as error:
        return {"unavailable": str(error)}


def _verdicts(client: Any) -> dict[str, int]:
    found = {}
    for verdict in (curation.VERDICT_OPEN, curation.VERDICT_ACCEPTED, curation.VERDICT_REJECTED):
        request = curation.ListClipsRequest(filter=curation.ClipFilter(verdict=verdict), page_size=1)
        name = curation.Verdict.Name(verdict).removeprefix("VERDICT_").lower()
        found[name] = client.call("ListClips", request, patience_s=2).total
    return found


def _models(client: Any) -> list[dict[str, Any]]:
    return [plain(m) for m in client.call("ListModels", inference.ListModelsRequest(), patience_s=2).models]


def _trainings(client: Any) -> list[dict[str, Any]]:
    answer = client.call("ListTrainingRuns", training.ListTrainingRunsRequest(page_size=10), patience_s=2)
    return [plain(run) for run in answer.runs]


def _evaluations(client: Any) -> list[dict[str, Any]]:
    answer = client.call("ListEvaluations", evaluation.ListEvaluationsRequest(page_size=10), patience_s=2)
    return [plain(found) for found in answer.evaluations]


def _sections(document: dict[str, Any], page: str) -> list[str]:
    """The rest for people, one paragraph a subject."""
    found = ["clips: " + ", ".join(f"{count} {verdict}" for verdict, count in document["clips"].items())]
    if page:
        found[-1] += f"   http://{page}"
    found.append("data sets: " + (", ".join(f"{n}@{v}" for n, v in document["datasets"].items()) or "none"))
    for what, states in (("trainings", "RUN_STATE_"), ("evaluations", "EVALUATION_STATE_")):
        rows = document[what] if isinstance(document[what], list) else []
        each = [f"{r.get('run_id', r.get('evaluation_id'))[:12]} {r['state'].removeprefix(states)}" for r in rows]
        found.append(f"{what}: " + (", ".join(each) or "none" if isinstance(document[what], list) else "unavailable"))
    models = document["models"] if isinstance(document["models"], list) else []
    found.append("models: " + (", ".join(f"{m['name']}@{m['version']}" for m in models) or "none"))
    return found

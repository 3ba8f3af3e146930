"""inspect, ingest, run, status: from a folder of MIDI files to clips in curation."""

import time
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1 import curation_pb2 as curation
from luthier.evaluation.v1 import evaluation_pb2 as evaluation
from luthier.inference.v1 import inference_pb2 as inference
from luthier.training.v1 import training_pb2 as training
from luthier_kit.errors import InvalidRequest, LuthierError
from luthier_pipeline import corpus as corpora
from luthier_pipeline.commands.context import PATIENCE_S, Context, UsageError
from luthier_pipeline.corpus import Corpus
from luthier_pipeline.progress import Progress, clock
from luthier_pipeline.resources import ago, as_name, plain, put, table
from luthier_pipeline.run import Diary, Summary, run_songs
from luthier_pipeline.song import Options, SongWay


def inspect(context: Context) -> None:
    """Shows what each file says, without rendering."""
    found = _ingest(context, context.arguments.folder)
    rows = [
        [entry.path, clock(entry.duration_s), entry.fingerprint[:12], f"duplicate of {entry.duplicate_of}"]
        if entry.duplicate_of
        else [
            entry.path,
            clock(entry.duration_s),
            entry.fingerprint[:12],
            entry.failure.reason if entry.failure else "",
        ]
        for entry in found.entries
    ]
    document = {
        "files": len(found.entries),
        "songs": len(found.songs),
        "duplicates": len(found.duplicates),
        "failures": [asdict(failure) for failure in found.failures],
        "inspected": [asdict(entry) for entry in found.entries],
    }
    context.answer(document, table(rows, ["file", "length", "fingerprint", "remark"]))


def ingest(context: Context) -> None:
    """Writes the corpus manifest."""
    found = _ingest(context, context.arguments.folder)
    ref = _keep(context, found)
    counts = {"files": len(found.entries), "songs": len(found.songs), "duplicates": len(found.duplicates)}
    document = {**counts, "failures": [asdict(failure) for failure in found.failures], "manifest": plain(ref)}
    failed = f"{len(found.failures)} cannot be used"
    context.answer(
        document,
        f"{counts['files']} files: {counts['songs']} songs, {counts['duplicates']} duplicates, {failed}\n"
        f"manifest {ref.key}",
    )


def run(context: Context) -> None:
    """Takes a folder or a manifest all the way into curation."""
    arguments, begun = context.arguments, time.monotonic()
    found = _corpus(context)
    collection = arguments.collection or as_name(Path(arguments.source).resolve().name)
    summary = Summary(files=len(found.entries), duplicates=len(found.duplicates), songs=len(found.songs))
    summary.failures.extend(found.failures)
    for entry in (entry for entry in found.entries if not entry.failure):
        summary.computed, summary.reused = summary.computed + entry.computed, summary.reused + (not entry.computed)
    diary = Diary(context.place.store, collection)
    way = SongWay(context.place, _options(context, found, collection))
    run_songs(found, way, summary, arguments.in_flight, diary)
    summary.seconds = round(time.monotonic() - begun, 1)
    diary.note("DONE", summary, 0, always=True)
    manifest = _keep(context, found)
    document = {**summary.document(), "collection": collection, "manifest": plain(manifest)}
    context.answer(document, _told(summary, collection))


def status(context: Context) -> None:
    """Shows runs, clips, data sets, models, trainings and evaluations."""
    store = context.place.store
    runs = {name.removeprefix("pipeline-"): store.latest(f"runs/{name}") for name in store.names("runs/pipeline-")}
    document: dict[str, Any] = {
        "runs": {name: entry[1] for name, entry in runs.items() if entry},
        "datasets": {name: len(store.series(f"datasets/{name}")) for name in store.names("datasets/")},
        "clips": _ask(context, "curation", _verdicts),
        "models": _ask(context, "inference", _models),
        "trainings": _ask(context, "training", _trainings),
        "evaluations": _ask(context, "evaluation", _evaluations),
    }
    context.answer(document, "\n\n".join(_sections(document, context.place.page)))


def _ingest(context: Context, folder: str) -> Corpus:
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(f"FOLDER must be a folder, got {folder}")
    total = len(corpora.midi_files(path))
    if not total:
        raise InvalidRequest(reason="FOLDER_EMPTY", violations=[("FOLDER", f"has no .mid or .midi file: {folder}")])
    progress = Progress("inspected", total)
    found = corpora.ingest(
        path,
        context.place.store,
        context.place["rendering"],
        licence=getattr(context.arguments, "licence", "unknown"),
        patience_s=PATIENCE_S,
        tick=progress.advance,
    )
    progress.finish()
    return found


def _keep(context: Context, found: Corpus) -> ArtifactRef:
    return context.place.store.put_bytes("manifests", found.to_json(), "json", "application/json")


def _corpus(context: Context) -> Corpus:
    source = Path(context.arguments.source)
    if source.is_dir():
        return _ingest(context, str(source))
    if source.is_file():
        return Corpus.from_json(source.read_bytes())
    if str(source).startswith("manifests/"):
        key = str(source)
        ref = ArtifactRef(key=key, sha256=Path(key).stem)
        return Corpus.from_json(context.place.store.read(ref, max_bytes=1 << 30))
    raise UsageError(f"FOLDER|MANIFEST must be a folder, a manifest file or a manifests/… key, got {source}")


def _options(context: Context, found: Corpus, collection: str) -> Options:
    arguments = context.arguments
    sheet = _sheet(context, arguments)
    return Options(
        collection,
        licence=found.licence,
        backend=arguments.backend,
        clip_s=arguments.clip_seconds,
        prompts=arguments.prompts,
        sheet=sheet,
        mix_only=arguments.mix_only,
        patience_s=PATIENCE_S,
    )


def _sheet(context: Context, arguments: Namespace) -> ArtifactRef | None:
    """The sheet that is named, or the folder's own `tags.csv`."""
    own = Path(arguments.source) / "tags.csv"
    path = Path(arguments.tags) if arguments.tags else own if own.is_file() else None
    media_type = "application/json" if path and path.suffix == ".json" else "text/csv"
    return put(context.place.store, "sheets", path, media_type) if path else None


def _told(summary: Summary, collection: str) -> str:
    lines = [
        f"{summary.files} files: {summary.songs} songs, {summary.duplicates} duplicates, "
        f"{summary.files - summary.songs - summary.duplicates} refused",
        f"{summary.rendered} songs rendered ({clock(summary.audio_s)} of music), {summary.clips} clips in collection "
        f"{collection}, in {clock(summary.seconds)}",
        f"{summary.computed} actions computed, {summary.reused} found done",
    ]
    lines += [f"FAILED {f.path}: {f.stage}: {f.reason}: {f.message}" for f in summary.failures]
    return "\n".join(lines)


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
    """The status for people, one paragraph a subject."""
    runs = [
        [name, run["state"], f"{run['rendered']}/{run['songs']} songs", f"{run['clips']} clips", ago(run["at"])]
        for name, run in document["runs"].items()
    ]
    found = [table(runs, ["run", "state", "", "", "last seen"]) if runs else "no pipeline run yet"]
    found.append("clips: " + ", ".join(f"{count} {verdict}" for verdict, count in document["clips"].items()))
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

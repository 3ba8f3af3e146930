"""fidelity: how true the reconstructions of a model's autoencoder are, as figures and as a page to look at.

Fréchet distances are evaluation's, which knows the embedders and their weights: the sound of the report goes there as
two sets of audio, beside the originals.
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1.evaluation_pb2 import (
    AudioItem,
    AudioSet,
    CreateEvaluationRequest,
    Evaluation,
    ListMetricWeightsRequest,
    Suite,
    SuiteRow,
)
from luthier.training.v1.training_pb2 import (
    CreateTrainingRunRequest,
    FidelityReport,
    FidelityScores,
    MeasureFidelity,
    TrainingRun,
)
from luthier_kit.rpc import MAX_PROMPT_CHARS, InvalidRequest
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import Context, UsageError, plain, table
from luthier_pipeline.files import save
from luthier_pipeline.long_runs import (
    UNSUCCESSFUL,
    begin_evaluation,
    begin_run,
    follow_evaluation,
    follow_training,
    told_scores,
)
from luthier_pipeline.options import USER, Json, RequestId, Reviewer, begin
from luthier_pipeline.suites import MIN_SECONDS
from luthier_pipeline.training_request import find_dataset

FRECHET: Final = ("fd_",)
"""Beginnings of the scores that are told of the evaluation."""


def fidelity(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="name, name@n or sha256:…")],
    dataset: Annotated[
        str, typer.Option(metavar="NAME[@N]", help="Its validation clips are measured; default version: the newest.")
    ],
    baseline: Annotated[
        str,
        typer.Option(metavar="MODEL", help="Model beside it; default: the base that its autoencoder was trained from."),
    ] = "",
    clips: Annotated[int | None, typer.Option(metavar="N", min=1, max=256, help="Default: 32.")] = None,
    max_clip: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Of each clip, from its start; default: 30.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Page with tables, spectra, and audio to compare.")
    ] = None,
    frechet: Annotated[
        bool,
        typer.Option(
            "--frechet", help="Fréchet distances from the originals, too, with the metric weights that are there."
        ),
    ] = False,
    request_id: RequestId = "",
    reviewer: Reviewer = USER,
    json: Json = False,
) -> TrainingRun:
    """Measure how true a model's reconstructions of held-out clips are: distance of spectra, of mel spectra, SI-SDR.

    The same arguments are the same measurement: the command called again gives its answer.
    """
    context = begin(ctx, json)
    clients = context.clients
    heard_by = _embedders(clients) if frechet else []
    manifest, _ = find_dataset(clients.store, dataset)
    request = CreateTrainingRunRequest(
        request_id=request_id,
        dataset=manifest,
        created_by=reviewer,
        fidelity=MeasureFidelity(
            model=model, baseline=baseline or None, clips=clips, max_clip_s=max_clip, keep_sound=frechet
        ),
    )
    run = begin_run(
        request,
        lambda asked: clients.training.CreateTrainingRun(asked).run,
        lambda run: run.state in UNSUCCESSFUL,
        clients.store,
        [model, baseline],
    )
    context.say(f"run {run.run_id}: the fidelity of {model}")
    run = follow_training(context, run)
    found = run.fidelity_report
    if report:
        save(clients.store, found.page, report)
    rows = [[found.baseline, *_told(found.baseline_mean)]] if found.baseline else []
    rows += [[found.model, *_told(found.mean)]]
    text = [table(rows, ["model", "STFT", "mel", "SI-SDR"]), f"means over {len(found.clips)} held-out clips"]
    text += [f"report {report}"] if report else []
    document = {"run": run.run_id, **plain(run)}
    if frechet:
        evaluation = _evaluated(context, found, heard_by, reviewer)
        text += told_scores(evaluation, FRECHET)
        if report:
            beside = report.parent / f"{run.run_id}-frechet.html"  # to which the page refers
            save(clients.store, evaluation.report, beside)
            text += [f"report {beside}"]
        document["frechet"] = plain(evaluation)
    context.answer(document, "\n".join(text))
    return run


def _embedders(clients: Clients) -> list[str]:
    """Those whose weights are there, each with the weights' digest; UsageError where there are none."""
    known = clients.evaluation.ListMetricWeights(ListMetricWeightsRequest()).embedders
    found = [f"{state.name} {state.weights_sha256[:16]}" for state in known if state.weights_sha256]
    if not found:
        raise UsageError("--frechet needs weights of an embedder: luthier metric-weights lists them")
    return found


def _evaluated(context: Context, report: FidelityReport, heard_by: list[str], reviewer: str) -> Evaluation:
    """The evaluation of a report's reconstructions as two systems, their originals the references."""
    store = context.clients.store
    clips = [clip for clip in report.clips if clip.duration_s >= MIN_SECONDS]
    if not clips:
        raise InvalidRequest(f"no clip lasts {MIN_SECONDS:g} s, of which evaluation measures nothing")
    if left := len(report.clips) - len(clips):
        context.say(f"{left} clips shorter than {MIN_SECONDS:g} s are not in the Fréchet distances")

    def as_set(name: str, field: str) -> ArtifactRef:
        return store.put(
            "audio-sets", AudioSet(name=name, items=[AudioItem(audio=getattr(c, field), name=c.clip_id) for c in clips])
        )

    rows = [
        SuiteRow(
            prompt=(clip.song or clip.clip_id)[:MAX_PROMPT_CHARS],
            seconds_total=clip.duration_s,
            seed=number,
            reference=clip.sound,
        )
        for number, clip in enumerate(clips)
    ]
    told = f"{len(rows)} clips of a report of fidelity, heard by {', '.join(heard_by)}"  # new weights, new evaluation
    request = CreateEvaluationRequest(
        candidate_audio=as_set(report.model, "model_sound"),
        baseline_audio=as_set(report.baseline, "baseline_sound") if report.baseline else None,
        suite=Suite(name="reconstructions", rows=rows, description=told[:500]),
        created_by=reviewer,
        aligned=True,
    )
    return follow_evaluation(context, begin_evaluation(context, request))


def _told(scores: FidelityScores) -> list[str]:
    ratio = f"{scores.si_sdr_db:.1f} dB" if scores.HasField("si_sdr_db") else "silent"
    return [f"{scores.stft:.4f}", f"{scores.mel:.4f}", ratio]

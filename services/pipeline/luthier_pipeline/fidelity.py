"""fidelity: how true the reconstructions of a model's autoencoder are, as figures and as a page to look at."""

from pathlib import Path
from typing import Annotated

import typer

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, FidelityScores, MeasureFidelity, TrainingRun
from luthier_pipeline.console import plain, table
from luthier_pipeline.files import save
from luthier_pipeline.long_runs import UNSUCCESSFUL, begin_run, follow_training
from luthier_pipeline.options import USER, Json, RequestId, Reviewer, begin
from luthier_pipeline.training_request import find_dataset


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
    request_id: RequestId = "",
    reviewer: Reviewer = USER,
    json: Json = False,
) -> TrainingRun:
    """Measure how true a model's reconstructions of held-out clips are: distance of spectra, of mel spectra, SI-SDR.

    The same arguments are the same measurement: the command called again gives its answer.
    """
    context = begin(ctx, json)
    clients = context.clients
    manifest, _ = find_dataset(clients.store, dataset)
    request = CreateTrainingRunRequest(
        request_id=request_id,
        dataset=manifest,
        created_by=reviewer,
        fidelity=MeasureFidelity(model=model, baseline=baseline or None, clips=clips, max_clip_s=max_clip),
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
    context.answer({"run": run.run_id, **plain(run)}, "\n".join(text))
    return run


def _told(scores: FidelityScores) -> list[str]:
    ratio = f"{scores.si_sdr_db:.1f} dB" if scores.HasField("si_sdr_db") else "silent"
    return [f"{scores.stft:.4f}", f"{scores.mel:.4f}", ratio]

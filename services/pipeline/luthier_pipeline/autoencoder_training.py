"""train-autoencoder: the autoencoder of a registered model, or its decoder alone, learns from a data set."""

from typing import Annotated

import typer

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, TrainAutoencoder, TrainingRun
from luthier_pipeline.console import UsageError, plain
from luthier_pipeline.long_runs import UNSUCCESSFUL, begin_run, follow_training
from luthier_pipeline.options import USER, Json, RequestId, Reviewer, begin
from luthier_pipeline.training_plan import EXPORTS
from luthier_pipeline.training_request import continue_autoencoder, find_dataset, run_to_continue

Steps = Annotated[int | None, typer.Option(metavar="STEPS", min=1, help="Default: a tenth of the steps.")]


def train_autoencoder(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Option(metavar="NAME[@N]", help="Data set; default version: the newest.")] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="Name under which the result is registered.")] = "",
    base: Annotated[
        str, typer.Option(metavar="MODEL", help="Model whose decoder is trained: name, name@n or sha256:…")
    ] = "",
    with_encoder: Annotated[
        bool,
        typer.Option("--with-encoder", help="Train the encoder too: the transformer must be fine-tuned afterwards."),
    ] = False,
    random_start: Annotated[
        bool, typer.Option("--random-start", help="Begin with random weights, of encoder and decoder.")
    ] = False,
    steps: Annotated[int | None, typer.Option(metavar="N", min=1, help="Optimiser steps; default: 20000.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="CROPS", min=1, help="Default: 16.")] = None,
    window: Annotated[
        int | None, typer.Option(metavar="SAMPLES", min=4096, help="Length of a crop; default: 65536.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak, 1e-8 to 0.1; default: 1.5e-4.")] = None,
    discriminator_learning_rate: Annotated[
        float | None, typer.Option(help="Peak of the discriminator; default: 3e-4.")
    ] = None,
    warmup: Annotated[
        int | None, typer.Option(metavar="STEPS", min=0, help="Linear warm-up of both; default: 0.")
    ] = None,
    discriminator_warmup: Annotated[
        int | None,
        typer.Option(metavar="STEPS", min=0, help="Steps before it is listened to; default: a tenth of the steps."),
    ] = None,
    discriminator_filters: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=256, help="Its width; default: 64, less is quicker.")
    ] = None,
    spectral_weight: Annotated[
        float | None, typer.Option(min=0, max=1000, help="Of the distance of spectra; default: 1.")
    ] = None,
    sample_weight: Annotated[
        float | None, typer.Option(min=0, max=1000, help="Of the difference of samples; default: 0.")
    ] = None,
    adversarial_weight: Annotated[
        float | None, typer.Option(min=0, max=1000, help="Of the discriminator's judgement; default: 0.1.")
    ] = None,
    feature_matching_weight: Annotated[
        float | None, typer.Option(min=0, max=1000, help="Of what it sees; default: 5. Both 0: no discriminator.")
    ] = None,
    kl_weight: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the latents' divergence, with --with-encoder; default: 1e-4.")
    ] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="Compare spectra as they are, not weighted by loudness.")
    ] = False,
    accumulate: Annotated[
        int | None, typer.Option(metavar="BATCHES", min=1, help="Batches of a step; default: 1.")
    ] = None,
    ema_decay: Annotated[
        float | None, typer.Option(help="Decay of the moving average of the weights, 0 = off; default: 0.9999.")
    ] = None,
    validate_every: Steps = None,
    checkpoint_every: Steps = None,
    export: Annotated[
        str, typer.Option(metavar="last|best", help="Weights to export: best = truest spectra. Default: last.")
    ] = "",
    continued: Annotated[
        str,
        typer.Option(
            "--continue", metavar="RUN[@STEP]", help="Go on with the plan of a run that was cancelled or failed."
        ),
    ] = "",
    seed: Annotated[int | None, typer.Option(help="Default: drawn from the request id.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Begin it, and do not wait for its end.")] = False,
    request_id: RequestId = "",
    reviewer: Reviewer = USER,
    json: Json = False,
) -> TrainingRun:
    """Train the decoder of a model on a data set, so that it sounds truer; its transformer stays as it is.

    The same arguments are the same run: the command called again follows it.
    """
    context = begin(ctx, json)
    if random_start and not with_encoder:
        raise UsageError("--random-start needs --with-encoder: a decoder alone learns from the latents of its encoder")
    if not continued and not (dataset and name and base):
        raise UsageError("train-autoencoder takes --base MODEL, --dataset NAME and --name NAME, or --continue RUN")
    if continued and (base or dataset):
        raise UsageError("--continue goes on with the base and the data set of the run: name neither")
    if export and export not in EXPORTS:
        raise UsageError(f"--export must be {' or '.join(EXPORTS)}, got {export[:80]!r}")
    clients = context.clients
    manifest, version = find_dataset(clients.store, dataset) if dataset else (None, "")
    request = CreateTrainingRunRequest(
        request_id=request_id,
        dataset=manifest,
        model_name=name,
        seed=seed,
        created_by=reviewer,
        autoencoder=TrainAutoencoder(
            base_model=base or None,
            decoder_only=None if continued and not with_encoder else not with_encoder,
            random_start=random_start or None,
            steps=steps,
            batch_size=batch_size,
            window_samples=window,
            learning_rate=learning_rate,
            discriminator_learning_rate=discriminator_learning_rate,
            warmup_steps=warmup,
            discriminator_warmup_steps=discriminator_warmup,
            discriminator_filters=discriminator_filters,
            spectral_weight=spectral_weight,
            sample_weight=sample_weight,
            adversarial_weight=adversarial_weight,
            feature_matching_weight=feature_matching_weight,
            kl_weight=kl_weight,
            a_weighting=False if flat else None,
            accumulate=accumulate,
            ema_decay=ema_decay,
            validate_every=validate_every,
            checkpoint_every=checkpoint_every,
            export=EXPORTS[export] if export else None,
        ),
    )
    if continued:
        run, step = run_to_continue(clients, continued, "autoencoder", "luthier train-autoencoder")
        continue_autoencoder(request, run, step)
        name, base, version = request.model_name, request.autoencoder.base_model, f"the data of {run.run_id}"
        with_encoder = not request.autoencoder.decoder_only
    run = begin_run(
        request,
        lambda asked: clients.training.CreateTrainingRun(asked).run,
        lambda run: run.state in UNSUCCESSFUL,
        clients.store,
        [base],
    )
    context.say(f"training run {run.run_id}: {name}, the {'autoencoder' if with_encoder else 'decoder'} on {version}")
    if detach:
        following = "; the same command without --detach follows it, luthier status lists all"
        context.answer({"run": run.run_id, **plain(run)}, f"{run.run_id} goes on in the service{following}")
        return run

    run = follow_training(context, run)
    lines = [
        f"model {run.model}" + ("" if run.model.partition("@")[0] == name else f"  ({name} was promoted meanwhile)")
    ]
    if run.validation and run.fidelity:
        spectra, points = [point.loss for point in run.validation], run.fidelity
        lines += [
            f"held-out clips: distance of spectra {spectra[0]:.4f} -> {spectra[-1]:.4f}, "
            f"of mel spectra {points[0].mel:.4f} -> {points[-1].mel:.4f}, "
            f"SI-SDR {points[0].si_sdr_db:.1f} -> {points[-1].si_sdr_db:.1f} dB"
        ]
    data = dataset or "NAME"
    lines += [f"to hear it: luthier fidelity {run.model} --dataset {data} --report fidelity.html"]
    if with_encoder:
        lines += [f"its transformer does not fit: luthier train --base {run.model} --dataset {data} --name NAME"]
    else:
        lines += [f"next: luthier evaluate --model {run.model} --baseline {base} --report report.html"]
    context.answer({"run": run.run_id, "model": run.model, **plain(run)}, "\n".join(lines))
    return run

"""`luthier demo`: the whole way on songs that it composes, by the commands that anyone can type.

Grooves in four genres at four tempi: few enough that a model of 2.5 million parameters learns their beat in minutes. It
asserts what such a model can learn: the validation loss on held-out songs falls below the base's, and most rows of a
suite in words that no caption has are heard at the tempo they ask for.
"""

import json as json_text
import shlex
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from luthier.curation.v1.curation_pb2 import ExportDatasetResponse
from luthier.evaluation.v1.evaluation_pb2 import (
    Evaluation,
    ListMetricWeightsRequest,
    PromoteModelResponse,
    RegisterMetricWeightsResponse,
)
from luthier.inference.v1.inference_pb2 import GenerateResponse, ListModelsRequest
from luthier.training.v1.training_pb2 import TrainingRun
from luthier_kit.rpc import Internal, NotFound
from luthier_pipeline.console import Context, clock, plain
from luthier_pipeline.demo_page.command import EXPIRED, DemoPage
from luthier_pipeline.experiment.songs import GROOVES, songs
from luthier_pipeline.files import save
from luthier_pipeline.nested import command
from luthier_pipeline.options import Json, Reviewer, begin
from luthier_pipeline.run import RunSummary
from luthier_pipeline.songbook.compose import write_songs

COLLECTION: Final = "grooves"
BASE, TUNED, SERVED = "small-base", "small", "demo"
SEED: Final = 1  # of both trainings: the same demo on every machine
TEMPI_BPM: Final = (80, 100, 125, 150)  # of the grooves
TRAINED_ROWS: Final = 16  # of prompts that were trained on
WINDOW_S: Final = 4.096  # of the small model: what it is asked for, and enough to hear a tempo
STEPS: Final = 50  # denoising steps; enough for a model this small
GUIDANCE: Final = 3
HEARD: Final = 0.5
"""Share of the rows that must be heard at the tempo asked for; a model that ignores its prompt reaches a quarter."""
TAGGERS: Final = ("musicnn_msd", "musicnn_mtt")
"""Embedders whose weights a package of evaluation's ships."""
METRIC: Final = "tempo_accuracy_2"
RUN: Final = "--licence Apache-2.0 --clip-seconds 8 --prompts 12"  # no clip is shorter than the window
SPLIT: Final = "--validation-share 0.05 --test-share 0"
MAKE: Final = f"--tiny-base --size small --steps 400 --reading-steps 400 --seed {SEED}"
FINE_TUNE: Final = (
    "--steps 1000 --batch-size 8 --learning-rate 0.002 --warmup 20 --cut-to-window --ema-decay 0.99"
    f" --timestep-mean 1.5 --timestep-deviation 1.5 --validate-every 100 --checkpoint-every 100 --seed {SEED}"
)
EXAMPLES: Final = {f"rock-{bpm}": f"A rock song with drums and bass at {bpm} BPM" for bpm in TEMPI_BPM}


def suite() -> list[dict[str, str | float | list[str]]]:
    """Rows of `evaluate`, enough for a promotion: each genre at each tempo, two genres twice, in words that no caption
    has."""
    asked = [(f"Please play {genre}, {bpm} beats per minute.", genre, bpm) for genre in GROOVES for bpm in TEMPI_BPM]
    asked += [
        (f"Play {genre} at {bpm} beats per minute, please.", genre, bpm)
        for genre in ("pop", "house")
        for bpm in TEMPI_BPM
    ]
    return [
        {"prompt": prompt, "seconds_total": WINDOW_S, "seed": seed, "tempo_bpm": bpm, "genres": [genre]}
        for seed, (prompt, genre, bpm) in enumerate(asked)
    ]


def demo(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the results go.")] = Path("demo"),
    reviewer: Reviewer = "demo",
    json: Json = False,
) -> None:
    """Compose songs and take them all the way to a report: run, review, export, train, generate, evaluate, promote."""
    context, began = begin(ctx, json), time.monotonic()
    who = shlex.quote(reviewer)
    composed, dataset, report, asked = (
        shlex.quote(str(out / name)) for name in ("songs", "dataset", "report.html", "suite.json")
    )

    write_songs(out / "songs", songs(TEMPI_BPM))
    ran = command(context, f"run {composed} --collection {COLLECTION} {RUN}", RunSummary)
    if ran.failures:
        reasons = ", ".join(f"{failure.path}: {failure.reason}: {failure.message}" for failure in ran.failures)
        raise Internal(f"songs of the demo failed: {reasons}", reason="DEMO_FAILED")
    command(context, f"review --collection {COLLECTION} --accept checked --as {who}", type(None))
    export = f"export --collection {COLLECTION} --as {who} {SPLIT} --out {dataset}"
    exported = command(context, export, ExportDatasetResponse)
    data = f"{exported.name}@{exported.version}"

    base = command(context, f"train --dataset {data} --name {BASE} --as {who} {MAKE}", TrainingRun)
    train = f"train --base {base.model} --dataset {data} --name {TUNED} --as {who} {FINE_TUNE}"
    tuned = command(context, train, TrainingRun)
    name, _, version = tuned.model.partition("@")
    listed = context.clients.inference.ListModels(ListModelsRequest(name=name)).models
    registered = next(model for model in listed if str(model.version) == version)
    save(context.clients.store, registered.checkpoint, out / "checkpoint/model.safetensors")
    save(context.clients.store, registered.configuration, out / "checkpoint/model_config.json")

    audio = _examples(context, tuned.model, out / "audio")

    # what the name stands for now, as the promotion rule wants it: another demo was here before
    served = context.clients.inference.ListModels(ListModelsRequest(name=SERVED)).models
    other = next((model for model in served[:1] if model.digest != registered.digest), None)
    baseline = f"{SERVED}@{other.version}" if other else base.model
    _bring_taggers(context, who)
    (out / "suite.json").write_text(json_text.dumps({"name": "demo", "rows": suite()}, indent=1) + "\n")
    evaluate = (
        f"evaluate --model {tuned.model} --baseline {baseline} --suite {asked} --steps {STEPS}"
        f" --guidance-scale {GUIDANCE} --as {who} --report {report}"
    )
    judged = command(context, evaluate, Evaluation)
    promote = (
        f"promote {SERVED} --model {tuned.model} --evaluation {judged.evaluation_id} --as {who}"
        " --reason 'promoted by luthier demo'"
    )
    promoted = command(context, promote, PromoteModelResponse)
    _page(context, judged, out / "page")
    _side_by_side(context, judged, dataset, f"dataset:{data}", out)

    losses = [point.loss for point in tuned.validation]
    heard = {score.model: score.value for score in judged.scores if score.metric == METRIC}[judged.candidate]
    if losses[-1] >= losses[0]:
        text = f"validation loss did not fall: {losses[0]:.4f} -> {losses[-1]:.4f}"
        raise Internal(text, reason="DEMO_NOTHING_LEARNT")
    if heard < HEARD:
        text = f"only {heard:.0%} of the rows are heard at the tempo they ask for, not {HEARD:.0%}"
        raise Internal(text, reason="DEMO_KEEPS_NO_TEMPO")
    result = {
        "dataset": data,
        "manifest": plain(exported.manifest),
        "base": base.model,
        "run": tuned.run_id,
        "model": promoted.model,
        "audio": audio,
        "evaluation": judged.evaluation_id,
        "report": str(out / "report.html"),
        "page": str(out / "page/index.html"),
        "computed": ran.computed,
        "reused": ran.reused,
        "seconds": round(time.monotonic() - began, 1),
        "base_loss": losses[0],
        "tuned_loss": losses[-1],
        "tempo_accuracy_2": heard,
    }
    (out / "demo.json").write_text(json_text.dumps(result, indent=1) + "\n")
    computed = f"{ran.computed} actions computed" if ran.computed else "nothing was recomputed"
    rows = len(suite())
    text = (
        f"\ndone in {clock(time.monotonic() - began)}; {computed}\n"
        f"validation loss {losses[0]:.4f} -> {losses[-1]:.4f};"
        f" {round(heard * rows)} of {rows} rows are heard at the tempo they ask for\n"
        f"data set        {data}\nmodel           {promoted.model}\nreport          {out / 'report.html'}\n"
        f"to listen to    {out / 'page/index.html'}"
    )
    pages = (("curation page", context.clients.curation_page), ("generate page", context.clients.generate_page))
    context.answer(result, "\n".join([text, *(f"{name:<15} http://{address}" for name, address in pages if address)]))


def _examples(context: Context, model: str, folder: Path) -> list[dict[str, object]]:
    """A file of audio for each of EXAMPLES."""
    audio: list[dict[str, object]] = []
    for name, prompt in EXAMPLES.items():
        target = folder / f"{name}.wav"
        generate = (
            f"generate {shlex.quote(prompt)} --seconds {WINDOW_S:g} --steps {STEPS} --guidance-scale {GUIDANCE}"
            f" --seed 7 --model {model} --out {shlex.quote(str(target))}"
        )
        response = command(context, generate, GenerateResponse)
        audio.append({"file": str(target), "prompt": prompt, "audio": plain(response.audio)})
    return audio


def _bring_taggers(context: Context, who: str) -> None:
    """The weights that evaluation's packages ship, unless they are there."""
    for state in context.clients.evaluation.ListMetricWeights(ListMetricWeightsRequest()).embedders:
        if state.name in TAGGERS and not state.weights_sha256:
            command(context, f"metric-weights {state.name} --as {who}", RegisterMetricWeightsResponse)


def _side_by_side(context: Context, judged: Evaluation, dataset: str, suite_of_clips: str, out: Path) -> None:
    """Beside the evaluation: what is heard in the songs themselves, and the model on prompts of its data set."""
    who = f"--as {shlex.quote(judged.request.created_by)}"
    songs_alone = command(context, f"score {dataset} --max-rows {len(suite())} --name songs {who}", Evaluation)
    on_training = (
        f"evaluate --model {judged.candidate} --suite {suite_of_clips} --split train --max-rows {TRAINED_ROWS}"
        f" --seconds {WINDOW_S:g} --steps {STEPS} --guidance-scale {GUIDANCE} --key-by-notes {who}"
    )
    trained = command(context, on_training, Evaluation)
    compared = " ".join(each.evaluation_id for each in (judged, trained, songs_alone))
    command(context, f"compare {compared} --report {shlex.quote(str(out / 'compare.html'))}", type(None))


def _page(context: Context, judged: Evaluation, folder: Path) -> None:
    """Makes the page to listen to. Of a demo that is run again days later, whose audio has expired, the page of before
    stays."""
    try:
        command(context, f"demo-page {judged.evaluation_id} --out {shlex.quote(str(folder))}", DemoPage)
    except NotFound as error:
        if error.reason != EXPIRED:
            raise
        context.say(f"{folder} stays as it is: {error}")

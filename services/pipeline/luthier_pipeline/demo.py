"""`luthier demo`: the whole way on the songbook, by the commands that anyone can type.

It asserts only what the tiny model can learn: the validation loss on held-out songs falls below the base's, and the
sound after `seconds_total` is at least 12 dB quieter. Such a model makes no music.
"""

import array
import json as json_text
import math
import shlex
import time
import wave
from pathlib import Path
from typing import Annotated, Final

import typer

from luthier.curation.v1.curation_pb2 import ExportDatasetResponse
from luthier.evaluation.v1.evaluation_pb2 import Evaluation, PromoteModelResponse
from luthier.inference.v1.inference_pb2 import GenerateResponse, ListModelsRequest
from luthier.training.v1.training_pb2 import TrainingRun
from luthier_kit.rpc import Internal
from luthier_pipeline.console import clock, plain
from luthier_pipeline.files import save
from luthier_pipeline.nested import command
from luthier_pipeline.options import Json, Reviewer, begin
from luthier_pipeline.run import RunSummary
from luthier_pipeline.songbook import compose

COLLECTION: Final = "songbook"
BASE, TUNED, SERVED = "tiny-base", "tiny", "demo"
SEED: Final = 1  # of both trainings: the same demo on every machine
STEPS: Final = 50  # denoising steps; enough for the tiny model
STOP_S: Final = 12.0  # seconds_total of the clip that shows how the model stops
GUIDANCE: Final = 1  # off: what guidance exaggerates is little in a model this small
QUIETER_DB: Final = 12.0  # what silence comes to lies at -42 dBFS, as the tiny autoencoder decodes it
FLOOR_DB: Final = -120.0
EXAMPLES: Final = {
    "stops": "A calm piano piece in C major at 90 BPM",
    "rock": "An energetic rock track with electric guitar, bass and drums in A minor at 140 BPM",
    "jazz": "A mellow jazz piece with piano, bass and drums in F major at 110 BPM",
}
SPLIT: Final = "--validation-share 0.25 --test-share 0"
FINE_TUNE: Final = (
    "--steps 1000 --batch-size 8 --learning-rate 0.001 --warmup 20 --min-excerpt 3"
    f" --validate-every 100 --checkpoint-every 100 --ema-decay 0.99 --seed {SEED}"
)


def demo(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the results go.")] = Path("demo"),
    reviewer: Reviewer = "demo",
    json: Json = False,
) -> None:
    """Compose twelve songs and take them all the way to a report: run, review, export, train, generate, evaluate,
    promote."""
    context, began = begin(ctx, json), time.monotonic()
    who = shlex.quote(reviewer)
    songbook, dataset, report = (shlex.quote(str(out / name)) for name in ("songbook", "dataset", "report.html"))

    compose(out / "songbook")
    ran = command(context, f"run {songbook} --collection {COLLECTION} --licence Apache-2.0", RunSummary)
    if ran.failures:
        reasons = ", ".join(f"{failure.path}: {failure.reason}: {failure.message}" for failure in ran.failures)
        raise Internal(f"songs of the songbook failed: {reasons}", reason="DEMO_FAILED")
    command(context, f"review --collection {COLLECTION} --accept checked --as {who}", type(None))
    export = f"export --collection {COLLECTION} --as {who} {SPLIT} --out {dataset}"
    exported = command(context, export, ExportDatasetResponse)
    data = f"{exported.name}@{exported.version}"

    train = f"train --tiny-base --dataset {data} --name {BASE} --seed {SEED} --as {who}"
    base = command(context, train, TrainingRun)
    train = f"train --base {base.model} --dataset {data} --name {TUNED} --as {who} {FINE_TUNE}"
    tuned = command(context, train, TrainingRun)
    name, _, version = tuned.model.partition("@")
    listed = context.clients.inference.ListModels(ListModelsRequest(name=name)).models
    registered = next(model for model in listed if str(model.version) == version)
    save(context.clients.store, registered.checkpoint, out / "checkpoint/model.safetensors")
    save(context.clients.store, registered.configuration, out / "checkpoint/model_config.json")

    audio = []
    for name, prompt in EXAMPLES.items():
        target = out / f"audio/{name}.wav"
        generate = (
            f"generate {shlex.quote(prompt)} --seconds {STOP_S:g} --steps {STEPS} --seed 7 --model {tuned.model}"
            f" {'--untrimmed ' if name == 'stops' else ''}--guidance-scale {GUIDANCE} --out {shlex.quote(str(target))}"
        )
        response = command(context, generate, GenerateResponse)
        audio.append({"file": str(target), "prompt": prompt, "audio": plain(response.audio)})

    evaluate = (
        f"evaluate --model {tuned.model} --baseline {base.model} --suite quick --max-rows 8 --seconds {STOP_S:g}"
        f" --steps {STEPS} --guidance-scale {GUIDANCE} --as {who} --report {report}"
    )
    judged = command(context, evaluate, Evaluation)
    promote = (
        f"promote {SERVED} --model {tuned.model} --evaluation {judged.evaluation_id} --as {who}"
        " --reason 'promoted by luthier demo'"
    )
    promoted = command(context, promote, PromoteModelResponse)

    losses = [point.loss for point in tuned.validation]
    stops = out / "audio/stops.wav"
    drop_db = level_dbfs(stops, 0, STOP_S) - level_dbfs(stops, STOP_S)
    if losses[-1] >= losses[0]:
        text = f"validation loss did not fall: {losses[0]:.4f} -> {losses[-1]:.4f}"
        raise Internal(text, reason="DEMO_NOTHING_LEARNT")
    if drop_db < QUIETER_DB:
        text = f"the sound after {STOP_S:g} s is only {drop_db:.1f} dB quieter, not {QUIETER_DB:g}"
        raise Internal(text, reason="DEMO_DOES_NOT_STOP")
    result = {
        "dataset": data,
        "manifest": plain(exported.manifest),
        "base": base.model,
        "run": tuned.run_id,
        "model": promoted.model,
        "audio": audio,
        "evaluation": judged.evaluation_id,
        "report": str(out / "report.html"),
        "computed": ran.computed,
        "reused": ran.reused,
        "seconds": round(time.monotonic() - began, 1),
        "base_loss": losses[0],
        "tuned_loss": losses[-1],
        "quieter_after_end_db": round(drop_db, 1),
    }
    (out / "demo.json").write_text(json_text.dumps(result, indent=1) + "\n")
    computed = f"{ran.computed} actions computed" if ran.computed else "nothing was recomputed"
    text = (
        f"\ndone in {clock(time.monotonic() - began)}; {computed}\n"
        f"validation loss {losses[0]:.4f} -> {losses[-1]:.4f}; {drop_db:.0f} dB quieter after the end\n"
        f"data set        {data}\nmodel           {promoted.model}\nreport          {out / 'report.html'}"
    )
    page = context.clients.curation_page
    context.answer(result, f"{text}\ncuration page   http://{page}" if page else text)


def level_dbfs(path: Path, start_s: float, end_s: float | None = None) -> float:
    """RMS level in dBFS over all channels of a span of a 16-bit WAV file; silence and an empty span are FLOOR_DB."""
    with wave.open(str(path)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        samples = array.array("h", file.readframes(file.getnframes()))
    last = None if end_s is None else round(end_s * rate) * channels
    span = samples[round(start_s * rate) * channels : last]
    power = sum(sample * sample for sample in span) / len(span) / 32768**2 if span else 0.0
    return max(FLOOR_DB, 10 * math.log10(power)) if power else FLOOR_DB

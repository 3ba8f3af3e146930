"""register, models, train, generate: from a data set to audio."""

import time
from pathlib import Path
from typing import Any

from luthier.inference.v1 import inference_pb2 as inference
from luthier.training.v1 import training_pb2 as training
from luthier_kit.errors import Cancelled, InvalidRequest, Unavailable
from luthier_kit.statuses import from_proto
from luthier_kit.telemetry import new_request_id
from luthier_pipeline.commands.context import PATIENCE_S, Context, UsageError
from luthier_pipeline.commands.identity import begin
from luthier_pipeline.commands.watching import watch
from luthier_pipeline.progress import Progress, clock
from luthier_pipeline.resources import dataset, plain, put, save, table

TEXT_ENCODER_ENDINGS = (".json", ".model", ".safetensors")
FORMATS = {".flac": inference.OUTPUT_FORMAT_FLAC, ".wav": inference.OUTPUT_FORMAT_WAV}


def register(context: Context) -> None:
    """Brings an operator's weights; safetensors only."""
    arguments, store = context.arguments, context.place.store
    if Path(arguments.weights).suffix != ".safetensors":
        bound = f"must be a .safetensors file, got {arguments.weights}"
        raise InvalidRequest(reason="SAFETENSORS_ONLY", violations=[("--weights", bound)])
    request = inference.RegisterModelRequest(
        name=arguments.name,
        checkpoint=put(store, "checkpoints", Path(arguments.weights), "application/octet-stream"),
        configuration=put(store, "configurations", Path(arguments.config), "application/json"),
        registered_by=arguments.reviewer,
        reason=arguments.reason,
    )
    for path in _text_encoder(arguments.text_encoder):
        file = put(store, "text-encoders", path, "application/octet-stream")
        request.text_encoder.add(name=path.name, file=file)
    answer = context.place["inference"].call("RegisterModel", request, timeout_s=600, patience_s=PATIENCE_S)
    model = answer.model
    context.answer(
        {"model": f"{model.name}@{model.version}", "digest": model.digest, **plain(answer)},
        f"registered {model.name}@{model.version} {model.digest}",
    )


def _text_encoder(folder: str) -> list[Path]:
    """What a text encoder is loaded from; a hub folder also holds pickles and other frameworks' weights."""
    if not folder:
        return []
    if not Path(folder).is_dir():
        raise UsageError(f"--text-encoder must be a folder, got {folder}")
    return sorted(path for path in Path(folder).iterdir() if path.suffix in TEXT_ENCODER_ENDINGS and path.is_file())


def models(context: Context) -> None:
    """Lists the registered model versions."""
    answer = context.place["inference"].call("ListModels", inference.ListModelsRequest(), patience_s=PATIENCE_S)
    rows = [
        [f"{m.name}@{m.version}", m.digest[:19], f"{m.window_s:.1f} s", "yes" if m.loaded else "no", m.reason]
        for m in answer.models
    ]
    context.answer(plain(answer), table(rows, ["model", "digest", "window", "loaded", "why"]))


def train(context: Context) -> None:
    """Fine-tunes a base model on a data set, or makes the tiny base; the same arguments are the same run."""
    arguments = context.arguments
    manifest, version = dataset(context.place.store, arguments.dataset)
    request = training.CreateTrainingRunRequest(
        dataset=manifest, model_name=arguments.name, created_by=arguments.reviewer
    )
    if arguments.seed is not None:
        request.seed = arguments.seed
    _recipe(request, context)
    request.request_id = arguments.request_id
    client, store = context.place["training"], context.place.store
    run = begin(
        request,
        store,
        [arguments.base],
        lambda asked: client.call("CreateTrainingRun", asked, patience_s=PATIENCE_S).run,
    )
    context.say(f"training run {run.run_id[:12]}: {arguments.name} on {version}")
    try:
        run = watch(client, "Training", "run", run, _shown)
    except KeyboardInterrupt:
        context.say("the run goes on in the training service; the same command follows it again")
        raise
    if run.state != training.RUN_STATE_SUCCEEDED:
        raise from_proto(run.error) if run.HasField("error") else Cancelled("the run was cancelled")
    losses = [point.loss for point in run.validation]
    told = f"validation loss {losses[0]:.4f} -> {losses[-1]:.4f}" if losses else ""
    context.answer({"run": run.run_id, "model": run.model, **plain(run)}, f"model {run.model}  {told}".rstrip())


def generate(context: Context) -> None:
    """Generates audio into a file, with progress per step."""
    arguments = context.arguments
    target = Path(arguments.out)
    if target.suffix.lower() not in FORMATS:
        bound = f"must end in {' or '.join(FORMATS)}, got {arguments.out}"
        raise InvalidRequest(reason="OUTPUT_FORMAT", violations=[("--out", bound)])
    request = generate_request(context, FORMATS[target.suffix.lower()])
    request.request_id = request.request_id or new_request_id()  # a retry is then the same request
    response = _streamed(context, request)
    save(context.place.store, response.audio, target)
    seconds = response.samples / response.sample_rate_hz
    context.answer(
        {"file": str(target), **plain(response)},
        f"{target}: {clock(seconds)} by {response.model}, seed {response.seed}, {response.steps} steps",
    )


def generate_request(context: Context, output_format: Any) -> inference.GenerateRequest:
    """The request that the arguments stand for."""
    arguments = context.arguments
    request = inference.GenerateRequest(
        prompt=arguments.prompt,
        negative_prompt=arguments.negative_prompt,
        model=arguments.model or _default_model(context),
        sampler=arguments.sampler,
        output_format=output_format,
        steps=arguments.steps,
        untrimmed=arguments.untrimmed,
    )
    for field, value in (
        ("seconds_total", arguments.seconds),
        ("seed", arguments.seed),
        ("guidance_scale", arguments.guidance_scale),
    ):
        if value is not None:
            setattr(request, field, value)
    return request


def _default_model(context: Context) -> str:
    """What to ask for when no model is named: empty where the server has a default of its own or no model at all."""
    answer = context.place["inference"].call("ListModels", inference.ListModelsRequest(), patience_s=PATIENCE_S)
    if answer.default_model or not answer.models:
        return ""
    newest = max(answer.models, key=lambda m: (bool(m.evaluation_id), m.created_at.ToNanoseconds()))
    return f"{newest.name}@{newest.version}"


def _streamed(context: Context, request: inference.GenerateRequest) -> inference.GenerateResponse:
    """The response, with progress on the way; a server that dies in the middle is asked again."""
    stream, give_up = inference.StreamGenerateRequest(request=request), time.monotonic() + PATIENCE_S
    while True:
        progress, response = Progress("steps", request.steps), None
        try:
            for message in context.place["inference"].stream("StreamGenerate", stream, patience_s=PATIENCE_S):
                if message.HasField("response"):
                    response = message.response  # the audio follows: a stream left before its end counts as cancelled
                elif response is None:
                    progress.advance()
        except Unavailable:
            if response is None and time.monotonic() > give_up:
                raise
            time.sleep(0 if response else 0.5)
        if response is not None:
            if progress.done:
                progress.finish()
            return response


def _recipe(request: training.CreateTrainingRunRequest, context: Context) -> None:
    arguments = context.arguments
    if arguments.tiny_base:
        request.tiny_base.SetInParent()
        chosen: Any = request.tiny_base
        given = {"autoencoder_steps": arguments.steps, "batch_size": arguments.batch_size}
    else:
        request.fine_tune.base_model = arguments.base
        chosen = request.fine_tune
        given = {
            "steps": arguments.steps,
            "batch_size": arguments.batch_size,
            "learning_rate": arguments.learning_rate,
            "min_excerpt_s": arguments.min_excerpt,
            "warmup_steps": arguments.warmup,
            "ema_decay": arguments.ema_decay,
            "validate_every": arguments.validate_every,
            "checkpoint_every": arguments.checkpoint_every,
        }
    for field, value in given.items():
        if value is not None:
            setattr(chosen, field, value)


def _shown(run: training.TrainingRun) -> tuple[str, int, int, str]:
    note = f"loss {run.loss:.4f}" if run.HasField("loss") else ""
    if run.validation:
        note += f", validation {run.validation[-1].loss:.4f}"
    return run.stage or "waiting", run.done, run.total, note

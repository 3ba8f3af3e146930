"""register, models, generate, promote: model versions and the audio that they make."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from luthier.common.v1.common_pb2 import Span
from luthier.evaluation.v1.evaluation_pb2 import PromoteModelRequest, PromoteModelResponse
from luthier.inference.v1.inference_pb2 import (
    CREDENTIALS_STATE_FORMAT_HOLDS_NONE,
    CREDENTIALS_STATE_OFF,
    CREDENTIALS_STATE_SIGNED,
    CREDENTIALS_STATE_SIGNED_FOR_DEVELOPMENT,
    OUTPUT_FORMAT_FLAC,
    OUTPUT_FORMAT_FLAC_24,
    OUTPUT_FORMAT_MP3,
    OUTPUT_FORMAT_OGG_OPUS,
    OUTPUT_FORMAT_OGG_VORBIS,
    OUTPUT_FORMAT_WAV,
    OUTPUT_FORMAT_WAV_24,
    OUTPUT_FORMAT_WAV_FLOAT,
    GenerateRequest,
    GenerateResponse,
    GenerationTry,
    ListModelsRequest,
    MusicFields,
    ObeyedField,
    OutputFormat,
    Precision,
    RegisterModelRequest,
    StreamGenerateRequest,
)
from luthier_kit.rpc import InvalidRequest, Unavailable, new_request_id, retry_policy
from luthier_pipeline.adapters import adapters_of
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import Progress, UsageError, clock, plain, table
from luthier_pipeline.files import put, save
from luthier_pipeline.options import USER, Json, Reviewer, begin

REGISTER_TIMEOUT_S: Final = 600.0
FIRST_PAUSE_S: Final = 0.5  # before a server that broke off is asked again
TEXT_ENCODER_FILES: Final = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""What inference loads a text encoder from; a hub folder also holds pickles, other frameworks' weights and the
tokenizer once more."""
PRECISIONS: Final = {
    "float32": Precision.PRECISION_FLOAT32,
    "bfloat16": Precision.PRECISION_BFLOAT16,
    "int8": Precision.PRECISION_INT8,
}
FORMATS: Final = {
    (".flac", "16"): OUTPUT_FORMAT_FLAC,
    (".flac", "24"): OUTPUT_FORMAT_FLAC_24,
    (".wav", "16"): OUTPUT_FORMAT_WAV,
    (".wav", "24"): OUTPUT_FORMAT_WAV_24,
    (".wav", "float"): OUTPUT_FORMAT_WAV_FLOAT,
    (".ogg", ""): OUTPUT_FORMAT_OGG_VORBIS,
    (".opus", ""): OUTPUT_FORMAT_OGG_OPUS,
    (".mp3", ""): OUTPUT_FORMAT_MP3,
}
"""By the ending of a file and the bits of a sample; lossy formats have none."""
SUFFIXES: Final = tuple(dict.fromkeys(suffix for suffix, _ in FORMATS))


def register(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")],
    weights: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="Weights.")],
    config: Annotated[Path, typer.Option(metavar="FILE.json", help="stable-audio-tools model configuration.")],
    text_encoder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of T5, or of CLAP's text encoder; default: the server's."),
    ] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, kept with the version.")] = (
        "registered by an operator"
    ),
    reviewer: Reviewer = USER,
    json: Json = False,
) -> None:
    """Bring weights of your own, e.g. Stable Audio Open. safetensors only."""
    context = begin(ctx, json)
    store = context.clients.store
    if weights.suffix != ".safetensors":
        bound = f"must be a .safetensors file, got {weights}: luthier convert-checkpoint makes one of a .ckpt"
        raise InvalidRequest(reason="SAFETENSORS_ONLY", violations=[("--weights", bound)])
    if text_encoder and not text_encoder.is_dir():
        raise UsageError(f"--text-encoder must be a folder, got {text_encoder}")
    request = RegisterModelRequest(
        name=name,
        checkpoint=put(store, "checkpoints", weights, "application/octet-stream"),
        configuration=put(store, "configurations", config, "application/json"),
        registered_by=reviewer,
        reason=reason,
    )
    for path in sorted(text_encoder.iterdir()) if text_encoder else ():
        if path.name in TEXT_ENCODER_FILES and path.is_file():
            request.text_encoder.add(name=path.name, file=put(store, "text-encoders", path, "application/octet-stream"))
    answer = context.clients.inference.RegisterModel(request, timeout=REGISTER_TIMEOUT_S)
    label = f"{answer.model.name}@{answer.model.version}"
    document = {"model": label, "digest": answer.model.digest, **plain(answer)}
    context.answer(document, f"registered {label} {answer.model.digest}")


def models(ctx: typer.Context, json: Json = False) -> None:
    """List registered model versions."""
    context = begin(ctx, json)
    answer = context.clients.inference.ListModels(ListModelsRequest())
    rows = [
        [
            f"{model.name}@{model.version}",
            model.digest[:19],
            f"{model.window_s:.1f} s",
            "yes" if model.loaded else "no",
            "yes" if model.HasField("card") else "no",
            adapters_of(model),
            f"by force: {model.reason}" if model.overruled else model.reason,
        ]
        for model in answer.models
    ]
    context.answer(plain(answer), table(rows, ["model", "digest", "window", "loaded", "card", "adapter", "why"]))


def generate(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the audio goes: .flac, .wav, .ogg, .opus or .mp3.")],
    prompt: Annotated[
        str,
        typer.Argument(
            metavar="[PROMPT]",
            help="What to hear. The options of music complete it, or stand alone; one that says otherwise is refused.",
            show_default=False,
        ),
    ] = "",
    tempo: Annotated[
        float | None, typer.Option(metavar="BPM", help="Tempo in beats of the meter, 20 to 400; default: any.")
    ] = None,
    key: Annotated[str, typer.Option(metavar="KEY", help="e.g. 'F# minor', 'Bb major'; default: any.")] = "",
    meter: Annotated[str, typer.Option(metavar="N/D", help="e.g. 3/4; default: any.")] = "",
    bars: Annotated[
        int | None, typer.Option(help="Length in bars, in place of --seconds; needs --tempo and --meter.")
    ] = None,
    instrument: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="e.g. piano, 'jazz guitar', drums; may be given again, at most 5."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Length; default: the model's window.")] = None,
    best_of: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Try seeds, at most so many (16), until analysis hears --tempo and --key; else the best of them.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 100,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            help="Default: drawn from the request id. May be given again: as many pieces are made at once, the second "
            "and further ones into files of their own, NAME-SEED.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="name, name@n or sha256:…, and adapters over it: name+jazz@2:0.8; default: the server's, else what "
            "was promoted last, else the newest.",
            show_default=False,
        ),
    ] = "",
    negative_prompt: Annotated[str, typer.Option(metavar="TEXT", help="What not to hear.")] = "",
    guidance_scale: Annotated[float | None, typer.Option(help="0 to 50, 1 = off; default: the model's.")] = None,
    sampler: Annotated[str, typer.Option(help="Default: the model's.")] = "",
    guidance_from: Annotated[
        float | None, typer.Option(help="Guide only where the noise's amplitude is at least this, 0 to 1; default: 0.")
    ] = None,
    guidance_to: Annotated[float | None, typer.Option(help="And at most this, 0 to 1; default: 1.")] = None,
    init_audio: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Audio to start from; any that libsndfile reads.")
    ] = None,
    init_noise_level: Annotated[
        float | None, typer.Option(help="Noise added to it, the more the less is left of it; default: the model's.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="START-END",
            help="Seconds of --init-audio that stay, the rest is made anew; may be given again. 0-10 goes on from the "
            "first ten. Only of models that fill in.",
        ),
    ] = None,
    bits: Annotated[str, typer.Option(metavar="16|24|float", help="Of .wav and, but for float, .flac.")] = "16",
    loudness: Annotated[
        float | None, typer.Option(metavar="LUFS", help="Bring it to this loudness, -40 to -5; default: as it is.")
    ] = None,
    true_peak: Annotated[
        float | None, typer.Option(metavar="DBTP", help="Leave its true peak below this, -20 to 0; default: no limit.")
    ] = None,
    untrimmed: Annotated[bool, typer.Option("--untrimmed", help="Keep the whole window, to see how it stops.")] = False,
    fit_window: Annotated[
        bool, typer.Option("--fit-window", help="Denoise no more than --seconds: sooner, and other audio.")
    ] = False,
    precision: Annotated[
        str,
        typer.Option(
            metavar="float32|bfloat16|int8",
            help="Of the transformer; the smaller the sooner, where the device can; default: the server's.",
            show_default=False,
        ),
    ] = "",
    json: Json = False,
) -> GenerateResponse:
    """Generate audio into a file."""
    context = begin(ctx, json)
    output_format, kept, seeds = _format_of(out, bits), [_kept(each) for each in keep or ()], seed or []
    asked_precision = _precision_of(precision)
    if init_audio is None and (kept or init_noise_level is not None):
        raise UsageError("--keep and --init-noise-level are of audio to start from: name it by --init-audio FILE")
    store = context.clients.store  # one that is not there is said before minutes of work
    request = GenerateRequest(
        prompt=prompt,
        negative_prompt=negative_prompt,
        model=model or default_model(context.clients),
        music=_music(tempo, key, meter, bars, instrument or ()),
        seconds_total=seconds,
        seed=seeds[0] if len(seeds) == 1 else None,
        seeds=seeds if len(seeds) > 1 else (),
        best_of=best_of,
        guidance_scale=guidance_scale,
        sampler=sampler,
        output_format=output_format,
        guidance_from=guidance_from,
        guidance_to=guidance_to,
        init_audio=put(store, "audio", init_audio, "application/octet-stream") if init_audio else None,
        init_noise_level=init_noise_level,
        keep=kept,
        loudness_target_lufs=loudness,
        true_peak_limit_dbtp=true_peak,
        steps=steps,
        untrimmed=untrimmed,
        fit_window=fit_window,
        precision=asked_precision,
        request_id=new_request_id(),  # asked again on another server it is the same request
    )
    response = _streamed(context.clients, request)
    save(store, response.audio, out)
    others = {out.with_stem(f"{out.stem}-{other.seed}"): other for other in response.others}
    for path, other in others.items():
        save(store, other.audio, path)
    length_s = response.samples / response.sample_rate_hz
    for advice in response.advice:
        known = f"; it knows {', '.join(advice.near)}" if advice.near else ""
        heard = f"{advice.heard_s / 60:.1f} min"
        when = "fine-tuning (what its base heard is not recorded)" if advice.base_unknown else "training"
        context.say(f"{response.model} heard {heard} of the {advice.subject} {advice.asked} in {when}{known}")
    notes = [
        f"kept {', '.join(f'{span.start_s:.2f} to {span.end_s:.2f} s' for span in response.kept)}" if kept else "",
        f"{response.loudness_lufs:.1f} LUFS, {response.true_peak_dbtp:.1f} dBTP after {response.gain_db:+.1f} dB"
        if response.HasField("loudness_lufs")
        else "",
        f"{response.window_s:.2f} s were denoised" if fit_window else "",
        f"in {precision}" if precision else "",
    ]
    text = [f"{out}: {clock(length_s)} by {response.model}, seed {response.seed}, {response.steps} steps"]
    if marked := _MARKED.get(response.marks.credentials):
        text.append(marked.format(response.marks.credentials_issuer))
    text += [f"prompt: {response.prompt}"] if response.HasField("music") else []
    text += [_heard(response.heard)] if response.heard else []
    for path, other in others.items():
        text += [f"{path}: {clock(length_s)}, seed {other.seed}", *([_heard(other.heard)] if other.heard else [])]
    if response.tries:
        text += [f"the best of {len(response.tries)} tries, of at most {response.best_of}:", _tries(response.tries)]
    context.answer({"file": str(out), **plain(response)}, "\n".join(text + [note for note in notes if note]))
    return response


def _precision_of(name: str) -> Precision:
    """The server's own without a name."""
    if name and name not in PRECISIONS:
        bound = f"must be one of {', '.join(PRECISIONS)}, got {name[:40]!r}"
        raise InvalidRequest(violations=[("--precision", bound)])
    return PRECISIONS.get(name, Precision.PRECISION_UNSPECIFIED)


def _music(
    tempo: float | None, key: str, meter: str, bars: int | None, instruments: Sequence[str]
) -> MusicFields | None:
    """None where no option of music is given."""
    music = MusicFields(tempo_bpm=tempo, key=key, meter=meter, bars=bars, instruments=instruments)
    return music if music.ByteSize() else None


_MARKED: Final = {
    CREDENTIALS_STATE_SIGNED: "with content credentials of {}",
    CREDENTIALS_STATE_SIGNED_FOR_DEVELOPMENT: "with content credentials for development, which no reader trusts",
    CREDENTIALS_STATE_FORMAT_HOLDS_NONE: "without content credentials: the format cannot hold them",
    CREDENTIALS_STATE_OFF: "without content credentials: the operator switched them off",
}


def _heard(fields: Sequence[ObeyedField]) -> str:
    """A table of what was asked for and what was heard."""
    rows = [
        [
            one.field,
            one.asked,
            one.heard or "-",
            ("yes" if one.obeyed else "no") if one.HasField("obeyed") else "-",
            one.note or one.estimator,
        ]
        for one in fields
    ]
    return table(rows, ["field", "asked", "heard", "obeyed", "how"])


def _tries(tries: Sequence[GenerationTry]) -> str:
    """A table of seeds and what was heard of each."""
    fields = [one.field for one in tries[0].heard if any(field.HasField("obeyed") for field in _of(tries, one.field))]
    rows = [
        [str(one.seed), *(_of([one], field)[0].heard or "-" for field in fields), "yes" if one.chosen else ""]
        for one in tries
    ]
    return table(rows, ["seed", *fields, "chosen"])


def _of(tries: Sequence[GenerationTry], field: str) -> list[ObeyedField]:
    return [heard for one in tries for heard in one.heard if heard.field == field]


def _format_of(out: Path, bits: str) -> OutputFormat:
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        bound = f"must end in {', '.join(SUFFIXES)}, got {out}"
        raise InvalidRequest(reason="OUTPUT_FORMAT", violations=[("--out", bound)])
    if (found := FORMATS.get((suffix, ""), FORMATS.get((suffix, bits)))) is None:
        known = ", ".join(of for ending, of in FORMATS if ending == suffix)
        raise InvalidRequest(reason="OUTPUT_FORMAT", violations=[("--bits", f"of {suffix} {known}, got {bits}")])
    return found


def _kept(text: str) -> Span:
    """Of START-END, seconds."""
    start, dash, end = text.partition("-")
    try:
        span = Span(start_s=float(start), end_s=float(end))
    except ValueError:
        dash = ""
    if not dash:
        raise UsageError(f"--keep must be START-END in seconds, e.g. 0-10, got {text[:40]!r}")
    return span


def default_model(clients: Clients) -> str:
    """What to ask for when no model is named: what was promoted last, else the newest.

    Empty where the server has a default of its own or no model at all.
    """
    answer = clients.inference.ListModels(ListModelsRequest())
    if answer.default_model or not answer.models:
        return ""
    newest = max(answer.models, key=lambda model: (bool(model.evaluation_id), model.created_at.ToNanoseconds()))
    return f"{newest.name}@{newest.version}"


def _streamed(clients: Clients, request: GenerateRequest) -> GenerateResponse:
    """The response, with progress on the way; a server that breaks off is asked again."""

    def ask() -> GenerateResponse:
        response: GenerateResponse | None = None
        with Progress("steps", request.steps * max(1, len(request.seeds), request.best_of)) as progress:
            try:
                for message in clients.inference.StreamGenerate(StreamGenerateRequest(request=request)):
                    if message.HasField("response"):
                        response = message.response
                    elif response is None:
                        told = message.progress
                        before = max(0, told.try_number - 1) * request.steps
                        note = f"try {told.try_number} of at most {request.best_of}" if told.try_number else ""
                        for _ in range(before + told.step - progress.done):
                            progress.advance(note=note)
                    # after it comes the audio: a stream that is left before its end counts as cancelled
            except Unavailable:
                if response is None:
                    raise
        if response is None:
            raise Unavailable("the stream ended without a response", reason="STREAM_CUT")
        return response

    return retry_policy(clients.retry_budget_s, Unavailable, first_s=FIRST_PAUSE_S)(ask)


def promote(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name whose current version it becomes.")],
    model: Annotated[str, typer.Option(metavar="NAME@N|sha256:…", help="The version; an older one is a rollback.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, kept with the version.")],
    evaluation: Annotated[str, typer.Option(metavar="ID", help="Evaluation that speaks for it.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Without an evaluation or against the rule.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say what the promotion rule makes of it.")] = False,
    reviewer: Reviewer = USER,
    json: Json = False,
) -> PromoteModelResponse:
    """Make a model version the current one of a name, or roll back. What the rule makes of it is told clause by
    clause."""
    context = begin(ctx, json)
    request = PromoteModelRequest(
        name=name, model=model, evaluation_id=evaluation, promoted_by=reviewer, reason=reason, force=force,
        check_only=check,
    )  # fmt: skip
    answer = context.clients.evaluation.PromoteModel(request)
    rows = [["yes" if clause.holds else "no", clause.name, clause.figure] for clause in answer.clauses]
    text = [table(rows, ["holds", f"clause of the rule {answer.rule}", "figure"])] if rows else []
    same = " (it already was)" if answer.unchanged else ""
    missing = sum(not clause.holds for clause in answer.clauses)
    if check:
        text += [
            f"{answer.model} would not be promoted: {missing} do not hold"
            if missing
            else f"{answer.model} may be promoted"
        ]
    else:
        text += [f"{name} is now {answer.model} {answer.model_digest}{same}"]
        text += [f"by force, against {missing} of the rule's clauses: that stays in the version"] if missing else []
    context.answer(plain(answer), "\n".join(text))
    return answer

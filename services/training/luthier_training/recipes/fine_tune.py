"""Fine-tunes a base model version on a frozen data set: fetch, encode, train, export.

The objective is the base's own: the transformer predicts `v` (Salimans 2022) of noised latents, as Stable Audio Open
does (Evans 2024), or the velocity of a rectified flow. Some clips are trained without their conditions, for
classifier-free guidance. The loss covers the silence behind a clip: that is how the model learns to stop.
"""

import functools
import json
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final

import torch
from ema_pytorch import EMA
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier.training.v1.training_pb2 import FineTune, LossPoint
from luthier_kit.registry import ModelVersion, resolve
from luthier_kit.rpc import FailedPrecondition, InvalidRequest
from luthier_model import checkpoint
from luthier_model.conditions import SECONDS_START
from luthier_model.configuration import Configuration
from luthier_model.errors import WeightsError
from luthier_model.generation import kept_inputs
from luthier_model.guidance import GUIDED_KEYS
from luthier_model.network import without_conditions
from luthier_model.objectives import OBJECTIVES, Objective
from luthier_model.registered import fetch_configuration, statuses
from luthier_training import adapters, continuing, kept, memory
from luthier_training.ahead import Beside, ahead
from luthier_training.base_model import BaseModel
from luthier_training.checkpoints import Progress, Trained
from luthier_training.encoding import encode
from luthier_training.examples import Batch, Example, LogitNormal, draw_batch, mixture_of
from luthier_training.families import as_trained, recomputing
from luthier_training.gradients import Gradients
from luthier_training.held_out import HeldOut
from luthier_training.job import Job
from luthier_training.model_card import card_of_run
from luthier_training.observations import Observer, prompts_to_sample
from luthier_training.optimizer import adamw
from luthier_training.pending import OneStepLate, Pending
from luthier_training.plan import Stage, plan_of, read_data
from luthier_training.ranks import ALONE, BATCH_FIELD, Ranks
from luthier_training.reporting import Stopped
from luthier_training.resuming import choose_export, continued, newest
from luthier_training.seeds import seed_of
from luthier_training.snapshots import Snapshot
from luthier_training.training_window import with_window

WEIGHT_DECAY, BETAS = 1e-3, (0.9, 0.999)
"""As Stable Audio Open was trained (Evans 2024)."""
FINAL_RATE = 0.02
"""Share of the peak learning rate that is left at the last step."""
MAX_GRADIENT_NORM = 1.0
AVERAGE_POWER = 3 / 4
"""The moving average's decay is 1 - (1 + step)^-power until it reaches `ema_decay`, as in stable-audio-tools."""
VALIDATION_TIMESTEPS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The library's own choice: from nearly clean (0) to nearly noise (1)."""
CARD_KIND = "model-cards"
"""Of blobs."""
MAX_POINTS = 1000
"""Training losses kept of a run, as `TrainingRun.training` promises."""
RowLosses = Callable[[torch.Tensor, torch.Tensor], None]
"""Takes the timesteps of rows and their losses, (batch,) each."""


def run(job: Job) -> ModelVersion:
    """The version to register. Raises Stopped, too, when another rank registers it."""
    plan, recipe, noted = plan_of(job.request), job.request.fine_tune, job.reporter.progress
    for stage in plan.stages:  # refuses before the work
        job.ranks.rows(stage.batch_size, f"fine_tune.stages[{stage.number}].batch_size" if stage.name else BATCH_FIELD)
    job.reporter.stage("fetch")
    datasets = read_data(job.store, plan)
    version = resolve(job.store, noted.base or recipe.base_model)
    noted.base = version.label  # whatever the name means when another runner goes on
    if recipe.HasField("continue_from"):
        continuing.begin(job.store, recipe.continue_from, noted)
    with statuses(version):
        known = with_window(fetch_configuration(job.store, version.configuration), recipe)
    recompute = memory.choose(job, known, version, COMPUTATION)  # refuses before anything is loaded
    base = BaseModel.open(job.store, version, job.device, job.folder("base")).at_window(known)
    if recipe.windows_per_clip and SECONDS_START not in base.configuration.seconds:
        bound = f"must be absent: {version.label} is not told where in a song a sound begins"
        raise InvalidRequest(violations=[("fine_tune.windows_per_clip", bound)])
    if recipe.HasField("adapter"):
        adapters.choose(base.model, recipe.adapter)  # refuses before the work
    job.choose_threads(sum(parameter.numel() for parameter in base.model.parameters()))

    train, held_out = encode(job, base, *datasets)
    prompts = prompts_to_sample(recipe, job.request.seed, held_out, base.configuration)
    observer = Observer(job, base.model, base.configuration, prompts)
    with observer.kept():
        trained, progress = fit(job, base.model, train, held_out, known, observer, recompute=recompute)
    job.ranks.close()
    if job.ranks.rank:
        raise Stopped

    job.reporter.stage("export")
    version = export(job, base, datasets, trained, progress)
    job.reporter.forget_previous_checkpoint()
    kept.remove_unnamed(job.store, job.run_id, job.reporter.progress)
    return version


def prepare(model: ConditionedDiffusionModelWrapper, recipe: FineTune, seed: int = 0) -> Trained:
    """What is trained and how: transformer and conditioners (seconds embedders, projections), not the autoencoder; of a
    run with an adapter the adapter alone, whose first values follow from the seed.
    """
    adapter = adapters.insert(model, recipe.adapter, seed) if recipe.HasField("adapter") else None
    model.train()
    if adapter is None:
        model.requires_grad_(True)
    model.pretransform.eval().requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = adamw(parameters, recipe.learning_rate, BETAS, WEIGHT_DECAY)
    average = None
    if recipe.ema_decay:
        options = {"beta": recipe.ema_decay, "power": AVERAGE_POWER, "update_every": 1, "update_after_step": 1}
        changed = adapter.weights if adapter else model.model
        average = EMA(changed, include_online_model=False, **options)
    return Trained(model, average, optimizer, Gradients(parameters), adapter)


def fit(
    job: Job,
    model: ConditionedDiffusionModelWrapper,
    train: Sequence[Example],
    held_out: Sequence[Example],
    known: Configuration,
    observer: Observer,
    *,
    recompute: bool = False,
) -> tuple[Trained, Progress]:
    """Trains from the newest checkpoint, else from the base, to the last step.

    Stores a checkpoint every `checkpoint_every` steps, at the end of each stage, where it is kept for another reason,
    and before it raises Stopped because the run should stop. Raises FailedPrecondition TRAINING_DIVERGED when a loss or
    the gradient is not finite: no checkpoint is stored after that.
    """
    recipe, ranks, reporter, plan = job.request.fine_tune, job.ranks, job.reporter, plan_of(job.request)
    clips = HeldOut(held_out, continuing.names_of(job.store, plan))
    trained = prepare(model, recipe, job.request.seed)
    progress = resumed(job, trained)
    observer.resume(progress.step)

    def note(step: Pending) -> bool:
        """Notes the numbers of a step, TRAINING_DIVERGED unless they are finite; whether any rank should stop."""
        loss, stopping, norm = step.read()
        check_finite("loss", loss, step.step)
        check_finite("gradient's norm", norm, step.step)
        progress.training = thinned([*progress.training, LossPoint(step=step.step, loss=loss)])
        reporter.progress.loss = loss
        observer.step(step.step, loss=loss, learning_rate=step.learning_rate, gradient_norm=norm)
        return stopping > 0

    clips.note(progress, reporter.progress)
    reporter.stage("train", plan.steps, done=progress.step)
    if not progress.validation:
        validate(job, trained, progress, clips, observer)
        observer.end_part(progress.step)
    numbers = OneStepLate(note)
    with closing(drawn(job, train, known, progress.step)) as batches, Beside() as beside:
        if not ranks.rank:  # others store nothing
            beside.begin(trained.reserve, lambda _: None)
        while progress.step < plan.steps:
            stage = plan.at(progress.step)
            reporter.progress.training_stage = stage.name
            step = learn(job, trained, batches, progress.step, stage, recompute=recompute, observe=observer.rows)
            stop, progress.step = numbers.add(step), step.step
            ends = progress.step == stage.end
            validates = ends or progress.step % recipe.validate_every == 0
            due = ends or progress.step % recipe.checkpoint_every == 0
            keeps = bool(recipe.keep_every) and progress.step % recipe.keep_every == 0
            if validates or due or keeps:  # nothing is stored of a step whose numbers are not finite
                stop |= numbers.finish()
            if validates:
                validate(job, trained, progress, clips, observer)
            reporter.advance(progress.step, plan.steps, None, progress.training, progress.validation)
            if ranks.count == 1:  # several stop at the same step, when all have been told
                stop = not reporter.going
            if stop:
                numbers.finish()
            if validates or due or keeps or stop:
                beside.finish()  # what is kept so far decides what is the best and which parts of the log are joined
                observer.end_part(progress.step)
                store_checkpoint(job, trained, progress, beside, due=due or stop)
            if ends or stop:
                beside.finish()
            beside.poll()
            if stop:
                raise Stopped
    return trained, progress


def drawn(job: Job, train: Sequence[Example], known: Configuration, step: int) -> Generator[Batch]:
    """This rank's rows of every batch of a run from a step on, drawn by a thread ahead of their step."""
    recipe, seed, plan = job.request.fine_tune, job.request.seed, plan_of(job.request)
    logit = logit_of(recipe)
    mixtures = [mixture_of(train, stage.sources, stage.seed(seed)) for stage in plan.stages]

    def places() -> Iterator[tuple[Stage, int]]:
        for stage in plan.stages[plan.at(step).number :]:
            first = max(step - stage.first, 0)
            yield from ((stage, number) for number in range(first * recipe.accumulate, stage.steps * recipe.accumulate))

    def draw(place: tuple[Stage, int]) -> Batch:
        stage, number = place
        batch = draw_batch(
            mixtures[stage.number], number, stage.batch_size, recipe.conditioning_dropout, stage.seed(seed),
            recipe.metadata_share, logit,
        )  # fmt: skip
        own = as_trained(batch, known, stage.seed(seed), number).part(job.ranks.rows(stage.batch_size))
        return own.pinned() if job.device == "cuda" else own

    return ahead(draw, places())


def learn(
    job: Job,
    trained: Trained,
    batches: Iterator[Batch],
    done: int,
    stage: Stage,
    *,
    recompute: bool,
    observe: RowLosses,
) -> Pending:
    """The step after `done` steps; the means over ranks of its loss and of whether they should stop, then the
    gradient's norm. Nothing of it waits for the device.
    """
    recipe, ranks, device = job.request.fine_tune, job.ranks, job.device
    local, seed = done - stage.first, stage.seed(job.request.seed)
    if trained.average is not None:
        trained.average.update()  # before the step, as stable-audio-tools does: the average is one step behind
    learning_rate = stage.learning_rate * rate(local, stage.steps, stage.warmup_steps)
    for group in trained.optimizer.param_groups:
        group["lr"] = learning_rate
    trained.gradients.forget()
    loss = torch.zeros((), dtype=torch.float64, device=device)
    for number in range(local * recipe.accumulate, (local + 1) * recipe.accumulate):
        batch = next(batches).on(device)
        adapters.seed_dropout(recipe.adapter, seed, number, ranks.rank)
        with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
            part = batch_loss(trained.model, batch, recompute=recompute, observe=observe) / recipe.accumulate
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.detach()
    told = torch.stack([loss, torch.full_like(loss, not job.reporter.going)])
    ranks.average(told)
    trained.gradients.average(ranks)
    norm = trained.gradients.clip(MAX_GRADIENT_NORM)
    trained.optimizer.step()
    return Pending(done + 1, learning_rate, torch.cat([told, norm.double()[None]]))


def validate(job: Job, trained: Trained, progress: Progress, clips: HeldOut, observer: Observer) -> None:
    """Measures what would be exported now."""
    with trained.network() as network:

        def loss_of(some: Sequence[Example]) -> float:
            seed, observe = job.request.seed, observer.validation_rows
            return validation_loss(trained.model, network, some, seed, job.device, job.ranks, observe)

        loss = clips.measure(progress, job.reporter.progress, loss_of)
        check_finite("validation loss", loss, progress.step)
        observer.validated(progress.step, loss, network)


def resumed(job: Job, trained: Trained) -> Progress:
    """From the newest checkpoint that can be read; the beginning when there is none yet: the base, or the checkpoint of
    the run that is continued.
    """

    def beginning() -> Progress:
        return continued(job, trained) if job.request.fine_tune.HasField("continue_from") else Progress()

    return newest(job, trained.restore, beginning)


def check_finite(name: str, value: float, step: int) -> None:
    """FailedPrecondition TRAINING_DIVERGED unless it is."""
    if not math.isfinite(value):
        text = f"the {name} is {value} at step {step}; a lower learning rate may help"
        raise FailedPrecondition(text, reason="TRAINING_DIVERGED")


def batch_loss(
    model: ConditionedDiffusionModelWrapper, batch: Batch, *, recompute: bool, observe: RowLosses | None = None
) -> torch.Tensor:
    """The loss of a batch on the model's device; `recompute` spares a transformer's memory of activations. `observe` is
    told the loss of each row."""
    conditions = model.conditioner(batch.conditions, batch.latents.device)
    if batch.kept is not None:
        conditions |= kept_inputs(batch.latents, batch.kept, batch.latents.device)
    inputs = model.get_conditioning_inputs(conditions)
    for name in GUIDED_KEYS:
        if (tokens := inputs[name]) is not None:  # (batch, tokens, width): the prompt's and the seconds'
            without = without_conditions(model.model, tokens)
            inputs[name] = torch.where(batch.dropped[:, None, None], without, tokens)
    predict = functools.partial(model.model, **inputs, **recomputing(model.model, wanted=recompute))
    objective = OBJECTIVES[model.diffusion_objective]
    return denoising_loss(objective, predict, batch.latents, batch.noise, batch.timesteps, observe)


COMPUTATION: Final = memory.Computation(prepare, batch_loss)
"""Of which the memory is counted."""


def denoising_loss(
    objective: Objective,
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    latents: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    observe: RowLosses | None = None,
) -> torch.Tensor:
    """Mean squared error of what `predict` reads from noised latents and timesteps.

    `latents`, `noise`: (batch, latent channels, window latents); `timesteps`: (batch,), 0 = clean to 1 = noise.
    """
    noised, target = objective.noised(latents, noise, timesteps)
    output = predict(noised, timesteps)
    if observe is not None:
        observe(timesteps, (output.detach().float() - target).square().mean((1, 2)))  # (batch,)
    return torch.nn.functional.mse_loss(output, target)


@torch.no_grad()
def validation_loss(
    model: ConditionedDiffusionModelWrapper,
    network: torch.nn.Module,
    examples: Sequence[Example],
    seed: int,
    device: str,
    ranks: Ranks = ALONE,
    observe: RowLosses | None = None,
) -> float:
    """The mean loss of `network`, the model's transformer or its average, over examples and timesteps.

    Each example comes with its first prompt, with fixed noise and fixed timesteps, so that two models or two steps can
    be compared; a model that fills in what is masked is given nothing of it. Ranks share the examples.
    """
    network.eval()
    count, losses = len(examples), []
    objective = OBJECTIVES[model.diffusion_objective]
    for index in range(ranks.rank, count, ranks.count):
        example = examples[index]
        conditions = model.conditioner([example.conditions(example.prompts[0])], device)
        if model.input_concat_ids:
            conditions |= kept_inputs(example.latents.sample(torch.Generator())[None], 0.0, device)
        predict = functools.partial(network, **model.get_conditioning_inputs(conditions))
        for timestep in VALIDATION_TIMESTEPS:
            generator = torch.Generator().manual_seed(seed_of(seed, "validation", index, timestep))
            latents = example.latents.sample(generator)[None]  # (1, latent channels, window latents)
            noise = torch.randn(latents.shape, generator=generator)
            timesteps = torch.tensor([timestep], device=device)
            loss = denoising_loss(objective, predict, latents.to(device), noise.to(device), timesteps, observe)
            losses.append(float(loss))
    network.train()
    return ranks.mean(math.fsum(losses)) * ranks.count / (count * len(VALIDATION_TIMESTEPS))


def logit_of(recipe: FineTune) -> LogitNormal | None:
    """How timesteps are drawn; None = uniformly."""
    if not recipe.HasField("timestep_logit_mean"):
        return None
    return LogitNormal(recipe.timestep_logit_mean, recipe.timestep_logit_deviation)


def rate(step: int, steps: int, warmup_steps: int) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then half a cosine down to FINAL_RATE."""
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    return warm * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def thinned(points: list[LossPoint]) -> list[LossPoint]:
    """At most MAX_POINTS of the points: of more, every other one is left out, never the newest."""
    return points if len(points) <= MAX_POINTS else points[-1::-2][::-1]


def store_checkpoint(job: Job, trained: Trained, progress: Progress, beside: Beside, *, due: bool) -> None:
    """Stores a checkpoint below the run's own prefix and records it in the run, where one is due or is kept for another
    reason. The one before it is kept, and what is kept for good; others are removed. Ranks other than 0 store nothing.

    Waits until it is copied; it is written, hashed and stored beside training, and recorded when that is done.
    """
    noted, recipe, step = job.reporter.progress, job.request.fine_tune, progress.step
    why = kept.reasons_at(step, recipe, plan_of(job.request), progress.validation, noted.kept)
    if job.ranks.rank or not (due or why):
        return
    snapshot = trained.snapshot(progress)
    loss = next((point.loss for point in progress.validation if point.step == step), None)

    def record(ref: ArtifactRef) -> None:
        kept.add(noted, ref, step, loss, why)
        job.reporter.checkpoint(ref, step)
        kept.remove_unnamed(job.store, job.run_id, noted)

    beside.begin(lambda: put_snapshot(job, snapshot, step), record)


def put_snapshot(job: Job, snapshot: Snapshot, step: int) -> ArtifactRef:
    """The checkpoint of a step as it is stored, below the run's own prefix."""
    path = job.folder("fit") / f"step-{step}.safetensors"
    snapshot.write(path)
    ref = job.store.blobs.put_file(f"checkpoints/{job.run_id}", path)
    path.unlink()
    return ref


def store_weights(job: Job, base: BaseModel, trained: Trained) -> ArtifactRef:
    """All weights of what was trained, as a checkpoint in the store; FailedPrecondition unless they are finite."""
    averaged, weights = trained.average is not None, job.folder("export") / "tuned.safetensors"
    checkpoint.write(weights, trained.exported(), {"format": "pt", "moving_average": str(averaged).lower()})
    with statuses(base.version):
        layout = checkpoint.verify(weights, base.configuration)
    try:
        checkpoint.check_weights(weights, layout.values())
    except WeightsError as error:
        raise FailedPrecondition(f"{error}; a lower learning rate may help", reason="TRAINING_DIVERGED") from None
    return job.store.blobs.put_file("checkpoints", weights)


def configuration_of(job: Job, base: BaseModel) -> ArtifactRef:
    """The configuration of what was trained, stored: the base's own unless its window was changed."""
    if not job.request.fine_tune.window_seconds:
        return base.version.configuration
    document = json.dumps(base.configuration.document, indent=1, sort_keys=True).encode()
    return job.store.blobs.put_bytes("configurations", document, "json", "application/json")


def export(
    job: Job, base: BaseModel, datasets: Sequence[DatasetManifest], trained: Trained, progress: Progress
) -> ModelVersion:
    """The version of what was trained, its checkpoint or adapter stored; `notes` say what it was made from."""
    averaged, main = trained.average is not None, job.request.dataset
    made_of = continuing.made_of(job.store, job.request, datasets)
    configuration, export_as = configuration_of(job, base), job.request.fine_tune.export
    chosen = choose_export(job, export_as, trained.restore, progress.step, progress.validation)
    if trained.adapter:
        below = replace(base.version, configuration=configuration).digest
        own = adapters.store(trained.adapter, trained.average, below, job.folder("export"), job.store)
        ref, over = base.version.checkpoint, [*base.version.adapters, own]
    else:
        ref, over = store_weights(job, base, trained), []
    return ModelVersion(
        name=job.request.model_name,
        checkpoint=ref,
        adapters=over,
        configuration=configuration,
        text_encoder=base.version.text_encoder,
        autoencoder_digest=base.autoencoder_digest,
        dataset=main,
        dataset_name=next(each.name for each in made_of.datasets if each.sha256 == main.sha256),
        card=job.store.put(CARD_KIND, card_of_run(job, base, made_of.datasets, chosen["exported_step"], progress)),
        notes={
            "tiny": bool(base.version.notes.get("tiny")),
            "moving_average": averaged,
            "base": base.version.label,
            "base_digest": base.version.digest,
            "run": job.run_id,
            "seed": str(job.request.seed),
            "steps": progress.step,
            "validation": [[point.step, point.loss] for point in progress.validation],
            "licences": sorted({*made_of.licences, *base.version.notes.get("licences", ())}),
            **made_of.notes,
            **chosen,
        },
        created_by=job.request.created_by,
        reason=f"fine-tuned from {base.version.label} by {job.run_id}",
    )

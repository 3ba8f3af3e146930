"""Trains the autoencoder of a model version on crops of clips: fetch, train, export.

Usually its decoder alone, encoder and bottleneck frozen: latents stay what they were, and so do transformers that were
trained on them. The losses are Stable Audio Open's (Evans 2024), see `reconstruction`; the discriminator that the
autoencoder is trained against (Défossez 2022) begins with random weights and ends with the run.

Both learn in float32 on every device: half the bits of a sample are half its dynamic range.
"""

import copy
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from stable_audio_tools.models.autoencoders import AudioAutoencoder
from stable_audio_tools.models.discriminators import EncodecDiscriminator
from stable_audio_tools.models.factory import create_pretransform_from_config
from torch import nn

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    KEPT_REASON_BEST,
    FidelityPoint,
    LossPoint,
    TrainAutoencoder,
)
from luthier_kit.registry import TRANSFORMER, UNFIT, ModelVersion, resolve
from luthier_kit.rpc import TRAIN, VALIDATION, FailedPrecondition
from luthier_model import checkpoint
from luthier_model.configuration import Configuration, check
from luthier_model.errors import WeightsError
from luthier_model.registered import statuses
from luthier_training import continuing, kept
from luthier_training.ahead import Beside, ahead
from luthier_training.autoencoder_memory import check_memory
from luthier_training.autoencoder_state import Progress, Trained
from luthier_training.autoencoder_window import check_window
from luthier_training.base_model import SAME_ENCODER, BaseModel, posterior_of, trained_posterior
from luthier_training.crops import Clip, draw_crops, held_out_crops
from luthier_training.dataset import read_manifest, registered_name, rows_of
from luthier_training.job import Job
from luthier_training.ranks import Ranks
from luthier_training.recipes.fine_tune import MAX_GRADIENT_NORM, check_finite, put_snapshot, rate, thinned
from luthier_training.recipes.tiny_base import latent_scale, start
from luthier_training.reconstruction import Fidelity, SpectralLoss, discriminator_of, divergence
from luthier_training.reporting import Stopped
from luthier_training.resuming import choose_export, newest, of_other_run
from luthier_training.seeds import seed_of

MAX_VALIDATION_CLIPS = 64
"""The standard error of a mean is then an eighth of the spread over clips; more clips cost minutes on a CPU."""
SCALE_BATCHES = 8
"""Batches of crops whose latents are measured for the scale of a new encoder."""
Batch = tuple[torch.Tensor, torch.Tensor]
"""Audio (batch, channels, window) and the noise of its draw from the posterior (batch, latent channels, latents)."""


def run(job: Job) -> ModelVersion:
    """The version to register. Raises Stopped, too, when another rank registers it."""
    recipe, reporter = job.request.autoencoder, job.reporter
    job.ranks.rows(recipe.batch_size, "autoencoder.batch_size")  # this and the window: refused before the work
    version = resolve(job.store, reporter.progress.base or recipe.base_model)
    reporter.progress.base = version.label  # whatever the name means when another runner goes on
    if recipe.HasField("continue_from"):
        continuing.begin(job.store, recipe.continue_from, reporter.progress, continuing.AUTOENCODER)
    known = check_window(job.store, version, recipe)
    dataset = read_manifest(job.store, job.request.dataset)
    validated = len(rows_of(dataset, VALIDATION)[:MAX_VALIDATION_CLIPS])
    check_memory(job, known, version, validated, batch_losses)  # refuses before anything is loaded
    train, held_out = fetch(job, dataset, known)

    base = BaseModel.open(job.store, version, "cpu", job.folder("base"))  # its transformer is not computed with
    untouched, autoencoder = base.model.state_dict(), base.model.pretransform.model
    if recipe.random_start:
        autoencoder = random_autoencoder(known, job.request.seed)
        start(autoencoder, draw_crops(train, 0, recipe.batch_size, recipe.window_samples, known, job.request.seed))
    autoencoder.to(job.device, torch.float32)  # a copy where the base has half precision or the device is another
    job.choose_threads(sum(parameter.numel() for parameter in autoencoder.parameters()))

    trained, progress = fit(job, known, autoencoder, train, held_out)
    job.ranks.close()
    if job.ranks.rank:
        raise Stopped

    reporter.stage("export")
    version = export(job, base, untouched, dataset, trained, progress, train)
    reporter.forget_previous_checkpoint()
    kept.remove_unnamed(job.store, job.run_id, reporter.progress)
    return version


def fetch(job: Job, dataset: DatasetManifest, known: Configuration) -> tuple[list[Clip], list[torch.Tensor]]:
    """The files of the clips to train on, which stay on this machine, and crops (channels, window) to validate on."""
    splits = [rows_of(dataset, TRAIN), rows_of(dataset, VALIDATION)[:MAX_VALIDATION_CLIPS]]
    rows = [row for split in splits for row in split]
    job.reporter.stage("fetch", len(rows))
    clips = []
    for row in rows:
        clips.append(Clip.open(job.store.blobs.fetch(row.audio, job.folder("clips")), known))
        job.reporter.advance(len(clips), len(rows))
        job.reporter.check()
    train = clips[: len(splits[0])]
    window = job.request.autoencoder.window_samples
    return train, held_out_crops(clips[len(train) :], window, known, job.request.seed)


def random_autoencoder(known: Configuration, seed: int) -> AudioAutoencoder:
    """The autoencoder of a configuration with random weights, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "autoencoder"))
        part = copy.deepcopy(known.document["model"]["pretransform"])
        return create_pretransform_from_config(part, known.sample_rate_hz).model


def fit(
    job: Job,
    known: Configuration,
    autoencoder: AudioAutoencoder,
    train: Sequence[Clip],
    held_out: Sequence[torch.Tensor],
) -> tuple[Trained, Progress]:
    """Trains from the newest checkpoint, else from the autoencoder as it is, to the last step.

    A step is one of the autoencoder and one of the discriminator, both from the weights before it. Stores a checkpoint
    every `checkpoint_every` steps, at the last one, and before it raises Stopped because the run should stop. Raises
    FailedPrecondition TRAINING_DIVERGED when a loss or a gradient is not finite: no checkpoint is stored after that.
    """
    recipe, seed, ranks, reporter, device = (
        job.request.autoencoder,
        job.request.seed,
        job.ranks,
        job.reporter,
        job.device,
    )
    rows = ranks.rows(recipe.batch_size, "autoencoder.batch_size")
    spectral = SpectralLoss(known.sample_rate_hz, known.channels, a_weighting=recipe.a_weighting).to(device)
    fidelity = Fidelity(known.sample_rate_hz).to(device)
    discriminator = discriminator_of(recipe, known.channels, seed)
    if discriminator is not None:
        discriminator.to(device)
    trained = Trained.prepare(autoencoder, discriminator, recipe)

    def beginning() -> Progress:
        """Before the first step, or where the run stood that this one goes on with."""
        if recipe.HasField("continue_from"):
            return of_other_run(job, trained.restore, recipe.continue_from)
        return Progress()

    progress = newest(job, trained.restore, beginning)

    def validate() -> None:
        """Measures what would be exported now."""
        stft, mel, si_sdr_db = measured(trained.result(), fidelity, held_out, device, ranks)
        check_finite("validation loss", stft + mel, progress.step)
        progress.validation.append(LossPoint(step=progress.step, loss=stft))
        progress.fidelity.append(FidelityPoint(step=progress.step, mel=mel, si_sdr_db=si_sdr_db))

    def draw(number: int) -> Batch:
        """This rank's rows of batch `number`."""
        audio = draw_crops(train, number, recipe.batch_size, recipe.window_samples, known, seed)
        latents = recipe.window_samples // known.downsampling_ratio
        generator = torch.Generator().manual_seed(seed_of(seed, "latents", number))
        noise = torch.randn((recipe.batch_size, known.latent_channels, latents), generator=generator)
        return audio[rows], noise[rows]

    reporter.stage("train", recipe.steps, done=progress.step)
    if not progress.validation:
        validate()
    with closing(ahead(draw, itertools.count(progress.step * recipe.accumulate))) as batches, Beside() as beside:
        while progress.step < recipe.steps:
            loss, critics_loss = learn(trained, spectral, recipe, batches, progress.step, ranks)
            progress.step += 1
            progress.training = thinned([*progress.training, LossPoint(step=progress.step, loss=loss)])
            if trained.critic:
                point = LossPoint(step=progress.step, loss=critics_loss)
                progress.discriminator = thinned([*progress.discriminator, point])
            last = progress.step == recipe.steps
            if last or progress.step % recipe.validate_every == 0:
                validate()
            progress.publish(reporter.progress)
            reporter.advance(progress.step, recipe.steps, loss, progress.training, progress.validation)
            stop = ranks.mean(not reporter.going) > 0  # all ranks stop at the same step
            due = last or stop or progress.step % recipe.checkpoint_every == 0
            store_checkpoint(job, trained, progress, beside, due=due)
            beside.poll()
            if stop:
                raise Stopped
    return trained, progress


def learn(
    trained: Trained,
    spectral: SpectralLoss,
    recipe: TrainAutoencoder,
    batches: Iterator[Batch],
    step: int,
    ranks: Ranks,
) -> tuple[float, float]:
    """One step of both networks; the losses of autoencoder and discriminator. TRAINING_DIVERGED before anything that is
    not finite is applied.
    """
    if trained.average is not None:
        trained.average.update()  # before the step, as in fine-tuning
    learners = [trained.generator, *([trained.critic] if trained.critic else [])]
    for learner, peak in zip(learners, (recipe.learning_rate, recipe.discriminator_learning_rate), strict=False):
        for group in learner.optimizer.param_groups:
            group["lr"] = peak * rate(step, recipe.steps, recipe.warmup_steps)
        learner.gradient.zero_()
    device = trained.generator.gradient.device
    losses = torch.zeros(2, dtype=torch.float64, device=device)  # of autoencoder and discriminator
    for audio, noise in itertools.islice(batches, recipe.accumulate):
        listens = step >= recipe.discriminator_warmup_steps
        found = batch_losses(trained, spectral, recipe, audio.to(device), noise.to(device), listens=listens)
        losses += torch.stack(found) / recipe.accumulate
    ranks.average(losses)
    loss, critics_loss = losses.tolist()
    check_finite("loss", loss, step + 1)
    check_finite("discriminator's loss", critics_loss, step + 1)
    for learner in learners:
        ranks.average(learner.gradient)
        norm = nn.utils.clip_grad_norm_(learner.network.parameters(), MAX_GRADIENT_NORM)
        check_finite("gradient's norm", float(norm), step + 1)
    for learner in learners:
        learner.optimizer.step()
    return loss, critics_loss


def batch_losses(
    trained: Trained,
    spectral: SpectralLoss,
    recipe: TrainAutoencoder,
    audio: torch.Tensor,
    noise: torch.Tensor,
    *,
    listens: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses of autoencoder and discriminator on a batch, detached; their gradients are added, divided by
    `accumulate`.

    `audio` and `noise` are a Batch. `listens`: whether the discriminator's judgement is part of the autoencoder's loss.
    """
    with torch.set_grad_enabled(trained.encodes):
        mean, deviation = trained_posterior(trained.autoencoder, audio)
    decoded = trained.autoencoder.decode(mean + deviation * noise)
    shorter = min(decoded.shape[-1], audio.shape[-1])  # of odd strides
    decoded, audio = decoded[..., :shorter], audio[..., :shorter]

    critics_loss = torch.zeros((), device=audio.device)
    discriminator: EncodecDiscriminator | None = trained.critic.network if trained.critic else None
    if discriminator is not None:
        critics_loss, _, _ = discriminator.loss(audio, decoded.detach())
        (critics_loss / recipe.accumulate).backward()

    loss = recipe.spectral_weight * spectral(decoded, audio)
    if recipe.sample_weight:
        loss = loss + recipe.sample_weight * nn.functional.l1_loss(decoded, audio)
    if trained.encodes:
        loss = loss + recipe.kl_weight * divergence(mean, deviation)
    if discriminator is None or not listens:
        (loss / recipe.accumulate).backward()
        return loss.detach(), critics_loss.detach()
    discriminator.requires_grad_(False)  # it judges here, and learns nothing
    try:
        _, adversarial, matching = discriminator.loss(audio, decoded)
        loss = loss + recipe.adversarial_weight * adversarial + recipe.feature_matching_weight * matching
        (loss / recipe.accumulate).backward()
    finally:
        discriminator.requires_grad_(True)
    return loss.detach(), critics_loss.detach()


@torch.no_grad()
def measured(
    autoencoder: AudioAutoencoder, fidelity: Fidelity, crops: Sequence[torch.Tensor], device: str, ranks: Ranks
) -> list[float]:
    """Means over crops of what `fidelity` measures, the latents' means decoded. Ranks share the crops."""
    total = torch.zeros(3, dtype=torch.float64)
    for index in range(ranks.rank, len(crops), ranks.count):
        audio = crops[index][None].to(device)  # (1, channels, window)
        decoded = autoencoder.decode(posterior_of(autoencoder, audio)[0])
        shorter = min(decoded.shape[-1], audio.shape[-1])
        total += fidelity(decoded[..., :shorter], audio[..., :shorter])
    total = total.to(ranks.device)
    ranks.average(total)
    means: list[float] = (total * ranks.count / len(crops)).tolist()
    return means


def store_checkpoint(job: Job, trained: Trained, progress: Progress, beside: Beside, *, due: bool) -> None:
    """Stores a checkpoint below the run's own prefix, beside training, then records it in the run, where one is due or
    it is the best of a run that exports it. The one before it is kept, and the best; others are removed. Ranks other
    than 0 store nothing.
    """
    step, noted = progress.step, job.reporter.progress
    loss = next((point.loss for point in progress.validation if point.step == step), None)
    seeks = job.request.autoencoder.export == EXPORTED_WEIGHTS_BEST_BY_VALIDATION
    if job.ranks.rank or not (due or (seeks and loss is not None)):
        return
    beside.finish()  # the memory of a copy is used again, and the best so far is recorded
    best = kept.best_of(noted.kept)
    is_best = seeks and loss is not None and (best is None or loss < best.validation_loss)
    if not (due or is_best):
        return
    snapshot = trained.snapshot(progress)

    def record(ref: ArtifactRef) -> None:
        kept.add(noted, ref, step, loss, [KEPT_REASON_BEST] if is_best else [])
        job.reporter.checkpoint(ref, step)
        kept.remove_unnamed(job.store, job.run_id, noted)

    beside.begin(lambda: put_snapshot(job, snapshot, step), record)


def rescaled(job: Job, known: Configuration, autoencoder: AudioAutoencoder, train: Sequence[Clip]) -> Configuration:
    """The configuration with the scale that gives the new encoder's latents unit variance, on the first batches."""
    recipe, drawn = job.request.autoencoder, range(SCALE_BATCHES)
    batches = [
        draw_crops(train, number, recipe.batch_size, recipe.window_samples, known, job.request.seed) for number in drawn
    ]
    document = copy.deepcopy(dict(known.document))
    crops = [crop.to(job.device) for batch in batches for crop in batch]
    document["model"]["pretransform"]["scale"] = latent_scale(autoencoder, crops, known.downsampling_ratio)
    return check(document)


def export(
    job: Job,
    base: BaseModel,
    untouched: Mapping[str, torch.Tensor],
    dataset: DatasetManifest,
    trained: Trained,
    progress: Progress,
    train: Sequence[Clip],
) -> ModelVersion:
    """The base, whose weights are `untouched`, with what was trained, its checkpoint stored; `notes` say what it was
    made from, and whether its transformer still fits.
    """
    known, configuration = base.configuration, base.version.configuration
    export_as = job.request.autoencoder.export
    chosen = choose_export(job, export_as, trained.restore, progress.step, progress.validation)
    autoencoder = trained.result()
    if trained.encodes:
        known = rescaled(job, known, autoencoder, train)
        document = json.dumps(known.document, indent=1, sort_keys=True).encode()
        configuration = job.store.blobs.put_bytes("configurations", document, "json", "application/json")
    learnt = {f"{checkpoint.AUTOENCODER}model.{name}": tensor for name, tensor in autoencoder.state_dict().items()}
    if not trained.encodes:
        learnt = {name: tensor for name, tensor in learnt.items() if name.startswith(checkpoint.DECODER)}
    weights = job.folder("export") / "autoencoder.safetensors"
    averaged = bool(base.version.notes.get("moving_average"))
    note = {"format": "pt", "moving_average": str(averaged).lower()}
    checkpoint.write(weights, {**untouched, **learnt}, note)
    with statuses(base.version):
        layout = checkpoint.verify(weights, known)
    try:
        checkpoint.check_weights(weights, layout.values())
    except WeightsError as error:
        raise FailedPrecondition(f"{error}; a lower learning rate may help", reason="TRAINING_DIVERGED") from None

    notes: dict[str, Any] = {
        "tiny": bool(base.version.notes.get("tiny")),
        "moving_average": averaged,
        "base": base.version.label,
        "base_digest": base.version.digest,
        "run": job.run_id,
        "seed": str(job.request.seed),
        "steps": progress.step,
        "trained": "autoencoder" if trained.encodes else "decoder",
        "autoencoder_moving_average": trained.average is not None,
        "validation": [[point.step, point.loss] for point in progress.validation],
        "fidelity": [[point.step, point.mel, point.si_sdr_db] for point in progress.fidelity],
        "licences": sorted({*dataset.licences, *base.version.notes.get("licences", ())}),
        **chosen,
    }
    if job.request.autoencoder.HasField("continue_from"):
        notes["continued_from"] = [{"run": job.request.autoencoder.continue_from.run_id}]
    if trained.encodes:
        notes[TRANSFORMER] = UNFIT
    else:
        notes[SAME_ENCODER] = [base.autoencoder_digest, *base.version.notes.get(SAME_ENCODER, ())]
        if TRANSFORMER in base.version.notes:
            notes[TRANSFORMER] = base.version.notes[TRANSFORMER]
    return ModelVersion(
        name=job.request.model_name,
        checkpoint=job.store.blobs.put_file("checkpoints", weights),
        configuration=configuration,
        text_encoder=base.version.text_encoder,
        autoencoder_digest=checkpoint.autoencoder_digest(weights, layout, known),
        dataset=job.request.dataset,
        dataset_name=registered_name(job.store, dataset.name, job.request.dataset.sha256),
        card=None if trained.encodes else base.version.card,  # of what its transformer heard
        notes=notes,
        created_by=job.request.created_by,
        reason=f"{notes['trained']} of {base.version.label} trained by {job.run_id}",
    )

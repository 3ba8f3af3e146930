"""Fine-tunes a base model version on a frozen data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.json_format import MessageToDict, ParseDict

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import FineTune
from luthier_kit.models import ModelVersion, resolve
from luthier_model import checkpoint
from luthier_training.base import Base, open_base, refusals
from luthier_training.checkpoints import Progress
from luthier_training.dataset import TRAIN, VALIDATION, Dataset, prompts_of
from luthier_training.examples import Example, excerpts
from luthier_training.fitting import Fit
from luthier_training.job import Job
from luthier_training.latents import Encoder, Stretch
from luthier_training.reporting import Stopped
from luthier_training.text_states import KnownPrompts, TextStates
from luthier_training.tuning import Tuning


def run(job: Job) -> ModelVersion:
    """The version to register. Raises Stopped, too, when another rank registers it."""
    job.ranks.rows(job.request.fine_tune.batch_size)
    job.reporter.stage("fetch")
    dataset = job.dataset()
    version = resolve(job.store, job.request.fine_tune.base_model)
    base = open_base(job.store, version, job.device, job.folder("base"))
    job.choose_threads(sum(parameter.numel() for parameter in base.model.parameters()))
    train, held_out = _encode(job, base, dataset)
    tuning = Tuning(base.model, job.request.fine_tune, job.request.seed, job.ranks)
    fit = Fit(tuning, train, held_out, _Listener(job, job.request.fine_tune), job.folder("fit"))
    done = _fit(job, fit)
    job.ranks.part()
    if not done or not job.ranks.leads:
        raise Stopped
    job.reporter.stage("export")
    return _export(job, base, dataset, tuning, fit.progress)


def _encode(job: Job, base: Base, dataset: Dataset) -> tuple[list[Example], list[Example]]:
    """Examples for training and for validation; the prompts' states replace the text encoder in the model."""
    folder, device = job.folder("encode"), job.device
    encoder = Encoder(job.store, base.model, base.configuration, base.autoencoder_digest, device, folder)
    clips = [*dataset.split(TRAIN), *dataset.split(VALIDATION)]
    found: dict[int, list[Example]] = {}
    job.reporter.stage("encode", len(clips))
    for index in job.ranks.own_first(len(clips)):
        clip = clips[index]
        whole, _ = encoder(Stretch(clip))
        parts = [whole]
        shortest_s = job.request.fine_tune.min_excerpt_s
        if clip.split == TRAIN and shortest_s:
            stretches = excerpts(clip, whole.seconds_total, shortest_s, job.request.seed)
            parts += [encoder(stretch)[0] for stretch in stretches]
        found[index] = [Example(latents, clip.prompts) for latents in parts]
        job.reporter.advance(len(found), len(clips))
        job.reporter.check()
    examples: dict[str, list[Example]] = {TRAIN: [], VALIDATION: []}
    for index, clip in enumerate(clips):
        examples[clip.split] += found[index]
    prompts = prompts_of(clips)
    _know_prompts(job, base, [prompts[index] for index in job.ranks.own_first(len(prompts))], folder)
    return examples[TRAIN], examples[VALIDATION]


def _know_prompts(job: Job, base: Base, prompts: Sequence[str], folder: Path) -> None:
    holder, name = base.model.conditioner.conditioners, base.configuration.text.id
    states = TextStates(job.store, holder[name], base.text_encoder_digest, job.device, folder)
    holder[name] = KnownPrompts(holder[name], prompts, states)


def _fit(job: Job, fit: Fit) -> bool:
    saved = job.run.progress.get("checkpoint")
    resume_from = None
    if saved:
        resume_from = job.store.fetch(ParseDict(saved, ArtifactRef(), ignore_unknown_fields=True), job.folder("resume"))
    steps = job.request.fine_tune.steps
    job.reporter.stage("train", steps, done=int(job.run.progress.get("checkpoint_step", 0)))
    return fit.run(job.device, resume_from)


@dataclass(frozen=True)
class _Listener:
    """Tells the run's series about steps and checkpoints."""

    job: Job
    recipe: FineTune

    def stepped(self, progress: Progress) -> bool:
        step, loss = progress.training[-1]
        points = {"training": progress.training, "validation": progress.validation}
        self.job.reporter.advance(step, self.recipe.steps, loss=loss, **points)
        return self.job.reporter.going

    def checkpoint(self, path: Path, progress: Progress) -> None:
        """Stores it below the run's own kind, points the run to it, then removes the one before."""
        store, run_id = self.job.store, self.job.run.id
        before = self.job.reporter.last_checkpoint
        ref = store.put_file(f"checkpoints/{run_id}", path)
        document = MessageToDict(ref, preserving_proto_field_name=True)
        self.job.reporter.checkpoint(document, progress.step)
        if before and before["key"] != ref.key:
            store.objects.delete(before["key"])


def _export(job: Job, base: Base, dataset: Dataset, tuning: Tuning, progress: Progress) -> ModelVersion:
    averaged = tuning.diffusion_ema is not None
    weights = job.folder("export") / "tuned.safetensors"
    checkpoint.write(weights, tuning.exported(), {"format": "pt", "moving_average": str(averaged).lower()})
    with refusals(base.version):
        checkpoint.verify(weights, base.configuration)
    return ModelVersion(
        name=job.request.model_name,
        checkpoint=job.store.put_file("checkpoints", weights),
        configuration=base.version.configuration,
        text_encoder=base.version.text_encoder,
        autoencoder_digest=base.autoencoder_digest,
        dataset=job.request.dataset,
        dataset_name=dataset.name,
        notes={
            "tiny": bool(base.version.notes.get("tiny")),
            "moving_average": averaged,
            "base": base.version.label,
            "base_digest": base.version.digest,
            "run": job.run.id,
            "seed": str(job.request.seed),
            "steps": progress.step,
            "validation": [list(point) for point in progress.validation],
            "licences": sorted({*dataset.licences, *base.version.notes.get("licences", ())}),
        },
        created_by=job.request.created_by,
        reason=f"fine-tuned from {base.version.label} by {job.run.id}",
    )

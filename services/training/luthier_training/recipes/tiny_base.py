"""Makes the tiny base model from a data set: its autoencoder is trained on the training clips, its tokenizer
on their prompts; text encoder and transformer stay random, for fine-tuning to start from.

An attempt takes minutes and starts over when it was killed; the same request gives the same weights.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.models import ModelVersion
from luthier_model import checkpoint, text_encoder, tiny
from luthier_model.configuration import Configuration
from luthier_model.random_weights import random_model
from luthier_model.tiny_text import make_text_encoder
from luthier_training import audio, autoencoder
from luthier_training.dataset import TRAIN, Dataset, prompts_of
from luthier_training.job import Job
from luthier_training.reporting import Stopped
from luthier_training.seeds import seed_of

MAX_CLIPS = 100
"""Clips that the autoencoder hears; they are held in memory, 4 MB a clip of 30 s."""


def run(job: Job) -> ModelVersion:
    """The version to register."""
    if not job.ranks.leads:  # too small to share
        raise Stopped
    job.reporter.stage("fetch")
    dataset, known = job.dataset(), tiny.configuration()
    clips = _clips(job, dataset, known)
    model = random_model(known, seed_of(job.request.seed, "weights"))
    job.choose_threads(sum(parameter.numel() for parameter in model.parameters()))
    _train_autoencoder(job, model.pretransform.model, clips)
    job.reporter.stage("export")
    scale = autoencoder.latent_scale(model.pretransform.model, clips, known.downsampling_ratio)
    return _export(job, dataset, tiny.configuration(scale), model.state_dict())


def _clips(job: Job, dataset: Dataset, known: Configuration) -> list[torch.Tensor]:
    chosen = dataset.split(TRAIN)
    random.Random(job.request.seed).shuffle(chosen)
    chosen, found = chosen[:MAX_CLIPS], []
    for number, clip in enumerate(chosen, 1):
        path = job.store.fetch(clip.audio, job.folder("audio"))
        found.append(audio.read(path, known))
        path.unlink()
        job.reporter.advance(number, len(chosen))
        job.reporter.check()
    return found


def _train_autoencoder(job: Job, model: torch.nn.Module, clips: list[torch.Tensor]) -> None:
    asked, reporter = job.request.tiny_base, job.reporter
    reporter.stage("train", asked.autoencoder_steps)
    points: list[tuple[int, float]] = []

    def report(step: int, loss: float) -> bool:
        every = max(1, asked.autoencoder_steps // 500)
        if step % every == 0:
            points.append((step, loss))
        reporter.advance(step, asked.autoencoder_steps, loss=loss, training=points)
        return reporter.going

    seed = seed_of(job.request.seed, "autoencoder") % (1 << 31)
    if not autoencoder.train(model, clips, asked.autoencoder_steps, asked.batch_size, seed, report):
        raise Stopped


def _export(job: Job, dataset: Dataset, known: Configuration, state: dict[str, torch.Tensor]) -> ModelVersion:
    folder = job.folder("export")
    weights, text = folder / "tiny.safetensors", folder / "text_encoder"
    checkpoint.write(weights, state, {"format": "pt", "moving_average": "false"})
    placed = checkpoint.verify(weights, known)
    prompts = prompts_of(dataset.split(TRAIN))
    make_text_encoder(prompts, known.cond_dim, text, seed_of(job.request.seed, "text") % (1 << 31))
    return ModelVersion(
        name=job.request.model_name,
        checkpoint=job.store.put_file("checkpoints", weights),
        configuration=_configuration(job, known),
        text_encoder=tuple((path.name, _put(job, path)) for path in text_encoder.files(text)),
        autoencoder_digest=checkpoint.autoencoder_digest(weights, placed, known),
        dataset=job.request.dataset,
        dataset_name=dataset.name,
        notes={
            "tiny": True,
            "moving_average": False,
            "transformer": "random",
            "run": job.run.id,
            "seed": str(job.request.seed),
            "licences": list(dataset.licences),
        },
        created_by=job.request.created_by,
        reason=f"tiny base made by {job.run.id}",
    )


def _put(job: Job, path: Path) -> ArtifactRef:
    return job.store.put_file("text_encoders", path)


def _configuration(job: Job, known: Configuration) -> ArtifactRef:
    data = json.dumps(known.document, indent=1, sort_keys=True).encode()
    return job.store.put_bytes("configurations", data, "json", "application/json")

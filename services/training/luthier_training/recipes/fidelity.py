"""Measures how true the reconstructions of a model's autoencoder are, beside those of another: fetch, measure, report.

Each clip goes through encoder and decoder as in training and generation: in the model's window, silence behind it, the
posterior's mean decoded. What is measured is the clip itself.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import TypeVar

import torch

from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier.training.v1.training_pb2 import ClipFidelity, FidelityReport, FidelityScores, TrainingResult
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import VALIDATION
from luthier_training import audio
from luthier_training.base_model import BaseModel
from luthier_training.clip_encoder import ClipEncoder
from luthier_training.compared import compared
from luthier_training.crops import Clip, is_silent
from luthier_training.dataset import read_manifest, rows_of
from luthier_training.fidelity_page import MAX_PLAYED_S, PLAYED, Played, flac, page
from luthier_training.job import Job
from luthier_training.reconstruction import Fidelity
from luthier_training.reporting import Stopped

REPORTS_KIND = "fidelity-reports"
"""Of blobs."""
T = TypeVar("T")
BEHIND = 32
"""Latents of silence decoded behind a clip: more than a decoder of convolutions reaches."""


def run(job: Job) -> TrainingResult:
    """The report. Raises Stopped in a rank other than 0: this is too little work to share."""
    job.ranks.close()
    if job.ranks.rank:
        raise Stopped
    recipe, reporter = job.request.fidelity, job.reporter
    versions = compared(job.store, recipe)
    reporter.progress.base = versions[0].label
    rows = spread(rows_of(read_manifest(job.store, job.request.dataset), VALIDATION), recipe.clips)
    reporter.stage("load")
    models = [Reconstructing(job, version) for version in versions]
    known = models[0].base.configuration
    most = min(recipe.max_clip_s, *(model.base.configuration.window_s for model in models))
    job.choose_threads(sum(parameter.numel() for parameter in models[0].base.model.pretransform.parameters()))

    report = FidelityReport(model=versions[0].label, baseline=versions[1].label if versions[1:] else "")
    played, listened = [], set(spread(range(len(rows)), PLAYED))
    measure = Fidelity(known.sample_rate_hz)
    reporter.stage("measure", len(rows))
    for number, row in enumerate(rows):
        clip = Clip.open(job.store.blobs.fetch(row.audio, job.folder("clips")), known)
        original = audio.read_crop(clip.path, known, 0, min(clip.length, round(most * known.sample_rate_hz)))
        clip.path.unlink()
        decoded = [model.reconstructed(original) for model in models]
        scores = [scored(measure, each, original) for each in decoded]
        found = ClipFidelity(
            clip_id=row.clip_id, song=song_of(row), duration_s=original.shape[1] / known.sample_rate_hz, model=scores[0]
        )
        if scores[1:]:
            found.baseline.CopyFrom(scores[1])
        if recipe.keep_sound:
            for field, sound in zip(("sound", "model_sound", "baseline_sound"), (original, *decoded), strict=False):
                data = flac(sound.T.numpy(), known.sample_rate_hz)
                getattr(found, field).CopyFrom(job.store.blobs.put_bytes(REPORTS_KIND, data, "flac", "audio/flac"))
        report.clips.append(found)
        if number in listened:
            shown = round(MAX_PLAYED_S * known.sample_rate_hz)
            played.append(Played(found, original[:, :shown], [each[:, :shown] for each in decoded]))
        reporter.advance(number + 1, len(rows))
        reporter.check()
    report.mean.CopyFrom(mean_of([each.model for each in report.clips]))
    if report.baseline:
        report.baseline_mean.CopyFrom(mean_of([each.baseline for each in report.clips]))

    reporter.stage("report")
    html = page(report, versions[0], job.request, played, known.sample_rate_hz, job.run_id)
    report.page.CopyFrom(job.store.blobs.put_bytes(REPORTS_KIND, html.encode(), "html", "text/html"))
    return TrainingResult(fidelity_report=report)


class Reconstructing:
    """A model of which the autoencoder alone is computed with, on the job's device."""

    def __init__(self, job: Job, version: ModelVersion) -> None:
        self.base, self.device = BaseModel.open(job.store, version, "cpu", job.folder(version.digest)), job.device
        self.base.model.pretransform.to(self.device)
        self.encoder = ClipEncoder(self.base.model, self.base.configuration, self.device)

    @torch.no_grad()
    def reconstructed(self, original: torch.Tensor) -> torch.Tensor:
        """(channels, samples) of a clip no longer than the window -> the same, encoded and decoded, on the CPU."""
        known = self.base.configuration
        held = -(-original.shape[1] // known.downsampling_ratio) + BEHIND
        latents = self.encoder.encode(original).mean[None, :, :held]  # (1, latent channels, latents)
        decoded: torch.Tensor = self.base.model.pretransform.decode(latents.to(self.device))[0].float().cpu()
        behind = original.shape[1] - decoded.shape[1]  # above 0 of odd strides and a full window alone
        return torch.nn.functional.pad(decoded, (0, max(0, behind)))[:, : original.shape[1]]


def scored(measure: Fidelity, decoded: torch.Tensor, original: torch.Tensor) -> FidelityScores:
    """The measures of one clip, (channels, samples) each."""
    stft, mel, ratio_db = measure(decoded[None], original[None]).tolist()
    return FidelityScores(stft=stft, mel=mel, si_sdr_db=None if is_silent(original) else ratio_db)


def mean_of(scores: Sequence[FidelityScores]) -> FidelityScores:
    """Means over clips; of the ratio over those that sound."""
    ratios = [each.si_sdr_db for each in scores if each.HasField("si_sdr_db")]
    return FidelityScores(
        stft=fmean(each.stft for each in scores),
        mel=fmean(each.mel for each in scores),
        si_sdr_db=fmean(ratios) if ratios else None,
    )


def spread(items: Sequence[T], most: int) -> list[T]:
    """Up to `most` items, evenly over all of them."""
    count = min(most, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def song_of(row: DatasetRow) -> str:
    """`artist - title`, as far as known."""
    return " - ".join(filter(None, (row.source.song.artist, row.source.song.title)))

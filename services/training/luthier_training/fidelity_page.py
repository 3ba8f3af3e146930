"""The report of an autoencoder's fidelity as one HTML file that needs nothing else: means and clips in tables, some
clips to play, with their spectra.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib.image
import numpy as np
import soundfile
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from luthier.training.v1.training_pb2 import ClipFidelity, CreateTrainingRunRequest, FidelityReport
from luthier_kit.registry import ModelVersion
from luthier_music.audio import Samples

PLAYED: Final = 8
"""Clips to listen to, evenly over those measured."""
MAX_PLAYED_S: Final = 8.0
"""Of each, so that the page stays below about 30 MB: sound is lossless, for an encoder of its own would be heard."""
FRAMES, BANDS = 512, 256
"""Points in time and frequency of a picture."""
WINDOW = 1024
"""Samples of a spectrum."""
RANGE_DB = 90.0
"""From the loudest point of the original down to black; the same scale for original and reconstructions."""


@dataclass(frozen=True)
class Played:
    """A clip that the page plays: (channels, samples) of the original and of each model's reconstruction."""

    clip: ClipFidelity
    original: torch.Tensor
    decoded: Sequence[torch.Tensor]


@dataclass(frozen=True)
class Sound:
    """A column of a clip on the page: FLAC and PNG as data URIs, the model's name and what was measured of it."""

    title: str
    audio: str
    picture: str
    scores: object = None


def page(
    report: FidelityReport,
    version: ModelVersion,
    request: CreateTrainingRunRequest,
    played: Sequence[Played],
    sample_rate_hz: int,
    run_id: str,
) -> str:
    """The page as HTML. Of a run that keeps its sound it refers to `RUN-frechet.html` beside it, the report of the
    evaluation of this sound.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    rows = [(each, sounds_of(report, each, sample_rate_hz)) for each in played]
    notes = version.notes
    exported = notes.get("exported_step", notes.get("steps"))
    points = zip(notes.get("validation", ()), notes.get("fidelity", ()), strict=False)
    course = [(spectra, others) for spectra, others in points if spectra[0] in (0, exported)]
    return environment.get_template("fidelity_page.html").render(
        report=report,
        notes=notes,
        course=course,
        asked=request.fidelity,
        played=rows,
        rate_khz=sample_rate_hz / 2000,
        run=run_id,
    )


def sounds_of(report: FidelityReport, played: Played, sample_rate_hz: int) -> list[Sound]:
    """Original and reconstructions of a clip."""
    spectra = [decibels(audio) for audio in (played.original, *played.decoded)]
    loudest = float(spectra[0].max())
    titles = ["original", report.model, report.baseline]
    scores = [None, played.clip.model, played.clip.baseline]
    return [
        Sound(title, uri(flac(audio.T.numpy(), sample_rate_hz), "audio/flac"), picture(spectrum, loudest), score)
        for title, audio, spectrum, score in zip(
            titles, (played.original, *played.decoded), spectra, scores, strict=False
        )
    ]


def decibels(audio: torch.Tensor) -> torch.Tensor:
    """(channels, samples) -> (bands, frames) in dB, of the mean of the channels' powers; frequencies are linear."""
    hop = max(1, audio.shape[1] // FRAMES)
    audio = torch.nn.functional.pad(audio, (0, max(0, WINDOW - audio.shape[1])))
    spectra = torch.stft(audio, WINDOW, hop, window=torch.hann_window(WINDOW), return_complex=True, pad_mode="constant")
    power = spectra.abs().square().mean(0)[1 : 1 + 2 * BANDS]  # (bands of 2, frames)
    return 10 * power.reshape(BANDS, 2, -1).mean(1).clamp(min=1e-12).log10()


def picture(spectrum: torch.Tensor, loudest_db: float) -> str:
    """A PNG, low frequencies below."""
    out = io.BytesIO()
    points = spectrum.flip(0).numpy()
    matplotlib.image.imsave(out, points, vmin=loudest_db - RANGE_DB, vmax=loudest_db, cmap="magma", format="png")
    return uri(out.getvalue(), "image/png")


def flac(samples: Samples, sample_rate_hz: int) -> bytes:
    """(samples, channels) as 16-bit FLAC; what is beyond full scale is clipped."""
    out = io.BytesIO()
    soundfile.write(out, np.clip(samples, -1, 1), sample_rate_hz, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"

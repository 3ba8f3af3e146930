"""A report of fidelity measures what encoder and decoder make of held-out clips, and registers nothing."""

import base64
import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from stable_audio_tools.training.losses.auraloss import MelSTFTLoss, MultiResolutionSTFTLoss
from torchmetrics.functional.audio.sdr import scale_invariant_signal_distortion_ratio

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import (
    CreateTrainingRunRequest,
    FidelityReport,
    FidelityScores,
    MeasureFidelity,
    TrainAutoencoder,
)
from luthier_kit.registry import RUN_STATE_SUCCEEDED, ModelVersion, RunLog, register
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_model import checkpoint, tiny
from luthier_model.configuration import Configuration, check
from luthier_model.network import random_model
from luthier_training import audio, runner
from luthier_training.base_model import BaseModel
from luthier_training.compared import compared
from luthier_training.dataset import read_manifest
from luthier_training.recipes import RECIPES
from luthier_training.recipes.fidelity import mean_of, spread
from luthier_training.requests import settle
from luthier_training.runs import KIND, to_message
from luthier_training.settings import RunnerSettings

from .conftest import PROMPTS, SECONDS, manifest, register_base
from .test_autoencoder import SHORT
from .test_fine_tune import job


@pytest.fixture
def trained(store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path) -> ModelVersion:
    """A version of the base with another decoder."""
    asked, _ = job(store, dataset_ref, tmp_path / "training", "t", autoencoder=TrainAutoencoder(steps=4, **SHORT))
    return register(store, RECIPES["autoencoder"](asked))


def asking(dataset: ArtifactRef, **fidelity: Any) -> CreateTrainingRunRequest:
    return CreateTrainingRunRequest(request_id="f", dataset=dataset, fidelity=MeasureFidelity(**fidelity))


def measured(store: Store, dataset: ArtifactRef, folder: Path, **fidelity: Any) -> tuple[FidelityReport, str]:
    """The report of a run as its callers see it, and its page."""
    run_id = RunLog.create(store, KIND, "f", settle(asking(dataset, **fidelity))).id
    own = RunLog(store, KIND, run_id, "runner-f")
    settings = RunnerSettings(device="cpu", scratch=folder)
    assert runner.attempt(store, settings, own, own.start()) == runner.ENDED
    run = own.read()
    assert run.state == RUN_STATE_SUCCEEDED
    report = to_message(run).fidelity_report
    return report, store.blobs.read(report.page).decode()


def reconstruction(
    store: Store, version: ModelVersion, dataset_ref: ArtifactRef, known: Configuration, folder: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    """The held-out clip and what the library makes of it in its window, (channels, samples) each."""
    [row] = [row for row in read_manifest(store, dataset_ref).rows if row.split == "validation"]
    clip = audio.read(store.blobs.fetch(row.audio, folder), known)
    window = torch.zeros(1, *(clip.shape[0], known.window_samples))
    window[0, :, : clip.shape[1]] = clip
    autoencoder = BaseModel.open(store, version, "cpu", folder / version.digest).model.pretransform.model
    mean, _ = autoencoder.encode(window, skip_bottleneck=True).chunk(2, dim=1)
    return clip, autoencoder.decode(mean)[0, :, : clip.shape[1]]


@torch.no_grad()
def test_the_measures_are_those_of_the_librarys_own_reconstruction(
    store: Store, base: ModelVersion, trained: ModelVersion, dataset_ref: ArtifactRef, known: Configuration,
    tmp_path: Path,
) -> None:  # fmt: skip
    report, _ = measured(store, dataset_ref, tmp_path, model=trained.name)
    assert (report.model, report.baseline) == (trained.label, base.label)  # the base that it was trained from
    [clip] = report.clips
    assert clip.duration_s == pytest.approx(SECONDS[2], abs=1e-3)
    assert clip.song == "Miles Davis - So What"
    for version, scores, mean in ((trained, clip.model, report.mean), (base, clip.baseline, report.baseline_mean)):
        original, decoded = reconstruction(store, version, dataset_ref, known, tmp_path)
        pair = (decoded[None], original[None])
        ratio = scale_invariant_signal_distortion_ratio(decoded, original, zero_mean=True).mean()
        assert scores.stft == pytest.approx(float(MultiResolutionSTFTLoss()(*pair)), rel=1e-3)
        assert scores.mel == pytest.approx(float(MelSTFTLoss(known.sample_rate_hz)(*pair)), rel=1e-3)
        assert scores.si_sdr_db == pytest.approx(float(ratio), abs=0.05)
        assert mean == scores
    assert clip.model.stft != clip.baseline.stft


def test_nothing_is_registered(store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path) -> None:
    report, page = measured(store, dataset_ref, tmp_path, model="base")
    assert {key.rpartition("/")[0] for key in store.objects.keys("models/")} == {"models/base"}
    assert not report.baseline
    assert not report.HasField("baseline_mean")
    assert "beside" not in page.partition("<main>")[0]


def test_the_page_plays_the_original_and_shows_every_figure(
    store: Store, base: ModelVersion, trained: ModelVersion, dataset_ref: ArtifactRef, known: Configuration,
    tmp_path: Path,
) -> None:  # fmt: skip
    report, page = measured(store, dataset_ref, tmp_path, model=trained.label)
    played = [base64.b64decode(data) for data in re.findall(r'src="data:audio/flac;base64,([^"]+)"', page)]
    assert len(played) == page.count("data:image/png") == 3  # original, model, base
    samples, rate_hz = soundfile.read(io.BytesIO(played[0]), always_2d=True)
    [row] = [row for row in read_manifest(store, dataset_ref).rows if row.split == "validation"]
    original = audio.read(store.blobs.fetch(row.audio, tmp_path), known).T.numpy()
    assert rate_hz == known.sample_rate_hz
    assert np.abs(samples - original).max() < 1 / 32768
    for scores in (report.mean, report.baseline_mean):
        for figure in (f"{scores.stft:.3f}", f"{scores.mel:.3f}", f"{scores.si_sdr_db:.1f} dB"):
            assert figure in page
    assert "--frechet" in page
    assert "4, after" in page  # the run's own steps
    assert "<script" not in page


def test_the_sound_is_kept_where_it_is_asked_for(
    store: Store, base: ModelVersion, trained: ModelVersion, dataset_ref: ArtifactRef, known: Configuration,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Original and reconstructions as files, whole; the page refers to what is measured of them."""
    report, page = measured(store, dataset_ref, tmp_path, model=trained.label, keep_sound=True)
    [clip] = report.clips
    original, decoded = reconstruction(store, trained, dataset_ref, known, tmp_path)
    _, of_base = reconstruction(store, base, dataset_ref, known, tmp_path)
    for ref, sound in ((clip.sound, original), (clip.model_sound, decoded), (clip.baseline_sound, of_base)):
        samples, rate_hz = soundfile.read(io.BytesIO(store.blobs.read(ref)), always_2d=True)
        assert (rate_hz, ref.media_type) == (known.sample_rate_hz, "audio/flac")
        np.testing.assert_allclose(samples.T, sound.detach().clamp(-1, 1).numpy(), rtol=0, atol=2 / 32768)
    assert re.search(r'href="training-[0-9a-f]+-frechet\.html"', page)


def test_no_sound_is_kept_otherwise(store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path) -> None:
    report, _ = measured(store, dataset_ref, tmp_path, model="base")
    assert not any(report.clips[0].HasField(field) for field in ("sound", "model_sound", "baseline_sound"))
    assert {key.rpartition(".")[2] for key in store.objects.keys("fidelity-reports/")} == {"html"}


def test_names_of_songs_are_text(store: Store, base: ModelVersion, tmp_path: Path) -> None:
    document = manifest(store, tmp_path).replace(b"Miles Davis", b"<script>alert(1)</script>")
    dataset = store.blobs.put_bytes("manifests", document, "json", "application/json")
    _, page = measured(store, dataset, tmp_path, model="base")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_clip_may_be_measured_in_part(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    report, _ = measured(store, dataset_ref, tmp_path, model="base", max_clip_s=1)
    assert report.clips[0].duration_s == 1


def test_silence_is_in_no_mean_of_the_ratio() -> None:
    mean = mean_of([FidelityScores(stft=1, mel=2, si_sdr_db=10), FidelityScores(stft=3, mel=4)])
    assert (mean.stft, mean.mel, mean.si_sdr_db) == (2, 3, 10)
    assert not mean_of([FidelityScores(stft=1, mel=2)]).HasField("si_sdr_db")


def test_a_silent_clip_is_said_to_be_silent(store: Store, base: ModelVersion, tmp_path: Path) -> None:
    document = manifest(store, tmp_path)
    soundfile.write(tmp_path / "silent.flac", np.zeros((44100, 2)), 44100)
    silent = store.blobs.put_file("clips", tmp_path / "silent.flac", "audio/flac")
    held_out = store.blobs.put_file("clips", tmp_path / "clip2.flac", "audio/flac")
    document = document.replace(held_out.key.encode(), silent.key.encode())
    document = document.replace(held_out.sha256.encode(), silent.sha256.encode())
    document = document.replace(
        f'"size_bytes": {held_out.size_bytes}'.encode(), f'"size_bytes": {silent.size_bytes}'.encode()
    )
    dataset = store.blobs.put_bytes("manifests", document, "json", "application/json")
    report, page = measured(store, dataset, tmp_path, model="base")
    assert not report.clips[0].model.HasField("si_sdr_db")
    assert math.isfinite(report.clips[0].model.stft)
    assert "silent" in page


def test_models_of_different_sound_are_not_compared(store: Store, base: ModelVersion, known: Configuration) -> None:
    document = {**known.document, "sample_rate": 2 * known.sample_rate_hz}
    other = register_base_of(store, check(document), "other")
    with pytest.raises(InvalidRequest) as refused:
        compared(store, MeasureFidelity(model="base", baseline=other.name))
    assert "16000 Hz with 2 channels and 32000 Hz" in dict(refused.value.violations)["fidelity.baseline"]


def register_base_of(store: Store, known: Configuration, name: str) -> ModelVersion:
    folder = Path(str(store.objects.root)) / name  # type: ignore[attr-defined]
    folder.mkdir()
    tiny.write_text_encoder(PROMPTS, known.cond_dim, folder / "text_encoder", 1)
    checkpoint.write(folder / "weights.safetensors", random_model(known, 1).state_dict())
    return register_base(store, known, (folder / "weights.safetensors", folder / "text_encoder"), name)


@pytest.mark.parametrize(
    ("fidelity", "field"),
    [
        ({"model": ""}, "fidelity.model"),
        ({"model": "m", "baseline": " "}, "fidelity.baseline"),
        ({"model": "m", "clips": 0}, "fidelity.clips"),
        ({"model": "m", "clips": 257}, "fidelity.clips"),
        ({"model": "m", "max_clip_s": math.nan}, "fidelity.max_clip_s"),
    ],
)
def test_what_is_out_of_bounds_is_named(fidelity: dict[str, Any], field: str) -> None:
    dataset = ArtifactRef(key=f"manifests/{'0' * 64}.json", sha256="0" * 64)
    with pytest.raises(InvalidRequest) as refused:
        settle(asking(dataset, **fidelity))
    assert field in dict(refused.value.violations)


def test_a_name_to_register_under_is_refused() -> None:
    dataset = ArtifactRef(key=f"manifests/{'0' * 64}.json", sha256="0" * 64)
    request = asking(dataset, model="m")
    request.model_name = "m"
    with pytest.raises(InvalidRequest) as refused:
        settle(request)
    assert list(dict(refused.value.violations)) == ["model_name"]


def test_clips_are_spread_over_all() -> None:
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), 8) == [0, 1, 2]

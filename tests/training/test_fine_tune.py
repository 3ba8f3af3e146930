"""Fine-tuning falls below the base, is repeatable, resumes exactly, and registers what it made."""

import hashlib
import statistics
import threading

import pytest
import torch
from safetensors.torch import load_file

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, FineTune, TinyBase
from luthier_kit.errors import FailedPrecondition
from luthier_kit.models import resolve
from luthier_kit.runs import RunLog
from luthier_model import checkpoint
from luthier_model.configuration import packaged
from luthier_training import recipe
from luthier_training.job import Job
from luthier_training.messages import to_document
from luthier_training.recipes import RECIPES

from luthier_training.reporting import Reporter, Stopped


from .conftest import register_base


def job(store, dataset_ref, folder, request_id="r", **kind):
    request = recipe.settle(
        CreateTrainingRunRequest(request_id=request_id, dataset=dataset_ref, model_name="tuned", seed=4, **kind)
    )
    RunLog.create(store, "training", request_id, to_document(request))
    own = RunLog(store, f"training-{hashlib.sha256(request_id.encode()).hexdigest()[:32]}", f"runner-{folder.name}")
    run = own.start()
    reporter = Reporter(own, RunLog(store, run.id, own.runner))
    folder.mkdir(exist_ok=True)
    return Job(run, request, store, reporter, "cpu", folder), own


TUNE = {"base_model": "base", "batch_size": 2, "learning_rate": 3e-3, "checkpoint_every": 3, "validate_every": 4}


def test_validation_loss_falls_below_the_bases(store, base, dataset_ref, tmp_path):
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=40, **TUNE))
    version = RECIPES["fine_tune"](asked)
    losses = [tuple(point) for point in own.read().progress["validation"]]
    assert losses[0][0] == 0
    assert losses[-1][1] < 0.9 * losses[0][1]
    assert [tuple(point) for point in version.notes["validation"]] == losses


def test_the_export_fits_the_bases_configuration(store, base, known, dataset_ref, tmp_path):
    asked, _ = job(
        store,
        dataset_ref,
        tmp_path / "a",
        fine_tune=FineTune(
            steps=2, ema_decay=0.9, min_excerpt_s=1, **TUNE | {"validate_every": 1, "checkpoint_every": 1}
        ),
    )
    version = RECIPES["fine_tune"](asked)
    placed = checkpoint.verify(store.fetch(version.checkpoint, tmp_path), known)
    assert not placed.wrapped
    assert version.notes["moving_average"] is True
    assert (version.notes["base"], version.text_encoder) == ("base@1", base.text_encoder)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_stopped_run_resumes_to_the_same_weights(store, base, dataset_ref, tmp_path, monkeypatch, ema):
    whole, _ = job(store, dataset_ref, tmp_path / "whole", "whole", fine_tune=FineTune(steps=8, ema_decay=ema, **TUNE))
    wanted = load_file(store.fetch(RECIPES["fine_tune"](whole).checkpoint, tmp_path))
    asked = FineTune(steps=8, ema_decay=ema, **TUNE)
    first, own = job(store, dataset_ref, tmp_path / "first", "parts", fine_tune=asked)
    stepped = recipes_fine_tune._Listener.stepped
    with monkeypatch.context() as patch:
        patch.setattr(recipes_fine_tune._Listener, "stepped", lambda s, p: stepped(s, p) and p.step < 5)
        with pytest.raises(Stopped):
            RECIPES["fine_tune"](first)
    assert own.read().progress["checkpoint_step"] == 5
    own.heartbeat.stop()
    second, own = job(store, dataset_ref, tmp_path / "second", "parts", fine_tune=asked)
    resumed = load_file(store.fetch(RECIPES["fine_tune"](second).checkpoint, tmp_path))
    # memory lies elsewhere after a resume, and vectorised sums may then round differently in the last bit
    torch.testing.assert_close(resumed, wanted, rtol=1e-4, atol=1e-5)
    assert [step for step, _ in own.read().progress["training"]] == list(range(1, 9))


def test_a_steps_loss_is_the_mean_over_what_it_accumulates(store, base, dataset_ref, tmp_path, monkeypatch):
    losses, training_step = [], Tuning.training_step

    def noted(self, batch, batch_idx):
        loss = training_step(self, batch, batch_idx)
        losses.append(float(loss))
        return loss

    monkeypatch.setattr(Tuning, "training_step", noted)
    asked, own = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, accumulate=2, **TUNE))
    RECIPES["fine_tune"](asked)
    means = [statistics.fmean(pair) for pair in zip(losses[::2], losses[1::2], strict=True)]
    assert [loss for _, loss in own.read().progress["training"]] == pytest.approx(means)


def test_only_the_newest_checkpoint_is_kept(store, base, dataset_ref, tmp_path):
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=7, **TUNE))
    RECIPES["fine_tune"](asked)
    assert len(list(store.objects.keys(f"checkpoints/{asked.run.id}/"))) == 1


def test_a_checkpoint_of_the_wrong_shape_is_refused(store, dataset_ref, base_files, tmp_path):
    register_base(store, packaged("tiny"), base_files, "wrong")
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=4, **TUNE | {"base_model": "wrong"}))
    with pytest.raises(FailedPrecondition) as refused:
        RECIPES["fine_tune"](asked)
    assert refused.value.reason == "CHECKPOINT_MISMATCH"
    assert "wrong@1" in str(refused.value)


def test_cancel_is_seen_within_seconds(store, base, dataset_ref, tmp_path):
    asked, own = job(
        store, dataset_ref, tmp_path / "a", fine_tune=FineTune(steps=100_000, **TUNE | {"validate_every": 100_000})
    )
    threading.Timer(2, lambda: RunLog(store, own.id).cancel("test", "enough")).start()
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](asked)
    assert asked.reporter.cancelled


def test_tiny_base_is_a_model_that_loads(store, dataset_ref, tmp_path, monkeypatch):
    from luthier_kit.models import register
    from luthier_training.base import open_base

    asked, _ = job(store, dataset_ref, tmp_path / "a", tiny_base=TinyBase(autoencoder_steps=2, batch_size=1))
    version = register(store, RECIPES["tiny_base"](asked))
    opened = open_base(store, resolve(store, "tuned"), "cpu", tmp_path / "open")
    assert opened.autoencoder_digest == version.autoencoder_digest
    assert opened.configuration.document["model"]["pretransform"]["scale"] != 1.0

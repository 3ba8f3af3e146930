"""An adapter takes effect, is small, leaves its base alone, and what is served is what was trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ADAPTER_KIND_LORA, ArtifactRef
from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    Adapter,
    ContinueFrom,
    CreateTrainingRunRequest,
    FineTune,
    TrainingResult,
)
from luthier_kit.registry import ModelVersion, register
from luthier_kit.rpc import FailedPrecondition, Internal, InvalidRequest
from luthier_kit.store import Store
from luthier_model import adapters as merging
from luthier_model.configuration import Configuration
from luthier_model.loading import load
from luthier_model.registered import fetch_version
from luthier_training import adapters
from luthier_training.base_model import BaseModel
from luthier_training.checkpoints import Progress
from luthier_training.continuing import check_source
from luthier_training.dataset import read_manifest
from luthier_training.encoding import encode
from luthier_training.examples import draw_batch
from luthier_training.recipes import RECIPES, fine_tune
from luthier_training.reporting import Stopped
from luthier_training.requests import settle

from .conftest import gradient_of, register_base
from .test_fine_tune import TUNE, StopsAtFive, job
from .test_stages import falling_until, stopping

LORA, DORA = ADAPTER_KIND_LORA, ADAPTER_KIND_DORA
BOTH = pytest.mark.parametrize("kind", [LORA, DORA], ids=["lora", "dora"])
SMALL: dict[str, Any] = {"rank": 4, "alpha": 8.0, "targets": ["attention", "feed_forward"]}
BASE_DIGEST = "ab" * 32


@pytest.fixture(scope="session")
def live_files(
    known: Configuration, base_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The base with the branches filled that begin at zero, as a trained model has them: DoRA is defined everywhere."""
    state, generator = load_file(base_files[0]), torch.Generator().manual_seed(11)
    for name, tensor in state.items():
        if name.startswith("model.") and tensor.dim() > 1 and not tensor.any():
            state[name] = 0.05 * torch.randn(tensor.shape, generator=generator)
    path = tmp_path_factory.mktemp("live") / "weights.safetensors"
    save_file(state, path, metadata={"format": "pt"})
    return path, base_files[1]


@pytest.fixture
def live(store: Store, known: Configuration, live_files: tuple[Path, Path]) -> ModelVersion:
    return register_base(store, known, live_files, "live")


def tune(kind: Any, **changes: Any) -> FineTune:
    return FineTune(**{**TUNE, "base_model": "live", "adapter": Adapter(kind=kind, **SMALL), **changes})


def trained(store: Store, dataset_ref: ArtifactRef, folder: Path, name: str, recipe: FineTune) -> ModelVersion:
    """The version that a run made, registered under the name of the run."""
    asked, own = job(store, dataset_ref, folder / name, name, fine_tune=recipe)
    version = RECIPES["fine_tune"](asked)
    own.heartbeat.stop()
    return register(store, version)


def opened(store: Store, version: ModelVersion, folder: Path) -> ConditionedDiffusionModelWrapper:
    """The model as training and inference load it."""
    files = fetch_version(store, version, folder)
    return load(files.configuration, files.weights, files.text_encoder, "cpu", files.adapters)


@torch.no_grad()
def output(model: ConditionedDiffusionModelWrapper, known: Configuration) -> torch.Tensor:
    """What the transformer makes of fixed noise and a fixed prompt."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, known.latent_channels, known.window_latents, generator=generator)
    seconds = {"seconds_start": 0.0, "seconds_total": 2.0}
    condition = model.conditioner([{"prompt": p, **seconds} for p in ("A slow jazz ballad", "techno")], "cpu")
    result: torch.Tensor = model(noise, torch.tensor([0.4, 0.8]), cond=condition)
    return result


def with_random_adapter(
    known: Configuration, files: tuple[Path, Path], kind: Any, **changes: Any
) -> tuple[ConditionedDiffusionModelWrapper, adapters.AdapterInTraining]:
    """A model under an adapter of random weights, as if it had been trained."""
    model = load(known, *files)
    inserted = adapters.insert(model, Adapter(kind=kind, dropout=0, **{**SMALL, **changes}), seed=1)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in inserted.weights.values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model, inserted


def written(inserted: adapters.AdapterInTraining, store: Store, folder: Path) -> Path:
    """The file of an adapter, from the store."""
    folder.mkdir(exist_ok=True)
    return store.blobs.fetch(adapters.store(inserted, None, BASE_DIGEST, folder, store).artifact, folder)


@BOTH
def test_a_fresh_adapter_leaves_the_model_as_it_was(
    known: Configuration, live_files: tuple[Path, Path], kind: Any
) -> None:
    model = load(known, *live_files)
    before = output(model, known)
    adapters.insert(model, Adapter(kind=kind, **SMALL), seed=1)
    torch.testing.assert_close(output(model, known), before, rtol=0, atol=1e-6)


@BOTH
@pytest.mark.parametrize("target", ["attention", "feed_forward", "all"])
def test_merging_equals_applying(
    store: Store, known: Configuration, live_files: tuple[Path, Path], tmp_path: Path, kind: Any, target: str
) -> None:
    model, inserted = with_random_adapter(known, live_files, kind, targets=[target])
    applied, path = output(model, known), written(inserted, store, tmp_path / "a")

    served = output(load(known, *live_files, "cpu", [merging.read(path)]), known)

    torch.testing.assert_close(served, applied, rtol=1e-5, atol=1e-5)
    assert float((served - output(load(known, *live_files), known)).abs().max()) > 0.01, "it did nothing"


@BOTH
def test_merging_gives_what_pefts_own_merging_gives(
    store: Store, known: Configuration, live_files: tuple[Path, Path], tmp_path: Path, kind: Any
) -> None:
    _, inserted = with_random_adapter(known, live_files, kind, targets=["all"])
    state, path = load_file(live_files[0]), written(inserted, store, tmp_path / "a")

    merging.merge(merging.read(path), state)

    for name, layer in inserted.layers.items():
        layer.merge(safe_merge=True)
        torch.testing.assert_close(state[f"{name}.weight"], layer.base_layer.weight, rtol=1e-5, atol=1e-6)


@BOTH
def test_peft_reads_the_file_as_its_own(
    store: Store, known: Configuration, live_files: tuple[Path, Path], tmp_path: Path, kind: Any
) -> None:
    model, inserted = with_random_adapter(known, live_files, kind)
    path = written(inserted, store, tmp_path / "a")
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    config = LoraConfig(
        r=int(facts["rank"]),
        lora_alpha=float(facts["alpha"]),  # type: ignore[arg-type]
        use_dora=facts["kind"] == "dora",
        target_modules=list(inserted.layers),
    )

    other = get_peft_model(load(known, *live_files), config)
    loaded: Any = set_peft_model_state_dict(other, load_file(path))

    assert not loaded.unexpected_keys
    assert not [key for key in loaded.missing_keys if "lora_" in key]
    torch.testing.assert_close(output(other.base_model.model, known), output(model, known), rtol=1e-6, atol=1e-6)


@BOTH
def test_a_run_takes_effect_and_its_artifact_is_small(
    store: Store, live: ModelVersion, known: Configuration, dataset_ref: ArtifactRef, tmp_path: Path, kind: Any
) -> None:
    everywhere = Adapter(kind=kind, **SMALL | {"targets": ["all"]})
    version = trained(store, dataset_ref, tmp_path, "a", tune(kind, steps=24, learning_rate=1e-2, adapter=everywhere))

    validation = [loss for _, loss in version.notes["validation"]]
    assert validation[-1] < 0.95 * validation[0]
    assert version.checkpoint == live.checkpoint, "the base's own, not a copy"
    [adapter] = version.adapters
    assert (adapter.kind, adapter.rank, adapter.alpha, list(adapter.targets)) == (kind, 4, 8.0, ["all"])
    assert 0.001 < adapter.relative_change < 1
    assert not adapter.left_to_lora
    assert adapter.artifact.size_bytes < 0.2 * live.checkpoint.size_bytes
    assert version.digest != live.digest
    apart = output(opened(store, version, tmp_path), known) - output(opened(store, live, tmp_path), known)
    assert float(apart.abs().max()) > 0.01


def test_what_is_loaded_has_the_loss_that_the_run_ended_with(
    store: Store, live: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    """And the next fine-tuning, with an adapter or without, begins there."""
    version = trained(store, dataset_ref, tmp_path, "a", tune(LORA, steps=8, ema_decay=0.5))
    again = trained(store, dataset_ref, tmp_path, "b", tune(DORA, steps=4, base_model=version.label))
    whole = trained(store, dataset_ref, tmp_path, "c", FineTune(steps=4, **TUNE | {"base_model": again.label}))

    assert again.notes["validation"][0][1] == pytest.approx(version.notes["validation"][-1][1], rel=1e-5)
    assert whole.notes["validation"][0][1] == pytest.approx(again.notes["validation"][-1][1], rel=1e-5)
    assert list(again.adapters[:1]) == list(version.adapters)
    assert (len(again.adapters), len(whole.adapters)) == (2, 0)
    assert again.notes["base_digest"] == version.digest
    bases = [adapter.base_digest for adapter in fetch_version(store, again, tmp_path / "f").adapters]
    assert bases == [live.digest, version.digest]


def test_only_the_adapter_is_trained(known: Configuration, live_files: tuple[Path, Path], tmp_path: Path) -> None:
    found = fine_tune.prepare(load(known, *live_files), tune(LORA, learning_rate=1e-2))
    assert {parameter for parameter in found.model.parameters() if parameter.requires_grad} == {
        *found.adapter.weights.values()  # type: ignore[union-attr]
    }
    before = {name: t.clone() for name, t in found.model.state_dict().items() if ".lora_" not in name}
    for parameter in found.gradients.parameters:
        parameter.grad = torch.ones_like(parameter)
    found.optimizer.step()
    after = found.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    found.snapshot(Progress(1)).write(tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").stat().st_size < 0.4 * live_files[0].stat().st_size, "with both moments"


@pytest.mark.parametrize(("kind", "ema", "dropout"), [(LORA, 0.0, 0.3), (DORA, 0.9, 0.0)])
def test_a_stopped_run_goes_on_to_the_same_adapter(
    store: Store,
    live: ModelVersion,
    known: Configuration,
    live_files: tuple[Path, Path],
    dataset_ref: ArtifactRef,
    tmp_path: Path,
    kind: Any,
    ema: float,
    dropout: float,
) -> None:
    recipe = tune(kind, steps=8, ema_decay=ema, adapter=Adapter(kind=kind, dropout=dropout, **SMALL))
    wanted = trained(store, dataset_ref, tmp_path, "whole", recipe).adapters[0].artifact
    first, own = job(store, dataset_ref, tmp_path / "first", "parts", StopsAtFive, fine_tune=recipe)
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](first)
    own.heartbeat.stop()
    weights = load_file(live_files[0])
    other = tmp_path / "other.safetensors"
    save_file({name: 1.1 * tensor for name, tensor in weights.items()}, other, metadata={"format": "pt"})
    register_base(store, known, (other, live_files[1]), "live")  # meanwhile the name means other weights

    second, _ = job(store, dataset_ref, tmp_path / "second", "parts", fine_tune=recipe)
    version = RECIPES["fine_tune"](second)

    assert version.checkpoint == live.checkpoint
    whole, parts = (load_file(store.blobs.fetch(ref, tmp_path)) for ref in (wanted, version.adapters[0].artifact))
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def test_the_moving_average_is_what_is_exported_and_validated(
    store: Store, live: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    plain = trained(store, dataset_ref, tmp_path, "plain", tune(LORA, steps=6))
    average = trained(store, dataset_ref, tmp_path, "average", tune(LORA, steps=6, ema_decay=0.9))
    assert 0 < average.adapters[0].relative_change < plain.adapters[0].relative_change
    assert average.notes["moving_average"]
    losses = [version.notes["validation"][-1][1] for version in (plain, average)]
    assert losses[0] != losses[1]


def test_dropout_drops_and_follows_from_the_seed(
    store: Store, live: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    dropping = tune(LORA, steps=4, adapter=Adapter(dropout=0.5, **SMALL))
    runs = [("a", dropping), ("b", dropping), ("none", tune(LORA, steps=4))]
    ends = [trained(store, dataset_ref, tmp_path, name, recipe).notes["validation"][-1][1] for name, recipe in runs]
    assert ends[1] == pytest.approx(ends[0], rel=1e-6)
    assert ends[2] != pytest.approx(ends[0], rel=1e-4)


@BOTH
def test_recomputing_activations_changes_nothing(
    store: Store, live: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, kind: Any
) -> None:
    recipe = tune(kind, steps=4, adapter=Adapter(kind=kind, dropout=0.2, **SMALL))
    asked, _ = job(store, dataset_ref, tmp_path / "a", fine_tune=recipe)
    base = BaseModel.open(store, live, "cpu", tmp_path / "base")
    train, _ = encode(asked, base, read_manifest(store, dataset_ref))
    prepared = fine_tune.prepare(base.model, asked.request.fine_tune)
    found = []
    for recompute in (False, True):
        prepared.gradients.forget()
        torch.manual_seed(1)
        fine_tune.batch_loss(base.model, draw_batch(train, 0, 4, 0.1, seed=4), recompute=recompute).backward()  # type: ignore[no-untyped-call]
        found.append(gradient_of(prepared))
    assert float(found[0].abs().max()) > 0
    torch.testing.assert_close(found[1], found[0])


def test_dora_leaves_layers_with_rows_of_zeros_to_lora_and_names_them(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path
) -> None:
    """As the output projections of a model begin: peft's DoRA is NaN from the first step."""
    version = trained(store, dataset_ref, tmp_path, "a", tune(DORA, steps=6, base_model="base"))
    block = "model.model.transformer.layers.0"
    expected = [f"{block}.{name}" for name in ("cross_attn.to_out", "ff.ff.2", "self_attn.to_out")]
    assert list(version.adapters[0].left_to_lora) == expected
    [adapter] = fetch_version(store, version, tmp_path / "f").adapters
    assert {layer for layer, dora in adapter.layers.items() if not dora} == set(expected)
    assert version.notes["validation"][-1][1] < version.notes["validation"][0][1]


def test_dora_on_rows_of_zeros_alone_is_refused(known: Configuration, live_files: tuple[Path, Path]) -> None:
    model = load(known, *live_files)
    for layer in merging.linear_layers(model).values():
        layer.weight[0] = 0  # one row is enough
    with pytest.raises(InvalidRequest) as refused:
        adapters.insert(model, Adapter(kind=DORA, **SMALL), seed=1)
    assert "all 7 layers of the targets have: take LoRA" in dict(refused.value.violations)["fine_tune.adapter.kind"]


def test_a_base_in_half_precision_is_trained_and_served_in_float32(
    store: Store,
    known: Configuration,
    live_files: tuple[Path, Path],
    live: ModelVersion,
    dataset_ref: ArtifactRef,
    tmp_path: Path,
) -> None:
    weights = {name: tensor.half() for name, tensor in load_file(live_files[0]).items()}
    save_file(weights, tmp_path / "half.safetensors", metadata={"format": "pt"})
    register_base(store, known, (tmp_path / "half.safetensors", live_files[1]), "half")
    version = trained(store, dataset_ref, tmp_path, "a", tune(LORA, steps=4, base_model="half"))
    again = trained(store, dataset_ref, tmp_path, "b", tune(LORA, steps=4, base_model=version.label))
    assert again.notes["validation"][0][1] == pytest.approx(version.notes["validation"][-1][1], rel=1e-5)


@pytest.mark.parametrize("weight_norm", [torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm])
def test_a_weight_normed_layer_takes_no_adapter(
    known: Configuration, live_files: tuple[Path, Path], weight_norm: Any
) -> None:
    """Its weight is made anew whenever it runs: what is merged into it would be gone without a word."""
    model = load(known, *live_files)
    block = model.model.model.transformer.layers[0]
    for layer in (block.ff.ff[0].proj, block.ff.ff[2]):
        weight_norm(layer)
    with pytest.raises(InvalidRequest) as refused:
        adapters.insert(model, Adapter(**SMALL), seed=1)
    assert dict(refused.value.violations) == {
        "fine_tune.adapter.targets": "this model has no layer of feed_forward that can take an adapter"
    }
    del block.ff.ff[2]
    assert not [name for name in adapters.insert(model, Adapter(rank=4, targets=["all"]), 1).layers if ".ff." in name]


def spoiled(inserted: adapters.AdapterInTraining, how: str) -> None:
    first: Any = next(iter(inserted.layers.values()))
    with torch.no_grad():
        for key, parameter in inserted.weights.items():
            if how == "without effect" and "lora_B" in key:
                parameter.zero_()
        if how == "not finite":
            first.lora_B[adapters.NAME].weight[0, 0] = torch.nan
    if how == "not what is merged":
        first.scaling[adapters.NAME] *= 1.01


@pytest.mark.parametrize(
    ("how", "kind", "reason"),
    [
        ("without effect", FailedPrecondition, "ADAPTER_WITHOUT_EFFECT"),
        ("fresh", FailedPrecondition, "ADAPTER_WITHOUT_EFFECT"),
        ("not finite", FailedPrecondition, "TRAINING_DIVERGED"),
        ("not what is merged", Internal, "ADAPTER_NOT_MERGED"),
    ],
)
def test_an_adapter_that_would_not_serve_as_trained_is_not_stored(
    store: Store, known: Configuration, live_files: tuple[Path, Path], tmp_path: Path, how: str, kind: Any, reason: str
) -> None:
    _, inserted = with_random_adapter(known, live_files, LORA)
    if how == "fresh":
        inserted = adapters.insert(load(known, *live_files), Adapter(kind=DORA, **SMALL), seed=1)
    spoiled(inserted, how)
    with pytest.raises(kind) as refused:
        adapters.store(inserted, None, BASE_DIGEST, tmp_path, store)
    assert refused.value.reason == reason
    assert not list(store.objects.keys("checkpoints/"))


def test_an_adapters_run_is_continued_and_exports_its_best(
    store: Store, live: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune, "validation_loss", falling_until(6))
    recipe = tune(LORA, steps=8, ema_decay=0.9, validate_every=1, checkpoint_every=8)
    first, own = job(store, dataset_ref, tmp_path / "first", "first", stopping(3), fine_tune=recipe)
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](first)
    own.cancel("ann", "enough")
    own.cancelled()
    own.heartbeat.stop()
    source = ContinueFrom(run_id=own.id, same_plan=True)
    recipe.continue_from.CopyFrom(source)
    recipe.export = EXPORTED_WEIGHTS_BEST_BY_VALIDATION

    version = trained(store, dataset_ref, tmp_path, "after", recipe)

    assert version.notes["exported_step"] == 6
    assert 0 < version.adapters[0].relative_change < 1


@pytest.mark.parametrize("changed", [{"alpha": 4.0}, {"targets": ["attention"]}, None])
def test_a_run_that_trains_on_keeps_what_decides_how_its_adapter_acts(
    store: Store, live: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, changed: dict[str, Any] | None
) -> None:
    """Another alpha would scale what was learned, though all shapes agree."""
    asked, own = job(store, dataset_ref, tmp_path / "a", "a", fine_tune=tune(LORA, steps=4))
    RECIPES["fine_tune"](asked)
    own.succeed(TrainingResult(model="tuned@1"))
    adapter = None if changed is None else Adapter(kind=LORA, **SMALL | changed)
    other, same = (
        settle(
            CreateTrainingRunRequest(
                request_id="b",
                dataset=dataset_ref,
                model_name="m",
                fine_tune=tune(LORA, steps=4, adapter=its, continue_from=ContinueFrom(run_id=own.id)),
            )
        )
        for its in (adapter, Adapter(kind=LORA, dropout=0.1, **SMALL))
    )
    with pytest.raises(InvalidRequest, match=r"fine_tune\.adapter: must be as in training-"):
        check_source(store, other, live, [])
    check_source(store, same, live, [])

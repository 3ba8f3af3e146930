"""An adapter changes the weights as its paper says, and is refused by name when it does not belong to them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from luthier.common.v1.common_pb2 import ArtifactRef, ModelAdapter
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import DataLoss, FailedPrecondition
from luthier_kit.store import Store
from luthier_model import adapters
from luthier_model.configuration import Configuration
from luthier_model.errors import AdapterError, AdapterMismatch
from luthier_model.loading import load
from luthier_model.network import skeleton
from luthier_model.registered import fetch_version, statuses
from tests.support.services import temp_store

from .small import ModelFiles, adapter_over
from .test_registered import version_of

LAYER = "model.model.transformer.layers.0.self_attn.to_qkv"
KINDS = pytest.mark.parametrize("kind", ["lora", "dora"])


@KINDS
def test_a_weight_becomes_what_the_paper_says(model_files: ModelFiles, tmp_path: Path, kind: str) -> None:
    """LoRA: W + alpha / rank B A (Hu 2021, equation 3). DoRA: m V / |V|, rows of length m (Liu 2024, equation 5)."""
    path = adapter_over(model_files, "ab" * 32, tmp_path, kind=kind)
    before, stored = load_file(model_files.weights), load_file(path)
    after = dict(before)

    adapters.merge(adapters.read(path), after)

    a, b = (stored[f"base_model.model.{LAYER}.lora_{side}.weight"].double().numpy() for side in "AB")
    expected = before[f"{LAYER}.weight"].double().numpy() + 6.0 / 3 * b @ a
    if kind == "dora":
        lengths = stored[f"base_model.model.{LAYER}.lora_magnitude_vector"].double().numpy()
        expected *= (lengths / np.sqrt((expected**2).sum(axis=1)))[:, None]
        np.testing.assert_allclose(after[f"{LAYER}.weight"].norm(dim=1), lengths, rtol=1e-5)
    np.testing.assert_allclose(after[f"{LAYER}.weight"], expected, rtol=1e-5, atol=1e-6)
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{layer}.weight" for layer in adapters.read(path).layers}


def test_an_adapter_whose_b_is_zero_gives_exactly_the_base(model_files: ModelFiles, tmp_path: Path) -> None:
    path = adapter_over(model_files, "ab" * 32, tmp_path)
    tensors, facts = contents(path)
    save_file({n: t * 0 if "lora_B" in n else t for n, t in tensors.items()}, path, metadata=facts)
    before = load_file(model_files.weights)
    after = dict(before)
    adapters.merge(adapters.read(path), after)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_with_an_adapter_half_precision_weights_are_computed_in_float32(
    model_files: ModelFiles, tmp_path: Path
) -> None:
    """A small change would be rounded away."""
    half = {name: tensor.half() for name, tensor in load_file(model_files.weights).items()}
    save_file(half, tmp_path / "half.safetensors")
    adapter = adapters.read(adapter_over(model_files, "ab" * 32, tmp_path, size=1e-6))
    known, text = model_files.configuration, model_files.text_encoder
    loaded = load(known, tmp_path / "half.safetensors", text, "cpu", [adapter]).state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    change = loaded[f"{LAYER}.weight"] - half[f"{LAYER}.weight"].float()
    assert 0 < float(change.abs().max()) < 1e-4


def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    return load_file(path), facts


Change = Callable[[dict[str, torch.Tensor], dict[str, str]], object]
A = f"base_model.model.{LAYER}.lora_A.weight"
UNREADABLE: dict[str, tuple[Change, str]] = {
    "no kind": (lambda _, facts: facts.pop("kind"), "kind must be one of lora, dora, got ''"),
    "another kind": (lambda _, facts: facts.update(kind="loha"), "kind must be one of lora, dora, got 'loha'"),
    "rank is a word": (lambda _, facts: facts.update(rank="three"), "rank and alpha must be numbers"),
    "rank is too large": (lambda _, facts: facts.update(rank="257"), "rank must be between 1 and 256, got 257"),
    "alpha is zero": (lambda _, facts: facts.update(alpha="0"), "alpha must be above 0 and at most 4096, got 0.0"),
    "alpha is NaN": (lambda _, facts: facts.update(alpha="nan"), "alpha must be above 0 and at most 4096, got nan"),
    "no base": (lambda _, facts: facts.pop("base"), "base must be the SHA-256"),
    "no layers": (lambda tensors, _: tensors.clear(), "it must have layers"),
    "half a layer": (lambda tensors, _: tensors.pop(A), f"not so: base_model.model.{LAYER}.lora_B.weight"),
    "something else": (lambda tensors, _: tensors.update(x=torch.ones(1)), "not so: x"),
    "magnitudes of LoRA": (lambda _, facts: facts.update(kind="dora"), "of DoRA alone magnitudes"),
}


@pytest.mark.parametrize(("change", "text"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_adapter_is_said(model_files: ModelFiles, tmp_path: Path, change: Change, text: str) -> None:
    path = adapter_over(model_files, "ab" * 32, tmp_path)
    tensors, facts = contents(path)
    change(tensors, facts)
    save_file(tensors, path, metadata=facts)
    with pytest.raises(AdapterError, match=r"^adapter: ") as refused:
        adapters.read(path)
    assert text in str(refused.value)


def test_a_file_of_another_form_is_no_adapter(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\x80\x04pickled")
    with pytest.raises(AdapterError, match="adapter: the weights are not a safetensors file"):
        adapters.read(tmp_path / "a.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(
    known: Configuration, model_files: ModelFiles, tmp_path: Path, value: float
) -> None:
    path = adapter_over(model_files, "ab" * 32, tmp_path)
    tensors, facts = contents(path)
    tensors[A][0, 0] = value
    save_file(tensors, path, metadata=facts)
    with pytest.raises(AdapterError, match=r"to_qkv\.lora_A\.weight holds NaN or infinity"):
        load(model_files.configuration, model_files.weights, model_files.text_encoder, "cpu", [adapters.read(path)])


def test_dora_on_a_row_of_zeros_is_refused_and_the_layer_named(model_files: ModelFiles, tmp_path: Path) -> None:
    path = adapter_over(model_files, "ab" * 32, tmp_path, kind="dora")
    tensors, facts = contents(path)
    tensors[A.replace("lora_A", "lora_B")][5] = 0
    save_file(tensors, path, metadata=facts)
    state = load_file(model_files.weights)
    state[f"{LAYER}.weight"][5] = 0
    with pytest.raises(AdapterError, match=rf"{LAYER} would hold NaN or infinity"):
        adapters.merge(adapters.read(path), state)


@pytest.mark.parametrize(
    "layer",
    [
        "model.model.transformer.layers.9.self_attn.to_qkv",
        "model.model.transformer.layers.0.pre_norm",
        "pretransform.model.encoder.layers.0",
        "conditioner.conditioners.prompt.proj_out",
        "model.model.timestep_features",
        "model.model.postprocess_conv",
    ],
)
def test_a_layer_that_takes_no_adapter_is_named(model_files: ModelFiles, tmp_path: Path, layer: str) -> None:
    path = adapter_over(model_files, "ab" * 32, tmp_path)
    tensors, facts = contents(path)
    for side in "AB":
        tensors[f"base_model.model.{layer}.lora_{side}.weight"] = tensors.pop(A.replace("lora_A", f"lora_{side}"))
    save_file(tensors, path, metadata=facts)
    with pytest.raises(AdapterMismatch, match=f"{layer} is no plain linear layer of the model's transformer"):
        adapters.check(adapters.read(path), skeleton(model_files.configuration))


@pytest.mark.parametrize("weight_norm", [torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm])
def test_a_weight_normed_layer_is_refused(model_files: ModelFiles, tmp_path: Path, weight_norm: Any) -> None:
    """What is merged into its weight would be overwritten when it runs."""
    path = adapter_over(model_files, "ab" * 32, tmp_path)
    model = skeleton(model_files.configuration)
    weight_norm(model.get_submodule(LAYER))
    with pytest.raises(AdapterMismatch, match=f"{LAYER} is no plain linear layer"):
        adapters.check(adapters.read(path), model)


def test_tensors_of_another_shape_are_named(known: Configuration, model_files: ModelFiles, tmp_path: Path) -> None:
    path = adapter_over(model_files, "ab" * 32, tmp_path)
    tensors, facts = contents(path)
    tensors[A] = tensors[A][:, :-1].contiguous()
    save_file(tensors, path, metadata=facts)
    with pytest.raises(AdapterMismatch, match=r"to_qkv\.lora_A\.weight is \[3, 63\], must be \[3, 64\]"):
        load(model_files.configuration, model_files.weights, model_files.text_encoder, "cpu", [adapters.read(path)])


def with_adapters(store: Store, version: ModelVersion, *paths: Path) -> ModelVersion:
    stored = [ModelAdapter(artifact=store.blobs.put_file("checkpoints", path)) for path in paths]
    return replace(version, adapters=(*version.adapters, *stored))


def test_a_versions_adapters_come_with_it_each_over_the_ones_before(model_files: ModelFiles, tmp_path: Path) -> None:
    with temp_store(tmp_path / "store") as store:
        files = (model_files.weights, model_files.text_encoder)
        base = version_of(store, model_files.configuration, files)
        once = with_adapters(store, base, adapter_over(model_files, base.digest, tmp_path))
        twice = with_adapters(store, once, adapter_over(model_files, once.digest, tmp_path, kind="dora"))
        fetched = fetch_version(store, twice, tmp_path / "fetched")
    assert [(adapter.kind, adapter.base_digest) for adapter in fetched.adapters] == [
        ("lora", base.digest),
        ("dora", once.digest),
    ]


@pytest.mark.parametrize("wrong", ["trained on other weights", "in another order"])
def test_an_adapter_of_another_base_is_refused(model_files: ModelFiles, tmp_path: Path, wrong: str) -> None:
    with temp_store(tmp_path / "store") as store:
        files = (model_files.weights, model_files.text_encoder)
        base = version_of(store, model_files.configuration, files)
        if wrong == "trained on other weights":
            version = with_adapters(store, base, adapter_over(model_files, "cd" * 32, tmp_path))
        else:
            once = with_adapters(store, base, adapter_over(model_files, base.digest, tmp_path))
            twice = with_adapters(store, once, adapter_over(model_files, once.digest, tmp_path, kind="dora"))
            version = replace(twice, adapters=twice.adapters[::-1])
        with (
            pytest.raises(
                FailedPrecondition, match=r"adapter: it was trained on sha256:.*the weights below it are"
            ) as no,
            statuses(version),
        ):
            fetch_version(store, version, tmp_path / "fetched")
    assert (no.value.reason, no.value.permanent) == ("ADAPTER_MISMATCH", False)


def test_an_adapter_that_was_tampered_with_is_data_loss(model_files: ModelFiles, tmp_path: Path) -> None:
    with temp_store(tmp_path / "store") as store:
        base = version_of(store, model_files.configuration, (model_files.weights, model_files.text_encoder))
        version = with_adapters(store, base, adapter_over(model_files, base.digest, tmp_path))
        ref: ArtifactRef = version.adapters[0].artifact
        stored = tmp_path / "store" / "luthier" / ref.key
        data = bytearray(stored.read_bytes())
        data[-1] ^= 1
        stored.write_bytes(data)
        with pytest.raises(DataLoss):
            fetch_version(store, version, tmp_path / "fetched")

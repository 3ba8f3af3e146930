"""Adapters applied while a model runs give what their merged weights give, and change no other row of a pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier_model import adapters
from luthier_model.adapter_mix import AdapterMix, load_adapter
from luthier_model.adapters import DORA, KINDS, LORA, Adapter
from luthier_model.errors import AdapterError, AdapterMismatch
from luthier_model.generation import Denoising, LoadedModel, evaluate, for_serving, longest, prepare
from luthier_model.loading import load
from luthier_model.network import skeleton

from .families import small_family
from .small import ModelFiles

FAMILIES = ["stable_audio_open", "stable_audio_open_small", "inpainting", "prepended"]


def adapter_on_all(files: ModelFiles, folder: Path, kind: str, seed: int) -> Adapter:
    """Random, of rank 3, on every layer that can take one; it changes each weight by about a third."""
    state, generator, tensors = load_file(files.weights), torch.Generator().manual_seed(seed), {}
    for layer in adapters.linear_layers(skeleton(files.configuration)):
        weight = state[f"{layer}.weight"]
        size = 0.3 * weight.std() / 3**0.5  # alpha is the rank
        tensors[layer + adapters.A] = torch.randn(3, weight.shape[1], generator=generator)
        tensors[layer + adapters.B] = size * torch.randn(weight.shape[0], 3, generator=generator)
        if kind == DORA:
            stretch = 1 + 0.2 * torch.rand(weight.shape[0], generator=generator)
            tensors[layer + adapters.MAGNITUDE] = stretch * weight.norm(dim=1)
    path = folder / f"{kind}-{seed}.safetensors"
    adapters.write(path, tensors, kind=kind, rank=3, alpha=3.0, targets=["all"], base_digest="ab" * 32)
    return adapters.read(path)


@dataclass(frozen=True)
class Family:
    """A small model, and where its adapters lie."""

    files: ModelFiles
    folder: Path

    def model(self, merge: Sequence[Adapter] = ()) -> LoadedModel:
        known = self.files.configuration
        network = load(known, self.files.weights, self.files.text_encoder, merge=merge)
        return prepare(network, known, torch.device("cpu"), "float32")

    def adapter(self, kind: str, seed: int = 1) -> Adapter:
        return adapter_on_all(self.files, self.folder, kind, seed)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp(request.param)
    return Family(small_family(request.param, folder), folder)


def latents_of(model: LoadedModel, *mixes: AdapterMix | None) -> list[torch.Tensor]:
    """Of requests evaluated together, each with its mix, after two steps."""
    requests = [Denoising(model, longest(model.configuration), None, mix) for mix in mixes]
    while requests[0].asked:
        evaluate(requests)
    return [each.latents for each in requests]


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, rtol=0, atol=1e-4 * float(expected.std()))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_gives_what_its_merged_weights_give(family: Family, kind: str) -> None:
    model, adapter = family.model(), family.adapter(kind)
    [expected] = latents_of(family.model([adapter]), None)
    mix = AdapterMix.of([(load_adapter(adapter, model.network), 1.0)])

    found, without = latents_of(model, mix, None)

    assert close(found, expected)
    assert not close(found, without)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.5, -0.4])
def test_a_share_of_an_adapter_is_that_share_of_its_difference(
    family: Family, kind: str, share: float, tmp_path: Path
) -> None:
    model, adapter, state = family.model(), family.adapter(kind), load_file(family.files.weights)
    whole = dict(state)
    adapters.merge(adapter, whole)
    save_file({name: torch.lerp(state[name], whole[name], share) for name in state}, tmp_path / "part.safetensors")
    part = replace(family, files=replace(family.files, weights=tmp_path / "part.safetensors"))
    [expected] = latents_of(part.model(), None)

    [found] = latents_of(model, AdapterMix.of([(load_adapter(adapter, model.network), share)]))

    assert close(found, expected)


def test_adapters_add_their_differences(family: Family) -> None:
    model, first, second = family.model(), family.adapter(LORA, 1), family.adapter(LORA, 2)
    [expected] = latents_of(family.model([first, second]), None)
    loaded = [load_adapter(each, model.network) for each in (first, second)]

    [found] = latents_of(model, AdapterMix.of([(each, 1.0) for each in loaded]))

    assert close(found, expected)


def test_requests_with_and_without_adapters_share_a_pass(family: Family) -> None:
    model = family.model()
    lora, dora = (load_adapter(family.adapter(kind, seed), model.network) for kind, seed in ((LORA, 1), (DORA, 2)))
    mixes = [None, AdapterMix.of([(lora, 0.8)]), AdapterMix.of([(dora, 1.2), (lora, -0.3)]), None]
    alone = [latents_of(model, mix)[0] for mix in mixes]

    together = latents_of(model, *mixes)

    assert all(close(found, expected) for found, expected in zip(together, alone, strict=True))
    assert not close(alone[1], alone[2])


def test_in_bfloat16_an_adapter_is_near_its_merged_weights(family: Family) -> None:
    def served(merge: Sequence[Adapter] = ()) -> LoadedModel:
        known = family.files.configuration
        network = load(known, family.files.weights, family.files.text_encoder, merge=merge)
        for_serving(network, "bfloat16")
        return prepare(network, known, torch.device("cpu"), "bfloat16")

    model, adapter = served(), family.adapter(DORA)
    [exact], [merged] = latents_of(family.model([adapter]), None), latents_of(served([adapter]), None)

    [found] = latents_of(model, AdapterMix.of([(load_adapter(adapter, model.network), 1.0)]))

    assert float((found - exact).std()) < 2 * float((merged - exact).std())  # as far off as rounding is


def test_an_adapter_of_another_model_is_refused(family: Family, tmp_path: Path) -> None:
    tensors = {
        "model.model.elsewhere" + adapters.A: torch.ones(3, 4),
        "model.model.elsewhere" + adapters.B: torch.ones(4, 3),
    }
    path = tmp_path / "other.safetensors"
    adapters.write(path, tensors, kind=LORA, rank=3, alpha=3.0, targets=["all"], base_digest="ab" * 32)

    with pytest.raises(AdapterMismatch, match="elsewhere"):
        load_adapter(adapters.read(path), family.model().network)


def test_a_row_of_zeros_that_dora_would_scale_is_refused(family: Family, tmp_path: Path) -> None:
    adapter, state = family.adapter(DORA), load_file(family.files.weights)
    layer = next(iter(adapter.layers))
    state[f"{layer}.weight"].zero_()
    save_file(state, tmp_path / "zeros.safetensors")
    zeros = replace(family, files=replace(family.files, weights=tmp_path / "zeros.safetensors"))
    with_nothing = load_file(adapter.path)
    with_nothing[f"{adapters.PREFIX}{layer}{adapters.B}"].zero_()
    adapters.write(
        tmp_path / "nothing.safetensors",
        {name.removeprefix(adapters.PREFIX): tensor for name, tensor in with_nothing.items()},
        kind=DORA, rank=3, alpha=3.0, targets=["all"], base_digest="ab" * 32,
    )  # fmt: skip

    with pytest.raises(AdapterError, match="NaN or infinity"):
        load_adapter(adapters.read(tmp_path / "nothing.safetensors"), zeros.model().network)

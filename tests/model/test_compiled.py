"""Passes that a model was warmed up for, compiled and recorded, against the same passes without.

A CUDA graph cannot be recorded here: what it does again on the same memory, the tests do again by calling it.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from luthier_model.adapter_mix import AdapterMix, load_adapter
from luthier_model.compiled import CompilerMissing, Speedups
from luthier_model.generation import Denoising, LoadedModel, evaluate, for_serving, longest, prepare, warm_up
from luthier_model.loading import load
from luthier_model.transformer import Transformer

from .families import small_family
from .test_adapter_mix import adapter_on_all

Latents = list[torch.Tensor]


def again(run: Callable[[], None]) -> Callable[[], None]:
    return run


COMPILED: Final = Speedups(compile=True, backend="aot_eager")  # all of the compiler but its code
RECORDED: Final = Speedups(record=again)
BOTH: Final = Speedups(compile=True, record=again, backend="eager")
WAYS: Final = {"compiled": COMPILED, "recorded": RECORDED, "both": BOTH}


def served(family: str, folder: Path, precision: str = "float32", speedups: Speedups | None = None) -> LoadedModel:
    files = small_family(family, folder)
    network = load(files.configuration, files.weights, files.text_encoder)
    for_serving(network, precision)
    return prepare(network, files.configuration, torch.device("cpu"), precision, speedups)


def latents_of(model: LoadedModel, prompts: Sequence[str], guidance_scale: float = 3.0) -> Latents:
    """Of requests that are evaluated together."""
    asked = longest(model.configuration, guidance_scale)
    requests = [Denoising(model, replace(asked, prompt=prompt, seed=seed)) for seed, prompt in enumerate(prompts)]
    while requests[0].asked:
        evaluate(requests)
    return [each.latents for each in requests]


def shapes_of(model: LoadedModel) -> int:
    network = model.velocity_of
    assert isinstance(network, Transformer)
    assert network.layers
    return network.layers.shapes


def in_another_thread(run: Callable[[], Latents]) -> Latents:
    """As a model that one thread warms up and another works with."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(run()))
    thread.start()
    thread.join()
    return found


def close(found: Latents, expected: Latents) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "way"),
    [
        ("stable_audio_open", "both"),
        ("stable_audio_open_small", "recorded"),
        ("prepended", "recorded"),
        *(
            pytest.param(family, way, marks=pytest.mark.slow)
            for family in ("stable_audio_open", "stable_audio_open_small", "inpainting", "prepended", "one_vector")
            for way in WAYS
        ),
    ],
)
def test_passes_that_are_warm_give_the_same_audio_and_compile_nothing(family: str, way: str, tmp_path: Path) -> None:
    plain, fast = served(family, tmp_path), served(family, tmp_path, speedups=WAYS[way])
    shapes = warm_up(fast, 2)

    for prompts, scale in [(["bells"], 3.0), (["calm piano", "loud drums"], 3.0), (["a harp", "bells"], 1.0)]:
        expected = latents_of(plain, prompts, scale)
        with torch.compiler.set_stance("fail_on_recompile"):
            found = in_another_thread(partial(latents_of, fast, prompts, scale))
        close(found, expected)
    assert shapes == shapes_of(fast) == 4  # one and two requests, guided and not


def test_in_bfloat16(tmp_path: Path) -> None:
    plain = served("stable_audio_open", tmp_path, "bfloat16")
    fast = served("stable_audio_open", tmp_path, "bfloat16", BOTH)
    warm_up(fast, 2)
    prompts = ["calm piano", "loud drums"]

    for one, other in zip(latents_of(fast, prompts), latents_of(plain, prompts), strict=True):
        assert (one - other).std() < 0.01 * other.std()


def test_what_is_attended_to_is_that_of_the_requests_that_are_there(tmp_path: Path) -> None:
    """Recordings of all shapes share their memory."""
    plain, fast = served("stable_audio_open", tmp_path), served("stable_audio_open", tmp_path, speedups=RECORDED)
    warm_up(fast, 2)
    asked = longest(plain.configuration)

    def in_turn(model: LoadedModel) -> Latents:
        one, two, three = (
            Denoising(model, replace(asked, prompt=prompt, seed=7)) for prompt in ("bells", "drums", "a harp")
        )
        for together in ([one], [two, three], [one], [three], [two]):
            evaluate(together)
        return [one.latents, two.latents, three.latents]

    close(in_turn(fast), in_turn(plain))


def test_a_pass_of_another_shape_runs_as_without(tmp_path: Path) -> None:
    plain, fast = served("stable_audio_open", tmp_path), served("stable_audio_open", tmp_path, speedups=BOTH)
    warm_up(fast, 1)
    prompts = ["calm piano", "loud drums", "bells"]

    with torch.compiler.set_stance("fail_on_recompile"):
        close(latents_of(fast, prompts), latents_of(plain, prompts))

    assert shapes_of(fast) == 2


def test_rows_with_an_adapter_run_as_without(tmp_path: Path) -> None:
    files = small_family("stable_audio_open", tmp_path)
    adapter = adapter_on_all(files, tmp_path, "lora", 1)
    found = []
    for speedups in (None, RECORDED):
        model = served("stable_audio_open", tmp_path, speedups=speedups)
        warm_up(model, 1)
        mix = AdapterMix.of([(load_adapter(adapter, model.network), 1.0)])
        request = Denoising(model, longest(model.configuration), None, mix)
        evaluate([request])
        found.append([request.latents])

    close(found[1], found[0])


@pytest.mark.parametrize(("family", "precision"), [("stable_audio_1", "float32"), ("stable_audio_open", "int8")])
def test_what_there_are_no_speedups_for_is_served_without(family: str, precision: str, tmp_path: Path) -> None:
    model = served(family, tmp_path, precision, RECORDED)

    assert warm_up(model, 2) == 0
    close(latents_of(model, ["bells"]), latents_of(served(family, tmp_path, precision), ["bells"]))


def test_a_compiler_that_is_not_there_is_named() -> None:
    with pytest.raises(CompilerMissing, match=r"torch.compile cannot make code for cpu here: .*no-such-compiler"):
        Speedups(compile=True, backend="no-such-compiler").check("cpu")


@pytest.mark.slow
def test_code_that_the_compiler_makes(tmp_path: Path) -> None:
    """On this machine's CPU; needs a C++ compiler."""
    how = Speedups(compile=True, record=again)
    how.check("cpu")
    plain, fast = served("stable_audio_open", tmp_path), served("stable_audio_open", tmp_path, speedups=how)
    warm_up(fast, 2)
    prompts = ["calm piano", "loud drums"]

    with torch.compiler.set_stance("fail_on_recompile"):
        found = in_another_thread(partial(latents_of, fast, prompts))

    close(found, latents_of(plain, prompts))

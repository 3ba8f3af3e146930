"""Settings that cannot work are named before anything is loaded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from luthier_inference.app import build_service
from luthier_inference.settings import InferenceSettings
from luthier_kit.rpc import SettingsError, load
from tests.support.services import temp_store

from .conftest import settings_for


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "DEVICE is missing"),
        ({"DEVICE": "cuda", "LUTHIER_PRECISION": "int8"}, "needs DEVICE=cpu"),
        ({"DEVICE": "cpu", "LUTHIER_SPEEDUPS": "cuda-graphs"}, "needs DEVICE=cuda"),
        ({"DEVICE": "cpu", "LUTHIER_SPEEDUPS": "compile, faster"}, "one of compile, cuda-graphs, got 'faster'"),
        ({"DEVICE": "cpu", "LUTHIER_MODELS": "a,b", "LUTHIER_MODELS_LOADED": "1"}, "LUTHIER_MODELS_LOADED"),
        ({"DEVICE": "cpu", "LUTHIER_TEXT_ENCODER": "/no/such/folder"}, "LUTHIER_TEXT_ENCODER.*/no/such/folder"),
    ],
)
def test_settings_that_cannot_work_are_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(InferenceSettings, environ)


def test_a_missing_device_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with temp_store(tmp_path / "store") as store, pytest.raises(SettingsError, match="no CUDA device"):
        build_service(replace(settings_for(tmp_path), device="cuda"), store)


@pytest.mark.slow
def test_a_missing_compiler_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))

    with (
        temp_store(tmp_path / "store") as store,
        pytest.raises(SettingsError, match=r"^LUTHIER_SPEEDUPS=compile: torch.compile cannot"),
    ):
        build_service(settings_for(tmp_path, speedups=("compile",)), store)

"""A configuration is refused field by field, before anything is built from it."""

import copy
import json
from typing import Any

import pytest

from luthier_model.configuration import check, packaged, read
from luthier_model.errors import ConfigurationError


def changed(path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(dict(packaged().document))
    *way, last = path.split(".")
    node = document
    for name in way:
        node = node[name]
    node[last] = value
    return document


def test_stable_audio_open_has_the_published_window() -> None:
    known = packaged()
    assert (known.sample_rate_hz, known.channels, known.window_latents) == (44100, 2, 1024)
    assert known.window_s == pytest.approx(47.55, abs=0.01)


def test_tiny_window_holds_a_clip_of_thirty_seconds() -> None:
    assert packaged("tiny").window_s > 33


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_type", "autoencoder"),
        ("sample_size", 10**12),
        ("sample_size", 2097153),
        ("sample_rate", float("nan")),
        ("model.diffusion.config.depth", 10**6),
        ("model.diffusion.config.num_heads", 0),
        ("model.diffusion.config.num_heads", 96),
        ("model.diffusion.config.causal", True),
        ("model.pretransform.type", "dac_pretrained"),
        ("model.pretransform.scale", 10**400),
        ("model.pretransform.scale", float("nan")),
        ("model.pretransform.config.encoder.config.strides", [2, 4, 4, 8, 4]),
        ("model.diffusion.global_cond_ids", ["prompt"]),
        ("model.pretransform.ckpt_path", "x.ckpt"),
    ],
)
def test_refusal_names_the_field(path: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check(changed(path, value))
    assert path in dict(refused.value.violations)


def test_conditions_other_than_prompt_and_seconds_are_refused() -> None:
    conditions = copy.deepcopy(packaged().document["model"]["conditioning"]["configs"])
    conditions[0] = {"id": "prompt", "type": "clap_audio", "config": {"clap_ckpt_path": "x.pt"}}
    with pytest.raises(ConfigurationError, match="must be 't5' or 'clap_text' for prompt"):
        check(changed("model.conditioning.configs", conditions))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"nul", b'{"model": 3}', b"[" * 5000, b"\xff" * 20])
def test_what_is_no_configuration_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigurationError):
        read(data)


def test_missing_parts_are_named() -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(json.dumps({"model_type": "diffusion_cond"}).encode())
    assert "sample_rate" in dict(refused.value.violations)

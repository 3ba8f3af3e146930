"""The transformer as it is evaluated against the library's own forward pass, for every feature that is accepted."""

from typing import Any

import pytest
import torch
from stable_audio_tools.models.dit import DiffusionTransformer

from luthier_model.guidance import Asked, Guided, Row, velocities
from luthier_model.transformer import Transformer

WIDTH, TOKENS, LATENTS, CHANNELS = 64, 5, 12, 4
PLAIN: dict[str, Any] = {"num_heads": 2, "cond_token_dim": 48, "project_global_cond": True, "global_cond_dim": 32}


def network(**features: Any) -> Any:
    """Random weights, none of them zero, so that every layer counts."""
    torch.manual_seed(1)
    made = DiffusionTransformer(io_channels=CHANNELS, embed_dim=WIDTH, depth=3, **{**PLAIN, **features})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


def told(seed: int, features: dict[str, Any]) -> dict[str, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(1, *shape, generator=generator)

    return {
        "cross_attn_cond": drawn(TOKENS, features.get("cond_token_dim", 48)),
        "global_cond": drawn(32),
        "prepend_cond": drawn(2, 16) if "prepend_cond_dim" in features else None,
        "input_concat_cond": drawn(3, LATENTS) if "input_concat_dim" in features else None,
    }


@pytest.mark.parametrize(
    "features",
    [
        {},
        {"global_cond_type": "adaLN"},
        {"prepend_cond_dim": 16},
        {"input_concat_dim": 3},
        {"num_memory_tokens": 3, "use_sinusoidal_emb": True},
        {"project_cond_tokens": False, "cond_token_dim": 32},  # two heads of queries share keys and values
        *({"attn_kwargs": {"qk_norm": norm}} for norm in ("l2", "ln", "dyt")),
        {"attn_kwargs": {"qk_norm": "ln"}, "global_cond_type": "adaLN", "num_heads": 1, "num_memory_tokens": 2},
    ],
    ids=str,
)
@torch.inference_mode()
def test_guided_velocities_are_the_librarys(features: dict[str, Any]) -> None:
    module = network(**features)
    evaluated = Transformer(module)
    asked, expected = [], []
    for seed, (t, scale, rescale) in enumerate([(0.9, 7.0, 0.0), (0.3, 1.0, 0.0), (0.5, 3.0, 0.6)]):
        inputs = told(seed, features)
        x = torch.randn(1, CHANNELS, LATENTS, generator=torch.Generator().manual_seed(10 + seed))
        other = evaluated.other_branch(inputs, None) if scale != 1 else None
        asked.append(Asked(Guided(evaluated.branch(inputs), other, scale, rescale), x, t))
        theirs = {**inputs, "global_embed": inputs["global_cond"]}
        del theirs["global_cond"]
        if inputs["prepend_cond"] is not None:
            theirs["prepend_cond_mask"] = torch.ones(1, 2)
        expected.append(module(x, torch.tensor([t]), cfg_scale=scale, scale_phi=rescale, **theirs))

    for _ in range(2):  # the second time with what was kept of the first
        for found, theirs_of in zip(velocities(evaluated, asked), expected, strict=True):
            torch.testing.assert_close(found, theirs_of, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_answers_come_in_the_order_of_the_rows() -> None:
    """Those that attend are evaluated first, whatever their place."""
    evaluated = Transformer(network())
    inputs = told(1, {})
    without, attending = evaluated.other_branch(inputs, None), evaluated.branch(inputs)
    x = torch.randn(1, CHANNELS, LATENTS, generator=torch.Generator().manual_seed(2))

    one, two, three = evaluated([Row(x, 0.5, without), Row(x, 0.5, attending), Row(x, 0.5, without)])

    torch.testing.assert_close(one, three)
    assert not torch.allclose(one, two)
    torch.testing.assert_close(two, evaluated([Row(x, 0.5, attending)])[0], rtol=1e-5, atol=1e-6)

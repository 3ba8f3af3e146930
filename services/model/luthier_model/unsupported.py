"""Stable Audio 3's configurations are recognised, and refused with what is missing here to build one.

Its classes are in a library of its own (Stability-AI/stable-audio-3, 2026), not in stable-audio-tools 0.0.19. Some
fields have the same names, so that a part of a document could be taken for a known family's.
"""

from collections.abc import Callable
from typing import Any, Final

FAMILY: Final = "Stable Audio 3"


def _node(document: Any, path: str) -> Any:
    """What a path leads to, in a document that may have any shape; None where it leads nowhere."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _has_condition(kind: str) -> Callable[[Any], bool]:
    def check(document: Any) -> bool:
        conditions = _node(document, "model.conditioning.configs")
        given = conditions if isinstance(conditions, list) else []
        return any(isinstance(each, dict) and each.get("type") == kind for each in given)

    return check


def _is(path: str, value: object) -> Callable[[Any], bool]:
    return lambda document: _node(document, path) == value


def _has(*paths: str) -> Callable[[Any], bool]:
    return lambda document: any(_node(document, path) is not None for path in paths)


_DIFFUSION, _DIT, _AUTOENCODER = "model.diffusion", "model.diffusion.config", "model.pretransform.config"
PARTS: Final = (
    ("its text encoder T5Gemma (condition type 't5gemma')", _has_condition("t5gemma")),
    ("the soft-norm bottleneck of its autoencoder SAME", _is(f"{_AUTOENCODER}.bottleneck.type", "softnorm")),
    (
        "the resampling transformers of its autoencoder SAME",
        _has(f"{_AUTOENCODER}.encoder.config.variable_stride", f"{_AUTOENCODER}.decoder.config.variable_stride"),
    ),
    (
        "conditions that are added to each latent (local_add_cond_ids)",
        _has(f"{_DIFFUSION}.local_add_cond_ids", f"{_DIT}.local_add_cond_dim"),
    ),
    (
        "its schedule of noise levels when sampling (sampling_distribution_shift_options)",
        _has(f"{_DIFFUSION}.sampling_distribution_shift_options"),
    ),
    ("its features of the timestep (timestep_features_type)", _has(f"{_DIT}.timestep_features_type")),
    ("differential attention", _is(f"{_DIT}.attn_kwargs.differential", True)),
)
"""What of Stable Audio 3 is not built here, and whether a document asks for it."""
MARKS: Final = PARTS[:5]
"""Those of the parts that no model of stable-audio-tools has."""


def missing_parts(document: Any) -> list[str]:
    """What a Stable Audio 3 configuration asks for that is not here; empty for any other document."""
    if not any(asked(document) for _, asked in MARKS):
        return []
    return [part for part, asked in PARTS if asked(document)]

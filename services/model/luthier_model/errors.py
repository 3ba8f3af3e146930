"""What can be wrong with a model that somebody brings.

ModelError
├── ConfigurationError   the model configuration is not one that we know; names each field and its bound
├── CheckpointError      the weights file cannot be read as safetensors
├── CheckpointMismatch   the weights do not fit the configuration; names the tensors
└── TextEncoderError     the text encoder is absent, incomplete or does not fit the configuration
"""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 5
"""How many tensors an error names of each kind; the rest are counted."""


class ModelError(Exception):
    """A model cannot be used; the message is meant for the person who brought it."""


class ConfigurationError(ModelError):
    """A model configuration is refused. `violations`: (field path, what it must be)."""

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        self.violations = list(violations)
        super().__init__("model configuration: " + "; ".join(f"{field} {what}" for field, what in self.violations))


class CheckpointError(ModelError):
    """The weights file is not a readable safetensors file."""


class TextEncoderError(ModelError):
    """The text encoder is absent, incomplete, or of another width than the configuration says."""


class CheckpointMismatch(ModelError):
    """The tensors of a checkpoint are not those of its configuration.

    `wrong_shape` holds (name, shape in the file, shape in the configuration).
    """

    def __init__(
        self,
        missing: Sequence[str],
        unexpected: Sequence[str],
        wrong_shape: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]],
    ) -> None:
        self.missing, self.unexpected, self.wrong_shape = list(missing), list(unexpected), list(wrong_shape)
        shapes = [f"{name} is {list(found)}, must be {list(want)}" for name, found, want in wrong_shape]
        parts = [("missing", self.missing), ("unexpected", self.unexpected), ("wrong shape", shapes)]
        told = [f"{len(items)} {what} ({_some(items)})" for what, items in parts if items]
        super().__init__("the checkpoint does not fit its configuration: " + ", ".join(told))


def _some(items: Sequence[str]) -> str:
    more = f", and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return ", ".join(items[:NAMED]) + more

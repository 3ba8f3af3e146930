"""What can be wrong with a model.

ModelError
├── ConfigurationError    the model configuration is not one that is known; names each field and its bound
├── CheckpointError       the weights file cannot be read as safetensors
├── CheckpointMismatch    the weights do not fit the configuration; names the tensors
├── WeightsError          weights that are not finite floating-point numbers; names the tensor
├── AdapterError          an adapter's file cannot be read as one, or holds what is not finite
├── AdapterMismatch       an adapter was trained on other weights, or does not fit these; names the layer
├── TextEncoderError      the text encoder's files cannot be read as one
├── TextEncoderMismatch   the text encoder is absent, incomplete or does not fit the configuration
└── OutputNotFinite       these parameters drive the model out of bounds

`registered.statuses` gives each its gRPC status.
"""

from collections.abc import Sequence
from typing import Final

NAMED: Final = 5
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
        parts = []
        for what, items in (("missing", self.missing), ("unexpected", self.unexpected), ("wrong shape", shapes)):
            more = f", and {len(items) - NAMED} more" if len(items) > NAMED else ""
            if items:
                parts.append(f"{len(items)} {what} ({', '.join(items[:NAMED])}{more})")
        super().__init__("the checkpoint does not fit its configuration: " + ", ".join(parts))


class WeightsError(ModelError):
    """Weights are not floating-point, or not finite."""


class AdapterError(ModelError):
    """A file is not a readable low-rank adapter, or its numbers are not finite."""


class AdapterMismatch(ModelError):
    """A low-rank adapter does not belong to the weights that it is to change."""


class TextEncoderError(ModelError):
    """The text encoder's files cannot be read as one."""


class TextEncoderMismatch(ModelError):
    """The text encoder is absent, incomplete, or of another width than the configuration says."""


class OutputNotFinite(ModelError):
    """The generated audio holds infinities or no numbers."""

"""PaSST's published checkpoint (`passt-s-f128-p16-s10-ap.476-swa.pt`): a state_dict with the network's own names.

Training's checkpoints have them under `net.` or, averaged, under `net_swa.`; hear21passt's wrapper under `net.`. Of the
classifiers `head_dist` is left out: no output uses it.
"""

from pathlib import Path
from typing import Final

from luthier_evaluation.conversion.base import ConversionError, Converter, Published
from luthier_evaluation.conversion.checkpoints import by_prefix, read_checkpoint
from luthier_evaluation.embedders.passt import Size, classes, weight_shapes

PREFIXES: Final = ("", "net_swa.", "net.", "model.net.", "module.net.", "module.")
"""The averaged weights before those of the last step."""


def read(source: Path | None, size: Size | None = None) -> Published:
    """PaSST of a checkpoint, or of its tensors as safetensors."""
    if source is None:
        raise ConversionError("NO_SOURCE", f"name {PASST.source}")
    checkpoint = read_checkpoint(source, lambda found: by_prefix(found, weight_shapes(size), PREFIXES))
    return Published(
        checkpoint.tensors, source.name, checkpoint.sha256, classes=classes(), left_out=checkpoint.left_out
    )


PASST: Final = Converter("PaSST's checkpoint passt-s-f128-p16-s10-ap.476-swa.pt", read, weight_shapes)

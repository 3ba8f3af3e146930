"""OpenL3's weights as torchopenl3 publishes them: `torchopenl3_mel256_music_512.pth.tar`, a state_dict.

They are openl3's own, and are written for one of two front ends (`luthier_evaluation.embedders.openl3`): `openl3` for
figures that compare with stable-audio-metrics', `torchopenl3` for those of torchopenl3, whose mel filters the
checkpoint holds.
"""

from functools import partial
from pathlib import Path
from typing import Final

from luthier_evaluation.conversion.base import ConversionError, Converter, Published
from luthier_evaluation.conversion.checkpoints import by_prefix, read_checkpoint
from luthier_evaluation.embedders.openl3 import FrontEnd, weight_shapes

PREFIXES: Final = ("", "module.", "model.")
MEL_BASIS: Final = "mel_basis"
PUBLISHED_MEL_BASIS: Final = "speclayer.mel_basis"


def read(front_end: FrontEnd, source: Path | None) -> Published:
    """OpenL3 of a checkpoint, for one front end."""
    if source is None:
        raise ConversionError("NO_SOURCE", f"name {_SOURCE}")
    wanted = weight_shapes(front_end)
    if MEL_BASIS in wanted:
        wanted[PUBLISHED_MEL_BASIS] = wanted.pop(MEL_BASIS)
    checkpoint = read_checkpoint(source, lambda found: by_prefix(found, wanted, PREFIXES))
    tensors = {MEL_BASIS if name == PUBLISHED_MEL_BASIS else name: t for name, t in checkpoint.tensors.items()}
    return Published(tensors, source.name, checkpoint.sha256, left_out=checkpoint.left_out)


_SOURCE: Final = "torchopenl3's checkpoint torchopenl3_mel256_music_512.pth.tar"


def _converter(front_end: FrontEnd) -> Converter:
    return Converter(_SOURCE, partial(read, front_end), partial(weight_shapes, front_end))


OPENL3: Final = _converter("openl3")
TORCHOPENL3: Final = _converter("torchopenl3")

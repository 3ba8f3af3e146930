"""Published weights of embedders become safetensors that evaluation opens: `python -m luthier_evaluation.conversion`.

No service imports this package. A further converter is a module with a function that gives `Published`, a line in
CONVERTERS under the embedder's name, and a test; a pickle is opened by the sandboxed reader of
`luthier_model.conversion` and nothing else.
"""

from collections.abc import Mapping
from typing import Final

from luthier_evaluation.conversion import clap, musicnn, openl3, passt
from luthier_evaluation.conversion.base import ConversionError, Converter, Published

__all__ = ["CONVERTERS", "ConversionError", "Converter", "Published"]

CONVERTERS: Final[Mapping[str, Converter]] = {
    "musicnn_msd": musicnn.MSD,
    "musicnn_mtt": musicnn.MTT,
    "passt": passt.PASST,
    "openl3": openl3.OPENL3,
    "torchopenl3": openl3.TORCHOPENL3,
    "clap": clap.CLAP,
}
"""By the embedder's name."""

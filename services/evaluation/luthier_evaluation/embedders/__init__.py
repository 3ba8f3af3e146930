"""The embedders. A new one is a module with a class that has the members of `Embedder`, a line in EMBEDDERS, a test
that holds it against the reference implementation, and a row in the service's README.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luthier_evaluation.embedders import musicnn
from luthier_evaluation.embedders.base import Embedder, Embedding, TextEmbedder

__all__ = ["EMBEDDERS", "Embedder", "Embedding", "Kind", "TextEmbedder"]


@dataclass(frozen=True)
class Kind:
    """An embedder that can be had where its weights are.

    `open` reads a safetensors file of ours, raising InvalidRequest WEIGHTS_INVALID where it does not fit; `bring` is
    what to type to get it, for the message that it is absent. `tagger`: it has classes; `texts`: it embeds texts, too.
    """

    title: str
    bring: str
    open: Callable[[Path], Embedder]
    tagger: bool = False
    texts: bool = False


EMBEDDERS: Final[Mapping[str, Kind]] = {
    "musicnn_msd": Kind(
        "musicnn (MSD)",
        "luthier metric-weights musicnn_msd",
        musicnn.opener("musicnn_msd", musicnn.MSD_CLASSES),
        tagger=True,
    ),
    "musicnn_mtt": Kind(
        "musicnn (MTT)",
        "luthier metric-weights musicnn_mtt",
        musicnn.opener("musicnn_mtt", musicnn.MTT_CLASSES),
        tagger=True,
    ),
}
"""By name, in the order of the report."""

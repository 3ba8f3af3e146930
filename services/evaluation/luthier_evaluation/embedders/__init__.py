"""The embedders. A new one is a module with a class that has the members of `Embedder`, a line in EMBEDDERS, a test
that holds it against the reference implementation, and a row in the service's README.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luthier_evaluation.embedders import clap, musicnn, openl3, passt
from luthier_evaluation.embedders.base import Embedder, Embedding, TextEmbedder

__all__ = ["EMBEDDERS", "Embedder", "Embedding", "Kind", "TextEmbedder"]


@dataclass(frozen=True)
class Kind:
    """An embedder that can be had where its weights are.

    `open` reads a safetensors file of ours, raising InvalidRequest WEIGHTS_INVALID where it does not fit; `bring` is
    what to type to get it, for the message that it is absent.
    """

    title: str
    bring: str
    open: Callable[[Path], Embedder]


EMBEDDERS: Final[Mapping[str, Kind]] = {
    "musicnn_msd": Kind(
        "musicnn, tags of the Million Song Dataset",
        "python -m luthier_evaluation.conversion musicnn_msd --out FOLDER",
        musicnn.opener("musicnn_msd", musicnn.MSD_CLASSES),
    ),
    "musicnn_mtt": Kind(
        "musicnn, tags of MagnaTagATune",
        "python -m luthier_evaluation.conversion musicnn_mtt --out FOLDER",
        musicnn.opener("musicnn_mtt", musicnn.MTT_CLASSES),
    ),
    "passt": Kind(
        "PaSST",
        "python -m luthier_evaluation.conversion passt passt-s-f128-p16-s10-ap.476-swa.pt --out FOLDER",
        passt.open_passt,
    ),
    "openl3": Kind(
        "OpenL3, mel256, music",
        "python -m luthier_evaluation.conversion openl3 torchopenl3_mel256_music_512.pth.tar --out FOLDER",
        openl3.opener("openl3"),
    ),
    "torchopenl3": Kind(
        "OpenL3 by torchopenl3's front end",
        "python -m luthier_evaluation.conversion torchopenl3 torchopenl3_mel256_music_512.pth.tar --out FOLDER",
        openl3.opener("torchopenl3"),
    ),
    "clap": Kind(
        "CLAP, 630k-audioset-fusion-best",
        "python -m luthier_evaluation.conversion clap FOLDER-OF-WEIGHTS-AND-TOKENIZER --out FOLDER",
        clap.open_clap,
    ),
}
"""By name, in the order of the report."""

"""The embedders. A new one is a module with a class that has the members of `Embedder`, a line in EMBEDDERS, a test
that holds it against the reference implementation, and a row in the service's README.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

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


def _musicnn(name: str) -> Callable[[Path], Embedder]:
    def open_weights(path: Path) -> Embedder:
        from luthier_evaluation.embedders import musicnn

        classes = musicnn.MSD_CLASSES if name == "musicnn_msd" else musicnn.MTT_CLASSES
        return musicnn.opener(name, classes)(path)

    return open_weights


def _passt(path: Path) -> Embedder:
    from luthier_evaluation.embedders import passt

    return passt.open_passt(path)


def _openl3(name: Literal["openl3", "torchopenl3"]) -> Callable[[Path], Embedder]:
    def open_weights(path: Path) -> Embedder:
        from luthier_evaluation.embedders import openl3

        return openl3.opener(name)(path)

    return open_weights


def _clap(path: Path) -> Embedder:
    from luthier_evaluation.embedders import clap

    return clap.open_clap(path)


# torch and transformers take seconds and 300 MB: they are imported when an embedder is opened
EMBEDDERS: Final[Mapping[str, Kind]] = {
    "musicnn_msd": Kind("musicnn (MSD)", "luthier metric-weights musicnn_msd", _musicnn("musicnn_msd"), tagger=True),
    "musicnn_mtt": Kind("musicnn (MTT)", "luthier metric-weights musicnn_mtt", _musicnn("musicnn_mtt"), tagger=True),
    "passt": Kind("PaSST", "luthier metric-weights passt passt-s-f128-p16-s10-ap.476-swa.pt", _passt, tagger=True),
    "openl3": Kind("OpenL3", "luthier metric-weights openl3 torchopenl3_mel256_music_512.pth.tar", _openl3("openl3")),
    "torchopenl3": Kind(
        "OpenL3 by torchopenl3's front end",
        "luthier metric-weights torchopenl3 torchopenl3_mel256_music_512.pth.tar",
        _openl3("torchopenl3"),
    ),
    "clap": Kind("CLAP", "luthier metric-weights clap FOLDER", _clap, texts=True),
}
"""By name, in the order of the report."""

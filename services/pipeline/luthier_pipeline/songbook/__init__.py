"""The songbook: short songs that the project composes itself, so that everything about them is known."""

from luthier_pipeline.songbook.compose import compose
from luthier_pipeline.songbook.truth import SongTruth, TruthInstrument, TruthSection, read_truth

__all__ = ["SongTruth", "TruthInstrument", "TruthSection", "compose", "read_truth"]

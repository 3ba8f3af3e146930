"""Training clips in generated audio: found by spectral peaks, at any place, shifted, stretched or in a mix."""

from luthier_evaluation.copies.index import Index
from luthier_evaluation.copies.landmarks import Heard, Landmarks, NoLandmarks, heard, landmarks_of
from luthier_evaluation.copies.search import COPY_SCORE, Copy, NearDuplicate, near_duplicates, search

__all__ = [
    "COPY_SCORE",
    "Copy",
    "Heard",
    "Index",
    "Landmarks",
    "NearDuplicate",
    "NoLandmarks",
    "heard",
    "landmarks_of",
    "near_duplicates",
    "search",
]

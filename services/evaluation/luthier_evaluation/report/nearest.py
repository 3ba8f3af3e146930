"""Nearest training clips in the report: the pairs of passages that are most alike, to be listened to side by side."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.report.listening import Sound, encode, peaks, uri_of
from luthier_kit.rpc import LuthierError
from luthier_kit.store import Store
from luthier_music.audio import AudioError, read_audio

MAX_PAIRS: Final = 50  # as the paper lists them
PASSAGE_S: Final = 5.0  # of each: a page of fifty pairs has some 5 MB

LEAD_S: Final = 0.5


@dataclass(frozen=True)
class Pair:
    """A row's audio and the training clip nearest to it. A sound is None where its audio is gone."""

    result: pb.RowResult
    clip: pb.NearestClip
    made: Sound | None
    trained: Sound | None


def pairs_of(results: Sequence[pb.RowResult], store: Store) -> list[Pair]:
    """The nearest clip of each row by each way of comparing: copies first, then by likeness, at most MAX_PAIRS."""
    found: list[tuple[pb.RowResult, pb.NearestClip]] = []
    for result in results:
        ways = dict.fromkeys(clip.by for clip in result.nearest)
        found += [(result, next(clip for clip in result.nearest if clip.by == way)) for way in ways]
    found.sort(key=lambda pair: (not pair[1].copy, -pair[1].similarity))
    return [
        Pair(
            result,
            clip,
            passage(store, result.audio, clip.at_s),
            passage(store, clip.audio, clip.clip_at_s),
        )
        for result, clip in found[:MAX_PAIRS]
    ]


@dataclass(frozen=True)
class Duplicate:
    """Two training clips that hold the same passage. A sound is None where its audio is gone."""

    clips: pb.NearDuplicateClips
    first: Sound | None
    other: Sound | None


def duplicates_of(found: Sequence[pb.NearDuplicateClips], store: Store) -> list[Duplicate]:
    """The first MAX_PAIRS of them, to be listened to."""
    return [
        Duplicate(
            clips,
            passage(store, clips.audio, clips.other.at_s),
            passage(store, clips.other.audio, clips.other.clip_at_s),
        )
        for clips in found[:MAX_PAIRS]
    ]


def passage(store: Store, audio: ArtifactRef, start_s: float) -> Sound | None:
    """PASSAGE_S of an artifact, from LEAD_S before `start_s` on; None where it is gone or cannot be read."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = store.blobs.fetch(audio, Path(folder), read_only=True)
            samples, rate = read_audio(path, start_s=max(0.0, start_s - LEAD_S), duration_s=PASSAGE_S)
    except (LuthierError, AudioError):
        return None
    if not len(samples):
        return None
    return Sound(uri_of(*encode(samples, rate)), peaks(samples), cut=True)

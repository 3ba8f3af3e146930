"""Memorisation: the training clips that are nearest to what a model makes.

Copies are found by landmarks at any offset (`copies`), and, where the request names an embedder, likeness by the cosine
of its vectors. What was computed of a clip is an action: a set is listened to once, whichever models it trained.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.copies import Copy, Heard, Index, Landmarks, NoLandmarks, heard, near_duplicates, search
from luthier_evaluation.copies.landmarks import VERSION
from luthier_evaluation.copies.neighbours import Neighbours
from luthier_evaluation.embedders import Embedder
from luthier_evaluation.embedding import embed_audio, read_embedding
from luthier_kit.registry import ModelVersion, resolve
from luthier_kit.rpc import TRAIN, InvalidRequest, NotFound
from luthier_kit.store import Action, Store
from luthier_music.audio import AudioError, read_audio

LANDMARKS: Final = "landmarks"
KEPT: Final = 5  # nearest clips of a row, of each way
MAX_NEAR_DUPLICATES: Final = 500  # pairs, as the contract says
MAX_LANDMARKS_BYTES: Final = 64 << 20
MAX_BASES: Final = 32  # of a model, one below the other

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainingClips:
    """The clips that a model and its bases were trained on, each piece of audio once, and what finds them again."""

    rows: Sequence[DatasetRow]
    heard: Sequence[Landmarks]
    index: Index
    neighbours: Neighbours | None


class Memorisation:
    """The training clips of each model of a plan. Threads may share it."""

    def __init__(
        self, store: Store, plan: pb.EvaluationPlan, embedders: Mapping[str, Embedder], progress: Progress
    ) -> None:
        """Listens to the training clips. Raises NotFound where a data set or a clip of it is gone."""
        self._store, self._progress = store, progress
        self._by = embedders.get(plan.request.nearest_by)
        sets = {model.model: _rows_of(store, model.training_sets) for model in plan.models if model.training_sets}
        every = {row.audio.sha256: row for rows in sets.values() for row in rows}
        found = {}
        for position, (sha256, row) in enumerate(sorted(every.items())):
            found[sha256] = self._landmarks(row.audio)
            if self._by:
                embed_audio(store, row.audio, {self._by.name: self._by})
            progress(position + 1, len(every))
        self._clips = {model: self._of(rows, found) for model, rows in sets.items()}

    def nearest(self, model: str, audio: ArtifactRef) -> list[pb.NearestClip] | None:
        """The training clips nearest to audio of this model: by landmarks, then by the embedder. None where they are
        not looked for: no data set is recorded with the model, or the audio is too short.
        """
        clips = self._clips.get(model)
        if clips is None or (output := self._heard(audio)) is None:
            return None
        found = []
        for copy in search(clips.index, output, KEPT):
            found.append(self._copy(clips.rows[copy.clip], copy))
        if clips.neighbours and self._by:
            vectors = read_embedding(self._store, embed_audio(self._store, audio, {self._by.name: self._by})[0])
            neighbours = clips.neighbours.nearest(vectors.vectors, KEPT) if vectors else []
            for one in neighbours:
                nearest = self._clip(self._by.name, clips.rows[one.clip], one.cosine)
                nearest.at_s, nearest.clip_at_s = one.window * self._by.hop_s, one.clip_window * self._by.hop_s
                nearest.duration_s = self._by.window_s
                found.append(nearest)
        return found

    def near_duplicates(self, model: str) -> list[pb.NearDuplicateClips]:
        """Pairs of a model's training clips of different songs that hold the same passage, most alike first. Clips
        whose song is not named are songs of their own."""
        clips = self._clips.get(model)
        if clips is None:
            return []
        songs = [_song(row) or row.clip_id for row in clips.rows]
        found = list(near_duplicates(clips.index, clips.heard, songs, self._progress))
        found.sort(key=lambda pair: (-pair.found.score, pair.first, pair.second))
        return [
            pb.NearDuplicateClips(
                clip_id=clips.rows[pair.first].clip_id,
                audio=clips.rows[pair.first].audio,
                song=_song(clips.rows[pair.first]),
                other=self._copy(clips.rows[pair.second], pair.found),
            )
            for pair in found[:MAX_NEAR_DUPLICATES]
        ]

    def _copy(self, row: DatasetRow, copy: Copy) -> pb.NearestClip:
        nearest = self._clip(LANDMARKS, row, copy.score)
        nearest.copy = copy.is_copy
        nearest.at_s, nearest.clip_at_s, nearest.duration_s = copy.at_s, copy.clip_at_s, copy.duration_s
        nearest.pitch_semitones, nearest.stretch = copy.pitch_semitones, copy.stretch
        return nearest

    def _clip(self, by: str, row: DatasetRow, similarity: float) -> pb.NearestClip:
        return pb.NearestClip(by=by, clip_id=row.clip_id, audio=row.audio, similarity=similarity, song=_song(row))

    def _of(self, rows: Sequence[DatasetRow], found: dict[str, Landmarks | None]) -> TrainingClips:
        known = [row for row in rows if found[row.audio.sha256]]
        of_rows = [one for row in known if (one := found[row.audio.sha256])]
        return TrainingClips(known, of_rows, Index.of(of_rows), self._neighbours(known))

    def _neighbours(self, rows: Sequence[DatasetRow]) -> Neighbours | None:
        if not self._by:
            return None
        embeddings = (embed_audio(self._store, row.audio, {self._by.name: self._by})[0] for row in rows)
        vectors = (read_embedding(self._store, found) for found in embeddings)
        none = np.empty((0, self._by.dimensions), np.float32)
        return Neighbours.of([found.vectors if found else none for found in vectors])

    def _heard(self, audio: ArtifactRef) -> Heard | None:
        """Stored audio, as it is searched for clips; None of what is too short, or too long."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                samples, rate = read_audio(self._store.blobs.fetch(audio, Path(folder), read_only=True))
            except AudioError as error:
                raise InvalidRequest(str(error), reason="AUDIO_INVALID") from error
        try:
            return heard(samples, rate)
        except NoLandmarks:
            return None

    def _landmarks(self, audio: ArtifactRef) -> Landmarks | None:
        """Of stored audio, computed once; None of what is too short, or too long."""

        def compute() -> pb.AudioLandmarks:
            if not (found := self._heard(audio)):
                return pb.AudioLandmarks()
            data = found.landmarks.to_bytes()
            return pb.AudioLandmarks(values=self._store.blobs.put_bytes("landmarks", data, "safetensors"))

        action = Action("landmarks", [audio.sha256], version=str(VERSION))
        found, _ = self._store.actions.run(action, pb.AudioLandmarks, compute)
        if not found.HasField("values"):
            return None
        return Landmarks.from_bytes(self._store.blobs.read(found.values, MAX_LANDMARKS_BYTES))


def training_sets_of(store: Store, version: ModelVersion) -> list[ArtifactRef]:
    """Manifests of the data sets that a version and its bases were trained on, as far as they are recorded."""
    found: dict[str, ArtifactRef] = {}
    for _ in range(MAX_BASES):
        if version.dataset:
            found[version.dataset.sha256] = version.dataset
        for other in version.notes.get("datasets", ()):  # of a training on several
            if (sha256 := other.get("sha256", "")) and sha256 not in found:
                key = f"manifests/{sha256}.json"
                found[sha256] = ArtifactRef(bucket=store.blobs.bucket, key=key, sha256=sha256)
        base = version.notes.get("base_digest", "")
        if not base:
            break
        try:
            version = resolve(store, f"sha256:{base}")
        except NotFound:
            break
    return list(found.values())


def _song(row: DatasetRow) -> str:
    return " - ".join(filter(None, (row.source.song.artist, row.source.song.title)))


def _rows_of(store: Store, manifests: Sequence[ArtifactRef]) -> list[DatasetRow]:
    """The clips that were trained on, each piece of audio once."""
    rows: dict[str, DatasetRow] = {}
    for ref in manifests:
        for row in store.get(DatasetManifest, ref).rows:
            if row.split == TRAIN:
                rows.setdefault(row.audio.sha256, row)
    return [rows[sha256] for sha256 in sorted(rows)]

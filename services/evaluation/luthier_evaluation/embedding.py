"""What embedders make of stored audio: an action for each piece and embedder, so that no piece is listened to twice,
whatever is computed from it later. A piece is read once for all embedders that have not heard it.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.embedders import Embedder, Embedding
from luthier_evaluation.embedders.base import SILENT_BELOW, Floats
from luthier_kit.rpc import InvalidRequest, LuthierError, Unavailable
from luthier_kit.store import Action, Store
from luthier_music.audio import AudioError, Samples, read_audio
from luthier_music.audio_rate import resampled

VERSION: Final = "1"
MAX_DURATION_S: Final = 1800.0
MAX_BYTES: Final = 256 << 20  # of an embedding: half an hour of windows of 1024 values, ten a second, with 527 classes
MIN_S: Final = 0.5
TINY: Final = 1e-12  # a length that is none


def embed_audio(
    store: Store, audio: ArtifactRef, embedders: Mapping[str, Embedder], seconds: float | None = None
) -> list[pb.AudioEmbedding]:
    """What each embedder makes of the artifact, of its first `seconds` where they are given; without windows where that
    is silent.

    Raises InvalidRequest AUDIO_INVALID for what is no audio, or is longer than half an hour or shorter than 0.5 s.
    """

    @cache
    def samples() -> tuple[Samples, int]:
        return read_part(store, audio, seconds)

    def compute(embedder: Embedder) -> pb.AudioEmbedding:
        result = pb.AudioEmbedding(embedder=embedder.name, weights_sha256=embedder.weights_sha256)
        at_own, rate = samples()
        if not np.abs(at_own).max() > SILENT_BELOW:
            return result
        heard = embedder.embed(_as_heard(at_own, rate, embedder))
        if not (np.isfinite(heard.vectors).all() and np.isfinite(heard.logits).all()):
            raise RuntimeError(f"{embedder.name} gives values that are not finite for {audio.key}")
        result.windows = len(heard.vectors)
        data = save({"vectors": heard.vectors, "logits": heard.logits})
        result.values.CopyFrom(store.blobs.put_bytes("embeddings", data, "safetensors"))
        return result

    part = {"seconds": seconds} if seconds else {}
    return [
        store.actions.run(
            Action("embed", [audio.sha256], {"embedder": name, **part}, 0, VERSION, {name: embedder.weights_sha256}),
            pb.AudioEmbedding,
            partial(compute, embedder),
        )[0]
        for name, embedder in embedders.items()
    ]


def read_embedding(store: Store, found: pb.AudioEmbedding) -> Embedding | None:
    """The stored values; None of silence."""
    if not found.windows:
        return None
    values = load(store.blobs.read(found.values, MAX_BYTES))
    return Embedding(values["vectors"], values["logits"])


def vectors_of_audio(
    store: Store, embedder: Embedder, audio: Sequence[ArtifactRef]
) -> Iterator[NDArray[np.float32] | LuthierError | None]:
    """Of each piece one vector (dimensions,) of length 1 to compare sounds by, the mean of its windows', each of length
    1; None of silence. Why a piece has none stands in its place; Unavailable ends it all.
    """
    for piece in audio:
        try:
            embedding = read_embedding(store, embed_audio(store, piece, {embedder.name: embedder})[0])
        except Unavailable:
            raise
        except LuthierError as error:
            yield error
        else:
            yield None if embedding is None else mean_direction(embedding.vectors)


def mean_direction(vectors: Floats) -> NDArray[np.float32]:
    """The mean of the directions of vectors (windows, dimensions), of length 1; that of one vector is its own."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    mean = (vectors / np.maximum(lengths, TINY)).mean(axis=0)
    direction: NDArray[np.float32] = (mean / max(float(np.linalg.norm(mean)), TINY)).astype(np.float32)
    return direction


def read_part(store: Store, audio: ArtifactRef, seconds: float | None) -> tuple[Samples, int]:
    """The first `seconds` of stored audio, None = all of it: samples (frames, channels) and their rate in Hz. Raises as
    `embed_audio` does.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            samples, rate = read_audio(
                store.blobs.fetch(audio, Path(folder), read_only=True),
                duration_s=seconds,
                max_duration_s=MAX_DURATION_S,
            )
        except AudioError as error:
            raise InvalidRequest(str(error), reason="AUDIO_INVALID") from error
    if len(samples) < MIN_S * rate:
        raise InvalidRequest(f"{audio.key} lasts {len(samples) / rate:.2f} s, at least {MIN_S} s are needed",
                             reason="AUDIO_INVALID")  # fmt: skip
    return samples, rate


def _as_heard(samples: Samples, rate: int, embedder: Embedder) -> Floats:
    """(frames, channels) as the embedder wants them: mono is the mean of the channels, stereo of mono is twice it."""
    if embedder.channels == 1:
        samples = samples.mean(axis=1, keepdims=True)
    elif samples.shape[1] != embedder.channels:
        samples = np.repeat(samples.mean(axis=1, keepdims=True), embedder.channels, axis=1)
    return np.ascontiguousarray(resampled(samples, rate, embedder.sample_rate_hz), dtype=np.float32)

"""Values and scores that are computed from the audio itself, by what embedders make of it.

- `fd_<embedder>`, `fd_inf_<embedder>`: Fréchet distances of a model's rows from the reference (`distances`).
- `kl_<embedder>` of a tagger: divergence of a row from the audio that its prompt describes (`divergence`).
- `song_fd_<embedder>`: the same of one row, by which rows can be ranked; it is no score.
- `key_by_notes`: whether the notes that basic-pitch hears are in the key asked for, 1 or 0.
- `<embedder>_score` of an embedder of texts, too: cosine between a row's audio and its prompt (Wu 2023).

The reference is the caller's set of audio, or the references of the rows.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from safetensors.numpy import load, save

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.adherence import heard_words, words_of
from luthier_evaluation.distances import (
    Gaussian,
    Moments,
    Reference,
    Vectors,
    frechet,
    frechet_infinity,
    frechet_of_piece,
    reference_of,
)
from luthier_evaluation.divergence import clap_score, kl_of
from luthier_evaluation.embedders import EMBEDDERS, Embedder, TextEmbedder
from luthier_evaluation.embedding import embed_audio, read_embedding, read_part
from luthier_evaluation.notes import key_by_notes, transcriber
from luthier_evaluation.plan import measured_s
from luthier_evaluation.weights import Weights
from luthier_kit.store import Action, Store
from luthier_music.key_facts import key_of

KEY_BY_NOTES: Final = "key_by_notes"
SONG_FD: Final = "song_fd_"
"""Before the name of the embedder."""
STATISTICS_VERSION: Final = "1"
MAX_STATISTICS_BYTES: Final = 64 << 20  # of 1024 dimensions 8 MiB
MAX_LINE_BYTES: Final = 256 << 20  # of vectors through which the line to infinity goes; of more, rows are drawn
SEED: Final = 20_240_921

Progress = Callable[[int, int], None]
"""Called with how many pieces of audio beside the rows are heard, and how many there are."""


class AudioValues:
    """The embedders of a plan, and the reference. Threads may share it once it is made."""

    def __init__(self, store: Store, weights: Weights, plan: pb.EvaluationPlan, progress: Progress) -> None:
        """Listens to the reference. Raises as `Weights.embedders` and `embed_audio` do."""
        self._store, self._plan, self._words = store, plan, words_of(plan.suite)
        self.embedders = self._embedders = weights.embedders(plan.embedders)
        refs = references_of(store, plan) if self._embedders else []
        for index, ref in enumerate(refs):
            embed_audio(store, ref, self._embedders)
            progress(index + 1, len(refs))
        self._references = {
            name: self._statistics(name, embedder, refs) for name, embedder in self._embedders.items() if refs
        }

    def add_to(self, result: pb.RowResult) -> None:
        """Put the embeddings of a row's audio, and its values, into its result."""
        row = self._plan.suite.rows[result.row]
        heard_s = measured_s(self._plan, result.model, row)
        result.embeddings.extend(embed_audio(self._store, result.audio, self._embedders, heard_s))
        described = {
            found.embedder: found
            for found in (embed_audio(self._store, row.reference, self._taggers()) if row.HasField("reference") else ())
        }
        embeddings = {
            found.embedder: heard
            for found in result.embeddings
            if (heard := read_embedding(self._store, found)) is not None
        }
        result.heard.extend(heard_words(row, self._words, embeddings))
        if self._plan.request.key_by_notes and (asked := key_of(row.key)):
            fit = key_by_notes(transcriber().notes(*read_part(self._store, result.audio, heard_s)))
            result.values[KEY_BY_NOTES] = fit is not None and fit.key == asked
        for found in result.embeddings:
            heard = embeddings.get(found.embedder)
            if heard is None:
                continue
            embedder = self._embedders[found.embedder]
            if found.embedder in described and (other := read_embedding(self._store, described[found.embedder])):
                result.values[f"kl_{found.embedder}"] = kl_of(heard.logits, other.logits)
            reference = self._references.get(found.embedder)
            if reference and reference.gaussian:
                of_piece = frechet_of_piece(heard.vectors, reference.gaussian)
                if of_piece is not None:
                    result.values[SONG_FD + found.embedder] = of_piece
            if isinstance(embedder, TextEmbedder):
                result.values[f"{found.embedder}_score"] = clap_score(
                    heard.vectors.mean(axis=0, keepdims=True), embedder.embed_text([row.prompt])
                )

    def scores(self, model: str, rows: Sequence[pb.RowResult]) -> Iterator[pb.Score]:
        """The Fréchet distances of a model's rows, two for each embedder; what is not computed says why."""
        for name, embedder in self._embedders.items():
            found = [pb.Score(metric=f"{kind}_{name}", model=model) for kind in ("fd", "fd_inf")]
            reference = self._references.get(name)
            if reference is None:
                why = "not computed: no reference: --reference FOLDER, or a suite whose rows have references"
            elif reference.gaussian is None:
                why = f"not computed: the reference has {reference.windows} windows, {reference.needed} are needed"
            else:
                why = self._measure(found[0], found[1], name, embedder, reference, reference.gaussian, rows)
            for score in found:
                score.note = score.note or why
            yield from found

    def _measure(
        self,
        whole: pb.Score,
        infinity: pb.Score,
        name: str,
        embedder: Embedder,
        reference: Reference,
        gaussian: Gaussian,
        rows: Sequence[pb.RowResult],
    ) -> str:
        """Sets both distances; what is said where one is not computed."""
        moments, pieces, kept = Moments(embedder.dimensions), list[Vectors](), 0
        found = [one for row in rows for one in row.embeddings if one.embedder == name and one.windows]
        for index in np.random.default_rng(SEED).permutation(len(found)):
            heard = read_embedding(self._store, found[index])
            assert heard  # it has windows
            moments.add(heard.vectors)
            if kept < MAX_LINE_BYTES:
                pieces.append(heard.vectors)
                kept += heard.vectors.nbytes
        whole.n = infinity.n = len(found)
        own = moments.gaussian()
        if own is None:
            return f"not computed: {moments.windows} windows, {moments.needed} are needed"
        whole.value = frechet(own, gaussian)
        whole.note = f"{own.windows} windows against {gaussian.windows} of the reference"
        if reference.floor is not None:
            whole.floor = reference.floor
            whole.note += f"; two halves of the reference: {reference.floor:.3g}"
        line = frechet_infinity(np.concatenate(pieces), gaussian)
        if line is None:
            return f"not computed: {moments.windows} windows are too few for a line"
        infinity.value = line
        infinity.note = "extrapolated to endlessly many windows"
        return ""

    def _taggers(self) -> dict[str, Embedder]:
        return {name: embedder for name, embedder in self._embedders.items() if embedder.classes}

    def _statistics(self, name: str, embedder: Embedder, refs: Sequence[ArtifactRef]) -> Reference:
        """Mean, covariance and floor of the reference, computed once for these pieces and weights."""

        def compute() -> pb.AudioStatistics:
            pieces = (self._vectors(ref, name, embedder) for ref in refs)
            found = reference_of(pieces, len(refs), embedder.dimensions)
            result = pb.AudioStatistics(windows=found.windows, needed=found.needed, floor=found.floor)
            if found.gaussian:
                data = save({"mean": found.gaussian.mean, "covariance": found.gaussian.covariance})
                result.values.CopyFrom(self._store.blobs.put_bytes("audio-statistics", data, "safetensors"))
            return result

        digests = sorted(ref.sha256 for ref in refs)
        tools = {name: embedder.weights_sha256}
        action = Action("audio-statistics", digests, {"embedder": name}, 0, STATISTICS_VERSION, tools)
        stored, _ = self._store.actions.run(action, pb.AudioStatistics, compute)
        gaussian = None
        if stored.HasField("values"):
            values = load(self._store.blobs.read(stored.values, MAX_STATISTICS_BYTES))
            gaussian = Gaussian(values["mean"], values["covariance"], stored.windows)
        return Reference(gaussian, stored.floor if stored.HasField("floor") else None, stored.windows, stored.needed)

    def _vectors(self, ref: ArtifactRef, name: str, embedder: Embedder) -> Vectors:
        heard = read_embedding(self._store, embed_audio(self._store, ref, {name: embedder})[0])
        return heard.vectors if heard else np.empty((0, embedder.dimensions), np.float32)


def references_of(store: Store, plan: pb.EvaluationPlan) -> list[ArtifactRef]:
    """What Fréchet distances compare with, each piece once, in the order of their digests."""
    if plan.request.HasField("reference_audio"):
        refs = [item.audio for item in store.get(pb.AudioSet, plan.request.reference_audio).items]
    else:
        refs = [row.reference for row in plan.suite.rows if row.HasField("reference")]
    by_digest = {ref.sha256: ref for ref in refs}
    return [by_digest[digest] for digest in sorted(by_digest)]


def absent_embedders(plan: pb.EvaluationPlan) -> Iterator[tuple[str, str]]:
    """(embedder, why its scores are not computed) of those whose weights were not there."""
    there = {one.embedder for one in plan.embedders}
    for name, kind in EMBEDDERS.items():
        if name not in there:
            yield name, f"not computed: no weights of {kind.title} were there: {kind.bring}"


def scores_by(embedder: str) -> dict[str, str]:
    """The scores that an embedder computes, with what they are called."""
    kind = EMBEDDERS[embedder]
    found = {f"fd_{embedder}": f"FD {kind.title}", f"fd_inf_{embedder}": f"FD {kind.title}, endless"}
    if kind.tagger:
        found[f"kl_{embedder}"] = f"KL {kind.title}"
    if kind.texts:
        found[f"{embedder}_score"] = f"{kind.title} score"
    return found

"""What curation can do, for the gRPC service and the page alike: input is checked, transactions are whole."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from sqlalchemy.orm import Session

from luthier.common.v1.common_pb2 import LICENSED_USE_UNSPECIFIED, LicensedUse, Span
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation import (
    agreement,
    assignments,
    batches,
    checking,
    clips,
    datasets,
    imports,
    listing,
    reviews,
    similar,
)
from luthier_curation.batches import Batches
from luthier_curation.clips import CUT, UNCUT, Author
from luthier_curation.cutting import Cutter
from luthier_curation.database import Repository
from luthier_curation.datasets import Export
from luthier_curation.embedding import Embedder
from luthier_curation.embedding_work import EmbeddingWork
from luthier_curation.imports import Imported
from luthier_curation.listing import Count, Page
from luthier_curation.reviews import Edit, Reviewed
from luthier_curation.similar import Found
from luthier_curation.splits import Fractions
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED, ChangeRow, ClipRow, ClipValues, CollectionRow
from luthier_curation.vectors import VectorSets
from luthier_curation.verdicts import Decision
from luthier_kit.licences import refuse
from luthier_kit.rpc import InvalidRequest, NotFound
from luthier_kit.store import Store

MOST_SPARE: Final = 8
"""How far beyond what is asked for a search looks where clips were taken down."""


class Upserted(NamedTuple):
    """What became of clips, see `clips.upsert`, and their stamps, see `clips.stamps`."""

    ids: list[str]
    outcomes: Counter[str]
    stamps: list[str]


class CutUp(NamedTuple):
    """What became of a clip that was cut: ids of its parts, what was left out and why, and its own rejection."""

    ids: list[str]
    notes: list[str]
    rejected: Reviewed


class Curation:
    """Collections of clips over one database and one store. Threads may share it."""

    def __init__(
        self, repository: Repository, store: Store, cutter: Cutter | None = None, embedder: Embedder | None = None
    ) -> None:
        self.repository = repository
        self.store = store
        self.cutter = cutter or Cutter()
        self.embedder = embedder or Embedder()
        self.batches = Batches(repository)
        self.embedding = EmbeddingWork(repository, self.embedder)
        self.vectors = VectorSets()

    def upsert(self, collection: str, new: Sequence[pb.NewClip]) -> Upserted:
        """See `clips.upsert`. NotFound when the audio of a clip is not in the store."""
        for index, clip in enumerate(new):
            if not self.store.blobs.exists(clip.audio):
                text = f"clips[{index}].audio: {clip.audio.key} is not in the store with that size"
                raise NotFound(text, reason="ARTIFACT_NOT_FOUND", key=clip.audio.key)

        def upsert(session: Session) -> Upserted:
            ids, outcomes = clips.upsert(session, collection, new)
            session.flush()
            return Upserted(ids, outcomes, clips.stamps(session, ids))

        return self.repository.write(upsert)

    def stamps(self, ids: Sequence[str]) -> list[str]:
        """See `clips.stamps`."""
        return self.repository.read(lambda session: clips.stamps(session, ids))

    def page(self, request: pb.ListClipsRequest, size: int) -> Page:
        """See `listing.page`."""
        checking.check_list(request)
        return self.repository.read(lambda session: listing.page(session, request, size))

    def search(self, request: pb.SearchClipsRequest, size: int) -> Found:
        """Up to `size` clips that sound as a text says, or like another clip; not those whose audio was taken down, or
        is gone. NotFound; FailedPrecondition NO_VECTOR, and what `Embedder.text` raises."""
        checking.check_search(request, size)
        which, clip_id = request.filter, request.clip_id
        meant = None if clip_id else self.embedder.text(request.text)

        def search(session: Session) -> Found:
            if meant is None:
                return similar.by_clip(session, self.vectors, which, clip_id, wanted)
            return similar.search(session, self.vectors, which, meant.vector, meant.weights_sha256, wanted)

        wanted = size
        while True:
            found = self.repository.read(search)
            there = self.store.blobs.stored({one.clip.audio.key: one.clip.audio.size_bytes for one in found.clips})
            clips = [one for one in found.clips if one.clip.audio.key in there]
            if len(clips) >= size or len(found.clips) < wanted or wanted > MOST_SPARE * size:
                return replace(found, clips=clips[:size])
            wanted *= 2

    def embed(self, which: pb.ClipFilter, reviewer: str) -> pb.Batch:
        """Begin to embed all that match; see `EmbeddingWork.begin`."""
        checking.check_embed(which, reviewer)
        return self.embedding.begin(which, reviewer)

    def count_without_vector(self, which: pb.ClipFilter) -> int:
        """How many clips that match have no vector by the weights that count now. What `Embedder` raises."""
        checking.check_filter(which)
        weights_sha256 = self.embedder.weights_sha256()
        return self.repository.read(lambda session: similar.count_without(session, which, weights_sha256))

    def clip(self, clip_id: str) -> ClipRow:
        """One clip. NotFound."""
        return self.repository.read(lambda session: listing.get(session, clip_id))

    def history(self, clip_id: str) -> list[ChangeRow]:
        """Every change of a clip, newest first. NotFound."""
        return self.repository.read(lambda session: list(listing.history(session, clip_id)))

    def edit(self, clip_id: str, expected_revision: int, reviewer: str, edit: Edit) -> tuple[ClipRow, str]:
        """See `reviews.edit`."""
        checking.check_edit(edit, expected_revision, reviewer)
        return self.repository.write(lambda session: reviews.edit(session, clip_id, expected_revision, reviewer, edit))

    def cut(self, clip_id: str, expected_revision: int, reviewer: str, parts: Sequence[Span]) -> CutUp:
        """Make these parts of a clip, in seconds from its first sample, clips of their own, and reject the clip.

        What a person edited of the clip stays edited in its parts. Undoing opens the clip again and takes the parts
        away (rejects them) that nobody has changed since; cutting so again brings them back. Aborted when the expected
        revision is not the newest; NotFound; what `Cutter.cut` raises.
        """
        row = self.clip(clip_id)
        checking.check_cut(row, expected_revision, reviewer, parts)
        reviews.expect(row, expected_revision)
        made = self.cutter.cut(self.store, row, parts)

        def keep(session: Session) -> CutUp:
            author = Author(CUT, reviewer)
            ids = [identity.clip_id for identity in clips.identities(row.collection, made.clips)]
            there = {name: session.get(ClipRow, name) for name in ids}
            clips.upsert(session, row.collection, made.clips, who=reviewer)
            session.flush()
            for name, before in there.items():
                part = listing.get(session, name, lock=True)
                if before is None or (part.verdict, part.remark) == (REJECTED, UNCUT):  # undoing takes these away
                    values = ClipValues(edited_fields=row.edited_fields, **{**clips.OPEN_AGAIN, "remark": ""})
                    clips.change(session, part, values, author, always=True)
            session.flush()
            said = f"cut into {', '.join(f'{part.start_s:.3f} to {part.end_s:.3f} s' for part in parts)}"
            told = Decision(REJECTED, reviewer, reason="bad_cut", remark=said, settle=True)
            return CutUp(ids, made.notes, reviews.review(session, {clip_id: expected_revision}, told, author=author))

        return self.repository.write(keep)

    def review(self, revisions: dict[str, int], decision: Decision) -> Reviewed:
        """See `reviews.review`."""
        checking.check_decision(decision, revisions)
        return self.repository.write(lambda session: reviews.review(session, revisions, decision))

    def review_all(self, which: pb.ClipFilter, decision: Decision) -> Reviewed:
        """See `reviews.review_all`. The filter must name a collection: every clip there is was never meant."""
        checking.check_filter(which)
        checking.check_decision(decision)
        if not which.collection:
            raise InvalidRequest(violations=[("filter.collection", "must name a collection")])
        return self.repository.write(lambda session: reviews.review_all(session, which, decision))

    def review_in_background(self, which: pb.ClipFilter, decision: Decision) -> pb.Batch:
        """Begin to decide about all that match; the filter must name a collection. See `Batches.review`."""
        checking.check_filter(which)
        checking.check_decision(decision)
        if not which.collection:
            raise InvalidRequest(violations=[("filter.collection", "must name a collection")])
        return self.batches.review(batches.request_of(which, decision))

    def batch(self, batch_id: str) -> pb.Batch:
        """See `batches.get`."""
        return self.repository.read(lambda session: batches.get(session, batch_id))

    def is_background(self, batch_id: str) -> bool:
        """See `batches.is_background`."""
        return self.repository.read(lambda session: batches.is_background(session, batch_id))

    def undo_in_background(self, batch_id: str, reviewer: str) -> pb.Batch:
        """See `Batches.undo`."""
        checking.check_undo(batch_id, reviewer)
        return self.batches.undo(batch_id, reviewer)

    def skip(self, ids: Sequence[str], reviewer: str) -> Reviewed:
        """See `reviews.skip`."""
        checking.check_skip(ids, reviewer)
        return self.repository.write(lambda session: reviews.skip(session, ids, reviewer))

    def import_opinions(self, opinions: Sequence[pb.ImportedOpinion], imported_by: str) -> Imported:
        """See `imports.take_over`."""
        checking.check_import(opinions, imported_by)
        return self.repository.write(lambda session: imports.take_over(session, opinions, imported_by))

    def assign(self, request: pb.AssignClipsRequest) -> pb.AssignClipsResponse:
        """Ask reviewers about all clips that match, a transaction for each chunk: see `assignments`. Again is safe."""
        checking.check_assignment(request)
        which, reviewers, last = request.filter, list(request.reviewers), ""
        per_clip = request.per_clip or self.opinions_per_clip(which.collection)
        clips, by_reviewer = 0, Counter[str]()

        def chunk(session: Session) -> assignments.Assigned | None:
            if request.withdraw:
                return assignments.withdraw_chunk(session, which, reviewers, last)
            return assignments.assign_chunk(session, which, reviewers, per_clip, last)

        while done := self.repository.write(chunk):
            clips, last = clips + done.clips, done.last_clip_id
            by_reviewer += done.by_reviewer
        return pb.AssignClipsResponse(clips=clips, assigned=[by_reviewer[name] for name in reviewers])

    def opinions_per_clip(self, collection: str) -> int:
        """See `listing.opinions_per_clip`."""
        return self.repository.read(lambda session: listing.opinions_per_clip(session, collection))

    def update_collection(self, name: str, opinions_per_clip: int) -> pb.Collection:
        """Say how many opinions a clip of a collection needs. NotFound for a collection without clips."""
        checking.check_collection(name, opinions_per_clip)

        def update(session: Session) -> pb.Collection:
            counts = dict(listing.collections(session, name))
            if name not in counts:
                raise NotFound(f"no collection {name!r} has clips", reason="COLLECTION_NOT_FOUND", collection=name)
            session.merge(CollectionRow(name=name, opinions_per_clip=opinions_per_clip))
            return _collection(name, counts[name], opinions_per_clip)

        return self.repository.write(update)

    def list_collections(self, name: str = "") -> list[pb.Collection]:
        """The collections that have clips, by name; one alone with the agreement of its reviewers."""

        def read(session: Session) -> list[pb.Collection]:
            found = [
                _collection(each, counts, listing.opinions_per_clip(session, each))
                for each, counts in listing.collections(session, name)
            ]
            for collection in found if name else ():
                collection.agreement.CopyFrom(agreement.agreement(session, name))
            return found

        return self.repository.read(read)

    def undo(self, batch_id: str, reviewer: str) -> tuple[Reviewed, list[str]]:
        """See `reviews.undo`."""
        checking.check_undo(batch_id, reviewer)
        return self.repository.write(lambda session: reviews.undo(session, batch_id, reviewer))

    def export(
        self,
        collection: str,
        name: str,
        fractions: Fractions,
        exported_by: str,
        use: LicensedUse = LICENSED_USE_UNSPECIFIED,
    ) -> Export:
        """Freeze and register; see `datasets.freeze` and `datasets.publish`. An empty name is the collection's.

        FailedPrecondition LICENCE_FORBIDS where a clip's licences do not allow the use.
        """
        name = name or collection
        checking.check_export(collection, name, fractions, exported_by)
        frozen = self.repository.read(lambda session: datasets.freeze(session, collection, name, fractions))
        refuse(frozen.rows, use)
        return datasets.publish(self.store, frozen, exported_by)

    def collections(self) -> list[str]:
        """Names of the collections."""
        return self.repository.read(lambda session: [name for name, _ in listing.collections(session)])

    def subsets(self, collection: str) -> list[str]:
        """See `listing.subsets`."""
        return self.repository.read(lambda session: listing.subsets(session, collection))

    def verdict_counts(self, which: pb.ClipFilter, limit: int | None = None) -> dict[str, Count]:
        """See `listing.verdict_counts`."""
        return self.repository.read(lambda session: listing.verdict_counts(session, which, limit))

    def count(self, which: pb.ClipFilter, limit: int | None = None) -> Count:
        """See `listing.count`."""
        checking.check_filter(which)
        return self.repository.read(lambda session: listing.count(session, which, limit))


def _collection(name: str, counts: dict[str, int], opinions_per_clip: int) -> pb.Collection:
    open_, accepted, rejected = (counts.get(verdict, 0) for verdict in (OPEN, ACCEPTED, REJECTED))
    return pb.Collection(
        name=name, open=open_, accepted=accepted, rejected=rejected, opinions_per_clip=opinions_per_clip
    )

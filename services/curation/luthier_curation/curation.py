"""What curation can do, for the gRPC service and the page alike: input is checked, transactions are whole."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from luthier.common.v1.common_pb2 import LICENSED_USE_UNSPECIFIED, LicensedUse
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation import checking, clips, datasets, listing, reviews
from luthier_curation.database import Repository
from luthier_curation.datasets import Export
from luthier_curation.listing import Page
from luthier_curation.reviews import Decision, Edit, Reviewed
from luthier_curation.splits import Fractions
from luthier_curation.tables import ChangeRow, ClipRow
from luthier_kit.licences import refuse
from luthier_kit.rpc import InvalidRequest, NotFound
from luthier_kit.store import Store


class Upserted(NamedTuple):
    """What became of clips, see `clips.upsert`, and their stamps, see `clips.stamps`."""

    ids: list[str]
    outcomes: Counter[str]
    stamps: list[str]


class Curation:
    """Collections of clips over one database and one store. Threads may share it."""

    def __init__(self, repository: Repository, store: Store) -> None:
        self.repository = repository
        self.store = store

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
        checking.check_filter(request.filter)
        return self.repository.read(lambda session: listing.page(session, request, size))

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
        return self.repository.read(listing.collections)

    def subsets(self, collection: str) -> list[str]:
        """See `listing.subsets`."""
        return self.repository.read(lambda session: listing.subsets(session, collection))

    def verdict_counts(self, which: pb.ClipFilter) -> dict[str, int]:
        """See `listing.verdict_counts`."""
        return self.repository.read(lambda session: listing.verdict_counts(session, which))

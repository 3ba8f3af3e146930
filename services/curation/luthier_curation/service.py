"""CurationService: messages to domain calls and back."""

import grpc

from luthier.curation.v1 import curation_pb2 as pb
from luthier.curation.v1 import listening_pb2
from luthier.curation.v1.curation_pb2_grpc import CurationServiceServicer
from luthier_curation import checking
from luthier_curation.batches import decision_of
from luthier_curation.clips import instruments_by_person, key_by_person
from luthier_curation.curation import Curation
from luthier_curation.datasets import Export
from luthier_curation.listening import Listening
from luthier_curation.listing import position_after
from luthier_curation.reviews import Edit
from luthier_curation.splits import Fractions
from luthier_curation.tables import REASON_NAMES, REASON_NUMBERS, VERDICT_NAMES, VERDICT_NUMBERS, ClipRow
from luthier_kit.rpc import Checks, actor, fit_page

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 50, 500
DEFAULT_FOUND = 20
MAX_STAMPS = 5000


class CurationService(CurationServiceServicer):
    """Collections of clips; see curation.proto."""

    def __init__(self, curation: Curation, listening: Listening) -> None:
        self.curation = curation
        self.listening = listening

    def UpsertClips(self, request: pb.UpsertClipsRequest, _context: grpc.ServicerContext) -> pb.UpsertClipsResponse:
        """Adds clips or revises them."""
        checking.check_upsert(request)
        upserted = self.curation.upsert(request.collection, request.clips)
        return pb.UpsertClipsResponse(clip_ids=upserted.ids, stamps=upserted.stamps, **upserted.outcomes)

    def GetClipStamps(
        self, request: pb.GetClipStampsRequest, _context: grpc.ServicerContext
    ) -> pb.GetClipStampsResponse:
        """What the pipeline sent last."""
        checks = Checks()
        for path, clip_id in checks.items("clip_ids", request.clip_ids, 1, MAX_STAMPS):
            checking.clean(checks, path, clip_id)
        checks.done()
        return pb.GetClipStampsResponse(stamps=self.curation.stamps(request.clip_ids))

    def ListClips(self, request: pb.ListClipsRequest, _context: grpc.ServicerContext) -> pb.ListClipsResponse:
        """A page of the clips that match."""
        page = self.curation.page(request, _page_size(request))
        items = ((position_after(request, row), curated_clip(row)) for row in page.clips)
        clips, more = fit_page(request, items, page.next_token)
        return pb.ListClipsResponse(
            clips=clips, total=page.total.clips, more_than_total=page.total.more, next_page_token=more
        )

    def UpdateClip(self, request: pb.UpdateClipRequest, _context: grpc.ServicerContext) -> pb.UpdateClipResponse:
        """A person's edit of one clip."""
        checks = Checks()
        checks.count("prompts", request.prompts, 0, checking.MAX_PROMPTS)
        checks.count("instruments", request.instruments.instruments, 0, checking.MAX_INSTRUMENTS)
        checks.count("tags", request.tags.tags, 0, checking.MAX_TAGS)
        checks.count("bad_passages", request.bad_passages.passages, 0, checking.MAX_PASSAGES)
        checks.done()
        row, _ = self.curation.edit(request.clip_id, request.expected_revision, actor(request.reviewer), _edit(request))
        return pb.UpdateClipResponse(clip=curated_clip(row))

    def ReviewClips(self, request: pb.ReviewClipsRequest, _context: grpc.ServicerContext) -> pb.ReviewClipsResponse:
        """Verdicts by id or by filter."""
        checks = Checks()
        one = bool(request.clips) != request.HasField("filter")
        checks.that(one, "clips", "must be given, or filter, and not both")
        checks.that(request.verdict in VERDICT_NAMES, "verdict", "must be a known verdict")
        checks.that(request.reason in REASON_NAMES, "reason", "must be a known RejectReason")
        checks.that(not (request.background and request.clips), "background", "must be used with filter only")
        checks.count("clips", request.clips, 0, checking.MAX_CLIPS)
        checks.done()
        clips = {clip.clip_id: clip.expected_revision for clip in request.clips}
        checks.that(len(clips) == len(request.clips), "clips", "must name each clip once")
        checks.done()
        request.reviewer = actor(request.reviewer)
        decision, curation = decision_of(request), self.curation
        if request.background:
            return pb.ReviewClipsResponse(batch_id=curation.review_in_background(request.filter, decision).batch_id)
        done = curation.review(clips, decision) if clips else curation.review_all(request.filter, decision)
        return pb.ReviewClipsResponse(changed=done.changed, unchanged=done.unchanged, batch_id=done.batch_id)

    def GetBatch(self, request: pb.GetBatchRequest, _context: grpc.ServicerContext) -> pb.GetBatchResponse:
        """How far a change of many clips has come."""
        return pb.GetBatchResponse(batch=self.curation.batch(request.batch_id))

    def UndoBatch(self, request: pb.UndoBatchRequest, _context: grpc.ServicerContext) -> pb.UndoBatchResponse:
        """Takes back a change."""
        reviewer = actor(request.reviewer)
        if request.background:
            return pb.UndoBatchResponse(batch=self.curation.undo_in_background(request.batch_id, reviewer))
        done, _ = self.curation.undo(request.batch_id, reviewer)
        seen = done.changed + done.unchanged
        batch = pb.Batch(batch_id=done.batch_id, state=pb.BATCH_STATE_DONE, seen=seen, total=seen)
        batch.changed, batch.unchanged = done.changed, done.unchanged
        return pb.UndoBatchResponse(batch=batch)

    def EmbedClips(self, request: pb.EmbedClipsRequest, _context: grpc.ServicerContext) -> pb.EmbedClipsResponse:
        """Vectors of clips, in the background."""
        return pb.EmbedClipsResponse(batch=self.curation.embed(request.filter, actor(request.reviewer)))

    def SearchClips(self, request: pb.SearchClipsRequest, _context: grpc.ServicerContext) -> pb.SearchClipsResponse:
        """Clips by the similarity of their sound."""
        found = self.curation.search(request, request.limit if request.HasField("limit") else DEFAULT_FOUND)
        items = (("", pb.SimilarClip(clip=curated_clip(one.clip), similarity=one.similarity)) for one in found.clips)
        clips, _ = fit_page(request, items, "")
        return pb.SearchClipsResponse(
            clips=clips, embedder=self.curation.embedder.name, weights_sha256=found.weights_sha256
        )

    def SkipClips(self, request: pb.SkipClipsRequest, _context: grpc.ServicerContext) -> pb.SkipClipsResponse:
        """Clips to be judged later."""
        done = self.curation.skip(request.clip_ids, actor(request.reviewer))
        return pb.SkipClipsResponse(skipped=done.changed, batch_id=done.batch_id)

    def AssignClips(self, request: pb.AssignClipsRequest, _context: grpc.ServicerContext) -> pb.AssignClipsResponse:
        """Asks reviewers for opinions."""
        return self.curation.assign(request)

    def ListCollections(
        self, request: pb.ListCollectionsRequest, _context: grpc.ServicerContext
    ) -> pb.ListCollectionsResponse:
        """Collections and what is decided about them."""
        if request.collection:
            checks = Checks()
            checks.name("collection", request.collection)
            checks.done()
        return pb.ListCollectionsResponse(collections=self.curation.list_collections(request.collection))

    def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, _context: grpc.ServicerContext
    ) -> pb.UpdateCollectionResponse:
        """How many opinions a clip needs."""
        updated = self.curation.update_collection(request.name, request.opinions_per_clip)
        return pb.UpdateCollectionResponse(collection=updated)

    def ImportOpinions(
        self, request: pb.ImportOpinionsRequest, _context: grpc.ServicerContext
    ) -> pb.ImportOpinionsResponse:
        """Verdicts that were given elsewhere."""
        done = self.curation.import_opinions(request.opinions, actor(request.imported_by))
        return pb.ImportOpinionsResponse(
            changed=done.changed, unchanged=done.unchanged, unknown=done.unknown, batch_id=done.batch_id
        )

    def ExportDataset(
        self, request: pb.ExportDatasetRequest, _context: grpc.ServicerContext
    ) -> pb.ExportDatasetResponse:
        """Freezes the accepted clips."""
        fractions = _fractions(request)
        export = self.curation.export(
            request.collection, request.name, fractions, actor(request.exported_by), request.use
        )
        return _export_response(export, fractions)

    def CreateListeningTest(
        self, request: listening_pb2.CreateListeningTestRequest, _context: grpc.ServicerContext
    ) -> listening_pb2.CreateListeningTestResponse:
        """Copies the audio and keeps the test."""
        request.created_by = actor(request.created_by)
        created = self.listening.create(request)
        test = self.listening.test(created.test_id)
        return listening_pb2.CreateListeningTestResponse(test=test, results_key=created.results_key)

    def GetListeningTest(
        self, request: listening_pb2.GetListeningTestRequest, _context: grpc.ServicerContext
    ) -> listening_pb2.GetListeningTestResponse:
        """One test, and the audio that it was made of."""
        test = self.listening.test(request.test)
        response = listening_pb2.GetListeningTestResponse(
            test=test, trials=self.listening.plan(test.test_id).request.trials
        )
        for trial in response.trials:
            trial.ClearField("prompt")  # 500 of 2000 characters, up to four bytes each, are as much as a message holds
        return response

    def ListListeningTests(
        self, request: listening_pb2.ListListeningTestsRequest, _context: grpc.ServicerContext
    ) -> listening_pb2.ListListeningTestsResponse:
        """A page of tests."""
        page = self.listening.listed(request, _page_size(request))
        tests, more = fit_page(request, page.tests, page.next_token)
        return listening_pb2.ListListeningTestsResponse(tests=tests, next_page_token=more)

    def GetListeningResults(
        self, request: listening_pb2.GetListeningResultsRequest, _context: grpc.ServicerContext
    ) -> listening_pb2.GetListeningResultsResponse:
        """What listeners said so far."""
        return self.listening.results(request.test, include_excluded=request.include_excluded).response


def _page_size(request: pb.ListClipsRequest | listening_pb2.ListListeningTestsRequest) -> int:
    """How many items a page may have."""
    size = request.page_size if request.HasField("page_size") else DEFAULT_PAGE_SIZE
    checks = Checks()
    checks.within("page_size", size, 1, MAX_PAGE_SIZE)
    checks.text("page_token", request.page_token, max_chars=4096)
    if isinstance(request, pb.ListClipsRequest):
        checks.that(request.order in pb.ClipOrder.values(), "order", "must be a known ClipOrder")
        checks.that(request.count_limit >= 0, "count_limit", f"must be 0 or more, got {request.count_limit}")
    checks.done()
    return size


def _edit(request: pb.UpdateClipRequest) -> Edit:
    """An edit of a request; the facts that it gives are a person's."""
    instruments = [(fact.instrument, fact.share) for fact in request.instruments.instruments]
    return Edit(
        prompts=list(request.prompts) or None,
        instruments=instruments_by_person(instruments) if request.HasField("instruments") else None,
        tempo=request.tempo if request.HasField("tempo") else None,
        key=key_by_person(request.key) if request.HasField("key") else None,
        voice=request.voice if request.HasField("voice") else None,
        tags=[(tag.text, tag.kind) for tag in request.tags.tags] if request.HasField("tags") else None,
        bad_passages=list(request.bad_passages.passages) if request.HasField("bad_passages") else None,
        remark=request.remark if request.HasField("remark") else None,
    )


def _fractions(request: pb.ExportDatasetRequest) -> Fractions:
    """Shares of a request; absent is a tenth."""
    standard = Fractions()
    validation = request.validation_share if request.HasField("validation_share") else standard.validation
    test = request.test_share if request.HasField("test_share") else standard.test
    return Fractions.holding_out(validation, test)


def curated_clip(row: ClipRow) -> pb.CuratedClip:
    """A clip as the contract has it."""
    clip = pb.CuratedClip(
        clip_id=row.clip_id,
        collection=row.collection,
        source=row.source,
        audio=row.audio,
        facts=row.facts,
        tags=row.tags,
        prompts=row.prompts,
        verdict=VERDICT_NUMBERS[row.verdict],
        reviewer=row.reviewer,
        automatic=row.automatic,
        revision=row.revision,
        edited_fields=row.edited_fields,
        bad_passages=row.bad_passages,
        remark=row.remark,
        reason=REASON_NUMBERS[row.reason],
        rating=row.rating,
        opinions=row.opinions,
        conflict=row.conflict,
        assigned_to=row.assigned_to,
        disagreement=row.disagreement,
        skips=row.skips,
    )
    clip.updated_at.FromMilliseconds(row.updated_at_ms)
    clip.created_at.FromMilliseconds(row.created_at_ms)
    if row.skipped_at_ms:
        clip.skipped_at.FromMilliseconds(row.skipped_at_ms)
    return clip


def _export_response(export: Export, fractions: Fractions) -> pb.ExportDatasetResponse:
    """A data set, with the shares that took effect."""
    return pb.ExportDatasetResponse(
        manifest=export.entry.manifest,
        name=export.name,
        version=export.version,
        splits=export.entry.splits,
        download_path=export.download_path,
        unchanged=export.unchanged,
        validation_share=fractions.validation,
        test_share=fractions.test,
    )

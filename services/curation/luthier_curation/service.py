"""CurationService: messages to domain calls and back."""

import grpc

from luthier.curation.v1 import curation_pb2 as pb
from luthier.curation.v1.curation_pb2_grpc import CurationServiceServicer
from luthier_curation import checking
from luthier_curation.curation import Curation
from luthier_curation.listing import token_of
from luthier_curation.messages import (
    VERDICTS,
    to_curated_clip,
    to_edit,
    to_export_response,
    to_filter,
    to_fractions,
    to_new_clip,
)
from luthier_curation.reviews import Decision
from luthier_kit.checks import Checks

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 50, 500
MAX_RESPONSE_BYTES = 3 << 20
"""of the clips of a page: below gRPC's default limit of 4 MiB. Long prompts make pages shorter, never fail them."""


class CurationService(CurationServiceServicer):
    """Collections of clips; see curation.proto."""

    def __init__(self, curation: Curation) -> None:
        self.curation = curation

    def UpsertClips(self, request: pb.UpsertClipsRequest, _context: grpc.ServicerContext) -> pb.UpsertClipsResponse:
        """Adds clips or revises them."""
        checking.check_upsert(request)
        clips = [to_new_clip(clip) for clip in request.clips]
        ids, outcomes = self.curation.upsert(request.collection, clips)
        return pb.UpsertClipsResponse(clip_ids=ids, **outcomes)

    def ListClips(self, request: pb.ListClipsRequest, _context: grpc.ServicerContext) -> pb.ListClipsResponse:
        """A page of the clips that match."""
        size = request.page_size if request.HasField("page_size") else DEFAULT_PAGE_SIZE
        checks = Checks()
        checks.within("page_size", size, 1, MAX_PAGE_SIZE)
        checks.text("page_token", request.page_token, max_chars=4096)
        checks.done()
        page = self.curation.page(to_filter(request.filter), size, request.page_token)
        response = pb.ListClipsResponse(total=page.total, next_page_token=page.next_token)
        room = MAX_RESPONSE_BYTES
        for row in page.clips:
            clip = to_curated_clip(row)
            room -= clip.ByteSize()
            if room < 0 and response.clips:
                break
            response.clips.append(clip)
            last = row.sort_key
        if len(response.clips) < len(page.clips):
            response.next_page_token = token_of(last)
        return response

    def UpdateClip(self, request: pb.UpdateClipRequest, _context: grpc.ServicerContext) -> pb.UpdateClipResponse:
        """A person's edit of one clip."""
        row, _ = self.curation.edit(request.clip_id, request.expected_revision, request.reviewer, to_edit(request))
        return pb.UpdateClipResponse(clip=to_curated_clip(row))

    def ReviewClips(self, request: pb.ReviewClipsRequest, _context: grpc.ServicerContext) -> pb.ReviewClipsResponse:
        """Verdicts by id or by filter."""
        checks = Checks()
        one = bool(request.clips) != request.HasField("filter")
        checks.that(one, "clips", "must be given, or filter, and not both")
        checks.count("clips", request.clips, 0, checking.MAX_CLIPS)
        checks.that(request.verdict in VERDICTS, "verdict", "must be a known verdict")
        clips = {clip.clip_id: clip.expected_revision for clip in request.clips}
        checks.that(len(clips) == len(request.clips), "clips", "must name each clip once")
        checks.done()
        decision = Decision(VERDICTS[request.verdict], request.reviewer, request.automatic, request.remark)
        if clips:
            done = self.curation.review(clips, decision)
        else:
            done = self.curation.review_all(to_filter(request.filter), decision)
        return pb.ReviewClipsResponse(changed=done.changed, unchanged=done.unchanged, batch_id=done.batch_id)

    def ExportDataset(
        self, request: pb.ExportDatasetRequest, _context: grpc.ServicerContext
    ) -> pb.ExportDatasetResponse:
        """Freezes the accepted clips."""
        fractions = to_fractions(request)
        export = self.curation.export(request.collection, request.name, fractions, request.exported_by)
        return to_export_response(export, fractions)

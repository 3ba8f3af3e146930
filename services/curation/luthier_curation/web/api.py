"""What the page's buttons do: JSON in, JSON out; a changed clip comes back as its card."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict, Field, model_validator

from luthier.common.v1.common_pb2 import (
    VOICE_PRESENCE_HEARD,
    VOICE_PRESENCE_NONE,
    VOICE_PRESENCE_UNSPECIFIED,
    KeyFact,
    Span,
    TempoFact,
    VoicePresence,
)
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.checking import MAX_CLIPS, MAX_REVIEWER_CHARS
from luthier_curation.clips import instruments_by_person, key_by_person
from luthier_curation.curation import Curation
from luthier_curation.reviews import Edit, Reviewed
from luthier_curation.service import curated_clip
from luthier_curation.splits import Fractions
from luthier_curation.tables import ClipRow
from luthier_curation.verdicts import Decision
from luthier_curation.web.csv_file import verdict_lines
from luthier_curation.web.identity import Identities
from luthier_curation.web.pages import COUNTED, PAGE_SIZES, Listed, PageQuery
from luthier_curation.web.templating import fragment
from luthier_curation.web.views import clip_view

SHOWN = 100
"""ids of undone clips that the page may have on display: it shows fewer at a time."""
VOICES: dict[str, VoicePresence] = {
    "VOICE_PRESENCE_UNSPECIFIED": VOICE_PRESENCE_UNSPECIFIED,
    "VOICE_PRESENCE_NONE": VOICE_PRESENCE_NONE,
    "VOICE_PRESENCE_HEARD": VOICE_PRESENCE_HEARD,
}
Verdict = Literal["open", "accepted", "rejected"]


class JsonBody(BaseModel):
    """A body of known fields only, in Unicode."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _is_unicode(cls, value: object) -> object:
        """JSON can spell lone surrogates, which no message and no database takes."""
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("must be Unicode text") from None
        return value


class Body(JsonBody):
    """A body that says who sends it; ignored where a proxy or a token says it."""

    reviewer: str = ""


class InstrumentBody(BaseModel):
    """An instrument of an edited list; `share` 0 to 1."""

    model_config = ConfigDict(extra="forbid")
    name: str
    share: float = 0.0


class TagBody(BaseModel):
    """A tag of an edited list."""

    model_config = ConfigDict(extra="forbid")
    text: str
    kind: str


class PassageBody(BaseModel):
    """A passage of a clip that is bad, in seconds from its first sample."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    start_s: float
    end_s: float
    note: str = ""


class EditBody(Body):
    """New values of a clip; what is absent stays. The tempo's number counts what the clip's counted; `tempo_changes`
    says whether it is the mean of a changing one."""

    expected_revision: int
    prompts: list[str] | None = None
    instruments: list[InstrumentBody] | None = None
    tempo_bpm: Annotated[float, Field(strict=False, allow_inf_nan=False)] | None = None
    tempo_changes: bool = False
    tonic: str | None = None
    mode: Literal["", "MODE_MAJOR", "MODE_MINOR"] = ""
    voice: Literal["VOICE_PRESENCE_UNSPECIFIED", "VOICE_PRESENCE_NONE", "VOICE_PRESENCE_HEARD"] | None = None
    tags: list[TagBody] | None = None
    bad_passages: list[PassageBody] | None = None
    remark: str | None = None

    def edit(self) -> Edit:
        """The same as the domain has it; a tempo of 0 and a key without a tonic say that it is unknown."""
        stated = None
        if self.tempo_bpm is not None:
            stated = TempoFact(tempo_bpm=self.tempo_bpm, changes=self.tempo_changes)
        named = [(item.name, item.share) for item in self.instruments or []]
        key = KeyFact(tonic=self.tonic, mode=self.mode if self.mode and self.tonic else None)
        return Edit(
            prompts=self.prompts,
            instruments=None if self.instruments is None else instruments_by_person(named),
            tempo=stated,
            key=None if self.tonic is None else key_by_person(key),
            voice=None if self.voice is None else VOICES[self.voice],
            tags=None if self.tags is None else [(tag.text, tag.kind) for tag in self.tags],
            bad_passages=None if self.bad_passages is None else [_passage(one) for one in self.bad_passages],
            remark=self.remark,
        )


class VerdictBody(Body):
    """A verdict about one clip as the reviewer saw it."""

    verdict: Verdict
    expected_revision: int
    reason: str = ""
    rating: int = 0
    remark: str = ""
    settle: bool = False


class PartBody(BaseModel):
    """A part of a clip, in seconds from its first sample."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    start_s: float
    end_s: float


class CutBody(Body):
    """The parts of a clip that become clips of their own; the clip is rejected."""

    expected_revision: int
    parts: list[PartBody]

    def spans(self) -> list[Span]:
        """The same as the contract has them."""
        return [Span(start_s=part.start_s, end_s=part.end_s) for part in self.parts]


class ReviewBody(Body):
    """A verdict about every clip that matches, or about selected ones, as their reviewer saw them {id: revision}. In
    the background: about all that match only; answered at once."""

    verdict: Verdict
    filter: PageQuery | None = None
    clips: dict[str, int] | None = None
    reason: str = ""
    rating: int = 0
    remark: str = ""
    settle: bool = False
    background: bool = False

    @model_validator(mode="after")
    def _one_of_two(self) -> "ReviewBody":
        if (self.filter is None) == (self.clips is None):
            raise ValueError("clips must be given, or filter, and not both")
        if self.clips is not None and not 0 < len(self.clips) <= MAX_CLIPS:
            raise ValueError(f"clips must have 1 to {MAX_CLIPS} items, got {len(self.clips)}")
        if self.background and self.filter is None:
            raise ValueError("background must be used with filter only")
        return self


class SkipBody(Body):
    """Clips to be judged later."""

    clip_ids: list[str]


class UndoBody(Body):
    """Which batch to take back."""

    batch_id: str


class CollectionBody(Body):
    """What is decided about a collection."""

    opinions_per_clip: int


class AssignBody(Body):
    """Whom to ask about which clips; see AssignClipsRequest."""

    filter: PageQuery
    reviewers: list[str]
    per_clip: int = 0
    withdraw: bool = False


class ExportBody(Body):
    """What to freeze; shares 0 to 0.5."""

    collection: str
    name: str = ""
    validation_share: Annotated[float, Field(strict=False)] = 0.1
    test_share: Annotated[float, Field(strict=False)] = 0.1


def routes(curation: Curation, identities: Identities) -> APIRouter:
    """The JSON routes. Messages are protobuf JSON with the names of the .proto files."""
    router = APIRouter(prefix="/api")

    @router.get("/me")
    def me(request: Request, claimed: str = "") -> dict[str, Any]:
        person = identities.person(request, claimed[:MAX_REVIEWER_CHARS])
        return {"name": person.name, "curator": person.curator}

    @router.get("/clips")
    def clips(query: Listed) -> dict[str, Any]:
        return _listed(curation, query)

    @router.get("/count")
    def count(query: Listed) -> dict[str, Any]:
        return {"clips": curation.count(query.request().filter).clips}

    @router.get("/verdicts.csv")
    def verdicts(query: Listed) -> StreamingResponse:
        lines = verdict_lines(curation, query.request().filter)
        named = {"content-disposition": 'attachment; filename="verdicts.csv"'}
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=named)

    @router.get("/collections")
    def collections(collection: str = "") -> list[dict[str, Any]]:
        return [to_json(found) for found in curation.list_collections(collection)]

    @router.post("/collections/{name}")
    def update_collection(request: Request, name: str, body: CollectionBody) -> dict[str, Any]:
        identities.person(request, body.reviewer).must_be_curator()
        return to_json(curation.update_collection(name, body.opinions_per_clip))

    @router.post("/assign")
    def assign(request: Request, body: AssignBody) -> dict[str, Any]:
        identities.person(request, body.reviewer).must_be_curator()
        wanted = pb.AssignClipsRequest(
            filter=body.filter.request().filter, reviewers=body.reviewers, withdraw=body.withdraw
        )
        wanted.per_clip = min(max(body.per_clip, -1), MAX_CLIPS)
        return to_json(curation.assign(wanted))

    @router.post("/clips/{clip_id}")
    def edit(request: Request, clip_id: str, body: EditBody) -> dict[str, Any]:
        person = identities.person(request, body.reviewer)
        row, batch_id = curation.edit(clip_id, body.expected_revision, person.name, body.edit())
        return {"html": _card(row), "batch_id": batch_id}

    @router.post("/clips/{clip_id}/verdict")
    def verdict(request: Request, clip_id: str, body: VerdictBody) -> dict[str, Any]:
        done = curation.review({clip_id: body.expected_revision}, _decision(request, body))
        return {"html": _card(curation.clip(clip_id)), **_reviewed(done)}

    @router.post("/clips/{clip_id}/cut")
    def cut(request: Request, clip_id: str, body: CutBody) -> dict[str, Any]:
        name = identities.person(request, body.reviewer).must_be_curator().name
        done = curation.cut(clip_id, body.expected_revision, name, body.spans())
        return {"clip_ids": done.ids, "notes": done.notes, **_reviewed(done.rejected)}

    @router.post("/skip")
    def skip(request: Request, body: SkipBody) -> dict[str, Any]:
        return _reviewed(curation.skip(body.clip_ids, identities.person(request, body.reviewer).name))

    @router.post("/review")
    def review(request: Request, body: ReviewBody) -> dict[str, Any]:
        decision = _decision(request, body)
        if body.clips is not None:
            return _reviewed(curation.review(body.clips, decision))
        assert body.filter is not None
        identities.person(request, body.reviewer).must_be_curator()
        which = body.filter.request().filter
        if not body.background:
            return _reviewed(curation.review_all(which, decision))
        return to_json(curation.review_in_background(which, decision))

    @router.get("/batches/{batch_id}")
    def batch(batch_id: str) -> dict[str, Any]:
        return to_json(curation.batch(batch_id))

    @router.post("/undo")
    def undo(request: Request, body: UndoBody) -> dict[str, Any]:
        name = identities.person(request, body.reviewer).name
        if curation.is_background(body.batch_id):
            return to_json(curation.undo_in_background(body.batch_id, name))
        done, clip_ids = curation.undo(body.batch_id, name)
        return {**_reviewed(done), "clip_ids": clip_ids[:SHOWN]}

    def _decision(request: Request, body: VerdictBody | ReviewBody) -> Decision:
        """What a body decides, by whoever sends it. PermissionDenied for a reviewer who settles."""
        person = identities.person(request, body.reviewer)
        if body.settle:
            person.must_be_curator()
        return Decision(
            body.verdict, person.name, remark=body.remark, reason=body.reason, rating=body.rating, settle=body.settle
        )

    @router.post("/export")
    def export(request: Request, body: ExportBody) -> dict[str, Any]:
        name = identities.person(request, body.reviewer).must_be_curator().name
        fractions = Fractions.holding_out(body.validation_share, body.test_share)
        done = curation.export(body.collection, body.name, fractions, name)
        return {
            "name": done.name,
            "version": done.version,
            "unchanged": done.unchanged,
            "download_path": done.download_path,
            "manifest_path": done.download_path.removesuffix(".zip") + ".json",
            "manifest_sha256": done.entry.manifest.sha256,
            "splits": [
                {"split": found.split, "songs": found.songs, "clips": found.clips, "duration_s": found.duration_s}
                for found in done.entry.splits
            ],
        }

    return router


def _listed(curation: Curation, query: PageQuery) -> dict[str, Any]:
    """A page of clips; of a search by sound the most similar ones."""
    size = query.page_size or PAGE_SIZES[0]
    if query.by_sound:
        found = curation.search(query.search(), size).clips
        similar = [{**to_json(curated_clip(one.clip)), "similarity": one.similarity} for one in found]
        return {"clips": similar, "total": len(similar), "more_than_total": False, "next_page": ""}
    request = query.request()
    request.count_limit = COUNTED
    page = curation.page(request, size)
    return {
        "clips": [to_json(curated_clip(row)) for row in page.clips],
        "total": page.total.clips,
        "more_than_total": page.total.more,
        "next_page": page.next_token,
    }


def to_json(message: Message) -> dict[str, Any]:
    """A message as JSON, numbers of zero included."""
    found: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


def _passage(said: PassageBody) -> pb.BadPassage:
    return pb.BadPassage(span=Span(start_s=said.start_s, end_s=said.end_s), note=said.note)


def _card(row: ClipRow) -> str:
    return fragment("clip.html", clip=clip_view(row))


def _reviewed(done: Reviewed) -> dict[str, Any]:
    return {"changed": done.changed, "unchanged": done.unchanged, "batch_id": done.batch_id if done.changed else ""}

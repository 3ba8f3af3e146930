"""What the page's buttons do: JSON in, JSON out; a changed clip comes back as its card."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from luthier.common.v1.common_pb2 import (
    VOICE_PRESENCE_HEARD,
    VOICE_PRESENCE_NONE,
    VOICE_PRESENCE_UNSPECIFIED,
    KeyFact,
    TempoFact,
    VoicePresence,
)
from luthier_curation.clips import instruments_by_person, key_by_person
from luthier_curation.curation import Curation
from luthier_curation.reviews import Decision, Edit, Reviewed
from luthier_curation.splits import Fractions
from luthier_curation.tables import ClipRow
from luthier_curation.web.pages import PageQuery
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
    """A body that says who sends it."""

    reviewer: str


class InstrumentBody(BaseModel):
    """An instrument of an edited list; `share` 0 to 1."""

    model_config = ConfigDict(extra="forbid")
    name: str
    share: float = 0.0


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
            remark=self.remark,
        )


class VerdictBody(Body):
    """A verdict about one clip as the reviewer saw it."""

    verdict: Verdict
    expected_revision: int


class ReviewBody(Body):
    """A verdict about every clip that matches."""

    verdict: Verdict
    filter: PageQuery


class UndoBody(Body):
    """Which batch to take back."""

    batch_id: str


class ExportBody(Body):
    """What to freeze; shares 0 to 0.5."""

    collection: str
    name: str = ""
    validation_share: Annotated[float, Field(strict=False)] = 0.1
    test_share: Annotated[float, Field(strict=False)] = 0.1


def routes(curation: Curation) -> APIRouter:
    """The JSON routes."""
    router = APIRouter(prefix="/api")

    @router.post("/clips/{clip_id}")
    def edit(clip_id: str, body: EditBody) -> dict[str, Any]:
        row, batch_id = curation.edit(clip_id, body.expected_revision, body.reviewer, body.edit())
        return {"html": _card(row), "batch_id": batch_id}

    @router.post("/clips/{clip_id}/verdict")
    def verdict(clip_id: str, body: VerdictBody) -> dict[str, Any]:
        done = curation.review({clip_id: body.expected_revision}, Decision(body.verdict, body.reviewer))
        return {"html": _card(curation.clip(clip_id)), **_reviewed(done)}

    @router.post("/review")
    def review(body: ReviewBody) -> dict[str, Any]:
        return _reviewed(curation.review_all(body.filter.request().filter, Decision(body.verdict, body.reviewer)))

    @router.post("/undo")
    def undo(body: UndoBody) -> dict[str, Any]:
        done, clip_ids = curation.undo(body.batch_id, body.reviewer)
        return {**_reviewed(done), "clip_ids": clip_ids[:SHOWN]}

    @router.post("/export")
    def export(body: ExportBody) -> dict[str, Any]:
        fractions = Fractions.holding_out(body.validation_share, body.test_share)
        done = curation.export(body.collection, body.name, fractions, body.reviewer)
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


def _card(row: ClipRow) -> str:
    return fragment("clip.html", clip=clip_view(row))


def _reviewed(done: Reviewed) -> dict[str, Any]:
    return {"changed": done.changed, "unchanged": done.unchanged, "batch_id": done.batch_id if done.changed else ""}

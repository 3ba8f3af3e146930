"""What a person navigates to: the list with its filter, and the parts of it that are loaded later."""

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator

from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.curation import Curation
from luthier_curation.datasets import newest_versions
from luthier_curation.service import VERDICT_NUMBERS
from luthier_curation.tables import OPEN
from luthier_curation.web.details import details_view
from luthier_curation.web.templating import fragment, render
from luthier_curation.web.views import change_view, clip_view, moment
from luthier_music.instruments import DRUMS, FAMILIES, PROGRAM_NAMES
from luthier_music.keys import TONICS

PAGE_SIZE = 20


class PageQuery(BaseModel):
    """Query parameters of the list; unknown ones are refused, empty ones mean any."""

    model_config = ConfigDict(extra="forbid")

    collection: str = ""
    verdict: Literal["", "open", "accepted", "rejected"] = ""
    checked: Literal["", "yes", "no"] = ""
    text: Annotated[str, Field(max_length=200)] = ""
    instrument: Annotated[str, Field(max_length=64)] = ""
    subset: Annotated[str, Field(max_length=64)] = ""
    min_tempo_bpm: Annotated[float, Field(ge=0, le=1000)] | None = None
    max_tempo_bpm: Annotated[float, Field(ge=0, le=1000)] | None = None
    page: Annotated[str, Field(max_length=4096)] = ""

    @field_validator("min_tempo_bpm", "max_tempo_bpm", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value

    def request(self) -> pb.ListClipsRequest:
        """The same as the contract has it."""
        which = pb.ClipFilter(
            collection=self.collection,
            verdict=VERDICT_NUMBERS[self.verdict],
            checked={"yes": True, "no": False}.get(self.checked),
            text=self.text,
            instrument=self.instrument,
            subset=self.subset,
            min_tempo_bpm=self.min_tempo_bpm,
            max_tempo_bpm=self.max_tempo_bpm,
        )
        return pb.ListClipsRequest(filter=which, page_token=self.page)

    def url(self, **changes: str) -> str:
        """Address of the list with some parameters changed; a change of the filter starts at the first page."""
        values = {**self.model_dump(exclude={"page"}), **changes}
        return "/?" + urlencode({name: value for name, value in values.items() if value not in ("", None)})


Listed = Annotated[PageQuery, Query()]


@dataclass(frozen=True)
class Tab:
    """A verdict to look at, how many clips have it, and where to find them."""

    name: str
    label: str
    count: int
    url: str


def tabs(query: PageQuery, counts: dict[str, int]) -> list[Tab]:
    """All, open, accepted, rejected."""
    labels = {"": "All", "open": "To do", "accepted": "Accepted", "rejected": "Rejected"}
    totals = {"": sum(counts.values()), **counts}
    return [Tab(name, label, totals.get(name, 0), query.url(verdict=name)) for name, label in labels.items()]


def routes(curation: Curation) -> APIRouter:
    """The HTML routes."""
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse)
    def clips(query: Listed) -> HTMLResponse:
        collections = curation.collections()
        if not query.collection and len(collections) == 1:
            query = query.model_copy(update={"collection": collections[0]})
        request = query.request()
        page = curation.page(request, PAGE_SIZE)
        counts = curation.verdict_counts(request.filter)
        return render(
            "page.html",
            query=query,
            clips=[clip_view(row) for row in page.clips],
            total=page.total,
            done=bool(sum(counts.values())) and not counts.get(OPEN),
            tabs=tabs(query, counts),
            collections=collections,
            subsets=curation.subsets(query.collection),
            next_url=query.url(page=page.next_token) if page.next_token else "",
            previous_url=query.url(page=page.previous_token) if page.previous_token else "",
            families=FAMILIES,
            instruments=(DRUMS, *PROGRAM_NAMES),
            tonics=TONICS,
        )

    @router.get("/clips/{clip_id}", response_class=HTMLResponse)
    def clip(clip_id: str) -> str:
        return fragment("clip.html", clip=clip_view(curation.clip(clip_id)))

    @router.get("/clips/{clip_id}/history", response_class=HTMLResponse)
    def history(clip_id: str) -> str:
        changes = [change_view(change) for change in curation.history(clip_id)]
        return fragment("history.html", changes=changes, clip=clip_view(curation.clip(clip_id)))

    @router.get("/clips/{clip_id}/details", response_class=HTMLResponse)
    def details(clip_id: str) -> str:
        row = curation.clip(clip_id)
        return fragment("details.html", clip=clip_view(row), details=details_view(curation.store, row))

    @router.get("/datasets", response_class=HTMLResponse)
    def datasets() -> str:
        found = [
            {"export": export, "at": moment(export.entry.exported_at.ToMilliseconds())}
            for export in newest_versions(curation.store)
        ]
        return fragment("datasets.html", datasets=found)

    return router

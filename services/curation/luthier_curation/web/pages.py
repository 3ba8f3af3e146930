"""What a person navigates to: the list with its filter, and the parts of it that are loaded later."""

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator

from luthier.common.v1.common_pb2 import (
    FACT_SOURCE_AUDIO,
    FACT_SOURCE_NOTES,
    FACT_SOURCE_PERSON,
    FACT_SOURCE_TEMPO_MAP,
    FACT_SOURCE_UNSPECIFIED,
    MODE_MAJOR,
    MODE_MINOR,
    MODE_UNSPECIFIED,
    FactSource,
    Mode,
)
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.curation import Curation
from luthier_curation.datasets import newest_versions
from luthier_curation.listing import Count, Page
from luthier_curation.tables import OPEN, REASON_NUMBERS, VERDICT_NUMBERS
from luthier_curation.web.details import details_view
from luthier_curation.web.sounds import search_by_sound
from luthier_curation.web.templating import fragment, render
from luthier_curation.web.views import change_view, clip_view, moment
from luthier_kit.rpc import Checks
from luthier_music.instruments import DRUMS, FAMILIES, PROGRAM_NAMES
from luthier_music.keys import TONICS

PAGE_SIZES = (20, 50, 100)
COUNTED = 1000
"""Clips that a filter's matches are counted up to; the page says `1,000+` beyond."""
Order = Literal["", "newest", "disagreement", "loudness", "length", "next"]
ORDERS: dict[str, pb.ClipOrder] = {
    "": pb.CLIP_ORDER_UNSPECIFIED, "newest": pb.CLIP_ORDER_NEWEST, "disagreement": pb.CLIP_ORDER_DISAGREEMENT,
    "loudness": pb.CLIP_ORDER_LOUDNESS, "length": pb.CLIP_ORDER_LENGTH, "next": pb.CLIP_ORDER_NEXT,
}  # fmt: skip
DISAGREEMENTS: dict[str, pb.EstimatorDisagreement] = {
    "": pb.ESTIMATOR_DISAGREEMENT_UNSPECIFIED, "any": pb.ESTIMATOR_DISAGREEMENT_ANY,
    "tempo": pb.ESTIMATOR_DISAGREEMENT_TEMPO, "key": pb.ESTIMATOR_DISAGREEMENT_KEY,
    "none": pb.ESTIMATOR_DISAGREEMENT_NONE,
}  # fmt: skip
MODES: dict[str, Mode] = {"": MODE_UNSPECIFIED, "major": MODE_MAJOR, "minor": MODE_MINOR}
FACT_SOURCES: dict[str, FactSource] = {
    "": FACT_SOURCE_UNSPECIFIED, "notes": FACT_SOURCE_NOTES, "tempo_map": FACT_SOURCE_TEMPO_MAP,
    "audio": FACT_SOURCE_AUDIO, "person": FACT_SOURCE_PERSON,
}  # fmt: skip
REASONS = [name for name in REASON_NUMBERS if name]
YES_NO: dict[str, bool | None] = {"yes": True, "no": False, "": None}
YesNo = Literal["", "yes", "no"]


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
    tonic: Annotated[str, Field(max_length=2)] = ""
    mode: Literal["", "major", "minor"] = ""
    tag: Annotated[str, Field(max_length=64)] = ""
    tag_source: Annotated[str, Field(max_length=64)] = ""
    artist: Annotated[str, Field(max_length=200)] = ""
    composer: Literal["", "grammar", "vllm", "person", "file"] = ""
    fact_source: Literal["", "notes", "tempo_map", "audio", "person"] = ""
    disagreement: Literal["", "any", "tempo", "key", "none"] = ""
    near_duplicates: YesNo = ""
    related_to: Annotated[str, Field(max_length=64)] = ""
    reviewer: Annotated[str, Field(max_length=100)] = ""
    assigned_to: Annotated[str, Field(max_length=100)] = ""
    conflict: YesNo = ""
    reason: Annotated[str, Field(max_length=32)] = ""
    min_rating: Annotated[int, Field(ge=1, le=5)] | None = None
    sounds: Annotated[str, Field(max_length=200)] = ""
    like: Annotated[str, Field(max_length=64)] = ""
    reviewing: Annotated[str, Field(max_length=100)] = ""
    order: Order = ""
    reverse: Literal["", "yes"] = ""
    page_size: Annotated[int, Field(ge=1, le=100)] | None = None
    page: Annotated[str, Field(max_length=4096)] = ""

    @field_validator("reason")
    @classmethod
    def _is_reason(cls, value: str) -> str:
        if value not in REASON_NUMBERS:
            raise ValueError(f"must be one of {', '.join(REASONS)}")
        return value

    @field_validator("min_tempo_bpm", "max_tempo_bpm", "min_rating", "page_size", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value

    @property
    def by_sound(self) -> bool:
        """Whether clips are searched for by sound."""
        return bool(self.sounds.strip() or self.like)

    def search(self) -> pb.SearchClipsRequest:
        """The search by sound as the contract has it."""
        if self.sounds.strip():
            return pb.SearchClipsRequest(filter=self.filter(), text=self.sounds.strip())
        return pb.SearchClipsRequest(filter=self.filter(), clip_id=self.like)

    def request(self) -> pb.ListClipsRequest:
        """The list as the contract has it. InvalidRequest for a search by sound, which only the page and /api/clips
        understand: a change of all that match must not take it for a list."""
        checks = Checks()
        for name in ("sounds", "like"):
            checks.that(not getattr(self, name), name, "must be empty here: a search by sound has no end")
        checks.done()
        return self.plain_request()

    def plain_request(self) -> pb.ListClipsRequest:
        """The list that there would be without a search by sound."""
        return pb.ListClipsRequest(
            filter=self.filter(), page_token=self.page, order=ORDERS[self.order], reverse=bool(self.reverse),
            count_limit=0, for_reviewer=self.reviewing if self.order == "next" else "",
        )  # fmt: skip

    def filter(self) -> pb.ClipFilter:
        """The filter as the contract has it."""
        return pb.ClipFilter(
            collection=self.collection,
            verdict=VERDICT_NUMBERS[self.verdict],
            checked=YES_NO[self.checked],
            text=self.text,
            instrument=self.instrument,
            subset=self.subset,
            min_tempo_bpm=self.min_tempo_bpm,
            max_tempo_bpm=self.max_tempo_bpm,
            tonic=self.tonic,
            mode=MODES[self.mode],
            tag=self.tag,
            tag_source=self.tag_source,
            artist=self.artist,
            composer=self.composer,
            fact_source=FACT_SOURCES[self.fact_source],
            disagreement=DISAGREEMENTS[self.disagreement],
            near_duplicates=YES_NO[self.near_duplicates],
            related_to=self.related_to,
            reviewer=self.reviewer,
            assigned_to=self.assigned_to,
            conflict=YES_NO[self.conflict],
            reason=REASON_NUMBERS[self.reason],
            min_rating=self.min_rating,
        )

    def is_narrow(self) -> bool:
        """Whether something of the filter is set that the page hides below `More`."""
        return any(getattr(self, name) for name in HIDDEN)

    def url(self, **changes: str) -> str:
        """Address of the list with some parameters changed; a change of the filter starts at the first page."""
        values = {**self.model_dump(exclude={"page"}), **changes}
        return "/?" + urlencode({name: value for name, value in values.items() if value not in ("", None)})


HIDDEN = (
    "tonic", "mode", "tag", "tag_source", "artist", "composer", "fact_source", "disagreement", "near_duplicates",
    "related_to", "reviewer", "assigned_to", "conflict", "reason", "min_rating", "min_tempo_bpm", "max_tempo_bpm",
)  # fmt: skip
Listed = Annotated[PageQuery, Query()]


@dataclass(frozen=True)
class Tab:
    """A verdict to look at, how many clips have it, and where to find them."""

    name: str
    label: str
    count: Count
    url: str


def tabs(query: PageQuery, counts: dict[str, Count]) -> list[Tab]:
    """All, open, accepted, rejected. All is the sum of the others."""
    labels = {"": "All", "open": "To do", "accepted": "Accepted", "rejected": "Rejected"}
    every = Count(sum(count.clips for count in counts.values()), any(count.more for count in counts.values()))
    totals = {"": every, **counts}
    return [Tab(name, label, totals[name], query.url(verdict=name)) for name, label in labels.items()]


def routes(curation: Curation, way: str) -> APIRouter:
    """The HTML routes; `way` is how people get their names, see `identity`."""
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse)
    def clips(query: Listed) -> HTMLResponse:
        collections = curation.collections()
        if not query.collection and len(collections) == 1:
            query = query.model_copy(update={"collection": collections[0]})
        size = query.page_size or PAGE_SIZES[0]
        heard = search_by_sound(curation, query.search(), size) if query.by_sound else None
        if heard and heard.missing:  # words say something of what was meant
            query = query.model_copy(update={"text": query.text or query.sounds.strip()})
        request = query.plain_request()
        if heard and not heard.missing:
            page, shown = Page([], Count(0), ""), [clip_view(one.clip, one.similarity) for one in heard.found]
        else:
            page = curation.page(request, size)
            shown = [clip_view(row) for row in page.clips]
        counts = curation.verdict_counts(request.filter, COUNTED)
        found = tabs(query, counts)
        return render(
            "page.html",
            query=query,
            clips=shown,
            heard=heard,
            total=next(tab.count for tab in found if tab.name == query.verdict),
            tabs=found,
            done=not heard and any(count.clips for count in counts.values()) and counts[OPEN] == Count(0),
            way=way,
            page_sizes=PAGE_SIZES,
            reasons=REASONS,
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
        shown = details_view(curation.store, row)
        return fragment("details.html", clip=clip_view(row), details=shown, can_cut=curation.cutter.known)

    @router.get("/datasets", response_class=HTMLResponse)
    def datasets() -> str:
        found = [
            {"export": export, "at": moment(export.entry.exported_at.ToMilliseconds())}
            for export in newest_versions(curation.store)
        ]
        return fragment("datasets.html", datasets=found)

    return router

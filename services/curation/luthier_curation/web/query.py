"""The page's filter between its address bar and the domain."""

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, field_validator

from luthier_curation.listing import ClipFilter


class PageQuery(BaseModel):
    """Query parameters of the list; unknown ones are refused, empty ones mean any."""

    model_config = ConfigDict(extra="forbid")

    collection: str = ""
    verdict: Literal["", "open", "accepted", "rejected"] = ""
    checked: Literal["", "yes", "no"] = ""
    text: Annotated[str, Field(max_length=200)] = ""
    instrument: Annotated[str, Field(max_length=64)] = ""
    min_tempo_bpm: Annotated[float, Field(ge=0, le=1000)] | None = None
    max_tempo_bpm: Annotated[float, Field(ge=0, le=1000)] | None = None
    page: Annotated[str, Field(max_length=4096)] = ""

    @field_validator("min_tempo_bpm", "max_tempo_bpm", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value

    def filter(self) -> ClipFilter:
        """The same as the domain has it."""
        return ClipFilter(
            collection=self.collection,
            verdict=self.verdict,
            checked={"yes": True, "no": False}.get(self.checked),
            text=self.text,
            instrument=self.instrument,
            min_tempo_bpm=self.min_tempo_bpm,
            max_tempo_bpm=self.max_tempo_bpm,
        )

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

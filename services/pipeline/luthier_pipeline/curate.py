"""review: what people do on the curation page, for scripts; and the clips that are there."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal

import typer

from luthier.curation.v1.curation_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_OPEN,
    ClipFilter,
    CuratedClip,
    ListClipsRequest,
    ReviewClipsRequest,
)
from luthier_pipeline.clients import Clients
from luthier_pipeline.options import USER, Json, Reviewer, begin

PAGE_SIZE: Final = 500  # the most that ListClips gives and ReviewClips takes


def review(
    ctx: typer.Context,
    accept: Annotated[Literal["checked"], typer.Option(help="The rule.")],
    collection: Annotated[str, typer.Option(metavar="NAME", help="Default: every collection.")] = "",
    reviewer: Reviewer = USER,
    json: Json = False,
) -> None:
    """Accept every open clip whose prompts passed the check; recorded as automatic."""
    assert accept == "checked"  # there is no other rule yet
    context = begin(ctx, json)
    curation, wanted = context.clients.curation, ClipFilter(verdict=VERDICT_OPEN, checked=True)
    changed, unchanged, batches = 0, 0, dict[str, str]()
    for name in [collection] if collection else collections(context.clients, wanted):
        request = ReviewClipsRequest(
            filter=wanted,
            verdict=VERDICT_ACCEPTED,
            reviewer=reviewer,
            automatic=True,
            remark="accepted because every prompt passed the check",
        )
        request.filter.collection = name
        answer = curation.ReviewClips(request)
        changed, unchanged, batches[name] = changed + answer.changed, unchanged + answer.unchanged, answer.batch_id
    newest = next(reversed(batches.values()), "")
    context.answer(
        {"changed": changed, "unchanged": unchanged, "batch_id": newest, "batches": batches},
        f"{changed} clips accepted as {reviewer} (automatic)",
    )


def clips(clients: Clients, wanted: ClipFilter | None = None) -> Iterator[CuratedClip]:
    """Every clip that matches, of every collection unless the filter names one."""
    request = ListClipsRequest(filter=wanted, page_size=PAGE_SIZE, count_limit=0)
    while True:
        page = clients.curation.ListClips(request)
        yield from page.clips
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def collections(clients: Clients, wanted: ClipFilter) -> list[str]:
    """Names of the collections that have such clips, sorted."""
    return sorted({clip.collection for clip in clips(clients, wanted)})

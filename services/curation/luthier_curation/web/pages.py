"""What a person navigates to: the list, and the parts of it that are loaded later."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from luthier_curation import exports
from luthier_curation.checking import TONICS
from luthier_curation.curation import Curation
from luthier_curation.web.query import Listed, tabs
from luthier_curation.web.templating import fragment, render
from luthier_curation.web.views import change_view, clip_view, moment
from luthier_music.instruments import DRUMS, FAMILIES, PROGRAM_NAMES

PAGE_SIZE = 20


def routes(curation: Curation) -> APIRouter:
    """The HTML routes."""
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse)
    def clips(query: Listed) -> HTMLResponse:
        collections = curation.collections()
        if not query.collection and len(collections) == 1:
            query = query.model_copy(update={"collection": collections[0]})
        which = query.filter()
        page = curation.page(which, PAGE_SIZE, query.page)
        return render(
            "page.html",
            query=query,
            which=which,
            clips=[clip_view(row) for row in page.clips],
            total=page.total,
            tabs=tabs(query, curation.verdict_counts(which)),
            collections=collections,
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

    @router.get("/datasets", response_class=HTMLResponse)
    def datasets() -> str:
        found = [
            {"export": export, "by": entry["exported_by"], "at": moment(entry["exported_at_ms"])}
            for export, entry in exports.newest(curation.store)
        ]
        return fragment("datasets.html", datasets=found)

    return router

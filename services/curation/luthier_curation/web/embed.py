"""What the page's button does that has clips embedded."""

from typing import Any

from fastapi import APIRouter, Request

from luthier_curation.curation import Curation
from luthier_curation.web.api import Body, to_json
from luthier_curation.web.identity import Identities
from luthier_curation.web.pages import PageQuery


class EmbedBody(Body):
    """Clips that get vectors, by which they are found by their sound."""

    filter: PageQuery


def routes(curation: Curation, identities: Identities) -> APIRouter:
    """The route. It answers as soon as the work is begun."""
    router = APIRouter(prefix="/api")

    @router.post("/embed")
    def embed(request: Request, body: EmbedBody) -> dict[str, Any]:
        name = identities.person(request, body.reviewer).must_be_curator().name
        return to_json(curation.embed(body.filter.request().filter, name))

    return router

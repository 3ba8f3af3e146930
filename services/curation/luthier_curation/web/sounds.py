"""A search by sound as the page shows it, also where it is not possible: then it says why, and what to bring."""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.curation import Curation
from luthier_curation.similar import Similar
from luthier_curation.tables import ClipRow
from luthier_kit.rpc import InvalidRequest, LuthierError


@dataclass(frozen=True)
class SoundSearch:
    """What was found, the most similar first, or why nothing could be searched for (`missing`, else empty); the clip
    that others are like, where it is one; `to_embed` counts clips of the collection that no search by sound finds."""

    found: Sequence[Similar]
    missing: str
    like: ClipRow | None
    to_embed: int


def search_by_sound(curation: Curation, request: pb.SearchClipsRequest, size: int) -> SoundSearch:
    """The search, or what is in its way. InvalidRequest; NotFound where there is no such clip."""
    like = curation.clip(request.clip_id) if request.clip_id else None
    try:
        found, missing = curation.search(request, size).clips, ""
    except InvalidRequest:
        raise
    except LuthierError as error:
        found, missing = [], str(error)
    return SoundSearch(found, missing, like, _to_embed(curation, request.filter.collection))


def _to_embed(curation: Curation, collection: str) -> int:
    if not collection:
        return 0
    try:
        return curation.count_without_vector(pb.ClipFilter(collection=collection))
    except LuthierError:  # the search itself has said why
        return 0

"""review: what it takes where nothing is named."""

from luthier.curation.v1.curation_pb2 import CuratedClip, ListClipsResponse, ReviewClipsResponse
from tests.pipeline.fakes import FakeClients, Stub, luthier


def pages(*names: str) -> list[ListClipsResponse]:
    """One clip of each collection, a clip a page."""
    return [
        ListClipsResponse(clips=[CuratedClip(collection=name)], next_page_token="" if name == names[-1] else name)
        for name in names
    ]


def test_review_takes_every_collection_where_none_is_named() -> None:
    answers = [ReviewClipsResponse(changed=n, unchanged=1, batch_id=f"b{n}") for n in (2, 3)]
    curation = Stub(ListClips=pages("jazz", "rock"), ReviewClips=answers)
    document = luthier("review --accept checked --as ann --json", FakeClients(curation=curation)).document
    reviewed = curation.requests("ReviewClips")
    assert [request.filter.collection for request in reviewed] == ["jazz", "rock"]
    assert all(request.automatic and request.filter.checked and request.reviewer == "ann" for request in reviewed)
    assert document == {"changed": 5, "unchanged": 2, "batch_id": "b3", "batches": {"jazz": "b2", "rock": "b3"}}

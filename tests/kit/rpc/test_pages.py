"""Page tokens: they continue the list that they were made for, and no other."""

import pytest

from luthier.curation.v1 import curation_pb2 as curation
from luthier.training.v1 import training_pb2 as training
from luthier_kit.rpc import InvalidRequest, fit_page, page_position, page_token

ASKED = curation.ListClipsRequest(filter=curation.ClipFilter(collection="jazz"), page_size=50)


def continued(token: str, asked: curation.ListClipsRequest = ASKED) -> curation.ListClipsRequest:
    request = curation.ListClipsRequest()
    request.CopyFrom(asked)
    request.page_token = token
    return request


def refused(request: curation.ListClipsRequest | training.ListTrainingRunsRequest) -> None:
    with pytest.raises(InvalidRequest) as caught:
        page_position(request)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"
    assert [field for field, _ in caught.value.violations] == ["page_token"]


def test_without_a_token_the_list_begins() -> None:
    assert page_position(ASKED) == ""


@pytest.mark.parametrize("position", ["a", "clip-17", "2026-11-28T10:00:00.000001+00:00/ä", "x" * 500])
def test_a_token_continues_behind_its_position(position: str) -> None:
    token = page_token(ASKED, position)
    assert page_position(continued(token)) == position
    assert token.replace("-", "").replace("_", "").isalnum()  # safe in a URL


def test_a_page_may_have_another_size_than_the_one_before() -> None:
    token = page_token(ASKED, "clip-17")
    larger = curation.ListClipsRequest(filter=ASKED.filter, page_size=500, page_token=token)
    assert page_position(larger) == "clip-17"


def test_a_token_of_a_later_page_is_made_from_the_request_of_that_page() -> None:
    second = continued(page_token(ASKED, "clip-17"))
    assert page_position(continued(page_token(second, "clip-34"))) == "clip-34"


@pytest.mark.parametrize("token", ["2", "nonsense", "!!", "ä", "AAAA", "A" * 16, "0" * 4000])
def test_an_unknown_token_is_refused(token: str) -> None:
    refused(continued(token))


def test_a_changed_token_is_refused() -> None:
    token = page_token(ASKED, "clip-17")
    for at in range(len(token)):
        refused(continued(token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]))
    refused(continued(token[:-4]))


def test_a_token_of_another_filter_is_refused() -> None:
    other = curation.ListClipsRequest(filter=curation.ClipFilter(collection="rock"), page_size=50)
    refused(continued(page_token(ASKED, "clip-17"), other))


def test_a_token_of_another_method_is_refused() -> None:
    token = page_token(curation.ListClipsRequest(), "clip-17")
    refused(training.ListTrainingRunsRequest(page_token=token))


def test_a_page_ends_where_its_response_would_be_too_large_and_loses_nothing() -> None:
    request = curation.ListClipsRequest()
    items = [(f"{number}", curation.CuratedClip(remark="x" * (1 << 20))) for number in range(5)]
    page, token = fit_page(request, items, "end")
    assert len(page) == 2  # each is a little above 1 MiB, and three would be above 3
    request.page_token = token
    assert page_position(request) == "1"
    assert fit_page(request, items[2:4], "") == ([item for _, item in items[2:4]], "")


def test_an_item_that_is_too_large_has_a_page_of_its_own() -> None:
    large, small = curation.CuratedClip(remark="x" * (4 << 20)), curation.CuratedClip()
    request = curation.ListClipsRequest()
    page, request.page_token = fit_page(request, [("a", large), ("b", small)], "")
    assert (len(page), page_position(request)) == (1, "a")

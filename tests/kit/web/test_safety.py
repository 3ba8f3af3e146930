"""Which hosts a server answers to, and which changes it takes, of pages and of programs."""

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from luthier_kit.web import Safety


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("only refusals are looked at")


def refuse(request: Request, status: int, reason: str, message: str) -> Response:
    return Response(message, status)


def safety(*, from_pages: bool = False) -> Safety:
    origins = ["https://music.example.org"]
    return Safety(nothing, refuse, origins=origins, max_body_bytes=100, from_pages=from_pages)


def reason(method: str = "GET", *, from_pages: bool = False, **headers: str) -> str:
    """Why a request is refused; "" where it may pass."""
    named = {name.replace("_", "-"): value for name, value in {"host": "127.0.0.1:7307", **headers}.items()}
    found = safety(from_pages=from_pages).refusal(method, "/", Headers(named))
    return found[1] if found else ""


@pytest.mark.parametrize(
    "host",
    ["localhost:7307", "127.0.0.1", "[::1]:7307", "music.example.org", "luthier-inference:7300", "luthier-inference.",
     "luthier-inference.music.svc:7300", "luthier-inference.music.svc.cluster.local", "generate.internal"],
)  # fmt: skip
def test_addresses_given_names_and_names_that_the_internet_has_not_are_known(host: str) -> None:
    assert reason(host=host) == ""


@pytest.mark.parametrize(
    "host", ["", "rebound.example", "svc.example.org", "local.rebound.net:7307", "[::1", ".", "a..b"]
)
def test_other_names_are_not(host: str) -> None:
    assert reason(host=host) == "HOST_NOT_KNOWN"


JSON = {"content_type": "application/json; charset=utf-8", "content_length": "2"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (JSON, ""),
        ({**JSON, "origin": "https://music.example.org"}, ""),
        ({**JSON, "origin": "http://127.0.0.1:7307"}, ""),
        ({**JSON, "origin": "https://evil.example"}, "CROSS_SITE"),
        ({**JSON, "origin": "null"}, "CROSS_SITE"),
        ({**JSON, "content_type": "text/plain"}, "NOT_JSON"),  # what another site's page can send without a preflight
        ({"content_length": "2"}, "NOT_JSON"),
        ({**JSON, "content_length": "101"}, "BODY_TOO_LARGE"),
        ({**JSON, "content_length": ""}, "BODY_TOO_LARGE"),
    ],
)
def test_programs_change_things_with_json(headers: dict[str, str], expected: str) -> None:
    assert reason("POST", from_pages=False, **headers) == expected


def test_where_only_pages_change_things_their_header_is_asked_for() -> None:
    assert reason("POST", from_pages=True, **JSON) == "CROSS_SITE"
    assert reason("POST", from_pages=True, x_luthier_page="1", content_length="2") == ""


FILE = {"content_type": "audio/flac", "content_length": "1000"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (FILE, ""),
        ({**FILE, "content_type": "application/octet-stream"}, ""),
        ({**FILE, "content_type": "text/plain"}, "NOT_A_FILE"),  # what another site's page can send without a preflight
        ({**FILE, "content_type": "multipart/form-data; boundary=x"}, "NOT_A_FILE"),
        ({**FILE, "origin": "https://evil.example"}, "CROSS_SITE"),
        ({**FILE, "content_length": "1001"}, "BODY_TOO_LARGE"),
        ({**FILE, "content_length": ""}, "BODY_TOO_LARGE"),
    ],
)
def test_files_are_taken_where_they_are_wanted_alone(headers: dict[str, str], expected: str) -> None:
    taking = Safety(nothing, refuse, max_body_bytes=100, from_pages=False, uploads={"/files": 1000})
    named = Headers({name.replace("_", "-"): value for name, value in {"host": "localhost", **headers}.items()})

    found, elsewhere = (taking.refusal("POST", path, named) for path in ("/files", "/"))

    assert (found[1] if found else "") == expected
    assert elsewhere is not None

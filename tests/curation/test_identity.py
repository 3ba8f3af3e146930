"""Who judges: a proxy's header, a token, a claim; what reviewers may not; verdicts as CSV; over real HTTP."""

import csv
import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from luthier_curation.curation import Curation
from luthier_curation.database import Repository, open_engine
from luthier_curation.settings import CurationSettings
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED
from luthier_curation.verdicts import Decision
from luthier_curation.web.identity import Identities
from luthier_curation.web.server import create_app
from luthier_kit.rpc import SettingsError
from luthier_kit.store import Store
from luthier_kit.web import WebServer

from .builders import clip

HEADER = {"x-luthier-page": "1"}
Opened = Callable[..., tuple[httpx.Client, Curation]]


@pytest.fixture
def opened(tmp_path: Path, store: Store, blank: Path) -> Iterator[Opened]:
    """Opens a page with these settings: a client of it, and its curation."""
    ends: list[Callable[[], Any]] = []

    def open_page(**settings: Any) -> tuple[httpx.Client, Curation]:
        engine = open_engine(f"sqlite:///{shutil.copy(blank, tmp_path / 'page.sqlite3')}")
        curation = Curation(Repository(engine), store)
        server = WebServer(create_app(curation, CurationSettings(scratch=tmp_path, **settings)), "127.0.0.1:0")
        server.start()
        client = httpx.Client(base_url=f"http://{server.address}", timeout=20, headers=HEADER)
        ends.extend((engine.dispose, server.stop, curation.batches.stop, client.close))
        return client, curation

    yield open_page
    for end in reversed(ends):
        end()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["reason"]


def verdict(client: httpx.Client, name: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    body = {"verdict": "accepted", "reviewer": "claimed", "expected_revision": 0, **more}
    return client.post(f"/api/clips/{name}/verdict", json=body, headers=headers)


def test_the_name_of_a_proxys_header_goes_before_the_pages_claim(opened: Opened, store: Store) -> None:
    client, curation = opened(web_user_header="X-Forwarded-User")
    [name] = curation.upsert("demo", [clip(store)])[0]
    assert refusal(verdict(client, name)) == (401, "NO_NAME")
    verdict(client, name, headers={"X-Forwarded-User": "ada@example.org"}).raise_for_status()
    assert curation.clip(name).reviewer == "ada@example.org"
    assert 'data-way="proxy"' in client.get("/").text


def test_two_headers_are_nobody(opened: Opened, store: Store) -> None:
    client, curation = opened(web_user_header="X-Forwarded-User")
    [name] = curation.upsert("demo", [clip(store)])[0]
    body = {"verdict": "accepted", "expected_revision": 0}
    twice = [("X-Forwarded-User", "ada"), ("X-Forwarded-User", "bob"), ("x-luthier-page", "1")]
    answer = client.post(f"/api/clips/{name}/verdict", json=body, headers=twice)
    assert refusal(answer) == (401, "NO_NAME")


def test_without_the_setting_a_header_counts_for_nothing(opened: Opened, store: Store) -> None:
    client, curation = opened()
    [name] = curation.upsert("demo", [clip(store)])[0]
    verdict(client, name, headers={"X-Forwarded-User": "mallory"}).raise_for_status()
    assert curation.clip(name).reviewer == "claimed"


def test_a_token_names_who_shows_it(opened: Opened, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "callers"
    folder.mkdir()
    (folder / "ada").write_text(f"sha256:{hashlib.sha256(b'secret').hexdigest()}\n")
    client, curation = opened(callers=str(folder), web_tokens=True)
    [name] = curation.upsert("demo", [clip(store)])[0]
    assert refusal(verdict(client, name)) == (401, "NO_CREDENTIALS")
    assert refusal(verdict(client, name, headers={"authorization": "Bearer other"})) == (401, "BAD_CREDENTIALS")
    good = {"authorization": "Bearer secret"}
    assert client.get("/api/me", headers=good).json() == {"name": "ada", "curator": True}
    verdict(client, name, headers=good).raise_for_status()
    assert curation.clip(name).reviewer == "ada"


def test_the_page_asks_for_the_token_once_and_shows_its_name(
    opened: Opened, store: Store, tmp_path: Path, browser: Browser
) -> None:
    folder = tmp_path / "callers"
    folder.mkdir()
    (folder / "ada").write_text(f"sha256:{hashlib.sha256(b'secret').hexdigest()}\n")
    client, curation = opened(callers=str(folder), web_tokens=True)
    ids = curation.upsert("demo", [clip(store, song=song) for song in range(2)])[0]
    context = browser.new_context(base_url=str(client.base_url))
    page = context.new_page()
    page.goto("/")
    expect(page.locator("html[data-ready]")).to_have_count(1)
    page.keyboard.press("a")
    page.locator("#token-input").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator(".toast-fault")).to_contain_text("nobody's")
    page.keyboard.press("a")
    page.locator("#token-input").fill("secret")
    page.keyboard.press("Enter")
    expect(page.locator(f"#{ids[0]}")).to_have_attribute("data-verdict", "accepted")
    expect(page.locator("#reviewer")).to_have_text("ada")
    page.keyboard.press("a")
    expect(page.locator(f"#{ids[1]}")).to_have_attribute("data-verdict", "accepted")
    assert [curation.clip(name).reviewer for name in ids] == ["ada", "ada"]
    assert "secret" not in page.url
    context.close()


def test_settings_that_cannot_name_anybody_are_refused() -> None:
    with pytest.raises(SettingsError, match="LUTHIER_CALLERS"):
        Identities(CurationSettings(web_tokens=True))


def test_a_reviewer_judges_and_does_nothing_that_curators_do(opened: Opened, store: Store) -> None:
    client, curation = opened(web_user_header="X-User", web_curators=("cy",))
    [name] = curation.upsert("demo", [clip(store)])[0]
    ada, cy = {"X-User": "ada"}, {"X-User": "cy"}
    everything = {"collection": "demo"}
    for path, body in (
        ("/api/review", {"verdict": "accepted", "filter": everything}),
        ("/api/review", {"verdict": "accepted", "clips": {name: 0}, "settle": True}),
        ("/api/assign", {"filter": everything, "reviewers": ["ada"]}),
        ("/api/collections/demo", {"opinions_per_clip": 2}),
        ("/api/export", {"collection": "demo"}),
    ):
        assert refusal(client.post(path, json=body, headers=ada)) == (403, "CURATOR_ONLY")
    assert curation.clip(name).verdict == OPEN
    verdict(client, name, headers=ada, rating=4).raise_for_status()
    assert (curation.clip(name).verdict, curation.clip(name).rating) == (ACCEPTED, 4)
    settled = {"verdict": "rejected", "clips": {name: 0}, "settle": True, "reason": "dull"}
    client.post("/api/review", json=settled, headers=cy).raise_for_status()
    assert (curation.clip(name).verdict, curation.clip(name).reason) == (REJECTED, "dull")


def test_clips_are_listed_and_counted_by_any_filter(opened: Opened, store: Store) -> None:
    client, curation = opened()
    curation.upsert("demo", [clip(store, song=song, title=f"T{song}", genre="ska") for song in range(3)])
    query: dict[str, Any] = {"collection": "demo", "tag": "ska", "order": "newest", "page_size": 2}
    answer = client.get("/api/clips", params=query).json()
    assert (len(answer["clips"]), answer["total"], answer["more_than_total"]) == (2, 3, False)
    more = client.get("/api/clips", params={**query, "page": answer["next_page"]}).json()
    assert (len(more["clips"]), more["next_page"]) == (1, "")
    assert client.get("/api/count", params=query).json() == {"clips": 3}
    assert client.get("/api/clips", params={"order": "loudest"}).status_code == 400


@pytest.mark.parametrize("told", [{"reason": "because"}, {"rating": 2**40}, {"rating": -1}, {"settle": "yes"}])
@pytest.mark.parametrize("background", [True, False])
def test_a_verdict_about_all_that_cannot_be_meant_is_refused_at_once(
    opened: Opened, told: dict[str, Any], background: bool
) -> None:
    client, _ = opened()
    body = {"verdict": "rejected", "reviewer": "Ada", "filter": {"collection": "demo"}, "background": background}
    assert refusal(client.post("/api/review", json={**body, **told})) == (400, "INVALID_REQUEST")


def test_selected_clips_are_judged_all_or_none(opened: Opened, store: Store) -> None:
    client, curation = opened()
    ids = curation.upsert("demo", [clip(store, song=song) for song in range(3)])[0]
    body = {"verdict": "rejected", "reviewer": "Ada", "reason": "voice", "clips": dict.fromkeys(ids[:2], 1)}
    assert client.post("/api/review", json=body).json()["changed"] == 2
    assert refusal(client.post("/api/review", json=body)) == (409, "REVISION_MISMATCH")
    assert [curation.clip(name).verdict for name in ids] == [REJECTED, REJECTED, OPEN]


def test_verdicts_as_csv_have_a_line_for_each_opinion_and_no_formula(opened: Opened, store: Store) -> None:
    client, curation = opened()
    ids = curation.upsert("demo", [clip(store, song=song, title="=1+1") for song in range(3)])[0]
    curation.update_collection("demo", 2)
    curation.review({ids[0]: 0}, Decision(ACCEPTED, "Ada", rating=5, remark='a "good" one,\nreally'))
    curation.review({ids[0]: 0}, Decision(REJECTED, "Bob", reason="voice"))
    curation.review({ids[1]: 0}, Decision(ACCEPTED, "rule", automatic=True))
    answer = client.get("/api/verdicts.csv", params={"collection": "demo"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    told = {(row["clip_id"], row["reviewer"], row["verdict"], row["reason"], row["rating"], row["remark"],
             row["clip_verdict"], row["conflict"]) for row in lines}  # fmt: skip
    assert told == {
        (ids[0], "Ada", "accepted", "", "5", 'a "good" one,\nreally', "open", "true"),
        (ids[0], "Bob", "rejected", "voice", "", "", "open", "true"),
        (ids[1], "rule", "accepted", "", "", "", "accepted", "false"),
    }
    assert {row["title"] for row in lines} == {"'=1+1"}

"""Search by sound on the page, in headless Chromium: by words, by a clip, what to embed, what to bring."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from luthier_curation import embedding
from luthier_curation.curation import Curation
from luthier_curation.embedding import Embedder
from luthier_curation.tables import REJECTED
from luthier_curation.verdicts import Decision
from luthier_kit.store import Store

from .builders import clip
from .evaluations import Evaluation, asking


@pytest.fixture
def evaluation(store: Store, tmp_path: Path) -> Evaluation:
    """The evaluation service that the page's server asks."""
    return Evaluation(store, tmp_path)  # type: ignore[abstract]


@pytest.fixture
def embedder(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Embedder]:
    """Asks that service, each time anew which weights count."""
    monkeypatch.setattr(embedding, "FRESH_S", 0.0)
    with asking(evaluation) as found:
        yield found


@pytest.fixture
def ids(paged: Curation, tones: list[Path]) -> list[str]:
    """Six clips, a tone each: Song 0 to Song 5."""
    return paged.upsert("demo", [clip(paged.store, tones[song], song=song) for song in range(6)]).ids


@pytest.fixture
def page(browser: Browser, page_url: str, ids: list[str]) -> Iterator[Page]:
    """A window of Ada's. A script error or a blocked resource fails the test."""
    context, faults = browser.new_context(base_url=page_url, viewport={"width": 1280, "height": 900}), []
    context.set_default_timeout(15_000)
    context.add_init_script("localStorage.setItem('luthier-reviewer', 'Ada')")
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
    yield page
    context.close()
    assert faults == []


def show(page: Page, path: str) -> None:
    page.goto(path)
    expect(page.locator("html[data-ready]")).to_have_count(1)


def embed(page: Page) -> None:
    show(page, "/?collection=demo&sounds=tone+0")
    page.get_by_role("button", name="Embed 6").click()
    expect(page.locator(".toast")).to_contain_text("Embedded 6 clips.")


def shown(page: Page) -> list[str]:
    return [str(card.get_attribute("id")) for card in page.locator(".clip").all()]


def test_a_sound_in_words_is_searched_for_after_clips_were_embedded(page: Page, ids: list[str]) -> None:
    embed(page)
    show(page, "/?collection=demo")
    page.get_by_label("Sounds like").fill("tone 4")
    page.get_by_label("Sounds like").press("Enter")
    expect(page.locator(".heard")).to_contain_text("6 clips that sound most like “tone 4”, the most similar first.")
    assert shown(page)[0] == ids[4]
    expect(page.locator(f"#{ids[4]}")).to_contain_text("similarity 1.00")
    expect(page.get_by_role("button", name="Accept all")).to_have_count(0)  # a search has no end
    page.get_by_role("link", name="Back to the list").click()
    expect(page.locator(".heard")).to_have_count(0)
    assert shown(page) == sorted(ids, key=ids.index)


def test_more_like_this_leaves_the_clip_itself_out_and_keeps_to_the_tab(
    page: Page, paged: Curation, ids: list[str], tones: list[Path], tmp_path: Path
) -> None:
    [again] = paged.upsert("demo", [clip(paged.store, tones[2], song="again")]).ids
    show(page, "/?collection=demo&sounds=x")
    page.get_by_role("button", name="Embed 7").click()
    expect(page.locator(".toast")).to_contain_text("Embedded 7 clips.")
    show(page, "/?collection=demo")
    page.locator(f"#{ids[2]}").get_by_role("link", name="More like this").click()
    expect(page.locator(".heard")).to_contain_text("Song 2 – The Band")
    assert (shown(page)[0], len(shown(page)), ids[2] in shown(page)) == (again, 6, False)
    paged.review({again: 0}, Decision(REJECTED, "Bob"))
    page.get_by_role("link", name="Rejected").click()
    expect(page.locator(".heard")).to_be_visible()
    assert shown(page) == [again]


def test_the_key_m_asks_for_more_like_the_current_clip(page: Page, ids: list[str]) -> None:
    embed(page)
    show(page, "/?collection=demo")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("m")
    expect(page.locator(".heard")).to_contain_text("Song 1 – The Band")


def test_without_weights_words_are_searched_for_and_it_is_said_what_to_bring(
    page: Page, evaluation: Evaluation, ids: list[str]
) -> None:
    evaluation.weights_sha256 = ""
    show(page, "/?collection=demo")
    page.get_by_label("Sounds like").fill("song 3")
    page.get_by_label("Sounds like").press("Enter")
    expect(page.locator(".heard")).to_contain_text("luthier metric-weights clap FOLDER")
    expect(page.locator(".heard")).to_contain_text("The clips below have the words.")
    assert shown(page) == [ids[3]]


def test_verdicts_are_given_on_what_was_found(page: Page, paged: Curation, ids: list[str]) -> None:
    embed(page)
    page.keyboard.press("2")
    expect(page.locator(f"#{ids[0]}")).to_have_attribute("data-verdict", "rejected")
    assert paged.clip(ids[0]).verdict == REJECTED


HEADERS = {"x-luthier-page": "1"}


def test_programs_search_by_sound_and_nobody_decides_about_all_of_it(page: Page, page_url: str, ids: list[str]) -> None:
    embed(page)
    found = httpx.get(f"{page_url}/api/clips", params={"collection": "demo", "sounds": "tone 4", "page_size": 2}).json()
    assert found["clips"][0]["clip_id"] == ids[4]
    assert (found["total"], found["clips"][0]["similarity"]) == (2, pytest.approx(1, abs=0.01))
    for which in ({"sounds": "tone 4"}, {"like": ids[4]}):
        body = {"reviewer": "Ada", "verdict": "rejected", "filter": {"collection": "demo", **which}}
        refused = httpx.post(f"{page_url}/api/review", json=body, headers=HEADERS)
        assert (refused.status_code, "search by sound" in refused.text) == (400, True)
        assert httpx.get(f"{page_url}/api/count", params={"collection": "demo", **which}).status_code == 400

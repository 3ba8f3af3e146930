"""Judging in headless Chromium: reasons and ratings, skipped and selected clips, filters, conflicts, names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from luthier_curation.curation import Curation
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED
from luthier_curation.verdicts import Decision

from .builders import clip


@pytest.fixture
def ids(paged: Curation, tones: list[Path]) -> list[str]:
    """Three clips: Song 0, Song 1, Song 2; the estimator hears another tempo in the last."""
    clips = [clip(paged.store, tones[song], song=song) for song in range(3)]
    clips[2].facts.estimated_tempo.tempo_bpm = 97
    return paged.upsert("demo", clips)[0]


@pytest.fixture
def context(browser: Browser, page_url: str) -> Iterator[BrowserContext]:
    """A browser that knows the reviewer Ada."""
    context = browser.new_context(base_url=page_url, viewport={"width": 1280, "height": 860})
    context.set_default_timeout(15_000)
    context.add_init_script("localStorage.setItem('luthier-reviewer', 'Ada')")
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, ids: list[str]) -> Iterator[Page]:
    """The list, ready. A script error or a blocked resource fails the test."""
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
    show(page, "/")
    yield page
    assert faults == []


def show(page: Page, path: str) -> None:
    page.goto(path)
    expect(page.locator("html[data-ready]")).to_have_count(1)


def test_a_reason_a_rating_and_a_note_are_given_by_keyboard(page: Page, paged: Curation, ids: list[str]) -> None:
    page.keyboard.press("v")
    dialog = page.locator("#judge-dialog")
    dialog.get_by_label("Verdict").select_option("rejected")
    dialog.get_by_label("Because").select_option("artefacts")
    dialog.get_by_label("Rating").select_option("2")
    dialog.get_by_label("Note").fill("clicks at the end")
    page.keyboard.press("Enter")
    expect(page.locator(f"#{ids[0]}")).to_contain_text("artefacts, 2 of 5")
    row = paged.clip(ids[0])
    assert (row.verdict, row.reason, row.rating, row.remark) == (REJECTED, "artefacts", 2, "clicks at the end")


def test_what_is_skipped_goes_to_the_end_of_what_is_next(page: Page, ids: list[str]) -> None:
    show(page, "/?collection=demo&verdict=open&order=next")
    first = page.locator(".clip").first
    assert first.get_attribute("id") == ids[2]
    page.keyboard.press("s")
    expect(page.locator(".toast")).to_contain_text("it comes back")
    show(page, "/?collection=demo&verdict=open&order=next")
    assert page.locator(".clip").last.get_attribute("id") == ids[2]
    expect(page.locator(f"#{ids[2]}")).to_contain_text("Skipped by Ada")
    page.evaluate("localStorage.setItem('luthier-reviewer', 'Bob')")  # another person, in the same browser
    page.add_init_script("localStorage.setItem('luthier-reviewer', 'Bob')")
    show(page, "/?collection=demo&verdict=open&order=next")
    assert page.locator(".clip").first.get_attribute("id") == ids[2]


def test_selected_clips_are_judged_together_and_undone(page: Page, paged: Curation, ids: list[str]) -> None:
    page.keyboard.press("x")
    page.locator(f"#{ids[2]}").get_by_label("Select Song 2").check()
    expect(page.locator(".selection")).to_contain_text("2 selected")
    page.locator(".selection").get_by_role("button", name="Reject").click()
    expect(page.locator(".toast")).to_contain_text("Done for 2 clips")
    expect(page.locator(".selection")).to_be_hidden()
    assert [paged.clip(name).verdict for name in ids] == [REJECTED, OPEN, REJECTED]
    page.keyboard.press("Control+z")
    expect(page.locator(f"#{ids[0]}")).to_have_attribute("data-verdict", "open")
    assert [paged.clip(name).verdict for name in ids] == [OPEN] * 3


def test_more_filters_are_there_and_say_what_is_chosen(page: Page, ids: list[str]) -> None:
    page.get_by_text("More filters").click()
    page.get_by_label("Estimators disagree on").select_option("tempo")
    page.get_by_label("Order").select_option("disagreement")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("html[data-ready]")).to_have_count(1)
    expect(page.locator(".clip")).to_have_count(1)
    assert page.locator(".clip").get_attribute("id") == ids[2]
    expect(page.get_by_label("Estimators disagree on")).to_have_value("tempo")
    expect(page.get_by_label("Order")).to_have_value("disagreement")


def test_pages_turn_by_keys(page: Page, paged: Curation) -> None:
    paged.upsert("demo", [clip(paged.store, b"fLaC", song=song, title=f"T{song}") for song in range(100, 120)])
    show(page, "/")
    page.keyboard.press("n")
    expect(page.locator(".clip")).to_have_count(3)
    expect(page.locator("html[data-ready]")).to_have_count(1)
    page.keyboard.press("p")
    expect(page.locator(".clip")).to_have_count(20)


def test_reviewers_who_differ_are_shown_and_a_curator_settles_it(page: Page, paged: Curation, ids: list[str]) -> None:
    paged.update_collection("demo", 2)
    paged.review({ids[0]: 0}, Decision(ACCEPTED, "Bob", rating=4))
    show(page, "/")
    expect(page.locator(f"#{ids[0]}")).to_contain_text("1 opinion given, another is needed")
    page.keyboard.press("2")
    expect(page.locator(f"#{ids[0]} .opinions")).to_have_text("Ada rejected Bob accepted, 4 of 5", use_inner_text=True)
    page.keyboard.press("k")
    page.keyboard.press("v")
    dialog = page.locator("#judge-dialog")
    dialog.get_by_label("Verdict").select_option("accepted")
    dialog.get_by_label("This is final").check()
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator(f"#{ids[0]}")).to_have_attribute("data-verdict", "accepted")
    assert paged.clip(ids[0]).settled

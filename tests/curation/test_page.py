"""The page in headless Chromium: what a person sees, hears and does with mouse and keyboard."""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from luthier.common.v1.common_pb2 import FACT_SOURCE_PERSON, FACT_SOURCE_TEMPO_MAP, VOICE_PRESENCE_NONE, TempoFact
from luthier_curation.curation import Curation
from luthier_curation.reviews import Edit
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED

from .builders import PROMPT, clip

HOSTILE = "<img src=x onerror=\"document.title='taken over'\">"

COLUMNS = """(canvas) => {
  const { width, height } = canvas;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const rows = [...Array(height).keys()];
  return [...Array(width).keys()].map((x) => rows.filter((y) => pixels[4 * (y * width + x) + 3]).length);
}"""
"""Heights in pixels of what is drawn in each column of a canvas."""


@pytest.fixture
def ids(paged: Curation, tones: list[Path]) -> list[str]:
    """Three clips: Song 0, Song 1, Song 2."""
    return paged.upsert("demo", [clip(paged.store, tones[song], song=song) for song in range(3)])[0]


@pytest.fixture
def context(browser: Browser, page_url: str) -> Iterator[BrowserContext]:
    """A browser at 1280 px that knows the reviewer Ada."""
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
    page.goto("/")
    expect(page.locator("html[data-ready]")).to_have_count(1)
    yield page
    assert faults == []


def current(page: Page) -> str:
    return page.locator('.clip[aria-current="true"]').get_attribute("id") or ""


def playing(page: Page) -> bool:
    return not page.evaluate("document.querySelector('#audio').paused")


def test_waveforms_are_drawn_and_one_player_is_there(page: Page) -> None:
    expect(page.locator(".clip .wave[data-drawn]")).to_have_count(3)
    assert page.locator(".player audio").count() == 1
    drawn = page.locator(".clip .wave canvas").first.evaluate(COLUMNS)
    loud, quiet = drawn[: len(drawn) * 3 // 8], drawn[len(drawn) * 5 // 8 :]
    assert max(quiet) == pytest.approx(max(loud) / 2, abs=2), "the second half is half as loud"


def test_space_plays_and_pauses_what_is_heard(page: Page) -> None:
    page.keyboard.press("Space")
    expect(page.locator("#clock")).to_have_text("0:01 / 0:02")
    page.keyboard.press("Space")
    assert not playing(page)
    expect(page.locator("#playing")).to_have_text("Song 0 – The Band")


def test_a_click_into_the_waveform_plays_from_there(page: Page, ids: list[str]) -> None:
    wave = page.locator(f"#{ids[1]} .wave[data-drawn]")
    box = wave.bounding_box()
    assert box
    wave.click(position={"x": box["width"] * 0.75, "y": 20})
    expect(page.locator("#playing")).to_have_text("Song 1 – The Band")
    page.wait_for_timeout(300)
    assert page.evaluate("document.querySelector('#audio').currentTime") >= 1.4


def test_the_keyboard_accepts_rejects_moves_and_undoes(page: Page, paged: Curation, ids: list[str]) -> None:
    page.keyboard.press("1")
    expect(page.locator(f"#{ids[0]}")).to_have_attribute("data-verdict", "accepted")
    assert current(page) == ids[1]
    page.keyboard.press("r")
    expect(page.locator(f"#{ids[1]}")).to_have_attribute("data-verdict", "rejected")
    assert (paged.clip(ids[0]).verdict, paged.clip(ids[1]).verdict) == (ACCEPTED, REJECTED)
    assert paged.clip(ids[0]).reviewer == "Ada"
    page.keyboard.press("Control+z")
    expect(page.locator(f"#{ids[1]}")).to_have_attribute("data-verdict", "open")
    assert current(page) == ids[1]
    page.keyboard.press("Control+z")
    expect(page.locator(f"#{ids[0]}")).to_have_attribute("data-verdict", "open")
    page.keyboard.press("Control+z")
    expect(page.locator(".toast").last).to_have_text("Nothing to undo.")
    assert {paged.clip(name).verdict for name in ids} == {OPEN}


def test_undo_outlives_a_reload(page: Page, paged: Curation, ids: list[str]) -> None:
    page.keyboard.press("a")
    expect(page.locator(f"#{ids[0]}")).to_have_attribute("data-verdict", "accepted")
    page.reload()
    expect(page.locator("html[data-ready]")).to_have_count(1)
    page.keyboard.press("Control+z")
    expect(page.locator(f"#{ids[0]}")).to_have_attribute("data-verdict", "open")


def test_prompt_and_instruments_are_edited_in_place(page: Page, paged: Curation, ids: list[str]) -> None:
    page.keyboard.press("e")
    editor = page.locator(".editor")
    editor.locator("textarea").first.fill("A lone cello, by hand")
    editor.get_by_label("Remove Drums").click()
    editor.get_by_label("Add an instrument").fill("cello")
    editor.get_by_label("Add an instrument").press("Enter")
    editor.get_by_label("Tempo, BPM").fill("61.5")
    editor.get_by_label("Key").select_option("F#")
    page.keyboard.press("Control+Enter")
    expect(editor).to_have_count(0)
    shown = page.locator(f"#{ids[0]}")
    expect(shown).to_contain_text("A lone cello, by hand")
    expect(shown).to_contain_text("61.5 BPM")
    expect(shown).to_contain_text("F# major")
    row = paged.clip(ids[0])
    assert [fact.instrument for fact in row.facts.instruments] == ["Acoustic Grand Piano", "Cello"]
    assert row.edited_fields == ["facts.instruments", "facts.key", "facts.tempo", "prompts"]
    page.keyboard.press("Control+z")
    expect(shown).to_contain_text(PROMPT)
    assert paged.clip(ids[0]).edited_fields == []


def test_a_corrected_genre_is_in_the_prompts_and_own_words_show_what_disagrees(
    page: Page, paged: Curation, ids: list[str]
) -> None:
    shown = page.locator(f"#{ids[0]}")
    page.keyboard.press("e")
    editor = page.locator(".editor")
    editor.get_by_label("Remove rock").click()
    editor.get_by_label("Add a tag").fill("tango")
    editor.get_by_label("Add a tag").press("Enter")
    page.keyboard.press("Control+Enter")
    expect(editor).to_have_count(0)
    expect(shown.locator(".prompt-text").first).to_contain_text("tango", ignore_case=True)
    expect(shown.locator(".check-passed")).to_have_count(1)
    page.keyboard.press("e")
    editor.locator("textarea").first.fill("A waltz in D minor")
    page.keyboard.press("Control+Enter")
    expect(shown.locator(".prompt").first).to_contain_text("the facts say “C major”")
    assert not paged.clip(ids[0]).prompts[0].check.passed
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    expect(shown.locator(".prompt-text").first).to_have_text(PROMPT)


def test_a_person_confirms_that_nobody_sings_in_a_recording(page: Page, paged: Curation, tones: list[Path]) -> None:
    recorded = clip(paged.store, tones[0], song="tape")
    recorded.facts.voice.speech_share = 0.02
    [name] = paged.upsert("demo", [recorded])[0]
    page.reload()
    card = page.locator(f"#{name}")
    expect(card.get_by_title("Voice: speech in 2% of the clip; vocals not checked")).to_have_text("voice unknown")
    card.get_by_role("button", name="Edit").click()
    card.get_by_label("Voice").select_option("nobody sings or speaks")
    card.get_by_role("button", name="Save").click()
    expect(card.locator(".editor")).to_have_count(0)
    expect(card).to_contain_text("no voice")
    voice = paged.clip(name).facts.voice
    assert (voice.presence, voice.source) == (VOICE_PRESENCE_NONE, FACT_SOURCE_PERSON)


def test_the_editor_asks_for_no_voice_where_notes_were_rendered(page: Page, ids: list[str]) -> None:
    page.keyboard.press("e")
    expect(page.locator(".editor").get_by_label("Key")).to_be_visible()
    expect(page.locator(".editor").get_by_label("Voice")).to_be_hidden()


@pytest.mark.parametrize(
    ("tempo", "label", "shown"),
    [
        ({"tempo_bpm": 120, "beat_quarters": 1.5}, "Tempo, BPM by the dotted quarter", "121 BPM by the dotted quarter"),
        ({"tempo_bpm": 180, "notated": True}, "Tempo, quarter notes per minute", "121 quarter notes per minute"),
        ({"tempo_bpm": 118, "changes": True}, "Tempo, BPM (the mean: it changes)", "about 121 BPM, changes"),
    ],
)
def test_the_editor_says_what_a_tempo_counts_and_a_new_number_counts_that(
    page: Page, paged: Curation, ids: list[str], tones: list[Path], tempo: dict[str, Any], label: str, shown: str
) -> None:
    fact = TempoFact(source=FACT_SOURCE_TEMPO_MAP, **tempo)
    paged.upsert("demo", [clip(paged.store, tones[0], song=0, tempo=fact)])
    page.reload()
    expect(page.locator("html[data-ready]")).to_have_count(1)
    page.keyboard.press("e")
    page.locator(".editor").get_by_label(label, exact=True).fill("121")
    page.keyboard.press("Control+Enter")
    expect(page.locator(f"#{ids[0]} .fact").first).to_have_text(shown)


def test_an_instrument_that_nobody_knows_is_refused_at_once(page: Page, paged: Curation, ids: list[str]) -> None:
    page.keyboard.press("e")
    page.get_by_label("Add an instrument").fill("Kazoo")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".editor .fault")).to_contain_text("“Kazoo” is not a General MIDI instrument")
    assert paged.clip(ids[0]).revision == 1


def test_escape_leaves_the_edit_and_nothing_is_saved(page: Page, paged: Curation, ids: list[str]) -> None:
    page.keyboard.press("e")
    page.locator(".editor textarea").first.fill("never mind")
    page.keyboard.press("Escape")
    expect(page.locator(".editor")).to_have_count(0)
    assert paged.clip(ids[0]).revision == 1


def test_a_conflict_shows_both_and_loses_nothing(page: Page, paged: Curation, ids: list[str]) -> None:
    page.keyboard.press("e")
    page.locator(".editor textarea").first.fill("Mine")
    paged.edit(ids[0], 1, "Bob", Edit(prompts=["Bob's words"], remark="kept"))
    page.keyboard.press("Control+Enter")
    conflict = page.locator(".conflict")
    expect(conflict).to_contain_text("Someone changed this clip while you were editing")
    expect(conflict).to_contain_text("Bob's words")
    expect(page.locator(".editor textarea").first).to_have_value("Mine")
    assert paged.clip(ids[0]).prompts[0].text == "Bob's words"
    page.get_by_role("button", name="Save mine over it").click()
    expect(page.locator(f"#{ids[0]} .prompt-text").first).to_have_text("Mine")
    row = paged.clip(ids[0])
    assert (row.prompts[0].text, row.remark) == ("Mine", "kept")


def test_the_others_version_can_be_taken(page: Page, paged: Curation, ids: list[str]) -> None:
    page.keyboard.press("e")
    page.locator(".editor textarea").first.fill("Mine")
    paged.edit(ids[0], 1, "Bob", Edit(prompts=["Bob's words"]))
    page.keyboard.press("Control+Enter")
    page.get_by_role("button", name="Take theirs").click()
    expect(page.locator(f"#{ids[0]} .prompt-text").first).to_have_text("Bob's words")
    assert paged.clip(ids[0]).revision == 2


def test_a_verdict_on_a_clip_that_changed_is_not_given(page: Page, paged: Curation, ids: list[str]) -> None:
    paged.edit(ids[0], 1, "Bob", Edit(prompts=["Bob's words"]))
    page.keyboard.press("a")
    expect(page.locator(".toast-fault")).to_contain_text("Someone changed this clip first")
    expect(page.locator(f"#{ids[0]}")).to_contain_text("Bob's words")
    assert paged.clip(ids[0]).verdict == OPEN


def test_a_filter_finds_and_bulk_decides_about_all_that_match(page: Page, paged: Curation, ids: list[str]) -> None:
    more = [clip(paged.store, b"fLaC", song=song, genre="tango") for song in range(100, 145)]
    tangos, *_ = paged.upsert("demo", more)
    page.get_by_label("Search").fill("tango")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".bulk p .total")).to_have_text("45")
    expect(page.locator(".clip")).to_have_count(20)
    page.get_by_role("button", name="Accept all 45").click()
    page.locator("#confirm-ok").click()
    expect(page.locator(".toast")).to_contain_text("Accepted: 45 clips.")
    assert {paged.clip(name).verdict for name in tangos} == {ACCEPTED}
    assert {paged.clip(name).verdict for name in ids} == {OPEN}
    page.keyboard.press("Control+z")
    expect(page.locator(".toast").last).to_contain_text("Undone for 45 clips.")
    assert {paged.clip(name).verdict for name in tangos} == {OPEN}


def test_pages_go_on_and_back(page: Page, paged: Curation) -> None:
    paged.upsert("demo", [clip(paged.store, b"fLaC", song=song, title=f"T{song}") for song in range(100, 130)])
    page.reload()
    first = page.locator(".clip").first.get_attribute("id")
    page.get_by_role("link", name="Next →").click()
    expect(page.locator(".clip")).to_have_count(13)
    page.get_by_role("link", name="← Previous").click()
    assert page.locator(".clip").first.get_attribute("id") == first


def test_keys_turn_pages_and_judge_over_their_ends(page: Page, paged: Curation) -> None:
    paged.upsert("demo", [clip(paged.store, b"fLaC", song=song, title=f"T{song}") for song in range(100, 130)])
    page.reload()
    expect(page.locator("html[data-ready]")).to_have_count(1)
    first = current(page)
    page.locator(".clip").nth(19).locator("h2").click()
    page.keyboard.press("1")
    expect(page.locator(".toast")).to_contain_text("n turns the page")
    page.keyboard.press("n")
    expect(page.locator(".clip")).to_have_count(13)
    assert current(page) == page.locator(".clip").first.get_attribute("id")
    page.keyboard.press("ArrowUp")
    expect(page.locator(".clip")).to_have_count(20)
    expect(page.locator("html[data-ready]")).to_have_count(1)
    assert current(page) == page.locator(".clip").last.get_attribute("id"), "back over the beginning of the page"
    page.keyboard.press("ArrowDown")
    expect(page.locator(".clip")).to_have_count(13)
    page.keyboard.press("p")
    expect(page.locator(".clip")).to_have_count(20)
    expect(page.locator("html[data-ready]")).to_have_count(1)
    assert current(page) == page.locator(".clip").last.get_attribute("id") != first


def test_the_keys_are_shown_without_asking(page: Page) -> None:
    expect(page.locator(".keys-line")).to_contain_text("1 accept 2 reject")
    page.keyboard.press("?")
    named = page.locator("#help-dialog kbd").all_inner_texts()
    assert {"1", "2", "n", "p", "d", ",", ".", "i", "o", "l", "e", "h"} <= set(named)


def test_the_reviewers_name_is_asked_once(browser: Browser, page_url: str, paged: Curation, ids: list[str]) -> None:
    context = browser.new_context(base_url=page_url)
    page = context.new_page()
    page.goto("/")
    expect(page.locator("html[data-ready]")).to_have_count(1)
    page.keyboard.press("a")
    page.get_by_role("textbox", name="Name").fill("Grace")
    page.keyboard.press("Enter")
    expect(page.locator(f"#{ids[0]}")).to_have_attribute("data-verdict", "accepted")
    page.keyboard.press("a")
    expect(page.locator(f"#{ids[1]}")).to_have_attribute("data-verdict", "accepted")
    assert {paged.clip(name).reviewer for name in ids[:2]} == {"Grace"}
    context.close()


def test_a_data_set_is_exported_and_downloaded(page: Page, paged: Curation, ids: list[str], tmp_path: Path) -> None:
    for name in ids:
        page.keyboard.press("a")
        expect(page.locator(f"#{name}")).to_have_attribute("data-verdict", "accepted")
    page.get_by_role("button", name="Export data set").click()
    page.get_by_role("button", name="Export", exact=True).click()
    result = page.locator(".exported")
    expect(result).to_contain_text("demo no. 1")
    with page.expect_download() as started:
        result.get_by_role("link", name="Download as ZIP").click()
    started.value.save_as(tmp_path / "demo.zip")
    manifest = json.loads(zipfile.ZipFile(tmp_path / "demo.zip").read("manifest.json"))
    assert {row["clip_id"] for row in manifest["rows"]} == set(ids)
    expect(page.locator("#datasets")).to_contain_text("Ada")


def test_an_export_of_nothing_says_so(page: Page) -> None:
    page.get_by_role("button", name="Export data set").click()
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.locator("#export-result")).to_contain_text("has no accepted clip to export")


def test_history_tells_who_changed_what(page: Page, paged: Curation, ids: list[str]) -> None:
    paged.edit(ids[0], 1, "Bob", Edit(prompts=["Bob's words"]))
    page.keyboard.press("h")
    history = page.locator("#history")
    expect(history).to_contain_text("Edited by Bob")
    expect(history.locator("del").first).to_have_text(PROMPT)
    expect(history.locator("ins").first).to_have_text("Bob's words")


def test_help_names_the_keys(page: Page) -> None:
    page.keyboard.press("?")
    expect(page.locator("#help-dialog")).to_contain_text("undo the last edit or verdict")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    assert page.locator(".clip").nth(1).get_attribute("id") == current(page)


def test_hostile_text_stays_text_everywhere(context: BrowserContext, paged: Curation, tones: list[Path]) -> None:
    [name], *_ = paged.upsert("demo", [clip(paged.store, tones[0], title=HOSTILE, artist=HOSTILE, prompts=(HOSTILE,))])
    paged.edit(name, 1, HOSTILE, Edit(remark=HOSTILE))
    page = context.new_page()
    page.goto("/")
    expect(page.locator("html[data-ready]")).to_have_count(1)
    acts: list[Callable[[], None]] = [
        lambda: page.keyboard.press("Space"),
        lambda: page.keyboard.press("a"),
        lambda: page.keyboard.press("h"),
        lambda: page.locator("#history-dialog").get_by_role("button", name="Close").click(),
        lambda: page.keyboard.press("e"),
    ]
    for act in acts:
        act()
        page.wait_for_timeout(250)
        assert page.title() == "Luthier curation"
        assert page.locator("img[src='x']").count() == 0
    expect(page.locator(".editor textarea").first).to_have_value(HOSTILE)

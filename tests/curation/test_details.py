"""A clip from near, in headless Chromium: spectrogram, zoom, beats, a loop, stems, who says what, lineage."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from luthier.common.v1 import common_pb2 as common
from luthier_curation.curation import Curation
from luthier_curation.reviews import Edit

from .builders import clip
from .renderings import rendered_clip


@pytest.fixture
def opened(browser: Browser, page_url: str, paged: Curation, tmp_path: Path) -> Iterator[Callable[[], Page]]:
    """Opens the details of the only clip. A script error or a blocked resource fails the test."""
    context, faults = browser.new_context(base_url=page_url, viewport={"width": 1280, "height": 1200}), []
    context.add_init_script("localStorage.setItem('luthier-reviewer', 'Ada')")
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)

    def opened() -> Page:
        page.goto("/")
        expect(page.locator("html[data-ready]")).to_have_count(1)
        page.keyboard.press("d")
        expect(page.locator(".closeup[data-drawn]")).to_have_count(1)
        return page

    yield opened
    context.close()
    assert faults == []


@pytest.fixture
def page(opened: Callable[[], Page], paged: Curation, tmp_path: Path) -> Page:
    """The details of a clip of two seconds at 120 BPM whose song has two stems."""
    paged.upsert("demo", [rendered_clip(paged.store, tmp_path)])
    return opened()


def time_of(page: Page) -> float:
    return float(page.evaluate("document.querySelector('#audio').currentTime"))


def test_waveform_and_spectrogram_lie_one_above_the_other(page: Page) -> None:
    expect(page.locator(".clip[data-spectrogram='drawn']")).to_have_count(1)
    waveform, spectrogram = page.locator(".closeup .canvases"), page.get_by_alt_text("Spectrogram")
    expect(waveform).to_be_visible()  # its canvases come and go as it is drawn
    expect(spectrogram).to_be_visible()
    above, below = waveform.bounding_box(), spectrogram.bounding_box()
    assert above
    assert below
    assert below["y"] >= above["y"] + above["height"] - 1
    assert below["width"] == pytest.approx(above["width"], abs=2)
    assert spectrogram.evaluate("(image) => image.naturalHeight") == 160


def test_zoom_widens_both_and_the_keyboard_zooms(page: Page) -> None:
    parts = page.locator(".closeup .canvases"), page.get_by_alt_text("Spectrogram")
    page.get_by_label("Zoom").fill("1000")
    for part in parts:
        expect(part).to_have_css("width", "2000px")  # 1000 pixels a second
    page.keyboard.press("Escape")
    page.locator(".clip").focus()
    page.keyboard.press("-")
    for part in parts:
        expect(part).to_have_css("width", "1920px")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_keys_go_from_beat_to_beat_and_from_bar_to_bar(page: Page) -> None:
    for keys, time_s in ((".", 0.5), (".", 1.0), (",", 0.5), ("<", 0.0)):
        page.keyboard.press(keys)
        assert time_of(page) == pytest.approx(time_s, abs=0.01)
    assert page.locator(".closeup [part='beats'] > div").count() == 4
    expect(page.locator(".details")).to_contain_text("Lines are beats by the tempo map")


def test_a_region_that_is_dragged_ends_on_beats_and_is_repeated(page: Page) -> None:
    box = page.locator(".closeup").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.27, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 40, steps=5)
    page.mouse.move(box["x"] + box["width"] * 0.52, box["y"] + 40, steps=5)
    page.mouse.up()
    expect(page.get_by_label("From, s")).to_have_value("0.500")
    expect(page.get_by_label("To, s")).to_have_value("1.000")
    page.keyboard.press("l")
    expect(page.get_by_role("button", name="Loop")).to_have_attribute("aria-pressed", "true")
    page.locator(".clip .play").first.click()
    heard = page.evaluate(
        """async () => {
          const audio = document.querySelector("#audio"), heard = [];
          for (let until = performance.now() + 1800; performance.now() < until;) {
            await new Promise(requestAnimationFrame);
            heard.push(audio.currentTime);
          }
          return heard;
        }"""
    )
    assert max(heard[20:]) < 1.1, "it never goes on behind the region"
    assert sum(later < earlier - 0.2 for earlier, later in itertools.pairwise(heard)) >= 2, "it comes again"


def test_numbers_and_keys_choose_a_region_without_a_mouse(page: Page) -> None:
    page.get_by_label("From, s").fill("0.25")
    page.get_by_label("To, s").fill("1.75")
    page.get_by_label("To, s").press("Tab")
    region = page.locator(".closeup [part^='region ']")
    expect(region).to_have_count(1)
    box, whole = region.bounding_box(), page.locator(".closeup").bounding_box()
    assert box
    assert whole
    assert (box["x"] - whole["x"]) / whole["width"] == pytest.approx(0.25 / 2, abs=0.01)
    assert box["width"] / whole["width"] == pytest.approx(1.5 / 2, abs=0.01)
    page.get_by_role("button", name="Clear").click()
    expect(region).to_have_count(0)
    page.locator(".details").evaluate("(panel) => panel.closest('.clip').focus()")
    page.keyboard.press(".")
    page.keyboard.press("i")
    expect(page.get_by_label("From, s")).to_have_value("0.500")
    expect(page.get_by_label("To, s")).to_have_value("2.000")


LOUDNESS = """async () => {
  const { mixer } = document.querySelector(".details"), heard = [];
  for (let until = performance.now() + 500; performance.now() < until;) {
    await new Promise(requestAnimationFrame);
    heard.push(mixer.loudness());
  }
  return Math.max(...heard);
}"""


def test_a_stem_is_heard_alone_or_left_out(page: Page) -> None:
    volume = 10 ** ((-23 + 18.5) / 20)  # the clip has -18.5 LUFS
    page.get_by_role("button", name="Solo Flute track").click()
    expect(page.locator(".stems output")).to_have_text("1 of 2 play")
    page.locator(".clip .play").first.click()
    alone = page.evaluate(LOUDNESS)
    assert alone == pytest.approx(0.2 / 2**0.5 * volume, rel=0.05), "the tone of one stem"
    assert page.evaluate("document.querySelector('#audio').muted")
    page.get_by_role("button", name="Solo Flute track").click()
    page.get_by_role("button", name="Mute Flute track").click()
    page.get_by_role("button", name="Mute Acoustic Bass track").click()
    expect(page.locator(".stems output")).to_have_text("0 of 2 play")
    assert page.evaluate("document.querySelector('.details').mixer.playing.every(({gain}) => gain.gain.value === 0)")
    page.get_by_role("button", name="Mute Flute track").click()
    page.get_by_role("button", name="Mute Acoustic Bass track").click()
    expect(page.locator(".stems output")).to_have_text("The mix plays")
    assert not page.evaluate("document.querySelector('#audio').muted")


def test_stems_of_a_recording_are_not_offered(opened: Callable[[], Page], paged: Curation, tones: list[Path]) -> None:
    paged.upsert("demo", [clip(paged.store, tones[0])])
    expect(opened().locator(".stems")).to_have_count(0)


def test_loud_clips_are_turned_down_to_one_loudness(page: Page) -> None:
    assert page.evaluate("document.querySelector('#audio').volume") == pytest.approx(10 ** (-4.5 / 20))
    page.get_by_label("Same loudness").uncheck()
    assert page.evaluate("document.querySelector('#audio').volume") == 1
    page.reload()
    expect(page.locator("html[data-ready]")).to_have_count(1)
    page.keyboard.press("Space")
    assert page.evaluate("document.querySelector('#audio').volume") == 1, "the choice is kept"


def test_notes_estimates_and_people_stand_side_by_side(
    opened: Callable[[], Page], paged: Curation, tones: list[Path]
) -> None:
    new = clip(paged.store, tones[0], tempo_bpm=120)
    new.facts.estimated_tempo.CopyFrom(common.TempoFact(tempo_bpm=60.1, source=common.FACT_SOURCE_AUDIO, estimator="e"))
    new.facts.estimated_key.CopyFrom(common.KeyFact(tonic="A", mode=common.MODE_MINOR, source=common.FACT_SOURCE_AUDIO))
    [name], *_ = paged.upsert("demo", [new])
    paged.edit(
        name, 1, "Bob", Edit(key=common.KeyFact(tonic="G", mode=common.MODE_MAJOR, source=common.FACT_SOURCE_PERSON))
    )
    page = opened()
    rows = page.locator(".comparisons tbody tr")
    assert rows.nth(0).locator("th, td").all_inner_texts() == [
        "Tempo", "120 BPM from the tempo map, confirmed by the onsets", "120 BPM", "60.1 BPM",
        "≠ the estimate says half the tempo",
    ]  # fmt: skip
    assert rows.nth(1).locator("th, td").all_inner_texts() == [
        "Key", "G major stated by a person", "C major", "A minor",
        "≠ the notes says C major; the estimate says A minor",
    ]  # fmt: skip
    expect(page.locator(f"#{name} .facts").first).to_contain_text("≠ the estimate says half the tempo")
    expect(rows.nth(2)).not_to_have_class("disagrees")


def test_lineage_is_there_with_the_details(page: Page) -> None:
    lineage = page.get_by_role("region", name="Lineage")
    expect(lineage).to_contain_text("actions/render/")
    expect(lineage).to_contain_text("2.000 – 4.000 s")
    expect(lineage).to_contain_text("MIT")


def test_details_close_again_and_only_one_clip_has_them(page: Page, paged: Curation, tones: list[Path]) -> None:
    paged.upsert("demo", [clip(paged.store, tones[1], title="Another")])
    page.reload()
    page.get_by_role("button", name="Details").first.click()
    expect(page.locator(".details")).to_have_count(1)
    page.get_by_role("button", name="Details").nth(1).click()
    expect(page.locator(".clip").nth(1).locator(".details")).to_have_count(1)
    expect(page.locator(".details")).to_have_count(1)
    page.keyboard.press("d")
    expect(page.locator(".details")).to_have_count(0)

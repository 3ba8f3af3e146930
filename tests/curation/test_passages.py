"""Bad passages: marked by a person, stored with history, in what is exported, forgotten with other audio."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from luthier.common.v1.common_pb2 import Span
from luthier.curation.v1.curation_pb2 import BadPassage, ClipFilter, ListClipsRequest
from luthier_curation import datasets
from luthier_curation.curation import Curation
from luthier_curation.reviews import Edit
from luthier_curation.splits import Fractions
from luthier_curation.tables import ACCEPTED
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import InvalidRequest

from .builders import clip
from .renderings import rendered_clip

CLICK = BadPassage(span=Span(start_s=0.5, end_s=0.75), note="click")


@pytest.fixture
def name(curation: Curation) -> str:
    """A clip of two seconds."""
    return curation.upsert("demo", [clip(curation.store)])[0][0]


def test_a_mark_is_stored_and_undone(curation: Curation, name: str) -> None:
    row, batch = curation.edit(name, 1, "Ada", Edit(bad_passages=[CLICK]))
    assert curation.clip(name).bad_passages == [CLICK]
    assert row.revision == 2
    curation.undo(batch, "Ada")
    assert curation.clip(name).bad_passages == []


def test_a_data_set_says_which_passages_are_bad(curation: Curation, name: str) -> None:
    curation.edit(name, 1, "Ada", Edit(bad_passages=[CLICK]))
    curation.review_all(ClipFilter(collection="demo"), Decision(ACCEPTED, "Ada"))
    done = curation.export("demo", "", Fractions(), "Ada")
    [row] = datasets.manifest_of(curation.store, done.entry).rows
    assert list(row.bad_passages) == [CLICK]


def test_other_audio_forgets_the_marks_and_the_same_keeps_them(curation: Curation, name: str) -> None:
    curation.edit(name, 1, "Ada", Edit(bad_passages=[CLICK]))
    curation.upsert("demo", [clip(curation.store, tempo_bpm=99)])
    assert curation.clip(name).bad_passages == [CLICK]
    curation.upsert("demo", [clip(curation.store, b"fLaC other", tempo_bpm=99)])
    assert curation.clip(name).bad_passages == []


@pytest.mark.parametrize(
    ("passages", "field"),
    [
        ([(0.5, 0.5, "")], "bad_passages[0].span.end_s"),
        ([(-0.1, 0.5, "")], "bad_passages[0].span.start_s"),
        ([(0.5, 2.1, "")], "bad_passages[0].span.end_s"),
        ([(0.5, 1.0, ""), (0.9, 1.2, "")], "bad_passages[1].span.start_s"),
        ([(0.5, 1.0, "x" * 201)], "bad_passages[0].note"),
        ([(0.5, 1.0, "\x00")], "bad_passages[0].note"),
        ([(index / 40, (index + 1) / 40, "") for index in range(33)], "bad_passages"),
    ],
)
def test_bad_marks_are_refused_by_field(
    curation: Curation, name: str, passages: list[tuple[float, float, str]], field: str
) -> None:
    marks = [BadPassage(span=Span(start_s=start, end_s=end), note=note) for start, end, note in passages]
    with pytest.raises(InvalidRequest) as refused:
        curation.edit(name, 1, "Ada", Edit(bad_passages=marks))
    assert refused.value.violations[0][0] == field
    assert curation.clip(name).revision == 1


@pytest.fixture
def page(browser: Browser, page_url: str, paged: Curation, tmp_path: Path) -> Iterator[Page]:
    """The details of a clip of two seconds."""
    paged.upsert("demo", [rendered_clip(paged.store, tmp_path)])
    context, faults = browser.new_context(base_url=page_url, viewport={"width": 1280, "height": 1200}), []
    context.add_init_script("localStorage.setItem('luthier-reviewer', 'Ada')")
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto("/")
    expect(page.locator("html[data-ready]")).to_have_count(1)
    page.keyboard.press("d")
    expect(page.locator(".closeup[data-drawn]")).to_have_count(1)
    yield page
    context.close()
    assert faults == []


def mark(page: Page, start: str, end: str, note: str) -> None:
    page.get_by_label("From, s").fill(start)
    page.get_by_label("To, s").fill(end)
    page.get_by_label("What is wrong there").fill(note)
    page.get_by_role("button", name="Mark as bad").click()
    expect(page.locator(".toast")).to_contain_text("Saved.")
    page.locator(".toast").evaluate("(toast) => toast.remove()")
    expect(page.locator(".closeup[data-drawn]")).to_have_count(1)


def test_a_region_is_marked_as_bad_joined_and_unmarked(page: Page, paged: Curation) -> None:
    mark(page, "0.5", "0.75", "click")
    marks = page.locator(".bad-passages li")
    expect(marks).to_have_text(["bad: 0.50 to 0.75 s, click ×"])
    expect(page.locator(".closeup [part^='region bad-']")).to_have_count(1)
    expect(page.locator(".clip-said")).to_contain_text("1 bad passage")
    mark(page, "0.7", "1.25", "wrong note")
    expect(marks).to_have_text(["bad: 0.50 to 1.25 s, click; wrong note ×"])
    [row] = paged.page(ListClipsRequest(), 5).clips
    assert [(one.span.start_s, one.span.end_s, one.note) for one in row.bad_passages] == [
        (0.5, 1.25, "click; wrong note")
    ]
    page.get_by_role("button", name="Not bad: 0.50 s").click()
    expect(marks).to_have_count(0)
    page.keyboard.press("Control+z")
    expect(page.locator(".clip-said")).to_contain_text("1 bad passage")

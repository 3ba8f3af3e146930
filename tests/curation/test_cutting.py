"""Cutting a clip anew: parts are the very samples of the song, with facts, lineage and prompts of their own."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, Page, expect

from luthier.analysis.v1 import analysis_pb2
from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1.curation_pb2 import ListClipsRequest
from luthier_curation.clips import key_by_person
from luthier_curation.curation import Curation
from luthier_curation.cutting import Cutter
from luthier_curation.reviews import Edit
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED, ClipRow
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import Aborted, FailedPrecondition, InvalidRequest, Service
from luthier_kit.store import Store
from tests.support.services import running

from .analyses import Analysis
from .builders import clip
from .renderings import START_S, rendered_clip

LENGTH_S = 6.0


@pytest.fixture
def analysis(store: Store, tmp_path: Path) -> Analysis:
    """The analysis service that the cutter asks."""
    folder = tmp_path / "analysis"
    folder.mkdir()
    return Analysis(store, folder)  # type: ignore[abstract]


@pytest.fixture
def cutter(analysis: Analysis) -> Iterator[Cutter]:
    """Asks that service over gRPC."""
    contract = analysis_pb2.DESCRIPTOR.services_by_name["AnalysisService"]
    with running(Service(contract=contract, servicer=analysis)) as address:
        found = Cutter(address)
        yield found
        found.close()


@pytest.fixture
def cutting(curation: Curation, cutter: Cutter) -> Curation:
    """Curation that can cut."""
    return Curation(curation.repository, curation.store, cutter)


@pytest.fixture
def name(cutting: Curation, tmp_path: Path) -> str:
    """A clip of seconds 2 to 8 of a song whose rendering is recorded."""
    return cutting.upsert("demo", [rendered_clip(cutting.store, tmp_path, length_s=LENGTH_S)])[0][0]


def parts(*ends: tuple[float, float]) -> list[common.Span]:
    return [common.Span(start_s=start, end_s=end) for start, end in ends]


def samples(curation: Curation, row: ClipRow, folder: Path) -> np.ndarray:
    return soundfile.read(curation.store.blobs.fetch(row.audio, folder), dtype="int16")[0]


def test_a_split_makes_two_clips_of_the_very_samples(cutting: Curation, name: str, tmp_path: Path) -> None:
    whole = samples(cutting, cutting.clip(name), tmp_path)
    done = cutting.cut(name, 1, "Ada", parts((0, 2.5), (2.5, LENGTH_S)))
    first, second = (cutting.clip(each) for each in done.ids)
    joined = np.concatenate([samples(cutting, first, tmp_path), samples(cutting, second, tmp_path)])
    np.testing.assert_array_equal(joined, whole)
    assert [(row.start_ms, row.end_ms) for row in (first, second)] == [(2000, 4500), (4500, 8000)]
    assert (first.verdict, second.verdict) == (OPEN, OPEN)


def test_the_song_is_cut_with_its_tempo_map(cutting: Curation, analysis: Analysis, name: str) -> None:
    cutting.cut(name, 1, "Ada", parts((1, 3)))
    [asked] = analysis.asked
    assert asked.mix.key.startswith("mixes/")
    assert len(asked.timeline.bars) == 4
    assert [(span.start_s, span.end_s) for span in asked.spans] == [(START_S + 1, START_S + 3)]


def test_the_clip_is_rejected_and_says_why(cutting: Curation, name: str) -> None:
    done = cutting.cut(name, 1, "Ada", parts((0, 2)))
    old = cutting.clip(name)
    assert (old.verdict, old.reviewer, old.reason) == (REJECTED, "Ada", "bad_cut")
    assert old.remark == "cut into 0.000 to 2.000 s"
    cutting.undo(done.rejected.batch_id, "Ada")
    assert cutting.clip(name).verdict == OPEN


def verdicts(curation: Curation, names: list[str]) -> list[str]:
    return [curation.clip(each).verdict for each in names]


def test_undoing_a_cut_takes_its_parts_away_and_redoing_brings_them_back(cutting: Curation, name: str) -> None:
    done = cutting.cut(name, 1, "Ada", parts((0, 2.5), (2.5, LENGTH_S)))
    undone, changed = cutting.undo(done.rejected.batch_id, "Bob")
    assert verdicts(cutting, [name, *done.ids]) == [OPEN, REJECTED, REJECTED]
    assert sorted(changed) == sorted([name, *done.ids])
    part = cutting.clip(done.ids[0])
    assert (part.reviewer, part.reason, part.remark) == ("Bob", "bad_cut", "taken away: its cut was undone")
    cutting.undo(undone.batch_id, "Bob")
    assert verdicts(cutting, [name, *done.ids]) == [REJECTED, OPEN, OPEN]
    assert cutting.clip(done.ids[0]).remark == ""


def test_undoing_a_cut_keeps_a_part_that_somebody_judged(cutting: Curation, name: str) -> None:
    done = cutting.cut(name, 1, "Ada", parts((0, 2.5), (2.5, LENGTH_S)))
    cutting.review({done.ids[0]: 0}, Decision(ACCEPTED, "Bob"))
    undone, _ = cutting.undo(done.rejected.batch_id, "Ada")
    assert verdicts(cutting, [name, *done.ids]) == [OPEN, ACCEPTED, REJECTED]
    assert (undone.changed, undone.unchanged) == (2, 1)


def test_the_same_cut_again_brings_its_parts_back(cutting: Curation, name: str) -> None:
    done = cutting.cut(name, 1, "Ada", parts((0, 2)))
    cutting.undo(done.rejected.batch_id, "Ada")
    again = cutting.cut(name, cutting.clip(name).revision, "Ada", parts((0, 2)))
    assert again.ids == done.ids
    assert verdicts(cutting, [name, *again.ids]) == [REJECTED, OPEN]


def test_undoing_a_cut_leaves_a_clip_that_was_there_before_it(cutting: Curation, name: str) -> None:
    first = cutting.cut(name, 1, "Ada", parts((0, 2)))
    cutting.review({first.ids[0]: 0}, Decision(ACCEPTED, "Bob"))
    cutting.undo(first.rejected.batch_id, "Ada")
    again = cutting.cut(name, cutting.clip(name).revision, "Ada", parts((0, 2)))
    cutting.undo(again.rejected.batch_id, "Ada")
    assert verdicts(cutting, [name, *first.ids]) == [OPEN, ACCEPTED]


def test_lineage_leads_to_the_clip_and_to_the_cut(cutting: Curation, name: str) -> None:
    old = cutting.clip(name)
    [new] = cutting.cut(name, 1, "Ada", parts((1, 3)))[0]
    lineage = cutting.clip(new).lineage
    assert [*old.lineage.inputs, old.audio.sha256, "actions/cut/" + "d" * 64 + ".json"] == list(lineage.inputs)
    assert lineage.versions["cut"] == "7"
    assert json.loads(lineage.parameters_json) == {
        "cut_from": {"clip_id": name, "revision": 1, "span_s": [START_S + 1, START_S + 3]}
    }
    assert lineage.licences == old.lineage.licences


def test_parts_have_facts_and_prompts_of_their_own(cutting: Curation, name: str) -> None:
    [new] = cutting.cut(name, 1, "Ada", parts((1, 3)))[0]
    row = cutting.clip(new)
    assert (row.facts.key.tonic, row.facts.tempo.tempo_bpm, row.duration_s) == ("D", 90, 2)
    assert "90" in row.prompts[0].text
    assert "flute" in row.prompts[0].text.lower()
    assert row.checked
    assert row.tags == cutting.clip(name).tags


def test_what_a_person_stated_holds_for_the_parts(cutting: Curation, name: str) -> None:
    stated = key_by_person(common.KeyFact(tonic="G", mode=common.MODE_MAJOR))
    cutting.edit(name, 1, "Bob", Edit(key=stated))
    [new] = cutting.cut(name, 2, "Ada", parts((1, 3)))[0]
    row = cutting.clip(new)
    assert (row.facts.key, row.edited_fields) == (stated, ["facts.key"])
    assert "G major" in row.prompts[0].text


def test_without_a_rendering_the_clips_own_audio_is_cut(
    cutting: Curation, analysis: Analysis, tones: list[Path]
) -> None:
    solo = clip(cutting.store, tones[0], start_s=10)
    solo.facts.solo, solo.source.subset, solo.source.part = True, "monophonic", 3
    del solo.facts.instruments[1:]
    [name], *_ = cutting.upsert("demo", [solo])
    [new] = cutting.cut(name, 1, "Ada", parts((0.5, 1.5)))[0]
    [asked] = analysis.asked
    assert (asked.mix, asked.HasField("timeline"), asked.spans[0].start_s) == (solo.audio, False, 0.5)
    row = cutting.clip(new)
    assert (row.start_ms, row.end_ms, row.part) == (10_500, 11_500, 3)
    assert row.facts.solo
    assert [one.instrument for one in row.facts.instruments] == ["Acoustic Grand Piano"]
    assert not row.facts.HasField("voice"), "it was rendered from notes"


def test_parts_that_are_nearly_silent_are_told(cutting: Curation, analysis: Analysis, name: str) -> None:
    analysis.left_out = 1
    done = cutting.cut(name, 1, "Ada", parts((0, 2), (2, LENGTH_S)))
    assert (len(done.ids), done.notes) == (1, ["left out: nearly silent"])


def test_where_nothing_is_left_the_clip_stays(cutting: Curation, analysis: Analysis, name: str) -> None:
    analysis.left_out = 1
    with pytest.raises(FailedPrecondition) as refused:
        cutting.cut(name, 1, "Ada", parts((0, 2)))
    assert refused.value.reason == "NOTHING_LEFT"
    assert cutting.clip(name).revision == 1


def test_without_an_analysis_service_nothing_is_cut(curation: Curation, tones: list[Path]) -> None:
    [name], *_ = curation.upsert("demo", [clip(curation.store, tones[0])])
    with pytest.raises(FailedPrecondition) as refused:
        curation.cut(name, 1, "Ada", parts((0, 1)))
    assert refused.value.reason == "ANALYSIS_NOT_CONFIGURED"


def test_a_clip_that_changed_meanwhile_is_not_cut(cutting: Curation, analysis: Analysis, name: str) -> None:
    cutting.edit(name, 1, "Bob", Edit(remark="wait"))
    with pytest.raises(Aborted):
        cutting.cut(name, 1, "Ada", parts((0, 2)))
    assert analysis.asked == []


@pytest.mark.parametrize(
    ("ends", "field"),
    [
        ([], "parts"),
        ([(0, 0.5)], "parts[0].end_s"),
        ([(-1, 2)], "parts[0].start_s"),
        ([(0, 7)], "parts[0].end_s"),
        ([(0, 3), (2, 5)], "parts[1].start_s"),
        ([(0, LENGTH_S)], "parts"),
        ([(float("nan"), 3)], "parts[0].start_s"),
        ([(0, 1)] * 9, "parts"),
    ],
)
def test_bad_parts_are_refused_by_field(
    cutting: Curation, analysis: Analysis, name: str, ends: list[tuple[float, float]], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        cutting.cut(name, 1, "Ada", parts(*ends))
    assert refused.value.violations[0][0] == field
    assert analysis.asked == []


@pytest.fixture
def page(browser: Browser, page_url: str, paged: Curation, tmp_path: Path) -> Iterator[Page]:
    """The details of a clip of six seconds."""
    paged.upsert("demo", [rendered_clip(paged.store, tmp_path, length_s=LENGTH_S)])
    context, faults = browser.new_context(base_url=page_url, viewport={"width": 1280, "height": 1200}), []
    context.add_init_script("localStorage.setItem('luthier-reviewer', 'Ada')")
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto("/?collection=demo")
    expect(page.locator("html[data-ready]")).to_have_count(1)
    page.keyboard.press("d")
    expect(page.locator(".closeup[data-drawn]")).to_have_count(1)
    yield page
    context.close()
    assert faults == []


def spans(curation: Curation) -> list[tuple[int, int, str]]:
    """Beginning, end and verdict of every clip."""
    rows = curation.page(ListClipsRequest(), 50).clips
    return sorted((row.start_ms, row.end_ms, row.verdict) for row in rows)


def test_the_page_splits_at_the_beat_that_is_nearest(page: Page, paged: Curation) -> None:
    page.evaluate("document.querySelector('#audio').currentTime = 1.6")
    page.get_by_role("button", name="Split where it plays").click()
    expect(page.locator("#confirm-text")).to_contain_text("0.00 to 1.50 s, 1.50 to 6.00 s")
    page.locator("#confirm-ok").click()
    expect(page.locator(".toast")).to_contain_text("Cut: 2 new clips.")
    assert spans(paged) == [(2000, 3500, OPEN), (2000, 8000, REJECTED), (3500, 8000, OPEN)]


def test_the_page_leaves_a_bad_passage_out(page: Page, paged: Curation) -> None:
    assert page.get_by_role("button", name="Leave the region out").is_disabled()
    page.get_by_label("From, s").fill("2")
    page.get_by_label("To, s").fill("3")
    page.get_by_label("To, s").press("Tab")
    page.get_by_role("button", name="Leave the region out").click()
    page.locator("#confirm-ok").click()
    expect(page.locator(".toast")).to_contain_text("Cut: 2 new clips.")
    assert spans(paged) == [(2000, 4000, OPEN), (2000, 8000, REJECTED), (5000, 8000, OPEN)]


def test_the_page_keeps_a_region_alone_and_refuses_what_is_too_short(page: Page, paged: Curation) -> None:
    for end, text in (("2.5", "A part has at least 1 s"), ("4", "Cut: 1 new clip.")):
        page.get_by_label("From, s").fill("2")
        page.get_by_label("To, s").fill(end)
        page.get_by_label("To, s").press("Tab")
        page.get_by_role("button", name="Keep the region alone").click()
        if "Cut" in text:
            page.locator("#confirm-ok").click()
        expect(page.locator(".toast")).to_contain_text(text)
    assert spans(paged) == [(2000, 8000, REJECTED), (4000, 6000, OPEN)]

"""Every page in every state, as people see and use it: axe finds nothing, nothing overflows, all of it can be touched.

A state is looked at in a desktop's window and a phone's, in light and dark; the picture of each is kept with the test's
files (`--basetemp`).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from luthier.common.v1 import common_pb2 as common
from luthier_curation import embedding
from luthier_curation.curation import Curation
from luthier_curation.embedding import Embedder
from luthier_curation.listening import Listening
from luthier_curation.reviews import Edit
from luthier_curation.splits import Fractions
from luthier_curation.tables import ACCEPTED, REJECTED
from luthier_curation.verdicts import Decision
from luthier_kit.store import Store

from .builders import clip
from .evaluations import Evaluation, asking
from .listening_builders import MOS, MUSHRA, QUALITY, create
from .renderings import rendered_clip

LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft " * 2
WINDOWS = {"desktop": (1280, 900), "phone": (390, 844)}
MIN_TARGET = 44
"""CSS pixels that a finger needs (WCAG 2.5.5)."""
TARGETS = """() => {
  const shown = (one) => one.checkVisibility({ visibilityProperty: true }) && !one.matches(".skip, [type=hidden]");
  const inText = (one) => one.matches("p a, li a, dd a, td a") && !one.matches(".button, .plain");
  return [...document.querySelectorAll("a, button, input, select, textarea, summary")].filter((one) => {
    const label = one.matches("[type=checkbox], [type=radio]") && one.closest("label");
    const { width, height } = (label || one).getBoundingClientRect();
    const upright = one.matches(".slider"); // as wide as there is place beside its neighbours
    return shown(one) && !inText(one) && (height < 43.5 || (width < 43.5 && !upright));
  }).map((one) => one.outerHTML.slice(0, 120));
}"""
OVERFLOWING = """() => [...document.querySelectorAll("body, header, main, dialog[open], .dock, .clip, .card")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1)
  .map((one) => `${one.tagName}.${one.className}: ${one.scrollWidth} > ${one.clientWidth}`)"""


@dataclass(frozen=True)
class Seen:
    """A window onto the page, and how to look at what it shows."""

    page: Page
    folder: Path

    def look(self, state: str, text: str) -> None:
        """What the state says is seen, the page has one heading, nothing overflows, axe finds nothing."""
        page = self.page
        expect(page.get_by_text(text).filter(visible=True).first).to_be_visible()
        picture = page.screenshot(path=self.folder / f"{state}.png", animations="disabled")
        assert len(picture) > 5000, f"{state}: an empty picture"
        found = Axe().run(page).response
        assert len(found["passes"]) > 10, "it has looked"
        violations = [(rule["id"], [node["html"][:160] for node in rule["nodes"]]) for rule in found["violations"]]
        phone = page.viewport_size is not None and page.viewport_size["width"] < 500
        assert {
            "headings": page.locator("h1").filter(visible=True).count(),
            "overflowing": page.evaluate(OVERFLOWING),
            "small": page.evaluate(TARGETS) if phone else [],
            "axe": violations,
        } == {"headings": 1, "overflowing": [], "small": [], "axe": []}, state

    def ready(self, path: str = "/") -> None:
        self.page.goto(path)
        expect(self.page.locator("html[data-ready]")).to_have_count(1)


@pytest.fixture(
    params=[
        "desktop",
        "phone-dark",
        pytest.param("desktop-dark", marks=pytest.mark.slow),
        pytest.param("phone", marks=pytest.mark.slow),
    ]
)
def seen(request: pytest.FixtureRequest, browser: Browser, page_url: str, tmp_path: Path) -> Iterator[Seen]:
    """A window of this kind; its reviewer is Ada."""
    kind, _, dark = request.param.partition("-")
    width, height = WINDOWS[kind]
    context = browser.new_context(
        base_url=page_url,
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        has_touch=kind == "phone",
        bypass_csp=True,  # axe writes a style sheet of its own
        reduced_motion="reduce",
    )
    context.add_init_script("localStorage.setItem('luthier-reviewer', 'Ada')")
    context.set_default_timeout(15_000)
    yield Seen(context.new_page(), tmp_path)
    context.close()


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
    """Clips of which one is accepted, one rejected, one not checked, one full of long words and disagreements."""
    hard = clip(paged.store, tones[3], song=3, title=LONG, artist=LONG, prompts=(LONG, "short"), passed=False)
    hard.facts.estimated_tempo.CopyFrom(common.TempoFact(tempo_bpm=61, source=common.FACT_SOURCE_AUDIO))
    hard.facts.estimated_key.CopyFrom(common.KeyFact(tonic="A", mode=common.MODE_MINOR))
    hard.tags.extend(common.Tag(text=text, kind="other") for text in ("one", "two"))
    plain = [clip(paged.store, tones[song], song=song) for song in range(3)]
    found = paged.upsert("demo", [*plain, hard])[0]
    paged.review({found[0]: 0}, Decision(ACCEPTED, "Ada"))
    paged.review({found[1]: 0}, Decision(REJECTED, "Bob"))
    paged.edit(found[2], 1, "Bob", Edit(prompts=["by hand"], remark=LONG))
    return found


def test_the_list_its_editor_and_its_dialogs(seen: Seen, paged: Curation, ids: list[str]) -> None:
    paged.export("demo", "", Fractions(), "Ada")
    seen.ready()
    page = seen.page
    expect(page.locator(".wave[data-drawn]").first).to_be_visible()
    seen.look("list", "4")
    page.get_by_text("More filters").click()
    page.keyboard.press("Escape")
    page.locator(".pick").first.check()
    seen.look("selected", "1 selected")
    page.locator(".pick").first.uncheck()
    page.locator(".clip").first.focus()
    page.keyboard.press("e")
    page.get_by_label("Add an instrument").fill("Kazoo")
    page.keyboard.press("Control+Enter")
    seen.look("editor", "is not a General MIDI instrument")
    page.get_by_role("button", name="Cancel").click()
    dialogs: dict[str, tuple[Callable[[], None], str]] = {
        "judge": (lambda: page.keyboard.press("v"), "Judge this clip"),
        "help": (lambda: page.keyboard.press("?"), "play or pause"),
        "history": (lambda: page.keyboard.press("h"), "Created by"),
        "export": (lambda: page.get_by_role("button", name="Export data set").first.click(), "Freezes the accepted"),
        "confirm": (lambda: page.get_by_role("button", name="Reject all").click(), "on all pages"),
        "reviewer": (lambda: page.get_by_role("button", name="Reviewer").click(), "Who is listening?"),
    }
    for state, (act, text) in dialogs.items():
        act()
        expect(page.locator("dialog[open]")).to_be_visible()
        seen.look(state, text)
        page.locator("dialog[open]").get_by_role("button", name=re.compile("Close|Cancel")).last.click()


def test_details(seen: Seen, paged: Curation, tmp_path: Path) -> None:
    paged.upsert("demo", [rendered_clip(paged.store, tmp_path)])
    seen.ready()
    seen.page.keyboard.press("d")
    expect(seen.page.locator(".closeup[data-drawn]")).to_have_count(1)
    expect(seen.page.locator(".clip[data-spectrogram='drawn']")).to_have_count(1)
    seen.look("details", "Estimated from the audio")
    seen.page.get_by_label("Zoom").fill("1000")
    seen.page.get_by_role("button", name="Solo Flute track").click()
    seen.look("zoomed", "1 of 2 play")
    seen.page.get_by_label("From, s").fill("0.5")
    seen.page.get_by_label("To, s").fill("0.75")
    seen.page.get_by_label("What is wrong there").fill(LONG)
    seen.page.get_by_role("button", name="Mark as bad").click()
    expect(seen.page.locator(".closeup[data-drawn]")).to_have_count(1)
    seen.look("marked", "bad: 0.50 to 0.75 s")


def test_nothing_there_and_nothing_found(seen: Seen, paged: Curation, tones: list[Path]) -> None:
    seen.ready()
    seen.look("empty", "No clips yet")
    paged.upsert("demo", [clip(paged.store, tones[0])])
    seen.ready("/?text=nobody")
    seen.look("zero", "No clip matches")


def test_a_search_by_sound(seen: Seen, evaluation: Evaluation, paged: Curation, ids: list[str]) -> None:
    seen.ready("/?collection=demo&sounds=tone+2")
    seen.look("not-embedded", "4 of this collection are not embedded yet")
    seen.page.get_by_role("button", name="Embed 4").click()
    seen.look("embedded", "Embedded 4 clips")
    expect(seen.page.locator(".heard")).to_contain_text("sound most like “tone 2”")
    seen.ready(f"/?collection=demo&like={ids[3]}")
    seen.look("like", "clips that sound most like")
    evaluation.weights_sha256 = ""
    seen.ready("/?collection=demo&sounds=nobody")
    seen.look("no-weights", "luthier metric-weights clap FOLDER")


def test_an_error(seen: Seen, page_url: str) -> None:
    seen.page.goto("/nothing")
    seen.look("error", "404")


def test_toasts_of_what_was_done_and_what_went_wrong(seen: Seen, ids: list[str]) -> None:
    seen.ready()
    page = seen.page
    page.keyboard.press("2")
    seen.look("toast", "Rejected: ")
    page.route("**/api/**", lambda route: route.abort())
    page.keyboard.press("1")
    seen.look("toast-fault", "The service does not answer")
    toast, main = page.locator(".toast").bounding_box(), page.locator("main").bounding_box()
    assert toast
    assert main
    assert main["y"] + main["height"] <= toast["y"] + 0.5, "it lies beside what is judged, not above it"


def test_the_last_one_says_that_the_work_is_done(seen: Seen, paged: Curation, tones: list[Path]) -> None:
    paged.upsert("demo", [clip(paged.store, tones[song], song=song) for song in range(2)])
    seen.ready("/?verdict=open")
    page = seen.page
    page.keyboard.press("1")
    expect(page.locator(".bulk p").first).to_have_text("1 clip matches")
    expect(page.locator(".done")).to_be_hidden()
    page.keyboard.press("2")
    seen.look("done", "All of these are judged")
    expect(page.locator(".done")).to_contain_text("1 accepted, 1 rejected")
    expect(page.locator(".bulk p").first).to_have_text("0 clips match")
    seen.ready("/?verdict=open")
    seen.look("done-later", "All of these are judged")


def test_while_it_loads_the_cards_are_where_they_will_be(seen: Seen, ids: list[str]) -> None:
    held: list[Route] = []
    page = seen.page
    page.route("**/peaks.dat*", lambda route: held.append(route))
    seen.ready()
    expect(page.locator(".wave[data-drawn]")).to_have_count(0)
    before = page.locator(".clip").nth(1).bounding_box()
    seen.look("loading", "Song 0")
    for route in held:
        route.continue_()
    expect(page.locator(".wave[data-drawn]").first).to_be_visible()
    assert page.locator(".clip").nth(1).bounding_box() == before


@contextmanager
def at_the_test(seen: Seen, paged: Curation, folder: Path, **of: object) -> Iterator[str]:
    """A listening test, begun."""
    test = Listening(paged.repository, paged.store).create(create(paged.store, folder, trials=1, **of))  # type: ignore[arg-type]
    seen.ready(f"/listening/{test.test_id}")
    seen.look("welcome", "Thank you for listening")
    seen.page.get_by_label("Your name").fill("Ada")
    seen.page.get_by_role("button", name="Continue").click()
    seen.look("instructions", "Your personal link")
    seen.page.locator("#to-volume").click()
    seen.look("volume", "Set the volume")
    seen.page.locator("#to-steps").click()
    expect(seen.page.locator("#screen-step")).not_to_have_class(re.compile("loading"))
    yield test.test_id


@pytest.mark.parametrize("kind", [MOS, MUSHRA])
def test_a_listening_test(seen: Seen, paged: Curation, tmp_path: Path, kind: int) -> None:
    systems = ("secret-model@1",) if kind == MOS else ("secret-model@1", "base@2")
    of = {"kind": kind, "systems": systems, "questions": (QUALITY,), "reference": kind == MUSHRA}
    with at_the_test(seen, paged, tmp_path, **of) as name:
        seen.look("step", "Audio quality")
        page = seen.page
        if kind == MOS:
            page.locator("#play").click()
            expect(page.locator("#missing")).not_to_contain_text("listen", timeout=15_000)
            page.keyboard.press("4")
            expect(page.locator("#next")).to_be_enabled()
            page.locator("#next").click()
            seen.look("thanks", "That was all")
        page.goto(f"/listening/{name}/results")
        seen.look("key", "do not open them")


def test_pages_are_small(browser: Browser, page_url: str, paged: Curation, tones: list[Path]) -> None:
    new = [
        clip(paged.store, tones[song % 8], song=song, prompts=("A long prompt. " * 20, "b", "c")) for song in range(20)
    ]
    paged.upsert("demo", new)
    page = browser.new_page(base_url=page_url, viewport={"width": 1280, "height": 6000})
    page.goto("/")
    expect(page.locator(".wave[data-drawn]")).to_have_count(20)
    sent = page.evaluate(
        "performance.getEntries().filter((one) => one.transferSize)"
        ".map((one) => [one.name, one.transferSize, one.decodedBodySize])"
    )
    assert len(sent) > 20, "the page, its scripts and styles, and a waveform for each clip"
    assert sum(size for _, size, _ in sent) < 150_000
    [script] = [one for one in sent if one[0].endswith("wavesurfer.js")]
    assert script[1] < script[2] / 2, "it came compressed"
    page.close()


def test_tab_goes_from_top_to_bottom(browser: Browser, page_url: str, paged: Curation, tones: list[Path]) -> None:
    paged.upsert("demo", [clip(paged.store, tones[song], song=song) for song in range(2)])
    page = browser.new_page(base_url=page_url, viewport={"width": 1280, "height": 900})
    page.goto("/")
    expect(page.locator("html[data-ready]")).to_have_count(1)
    page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges(); document.body.focus()")
    page.locator(".skip").focus()
    order = []
    for _ in range(40):
        order.append(
            page.evaluate("""() => {
          const one = document.activeElement, all = [...document.querySelectorAll("*")];
          return all.indexOf(one);
        }""")
        )
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
    assert len(order) > 20
    assert order == sorted(order)
    page.close()


def test_the_policy_has_no_exceptions(browser: Browser, page_url: str, paged: Curation, tones: list[Path]) -> None:
    paged.upsert("demo", [clip(paged.store, tones[0])])
    page = browser.new_page(base_url=page_url)
    answer = page.goto("/")
    assert answer
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'; style-src 'self';" in policy
    for path in ("/", "/nothing"):
        html = page.request.get(path).text()
        assert re.findall(r"<style| style=|<script(?! src)| on[a-z]+=", html) == []
    page.close()

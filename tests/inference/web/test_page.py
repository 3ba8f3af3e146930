"""The page in headless Chromium: a person types, waits, listens, and finds again what was made."""

import hashlib
import io
import json
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import soundfile
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference import metrics
from luthier_inference.advice import Cards
from luthier_inference.web.generating import as_dict
from tests.model.small import ModelFiles
from tests.support.services import require_tool

from .conftest import Both, both, wait_until

HOSTILE = '<img src=x onerror="document.title=\'taken over\'"> it\'s "calm" $HOME `piano`'
TOKEN = "alice-token-0123456789"


@contextmanager
def visiting(browser: Browser, url: str, path: str = "/", **options: Any) -> Iterator[Page]:
    """A new person's page, ready. A script error or a blocked resource fails the test."""
    context: BrowserContext = browser.new_context(
        **{"base_url": url, "viewport": {"width": 1280, "height": 860}, **options}
    )
    page, faults = context.new_page(), list[str]()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
    page.goto(path)
    expect(page.locator("html[data-ready]")).to_have_count(1)
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def page(browser: Browser, served_both: Both) -> Iterator[Page]:
    with visiting(browser, served_both.url) as page:
        yield page


def generate(page: Page, prompt: str = "calm piano", seed: str = "1", steps: str = "3") -> None:
    """Asks, and waits for what is made."""
    before = page.locator(".piece").count()
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_label("Seconds").fill("1")
    page.get_by_label("Steps").fill(steps)
    page.get_by_label("Seed").fill(seed)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".piece")).to_have_count(before + 1)


def coloured(page: Page) -> int:
    """Pixels of the first waveform that are drawn."""
    found: int = page.evaluate(
        "(() => { const c = document.querySelector('.piece canvas'), all = [0, 0, c.width, c.height];"
        "return c.getContext('2d').getImageData(...all).data.filter((value, at) => at % 4 === 3 && value).length })()"
    )
    return found


@pytest.mark.usefixtures("slow_steps")
def test_a_prompt_becomes_audio_with_progress_and_a_waveform(page: Page) -> None:
    page.get_by_label("Prompt").fill("calm piano in D minor")
    page.get_by_label("Seconds").fill("2")
    page.get_by_label("Steps").fill("12")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("of 12, about")
    expect(page.get_by_role("progressbar")).to_have_attribute("max", "12")
    piece = page.locator(".piece")
    expect(piece).to_have_count(1)
    expect(piece.locator(".prompt")).to_have_text("calm piano in D minor")
    for fact in ("2.0 s", "tiny@1", "12 steps", "FLAC"):
        expect(piece.locator(".facts")).to_contain_text(fact)
    expect(piece.locator("canvas[data-drawn]")).to_have_count(1)
    assert coloured(page) > 100
    expect(page.locator("#progress")).to_be_hidden()


def test_it_plays_and_a_click_into_the_waveform_plays_from_there(page: Page) -> None:
    generate(page)
    canvas = page.locator(".piece canvas")
    box = canvas.bounding_box()
    assert box
    canvas.click(position={"x": box["width"] * 0.5, "y": 20})
    wait_until(lambda: page.evaluate("document.querySelector('audio').currentTime") >= 0.5)
    wait_until(lambda: page.evaluate("document.querySelector('audio').ended"))


def test_what_was_made_outlives_a_reload_and_can_be_removed(page: Page) -> None:
    generate(page, "first", seed="1")
    generate(page, "second", seed="2")
    page.reload()
    expect(page.locator(".piece .prompt")).to_have_text(["second", "first"])
    assert coloured(page) > 100
    page.locator(".piece").first.get_by_role("button", name="Remove").click()
    expect(page.locator(".piece .prompt")).to_have_text(["first"])
    page.get_by_role("button", name="Remove all").click()
    expect(page.locator(".piece")).to_have_count(0)
    page.reload()
    expect(page.locator("html[data-ready]")).to_have_count(1)
    expect(page.locator(".piece")).to_have_count(0)
    expect(page.get_by_text("What you generate is kept here")).to_be_visible()


def test_it_downloads_the_file_that_the_service_made(page: Page, served_both: Both) -> None:
    generate(page, "calm piano", seed="11")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download").click()
    request = pb.GenerateRequest(prompt="calm piano", seconds_total=1, steps=3, seed=11, inline_audio=True)

    assert started.value.suggested_filename == "calm-piano-11.flac"
    assert Path(started.value.path()).read_bytes() == served_both.stub.Generate(request).inline_audio


def test_the_command_that_is_copied_makes_the_same_in_a_terminal(page: Page, served_both: Both, tmp_path: Path) -> None:
    curl = require_tool("curl")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    generate(page, HOSTILE, seed=str(2**64 - 1))
    page.locator(".piece").get_by_role("button", name="Copy as command").click()
    expect(page.get_by_role("status")).to_have_text("The command is in the clipboard.")
    text = page.evaluate("navigator.clipboard.readText()")

    assert shlex.split(text)[0] == "curl"
    subprocess.run(
        ["bash", "-c", text.replace("curl", shlex.quote(str(curl)), 1)], cwd=tmp_path, check=True, timeout=60
    )
    sound = soundfile.info(tmp_path / "audio.flac")
    assert sound.duration == 1.0
    request = pb.GenerateRequest(prompt=HOSTILE, seconds_total=1, steps=3, seed=2**64 - 1, inline_audio=True)
    assert (tmp_path / "audio.flac").read_bytes() == served_both.stub.Generate(request).inline_audio
    assert page.title() == "Luthier: generate"


def test_a_piece_fills_the_form_again_with_the_seed_that_made_it(page: Page) -> None:
    generate(page, "calm piano", seed="")
    made = page.locator(".facts").inner_text()
    page.get_by_label("Prompt").fill("something else")
    page.locator(".piece").get_by_role("button", name="Use again").click()
    expect(page.get_by_label("Prompt")).to_have_value("calm piano")
    assert f"seed {page.get_by_label('Seed').input_value()}" in made
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".piece")).to_have_count(2)
    assert page.locator(".facts").first.inner_text().split("\n")[:5] == made.split("\n")[:5]


@pytest.mark.usefixtures("slow_steps")
def test_stop_ends_it_here_and_there(page: Page) -> None:
    ended = metrics.CANCELLED._value.get()
    page.get_by_label("Prompt").fill("calm piano")
    page.get_by_label("Steps").fill("1000")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status")).to_contain_text("of 1000")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    wait_until(lambda: metrics.CANCELLED._value.get() == ended + 1)
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()


def test_what_is_wrong_is_said_at_the_field(page: Page) -> None:
    page.get_by_label("Prompt").fill(" ")
    page.get_by_label("Seconds").fill("99")
    page.get_by_role("button", name="Generate").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Prompt: must not be empty")
    expect(alert).to_contain_text("Seconds: must be between 0.1 and 6.144, got 99")
    expect(page.get_by_label("Seconds")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Prompt")).to_be_focused()
    generate(page)
    expect(alert).to_be_hidden()


@pytest.mark.usefixtures("slow_steps")
def test_it_says_when_to_try_again(browser: Browser, model_files: ModelFiles, tmp_path: Path) -> None:
    with both(model_files, tmp_path, slots=1, queue=0) as served:
        stream = served.stub.StreamGenerate(
            pb.StreamGenerateRequest(request=pb.GenerateRequest(prompt="x", steps=1000))
        )
        next(iter(stream))
        with visiting(browser, served.url) as page:
            page.get_by_label("Prompt").fill("calm piano")
            page.get_by_role("button", name="Generate").click()
            expect(page.get_by_role("alert")).to_contain_text("Try again in")
        stream.cancel()  # type: ignore[no-untyped-call]


def test_where_callers_have_names_the_page_asks_for_a_token_and_keeps_it_out_of_sight(
    browser: Browser, model_files: ModelFiles, tmp_path: Path
) -> None:
    callers = tmp_path / "callers"
    callers.mkdir()
    (callers / "alice").write_text(f"sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}")
    with both(model_files, tmp_path, callers=str(callers)) as served, visiting(browser, served.url) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        addresses: list[str] = []
        page.on("request", lambda request: addresses.append(request.url))
        expect(page.get_by_role("alert")).to_contain_text("brings no credentials")
        page.get_by_label("Token of the caller").fill(TOKEN)
        page.get_by_label("Token of the caller").press("Tab")
        expect(page.get_by_role("alert")).to_be_hidden()
        generate(page)
        page.locator("#copy").click()
        text = page.evaluate("navigator.clipboard.readText()")
        stored = page.evaluate("JSON.stringify({...localStorage})")

    assert "$LUTHIER_TOKEN" in text
    assert not [said for said in (text, stored, *addresses) if TOKEN in said]


def test_what_the_model_hardly_heard_is_said(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    advice = [pb.Advice(subject="instrument", asked="violin", heard_s=3, enough_s=300, near=["Cello"])]
    monkeypatch.setattr(Cards, "advice", lambda *_: advice)
    generate(page, "a violin", seed="21")
    expect(page.locator(".notes")).to_have_text("The model hardly heard the instrument violin. It knows Cello.")


def test_music_in_its_own_fields_completes_the_prompt(page: Page) -> None:
    page.get_by_text("Music, in fields of its own").click()
    page.get_by_label("Tempo, BPM").fill("96")
    page.get_by_label("Key").fill("D minor")
    page.get_by_label("Instruments").fill("piano, drums")
    page.get_by_label("Seconds").fill("1")
    page.get_by_label("Steps").fill("2")
    page.get_by_role("button", name="Generate").click()
    prompt = page.locator(".piece .prompt")
    for words in ("96 BPM", "D minor", "piano", "drums"):
        expect(prompt).to_contain_text(words, ignore_case=True)
    page.reload()
    expect(page.locator("html[data-ready]")).to_have_count(1)
    page.get_by_role("button", name="Use again").click()
    expect(page.get_by_label("Tempo, BPM")).to_have_value("96")
    expect(page.get_by_label("Instruments")).to_have_value("piano, drums")
    page.get_by_label("Key").fill("H flat")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("Key: ")
    expect(page.get_by_label("Key")).to_have_attribute("aria-invalid", "true")


def test_what_was_heard_of_the_music_is_said(page: Page) -> None:
    heard = [
        pb.ObeyedField(field="tempo_bpm", asked="90 BPM", heard="120 BPM", obeyed=False),
        pb.ObeyedField(field="key", asked="D minor", heard="D minor", obeyed=True),
        pb.ObeyedField(field="meter", asked="3/4", note="not measured"),
    ]
    page.route("**/v1/audio/generate", lambda route: _with_heard(route, heard))
    generate(page, "calm piano", seed="41")
    expect(page.locator(".notes li")).to_have_text(["Asked for 90 BPM, heard 120 BPM.", "D minor: heard as asked for."])


def _with_heard(route: Route, heard: list[pb.ObeyedField]) -> None:
    """The service's answer, as if analysis had heard this."""
    answer = route.fetch()
    told = json.dumps([as_dict(each) for each in heard])
    route.fulfill(response=answer, body=answer.text().replace('"heard":[]', f'"heard":{told}'))


def violations(page: Page) -> list[str]:
    """Rules of axe-core that the page breaks, WCAG A and AA among them."""
    found = Axe().run(page).response
    assert len(found["passes"]) > 15  # it has looked
    return [rule["id"] for rule in found["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, served_both: Both, scheme: str) -> None:
    with visiting(browser, served_both.url, color_scheme=scheme, bypass_csp=True) as page:
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        assert violations(page) == []
        generate(page)
        page.get_by_label("Prompt").fill(" ")
        page.get_by_role("button", name="Generate").click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert violations(page) == []
        page.goto("/docs")
        assert violations(page) == []


def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser: Browser, served_both: Both) -> None:
    phone = {"width": 360, "height": 740}
    with visiting(browser, served_both.url, viewport=phone, device_scale_factor=2) as page:
        generate(page, "calm" + "o" * 300, seed="31")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for name in ("Download", "Use again", "Copy as command", "Remove"):
            box = page.locator(".piece").get_by_text(name).bounding_box()
            assert box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
        page.goto("/docs")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_is_used_with_the_keyboard_alone(page: Page) -> None:
    page.get_by_label("Prompt").focus()
    page.keyboard.type("calm piano")
    page.get_by_label("Seconds").fill("1")
    page.get_by_label("Steps").fill("2")
    page.get_by_label("Prompt").focus()
    page.keyboard.press("Control+Enter")
    expect(page.locator(".piece")).to_have_count(1)


def test_nothing_is_loaded_from_elsewhere(served_both: Both) -> None:
    package = Path(__file__).parents[3] / "services/inference/luthier_inference/web/static"
    for file in package.glob("*"):
        assert "//" not in file.read_text().replace("http://www.w3.org/2000/svg", "").replace("// ", ""), file.name
    for path in ("/", "/static/app.js", "/docs", "/nothing"):
        policy = served_both.http.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")


def test_scripts_and_styles_are_sent_compressed_and_audio_is_not(served_both: Both) -> None:
    assert served_both.http.get("/static/app.js").headers["content-encoding"] == "gzip"
    answer = served_both.http.post(
        "/v1/audio/generate", json={"input": "x", "audio_length": 1, "num_inference_steps": 1}
    )
    assert "content-encoding" not in answer.headers
    assert json.dumps(soundfile.info(io.BytesIO(answer.content)).duration) == "1.0"

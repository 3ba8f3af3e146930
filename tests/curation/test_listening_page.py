"""A listening test in headless Chromium: two listeners to the end, one of them on another browser from the middle."""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from luthier_curation.curation import Curation
from luthier_curation.listening import Listening
from luthier_curation.tables import ListeningTestRow

from .listening_builders import MOS, QUALITY, STEREO, create

SECRETS = ("secret", "base@2", "ours", "reference/", "generated/", "anchor")
"""what would tell a listener which sound is which, in an address, in the page or in what it is sent."""


@pytest.fixture
def listening(paged: Curation) -> Listening:
    """Listening tests over the page's database."""
    return Listening(paged.repository, paged.store)


class Listener:
    """A person with a browser. The addresses that their page gets are kept in `got`; a script error fails the test."""

    def __init__(self, browser: Browser, page_url: str) -> None:
        self.context: BrowserContext = browser.new_context(base_url=page_url, viewport={"width": 1280, "height": 900})
        self.context.set_default_timeout(15_000)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.got: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda line: self.faults.append(line.text) if "Content Security" in line.text else None)
        self.page.on("request", lambda sent: self.got.append(sent.url) if sent.method == "GET" else None)

    def open(self, address: str) -> None:
        self.page.goto(address)
        expect(self.page.locator("html[data-ready]")).to_have_count(1)

    def join(self, path: str, name: str) -> None:
        """To the instructions."""
        self.open(path)
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_role("button", name="Continue").click()
        expect(self.page.locator("#link")).to_be_visible()

    def begin(self) -> None:
        """Through instructions and volume to the first page of the test."""
        self.page.locator("#to-volume").click()
        self.page.locator("#volume-play").click()
        expect(self.page.locator(".volume")).to_have_class(re.compile("playing"))
        self.page.locator("#to-steps").click()
        expect(self.page.locator("#screen-step")).to_be_visible()
        expect(self.page.locator("#screen-step")).not_to_have_class(re.compile("loading"))

    def wait_saved(self) -> None:
        expect(self.page.locator("#saved")).to_have_text("saved")

    def goes_on(self) -> None:
        """Next, and the next page is there."""
        before = self.page.locator("#progress-text").inner_text()
        expect(self.page.locator("#next")).to_be_enabled()
        self.page.locator("#next").click()
        expect(self.page.locator("#progress-text")).not_to_have_text(before)
        expect(self.page.locator("#screen-step")).not_to_have_class(re.compile("loading"))

    def rate_mushra(self, values: dict[str, int]) -> None:
        """Play each, reference first, and move its slider."""
        if self.page.locator(".pick-reference").count():
            self.page.keyboard.press("r")
            expect(self.page.locator(".pick-reference")).to_have_class(re.compile("was-heard"))
        for label, value in values.items():
            self.page.keyboard.press(label.lower())
            pick = self.page.locator(".pick", has_text=re.compile(f"^{label}$"))
            expect(pick).to_have_class(re.compile("was-heard"))
            self.page.get_by_label(f"Rating of {label}").fill(str(value))

    def close(self) -> None:
        self.context.close()
        assert self.faults == []


@pytest.fixture
def listeners(browser: Browser, page_url: str) -> Iterator[list[Listener]]:
    """Three browsers."""
    found = [Listener(browser, page_url) for _ in range(3)]
    yield found
    for one in found:
        one.close()


def conditions(listening: Listening, row: ListeningTestRow, page: Page) -> dict[str, str]:
    """Which condition is behind which label, as only the service knows."""
    token = page.locator("#link").input_value().partition("#")[2]
    place = listening.place(row.test_id, token)
    assert place.step
    stimuli = row.plan.trials[place.step.trial].stimuli
    return {label: stimuli[c].condition for c, label in zip(place.step.conditions, place.step.labels, strict=True)}


@contextmanager
def opened(page_url: str, row: ListeningTestRow) -> Iterator[httpx.Client]:
    """A client that has the key of the results."""
    with httpx.Client(base_url=page_url, timeout=20) as http:
        path, header = f"/listening/{row.test_id}/results/key", {"x-luthier-page": "1"}
        http.post(path, json={"key": row.results_key}, headers=header).raise_for_status()
        yield http


def ratings(page_url: str, row: ListeningTestRow) -> list[dict[str, str]]:
    """The rows of ratings.csv."""
    with opened(page_url, row) as http:
        return list(csv.DictReader(io.StringIO(http.get(f"/listening/{row.test_id}/ratings.csv").text)))


def test_two_listeners_come_to_the_end_one_on_another_browser(
    listeners: list[Listener], listening: Listening, page_url: str, paged: Curation, tmp_path: Path
) -> None:
    row = listening.create(create(paged.store, tmp_path, trials=2, questions=(QUALITY,)))
    path = f"/listening/{row.test_id}"
    said = {"secret-model@1": 71, "base@2": 43, "reference": 100, "anchor": 12}
    ada, bob, elsewhere = listeners

    ada.join(path, "Ada")
    ada.begin()
    for _ in range(2):
        ada.rate_mushra({label: said[c] for label, c in conditions(listening, row, ada.page).items()})
        ada.goes_on()
    expect(ada.page.locator("#screen-done")).to_be_visible()

    bob.join(path, "Bob")
    bob.begin()
    bob.rate_mushra({label: said[c] - 10 for label, c in conditions(listening, row, bob.page).items()})
    bob.goes_on()
    half = conditions(listening, row, bob.page)
    first = next(iter(half))
    bob.rate_mushra({first: 33})
    bob.wait_saved()
    link = bob.page.locator("#link").input_value()
    bob.context.clear_cookies()
    bob.page.close()  # in the middle of the second page

    elsewhere.open(link)
    assert "#" not in elsewhere.page.url
    expect(elsewhere.page.locator("#welcome-back")).to_contain_text("You go on at page 2 of 2")
    elsewhere.begin()
    assert conditions(listening, row, elsewhere.page) == half
    expect(elsewhere.page.get_by_label(f"Rating of {first}")).to_have_value("33")
    elsewhere.rate_mushra({label: said[c] - 10 for label, c in half.items()})
    elsewhere.goes_on()
    expect(elsewhere.page.locator("#screen-done")).to_be_visible()

    found = ratings(page_url, row)
    assert len(found) == 2 * 2 * 4, "listeners, trials, conditions"
    assert {(line["listener"], line["condition"], int(line["value"])) for line in found} == {
        (name, condition, value - less) for name, less in (("Ada", 0), ("Bob", 10)) for condition, value in said.items()
    }
    with opened(page_url, row) as http:
        scores = list(csv.DictReader(io.StringIO(http.get(f"{path}/results.csv?excluded=1").text)))
    means = {line["condition"]: float(line["mean"]) for line in scores if not line["compared_with"]}
    assert means["base@2"] == 38


def test_mos_asks_each_question_of_each_sound_and_works_by_keys_alone(
    listeners: list[Listener], listening: Listening, page_url: str, paged: Curation, tmp_path: Path
) -> None:
    request = create(paged.store, tmp_path, kind=MOS, trials=1, questions=(QUALITY, STEREO), reference=False)
    row = listening.create(request)
    ada = listeners[0]
    ada.join(f"/listening/{row.test_id}", "Ada")
    ada.begin()
    for number in range(2):
        ada.page.keyboard.press("Space")
        expect(ada.page.locator("#missing")).to_have_text("Still to do: answer every question")
        before = ada.page.locator("#progress-text").inner_text()
        ada.page.keyboard.press(str(4 + number))
        ada.page.keyboard.press("2")
        expect(ada.page.locator("#next")).to_be_enabled()
        ada.page.keyboard.press("n")
        expect(ada.page.locator("#progress-text")).not_to_have_text(before)
    expect(ada.page.locator("#screen-done")).to_be_visible()
    found = ratings(page_url, row)
    assert sorted((line["question"], int(line["value"])) for line in found) == [
        ("audio_quality", 4), ("audio_quality", 5), ("stereo", 2), ("stereo", 2),
    ]  # fmt: skip


def test_nothing_that_a_listener_gets_names_a_system(
    listeners: list[Listener], listening: Listening, page_url: str, paged: Curation, tmp_path: Path
) -> None:
    row = listening.create(create(paged.store, tmp_path, trials=1))
    digests = [stimulus.audio.sha256 for stimulus in row.plan.trials[0].stimuli]
    digests += [stimulus.audio.sha256 for stimulus in row.plan.request.trials[0].stimuli]
    ada = listeners[0]
    ada.join(f"/listening/{row.test_id}", "Ada")
    ada.begin()
    with httpx.Client(base_url=page_url, timeout=20) as http:
        for cookie in ada.context.cookies():
            http.cookies.set(str(cookie["name"]), str(cookie["value"]))
        answers = [http.get(url) for url in dict.fromkeys(ada.got)]
    assert sum("/audio/" in str(answer.url) for answer in answers) == 5
    for answer in answers:
        answer.raise_for_status()
        sent = f"{answer.url} {answer.headers} {answer.content.decode(errors='replace')}"
        if "/static/" not in str(answer.url):  # which is the same for every test
            assert [secret for secret in (*SECRETS, *digests) if secret in sent] == [], answer.url
    tags = {answer.headers["etag"] for answer in answers if "/audio/" in str(answer.url)}
    assert len(tags) == 5, "the hidden reference has another one than the open one"


def test_next_waits_until_all_is_heard_and_rated(
    listeners: list[Listener], listening: Listening, paged: Curation, tmp_path: Path
) -> None:
    row = listening.create(create(paged.store, tmp_path, trials=1, questions=(QUALITY,)))
    ada = listeners[0]
    ada.join(f"/listening/{row.test_id}", "Ada")
    ada.begin()
    missing = ada.page.locator("#missing")
    expect(missing).to_have_text("Still to do: listen to the reference, A, B, C, D; rate A, B, C, D")
    for label in "ABCD":
        ada.page.get_by_label(f"Rating of {label}").fill("50")
    expect(missing).to_have_text("Still to do: listen to the reference, A, B, C, D")
    expect(ada.page.locator("#next")).to_be_disabled()
    ada.rate_mushra(dict.fromkeys("ABCD", 60))
    ada.goes_on()


def test_results_open_with_their_key_alone(
    listeners: list[Listener], listening: Listening, page_url: str, paged: Curation, tmp_path: Path
) -> None:
    row = listening.create(create(paged.store, tmp_path, trials=1))
    path = f"/listening/{row.test_id}"
    with httpx.Client(base_url=page_url, timeout=20) as http:
        for closed in (f"{path}/results", f"{path}/results.csv", f"{path}/ratings.csv"):
            answer = http.get(closed)
            assert (answer.status_code, "secret-model" in answer.text) == (403, False)
    page = listeners[0].page
    page.goto(f"{path}/results")
    page.get_by_label("Key").fill("wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#key-fault")).to_have_text("This is not the key of the results.")
    page.get_by_label("Key").fill(row.results_key)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", name="ours-vs-base")).to_be_visible()
    assert row.results_key not in page.url


def test_results_are_drawn_with_their_intervals(
    listeners: list[Listener], listening: Listening, paged: Curation, tmp_path: Path
) -> None:
    row = listening.create(create(paged.store, tmp_path, trials=1, questions=(QUALITY,)))
    for name, value in (("Ada", 40), ("Bob", 60)):
        token = listening.join(row.test_id, name)
        for place in range(4):
            listening.rate(row.test_id, token, 0, (place, QUALITY, value))
        listening.finish_step(row.test_id, token, 0)
    page = listeners[0].page
    page.goto(f"/listening/{row.test_id}/results")
    page.get_by_label("Key").fill(row.results_key)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("link", name="Count them, too")).to_be_visible()
    page.get_by_role("link", name="Count them, too").click()
    ours = page.get_by_role("row").filter(has_text="secret-model@1").first
    expect(ours).to_contain_text("50.00")
    dot = ours.locator("circle")
    assert float(dot.get_attribute("cx") or 0) == 200, "the middle of a picture that is 400 wide"
    expect(page.get_by_role("row").filter(has_text="Ada")).to_contain_text("excluded")


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("sessions", {"listener": ""}, 400),
        ("sessions", {"listener": "<script>"}, 400),
        ("sessions", {"listener": "\ud800"}, 400),
        ("sessions", {}, 400),
        ("resume", {"token": "guessed"}, 404),
        ("ratings", {"step": 0, "place": 0, "question": 1, "value": 101}, 400),
        ("ratings", {"step": 0, "place": 0, "question": 1, "value": "5"}, 400),
        ("ratings", {"step": 0, "place": 0, "question": 1, "value": 5}, 404),
        ("next", {"step": -1}, 400),
        ("next", {"step": 0}, 404),
        ("results/key", {"key": "guessed"}, 403),
    ],
)
def test_a_bad_call_is_told_why(
    listening: Listening,
    page_url: str,
    paged: Curation,
    tmp_path: Path,
    path: str,
    body: dict[str, object],
    expected: int,
) -> None:
    row = listening.create(create(paged.store, tmp_path, trials=1))
    headers = {"x-luthier-page": "1", "content-type": "application/json"}
    address = f"{page_url}/listening/{row.test_id}/{path}"
    answer = httpx.post(address, content=json.dumps(body), headers=headers)
    assert answer.status_code == expected, answer.text
    assert answer.json()["message"]
    assert httpx.post(address, content=json.dumps(body)).status_code == 403, "another site's page changes nothing"


@pytest.mark.parametrize("path", ["/listening/none", "/listening/listening-" + "0" * 24, "/listening/%00/state"])
def test_an_unknown_test_is_not_found(page_url: str, path: str) -> None:
    assert httpx.get(page_url + path).status_code == 404

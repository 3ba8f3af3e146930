"""demo-page: what is on the page, what it refuses, and that a browser plays it from a folder."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from google.rpc.status_pb2 import Status
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect, sync_playwright

from luthier.common.v1.common_pb2 import MODE_MAJOR, MODE_MINOR, ArtifactRef, KeyFact
from luthier.evaluation.v1.evaluation_pb2 import (
    EVALUATION_STATE_RUNNING,
    EVALUATION_STATE_SUCCEEDED,
    EvaluatedModel,
    Evaluation,
    EvaluationPlan,
    EvaluationResults,
    GetEvaluationRequest,
    GetEvaluationResponse,
    RowResult,
    Score,
    Suite,
    SuiteRow,
)
from luthier.training.v1.model_card_pb2 import HeardAmount, ModelCard
from luthier_kit.registry import ModelVersion, register
from luthier_kit.store import Store
from luthier_music.loudness import integrated_loudness_lufs
from luthier_pipeline.demo_page.command import chosen_rows
from luthier_pipeline.demo_page.sounds import COLUMNS, LINES, hear, spectra
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier
from tests.support.services import require_tool, temp_store

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
HOSTILE = (
    "</p><script>document.title='taken over'</script><img src=x onerror=\"document.title='taken over'\"> at 100 BPM"
)
FIRST, SECOND = f"evaluation-{'1' * 64}", f"evaluation-{'2' * 64}"
RATE = 44_100


def tone(hz: float, *, seconds: float = 1.5, level: float = 0.5, rate: int = RATE) -> NDArray[np.float32]:
    sound = level * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)
    return np.stack([sound, sound], axis=1).astype(np.float32)


def stored(store: Store, samples: NDArray[np.float32], kind: str = "generated", form: str = "FLAC") -> ArtifactRef:
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, format=form, subtype="PCM_16")
    return store.blobs.put_bytes(kind, out.getvalue(), form.lower(), f"audio/{form.lower()}")


class Evaluations:
    """Evaluations in a store, and the service that knows them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.known: dict[str, Evaluation] = {}

    def add(self, identity: str, results: EvaluationResults) -> None:
        results.evaluation_id = identity
        self.store.objects.create(f"runs/{identity}/1.json", b"{}")
        ref = self.store.put("evaluation-results", results)
        self.known[identity] = Evaluation(evaluation_id=identity, state=EVALUATION_STATE_SUCCEEDED, results=ref)

    def page(self, line: str) -> Done:
        def get(request: GetEvaluationRequest) -> GetEvaluationResponse:
            return GetEvaluationResponse(evaluation=self.known[request.evaluation_id])

        return luthier(f"demo-page {line}", FakeClients(self.store, evaluation=Stub(GetEvaluation=get)))


def results_of(
    store: Store, models: list[EvaluatedModel], pitches: list[float], *, rows: int = 3, reference: bool = True
) -> EvaluationResults:
    """Each model plays tones of its pitch, one semitone higher in each row; row 0 is asked for by hostile text."""
    suite = Suite(name="tones", description="tones in rows")
    for row in range(rows):
        asked = SuiteRow(prompt=HOSTILE if row == 0 else f"Tone {row} in A minor", seconds_total=1.5, seed=row)
        asked.tempo_bpm = 100
        asked.key.CopyFrom(KeyFact(tonic="A", mode=MODE_MINOR))
        if reference and row != 2:
            asked.reference.CopyFrom(stored(store, tone(220 * 2 ** (row / 12)), "audio", "WAV"))
        suite.rows.append(asked)
    results = EvaluationResults(plan=EvaluationPlan(suite=suite, models=models, steps=50, guidance_scale=3))
    results.suite_sha256 = "5" * 64
    for model, hz in zip(models, pitches, strict=True):
        for row in range(rows):
            audio = stored(store, tone(hz * 2 ** (row / 12), level=hz / 2000))
            measured = RowResult(row=row, model=model.model, audio=audio, duration_s=1.5, loudness_lufs=-10)
            measured.tempo.tempo_bpm = 200 if row else 100.4
            measured.key.CopyFrom(KeyFact(tonic="A", mode=MODE_MINOR if row else MODE_MAJOR))
            results.rows.append(measured)
        value = 0.25 if model is models[0] else 0.75
        results.scores.add(
            metric="tempo_accuracy_2", model=model.model, n=rows, value=value, chance=0.2, low=value - 0.1,
            high=value + 0.1,
        )  # fmt: skip
        results.scores.append(Score(metric="fd_openl3", model=model.model, note="not computed"))
    return results


BASE = EvaluatedModel(model="base@1", model_digest=f"sha256:{'b' * 64}")


@pytest.fixture
def evaluations(store: Store) -> Evaluations:
    return two_evaluations(store)


def two_evaluations(store: Store) -> Evaluations:
    """FIRST: base@1 and tuned@1, whose card states a licence. SECOND: the same base beside other@4."""
    card = ModelCard(licences=[HeardAmount(name="CC-BY-4.0", clips=7)], base_licences=["Apache-2.0"])
    weights, configuration = (
        store.blobs.put_bytes("checkpoints", name.encode(), "safetensors") for name in ("weights", "configuration")
    )
    version = ModelVersion("tuned", weights, configuration, card=store.put("model-cards", card))
    tuned = EvaluatedModel(
        model="tuned@1", model_digest=f"sha256:{register(store, version).digest}", dataset_name="mine@2"
    )
    made = Evaluations(store)
    made.add(FIRST, results_of(store, [BASE, tuned], [400, 800]))
    made.add(SECOND, results_of(store, [BASE, EvaluatedModel(model="other@4", model_digest="sha256:c")], [400, 1000]))
    return made


def text_of(folder: Path) -> str:
    return (folder / "index.html").read_text()


def test_each_prompt_has_original_baseline_and_candidates_of_all_evaluations_once(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    done = evaluations.page(f"{FIRST} evaluation-2222 --out {tmp_path}/page --json")
    assert done.document["systems"] == ["original", "base@1", "tuned@1", "other@4"]
    assert done.document["rows"] == [0, 1, 2]
    assert done.document["missing"] == []  # row 2 has no reference
    files = sorted(path.name for path in (tmp_path / "page/audio").iterdir())
    assert files == sorted(
        f"{row:03}-{column}-{name}.flac"
        for row in range(3)
        for column, name in enumerate(["original", "base-1", "tuned-1", "other-4"])
        if (row, column) != (2, 0)
    )


def test_all_that_it_refers_to_is_in_the_folder(evaluations: Evaluations, tmp_path: Path) -> None:
    evaluations.page(f"{FIRST} --out {tmp_path}/page")
    named = set(re.findall(r'(?:src|href)="([^"]*)"', text_of(tmp_path / "page")))
    assert {name for name in named if not (tmp_path / "page" / name).is_file()} == set()
    assert len(named) == 8 * 2  # audio and picture of each
    assert "url(" not in text_of(tmp_path / "page")
    assert "@import" not in text_of(tmp_path / "page")


def test_prompts_are_shown_as_text(evaluations: Evaluations, tmp_path: Path) -> None:
    evaluations.page(f"{FIRST} --out {tmp_path}/page --title <b>T</b> --licence <i>CC0</i>")
    text = text_of(tmp_path / "page")
    assert "&lt;script&gt;document.title=" in text
    assert text.count("<script>") == 1
    assert ("<b>T" in text, "<i>CC0" in text, "&lt;i&gt;CC0&lt;/i&gt;" in text) == (False, False, True)


def test_flac_is_the_stored_file_byte_for_byte(evaluations: Evaluations, tmp_path: Path, store: Store) -> None:
    evaluations.page(f"{FIRST} --out {tmp_path}/page")
    [ref] = [row.audio for row in results(evaluations, FIRST).rows if (row.model, row.row) == ("tuned@1", 1)]
    assert (tmp_path / "page/audio/001-2-tuned-1.flac").read_bytes() == store.blobs.read(ref)


def results(evaluations: Evaluations, identity: str) -> EvaluationResults:
    return evaluations.store.get(EvaluationResults, evaluations.known[identity].results)


def test_matched_sounds_have_the_loudness_that_the_page_says_and_none_clips(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    done = evaluations.page(f"{FIRST} --out {tmp_path}/page --match-loudness")
    stated = re.search(r"at (-[\d.]+) LUFS each", done.out)
    assert stated
    assert f"All sounds are at {stated[1].replace('-', '−')}" in text_of(tmp_path / "page").replace("\xa0", " ")
    for path in (tmp_path / "page/audio").iterdir():
        samples, rate = soundfile.read(path)
        assert integrated_loudness_lufs(samples, rate) == pytest.approx(float(stated[1]), abs=0.06)
        assert np.abs(samples).max() < 1


def test_a_peaky_sound_lowers_the_common_loudness_instead_of_clipping(store: Store, tmp_path: Path) -> None:
    clicks = tone(400)
    clicks[:] *= 0.01
    clicks[::RATE] = 1.0
    made, found = Evaluations(store), results_of(store, [BASE], [400], rows=1, reference=False)
    found.rows[0].audio.CopyFrom(stored(store, clicks))
    made.add(FIRST, found)
    made.page(f"{FIRST} --out {tmp_path}/page --match-loudness")
    [path] = (tmp_path / "page/audio").iterdir()
    assert hear(path).peak == pytest.approx(10 ** (-1 / 20), abs=0.001)  # -1 dBFS


def test_mp3_plays_as_long_and_says_what_it_is(evaluations: Evaluations, tmp_path: Path) -> None:
    evaluations.page(f"{FIRST} --out {tmp_path}/page --format mp3 --rows 1,")
    names = sorted(path.name for path in (tmp_path / "page/audio").iterdir())
    assert names == ["001-0-original.mp3", "001-1-base-1.mp3", "001-2-tuned-1.mp3"]
    with soundfile.SoundFile(tmp_path / "page/audio/001-2-tuned-1.mp3") as file:
        assert file.frames / file.samplerate == pytest.approx(1.5, abs=0.06)
        assert file.comment.startswith("tuned@1, row 1 of suite tones, sha256:")


def test_a_sine_lies_at_its_frequency_in_the_spectrogram_at_every_rate() -> None:
    for rate in (16_000, 44_100):
        found = spectra(tone(1000, rate=rate), rate)
        assert found.shape == (LINES, COLUMNS)
        line = LINES - 1 - int(np.log(1000 / 40) / np.log(16_000 / 40) * LINES)  # the axis goes from 40 Hz to 16 kHz
        assert abs(int(found[:, COLUMNS // 2].argmax()) - line) <= 1
        assert found.max() == pytest.approx(20 * np.log10(0.5), abs=1.5)  # amplitude 0.5; a bin need not hit it


def test_a_longer_sound_costs_no_more_spectra_and_is_shown_to_its_end() -> None:
    long = tone(1000, seconds=90)
    long[-5 * RATE :] = 0
    found = spectra(long, RATE).max(axis=0)
    assert (found[:450] > -20).all()
    assert (found[-20:] < -100).all()


def test_expired_audio_is_named_and_the_rest_is_shown(evaluations: Evaluations, tmp_path: Path, store: Store) -> None:
    [ref] = [row.audio for row in results(evaluations, FIRST).rows if (row.model, row.row) == ("tuned@1", 1)]
    store.objects.delete(ref.key)
    done = evaluations.page(f"{FIRST} --out {tmp_path}/page --rows 0,1")
    assert "not there: row 1, tuned@1: is not stored any more: generated audio expires" in done.out
    assert "is not stored any more" in text_of(tmp_path / "page")
    assert not (tmp_path / "page/audio/001-2-tuned-1.flac").exists()


def test_an_evaluation_whose_audio_is_all_gone_leaves_the_page_of_before(
    evaluations: Evaluations, tmp_path: Path, store: Store
) -> None:
    evaluations.page(f"{FIRST} --out {tmp_path}/page")
    before = text_of(tmp_path / "page")
    for row in results(evaluations, FIRST).rows:
        store.objects.delete(row.audio.key)
    done = evaluations.page(f"{FIRST} --out {tmp_path}/page")
    assert (done.code, "AUDIO_EXPIRED" in done.err) == (1, True)
    assert text_of(tmp_path / "page") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page", "store"]


def test_a_row_that_failed_says_why(store: Store, tmp_path: Path) -> None:
    made, found = Evaluations(store), results_of(store, [BASE], [400], rows=2, reference=False)
    found.rows[1].ClearField("audio")
    found.rows[1].error.CopyFrom(Status(code=3, message="must be between 0.1 and 5.9"))
    made.add(FIRST, found)
    done = made.page(f"{FIRST} --out {tmp_path}/page")
    assert "not there: row 1, base@1: failed: must be between 0.1 and 5.9" in done.out


def test_only_a_folder_of_its_own_is_replaced(evaluations: Evaluations, tmp_path: Path) -> None:
    evaluations.page(f"{FIRST} --out {tmp_path}/page")
    again = evaluations.page(f"{FIRST} --out {tmp_path}/page --rows 1,")
    assert (again.code, len(list((tmp_path / "page/audio").iterdir()))) == (0, 3)
    (tmp_path / "page/thesis.tex").write_text("years of work")
    refused = evaluations.page(f"{FIRST} --out {tmp_path}/page")
    assert (refused.code, "holds what no demo-page wrote (thesis.tex)" in refused.err) == (2, True)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("<!doctype html>")
    assert evaluations.page(f"{FIRST} --out {tmp_path}/site").code == 2
    assert (tmp_path / "site/index.html").read_text() == "<!doctype html>"


def test_evaluations_of_other_rows_cannot_stand_side_by_side(evaluations: Evaluations, tmp_path: Path) -> None:
    other = results(evaluations, SECOND)
    other.suite_sha256 = "6" * 64
    evaluations.add(f"evaluation-{'3' * 64}", other)
    done = evaluations.page(f"{FIRST} evaluation-3333 --out {tmp_path}/page")
    assert (done.code, "all must be of the same rows" in done.err) == (2, True)


def test_an_evaluation_that_runs_has_no_page(evaluations: Evaluations, tmp_path: Path) -> None:
    evaluations.known[FIRST].state = EVALUATION_STATE_RUNNING
    done = evaluations.page(f"{FIRST} --out {tmp_path}/page")
    assert (done.code, "EVALUATION_UNFINISHED" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("rows", "count", "expected"),
    [
        ("12", 24, [0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23]),
        ("12", 3, [0, 1, 2]),
        ("1", 9, [0]),
        ("9,1,5", 10, [9, 1, 5]),
        ("5,", 6, [5]),
    ],
)
def test_rows_are_drawn_evenly_or_taken_as_named(rows: str, count: int, expected: list[int]) -> None:
    assert chosen_rows(rows, count) == expected


@pytest.mark.parametrize("rows", ["0", "1,99", "-1", "a", "201"])
def test_other_rows_are_refused(evaluations: Evaluations, tmp_path: Path, rows: str) -> None:
    found = results(evaluations, FIRST)
    found.plan.suite.rows.extend([found.plan.suite.rows[1]] * 300) if rows == "201" else None
    evaluations.add(f"evaluation-{'4' * 64}", found)
    done = evaluations.page(f"evaluation-4444 --out {tmp_path}/page --rows {rows}")
    assert (done.code, "--rows" in done.err) == (2, True)
    assert not (tmp_path / "page").exists()


def test_scores_licences_and_digests_are_on_it(evaluations: Evaluations, tmp_path: Path) -> None:
    evaluations.page(f"{FIRST} --out {tmp_path}/page --licence 'Originals: CC BY 4.0'")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text_of(tmp_path / "page")))
    for expected in (
        "Tempo accuracy 2 25.0 % 15.0 % to 35.0 %, n = 3, chance 20.0 % 75.0 %",
        "50 steps, guidance 3; trained on mine@2",
        "Licences: CC-BY-4.0 (7 clips); its base: Apache-2.0",
        f"sha256:{'b' * 64} Licences: not recorded",
        "Rights Originals: CC BY 4.0",
        "100.4 BPM ✓ A major ✗",
        "200.0 BPM ½× A minor ✓",
    ):
        assert expected in text
    assert "fd_openl3" not in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    chromium = require_tool("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a page in MP3."""
    work = tmp_path_factory.mktemp("shown")
    with temp_store(work / "store") as store:
        two_evaluations(store).page(f"{FIRST} --out {work}/page --format mp3")
    return work / "page"


@pytest.fixture
def shown(browser: Browser, written: Path) -> Iterator[Page]:
    """The page from file://. A script error, a blocked resource or a request beyond the folder fails the test."""
    page, faults = browser.new_page(viewport={"width": 1280, "height": 860}), []
    page.set_default_timeout(15_000)
    folder = f"file://{written}/"
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: None if request.url.startswith(folder) else faults.append(request.url))
    page.goto(f"{folder}index.html")
    expect(page.locator("html[data-ready]")).to_have_count(1)
    yield page
    page.close()
    assert faults == []


def playing(page: Page, expected: str) -> bool:
    """Waits until a file sounds; whether it is the only one."""
    page.wait_for_function(
        "(name) => ((a) => !a.paused && a.currentTime > 0)(document.querySelector(`audio[src$='${name}']`))",
        arg=expected,
    )
    return page.locator("audio").evaluate_all("all => all.filter((a) => !a.paused).length") == 1


def test_a_browser_plays_from_the_folder_one_sound_at_a_time(shown: Page) -> None:
    shown.get_by_role("button", name="Play row 1, base@1").click()
    assert playing(shown, "/001-1-base-1.mp3")
    shown.get_by_role("button", name="Play row 1, tuned@1").click()
    assert playing(shown, "/001-2-tuned-1.mp3")
    assert shown.title() == "base@1 beside tuned@1"


def test_the_keyboard_goes_from_sound_to_sound_and_plays(shown: Page) -> None:
    shown.keyboard.press("Tab")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Space"):
        shown.keyboard.press(key)
    assert playing(shown, "/001-2-tuned-1.mp3")
    shown.keyboard.press("Escape")
    expect(shown.locator(".playing")).to_have_count(0)


def test_a_click_into_the_picture_plays_from_there(shown: Page) -> None:
    seek = shown.locator("#row-1 td:nth-of-type(2) .seek")
    box = seek.bounding_box()
    assert box
    seek.click(position={"x": box["width"] / 2, "y": 60})
    assert playing(shown, "/001-1-base-1.mp3")
    at = shown.evaluate("document.querySelector('.playing audio').currentTime")
    assert 0.7 <= at < 1.5


def test_on_a_phone_nothing_is_wider_than_the_screen(shown: Page) -> None:
    shown.set_viewport_size({"width": 400, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 400
    expect(shown.locator("#row-1 .name").first).to_be_visible()

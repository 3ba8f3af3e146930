"""A file is sent to be verified: over HTTP, and in headless Chromium by a person who drops it on the page."""

import io
from collections.abc import Iterator

import pytest
import soundfile
from playwright.sync_api import Browser, Page, expect

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.detecting import MAX_UPLOAD_BYTES

from .conftest import Both, error
from .test_page import violations, visiting

VERIFY = "/v1/audio/verify"
BYTES = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def made(served_both: Both) -> pb.GenerateResponse:
    """Four seconds of what the tiny model makes."""
    asked = pb.GenerateRequest(prompt="calm piano", seconds_total=4.0, steps=3, seed=77, inline_audio=True)
    response: pb.GenerateResponse = served_both.stub.Generate(asked)
    return response


@pytest.fixture(scope="module")
def encoded_anew(made: pb.GenerateResponse) -> bytes:
    """Three seconds of it from the first half second on, as Ogg Vorbis: no credentials are left."""
    samples, rate_hz = soundfile.read(io.BytesIO(made.inline_audio), dtype="float32", always_2d=True)
    anew = io.BytesIO()
    with soundfile.SoundFile(anew, "w", rate_hz, samples.shape[1], "VORBIS", format="OGG") as file:
        file.write(samples[rate_hz // 2 : 7 * rate_hz // 2])
    return anew.getvalue()


def test_what_was_made_is_known_by_every_layer(served_both: Both, made: pb.GenerateResponse) -> None:
    found = served_both.http.post(VERIFY, content=made.inline_audio, headers=BYTES).json()

    assert found["credentials"]["finding"] == "CREDENTIALS_FINDING_INTACT"
    assert found["output_key"] == made.audio.key
    assert made.marks.log == pb.OUTPUT_LOG_STATE_KEPT
    assert found["known"][0]["action_key"] == made.action.action_key
    assert found["watermark"]["finding"] == "WATERMARK_FINDING_NOT_LOOKED_FOR"


def test_an_excerpt_without_marks_is_known_by_its_sound(
    served_both: Both, made: pb.GenerateResponse, encoded_anew: bytes
) -> None:
    found = served_both.http.post(VERIFY, content=encoded_anew, headers={"Content-Type": "audio/ogg"}).json()

    assert found["credentials"]["finding"] == "CREDENTIALS_FINDING_NONE"
    assert found["output_key"] == ""
    known, *_ = found["known"]  # the surest first: what a model of random weights makes for others is much like it
    assert known["output_key"] == made.audio.key
    assert known["output_at_s"] - known["at_s"] == pytest.approx(0.5, abs=0.05)


def test_nothing_is_kept_of_what_was_sent(served_both: Both, encoded_anew: bytes) -> None:
    before = set(served_both.store.objects.keys(""))

    served_both.http.post(VERIFY, content=encoded_anew, headers=BYTES)

    assert set(served_both.store.objects.keys("")) == before


@pytest.mark.parametrize(("content", "headers", "status", "reason"), [
    (b"", BYTES, 400, "UPLOAD_EMPTY"),
    (b"RIFF", {"Content-Type": "text/plain"}, 415, "NOT_A_FILE"),  # what another site's form can send
    (b"RIFF", BYTES | {"Origin": "https://elsewhere.example"}, 403, "CROSS_SITE"),
])  # fmt: skip
def test_what_is_no_file_of_a_callers_own_is_refused(
    served_both: Both, content: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    answer = served_both.http.post(VERIFY, content=content, headers=headers)

    assert (answer.status_code, error(answer)["reason"]) == (status, reason)


def test_what_is_no_audio_is_said(served_both: Both) -> None:
    found = served_both.http.post(VERIFY, content=b"no audio at all", headers=BYTES).json()

    assert found["credentials"]["finding"] == "CREDENTIALS_FINDING_NONE"
    assert "its sound was not listened to" in found["notes"][0]


def test_uploads_of_others_cannot_be_named_over_grpc(served_both: Both) -> None:
    with pytest.raises(Exception, match="no such upload"):
        served_both.stub.DetectMarks(pb.DetectMarksRequest(upload="guessed"))


@pytest.fixture
def page(browser: Browser, served_both: Both) -> Iterator[Page]:
    with visiting(browser, served_both.url, path="/verify") as page:
        yield page


def test_a_person_is_told_each_layers_answer(page: Page, made: pb.GenerateResponse) -> None:
    page.get_by_label("Audio file").set_input_files(
        {"name": "song.flac", "mimeType": "audio/flac", "buffer": made.inline_audio}
    )

    expect(page.get_by_role("heading", name="song.flac")).to_be_visible()
    told = page.locator("#answers")
    expect(told).to_contain_text("Intact, signed by Luthier development")
    expect(told).to_contain_text("for a reader with a list of trusted certificates: there is none here.")
    expect(told).to_contain_text("No time stamp says when.")
    expect(told).to_contain_text("They say that a model made it.")
    expect(told).to_contain_text("These very bytes are an output of this installation")
    expect(told).to_contain_text(f"output {made.audio.key} of tiny@1 from 0:00.0 on")
    expect(told).to_contain_text("Not looked for.")


def test_a_file_that_is_dropped_is_looked_into(page: Page, encoded_anew: bytes) -> None:
    page.evaluate(
        "(bytes) => { const data = new DataTransfer(); data.items.add(new File([new Uint8Array(bytes)], 'x.ogg'));"
        " document.querySelector('#drop').dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true})) }",
        list(encoded_anew),
    )

    expect(page.get_by_role("heading", name="x.ogg")).to_be_visible()
    expect(page.locator("#answers")).to_contain_text("None: somebody else made it")
    expect(page.locator("#answers")).to_contain_text("of tiny@1 from 0:00.5 on")


def test_a_file_beyond_the_bound_is_not_sent(page: Page) -> None:
    page.evaluate(
        "(size) => { const data = new DataTransfer(); data.items.add(new File([new Uint8Array(size)], 'x.wav'));"
        " document.querySelector('#drop').dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true})) }",
        MAX_UPLOAD_BYTES + 1,
    )

    expect(page.get_by_role("alert")).to_contain_text(f"at most {MAX_UPLOAD_BYTES} are looked into")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_it(browser: Browser, served_both: Both, made: pb.GenerateResponse, scheme: str) -> None:
    with visiting(browser, served_both.url, path="/verify", color_scheme=scheme, bypass_csp=True) as page:
        assert violations(page) == []
        page.get_by_label("Audio file").set_input_files(
            {"name": "a.flac", "mimeType": "audio/flac", "buffer": made.inline_audio}
        )
        expect(page.get_by_role("heading", name="a.flac")).to_be_visible()
        assert violations(page) == []

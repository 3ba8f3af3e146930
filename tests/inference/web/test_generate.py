"""`POST /v1/audio/generate` over real HTTP: audio, JSON, events, what may be kept, and the same as over gRPC."""

import base64
import io
from typing import Any

import httpx
import pytest
import soundfile

from luthier_inference.audio import FORMATS
from luthier_inference.web.generating import with_urls

from .conftest import GENERATE, RATE_HZ, SECONDS, Both, body, events, grpc_request


@pytest.mark.parametrize(
    ("response_format", "media_type", "container", "rate_hz"),
    [
        ("wav", "audio/wav", "WAV", RATE_HZ),
        ("flac", "audio/flac", "FLAC", RATE_HZ),
        ("mp3", "audio/mpeg", "MP3", RATE_HZ),
        ("opus", "audio/ogg", "OGG", 48_000),
        ("wav-float", "audio/wav", "WAV", RATE_HZ),
    ],
)
def test_audio_comes_in_the_format_asked_for(
    served_both: Both, response_format: str, media_type: str, container: str, rate_hz: int
) -> None:
    answer = served_both.http.post(GENERATE, json=body(seed=1, response_format=response_format))

    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    found = soundfile.info(io.BytesIO(answer.content))
    assert (found.format, found.samplerate, found.channels) == (container, rate_hz, 2)
    assert found.duration == pytest.approx(SECONDS, abs=0.08)  # MP3 has whole frames


def test_without_a_format_it_is_wav_as_in_vllm_omni(served_both: Both) -> None:
    assert served_both.http.post(GENERATE, json=body(seed=1)).content[:4] == b"RIFF"


@pytest.mark.parametrize(("accept", "magic"), [("audio/flac", b"ID3\x04"), ("audio/ogg;q=0.1, audio/wav", b"RIFF")])
def test_accept_chooses_a_format(served_both: Both, accept: str, magic: bytes) -> None:
    answer = served_both.http.post(GENERATE, json=body(seed=1), headers={"accept": accept})

    assert answer.content[:4] == magic


def test_it_is_the_audio_that_grpc_makes_and_is_made_once(served_both: Both) -> None:
    answer = served_both.http.post(GENERATE, json=body(seed=2, response_format="flac"))
    response = served_both.stub.Generate(grpc_request(seed=2, inline_audio=True))

    assert response.action.reused
    assert response.inline_audio == answer.content


def test_headers_say_what_made_it(served_both: Both) -> None:
    answer = served_both.http.post(GENERATE, json=body(seed=2**64 - 1, request_id="mine/ü"))

    headers = answer.headers
    assert headers["x-luthier-model"] == "tiny@1"
    assert headers["x-luthier-seed"] == str(2**64 - 1)
    assert headers["x-luthier-request-id"] == "mine/%C3%BC"
    assert int(headers["content-length"]) == len(answer.content)
    assert served_both.http.get(headers["content-location"]).content == answer.content


@pytest.mark.parametrize(
    ("more", "headers"),
    [
        ({}, {"accept": "application/json"}),
        ({"response_format": "json"}, {}),
        ({}, {"accept": "text/html;q=0.9, application/json"}),
    ],
)
def test_json_is_the_response_of_grpc_and_where_its_audio_is(
    served_both: Both, more: dict[str, Any], headers: dict[str, str]
) -> None:
    answer = served_both.http.post(GENERATE, json=body(seed=3, **more), headers=headers)

    told = answer.json()
    assert (answer.status_code, told["steps"], told["seed"], told["model"]) == (200, 4, "3", "tiny@1")
    assert told["output_format"] == "OUTPUT_FORMAT_WAV"
    assert int(told["samples"]) == round(SECONDS * RATE_HZ)
    assert len(served_both.http.get(told["audio_url"]).content) == int(told["audio"]["size_bytes"])


def test_every_generated_audio_of_an_answer_has_its_address() -> None:
    made, given = {"key": f"generated/{'0' * 64}.wav"}, {"key": f"clips/{'1' * 64}.flac"}
    told = {"audio": made, "others": [{"audio": made, "seed": "2"}], "kept": {"audio": given}, "steps": 4}

    path = f"/v1/audio/{'0' * 64}.wav"
    assert with_urls(told) == {
        "audio_url": path, "audio": made, "others": [{"audio_url": path, "audio": made, "seed": "2"}],
        "kept": {"audio": given}, "steps": 4,
    }  # fmt: skip


def test_the_contracts_names_are_taken_too_in_both_spellings(served_both: Both) -> None:
    fields = {"prompt": "calm piano", "secondsTotal": 0.5, "steps": 2, "guidance_rescale": 0.25, "seed": "7",
              "outputFormat": "OUTPUT_FORMAT_FLAC_24", "untrimmed": False, "negative_prompt": None}  # fmt: skip

    told = served_both.http.post(GENERATE, json=fields, headers={"accept": "application/json"}).json()

    assert (told["prompt"], told["seconds_total"], told["guidance_rescale"]) == ("calm piano", 0.5, 0.25)
    assert told["audio_url"].endswith(".flac")


@pytest.mark.parametrize("said", ["int8", "PRECISION_INT8"])
def test_a_value_goes_by_its_short_name_too(served_both: Both, said: str) -> None:
    told = served_both.http.post(GENERATE, json=body(seed=9, response_format="json", precision=said)).json()

    assert told["precision"] == "PRECISION_INT8"


def test_progress_the_response_and_the_audio_come_as_events(served_both: Both) -> None:
    with served_both.http.stream("POST", GENERATE, json=body(seed=4, stream_format="sse")) as answer:
        told = list(events(answer.iter_lines()))

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    names = [name for name, _ in told]
    assert names == ["progress"] * 4 + ["response"] + ["audio"] * (len(names) - 6) + ["done"]
    assert [(data["step"], data["total"]) for _, data in told[:4]] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert 0 < told[2][1]["eta_s"] < 60
    audio = b"".join(base64.b64decode(data["audio"]) for name, data in told if name == "audio")
    response = dict(told)["response"]
    assert audio == served_both.http.get(response["audio_url"]).content
    assert audio == served_both.http.post(GENERATE, json=body(seed=4)).content


def test_accept_asks_for_events_too(served_both: Both) -> None:
    headers = {"accept": "text/event-stream"}
    with served_both.http.stream("POST", GENERATE, json=body(seed=4), headers=headers) as answer:
        names = [name for name, _ in events(answer.iter_lines())]

    assert names[-1] == "done"


@pytest.mark.usefixtures("slow_steps")
def test_a_silent_stream_is_kept_alive(served_both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier_inference.web.generating.KEEP_ALIVE_S", 0.02)
    with served_both.http.stream("POST", GENERATE, json=body(seed=5, stream_format="sse")) as answer:
        names = [name for name, _ in events(answer.iter_lines())]

    assert names.count("") >= 4
    assert names[-1] == "done"


def kept(served_both: Both) -> tuple[str, bytes]:
    answer = served_both.http.post(GENERATE, json=body(seed=1, response_format="flac"))
    return answer.headers["content-location"], answer.content


def test_stored_audio_comes_with_ranges_and_may_be_kept(served_both: Both) -> None:
    path, whole = kept(served_both)
    full = served_both.http.get(path)
    part = served_both.http.get(path, headers={"range": "bytes=100-199", "if-range": full.headers["etag"]})
    again = served_both.http.get(path, headers={"if-none-match": full.headers["etag"]})

    assert (full.content, full.headers["content-type"]) == (whole, "audio/flac")
    assert full.headers["cache-control"] == "private, max-age=604800, immutable"
    assert (part.status_code, part.content) == (206, whole[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole)}"
    assert (again.status_code, again.content) == (304, b"")
    assert served_both.http.get(path, headers={"range": f"bytes={len(whole)}-"}).status_code == 416


@pytest.mark.parametrize(
    "name", ["0" * 64 + ".flac", "0" * 64 + ".safetensors", "nothing", "..%2f..%2fetc", "A" * 64 + ".flac"]
)
def test_what_is_no_generated_audio_is_not_there(served_both: Both, name: str) -> None:
    answer = served_both.http.get(f"/v1/audio/{name}")

    assert answer.status_code == 404


def test_nothing_is_left_of_what_was_sent(served_both: Both) -> None:
    kept(served_both)

    assert not list(served_both.server.settings.scratch.glob("luthier-inference/sent-*"))


def test_models_are_listed_as_openais_clients_read_them(served_both: Both) -> None:
    told = served_both.http.get("/v1/models").json()

    assert (told["object"], told["default_model"]) == ("list", "tiny")
    (model,) = told["data"]
    assert (model["id"], model["object"], model["owned_by"], model["window_s"]) == ("tiny@1", "model", "test", 6.144)
    assert served_both.http.post(GENERATE, json=body(seed=1, model=model["id"])).status_code == 200


def test_health_is_that_of_grpc(served_both: Both) -> None:
    assert served_both.http.get("/health").status_code == 200


def test_an_extension_has_one_media_type() -> None:
    extensions = {form.extension: form.media_type for form in FORMATS.values()}

    assert len(extensions) == len({(form.extension, form.media_type) for form in FORMATS.values()})


def test_a_client_of_httpx_alone_needs_nothing_else(served_both: Both) -> None:
    """The program in vLLM-Omni's own documentation, but for its address and sizes."""
    response = httpx.post(
        f"{served_both.url}/v1/audio/generate",
        json={
            "input": "Thunder and rain",
            "audio_length": 2.0,
            "negative_prompt": "Low quality",
            "guidance_scale": 7.0,
            "num_inference_steps": 3,
            "seed": 42,
            "response_format": "wav",
        },
        timeout=300.0,
    )

    assert soundfile.info(io.BytesIO(response.content)).duration == 2.0

"""Prompts that are left out: nothing stored or logged has their text, and stored answers are found all the same."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub
from luthier_inference.prompts import PromptRecords
from luthier_inference.settings import InferenceSettings
from luthier_kit.rpc import SettingsError, load
from luthier_kit.rpc._telemetry import JsonLines, _FramesOnly
from tests.model.small import ModelFiles
from tests.support.programs import Program, tiny_inference

from .conftest import serving

SECRET = "Zanzibarian nocturne"
NEGATIVE = "Quetzalcoatl drums"
KEY = "k" * 32
MUSIC = pb.MusicFields(tempo_bpm=120)


@pytest.fixture(scope="module")
def leaving_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("leaving-out")
    environ = {"LUTHIER_PROMPTS": "leave-out", "LUTHIER_PROMPT_KEY": KEY, "LUTHIER_WEB_ADDRESS": "127.0.0.1:0"}
    with tiny_inference(folder, LUTHIER_LOG_LEVEL="DEBUG", **environ) as program:
        yield program


def asked(**fields: object) -> pb.GenerateRequest:
    given = {"prompt": SECRET, "negative_prompt": NEGATIVE, "seconds_total": 1.0, "steps": 2, "seed": 1, **fields}
    return pb.GenerateRequest(**given)  # type: ignore[arg-type]


def words_in(folder: Path) -> set[str]:
    """Which words of the prompts stand in any file below a folder, whatever their case, or in a file's name."""
    words = {word.lower() for word in f"{SECRET} {NEGATIVE}".split()} - {"drums"}
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    texts = [path.read_bytes().lower() + str(path).lower().encode() for path in files]
    return {word for word in words if any(word.encode() in text for text in texts)}


def ask_everything(program: Program) -> pb.GenerateResponse:
    """Each way to ask, to be answered and to be refused."""
    with grpc.insecure_channel(program.address) as channel:
        stub = InferenceServiceStub(channel)
        response = stub.Generate(asked(request_id="a"), timeout=60)
        for form in pb.OutputFormat.values():
            stub.Generate(asked(output_format=form, seed=2), timeout=60)
        list(stub.StreamGenerate(pb.StreamGenerateRequest(request=asked(seed=3), pieces=True), timeout=60))
        stub.Generate(asked(seeds=[4, 5], seed=None), timeout=60)
        stub.Generate(asked(prompt=f"{SECRET}, piano", music=MUSIC), timeout=60)
        for refused in (
            asked(prompt=f"{SECRET}, 90 BPM", music=MUSIC),  # says something else than the fields
            asked(steps=0),
            asked(request_id="a", seed=9),  # the id asked for something else
        ):
            with pytest.raises(grpc.RpcError):
                stub.Generate(refused, timeout=60)
        call = stub.StreamGenerate(pb.StreamGenerateRequest(request=asked(steps=1000, seed=6)), timeout=60)
        next(iter(call))
        call.cancel()  # type: ignore[no-untyped-call]
    by_http = {"input": SECRET, "negative_prompt": NEGATIVE, "audio_length": 1, "num_inference_steps": 2, "seed": 7}
    for body in (by_http, {**by_http, "seed": "no number"}):
        httpx.post(f"http://{program.web}/v1/audio/generate", json=body, timeout=60)
    answer: pb.GenerateResponse = response
    return answer


def test_no_file_of_the_store_nor_the_log_has_a_word_of_the_prompts(leaving_out: Program) -> None:
    response = ask_everything(leaving_out)

    log = leaving_out.log.read_text()
    assert words_in(leaving_out.store) == set()
    assert not re.search("zanzibarian|nocturne|quetzalcoatl", log, re.IGNORECASE)
    assert (response.prompt, response.negative_prompt) == (SECRET, NEGATIVE)
    assert len(list(leaving_out.store.rglob("actions/generate/*.json"))) >= 12


def test_with_prompts_kept_the_same_search_finds_them(model_files: ModelFiles, tmp_path: Path) -> None:
    with serving(model_files, tmp_path) as served:
        served.stub.Generate(asked(), timeout=60)

    assert words_in(tmp_path / "store") == {"zanzibarian", "nocturne", "quetzalcoatl"}


def test_what_was_made_is_found_by_the_digest(leaving_out: Program) -> None:
    with grpc.insecure_channel(leaving_out.address) as channel:
        stub = InferenceServiceStub(channel)
        first, again = (stub.Generate(asked(seed=20), timeout=60) for _ in range(2))
        other = stub.Generate(asked(seed=20, prompt=f"{SECRET}."), timeout=60)

    assert (first.action.reused, again.action.reused, other.action.reused) == (False, True, False)
    assert (again.audio, again.prompt) == (first.audio, SECRET)


def test_the_digest_is_of_the_key_and_both_prompts() -> None:
    # printf '["Zanzibarian nocturne","Quetzalcoatl drums"]' | openssl dgst -sha256 -hmac (32 times k)
    expected = "ddaa67b1e14699d509471eb7a651cab2bec0e6311b7681fd94a3e144a21f3391"

    named = PromptRecords(KEY).named({"prompt": SECRET, "negative_prompt": NEGATIVE, "steps": 4})

    assert named == {"steps": 4, "prompts_hmac_sha256": expected}


def test_prompts_that_are_kept_name_what_they_named_before() -> None:
    parameters = {"prompt": SECRET, "negative_prompt": "", "steps": 4}

    assert PromptRecords().named(parameters) == parameters


@pytest.mark.parametrize("key", [{}, {"LUTHIER_PROMPT_KEY": "k" * 31}])
def test_leaving_out_needs_a_key_that_nobody_guesses(key: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"LUTHIER_PROMPT_KEY .* of at least 32 characters"):
        load(InferenceSettings, {"DEVICE": "cpu", "LUTHIER_PROMPTS": "leave-out", **key})


def test_the_trace_of_a_bug_says_where_and_not_what() -> None:
    handler = logging.Handler()
    handler.addFilter(_FramesOnly())
    lines: list[str] = []
    handler.emit = lambda record: lines.append(JsonLines().format(record))  # type: ignore[method-assign]
    log = logging.getLogger("tests.prompts")
    log.addHandler(handler)
    try:
        raise ValueError(f"cannot tokenize {SECRET!r}")
    except ValueError:
        log.exception("Generate failed")
    finally:
        log.removeHandler(handler)

    trace = json.loads(lines[0])["trace"]
    assert "ValueError" in trace
    assert "test_the_trace_of_a_bug_says_where_and_not_what" in trace
    assert SECRET not in lines[0]

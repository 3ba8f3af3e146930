"""The tiny model served over gRPC and HTTP, and clients of both."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc
from luthier_inference.app import build_service
from luthier_inference.web.app import HttpFront
from luthier_kit.registry import register
from luthier_kit.rpc import Server
from luthier_kit.store import Store
from luthier_model.generation import Denoising, evaluate
from tests.inference.conftest import PROMPT, settings_for, version_of
from tests.model.small import ModelFiles
from tests.support.services import require_tool, temp_store

GENERATE = "/v1/audio/generate"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required")  # fmt: skip
SECONDS, RATE_HZ = 1.0, 16_000  # of what tests ask for, and of the tiny model


@dataclass(frozen=True)
class Both:
    """A service that is reached both ways."""

    store: Store
    server: Server
    http: httpx.Client
    stub: inference_pb2_grpc.InferenceServiceStub

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")


@contextmanager
def both(model_files: ModelFiles, folder: Path, **settings: Any) -> Iterator[Both]:
    """Serves `tiny` on free ports of loopback."""
    chosen = settings_for(folder, **{"default_model": "tiny", "web_address": "127.0.0.1:0", **settings})
    with temp_store(folder / "store") as store:
        register(store, version_of(store, model_files, "tiny"))
        service = build_service(chosen, store)
        assert isinstance(service.front, HttpFront)
        server = Server(service, chosen)
        server.start()
        try:
            with (
                httpx.Client(base_url=f"http://{service.front.address}", timeout=60) as http,
                grpc.insecure_channel(server.address) as channel,
            ):
                yield Both(store, server, http, inference_pb2_grpc.InferenceServiceStub(channel))
        finally:
            server.stop(grace_s=0)


@pytest.fixture(scope="session")
def served_both(model_files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(model_files, tmp_path_factory.mktemp("both")) as served:
        yield served


def body(**fields: Any) -> dict[str, Any]:
    """A short generation by vLLM-Omni's names."""
    return {"input": PROMPT, "audio_length": SECONDS, "num_inference_steps": 4, **fields}


def grpc_request(**fields: Any) -> pb.GenerateRequest:
    """The same by the contract's."""
    return pb.GenerateRequest(prompt=PROMPT, seconds_total=SECONDS, steps=4, **fields)


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and data of server-sent events, as the HTML standard reads them; a comment is named ""."""
    name, data = "message", ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line.startswith(":"):
            yield "", {}
        elif field == "event":
            name = value
        elif field == "data":
            data += value
        elif not line and data:
            yield name, json.loads(data)
            name, data = "message", ""


def error(answer: httpx.Response) -> dict[str, Any]:
    """What a refusal says."""
    told: dict[str, Any] = answer.json()["error"]
    return told


def wait_until(true: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a tenth of a second, as a large model's are."""

    def slow(together: Sequence[Denoising]) -> None:
        time.sleep(0.1)
        evaluate(together)

    monkeypatch.setattr("luthier_inference.work.evaluate", slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    chromium = require_tool("chromium")
    expect.set_options(timeout=15_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()

"""The vLLM composer against vLLM itself, on the CPU, with a model of random weights (`make test-vllm`).

The model has learned nothing: what it says right, it was bound to say. Facts are read in its captions by the words that
they must stand in, not by the checker.
"""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from luthier.prompting.v1 import prompting_pb2
from luthier.prompting.v1.prompting_pb2_grpc import PromptingServiceStub
from luthier_kit.rpc import Channel, Unavailable
from luthier_music.clip_facts import Facts, Heard
from luthier_music.composing import CutOff, Style, compose
from luthier_music.grammar import MAX_SHORT_WORDS
from luthier_prompting.__main__ import build
from luthier_prompting.vllm import Endpoint, Vllm
from tests.support.services import ROOT, missing, running

from .test_service import compose as request_of
from .test_service import hostile_request, settings

pytestmark = pytest.mark.vllm

MODEL, KEY = "tiny", "a-key-of-the-test"
STARTS_WITHIN_S = 300
CLIPS = 32


class Server:
    """A vLLM on a free loopback port."""

    def __init__(self, python: Path, model: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # one step takes all that is in flight: on a CPU the engine of vLLM 0.32.0 was seen to die without it
        options = f"--enforce-eager --max-model-len 4096 --max-num-seqs {CLIPS} --max-num-batched-tokens 131072"
        self.url, self.log = f"http://127.0.0.1:{port}/v1", model.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python.with_name("vllm"), "serve", model, "--served-model-name", MODEL, "--api-key", KEY,
                 "--host", "127.0.0.1", "--port", str(port), *options.split()],
                env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Until it serves."""
        ends = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < ends and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.url.replace("/v1", "/health"), timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(1)
        raise AssertionError(f"vLLM does not serve: {self.log.read_text(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """Its processes at once, as when a machine goes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def python() -> Path:
    found = ROOT / ".tools/vllm/bin/python"
    if not found.exists():
        missing("vLLM's environment (make test-vllm)")
    return found


@pytest.fixture(scope="module")
def model(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vllm") / "model"
    subprocess.run([python, Path(__file__).with_name("real_vllm") / "make_model.py", folder], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def server(python: Path, model: Path) -> Iterator[Server]:
    served = Server(python, model)
    try:
        served.wait()
        yield served
    finally:
        served.kill()


def vllm(
    url: str, *, timeout_s: float = 120.0, structure: str = "regex", api_key: str = KEY, name: str = MODEL
) -> Vllm:
    return Vllm(Endpoint(url, name, api_key, timeout_s, 0, structure))


FACTS = Facts(
    tempo_bpm=97.0, tonic="Eb", mode="major", genres=("jazz",), instruments=(Heard("Tenor Sax"), Heard("Acoustic Bass"))
)
STATED = ("at 97 BPM", "in Eb major", "jazz", "tenor saxophone", "upright bass")


def states_each_once(text: str, stated: tuple[str, ...]) -> bool:
    """One sentence that holds each of these words once, between words that the model chose: no digits, no capitals."""
    rest = text
    for words in stated:
        if rest.count(words) < 1:
            return False
        rest = rest.replace(words, "", 1)
    return re.fullmatch(r"[A-Z][a-z, ]*\.", rest) is not None


def test_a_model_that_knows_nothing_spells_every_fact(server: Server) -> None:
    composer, texts = vllm(server.url), list[str]()
    for number in range(8):
        try:
            texts.append(composer.draft(FACTS, f"{number}"))
        except CutOff:
            continue  # its words were too long
    assert len(texts) >= 4
    assert all(states_each_once(text, STATED) for text in texts), texts
    orders = {tuple(sorted(STATED, key=text.index)) for text in texts}
    assert len(orders) > 1


def test_a_short_caption_is_short(server: Server) -> None:
    texts = [vllm(server.url).draft(FACTS, f"{number}", Style.SHORT) for number in range(8)]
    assert all(len(text.split()) <= MAX_SHORT_WORDS for text in texts), texts
    assert all("jazz" in text and "tenor saxophone" in text for text in texts), texts


def test_the_same_seed_is_the_same_caption(server: Server) -> None:
    first, again, other = (vllm(server.url).draft(FACTS, seed, Style.SHORT) for seed in ("1", "1", "2"))
    assert first == again
    assert first != other


def test_a_json_schema_gives_one_text(server: Server) -> None:
    try:
        text = vllm(server.url, structure="json_schema").draft(FACTS, "1")
    except CutOff as error:
        text = error.text
        assert text.startswith("{")
    assert text


def test_many_clips_at_once_through_the_service(server: Server, tmp_path: Path) -> None:
    own = settings(tmp_path, backend="vllm", vllm_url=server.url, vllm_model=MODEL, vllm_api_key=KEY, slots=CLIPS)
    both = [prompting_pb2.PROMPT_STYLE_SENTENCE, prompting_pb2.PROMPT_STYLE_SHORT]
    requests = [request_of(count=2, seed=seed, styles=both) for seed in range(CLIPS)]
    with running(build(own), own) as address, Channel(address, retry_budget_s=300) as channel:
        stub = PromptingServiceStub(channel)
        began = time.monotonic()
        with ThreadPoolExecutor(CLIPS) as threads:
            responses = list(threads.map(lambda request: stub.ComposePrompts(request, timeout=300), requests))
        seconds = time.monotonic() - began
    prompts = [prompt for response in responses for prompt in response.prompts]
    passed = [prompt.text for prompt in prompts if prompt.check.passed]
    sentences = [r.prompts[0].text for r in responses if r.prompts[0].check.passed]
    rejected = sum(response.rejected_drafts for response in responses)
    print(f"\n{len(passed)} of {len(prompts)} prompts passed, {rejected} drafts were rejected, {seconds:.1f} s")
    assert all(prompt.composer == "vllm" for prompt in prompts)
    assert len(passed) > CLIPS
    assert len(set(passed)) == len(passed)
    assert sentences
    stated = ("at 120 BPM", "in F# minor", "indie rock", "energetic", "overdriven guitar", "drums")
    assert all(states_each_once(text, stated) for text in sentences), sentences


def test_hostile_tags_change_no_fact_and_tell_no_instruction(server: Server, tmp_path: Path) -> None:
    own = settings(tmp_path, backend="vllm", vllm_url=server.url, vllm_model=MODEL, vllm_api_key=KEY)
    request = hostile_request()
    request.count = 8
    with running(build(own), own) as address, Channel(address, retry_budget_s=60) as channel:
        prompts = PromptingServiceStub(channel).ComposePrompts(request, timeout=300).prompts
    told = ("ignore", "saxophone", "200", "c major", "attributes", "caption", "training")
    for prompt in prompts:
        assert not any(words in prompt.text.lower() for words in told)
        assert prompt.check.disagreements or states_each_once(
            prompt.text, ("at 120 BPM", "in F# minor", "indie rock", "energetic", "overdriven guitar", "drums")
        )


def test_who_is_refused_is_told_unavailable(server: Server) -> None:
    for refused in (vllm(server.url, api_key="wrong"), vllm(server.url, name="no-such-model")):
        with pytest.raises(Unavailable) as caught:
            refused.draft(FACTS, "1")
        assert caught.value.reason == "VLLM_REFUSED"
        assert caught.value.retry_after_s > 0


def test_a_server_that_is_too_slow_is_unavailable(server: Server) -> None:
    with pytest.raises(Unavailable) as caught:
        vllm(server.url, timeout_s=0.02).draft(FACTS, "1")
    assert caught.value.reason == "VLLM_TIMEOUT"


def test_a_server_that_dies_with_requests_in_flight_is_unavailable_and_the_next_start_serves(
    server: Server, python: Path, model: Path, tmp_path: Path
) -> None:
    """Goes last: it ends the server of this module."""
    own = settings(tmp_path, backend="vllm", vllm_url=server.url, vllm_model=MODEL, vllm_api_key=KEY, vllm_retries=0)
    request = request_of(count=16, seed=99)
    with running(build(own), own) as address, Channel(address, retry_budget_s=0) as channel:
        stub = PromptingServiceStub(channel)
        with ThreadPoolExecutor(1) as threads:
            asked = threads.submit(stub.ComposePrompts, request, timeout=120)
            time.sleep(1.0)
            server.kill()
            with pytest.raises(Unavailable) as in_flight:
                asked.result()
        with pytest.raises(Unavailable) as dead:
            stub.ComposePrompts(request, timeout=120)
    assert in_flight.value.reason == dead.value.reason == "VLLM_UNREACHABLE"
    assert dead.value.retry_after_s > 0
    again = Server(python, model)
    try:
        again.wait()
        facts = Facts(genres=("jazz",), instruments=(Heard("Flute"),))
        assert compose(vllm(again.url), facts, count=1, seed=1, styles=[Style.SHORT]).prompts
    finally:
        again.kill()

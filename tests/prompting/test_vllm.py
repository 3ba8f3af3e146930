"""The vLLM composer against a real HTTP server on loopback that speaks the chat-completions API."""

import gzip
import json
import random
import re
import socket
import time
from typing import Any

import outlines_core
import pytest

from luthier_kit.rpc import Unavailable
from luthier_music.captions import check
from luthier_music.clip_facts import Facts, Heard
from luthier_music.composing import ATTEMPTS, Style, compose
from luthier_music.grammar import MAX_SHORT_WORDS
from luthier_prompting.vllm import EXAMPLES, SHORT_EXAMPLES, Endpoint, Vllm
from tests.support.measure import cost_of

from .conftest import CUT, ChatServer

FACTS = Facts(
    tempo_bpm=120.0, tonic="F#", mode="minor", genres=("rock",), moods=("driving",),
    instruments=(Heard("Overdriven Guitar"), Heard("Drums")),
)  # fmt: skip
TRUE = "Driving rock in F# minor at 120 BPM with overdriven guitar and drums."


def vllm(url: str, *, api_key: str = "", timeout_s: float = 5.0, retries: int = 0, structure: str = "regex") -> Vllm:
    return Vllm(Endpoint(url, "test-model", api_key, timeout_s, retries, structure))


def worded(body: dict[str, Any]) -> str:
    """What a model bound by the expression would say: the attributes in their order, free words between."""
    lines = body["messages"][-1]["content"].split("\n")[1:-1]
    return "Here " + " and then ".join(line.partition(": ")[2] for line in lines) + "."


def test_the_expression_of_each_request_makes_the_facts_right(chat: ChatServer) -> None:
    texts: list[str] = []

    def answer(body: dict[str, Any]) -> tuple[int, str]:
        text = "Music " + worded(body)[5:]
        assert re.fullmatch(body["structured_outputs"]["regex"], text), body["structured_outputs"]["regex"]
        texts.append(text)
        return 200, text

    chat.answer = answer
    composed = compose(vllm(chat.url), FACTS, count=4, seed=1)
    assert [p.disagreements for p in composed.prompts] == [()] * 4
    assert [p.text for p in composed.prompts] == texts


def test_even_a_random_model_bound_by_the_expression_states_the_facts(chat: ChatServer) -> None:
    chat.answer = lambda body: (200, random_walk(body["structured_outputs"]["regex"], body["seed"]))
    for number in range(2):
        text = vllm(chat.url, timeout_s=120.0).draft(FACTS, f"{number}")
        assert "REQUIRED_BUT_MISSING" not in [d.reason for d in check(text, FACTS)], text


def random_walk(expression: str, seed: int) -> str:
    """What a model of random weights says under the engine that binds a real one: any allowed character next."""
    end = 127
    index = outlines_core.Index(expression, outlines_core.Vocabulary(end, {chr(c): [c] for c in range(32, end)}))
    guide, rng, text = outlines_core.Guide(index), random.Random(seed), ""
    while not guide.is_finished():
        token = rng.choice([token for token in guide.get_tokens() if token != end])
        guide.advance(token)
        text += chr(token)
    return text


def test_attributes_are_shuffled_and_fenced_and_examples_go_before(chat: ChatServer) -> None:
    chat.answer = lambda _: (200, TRUE)
    composer = vllm(chat.url)
    for number in range(6):
        composer.draft(FACTS, f"{number}")
    asked = [body["messages"] for _, body in chat.requests]
    assert [m["role"] for m in asked[0]] == ["system", *["user", "assistant"] * len(EXAMPLES), "user"]
    last = [messages[-1]["content"] for messages in asked]
    assert all(text.startswith("<attributes>\n") and text.endswith("\n</attributes>") for text in last)
    assert len(set(last)) > 1
    assert len({tuple(sorted(text.split("\n"))) for text in last}) == 1


def test_the_rules_are_shuffled_and_all_there(chat: ChatServer) -> None:
    chat.answer = lambda _: (200, TRUE)
    composer = vllm(chat.url)
    for number in range(6):
        composer.draft(FACTS, f"{number}")
    systems = [body["messages"][0]["content"] for _, body in chat.requests]
    assert len(set(systems)) > 3
    assert len({tuple(sorted(system.split("\n"))) for system in systems}) == 1
    assert len({system.split("\n")[0] for system in systems}) == 1  # the task comes first


def test_the_seed_decides_what_is_sent(chat: ChatServer) -> None:
    chat.answer = lambda _: (200, TRUE)
    for seed in ("1", "1", "2"):
        vllm(chat.url).draft(FACTS, seed)
    first, again, other = (body for _, body in chat.requests)
    assert first == again
    assert other["messages"] != first["messages"]
    assert other["seed"] != first["seed"]


@pytest.mark.parametrize(("facts", "caption"), EXAMPLES)
def test_the_examples_are_true(facts: Facts, caption: str) -> None:
    assert check(caption, facts) == []


@pytest.mark.parametrize(("facts", "caption"), SHORT_EXAMPLES)
def test_the_short_examples_are_true_whole_and_short(facts: Facts, caption: str) -> None:
    assert check(caption, facts, max_words=MAX_SHORT_WORDS) == []


def test_a_short_caption_is_asked_for_with_few_attributes(chat: ChatServer) -> None:
    facts = Facts(
        tempo_bpm=140.0, tempo_changes=True, tonic="F#", mode="minor", genres=("progressive rock",), moods=("dark",),
        instruments=tuple(map(Heard, ("Acoustic Guitar (steel)", "Lead 1 (square)", "Electric Bass (finger)"))),
    )  # fmt: skip
    chat.answer = lambda body: (200, random_walk(body["structured_outputs"]["regex"], body["seed"]))
    composer = vllm(chat.url, timeout_s=120.0)
    for number in range(4):
        text = composer.draft(facts, f"{number}", Style.SHORT)
        reasons = {d.reason for d in check(text, facts, allow_subset=True, max_words=MAX_SHORT_WORDS)}
        assert "TOO_LONG" not in reasons, text
        assert "progressive rock" in text
    systems = [body["messages"][0]["content"] for _, body in chat.requests]
    assert all("at most 16 words" in system for system in systems)


def test_a_short_caption_that_is_too_long_is_drafted_again(chat: ChatServer) -> None:
    answers = iter(["Driving rock with overdriven guitar and drums " + "on and " * 10 + "on.", "Rock on drums."])
    chat.answer = lambda _: (200, next(answers))
    composed = compose(vllm(chat.url), FACTS, count=1, seed=1, styles=[Style.SHORT])
    assert (composed.prompts[0].text, composed.rejected_drafts) == ("Rock on drums.", 1)


def test_json_schema_is_the_other_structure(chat: ChatServer) -> None:
    chat.answer = lambda _: (200, json.dumps({"caption": TRUE}))
    assert vllm(chat.url, structure="json_schema").draft(FACTS, "1") == TRUE
    assert chat.requests[0][1]["response_format"]["type"] == "json_schema"


def test_an_untrue_draft_is_drafted_again(chat: ChatServer) -> None:
    answers = iter(["Jazz piano in C major at 90 BPM.", "Create a rock track!", TRUE])
    chat.answer = lambda _: (200, next(answers))
    composed = compose(vllm(chat.url), FACTS, count=1, seed=1)
    assert composed.prompts[0].text == TRUE
    assert composed.rejected_drafts == 2


def test_a_prompt_that_stays_untrue_says_so(chat: ChatServer) -> None:
    chat.answer = lambda _: (200, "Driving rock in G minor at 120 BPM with overdriven guitar and drums.")
    (prompt,) = compose(vllm(chat.url), FACTS, count=1, seed=1).prompts
    assert [(d.subject, d.stated, d.expected) for d in prompt.disagreements] == [("key", "G minor", "F# minor")]
    assert len(chat.requests) == ATTEMPTS


def test_a_draft_that_does_not_come_to_an_end_is_drafted_again(chat: ChatServer) -> None:
    answers = iter([TRUE.removesuffix(".") + " and" + CUT, TRUE])
    chat.answer = lambda _: (200, next(answers))
    composed = compose(vllm(chat.url), FACTS, count=1, seed=1)
    assert (composed.prompts[0].text, composed.rejected_drafts) == (TRUE, 1)


def test_a_model_that_never_ends_is_bounded_and_said_to_be_cut_off(chat: ChatServer) -> None:
    chat.answer = lambda _: (200, TRUE + CUT)
    (prompt,) = compose(vllm(chat.url), FACTS, count=1, seed=1).prompts
    assert [(d.subject, d.reason) for d in prompt.disagreements] == [("form", "CUT_OFF")]
    assert len(chat.requests) == ATTEMPTS


@pytest.mark.parametrize("style", [Style.SENTENCE, Style.SHORT])
def test_a_model_that_tells_its_instructions_is_refused(chat: ChatServer, style: Style) -> None:
    chat.answer = lambda body: (200, body["messages"][0]["content"])
    vllm(chat.url).draft(FACTS, "1", style)
    for line in chat.requests[0][1]["messages"][0]["content"].split("\n"):
        chat.answer = lambda _, line=line: (200, line)  # type: ignore[misc]
        (prompt,) = compose(vllm(chat.url), FACTS, count=1, seed=1, styles=[style]).prompts
        assert prompt.disagreements, line


@pytest.mark.parametrize("answer", ["", "{", "null", "x" * 100_000])
def test_nonsense_is_bounded_and_refused(chat: ChatServer, answer: str) -> None:
    chat.answer = lambda _: (200, answer)
    (prompt,) = compose(vllm(chat.url, structure="json_schema"), FACTS, count=1, seed=1).prompts
    assert prompt.disagreements
    assert len(prompt.text) <= 600


@pytest.mark.parametrize(
    "caption",
    ['{"caption": "A.", "caption": "B."}', '{"caption": NaN}', '{"caption": {"a": "b"}}', '{"caption": 5}', "[" * 600],
)
def test_an_object_that_is_no_caption_is_held_against_the_facts_as_it_stands(chat: ChatServer, caption: str) -> None:
    chat.answer = lambda _: (200, caption)
    assert vllm(chat.url, structure="json_schema").draft(FACTS, "1") == caption


REPLIES = {
    "large": (b"[" + b" " * (1 << 20) + b"]", "must be at most 1048576 bytes"),
    "deep": (b"[" * 5000, "must nest at most 16 deep"),
    "many values": (b"[" + b"[]," * 20_000 + b"[]]", "must hold at most 10000 values"),
    "twice": (b'{"choices": [], "choices": []}', "the name 'choices' stands twice"),
    "NaN": (b'{"choices": NaN}', "NaN is no number"),
    "HTML": (b"<html>", "not JSON"),
    "a list": (b"[]", "choices[0].message.content"),
    "a number of choices": (b'{"choices": 5}', "choices[0].message.content"),
    "no message": (b'{"choices": [{}]}', "choices[0].message.content"),
    "a number as content": (b'{"choices": [{"message": {"content": 5}}]}', "content must be a text"),
}


@pytest.mark.parametrize(("body", "bound"), REPLIES.values(), ids=REPLIES)
def test_a_reply_beyond_a_bound_is_unavailable_and_names_it(chat: ChatServer, body: bytes, bound: str) -> None:
    chat.reply = lambda _: body
    with pytest.raises(Unavailable, match=re.escape(bound)) as caught:
        vllm(chat.url).draft(FACTS, "1")
    assert caught.value.reason == "VLLM_BAD_REPLY"


def test_a_refusal_is_bounded_too(chat: ChatServer) -> None:
    chat.answer, chat.reply = lambda _: (500, ""), lambda _: b"x" * (40 << 20)
    with pytest.raises(Unavailable, match="at most 1048576 bytes"):
        vllm(chat.url).draft(FACTS, "1")


def test_forty_megabytes_of_reply_are_not_read(chat: ChatServer) -> None:
    body = b"[" + b"[]," * (13 << 20)  # made before it is measured: the server is in this process
    chat.reply = lambda _: body
    composer = vllm(chat.url)

    def drafted() -> None:
        with pytest.raises(Unavailable):
            composer.draft(FACTS, "1")

    cost = cost_of(drafted)
    assert cost.peak_bytes < 16 << 20
    assert cost.seconds < 5


def test_a_compressed_reply_is_refused(chat: ChatServer) -> None:
    chat.reply, chat.reply_headers = lambda _: gzip.compress(b" " * (64 << 20)), {"Content-Encoding": "gzip"}
    with pytest.raises(Unavailable, match="must not be encoded, got 'gzip'"):
        vllm(chat.url).draft(FACTS, "1")
    assert chat.requests[0][0]["accept-encoding"] == "identity"


def test_a_reply_that_comes_byte_by_byte_is_given_up(chat: ChatServer) -> None:
    chat.answer, chat.pause_s = lambda _: (200, TRUE), 0.1
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        vllm(chat.url, timeout_s=0.5).draft(FACTS, "1")
    assert caught.value.reason == "VLLM_TIMEOUT"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("status", "reason"), [(500, "VLLM_REFUSED"), (429, "VLLM_REFUSED"), (404, "VLLM_REFUSED")])
def test_an_error_of_the_server_is_unavailable(chat: ChatServer, status: int, reason: str) -> None:
    chat.answer = lambda _: (status, "secret details")
    with pytest.raises(Unavailable) as caught:
        vllm(chat.url).draft(FACTS, "1")
    assert caught.value.reason == reason
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "hint_s"), [("7", 7.0), ("86400", 60.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 5.0), ("-1", 5.0), ("", 5.0)]
)
def test_a_refusal_says_when_to_come_again(chat: ChatServer, header: str, hint_s: float) -> None:
    chat.answer, chat.reply_headers = lambda _: (503, "loading"), {"Retry-After": header}
    with pytest.raises(Unavailable) as caught:
        vllm(chat.url).draft(FACTS, "1")
    assert caught.value.retry_after_s == hint_s


def test_a_busy_server_is_asked_again(chat: ChatServer) -> None:
    answers = iter([(503, "busy"), (200, TRUE)])
    chat.answer = lambda _: next(answers)
    assert vllm(chat.url, retries=1).draft(FACTS, "1") == TRUE


def test_a_server_that_is_down_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        vllm(f"http://127.0.0.1:{port}/v1").draft(FACTS, "1")
    assert caught.value.reason == "VLLM_UNREACHABLE"


def test_a_server_that_does_not_answer_is_given_up(chat: ChatServer) -> None:
    def late(_: dict[str, Any]) -> tuple[int, str]:
        time.sleep(2)
        return 200, TRUE

    chat.answer = late
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        vllm(chat.url, timeout_s=0.3).draft(FACTS, "1")
    assert caught.value.reason == "VLLM_TIMEOUT"
    assert time.monotonic() - started < 1.5


def test_the_key_is_sent_and_not_shown(chat: ChatServer) -> None:
    chat.answer = lambda _: (200, TRUE)
    composer = vllm(chat.url, api_key="s3cret-key")
    composer.draft(FACTS, "1")
    assert chat.requests[0][0]["authorization"] == "Bearer s3cret-key"
    assert "s3cret-key" not in f"{composer.version}{composer!r}"

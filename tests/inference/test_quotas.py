"""Quotas of callers as two servers over one store keep them, and what each sees of its use."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub
from luthier_inference.app import build_service
from luthier_inference.settings import InferenceSettings
from luthier_inference.web.app import HttpFront
from luthier_kit.registry import register
from luthier_kit.rpc import LuthierError, SettingsError, error_of_call, load, retry_after_s
from luthier_kit.store import Store
from luthier_model.generation import Denoising
from tests.model.small import ModelFiles
from tests.support.services import running, temp_store

from .analyses import heard, listening
from .conftest import Served, request, settings_for, version_of

STEPS, SECONDS = 4, 1.0  # of `request`
DAY_S = 86_400


QUOTAS = {
    "short": "audio_seconds:1.5",
    "stored": f"steps:{STEPS}+calls:3",
    "seeds": f"steps:{3 * STEPS}",
    "few": "calls:3",
    "leaver": "steps:1000",
    "careless": "calls:10",
    "nothing": "calls:0",
    "once": "calls:1",
}
"""Each for a test of its own, at one server."""


@dataclass(frozen=True)
class Replica:
    """One of the servers of a store, as its callers reach it."""

    stub: InferenceServiceStub
    http: str

    def generate(self, caller: str, **fields: Any) -> pb.GenerateResponse:
        return self.stub.Generate(request(**fields), metadata=token_of(caller), timeout=60)

    def usage(self, caller: str) -> pb.Usage:
        return self.stub.GetUsage(pb.GetUsageRequest(), metadata=token_of(caller), timeout=10).usage


def token_of(caller: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {caller}-token"),)


@contextmanager
def replicas(
    files: ModelFiles, folder: Path, count: int, *quotas: str, every_s: float = 0.05
) -> Iterator[list[Replica]]:
    callers = folder / "callers"
    callers.mkdir(exist_ok=True)
    for name in ("chief", "radio", "shop", *QUOTAS):
        digest = hashlib.sha256(f"{name}-token".encode()).hexdigest()
        (callers / name).write_text(f"sha256:{digest}\n")
    settings = settings_for(
        folder, default_model="tiny", callers=str(callers), caller_quotas=quotas, quotas_every_s=every_s,
        caller_permissions=("chief=read+generate+operate",), web_address="127.0.0.1:0",
    )  # fmt: skip
    with ExitStack() as stack:
        store: Store = stack.enter_context(temp_store(folder / "store"))
        register(store, version_of(store, files, "tiny"))
        served = []
        for _ in range(count):
            service = build_service(settings, store)
            assert isinstance(service.front, HttpFront)
            address = stack.enter_context(running(service, settings))
            channel = stack.enter_context(grpc.insecure_channel(address))
            served.append(Replica(InferenceServiceStub(channel), f"http://{service.front.address}"))
        yield served


@pytest.fixture(scope="module")
def one(model_files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A server of callers with the quotas above, and with 100 steps for all others."""
    quotas = [f"{caller}={quota}" for caller, quota in QUOTAS.items()]
    with replicas(model_files, tmp_path_factory.mktemp("one"), 1, *quotas, "*=steps:100") as (one,):
        yield one


def refusal(call: Callable[[], object]) -> LuthierError:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return error_of_call(refused.value)


def soon(holds: Callable[[], bool]) -> None:
    """Waits until something holds that another thread brings about; the test's time-out bounds it."""
    for _ in range(2000):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came about")


def test_two_servers_of_one_store_keep_one_quota(model_files: ModelFiles, tmp_path: Path) -> None:
    with replicas(model_files, tmp_path, 2, "shop=steps:10") as (one, two):
        one.generate("shop", seed=1)
        two.generate("shop", seed=2)
        soon(lambda: one.usage("shop").steps == 2 * STEPS == two.usage("shop").steps)

        refused = [refusal(partial(each.generate, "shop", seed=3)) for each in (one, two)]

    assert [error.reason for error in refused] == ["QUOTA_SPENT"] * 2
    assert refused[0].metadata == {"quota": "steps", "bound": "10", "spent": "8", "asked": "4"}


def test_a_restart_of_every_server_forgets_nothing(model_files: ModelFiles, tmp_path: Path) -> None:
    with replicas(model_files, tmp_path, 1, "shop=calls:1") as (before,):
        before.generate("shop")

    with replicas(model_files, tmp_path, 1, "shop=calls:1") as (after,):
        assert refusal(lambda: after.generate("shop")).reason == "QUOTA_SPENT"


def test_a_refusal_tells_when_to_come_back_and_nothing_was_computed(
    one: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.generate("short", seed=1)
    monkeypatch.setattr(Denoising, "__init__", lambda *_, **__: pytest.fail("it was computed"))
    now = datetime.now(UTC)

    error = refusal(lambda: one.generate("short", seed=2))

    left_s = DAY_S - (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_SPENT")
    assert retry_after_s(error) == pytest.approx(left_s, abs=5)


def test_a_stored_answer_costs_a_call_and_is_there_when_steps_are_spent(one: Replica) -> None:
    one.generate("stored", seed=10)
    reused = one.generate("stored", seed=10)
    usage = one.usage("stored")

    assert reused.action.reused
    assert (usage.calls, usage.steps, usage.audio_seconds) == (2, STEPS, SECONDS)
    assert refusal(lambda: one.generate("stored", seed=11)).metadata["quota"] == "steps"


def test_each_seed_counts_and_those_that_are_stored_cost_a_call(one: Replica) -> None:
    one.generate("seeds", seeds=[21, 22])
    one.generate("seeds", seeds=[21, 22, 23])
    usage = one.usage("seeds")

    assert (usage.calls, usage.steps, usage.audio_seconds) == (5, 3 * STEPS, 3 * SECONDS)
    assert refusal(lambda: one.generate("seeds", seeds=[23, 24])).metadata["asked"] == str(STEPS)


def test_more_seeds_than_are_left_are_refused_together(one: Replica) -> None:
    one.generate("few", seeds=[31, 32])

    refused = refusal(lambda: one.generate("few", seeds=[33, 34]))

    assert (refused.reason, one.usage("few").calls) == ("QUOTA_SPENT", 2)


def test_each_try_counts_and_those_that_were_not_needed_do_not(model_files: ModelFiles, tmp_path: Path) -> None:
    quotas = {"caller_quotas": ("*=calls:8",)}  # callers without names are one here
    with listening(model_files, tmp_path, **quotas) as (served, analysis):
        analysis.begin(lambda call: heard(90 if call == 3 else 120))
        served.stub.Generate(request(music=pb.MusicFields(tempo_bpm=90), best_of=8))
        usage = served.stub.GetUsage(pb.GetUsageRequest()).usage

        assert (usage.calls, usage.steps, usage.audio_seconds) == (3, 3 * STEPS, 3 * SECONDS)
        assert refusal(lambda: served.stub.Generate(request(seeds=range(6)))).reason == "QUOTA_SPENT"


def test_what_a_caller_gives_up_costs_the_steps_that_were_made(one: Replica) -> None:
    asked = pb.StreamGenerateRequest(request=request(steps=1000))
    call = one.stub.StreamGenerate(asked, metadata=token_of("leaver"), timeout=60)
    next(event for event in call if event.progress.step >= 3)
    reserved = one.usage("leaver").steps
    call.cancel()  # type: ignore[no-untyped-call]
    soon(lambda: one.usage("leaver").steps < 1000)
    usage = one.usage("leaver")

    assert reserved == 1000
    assert 3 <= usage.steps < 900
    assert (usage.calls, usage.audio_seconds) == (1, 0)


def test_what_is_refused_for_another_reason_costs_nothing(one: Replica) -> None:
    refusal(lambda: one.generate("careless", steps=0))
    refusal(lambda: one.generate("careless", model="nobody"))

    assert one.usage("careless").calls == 0


def test_callers_see_their_own_use_and_operators_everyones(one: Replica) -> None:
    one.generate("radio", seed=41)
    own = one.usage("radio")
    listed = one.stub.ListUsage(pb.ListUsageRequest(), metadata=token_of("chief")).callers
    refused = refusal(lambda: one.stub.ListUsage(pb.ListUsageRequest(), metadata=token_of("shop")))

    assert (own.caller, own.calls, own.max_steps, own.HasField("max_calls")) == ("radio", 1, 100, False)
    assert {each.caller for each in listed} == {"radio", *QUOTAS}
    assert own in listed
    assert refused.reason == "CALLER_NOT_PERMITTED"


def asked_by_http(one: Replica, caller: str) -> httpx.Response:
    return httpx.post(
        f"{one.http}/v1/audio/generate",
        json={"input": "calm", "audio_length": 1, "num_inference_steps": 1},
        headers={"Authorization": f"Bearer {caller}-token"},
    )


def test_http_answers_429_and_when_to_come_back(one: Replica) -> None:
    one.generate("once", seed=51)

    answer = asked_by_http(one, "once")

    assert (answer.status_code, answer.json()["error"]["reason"]) == (429, "QUOTA_SPENT")
    assert 0 < int(answer.headers["Retry-After"]) <= DAY_S


def test_http_has_no_hint_where_waiting_does_not_help(one: Replica) -> None:
    answer = asked_by_http(one, "nothing")

    assert (answer.status_code, answer.json()["error"]["reason"]) == (429, "QUOTA_TOO_SMALL")
    assert "Retry-After" not in answer.headers


def test_without_quotas_nobodys_use_is_counted(served: Served) -> None:
    assert refusal(lambda: served.stub.GetUsage(pb.GetUsageRequest())).reason == "QUOTAS_OFF"


def test_quotas_need_callers_with_names() -> None:
    with pytest.raises(SettingsError, match="LUTHIER_CALLER_QUOTAS needs LUTHIER_CALLERS"):
        load(InferenceSettings, {"DEVICE": "cpu", "LUTHIER_CALLER_QUOTAS": "shop=calls:1"})

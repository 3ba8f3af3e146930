"""Where services are found, how long they are waited for, and which errors end a whole run."""

import json
import threading
import time
from pathlib import Path

import pytest

from luthier.rendering.v1.rendering_pb2 import ListInstrumentsRequest
from luthier_kit.rpc import (
    Cancelled,
    DataLoss,
    InvalidRequest,
    LuthierError,
    PermissionDenied,
    QuotaExceeded,
    Unavailable,
)
from luthier_kit.store import StoreSettings, open_store
from luthier_pipeline.clients import Clients, IdleBudget, is_fatal
from luthier_pipeline.console import UsageError
from tests.pipeline.fakes import luthier


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (Unavailable("the store is down", reason="STORE_UNAVAILABLE"), True),
        (PermissionDenied("no"), True),
        (InvalidRequest("not MIDI", reason="MIDI_NOT_MIDI"), False),
        (DataLoss("corrupt"), False),
        (QuotaExceeded("this song takes every worker with it", reason="CALL_LOST"), False),
    ],
)
def test_only_what_no_song_can_survive_ends_the_run(error: LuthierError, ends: bool) -> None:
    assert is_fatal(error) is ends


def test_the_environment_comes_before_what_make_up_wrote_and_that_before_the_usual_port(tmp_path: Path) -> None:
    (tmp_path / "services.json").write_text(json.dumps({"analysis": {"address": "127.0.0.1:9902"}}))
    environ = {"LUTHIER_HOME": str(tmp_path), "LUTHIER_RENDERING_ADDRESS": "renderer:1"}
    clients = Clients(environ)
    assert [clients.address(name) for name in ("rendering", "analysis", "enrichment")] == [
        "renderer:1", "127.0.0.1:9902", "127.0.0.1:7103",
    ]  # fmt: skip


def test_the_store_is_the_environments_else_the_one_that_make_up_wrote(tmp_path: Path) -> None:
    written = {"LUTHIER_STORE": "folder", "LUTHIER_STORE_FOLDER": str(tmp_path / "written")}
    (tmp_path / "store.json").write_text(json.dumps(written))
    environ = {"LUTHIER_HOME": str(tmp_path)}
    assert Clients(environ).store_settings.store_folder == tmp_path / "written"
    named = {"LUTHIER_STORE": "folder", "LUTHIER_STORE_FOLDER": str(tmp_path / "named")}
    assert Clients(environ | named).store_settings.store_folder == tmp_path / "named"


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        (b"{", "not JSON"),
        (b"[1]", "must be an object"),
        (b"[" * 100_000, "at most 64 deep"),
        (b" " * (2 << 20), "at most 1048576 bytes"),
    ],
    ids=["cut", "no object", "deep", "large"],
)
def test_a_broken_file_of_make_up_is_named(tmp_path: Path, written: bytes, fault: str) -> None:
    (tmp_path / "services.json").write_bytes(written)
    with pytest.raises(UsageError, match=fault) as caught:
        Clients({"LUTHIER_HOME": str(tmp_path)}).address("rendering")
    assert str(tmp_path / "services.json") in str(caught.value)


def test_the_retry_budget_is_that_of_the_clients() -> None:
    clients = Clients({"LUTHIER_HOME": "/nowhere", "LUTHIER_RENDERING_ADDRESS": "127.0.0.9:9"})
    began = time.monotonic()
    with pytest.raises(Unavailable):
        clients.with_retry_budget(0.2).rendering.ListInstruments(ListInstrumentsRequest())
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("address", ["127.0.0.9:9", "nobody.invalid:7101"])
def test_what_is_waited_for_is_said_at_once_and_once(address: str) -> None:
    said: list[str] = []
    environ = {"LUTHIER_HOME": "/nowhere", "LUTHIER_RENDERING_ADDRESS": address}
    clients = Clients(environ, retry_budget_s=3.0, say=said.append)
    caller = threading.Thread(target=lambda: pytest.raises(Unavailable, call, clients), daemon=True)
    began = time.monotonic()
    caller.start()
    while not said and time.monotonic() - began < 5:
        time.sleep(0.01)
    assert time.monotonic() - began < 2
    caller.join(timeout=20)
    [line] = said
    assert f"rendering does not answer at {address}; trying for 3 s" in line


def call(clients: Clients) -> None:
    clients.rendering.ListInstruments(ListInstrumentsRequest())


def guesses(environ: dict[str, str]) -> list[str]:
    """What is said when three services are asked, and the store is read, by clients of both kinds."""
    said: list[str] = []
    clients = Clients(environ, say=said.append)
    assert clients.store
    for asking in (clients, clients.with_retry_budget(1.0)):
        assert asking.rendering
        assert asking.analysis
    return said


def test_services_and_store_that_are_only_guessed_are_said_once_each(tmp_path: Path) -> None:
    home = {"LUTHIER_HOME": str(tmp_path)}
    store = tmp_path / "store"
    open_store(StoreSettings(store_folder=store))
    rendering, analysis = ({f"LUTHIER_{name}_ADDRESS": "there:1"} for name in ("RENDERING", "ANALYSIS"))
    of_store, of_services = guesses(home)
    assert f"names a store: using {store}" in of_store
    assert "LUTHIER_RENDERING_ADDRESS" in of_services
    assert "the usual ports" in of_services
    assert guesses(home | rendering | analysis) == [of_store]
    assert guesses(home | {"LUTHIER_STORE_FOLDER": str(store)}) == [of_services]
    [other] = guesses(home | rendering | {"LUTHIER_STORE_FOLDER": str(store)})
    assert "where analysis is" in other


def test_nothing_is_guessed_where_make_up_wrote_it_down(tmp_path: Path) -> None:
    open_store(StoreSettings(store_folder=tmp_path / "store"))
    written = {"LUTHIER_STORE": "folder", "LUTHIER_STORE_FOLDER": str(tmp_path / "store")}
    (tmp_path / "store.json").write_text(json.dumps(written))
    addresses = {name: {"address": "127.0.0.1:9"} for name in ("rendering", "analysis")}
    (tmp_path / "services.json").write_text(json.dumps(addresses))
    assert guesses({"LUTHIER_HOME": str(tmp_path)}) == []


def test_a_pool_that_is_left_by_an_error_does_not_wait_for_its_work() -> None:
    clients, hold = Clients({"LUTHIER_HOME": "/nowhere"}), threading.Event()
    began = time.monotonic()

    def left_by_ctrl_c() -> None:
        with clients.thread_pool(1, "test") as pool:
            pool.submit(hold.wait, 30)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        left_by_ctrl_c()
    assert time.monotonic() - began < 10
    hold.set()


def test_a_thread_that_makes_its_first_call_when_the_clients_are_closed_does_not_wait() -> None:
    clients = Clients({"LUTHIER_RENDERING_ADDRESS": "127.0.0.9:9"}, retry_budget_s=60, say=lambda _: None)
    clients.close()
    with pytest.raises(Cancelled) as ended:
        clients.rendering.ListInstruments(ListInstrumentsRequest())
    assert ended.value.reason == "CLIENT_CLOSED"


def test_an_idle_budget_begins_anew_with_each_answer() -> None:
    budget = IdleBudget(10.0)
    budget.left_s()
    time.sleep(0.05)
    before = budget.left_s()
    budget.answered()
    assert budget.left_s() > before
    assert IdleBudget(10.0, others=lambda: time.monotonic() + 5).left_s() > 14


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, ".luthier/store/luthier"),
        ({"LUTHIER_INFERENCE_ADDRESS": "there:1"}, ".luthier/store/luthier"),
        ({"LUTHIER_HOME": "elsewhere"}, "elsewhere/store/luthier"),
        ({"LUTHIER_STORE_FOLDER": "tpyo"}, "tpyo/luthier"),
        ({"LUTHIER_STORE": "folder", "LUTHIER_STORE_FOLDER": "there", "LUTHIER_BUCKET": "tpyo"}, "there/tpyo"),
    ],
)
def test_a_command_begins_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    open_store(StoreSettings(store_folder=tmp_path / "there"))
    before = sorted(tmp_path.rglob("*"))
    for line in ("gc --generated", "status", "generate jazz --out a.wav"):
        done = luthier(line, Clients(environ))
        assert (done.code, f"no store at {tmp_path / place}:" in done.err) == (2, True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_in_the_environment_comes_before_the_store_that_make_up_wrote(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"LUTHIER_STORE": "s3", "LUTHIER_S3_ENDPOINT": "there:9000"}))
    environ = {"LUTHIER_HOME": str(tmp_path), "LUTHIER_STORE_FOLDER": str(tmp_path / "mine")}
    assert Clients(environ).store_settings.store == "folder"

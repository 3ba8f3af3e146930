"""Where services are found, how long they are waited for, and which errors end a whole run."""

import json
import threading
import time
from pathlib import Path

import pytest

from luthier.rendering.v1.rendering_pb2 import ListInstrumentsRequest
from luthier_kit.rpc import DataLoss, InvalidRequest, LuthierError, PermissionDenied, QuotaExceeded, Unavailable
from luthier_pipeline.clients import Clients, IdleBudget, is_fatal
from luthier_pipeline.console import UsageError


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


def test_a_guess_at_services_and_store_says_so_and_what_is_named_is_none(tmp_path: Path) -> None:
    environ = {"LUTHIER_HOME": str(tmp_path), "LUTHIER_BUCKET": "b"}
    guess = Clients(environ).guess
    assert "no installation at" in guess
    assert str(Path(".luthier/store").absolute()) in guess
    assert Clients(environ | {"LUTHIER_RENDERING_ADDRESS": "renderer:1"}).guess == ""
    (tmp_path / "services.json").write_text("{}")
    assert Clients(environ).guess == ""


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


def test_an_idle_budget_begins_anew_with_each_answer() -> None:
    budget = IdleBudget(10.0)
    budget.left_s()
    time.sleep(0.05)
    before = budget.left_s()
    budget.answered()
    assert budget.left_s() > before
    assert IdleBudget(10.0, others=lambda: time.monotonic() + 5).left_s() > 14


def test_a_store_that_is_only_guessed_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no store at"):
        _ = Clients({"LUTHIER_HOME": str(tmp_path)}).store
    assert list(tmp_path.iterdir()) == []

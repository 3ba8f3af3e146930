"""Takedowns that are cut off: what is recorded of them, who says so, and how they are finished."""

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from luthier.curation.v1 import curation_pb2 as pb
from luthier.curation.v1.curation_pb2_grpc import CurationServiceServicer, add_CurationServiceServicer_to_server
from luthier.pipeline.v1.pipeline_pb2 import (
    TAKEDOWN_KIND_ARTIST,
    TAKEDOWN_STATE_DONE,
    TAKEDOWN_STATE_STARTED,
    TakedownRecord,
)
from luthier_kit.rpc import NotFound, Unavailable
from luthier_kit.store import Store
from luthier_pipeline.monitor import Monitor, MonitorSettings
from luthier_pipeline.retention import takedown
from luthier_pipeline.retention.records import command_that_finishes, takedowns
from luthier_pipeline.retention.signing import SignatureState, load_signer, state_of
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier
from tests.pipeline.filled_store import FilledStore
from tests.pipeline.retention.test_records import key
from tests.support.services import temp_store

__all__ = ["key"]
LINE = "takedown 'Artist/Song 1.mid' --reason 'the composer asked' --as ann --yes"


class Curation(CurationServiceServicer):
    """Knows no clip."""

    def ListClips(self, request: pb.ListClipsRequest, context: grpc.ServicerContext) -> pb.ListClipsResponse:
        return pb.ListClipsResponse()


@pytest.fixture
def curation() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    add_CurationServiceServicer_to_server(Curation(), server)  # type: ignore[abstract]  # no other method is called
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def run(store: Store, line: str, **environ: str) -> Done:
    clients = FakeClients(store, curation=Stub(ListClips=pb.ListClipsResponse(), ReviewClips=pb.ReviewClipsResponse()))
    clients.environ = {**clients.environ, **environ}
    return luthier(line, clients)


def away(*_: object, **__: object) -> None:
    raise Unavailable("curation is away")


def unfinished_by_the_monitor(store: Store) -> list[float]:
    monitor = Monitor(lambda: store, MonitorSettings())
    monitor.read()
    families = {family.name: family for family in monitor.collect()}
    return [sample.value for sample in families["luthier_takedowns_unfinished"].samples]


def after(there: Callable[[], object], process: "subprocess.Popen[bytes]") -> None:
    """Returns when something is there, which the process makes."""
    while not there():
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)


@pytest.mark.parametrize("made", ["takedowns/1.json", "tombstones/sets/1.json"])
def test_a_process_that_is_killed_leaves_a_signed_record_and_the_same_command_finishes_it(
    store: Store, tmp_path: Path, key: Path, curation: str, made: str
) -> None:
    filled = FilledStore(store)
    environ = {
        "LUTHIER_STORE_FOLDER": str(tmp_path / "store"), "LUTHIER_CURATION_ADDRESS": curation, "LUTHIER_CACHE": "off",
        "LUTHIER_HOME": str(tmp_path), "LUTHIER_SIGNING_KEY_FILE": str(key), "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    command = [sys.executable, "-m", "luthier_pipeline", *shlex.split(LINE)]
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as process:
        after(lambda: made in list(store.objects.keys(f"{made.split('/')[0]}/")), process)
        process.kill()
    with temp_store(tmp_path / "store") as elsewhere:
        listed = run(elsewhere, "takedowns --json").document
        told = run(elsewhere, "takedowns").out
        [(_, started)] = takedowns(elsewhere).entries()
        assert (started.state, state_of(started)) == (TAKEDOWN_STATE_STARTED, SignatureState.HOLDS)
        assert [entry["record"] for entry in listed["unfinished"]] == [1]
        assert "NOT FINISHED" in told
        assert unfinished_by_the_monitor(elsewhere) == [1]

    with temp_store(tmp_path / "store") as again:
        finish = f"{listed['unfinished'][0]['finish'].removeprefix('luthier ')} --yes --json"
        assert run(again, finish, LUTHIER_SIGNING_KEY_FILE=str(key)).code == 0
        records = takedowns(again).entries()
        done = [record for _, record in records if record.state == TAKEDOWN_STATE_DONE]
        assert (len(records), len(done)) == (2, 1)
        assert (list(done[0].completes), list(done[0].sets)) == ([1], [1])
        assert (done[0].files, done[0].taken_down_by, done[0].reason) == (3, "ann", "the composer asked")
        assert state_of(done[0]) is SignatureState.HOLDS
        assert run(again, "takedowns --json").document["unfinished"] == []
        assert unfinished_by_the_monitor(again) == [0]
        for gone in (filled.midi[1], filled.mixes[1], filled.clips[1]):
            with pytest.raises(NotFound, match="taken down"):
                again.blobs.read(gone)


@pytest.mark.parametrize("broken", ["_reject", "take_down"])
def test_a_takedown_that_fails_on_its_way_is_finished_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    FilledStore(store)

    with monkeypatch.context() as patched:
        patched.setattr(takedown, broken, away)
        assert run(store, LINE).code == 1
        assert run(store, LINE).code == 1
    assert [record.state for _, record in takedowns(store).entries()] == [TAKEDOWN_STATE_STARTED]

    assert run(store, LINE).code == 0
    assert run(store, LINE).code == 0, "what is done may be asked for again"

    states = [record.state for _, record in takedowns(store).entries()]
    assert states == [TAKEDOWN_STATE_STARTED, TAKEDOWN_STATE_DONE] * 2


def test_it_is_finished_after_the_bytes_were_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = FilledStore(store)
    with monkeypatch.context() as patched:
        patched.setattr(takedown, "_reject", away)
        assert run(store, LINE).code == 1
    assert run(store, "gc --json").document["went"]["taken down"]

    [finish] = [entry["finish"] for entry in run(store, "takedowns --json").document["unfinished"]]
    assert run(store, f"{finish.removeprefix('luthier ')} --yes").code == 0

    [_, (_, done)] = takedowns(store).entries()
    assert (done.files, done.file_sha256, list(done.sets)) == (3, filled.midi[1].sha256, [1])


def test_another_takedown_does_not_finish_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    FilledStore(store)
    with monkeypatch.context() as patched:
        patched.setattr(takedown, "_reject", away)
        run(store, LINE)

    assert run(store, LINE.replace("Song 1", "Song 0")).code == 0

    assert [entry["record"] for entry in run(store, "takedowns --json").document["unfinished"]] == [1]


def test_status_names_it_with_the_command(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = FilledStore(store)
    with monkeypatch.context() as patched:
        patched.setattr(takedown, "_reject", away)
        run(store, LINE)

    told = luthier("status", FakeClients(store)).out

    assert "a takedown was begun and is not finished (record takedowns/1.json)" in told
    assert f"luthier takedown {filled.midi[1].sha256} --reason 'the composer asked' --as ann" in told


def test_the_command_of_another_kind_is_one_that_a_shell_reads() -> None:
    record = TakedownRecord(
        kind=TAKEDOWN_KIND_ARTIST, name='Ann\'s "Trio"', reason="claim 7; rm -rf", taken_down_by="ann"
    )

    words = shlex.split(command_that_finishes(record))

    assert words == [
        "luthier", "takedown", "--artist", "Ann's \"Trio\"", "--reason", "claim 7; rm -rf", "--as", "ann"
    ]  # fmt: skip


def test_a_record_of_before_is_done_and_its_signature_holds(store: Store, key: Path) -> None:
    signer = load_signer({"LUTHIER_SIGNING_KEY_FILE": str(key)})
    assert signer
    before = TakedownRecord(kind=TAKEDOWN_KIND_ARTIST, name="Ann", taken_down_by="ann", reason="claim 1", files=3)
    signer.sign(before)
    takedowns(store).append(before)

    listed = run(store, "takedowns --json").document

    assert ([entry["signature_state"] for entry in listed["takedowns"]], listed["unfinished"]) == (["HOLDS"], [])


def test_a_corrupt_record_does_not_hide_what_waits_for_workers(store: Store) -> None:
    store.objects.create("takedowns/1.json", b"{}")
    monitor = Monitor(lambda: store, MonitorSettings())

    monitor.read()

    names = {family.name for family in monitor.collect()}
    assert "luthier_pipeline_work_waiting" in names
    assert "luthier_takedowns_unfinished" not in names
